"""Python in a process of its own, for what may take much memory or time: bounded in both, without secrets.

Both sides: ``run_confined`` starts it and waits, ``confine`` is the first thing that it does.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.decoding.workers.sandbox import Kernel, address_space, go_first

_PASSED_ON: Final = ("LD_LIBRARY_PATH", "PYTHONHOME", "TZ")
_CODE: Final = Path(__file__).resolve().parents[2]
DRAINED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Sent to a whole group or container at a stop: the gateway drains before it ends, and this process ends with it."""

OUT_OF_MEMORY: Final = (
    *("memoryerror", "unable to allocate", "memory allocation", "std::bad_alloc"),
    *("cannot allocate memory", "failed to map segment"),
)
"""What Python, numpy, OpenBLAS, C++ and the loader of shared objects say where no memory is left."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended.

    Attributes:
        code: its exit code; below 0 the signal that ended it.
        output: what it wrote to standard output.
        errors: likewise, to standard error.
    """

    code: int
    output: bytes
    errors: bytes

    @property
    def said(self) -> str:
        """Its errors as text."""
        return self.errors.decode(errors="replace")

    @property
    def is_out_of_bounds(self) -> bool:
        """Whether it needed more memory or time of the processor than it may."""
        return self.code < 0 or any(word in self.said.lower() for word in OUT_OF_MEMORY)


async def run_confined(
    module: str,
    arguments: Sequence[str],
    *,
    memory_bytes: int,
    timeout_s: float,
    data: bytes = b"",
    environment: Mapping[str, str] | None = None,
) -> Ended:
    """Run a module whose arguments begin with those of ``confine``; whoever is cancelled here ends it.

    Args:
        module: its name.
        arguments: further ones.
        memory_bytes: that it may take beyond what Python itself takes.
        timeout_s: by the clock and of the processor.
        data: for its standard input.
        environment: of it, beside what libraries need to be found.

    Raises:
        TimeoutError: it took longer, and was ended.
    """
    passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    passed_on |= {"PYTHONPATH": str(_CODE), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    limits = [str(os.getpid()), str(memory_bytes), str(round(timeout_s) + 1)]
    # -P: nothing is imported from the working directory.
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-B", "-P", "-m", module, *limits, *arguments],
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=passed_on | dict(environment or {}),
        start_new_session=True,  # a terminal that closes must not end it before the gateway has drained
    )
    try:
        async with asyncio.timeout(timeout_s):
            output, errors = await process.communicate(data)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return Ended(process.returncode or 0, output, errors)


def confine(parent: str, memory_bytes: str, cpu_s: str, *, file_bytes: int = 0, nice: int = 0) -> None:
    """Give up privileges and set limits; the process ends with its parent, and first where memory runs out.

    Args:
        parent: process id.
        memory_bytes: as of ``run_confined``; both as the arguments have them.
        cpu_s: seconds of the processor.
        file_bytes: of any file that it writes.
        nice: by how much it gives way to other processes.
    """
    for number in DRAINED:
        signal.signal(number, signal.SIG_IGN)
    kernel = Kernel()
    go_first()
    kernel.drop_privileges()
    kernel.die_with(int(parent))
    os.nice(nice)
    limits = {
        resource.RLIMIT_AS: address_space() + int(memory_bytes),
        resource.RLIMIT_CPU: int(cpu_s),
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: file_bytes,
    }
    for limit, value in limits.items():
        resource.setrlimit(limit, (value, value))
