"""Sends prebuilt requests over a few connections and says what each got; leaves in the middle where that is asked."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from loadtests.soak.mix import Case

TIMEOUT_S = 60.0
LEAVE_AFTER_S = 0.03
OK = 200


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one request got.

    Attributes:
        said: status and error code, ``left`` for one we broke off, else what went wrong.
        wrong: why that is not what it had to get; None when it is.
    """

    said: str
    wrong: str | None


class Connection:
    """One connection at a time to the gateway, opened again when it was closed.

    Args:
        host: of the gateway.
        port: of the gateway.
        dice: decides when we leave.
        headers: sent with each request, complete lines; an API key, say.
    """

    def __init__(self, host: str, port: int, dice: random.Random, headers: bytes = b"") -> None:
        self._host = host
        self._port = port
        self._dice = dice
        self._headers = headers
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def send(self, case: Case) -> Outcome:
        """Send one request and judge its answer; never raises for what the server does."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                if case.leaving != "never":
                    await self._leave(case)
                    return Outcome("left", None)
                status, body, keep = await self._exchange(case)
        except TimeoutError:
            self.close()
            return Outcome("hang", f"no answer within {TIMEOUT_S:g} s")
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as fault:
            self.close()
            return Outcome("broken", f"{type(fault).__name__}: {fault}")
        if not keep:
            self.close()
        return judged(case, status, body)

    def close(self, *, hard: bool = False) -> None:
        """Close; ``hard`` resets the connection instead of saying good-bye."""
        if self._writer is not None:
            if hard:
                own = self._writer.get_extra_info("socket")
                own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._writer.close()
        self._reader = self._writer = None

    def _head(self, case: Case) -> bytes:
        return case.head[:-2] + self._headers + b"\r\n"

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._reader is None or self._writer is None or self._writer.is_closing() or self._reader.at_eof():
            self.close()
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        return self._reader, self._writer

    async def _exchange(self, case: Case) -> tuple[int, bytes, bool]:
        """Return status, body, and whether the connection stays."""
        reader, writer = await self._open()
        writer.write(self._head(case))
        writer.write(case.body)
        await writer.drain()
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        lines = head.split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
        body = await reader.readexactly(int(headers["content-length"])) if "content-length" in headers else b""
        unread = case.expected.startswith("413")  # the server may have answered before it took all
        return int(lines[0].split(" ")[1]), body, headers.get("connection") != "close" and not unread

    async def _leave(self, case: Case) -> None:
        """Go while sending, while waiting, or with the first byte of the answer; half of the time by a reset."""
        self.close()
        reader, writer = await self._open()
        with contextlib.suppress(OSError):
            writer.write(self._head(case))
            if case.leaving == "uploading":
                writer.write(case.body[: self._dice.randrange(len(case.body))])
                await asyncio.sleep(self._dice.random() * LEAVE_AFTER_S)
            else:
                writer.write(case.body)
                await writer.drain()
                if case.leaving == "waiting":
                    await asyncio.sleep(self._dice.random() * LEAVE_AFTER_S)
                else:
                    await reader.read(1)
        self.close(hard=self._dice.random() < 0.5)


def judged(case: Case, status: int, body: bytes) -> Outcome:
    """Hold an answer against what its request had to get."""
    try:
        answer = orjson.loads(body) if body[:1] in {b"{", b"["} else None
    except ValueError:
        return Outcome(f"{status}", "the body is no JSON")
    code = said_code(answer) if status >= 400 else ""
    said = f"{status} {code}".strip()
    if said in {"503 overloaded", "429 rate_limited"}:
        return Outcome(said, None)  # allowed to any request
    if case.expected not in {said, f"{status}"}:
        return Outcome(said, f"expected {case.expected}")
    if case.items and status == OK and isinstance(answer, dict):
        seen = [(item.get("error") or {}).get("code") for item in answer.get("results", [])]
        if seen != list(case.items) and "overloaded" not in seen:
            return Outcome(said, f"items {seen}")
    return Outcome(said, None)


def said_code(answer: object) -> str:
    """Return the error code of a problem document, or of an error in OpenAI's form."""
    if not isinstance(answer, dict):
        return ""
    inner = answer.get("error")
    return str(answer.get("code") or (inner.get("code") if isinstance(inner, dict) else "") or "")


async def drive(
    connections: Sequence[Connection],
    cases: Sequence[Case],
    order: Sequence[int],
    done: asyncio.Queue[tuple[Case, Outcome]],
) -> None:
    """Send all requests, each connection one at a time; what each got goes into ``done``."""
    remaining = iter(order)

    async def one(connection: Connection) -> None:
        for index in remaining:
            case = cases[index]
            await done.put((case, await connection.send(case)))
        connection.close()

    await asyncio.gather(*(one(connection) for connection in connections))
