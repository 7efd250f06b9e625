"""A folder of bundles, each in a folder of its own that is named by what it holds and never written again.

Whatever serves one of them is not touched by an export: another model, precision or machine is another folder beside
it, and so is the way back. Imports no torch.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path

from gateway.inference.bundle import BundleError, Manifest, read_manifest
from scripts.export.lock import LOCK_NAME, exclusive
from scripts.export.order import Order
from scripts.export.refusal import ExportRefused
from scripts.export.source import fetch

NEW = ".new"
FIRST = "first"
ID_DIGITS = 12


def add(folder: Path, order: Order, export: Callable[[Path, Order], None]) -> str:
    """Put the bundle of an order into a folder of bundles, unless it is there, and return its folder's name.

    The first bundle ever is also linked as ``first``.

    Args:
        folder: of bundles.
        order: what.
        export: writes the bundle of an order into a model repository.

    Raises:
        ExportRefused: it cannot be done, with the reason; the bundles that are there are as they were.
    """
    with exclusive(folder):
        fetch(order.source)  # after this a hub model has a commit, by which its bundle is found
        name = next((name for name in names(folder) if order.is_in(folder / name)), None)
        if name is None:
            shutil.rmtree(folder / NEW, ignore_errors=True)  # of an export that was interrupted
            export(folder / NEW, order)
            name = _free(folder, name_of(read_manifest(folder / NEW)))
            (folder / NEW).rename(folder / name)
        if not (folder / FIRST).is_symlink():
            (folder / FIRST).symlink_to(name)
    return name


def name_of(manifest: Manifest) -> str:
    """Return what the folder of a bundle is called: its model, precision and the beginning of its id.

    What is not the usual one comes after: another target than the wheel's server, another format than TorchScript.
    """
    model = re.sub(r"[^a-z0-9]+", "-", manifest.model.id.lower()).strip("-")
    unusual = [word for word in (manifest.target, manifest.format_name) if word not in {"wheel", "torchscript"}]
    return "-".join([model, manifest.precision, manifest.bundle_id[:ID_DIGITS], *unusual])


def names(folder: Path) -> list[str]:
    """Return the names of the bundles in a folder, the newest first."""
    found: dict[str, int] = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        if not path.is_symlink() and not path.name.startswith("."):
            with contextlib.suppress(BundleError):
                read_manifest(path)
                found[path.name] = path.stat().st_mtime_ns
    return sorted(found, key=lambda name: -found[name])


def remove(folder: Path, name: str) -> None:
    """Remove a bundle that nobody serves.

    Raises:
        ExportRefused: there is no such bundle, or it is being served, or it cannot be removed.
    """
    known = names(folder)
    if name not in known:
        raise ExportRefused(f"{folder} has no bundle {name}: it has {', '.join(known) or 'none'}")
    lock = os.open(folder / name / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        (folder / name).rename(folder / f".{name}")  # from here on it is no bundle, even if this is interrupted
        shutil.rmtree(folder / f".{name}")
        first = folder / FIRST
        if first.is_symlink() and not first.exists():
            first.unlink()
    except BlockingIOError:
        raise ExportRefused(f"{name} is being served: stop what serves it first") from None
    except OSError as error:
        raise ExportRefused(f"{name} cannot be removed ({error.strerror})") from None
    finally:
        os.close(lock)


def _free(folder: Path, name: str) -> str:
    """Return the name, or with a number where a bundle made in another way has it."""
    candidates = (name if number == 1 else f"{name}-{number}" for number in count(1))
    return next(candidate for candidate in candidates if not (folder / candidate).exists())
