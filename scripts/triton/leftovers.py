"""Finds and clears what a dead Triton leaves behind: its Python stubs and its shared memory.

Everything a stack starts carries the stack's own prefix: the server in its arguments, each stub in the name of its
shared-memory region. So what belongs to which stack is read from the running system, and no list on disk can be wrong.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import time
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory is, not a temporary file
PROGRAMS = ("tritonserver", "triton_python_backend_stub")


def stack_prefix(data_dir: Path) -> str:
    """Return the prefix of the stack whose data are in ``data_dir``."""
    return f"clip-{hashlib.sha256(str(data_dir.resolve()).encode()).hexdigest()[:12]}-"


def processes(prefix: str) -> list[int]:
    """Return the ids of Triton processes that carry ``prefix``."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            words = (folder / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue  # ended meanwhile
        if prefix in words and any(program in words for program in PROGRAMS):
            found.append(int(folder.name))
    return found


def alive(process: int) -> bool:
    """Tell whether a process runs: one that has ended has no command line, even before its parent takes note."""
    try:
        return bool(Path(f"/proc/{process}/cmdline").read_bytes())
    except OSError:
        return False


def regions(prefix: str) -> list[Path]:
    """Return the shared-memory regions that carry ``prefix``."""
    return sorted(SHARED_MEMORY.glob(f"{prefix}*"))


def clear(prefix: str, *, timeout_s: float = 5.0) -> tuple[int, int]:
    """Kill the processes and remove the regions of a stack that is not running any more.

    Returns:
        How many processes and how many regions there were.
    """
    killed: set[int] = set()
    deadline = time.monotonic() + timeout_s
    while (left := processes(prefix)) and time.monotonic() < deadline:
        for process in left:
            try:
                os.kill(process, signal.SIGKILL)
                killed.add(process)
            except ProcessLookupError:
                continue
        time.sleep(0.02)
    removed = regions(prefix)
    for region in removed:
        region.unlink(missing_ok=True)
    return len(killed), len(removed)


def kill(server: subprocess.Popen[bytes], prefix: str) -> None:
    """End a server that leads its group as the kernel would for want of memory, with all it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()
    clear(prefix)
