"""Keeps an export from replacing a bundle that a running stack serves."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.export.refusal import ExportRefused

LOCK_NAME = ".lock"
STAGING_NAME = ".staging"


@contextmanager
def exclusive(repository: Path) -> Iterator[None]:
    """Hold a repository for writing, and clear what an interrupted export left there.

    Raises:
        ExportRefused: a stack serves it, another export writes it, or it cannot be written.
    """
    try:
        repository.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(repository / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise ExportRefused(
            f"{repository} cannot be written ({error.strerror}): give another MODEL_REPOSITORY"
        ) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ExportRefused(
                f"{repository} is in use by a running stack or another export: stop that first, or give another "
                "MODEL_REPOSITORY"
            ) from None
        clear_staging(repository)
        try:
            yield
        finally:
            clear_staging(repository)
    finally:
        os.close(descriptor)


def hold_for_serving(repository: Path) -> int | None:
    """Hold a repository for reading, beside other readers, until the returned descriptor is closed.

    A repository that is mounted read-only needs no lock: None.

    Raises:
        BlockingIOError: an export writes it.
    """
    try:
        descriptor = os.open(repository / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise
    clear_staging(repository)
    return descriptor


def clear_staging(repository: Path) -> None:
    """Remove the staging folder of an export that was interrupted."""
    shutil.rmtree(repository / STAGING_NAME, ignore_errors=True)
