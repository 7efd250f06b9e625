"""Several Tritons behind one encoder, over real gRPC: who is asked, who is left, and what is asked a second time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import grpc
import numpy as np
import pytest

from gateway.errors import GatewayError, ModelUnavailable, Overloaded
from gateway.inference import circuit_breaker
from gateway.inference.addresses import Address, Addresses, Endpoint
from gateway.inference.circuit_breaker import CHECK_TIMEOUT_S
from gateway.inference.load_balancer import LoadBalancer, RetryBudget
from gateway.inference.triton import TritonEncoder, Vectors
from gateway.limits.deadline import Deadline
from gateway.observability.metrics import Metrics
from tests.conftest import free_ports
from tests.support.fake_encoder import write_bundle
from tests.support.fake_triton import FakeTriton, listening
from tests.support.severable_tcp import Line
from tests.support.waiting import UNTIL_S, eventually

PIXELS = np.zeros((1, 32, 32, 3), np.uint8)
STOPPING = "Server is stopping, scheduler for model has stopped accepting new inference requests"


@pytest.fixture(autouse=True)
def no_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A healthy server is not probed beside what a test asks of it: inferences are counted here."""
    monkeypatch.setattr(circuit_breaker, "PROBE_AGE_S", float("inf"))


class Named(Addresses):
    """Addresses that a test changes."""

    def __init__(self, now: Iterable[Address]) -> None:
        super().__init__([])
        self.now = frozenset(now)

    async def resolve(self) -> frozenset[Address]:
        return self.now


@asynccontextmanager
async def balanced(folder: Path, *addresses: Address) -> AsyncIterator[tuple[LoadBalancer, Named, Metrics]]:
    """A balancer on servers, once all are up."""
    manifest, metrics, names = write_bundle(folder), Metrics(), Named(addresses)
    balancer = LoadBalancer(
        names, 0.05, lambda address: TritonEncoder(address, manifest, lambda *_: None), manifest, 15.0, metrics
    )
    watching = asyncio.create_task(balancer.watch())
    try:
        await eventually(lambda: up(balancer) == len(addresses))
        yield balancer, names, metrics
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await balancer.close()


def up(balancer: LoadBalancer) -> int:
    return list(balancer.states().values()).count(None)


def picture(balancer: LoadBalancer) -> asyncio.Task[Vectors]:
    return asyncio.create_task(balancer.encode_images(PIXELS, Deadline.after(UNTIL_S)))


def images(triton: FakeTriton) -> int:
    return triton.asked.count("clip_image")


async def test_each_gets_as_many_and_each_has_the_bound(tmp_path: Path) -> None:
    tritons = [FakeTriton(axis, at_most=4) for axis in range(3)]
    async with listening(*tritons), balanced(tmp_path, *(one.address for one in tritons)) as (balancer, _, metrics):
        for triton in tritons:
            triton.may_answer.clear()
            triton.asked.clear()
        asked = [picture(balancer) for _ in range(12)]
        await eventually(lambda: [images(triton) for triton in tritons] == [4, 4, 4])
        with pytest.raises(Overloaded):
            await picture(balancer)
        shown = metrics.exposition().decode()
        for triton in tritons:
            assert f'gateway_triton_inferences_under_way{{address="{triton.address}",model="clip_image"}} 4.0' in shown
        tritons[1].may_answer.set()  # it is the fastest: the next ones are its
        await eventually(lambda: sum(task.done() for task in asked) == 4)
        asked += [picture(balancer) for _ in range(3)]
        await eventually(lambda: all(task.done() for task in asked[12:]))
        assert images(tritons[1]) == 7
        for triton in tritons:
            triton.may_answer.set()
        assert Counter([int((await task)[0].argmax()) for task in asked]) == {0: 4, 1: 7, 2: 4}


async def test_one_that_is_stopping_is_left_and_its_refusals_asked_elsewhere(tmp_path: Path) -> None:
    tritons = [FakeTriton(0), FakeTriton(1)]
    async with listening(*tritons), balanced(tmp_path, *(one.address for one in tritons)) as (balancer, _, metrics):
        tritons[0].refusals = [(grpc.StatusCode.UNAVAILABLE, STOPPING)] * 100
        tritons[0].is_ready = False
        probes = images(tritons[0])
        for _ in range(20):
            assert (await picture(balancer))[0, 1] == 1
        await eventually(lambda: up(balancer) == 1)
        assert images(tritons[0]) - probes == 1, "the first refusal was enough"
        shown = metrics.exposition().decode()
        assert f'gateway_triton_up{{address="{tritons[0].address}"}} 0.0' in shown
        assert f'gateway_triton_failures_total{{address="{tritons[0].address}"}} 1.0' in shown
        assert "gateway_triton_retries_total 1.0" in shown
        tritons[0].refusals, tritons[0].is_ready = [], True
        await eventually(lambda: up(balancer) == 2)
        before = images(tritons[0])
        await asyncio.gather(*(picture(balancer) for _ in range(10)))
        assert images(tritons[0]) > before


async def test_where_all_refuse_nothing_is_asked_a_third_time(tmp_path: Path) -> None:
    tritons = [FakeTriton(axis) for axis in range(3)]
    async with listening(*tritons), balanced(tmp_path, *(one.address for one in tritons)) as (balancer, _, _):
        for triton in tritons:
            triton.refusals, triton.is_ready = [(grpc.StatusCode.UNAVAILABLE, STOPPING)] * 100, False
            triton.asked.clear()
        with pytest.raises(ModelUnavailable):
            await picture(balancer)
        assert sum(images(triton) for triton in tritons) <= 2


async def test_what_waits_at_one_that_froze_is_asked_elsewhere(tmp_path: Path) -> None:
    frozen, well = FakeTriton(0), FakeTriton(1)
    async with listening(frozen, well), balanced(tmp_path, frozen.address, well.address) as (balancer, _, metrics):
        frozen.awake.clear()
        deadline = Deadline.after(UNTIL_S)
        answers = await asyncio.gather(*(balancer.encode_images(PIXELS, deadline) for _ in range(8)))
        assert [int(vectors[0].argmax()) for vectors in answers] == [1] * 8
        assert deadline.remaining_s() > UNTIL_S / 2, "it did not cost the deadline"
        assert images(frozen) >= 4
        assert "gateway_triton_retries_total 4.0" in metrics.exposition().decode()
        frozen.awake.set()
        await eventually(lambda: up(balancer) == 2)


async def test_the_only_one_may_be_slow(tmp_path: Path) -> None:
    triton = FakeTriton()
    async with listening(triton), balanced(tmp_path, triton.address) as (balancer, _, _):
        triton.awake.clear()
        late = picture(balancer)
        await asyncio.sleep(3 * CHECK_TIMEOUT_S)
        assert not balancer.failing_checks()
        triton.awake.set()
        assert (await late)[0, 0] == 1


async def test_a_name_loses_and_gains_addresses(tmp_path: Path) -> None:
    old, new = FakeTriton(0), FakeTriton(1)
    async with listening(old, new), balanced(tmp_path, old.address) as (balancer, names, metrics):
        old.may_answer.clear()
        late = picture(balancer)
        await eventually(lambda: "clip_image" in old.asked[1:])
        names.now = frozenset({old.address, new.address})
        await eventually(lambda: up(balancer) == 2)
        names.now = frozenset({new.address})
        await eventually(lambda: list(balancer.states()) == [str(new.address)])
        assert (await picture(balancer))[0, 1] == 1
        assert not late.done(), "what is under way there is not given up"
        old.may_answer.set()
        assert (await late)[0, 0] == 1
        await eventually(lambda: str(old.address) not in metrics.exposition().decode())
        names.now = frozenset()
        await eventually(lambda: not balancer.states())
        with pytest.raises(ModelUnavailable):
            await picture(balancer)


async def test_another_bundle_behind_the_same_address_never_answers(tmp_path: Path) -> None:
    ours, other = FakeTriton(0), FakeTriton(1, bundle_id="another")
    answers: Counter[str] = Counter()
    over = asyncio.Event()

    async def ask(balancer: LoadBalancer) -> None:
        while not over.is_set():
            try:
                vectors = await picture(balancer)
            except GatewayError as error:
                answers[error.code] += 1
                await asyncio.sleep(0.01)
            else:
                answers["ours" if vectors[0, 0] == 1 else "other"] += 1

    def more(than: int) -> bool:
        return answers["ours"] > than

    (port,) = free_ports(1)
    async with listening(ours, other), AsyncExitStack() as exits:
        line = Line(port, ours.port)
        exits.callback(line.close)
        at = Address(Endpoint("127.0.0.1", port), "127.0.0.1")
        balancer, _, _ = await exits.enter_async_context(balanced(tmp_path, at))
        asking = [asyncio.create_task(ask(balancer)) for _ in range(8)]
        for _ in range(3):
            await eventually(partial(more, answers["ours"] + 50))
            await asyncio.to_thread(line.cut, other.port)
            await eventually(lambda: balancer.failing_checks() == ["bundle", "inference"])
            await asyncio.to_thread(line.cut, ours.port)
            await eventually(lambda: not balancer.failing_checks())
        over.set()
        await asyncio.gather(*asking)
    assert set(answers) <= {"ours", "model_unavailable"}, answers


async def test_the_same_bundle_behind_a_new_connection_costs_no_request(tmp_path: Path) -> None:
    triton = FakeTriton()
    (port,) = free_ports(1)
    async with listening(triton), AsyncExitStack() as exits:
        line = Line(port, triton.port)
        exits.callback(line.close)
        at = Address(Endpoint("127.0.0.1", port), "127.0.0.1")
        balancer, _, _ = await exits.enter_async_context(balanced(tmp_path, at))
        triton.may_answer.clear()
        asked = [picture(balancer) for _ in range(8)]
        await eventually(lambda: images(triton) >= 8)
        triton.may_answer.set()
        await asyncio.to_thread(line.cut)
        for task in asked:
            assert (await task)[0, 0] == 1
        assert line.connections >= 2


def test_retries_are_a_tenth_of_all_calls_and_a_few_at_once() -> None:
    budget = RetryBudget(saved=5)
    assert [budget.spend() for _ in range(7)] == [True] * 5 + [False] * 2
    given = 0
    for _ in range(1000):
        budget.earn()
        given += budget.spend()
    assert 95 <= given <= 100
