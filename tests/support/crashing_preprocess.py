"""A stage for decoding processes that does what a hostile picture might make it do, as the job's seed says."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import resource
import signal
import socket
from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import IntEnum
from pathlib import Path

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


def break_or_prepare(job: Job, timer: StageTimer, fingerprint: PerceptualHasher | None) -> PreprocessedImage:
    """Break, or do what ``prepare`` does."""
    match job.seed:
        case Does.ABORT:
            os.abort()
        case Does.NULL:
            ctypes.string_at(0)
        case Does.KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        case Does.EXIT:
            os._exit(0)
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
    signal.signal(signal.SIGALRM, lambda *_: os.write(0, b"unasked"))
    signal.setitimer(signal.ITIMER_REAL, 0.2)


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
