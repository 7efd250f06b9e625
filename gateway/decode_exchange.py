"""One question to a decoding process and its answer, over its socket.

The event loop is woken twice for a picture: when the process has taken it, and when the answer is there. Everything is
sent in one write where the socket's buffer holds it, and pixels are read straight into the array that is handed on.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final

from gateway.decode_answer import MOST_FACTS_BYTES
from gateway.decode_worker import ACCEPTED, ANSWER_HEAD, JOB_HEAD

_HEAD_READ_BYTES: Final = 4096
"""Facts of a still take some hundred bytes; of the pixels behind them, what comes along is copied once more."""


class RulesBroken(Exception):
    """The process said what it must not."""


class Exchange:
    """A question on its way, and what has come of its answer; make one for each.

    Args:
        connection: to the process, non-blocking, and used by nobody else meanwhile.
        order: the pickled job.
        data: the picture.
        most_pixel_bytes: more is not read.
        taken: called when the process has the picture.

    Attributes:
        accepted: the process has all of it and has begun.
    """

    def __init__(
        self, connection: socket.socket, order: bytes, data: bytes, most_pixel_bytes: int, taken: Callable[[], None]
    ) -> None:
        self.accepted = False
        self._connection = connection
        self._unsent = [memoryview(JOB_HEAD.pack(len(order), len(data)) + order), memoryview(data)]
        self._most_pixel_bytes = most_pixel_bytes
        self._taken = taken
        self._head = bytearray()
        self._facts = b""
        self._pixels: bytearray | None = None
        self._missing = memoryview(b"")
        self._answered: asyncio.Future[tuple[bytes, bytearray]] = asyncio.get_running_loop().create_future()

    async def answer(self) -> tuple[bytes, bytearray]:
        """Return facts and pixels.

        Raises:
            OSError: the process has ended.
            RulesBroken: it said what it must not.
        """
        loop = asyncio.get_running_loop()
        self._send()
        if self._unsent:
            loop.add_writer(self._connection, self._guarded, self._send_on)
        loop.add_reader(self._connection, self._guarded, self._receive)
        try:
            return await self._answered
        finally:
            loop.remove_reader(self._connection)
            loop.remove_writer(self._connection)

    def _guarded(self, step: Callable[[], None]) -> None:
        """Run a step that the loop calls; what it raises becomes the answer's error."""
        if self._answered.done():
            return
        try:
            step()
        except (OSError, RulesBroken) as fault:
            self._answered.set_exception(fault)

    def _send_on(self) -> None:
        self._send()
        if not self._unsent:
            asyncio.get_running_loop().remove_writer(self._connection)

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

    def _receive(self) -> None:
        """Read as much as is there."""
        try:
            while self._pixels is None:
                part = self._connection.recv(_HEAD_READ_BYTES)
                if not part:
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
        self._answered.set_result((self._facts, self._pixels))

    def _read_head(self) -> None:
        """Make what can be made of the bytes before the pixels."""
        if not self.accepted:
            if self._head[:1] != ACCEPTED or self._unsent:
                raise RulesBroken
            self.accepted = True
            self._taken()
        facts_at = 1 + ANSWER_HEAD.size
        if len(self._head) < facts_at:
            return
        facts_bytes, pixel_bytes = ANSWER_HEAD.unpack_from(self._head, 1)
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
