"""A stage for decoding processes that does what a hostile picture might make it do, as the job's seed says."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import mmap
import os
import resource
import signal
import socket
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np

from gateway.decoding.pdq import PerceptualHasher
from gateway.decoding.preprocess import Job, PreprocessedImage, prepare
from gateway.errors import ImageCorrupt
from gateway.observability.stage_timer import StageTimer

LATE = ("wave", "__hello__")
"""Modules that nothing has loaded: one of a file, and one inside the interpreter."""


class Does(IntEnum):
    """What a job's seed orders."""

    NOTHING_BAD = 0
    ABORT = 1
    NULL = 2
    KILL = 3
    EXIT = 4
    HANG = 5
    BUG = 6
    GREEDY = 7
    LOOK = 8
    LIE = 9
    LONG = 10
    IMPORT = 11
    SHOUT = 12
    MUTTER = 13
    CONNECT = 14
    EXECUTE = 15
    OPEN = 16
    FORK = 17
    WRITE_CODE = 18
    LIMIT_OTHERS = 19
    WARN = 20


FORBIDDEN: Mapping[Does, Callable[[], object]] = {
    Does.CONNECT: socket.socket,
    Does.EXECUTE: lambda: os.execv("/bin/true", ["true"]),  # noqa: S606 - never runs
    Does.OPEN: lambda: os.open("/etc/hostname", os.O_RDONLY),
    Does.FORK: os.fork,
    Does.WRITE_CODE: lambda: mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_WRITE | mmap.PROT_EXEC),
    Does.LIMIT_OTHERS: lambda: resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1, 1)),
}
"""System calls that are not on the list, or not with these arguments."""

DEADLY: Mapping[Does, Callable[[], object]] = {
    Does.ABORT: os.abort,
    Does.NULL: lambda: ctypes.string_at(0),
    Does.KILL: lambda: signal.raise_signal(signal.SIGKILL),
    Does.EXIT: lambda: os._exit(0),
    **FORBIDDEN,
}


def break_or_prepare(job: Job, timer: StageTimer, fingerprint: PerceptualHasher | None) -> PreprocessedImage:
    """Break, or do what ``prepare`` does."""
    if call := DEADLY.get(Does(job.seed)):
        call()
    match job.seed:
        case Does.HANG:
            while True:
                pass
        case Does.BUG:
            raise ZeroDivisionError("a bug of ours")
        case Does.SHOUT | Does.MUTTER:
            speak(later=job.seed == Does.MUTTER)
        case Does.GREEDY:
            np.ones(1 << 30, np.uint8)
        case Does.LOOK:
            raise ImageCorrupt(" ".join(what_is_possible()))
        case Does.WARN:
            warnings.warn("as libraries do of damaged files", stacklevel=1)
        case Does.IMPORT:
            for name in LATE:
                with contextlib.suppress(ImportError):
                    importlib.import_module(name)
    prepared = prepare(job, timer, fingerprint)
    match job.seed:
        case Does.LIE:
            return replace(prepared, info=replace(prepared.info, width=prepared.info.width + 1))
        case Does.LONG:
            return replace(prepared, pixels=np.zeros((64, 100, 100, 3), np.uint8))
    return prepared


def speak(*, later: bool) -> None:
    """Say to the gateway what it did not ask: an answer of no pixels now, or something behind the answer."""
    if not later:
        os.write(0, b"\0\0\0\2\0\0\0\0{}")
        return
    program: Any = sys.modules["__main__"]
    work = program.work

    def speak_first(*given: object) -> object:
        time.sleep(0.2)
        os.write(0, b"unasked")
        return work(*given)

    program.work = speak_first


def what_is_possible() -> list[str]:
    """Return what a process can do that it should not, word by word."""

    def fork() -> None:
        if os.fork() == 0:
            os._exit(0)

    def connect() -> None:
        socket.socket().close()

    def trace() -> None:
        attach = 16  # PTRACE_ATTACH
        if ctypes.CDLL(None).ptrace(attach, os.getppid(), 0, 0) != 0:
            raise PermissionError

    attempts: Mapping[str, Callable[[], object]] = {
        "reads": lambda: Path("/etc/hostname").read_bytes(),
        "lists": lambda: os.listdir("/"),  # noqa: PTH208 - a path that opens no file first
        "writes": lambda: Path("/tmp/written").touch(),  # noqa: S108
        "connects": connect,
        "pipes": os.pipe,
        "traces": trace,
        "raises-files": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)),
        "raises-memory": lambda: resource.setrlimit(resource.RLIMIT_AS, (-1, -1)),
    }
    if os.getuid() != 0:
        attempts = {**attempts, "forks": fork}
    possible = []
    for name, attempt in attempts.items():
        try:
            attempt()
        except (OSError, ValueError):
            continue
        possible.append(name)
    secrets = [name for name in os.environ if name in {"DATABASE_URL", "HOME", "GATEWAY_API_KEYS"}]
    return ["possible:", *possible, *secrets]
