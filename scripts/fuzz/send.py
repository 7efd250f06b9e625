"""Sends damaged pictures to a gateway in batches, and finds the one to blame where an answer is not allowed."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from scripts.fuzz.judge import LABELS, Offence, outcomes

JSON_EVERY = 4
"""One batch out of so many goes as base64 in JSON, the others as uploads."""
GRACE_S = 5.0
"""How much later than its own deadline a gateway may answer before it counts as hung: the body is read first."""


@dataclass(frozen=True, slots=True)
class Run:
    """What to send.

    Attributes:
        first: number of the first mutation.
        count: how many.
        batch: pictures in a request.
        concurrency: requests at a time.
        deadline_s: the gateway's own for a request.
        until_s: end of the run on the monotonic clock.
        most_offenders: the run stops at so many.
    """

    first: int
    count: int
    batch: int
    concurrency: int
    deadline_s: float
    until_s: float
    most_offenders: int = 50


@dataclass(slots=True)
class Tally:
    """What came of it.

    Attributes:
        sent: pictures.
        counts: how many got what.
        offenders: what was wrong, by the number of the mutation.
        slowest_s: of all requests.
    """

    sent: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    offenders: dict[int, str] = field(default_factory=dict)
    slowest_s: float = 0.0


class Sender:
    """Sends the mutations of a run.

    Args:
        client: of the gateway.
        make: mutation number → its bytes.
        folder: where offenders are kept.
    """

    def __init__(self, client: httpx2.AsyncClient, make: Callable[[int], bytes], folder: Path) -> None:
        self._client = client
        self._make = make
        self._folder = folder

    async def run(self, run: Run, tally: Tally) -> None:
        """Send them all, a fixed number of requests at a time; each waits for its answer before the next one goes."""
        starts = iter(range(run.first, run.first + run.count, run.batch))

        async def work() -> None:
            for start in starts:
                if time.monotonic() > run.until_s or len(tally.offenders) >= run.most_offenders:
                    return
                numbers = range(start, min(start + run.batch, run.first + run.count))
                await self._batch(numbers, run.deadline_s, tally)

        await asyncio.gather(*(work() for _ in range(run.concurrency)))

    async def _batch(self, numbers: Sequence[int], deadline_s: float, tally: Tally) -> None:
        pictures = [self._make(number) for number in numbers]
        as_json = (numbers[0] // len(numbers)) % JSON_EVERY == 0
        ask = self._ask_json if as_json else self._ask_form
        start_s = time.monotonic()
        try:
            tally.counts.update(await _judged(ask, pictures, deadline_s))
        except Offence as offence:
            await self._blame(numbers, pictures, ask, deadline_s, str(offence), tally)
        tally.slowest_s = max(tally.slowest_s, time.monotonic() - start_s)
        tally.sent += len(numbers)

    async def _blame(
        self,
        numbers: Sequence[int],
        pictures: Sequence[bytes],
        ask: Callable[[Sequence[bytes]], Awaitable[httpx2.Response]],
        deadline_s: float,
        what: str,
        tally: Tally,
    ) -> None:
        """Send each picture of a batch alone and keep those that offend again; all of them where none does."""
        found = {}
        for number, picture in zip(numbers, pictures, strict=True):
            try:
                tally.counts.update(await _judged(ask, [picture], deadline_s))
            except Offence as offence:
                found[number] = str(offence)
        for number, picture in zip(numbers, pictures, strict=True):
            if number in found or not found:
                reason = found.get(number, f"together with its batch: {what}")
                tally.offenders[number] = reason
                tally.counts[f"OFFENCE {reason[:80]}"] += 1
                await asyncio.to_thread(self._keep, number, picture, reason)

    def _keep(self, number: int, picture: bytes, reason: str) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / f"{number}.bin").write_bytes(picture)
        with (self._folder / "offenders.jsonl").open("a", encoding="utf-8") as lines:
            lines.write(json.dumps({"number": number, "bytes": len(picture), "offence": reason}) + "\n")

    async def _ask_form(self, pictures: Sequence[bytes]) -> httpx2.Response:
        files = [("file", ("picture", picture, "application/octet-stream")) for picture in pictures]
        fields = {"labels": list(LABELS), "views": "full", "include": ["views"]}
        return await self._client.post("/v1/classify", files=files, data=fields)

    async def _ask_json(self, pictures: Sequence[bytes]) -> httpx2.Response:
        images = [{"base64": base64.b64encode(picture).decode()} for picture in pictures]
        body = {"images": images, "labels": LABELS, "views": "full", "include": ["views"]}
        return await self._client.post("/v1/classify", json=body)


async def _judged(
    ask: Callable[[Sequence[bytes]], Awaitable[httpx2.Response]], pictures: Sequence[bytes], deadline_s: float
) -> list[str]:
    """Return what each picture got.

    Raises:
        Offence: something that is not allowed, a hang included.
    """
    try:
        async with asyncio.timeout(deadline_s + GRACE_S):
            answer = await ask(pictures)
    except TimeoutError:
        raise Offence(f"no answer within {deadline_s + GRACE_S:g} s") from None
    except httpx2.TransportError as fault:
        raise Offence(f"no answer: {type(fault).__name__}") from None
    try:
        body = answer.json()
    except ValueError:
        body = None
    return outcomes(answer.status_code, body, len(pictures))
