"""A control group whose memory is bounded, as a container's is; of either version, where this user may make one."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path("/sys/fs/cgroup")
REMOVED_WITHIN_S = 20.0


@dataclass(frozen=True)
class MemoryGroup:
    """One group."""

    folder: Path

    def enter(self) -> None:
        """Put this process, and whatever it starts, into it."""
        (self.folder / "cgroup.procs").write_text(str(os.getpid()))


@contextmanager
def memory_group(most_bytes: int) -> Iterator[MemoryGroup]:
    """Make one, and remove it once its processes have ended; skips where that is not allowed."""
    version_1 = (ROOT / "memory" / "memory.limit_in_bytes").exists()
    folder = (ROOT / "memory" if version_1 else ROOT) / f"clip-test-{os.getpid()}"
    try:
        if not version_1:
            (ROOT / "cgroup.subtree_control").write_text("+memory")
        folder.mkdir()
        (folder / ("memory.limit_in_bytes" if version_1 else "memory.max")).write_text(str(most_bytes))
    except OSError as error:
        with contextlib.suppress(OSError):
            folder.rmdir()
        pytest.skip(f"no control group for memory can be made here: {error.strerror}")
    try:
        yield MemoryGroup(folder)
    finally:
        end = time.monotonic() + REMOVED_WITHIN_S
        while folder.exists() and time.monotonic() < end:
            with contextlib.suppress(OSError):
                folder.rmdir()
            time.sleep(0.1)
