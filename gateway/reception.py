"""Accepting connections for several processes, and giving each to the one that has the fewest open.

Left to the kernel, processes that listen on one inherited socket get connections as they happen to wake up (of 64 that
were opened at once the busiest of four got 49 on average), and with SO_REUSEPORT by a hash of the addresses (20);
handed over, each gets 16 (``python -m scripts.bench scale``). Latency depends on it, as a client keeps its connection.
One that a process did not come to take before it ended is given to another.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from collections.abc import Sequence
from typing import Final

import structlog

from gateway.member import Member

ACCEPTED_AT_ONCE: Final = 64
MOST_WAITING: Final = 8192  # connections that are still handed over when the door is shut
PAUSE_S: Final = 0.1
_HANDED: Final = b"C"


class Line:
    """The way to one process: a message is a connection; from there comes one, when the process takes connections.

    Args:
        place: the process's.

    Attributes:
        theirs: the process's end. Ours keeps a copy, so that what was not taken can be taken back.
        serving: it takes connections.
    """

    def __init__(self, place: Member) -> None:
        self.place = place
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.ours.settimeout(0)
        self.theirs.settimeout(0)
        self.serving = False
        self._handed = 0

    @property
    def load(self) -> int:
        """The process's connections: those it has open, and those on their way to it."""
        return self.place.connections.own + self._handed - self.place.taken.own

    def hand(self, connection: socket.socket) -> bool:
        """Give away a connection; False if the process has ended, or has left hundreds of them lying."""
        try:
            socket.send_fds(self.ours, [_HANDED], [connection.fileno()])
        except OSError:
            return False
        self._handed += 1
        return True

    def end(self) -> None:
        """Tell the process that no further connection comes."""
        with contextlib.suppress(OSError):
            self.ours.shutdown(socket.SHUT_WR)

    def take_back(self) -> list[socket.socket]:
        """Return the connections that the process has not taken; it has ended."""
        found: list[socket.socket] = []
        with contextlib.suppress(OSError):
            while True:
                message, handles, _, _ = socket.recv_fds(self.theirs, 1, 1, socket.MSG_CMSG_CLOEXEC)
                if not message:
                    break
                found += [socket.socket(fileno=handle) for handle in handles]
        return found

    def close(self) -> None:
        """Let go of both ends."""
        self.ours.close()
        self.theirs.close()


class Reception:
    """Accepts while somebody serves; until then connections wait in the kernel.

    Args:
        listeners: bound sockets; closed by ``shut``.
        selector: where readable ends are waited for; the data of a key is what to call.
    """

    def __init__(self, listeners: Sequence[socket.socket], selector: selectors.BaseSelector) -> None:
        self._listeners = list(listeners)
        self._selector = selector
        self._lines: list[Line] = []
        self._kept: list[socket.socket] = []  # taken back while nobody else serves
        self._accepting = False
        self._log = structlog.get_logger("reception")
        for listener in self._listeners:
            listener.settimeout(0)

    @property
    def open(self) -> bool:
        """Whether connections may still come."""
        return bool(self._listeners)

    @property
    def served(self) -> bool:
        """Whether some process takes connections."""
        return any(line.serving for line in self._lines)

    def add(self, line: Line) -> None:
        """Begin to listen to a process, which is about to start."""
        self._lines.append(line)
        self._selector.register(line.ours, selectors.EVENT_READ, lambda: self._heard(line))

    def remove(self, line: Line) -> None:
        """Give to the others what a process that has ended did not take."""
        self._lines.remove(line)
        self._selector.unregister(line.ours)
        left = line.take_back()
        line.close()
        for connection in left:
            self._hand(connection)
        self._accept_if_served()

    def shut(self) -> None:
        """Hand over who is waiting, let nobody else in, and tell the processes that this was all."""
        for listener in self._listeners:
            if self._accepting:
                self._accept(listener, MOST_WAITING)
                self._selector.unregister(listener)
            listener.close()
        for connection in self._kept:
            connection.close()
        for line in self._lines:
            line.end()
        self._listeners, self._kept, self._accepting = [], [], False

    def close_copies(self, mine: Line) -> None:
        """Close what a forked process has of ours; ``mine`` is the way to itself, whose other end it keeps."""
        for line in self._lines:
            line.close()
        for end in (mine.ours, *self._listeners, *self._kept):
            end.close()

    def _heard(self, line: Line) -> None:
        """Note that a process takes connections. That it has ended is told by the kernel's signal."""
        with contextlib.suppress(OSError):
            line.serving = bool(line.ours.recv(1))
        kept, self._kept = self._kept, []
        for connection in kept:
            self._hand(connection)
        self._accept_if_served()

    def _accept_if_served(self) -> None:
        if self.served == self._accepting:
            return
        self._accepting = self.served
        for listener in self._listeners:
            if self._accepting:
                self._selector.register(listener, selectors.EVENT_READ, lambda door=listener: self._accept(door))
            else:
                self._selector.unregister(listener)

    def _accept(self, listener: socket.socket, most: int = ACCEPTED_AT_ONCE) -> None:
        for _ in range(most):
            try:
                connection, _ = listener.accept()
            except ConnectionAbortedError:
                continue
            except BlockingIOError:
                return
            except OSError as fault:  # too many open files, no memory: those who wait are asked again in a moment
                self._log.error("no connection can be accepted", reason=fault.strerror)
                time.sleep(PAUSE_S)
                return
            self._hand(connection)

    def _hand(self, connection: socket.socket) -> None:
        """Give a connection to the process with the fewest; keep it where nobody serves, and may yet."""
        serving = [line for line in self._lines if line.serving]
        if not serving and self.open:
            self._kept.append(connection)
            return
        with connection:
            any(line.hand(connection) for line in sorted(serving, key=lambda line: line.load))


def listening(host: str, port: int, backlog: int) -> list[socket.socket]:
    """Return sockets that listen on every address of a host.

    Raises:
        OSError: the host has none, or one of them cannot be had.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    made: list[socket.socket] = []
    try:
        for family, address in dict.fromkeys((family, address) for family, _, _, _, address in found):
            made.append(socket.create_server((str(address[0]), port), family=family, backlog=backlog))
    except OSError:
        for one in made:
            one.close()
        raise
    return made
