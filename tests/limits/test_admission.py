"""Bodies wait for their turn with their bytes still at the client, and a slow client takes nobody's turn."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.requests import Request

from gateway.api.body.reader import BodyRules, read_plain
from gateway.decoding.decoder import DecodeLimits, inspect
from gateway.decoding.preprocess import Job, PreprocessedImage
from gateway.errors import Overloaded
from gateway.fetching.image_source import ImageRequest, ImageSource, Upload
from gateway.inference.explanation import Explainer
from gateway.limits.admission import SMALL_BYTES, Admission, AdmissionLimits, Reservation
from gateway.limits.deadline import Deadline
from gateway.limits.memory_budget import Budgets, MemoryBudget
from gateway.observability.metrics import Metrics
from gateway.observability.stage_timer import StageTimer
from gateway.pipeline import Pipeline
from scripts.flood import noise_png
from tests.api.test_disconnect import Patient, metric, serving
from tests.support.fake_encoder import FakeEncoder, write_bundle
from tests.support.raw_http import connection, field, form, head, read_answer
from tests.support.waiting import eventually, until

MIB = 1 << 20
RULES = BodyRules(max_body_bytes=8 * MIB, max_json_bytes=MIB, max_images=32, timeout_s=5.0)
NEVER_S, PATIENCE_S = 60.0, 0.05
FORM = "Content-Type: multipart/form-data; boundary=b"
PICTURE = noise_png(0.9)
UPLOAD = form("b", (field("labels"), b"a"), (field("labels"), b"b"), (field("file", "x.png"), PICTURE))


def admission(room: int = 4 * MIB, wait_s: float = NEVER_S, most: int = 64 * MIB) -> Admission:
    return Admission(AdmissionLimits(256, most, room, wait_s), lambda _: None)


class Client:
    """A request's body, given in pieces as the test says; counts how often it was asked for more."""

    def __init__(self, size: int) -> None:
        self.asked = 0
        self.pieces: asyncio.Queue[bytes] = asyncio.Queue()
        self._missing = size
        headers = [(b"content-length", str(size).encode())]
        self.request = Request({"type": "http", "method": "POST", "headers": headers}, self._receive)

    async def _receive(self) -> dict[str, Any]:
        self.asked += 1
        piece = await self.pieces.get()
        self._missing -= len(piece)
        return {"type": "http.request", "body": piece, "more_body": self._missing > 0}


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_body_is_not_asked_for_before_its_turn_and_turns_come_in_order() -> None:
    gate, order = admission(), []
    clients = [Client(3 * MIB) for _ in range(3)]

    async def upload(number: int) -> None:
        with gate.request() as reservation:
            _, body = await read_plain(clients[number].request, RULES, reservation)
            order.append(number)
            reservation.release(len(body))
            await asyncio.Event().wait()  # worked on for ever; its bytes are gone all the same

    tasks = [asyncio.create_task(upload(number)) for number in range(3)]
    for number, client in enumerate(clients):
        await settled()
        assert [one.asked > 0 for one in clients] == [other <= number for other in range(3)]
        client.pieces.put_nowait(bytes(3 * MIB))
    await settled()
    assert order == [0, 1, 2]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_who_waits_too_long_is_refused_and_nothing_is_lost() -> None:
    gate = admission(wait_s=PATIENCE_S)
    with gate.request() as first:
        await first.enter_room(4 * MIB)
        with pytest.raises(Overloaded) as refused, gate.request() as second:
            await second.enter_room(MIB)
        assert refused.value.retry_after_s
        with gate.request() as small:
            await small.enter_room(SMALL_BYTES)  # what is small need not wait
    with gate.request() as third:
        await third.enter_room(100 * MIB)  # more than there is: alone


async def test_a_client_that_leaves_the_queue_takes_no_turn() -> None:
    gate = admission()
    with gate.request() as first, gate.request() as second, gate.request() as third:
        await first.enter_room(4 * MIB)
        leaving = asyncio.create_task(second.enter_room(4 * MIB))
        staying = asyncio.create_task(third.enter_room(4 * MIB))
        await settled()
        leaving.cancel()
        first.leave_room()
        await staying
        assert leaving.cancelled()


async def test_a_slow_body_leaves_the_room_and_is_still_read() -> None:
    gate = admission()
    slow, fast = Client(4 * MIB), Client(4 * MIB)

    async def upload(client: Client) -> Reservation:
        with gate.request() as reservation:
            await read_plain(client.request, RULES, reservation)
            return reservation

    sending = asyncio.create_task(upload(slow))
    await settled()
    slow.pieces.put_nowait(bytes(1000))
    fast.pieces.put_nowait(bytes(4 * MIB))
    await upload(fast)  # it waits until the slow one has been shown out, and then does not wait for its end
    assert not sending.done()
    slow.pieces.put_nowait(bytes(4 * MIB - 1000))
    assert (await sending).held_bytes == 0


async def test_a_slow_body_holds_what_was_sent_of_it_not_what_was_declared() -> None:
    gate = admission(most=9 * MIB)
    slow = [Client(8 * MIB) for _ in range(4)]

    async def upload(client: Client) -> None:
        with gate.request() as reservation:
            await read_plain(client.request, RULES, reservation)

    sending = [asyncio.create_task(upload(client)) for client in slow]
    for client in slow:
        client.pieces.put_nowait(bytes(1000))
    await settled()
    fast = Client(3 * MIB)
    fast.pieces.put_nowait(bytes(3 * MIB))
    await upload(fast)  # each of the slow ones alone had declared nearly all that may be held
    assert not any(task.done() for task in sending)
    for task in sending:
        task.cancel()
    await asyncio.gather(*sending, return_exceptions=True)


@pytest.fixture
def crowded(tmp_path: Path) -> Iterator[str]:
    """A gateway with room for two uploads."""
    with serving(tmp_path, FakeEncoder(), upload_room_mib=2, upload_wait_s=NEVER_S, body_timeout_s=3.0) as address:
        yield address


def upload(address: str) -> int:
    kind = {"content-type": "multipart/form-data; boundary=b"}
    return httpx2.post(f"{address}/v1/classify", content=UPLOAD, headers=kind, timeout=NEVER_S).status_code


def test_many_uploads_at_once_are_all_answered(crowded: str) -> None:
    with ThreadPoolExecutor(24) as users:
        assert list(users.map(upload, [crowded] * 24)) == [200] * 24


def test_fast_clients_are_served_beside_slow_ones(crowded: str) -> None:
    with contextlib.ExitStack() as exits:
        slow = [exits.enter_context(connection(crowded)) for _ in range(12)]
        for number, made in enumerate(slow):
            length = "Transfer-Encoding: chunked" if number % 2 else f"Content-Length: {len(UPLOAD)}"
            made.sendall(head(FORM, length) + (b"10\r\n" if number % 2 else b"") + UPLOAD[:16])
        with ThreadPoolExecutor(6) as users:
            assert list(users.map(upload, [crowded] * 6)) == [200] * 6
        assert read_answer(slow[0]).json()["code"] == "request_timeout"


def test_a_pictures_bytes_are_given_back_once_it_is_decoded(tmp_path: Path) -> None:
    encoder = Patient()
    limits: dict[str, Any] = {"max_bytes_in_flight": 2 * len(UPLOAD) - 1, "request_timeout_s": NEVER_S}
    with serving(tmp_path, encoder, **limits) as address:
        assert upload(address) == 200
        encoder.delay_s = NEVER_S
        with connection(address) as first, connection(address) as second:
            for made in (first, second):
                calls = encoder.image_calls
                made.sendall(head(FORM, f"Content-Length: {len(UPLOAD)}") + UPLOAD)
                until(lambda calls=calls: encoder.image_calls > calls, "it is with the model")
            assert metric(address, "gateway_requests_in_flight ") == 2


async def no_seed(_: str) -> int:
    raise AssertionError("a still needs none")


class Waiting:
    """Decoders that are all busy."""

    available = True
    fingerprints = False

    def __init__(self) -> None:
        self.asked = 0

    async def prepare(self, _: Job, __: StageTimer) -> PreprocessedImage:
        self.asked += 1
        await asyncio.Event().wait()
        raise AssertionError

    async def close(self) -> None:
        pass


@pytest.mark.parametrize("scarce", ["memory", "decoders"])
async def test_a_file_counts_as_an_upload_until_it_is_decoded(tmp_path: Path, scarce: str) -> None:
    gate, decoders = admission(), Waiting()
    manifest, limits = write_bundle(tmp_path), DecodeLimits()
    decode_bytes = inspect(PICTURE, limits).decode_bytes()
    if scarce == "memory":  # two frames would fit, two files beside them would not
        budgets = Budgets(MemoryBudget(MIB), MemoryBudget(2 * decode_bytes + len(PICTURE)), asyncio.Semaphore(2))
    else:
        budgets = Budgets(MemoryBudget(MIB), MemoryBudget(MIB), asyncio.Semaphore(1))
    intake = ImageSource(lambda _: asyncio.sleep(0, b""), contextlib.nullcontext, len(PICTURE))
    with ThreadPoolExecutor(1) as threads, gate.request() as first, gate.request() as second:
        encoder = FakeEncoder()
        explainer = Explainer(encoder, threads, 4)
        pipeline = Pipeline(
            intake, encoder, explainer, manifest, limits, 64, threads, decoders, no_seed, budgets, Metrics()
        )
        looking = []
        for reservation in (first, second):
            reservation.hold(len(PICTURE))
            images = [ImageRequest(Upload(PICTURE, reservation))]
            looking.append(asyncio.create_task(pipeline.run(images, frozenset({"center"}), Deadline.after(NEVER_S))))
            await eventually(lambda: decoders.asked == 1)
        await asyncio.sleep(0.3)
        assert first.held_bytes == 0
        assert second.held_bytes == len(PICTURE)
        looking[0].cancel()
        await eventually(lambda: decoders.asked == 2)
        assert second.held_bytes == 0
        looking[1].cancel()
        await asyncio.gather(*looking, return_exceptions=True)
