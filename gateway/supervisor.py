"""Several server processes on one port: started, started again when they die, and ended together.

They are forked, so that they share the memory of all that is imported, and are killed when the supervisor ends, however
it does. Their connections come from ``reception.py``.
"""

from __future__ import annotations

import contextlib
import gc
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Final, NoReturn

import structlog

from gateway.confinement import Kernel
from gateway.member import Member
from gateway.reception import Line, Reception
from gateway.traces import trace

MARGIN_S: Final = 10.0  # behind the time for draining: then a process is killed
STEADY_S: Final = 10.0  # a process that lived so long may be started again at once
PAUSE_FIRST_S: Final = 0.1
PAUSE_MOST_S: Final = 30.0
NOT_STARTED: Final = 3
_STOPS: Final = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True, slots=True)
class Child:
    """One server process: its id, the way to it, and when it was forked."""

    pid: int
    line: Line
    born_s: float


@dataclass(frozen=True, slots=True)
class Ending:
    """Seconds between the first signal and the end of accepting, and that a process may take after it."""

    delay_s: float
    drain_s: float


Serve = Callable[[Member, socket.socket], int]
"""What a process runs: serves what comes through the socket until told to stop, and returns the exit code."""


class Supervisor:
    """Runs one process a place.

    Args:
        places: of the processes.
        listeners: bound sockets.
        serve: what each process runs.
        forget: called with a place whose process has ended.
        ending: how long that may take.
    """

    def __init__(
        self,
        places: Sequence[Member],
        listeners: Sequence[socket.socket],
        serve: Serve,
        forget: Callable[[int], None],
        ending: Ending,
    ) -> None:
        self._places = places
        self._serve = serve
        self._forget = forget
        self._ending = ending
        self._selector = selectors.DefaultSelector()
        self._reception = Reception(listeners, self._selector)
        self._children: dict[int, Child] = {}  # by place
        self._due_s = dict.fromkeys(range(len(places)), 0.0)  # places to be filled, and when
        self._failures = dict.fromkeys(range(len(places)), 0)
        self._has_served: set[int] = set()
        self._signals: list[int] = []
        self._shut_at: float | None = None
        self._kill_at: float | None = None
        self._code = 0
        self._log = structlog.get_logger("supervisor")

    def run(self) -> int:
        """Serve until told to stop; return the exit code: not 0 if a process could not be started."""
        ours, woken = socket.socketpair()
        ours.settimeout(0)
        woken.settimeout(0)
        with ours, woken, self._selector:
            self._selector.register(ours, selectors.EVENT_READ, lambda: ours.recv(4096))
            for number in _STOPS:
                signal.signal(number, self._signalled)
            signal.signal(signal.SIGCHLD, lambda *_: None)  # wakes the selector
            signal.set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
            for place in self._places:
                place.unready.set(1)  # no answer says ready before all of them are
            gc.collect()
            gc.freeze()  # what the processes share is not touched by their collectors
            try:
                while self._step():
                    pass
            finally:
                signal.set_wakeup_fd(-1)
                self._send(signal.SIGKILL)
        return self._code

    def _step(self) -> bool:
        """Do what is due, and wait for the next event; False when all is over."""
        while self._signals:
            self._told(self._signals.pop(0))
        self._reap()
        now = time.monotonic()
        if self._shut_at is not None and now >= self._shut_at:
            self._reception.shut()
            self._shut_at, self._kill_at = None, now + self._ending.drain_s + MARGIN_S
        if self._kill_at is not None and now >= self._kill_at:
            self._send(signal.SIGKILL)
            self._kill_at = None
        for index in [index for index, due in self._due_s.items() if now >= due]:
            self._start(index)
        if not self._children and not self._due_s:
            return False
        for key, _ in self._selector.select(self._pause_s()):
            key.data()
        return True

    def _pause_s(self) -> float | None:
        moments = [*self._due_s.values(), *(at for at in (self._shut_at, self._kill_at) if at is not None)]
        return max(0.0, min(moments) - time.monotonic()) if moments else None

    @property
    def _stopping(self) -> bool:
        return self._shut_at is not None or not self._reception.open

    def _signalled(self, number: int, _: FrameType | None) -> None:
        self._signals.append(number)

    def _told(self, number: int) -> None:
        """Pass on a signal; the first one leaves the door open for a while, a second one does not."""
        delay_s = 0.0 if self._stopping else self._ending.delay_s
        self._due_s.clear()
        self._send(number)
        if self._reception.open:
            self._shut_at = time.monotonic() + delay_s

    def _send(self, number: int) -> None:
        for child in self._children.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, number)

    def _start(self, index: int) -> None:
        """Fork the process of a place."""
        del self._due_s[index]
        line = Line(self._places[index])
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        parent = os.getpid()
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)  # a signal is ours or the child's, never lost between
        pid = os.fork()
        if pid == 0:
            self._become(line, parent)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
        self._children[index] = Child(pid, line, time.monotonic())
        self._reception.add(line)

    def _become(self, line: Line, parent: int) -> NoReturn:
        """Be the process of a place from now on."""
        code: object = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for number in _STOPS:
                signal.signal(number, lambda *_: sys.exit(0))  # until the server listens to it
            os.setpgid(0, 0)  # a terminal's Ctrl-C reaches the supervisor alone, which passes it on
            Kernel().die_with(parent)
            self._selector.close()
            self._reception.close_copies(line)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
            code = self._serve(line.place, line.theirs)
        except SystemExit as end:
            code = end.code or 0
        except BaseException as fault:  # noqa: BLE001 - told to the log; nothing of the supervisor may go on here
            self._log.error("a process of the gateway failed", exception=trace(fault))
        finally:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError, ValueError):
                    stream.flush()
            os._exit(code if isinstance(code, int) else 1)

    def _reap(self) -> None:
        """Take out processes that have ended, and decide whether their places are filled again."""
        ended: dict[int, int] = {}
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                ended[found[0]] = os.waitstatus_to_exitcode(found[1])
        for index, child in list(self._children.items()):
            if child.line.serving:
                self._has_served.add(index)
            if child.pid not in ended:
                continue
            del self._children[index]
            self._forget(index)
            self._reception.remove(child.line)
            if not self._stopping:
                self._fill_again(index, child, ended[child.pid])

    def _fill_again(self, index: int, child: Child, code: int) -> None:
        if not child.line.serving and not (index in self._has_served and self._reception.served):
            self._log.error("a process of the gateway could not start: all of it ends", place=index, code=code)
            self._code = code if code > 0 else NOT_STARTED
            self._told(signal.SIGTERM)
            self._shut_at = 0.0
            return
        now = time.monotonic()
        if now - child.born_s > STEADY_S:
            self._failures[index] = 0
        failures = self._failures[index]
        self._failures[index] += 1
        self._due_s[index] = now + (min(PAUSE_MOST_S, PAUSE_FIRST_S * 2**failures) if failures else 0.0)
        self._log.error("a process of the gateway ended: it is started again", place=index, code=code)
