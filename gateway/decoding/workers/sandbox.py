"""The sandbox of a decoding process: it may compute, and nearly nothing else.

Linux only, as the gateway is. What each step is worth:

* **No descriptor beyond its own socket**: with ``RLIMIT_NOFILE`` at what is open already, no file, socket or pipe can
  be opened, so there is no network and nothing to read or write.
* **Memory** (``RLIMIT_AS``), no core dump, no byte to a file, and, where the user is not root, no process
  and no thread (except with HEIC, whose library decodes in a thread of its own).
* **No capabilities and no new ones**: a gateway that runs as root does not make its decoders root.
* **Landlock**, where the kernel has it: no file by any other way, no tracing of and (Linux 6.12) no signal to processes
  outside; two decoders are outside of each other.
* **Ends with its parent**, and is the first to go when memory runs out.
* **A filter of system calls** (``seccomp.py``), where the kernel has it: little of the kernel can be reached at all.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
from enum import IntFlag
from pathlib import Path

from gateway.decoding.workers.seccomp import SystemCallFilter

KEPT_DESCRIPTORS = 3
"""0 is the socket, 1 and 2 lead nowhere."""

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38  # linux/prctl.h
_CAPABILITY_VERSION_3 = 0x20080522  # linux/capability.h
_LANDLOCK_CREATE_RULESET, _LANDLOCK_RESTRICT_SELF = 444, 446  # the same numbers on every architecture
_LANDLOCK_CREATE_RULESET_VERSION = 1
_PAGE_BYTES = resource.getpagesize()
_OOM_SCORE = b"1000"
"""The most that proc(5) knows of, which needs no privilege. A smaller one need not be above the gateway's own, which it
replaces: Kubernetes sets up to 999, by which 500 made decoders the last to go instead of the first."""


class Layers(IntFlag):
    """What of a sandbox not every kernel or container has."""

    NONE = 0
    LANDLOCK = 1
    SECCOMP = 2
    OOM_SCORE = 4


class Kernel:
    """The C library's way into the kernel; made before anything is closed."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None, use_errno=True)

    def drop_privileges(self) -> None:
        """Give up all capabilities, and the ways to get new ones."""
        self._library.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
        self._library.capset(header, (ctypes.c_uint32 * 6)())

    def die_with(self, parent: int) -> None:
        """Be killed when the parent ends."""
        self._library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it ended before we asked
            os._exit(1)

    def enter_landlock(self) -> bool:
        """Deny everything that Landlock knows of; return whether the kernel has it."""
        call = self._library.syscall
        version = call(_LANDLOCK_CREATE_RULESET, None, 0, _LANDLOCK_CREATE_RULESET_VERSION)
        if version < 1:
            return False
        # linux/landlock.h: rights to files (13 in the first version), TCP ports (4th), scopes (6th).
        files = (1 << 13) - 1 | (version >= 2) << 13 | (version >= 3) << 14 | (version >= 5) << 15  # noqa: PLR2004
        words = [files, *([3] if version >= 4 else []), *([3] if version >= 6 else [])]  # noqa: PLR2004
        rules = (ctypes.c_uint64 * len(words))(*words)
        descriptor = call(_LANDLOCK_CREATE_RULESET, rules, ctypes.sizeof(rules), 0)
        if descriptor < 0:
            return False
        refused = call(_LANDLOCK_RESTRICT_SELF, descriptor, 0)
        os.close(descriptor)
        return bool(refused == 0)


class Sandbox:
    """Confines processes that are forked from the one that makes it.

    Args:
        most_memory: bytes of address space that a process may grow by; decoding an image never needs as many.
        threads: it may start threads, and so processes.
    """

    def __init__(self, *, most_memory: int, threads: bool) -> None:
        self._kernel = Kernel()
        self._filter = SystemCallFilter(threads=threads)
        self._parent = os.getpid()
        self._memory = most_memory
        self._limits = {
            resource.RLIMIT_CORE: 0,
            resource.RLIMIT_FSIZE: 0,
            resource.RLIMIT_NOFILE: KEPT_DESCRIPTORS,
            **({} if threads else {resource.RLIMIT_NPROC: 0}),
        }

    def enter(self, connection: socket.socket) -> tuple[socket.socket, Layers]:
        """Confine this process for good.

        Args:
            connection: what it talks through; all other descriptors are closed.

        Returns:
            The connection as it is now, and what holds.
        """
        layers = Layers.OOM_SCORE if go_first() else Layers.NONE
        limits = {**self._limits, resource.RLIMIT_AS: address_space() + self._memory}
        os.dup2(connection.detach(), 0, inheritable=False)
        nowhere = os.open(os.devnull, os.O_RDWR)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        os.closerange(KEPT_DESCRIPTORS, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        self._kernel.drop_privileges()
        if self._kernel.enter_landlock():
            layers |= Layers.LANDLOCK
        for limit, value in limits.items():
            hard = resource.getrlimit(limit)[1]
            lower = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(limit, (lower, lower))
        self._kernel.die_with(self._parent)
        confined = socket.socket(fileno=0)
        if self._filter.enter():
            layers |= Layers.SECCOMP
        return confined, layers


def go_first() -> bool:
    """Be the first to be killed when memory runs out.

    Returns:
        Whether that could be set; where /proc is read-only it cannot.
    """
    try:
        Path("/proc/self/oom_score_adj").write_bytes(_OOM_SCORE)
    except OSError:
        return False
    return True


def address_space() -> int:
    """Return the bytes of this process' address space."""
    return int(Path("/proc/self/statm").read_bytes().split()[0]) * _PAGE_BYTES


def allow_memory(limit: int) -> None:
    """Let the address space grow to so many bytes, at most to what its confinement allows."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (min(limit, hard), hard))
