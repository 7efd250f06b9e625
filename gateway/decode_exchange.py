"""One question to a decoding process and its answer, over its socket.

The event loop is woken once for a common picture: when the answer is there. The question is sent in one write where the
socket's buffer holds it, and pixels are read straight into the array that is handed on.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final

from gateway.decode_answer import MOST_FACTS_BYTES
from gateway.decode_worker import ANSWER_HEAD, JOB_HEAD

_HEAD_READ_BYTES: Final = 4096
"""Facts of a still take some hundred bytes; of the pixels behind them, what comes along is copied once more."""


class RulesBroken(Exception):
    """The process said what it must not."""


class Exchange:
    """A question on its way, and what has come of its answer; make one for each.

    Args:
        connection: to the process, non-blocking, and used by nobody else meanwhile. Whoever watches it calls
            ``receive`` when there is something to read.
        order: the job.
        data: the picture.
        most_pixel_bytes: more is not read.
        taken: called when the picture has been sent.

    Attributes:
        begun: the process has read all of it.
    """

    def __init__(
        self, connection: socket.socket, order: bytes, data: bytes, most_pixel_bytes: int, taken: Callable[[], None]
    ) -> None:
        self.begun = False
        self._connection = connection
        self._unsent = [memoryview(JOB_HEAD.pack(len(order), len(data)) + order), memoryview(data)]
        self._most_pixel_bytes = most_pixel_bytes
        self._taken = taken
        self._head = bytearray()
        self._facts = b""
        self._pixels: bytearray | None = None
        self._missing = memoryview(b"")
        self._loop = asyncio.get_running_loop()
        self._answered: asyncio.Future[tuple[bytes, bytearray]] = self._loop.create_future()

    async def answer(self, timeout_s: float) -> tuple[bytes, bytearray]:
        """Return facts and pixels.

        Raises:
            OSError: the process has ended.
            RulesBroken: it said what it must not.
            TimeoutError: it has said nothing for so long, or not all.
        """
        timer = self._loop.call_later(timeout_s, self.fail, TimeoutError())
        try:
            self._send()
            if self._unsent:
                self._loop.add_writer(self._connection, self._send_on)
            return await self._answered
        finally:
            timer.cancel()
            if self._unsent:
                self._loop.remove_writer(self._connection)

    def fail(self, fault: Exception) -> None:
        """Let the answer be an error."""
        if not self._answered.done():
            self._answered.set_exception(fault)

    def receive(self) -> None:
        """Read as much as is there.

        Raises:
            OSError: the process has ended.
            RulesBroken: it said what it must not.
        """
        try:
            while self._pixels is None:
                part = self._connection.recv(_HEAD_READ_BYTES)
                if not part:
                    # The kernel says ECONNRESET instead where a process leaves behind what it has not read (unix(7)).
                    self.begun = not self._unsent
                    raise ConnectionResetError
                self._head += part
                self._read_head()
            while self._missing:
                count = self._connection.recv_into(self._missing)
                if not count:
                    raise ConnectionResetError
                self._missing = self._missing[count:]
        except BlockingIOError:
            return
        if not self._answered.done():
            self._answered.set_result((self._facts, self._pixels))

    def _send_on(self) -> None:
        try:
            self._send()
        except OSError as fault:
            self.fail(fault)
        if not self._unsent or self._answered.done():
            self._loop.remove_writer(self._connection)

    def _send(self) -> None:
        """Send as much as the socket takes."""
        try:
            while self._unsent:
                sent = self._connection.sendmsg(self._unsent)
                while self._unsent and sent >= len(self._unsent[0]):
                    sent -= len(self._unsent.pop(0))
                if sent:
                    self._unsent[0] = self._unsent[0][sent:]
        except BlockingIOError:
            return
        self._taken()

    def _read_head(self) -> None:
        """Make what can be made of the bytes before the pixels."""
        if self._unsent:
            raise RulesBroken
        self.begun = True
        facts_at = ANSWER_HEAD.size
        if len(self._head) < facts_at:
            return
        facts_bytes, pixel_bytes = ANSWER_HEAD.unpack_from(self._head)
        if facts_bytes > MOST_FACTS_BYTES or pixel_bytes > self._most_pixel_bytes:
            raise RulesBroken
        pixels_at = facts_at + facts_bytes
        if len(self._head) < pixels_at:
            return
        early = self._head[pixels_at:]
        if len(early) > pixel_bytes:
            raise RulesBroken
        self._facts = bytes(self._head[facts_at:pixels_at])
        self._pixels = bytearray(pixel_bytes)
        self._missing = memoryview(self._pixels)[len(early) :]
        self._pixels[: len(early)] = early
