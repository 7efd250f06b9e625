"""The running stack as a service: batching, isolation of requests, cancellation, metrics."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import socket
import time
from typing import Any

import httpx2
import pytest

from tests.conftest import Stack
from tests.support.drawings import LABELS, encoded, shape
from tests.support.waiting import eventually

CONCURRENT = 32


def statistics(stack: Stack, model: str) -> Any:
    """Triton's own count of executions by batch size."""
    answer = httpx2.get(f"{stack.triton_http_url}/v2/models/{model}/stats").json()
    return answer["model_stats"][0]


def batches_above_one(stack: Stack, model: str = "clip_image") -> dict[int, int]:
    """Batches by size. The gateways' own looks have one row; Triton counts a batch a moment after it has answered."""
    batches = statistics(stack, model)["batch_stats"]
    return {one["batch_size"]: one["compute_infer"]["count"] for one in batches if one["batch_size"] > 1}


def rows(batches: dict[int, int]) -> int:
    return sum(size * count for size, count in batches.items())


async def test_requests_are_batched_and_nobody_gets_anothers_result(stack: Stack) -> None:
    pictures = {label: encoded(shape(label)) for label in LABELS}
    async with httpx2.AsyncClient(base_url=stack.gateway_url, timeout=30) as client:

        async def ask(label: str) -> dict[str, Any]:
            answer = await client.post("/v1/classify", files={"file": pictures[label]}, data={"labels": list(LABELS)})
            assert answer.status_code == 200, answer.text
            return {
                "sha": answer.json()["results"][0]["image"]["sha256"],
                "scores": answer.json()["results"][0]["scores"],
            }

        alone = {label: await ask(label) for label in LABELS}
        before = rows(batches_above_one(stack))
        for turn in itertools.count():  # how many meet depends on the machine
            if turn >= 3 and rows(batches_above_one(stack)) > before:
                break
            wanted = [LABELS[number % len(LABELS)] for number in range(CONCURRENT)]
            answers = await asyncio.gather(*(ask(label) for label in wanted))
            for label, answer in zip(wanted, answers, strict=True):
                assert answer["sha"] == alone[label]["sha"]
                for score, single in zip(answer["scores"], alone[label]["scores"], strict=True):
                    assert score["score"] == pytest.approx(single["score"], abs=1e-4)


async def test_known_labels_cost_no_text_inference(stack: Stack) -> None:
    labels = [f"a red circle number {number}" for number in range(100)]
    picture = encoded(shape("a red circle"))
    async with httpx2.AsyncClient(base_url=stack.gateway_url, timeout=30) as client:

        async def ask(labels: list[str]) -> None:
            answer = await client.post("/v1/classify", files={"file": picture}, data={"labels": labels})
            assert answer.status_code == 200, answer.text

        before = rows(batches_above_one(stack, "clip_text"))
        await ask(labels)
        await eventually(lambda: rows(batches_above_one(stack, "clip_text")) >= before + len(labels))
        await asyncio.gather(*(ask(labels) for _ in range(10)))
        more = [f"a blue square number {number}" for number in range(100)]
        await ask(more)
        await eventually(lambda: rows(batches_above_one(stack, "clip_text")) >= before + len(labels + more))
        # One of the gateway's own looks may have met others in a batch.
        assert rows(batches_above_one(stack, "clip_text")) < before + len(labels + more) + 10


def test_101_a_client_that_leaves_cancels_its_work(stack: Stack, client: httpx2.Client) -> None:
    host, port = stack.gateway_url.removeprefix("http://").split(":")
    body = json.dumps(
        {"images": [{"url": f"http://127.0.0.1:{stack.picture_port}/slow"}], "labels": ["a", "b"]}
    ).encode()
    kind = "Content-Type: application/json"
    head = f"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\n{kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_server(("127.0.0.1", stack.picture_port)) as slow:
        slow.settimeout(10)
        with socket.create_connection((host, int(port))) as leaver:
            leaver.sendall(head.encode() + body)
            fetch, _ = slow.accept()  # the gateway is fetching, and this server never answers
        with fetch:
            fetch.settimeout(3)
            start = time.monotonic()
            while fetch.recv(4096):
                pass
            assert time.monotonic() - start < 3, "the fetch went on although nobody waited"
    assert client.get("/readyz").status_code == 200


def test_metrics_and_readiness(stack: Stack, client: httpx2.Client) -> None:
    picture = base64.b64encode(encoded(shape("a red circle"))).decode()
    client.post("/v1/classify", json={"images": [{"base64": picture}], "labels": list(LABELS)})
    nothing: dict[str, Any] = {"failing": [], "degraded": [], "reasons": [], "causes": {}}
    assert client.get("/readyz").json() == {"status": "ready", **nothing, "tritons": {"up": 1, "of": 1}}
    text = client.get("/metrics").text
    assert 'gateway_inference_batch_size_bucket{le="1.0",model="clip_image"}' in text
    assert "gateway_ready 1.0" in text
    assert "nv_inference_count" in httpx2.get(f"{stack.triton_metrics_url}/metrics").text
