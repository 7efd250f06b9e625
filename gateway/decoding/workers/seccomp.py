"""A filter of system calls (seccomp(2)): a decoder that makes any other than those listed here is killed at once.

What is listed is what decoders were seen to do, with all formats and damaged files (``strace -f``), and what malloc,
the threads of glibc and Python's own handling of errors may do besides: compute, ask for memory, look at the clock,
talk through the socket that they have. Nothing here opens a file, connects, starts a program, or touches another
process.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import platform
import struct
from dataclasses import dataclass
from typing import Final

_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2  # linux/prctl.h, linux/seccomp.h
_KILL_PROCESS, _ERRNO, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000  # SECCOMP_RET_ of linux/seccomp.h
_GET_ACTION_AVAIL: Final = 2
_LOAD, _EQUAL, _ANY_BIT, _RETURN = (
    0x20,
    0x15,
    0x45,
    0x06,
)  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, JSET, BPF_RET: linux/bpf_common.h
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16  # offsets in struct seccomp_data
_CLONE_THREAD: Final = 0x10000  # linux/sched.h
_INSTRUCTION: Final = struct.Struct("=HBBI")  # struct sock_filter


@dataclass(frozen=True, slots=True)
class Architecture:
    """The numbers of one processor architecture.

    Attributes:
        audit: its AUDIT_ARCH of linux/audit.h; calls of another one (32 bits) have other numbers and are not let in.
        seccomp: number of the call that asks for filters.
        allowed: calls that are harmless whatever their arguments.
        mmap, mprotect, tgkill, prlimit64, clone: calls whose arguments are looked at.
    """

    audit: int
    seccomp: int
    allowed: tuple[int, ...]
    mmap: int
    mprotect: int
    tgkill: int
    prlimit64: int
    clone: int


_CLONE3: Final = 435  # the same everywhere


def architecture_of(machine: str) -> Architecture | None:
    """Return the numbers of what uname(1) calls a machine; None where they are not known here."""
    # In this order: read write writev close recvfrom recvmsg sendto sendmsg; munmap brk mremap madvise; futex
    # sched_yield sched_getaffinity set_robust_list rseq gettid getpid; rt_sigaction rt_sigprocmask rt_sigreturn
    # restart_syscall; clock_gettime clock_nanosleep gettimeofday getrandom sysinfo getrusage; exit exit_group.
    match machine:
        case "x86_64":
            allowed = (
                *(0, 1, 20, 3, 45, 47, 44, 46),
                *(11, 12, 25, 28),
                *(202, 24, 204, 273, 334, 186, 39),
                *(13, 14, 15, 219),
                *(228, 230, 96, 318, 99, 98),
                *(60, 231),
            )
            return Architecture(0xC000003E, 317, allowed, mmap=9, mprotect=10, tgkill=234, prlimit64=302, clone=56)
        case "aarch64":
            allowed = (
                *(63, 64, 66, 57, 207, 212, 206, 211),
                *(215, 214, 216, 233),
                *(98, 124, 123, 99, 293, 178, 172),
                *(134, 135, 139, 128),
                *(113, 115, 169, 278, 179, 165),
                *(93, 94),
            )
            return Architecture(0xC00000B7, 277, allowed, mmap=222, mprotect=226, tgkill=131, prlimit64=261, clone=220)
    return None


def filter_of(architecture: Architecture, pid: int, *, threads: bool) -> bytes:
    """Return the program of a filter (struct sock_filter[]) for one process.

    Args:
        architecture: of the machine.
        pid: the process.
        threads: whether it may start threads. Processes it may not.
    """
    no_code = (_ANY_BIT, mmap.PROT_EXEC, False)
    conditions = [
        (architecture.mmap, 2, no_code),
        (architecture.mprotect, 2, no_code),
        (architecture.prlimit64, 0, (_EQUAL, 0, True)),  # its own limits
        (architecture.tgkill, 0, (_EQUAL, pid, True)),  # abort(3)
    ]
    refused = {}
    if threads:
        conditions.append((architecture.clone, 0, (_ANY_BIT, _CLONE_THREAD, True)))
        # Its flags lie in memory, where no filter sees them; glibc does without it, with clone.
        refused = {_CLONE3: errno.ENOSYS}
    program = [(_LOAD, 0, 0, _ARCHITECTURE_AT), (_EQUAL, 1, 0, architecture.audit), (_RETURN, 0, 0, _KILL_PROCESS)]
    # Numbers of x32, the other way to call an x86_64 kernel, have a bit that no listed one has.
    program.append((_LOAD, 0, 0, _NUMBER_AT))
    for number in architecture.allowed:
        program += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    for number, code in refused.items():
        program += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ERRNO | code)]
    for number, argument, (test, value, wanted) in conditions:
        program += [
            (_EQUAL, 0, 4, number),
            (_LOAD, 0, 0, _ARGUMENTS_AT + 8 * argument),  # its lower half; both architectures are little-endian
            (test, int(not wanted), int(wanted), value),
            (_RETURN, 0, 0, _ALLOW),
            (_RETURN, 0, 0, _KILL_PROCESS),
        ]
    program.append((_RETURN, 0, 0, _KILL_PROCESS))
    return b"".join(_INSTRUCTION.pack(*step) for step in program)


class SystemCallFilter:
    """Filters that this kernel takes; make it before anything is closed.

    Args:
        threads: as for ``filter_of``.
    """

    def __init__(self, *, threads: bool) -> None:
        self._library = ctypes.CDLL(None, use_errno=True)
        self._threads = threads
        architecture = architecture_of(platform.machine())
        action = ctypes.c_uint32(_KILL_PROCESS)
        known = architecture and self._library.syscall(architecture.seccomp, _GET_ACTION_AVAIL, 0, ctypes.byref(action))
        self._architecture = architecture if known == 0 else None

    def enter(self) -> bool:
        """Filter the calls of this process, which can gain no privileges and has one thread, from now on.

        Returns:
            Whether it is filtered; else the kernel has no such filters, or not for this architecture.
        """
        if self._architecture is None:
            return False
        steps = filter_of(self._architecture, os.getpid(), threads=self._threads)
        held = ctypes.create_string_buffer(steps, len(steps))
        # struct sock_fprog: a count, and at the next pointer's place where the steps are
        program = struct.pack("@HP", len(steps) // _INSTRUCTION.size, ctypes.addressof(held))
        return bool(self._library.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, program, 0, 0) == 0)
