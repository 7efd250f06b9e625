"""The filter of system calls as the kernel reads it: one for each architecture, whichever this machine has."""

from __future__ import annotations

import errno
import mmap
import struct

import pytest

from gateway.decoding.workers.seccomp import Architecture, architecture_of, filter_of

KILL, ALLOW, NO_SUCH_CALL = 0x80000000, 0x7FFF0000, 0x00050000 | errno.ENOSYS
I386, X32_BIT = 0x40000003, 0x40000000
OWN_PID = 4711
THREAD_OF_GLIBC, FORK_OF_GLIBC = 0x3D0F00, 0x1200011
CALLS = {
    "x86_64": {"read": 0, "openat": 257, "socket": 41, "execve": 59, "clone3": 435},
    "aarch64": {"read": 63, "openat": 56, "socket": 198, "execve": 221, "clone3": 435},
}


def outcome(steps: bytes, number: int, architecture: int, *arguments: int) -> int:
    """Run a program as the kernel does (Documentation/networking/filter.rst) on one call."""
    data = struct.pack("=IIQ6Q", number, architecture, 0, *arguments, *[0] * (6 - len(arguments)))
    program = list(struct.iter_unpack("=HBBI", steps))
    at = accumulator = 0
    while True:
        code, if_true, if_false, value = program[at]
        at += 1
        match code:
            case 0x20:
                (accumulator,) = struct.unpack_from("=I", data, value)
            case 0x15:
                at += if_true if accumulator == value else if_false
            case 0x45:
                at += if_true if accumulator & value else if_false
            case _:
                return int(value)


def numbers_of(machine: str) -> Architecture:
    found = architecture_of(machine)
    assert found is not None
    return found


@pytest.mark.parametrize("machine", CALLS)
def test_only_what_is_listed_is_let_through(machine: str) -> None:
    calls, numbers = CALLS[machine], numbers_of(machine)
    steps = filter_of(numbers, OWN_PID, threads=True)
    assert outcome(steps, calls["read"], numbers.audit) == ALLOW
    for name in ("openat", "socket", "execve"):
        assert outcome(steps, calls[name], numbers.audit) == KILL, name
    assert outcome(steps, calls["read"], I386) == KILL
    assert outcome(steps, calls["read"] | X32_BIT, numbers.audit) == KILL


@pytest.mark.parametrize("machine", CALLS)
def test_threads_but_no_processes_and_none_without_heic(machine: str) -> None:
    calls, numbers = CALLS[machine], numbers_of(machine)
    with_threads, without = (filter_of(numbers, OWN_PID, threads=threads) for threads in (True, False))
    assert outcome(with_threads, numbers.clone, numbers.audit, THREAD_OF_GLIBC) == ALLOW
    assert outcome(with_threads, numbers.clone, numbers.audit, FORK_OF_GLIBC) == KILL
    assert outcome(with_threads, calls["clone3"], numbers.audit) == NO_SUCH_CALL  # glibc takes clone instead
    assert outcome(without, numbers.clone, numbers.audit, THREAD_OF_GLIBC) == KILL
    assert outcome(without, calls["clone3"], numbers.audit) == KILL


@pytest.mark.parametrize("machine", CALLS)
def test_arguments_are_looked_at(machine: str) -> None:
    numbers = numbers_of(machine)
    steps = filter_of(numbers, OWN_PID, threads=False)
    data, code = mmap.PROT_READ | mmap.PROT_WRITE, mmap.PROT_READ | mmap.PROT_EXEC
    for number in (numbers.mmap, numbers.mprotect):
        assert outcome(steps, number, numbers.audit, 0, 4096, data) == ALLOW
        assert outcome(steps, number, numbers.audit, 0, 4096, code) == KILL
    assert outcome(steps, numbers.tgkill, numbers.audit, OWN_PID, OWN_PID, 6) == ALLOW
    assert outcome(steps, numbers.tgkill, numbers.audit, 1, 1, 6) == KILL
    assert outcome(steps, numbers.prlimit64, numbers.audit, 0) == ALLOW
    assert outcome(steps, numbers.prlimit64, numbers.audit, 1) == KILL
