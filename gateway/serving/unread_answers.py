"""Answers that their clients do not read: bounded in time and, all together, in bytes."""

from __future__ import annotations

import asyncio

PROGRESS_BYTES = 64 * 1024  # of an answer, or the rest of it, in each period
UNSENT_BYTES = 64 * 1024 * 1024  # of all connections of a process


class UnsentAnswers:
    """The connections on which something waits to be taken by the kernel, the longest waiting first.

    Args:
        timeout_s: seconds in which a client has to read ``PROGRESS_BYTES``, or what is left; else its connection ends.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._waiting: dict[asyncio.WriteTransport, asyncio.TimerHandle] = {}

    def begin(self, transport: asyncio.WriteTransport) -> None:
        """Watch a connection that the kernel did not take all of; where all are too much, the first ones end."""
        unsent = transport.get_write_buffer_size()
        timer = asyncio.get_running_loop().call_later(self._timeout_s, self._check, transport, unsent)
        self._waiting[transport] = timer
        total = sum(one.get_write_buffer_size() for one in self._waiting)
        for one in tuple(self._waiting):
            if total <= UNSENT_BYTES:
                break
            total -= one.get_write_buffer_size()
            self.end(one)
            one.abort()

    def end(self, transport: asyncio.WriteTransport) -> None:
        """Watch it no more: all is sent, or it has ended."""
        timer = self._waiting.pop(transport, None)
        if timer is not None:
            timer.cancel()

    def _check(self, transport: asyncio.WriteTransport, unsent_before: int) -> None:
        self.end(transport)
        if unsent_before - transport.get_write_buffer_size() < PROGRESS_BYTES:
            transport.abort()
        else:
            self.begin(transport)
