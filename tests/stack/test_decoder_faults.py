"""Fault 44 on the running stack: a decoder that dies or hangs under a picture costs that picture and nothing else."""

from __future__ import annotations

import base64
import io
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import psutil
import pytest
from PIL import Image

from gateway.settings import Settings
from tests.conftest import Stack
from tests.support import awkward_images as make
from tests.support.drawings import encoded, shape
from tests.support.fault_table import FaultLog
from tests.support.memory_usage import gateway_process
from tests.support.waiting import UNTIL_S, until

pytestmark = pytest.mark.heavy

LABELS = ["a red circle", "a blue square"]
DEADLINE_S = Settings.model_fields["request_timeout_s"].default


def decoders(stack: Stack) -> list[psutil.Process]:
    """The gateway's decoding processes: the children of the child that forks them."""
    return [worker for forker in gateway_process(stack).children() for worker in forker.children()]


def wait_for_decoders(stack: Stack, count: int) -> None:
    until(lambda: len(decoders(stack)) == count, "the decoders did not come back")


def busy(stack: Stack, before: dict[int, float], work_s: float = 0.05) -> psutil.Process:
    """Wait until one of the processes has computed for a while, and return it: it holds the slow picture."""
    end = time.monotonic() + UNTIL_S
    while time.monotonic() < end:
        for worker in decoders(stack):
            if worker.cpu_times().user - before.get(worker.pid, 0.0) > work_s:
                return worker
        time.sleep(0.01)
    raise AssertionError("no decoder became busy")


def ask(stack: Stack, *pictures: bytes) -> httpx2.Response:
    images = [{"base64": base64.b64encode(data).decode()} for data in pictures]
    body = {"images": images, "labels": LABELS, "views": "full"}
    with httpx2.Client(base_url=stack.gateway_url, timeout=60) as client:
        return client.post("/v1/classify", json=body)


def seen(result: dict[str, Any]) -> str:
    if result["error"] is None:
        assert result["scores"][0]["label"] == "a red circle"
        return "200"
    assert result["scores"] is None
    return f"{result['error']['status']} {result['error']['code']}"


@pytest.fixture(scope="module")
def slow() -> bytes:
    """A picture that is decoded for a second or so, and is nothing but slow."""
    return make.gif(60, 2800, 2800)


@pytest.mark.parametrize(
    ("blow", "what"),
    [
        (signal.SIGKILL, "its decoder is killed (SIGKILL) while it decodes the second of three"),
        (signal.SIGSEGV, "its decoder crashes (SIGSEGV) while it decodes the second of three"),
        (signal.SIGSTOP, "its decoder hangs (SIGSTOP) while it decodes the second of three"),
    ],
)
def test_44_the_picture_fails_alone(
    stack: Stack, slow: bytes, blow: signal.Signals, what: str, faults: FaultLog
) -> None:
    good = encoded(shape("a red circle"))
    assert ask(stack, good, good).status_code == 200
    count = len(decoders(stack))
    assert count > 0
    before = {worker.pid: worker.cpu_times().user for worker in decoders(stack)}
    with ThreadPoolExecutor() as threads:
        start = time.monotonic()
        asked = threads.submit(ask, stack, good, slow, good)
        victim = busy(stack, before)
        victim.send_signal(blow)
        beside = threads.submit(ask, stack, good)
        answer = asked.result()
        assert time.monotonic() - start < DEADLINE_S + 1
        assert beside.result().status_code == 200
    assert answer.status_code == 200, answer.text
    results = answer.json()["results"]
    faults.expect(44, what, seen(results[1]), "422 image_undecodable")
    assert [seen(results[0]), seen(results[2])] == ["200", "200"]
    wait_for_decoders(stack, count)
    assert not victim.is_running()
    assert ask(stack, good).status_code == 200


def test_44_alone_it_is_the_answer(stack: Stack, slow: bytes, faults: FaultLog) -> None:
    before = {worker.pid: worker.cpu_times().user for worker in decoders(stack)}
    with ThreadPoolExecutor() as threads:
        asked = threads.submit(ask, stack, slow)
        busy(stack, before).kill()
        faults.expect(
            44, "its decoder is killed while it decodes the only picture", asked.result(), "422 image_undecodable"
        )
    assert ask(stack, slow).status_code == 200  # nothing is wrong with the picture itself


def test_44_a_decoder_that_dies_idle_is_not_noticed(stack: Stack, faults: FaultLog) -> None:
    good = encoded(shape("a red circle"))
    count = len(decoders(stack))
    for worker in decoders(stack):
        worker.kill()
    faults.expect(44, "all decoders are killed while they have nothing to do", ask(stack, good, good), "200")
    wait_for_decoders(stack, count)


def test_44_many_pictures_while_decoders_die(stack: Stack) -> None:
    """Whatever is hit fails by itself; nothing else does, and no picture gets another's answer."""
    out = io.BytesIO()
    Image.open(io.BytesIO(encoded(shape("a red circle")))).resize((1500, 1500)).save(out, "PNG")
    count = len(decoders(stack))
    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(ask, stack, out.getvalue(), out.getvalue()) for _ in range(12)]
        for _ in range(4):
            time.sleep(0.15)
            found = decoders(stack)
            if found:
                found[0].kill()
        answers = [one.result() for one in asked]
    assert {answer.status_code for answer in answers} == {200}
    outcomes = [seen(result) for answer in answers for result in answer.json()["results"]]
    assert set(outcomes) <= {"200", "422 image_undecodable"}
    assert outcomes.count("422 image_undecodable") <= 4
    wait_for_decoders(stack, count)
