"""A gateway that reaches a Triton of bad pictures over a line, and what tests that break them ask of it."""

from __future__ import annotations

import base64
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from tests.support.backends import Behind, Gateway
from tests.support.drawings import encoded, shape
from tests.support.fault_table import FaultLog
from tests.support.severable_tcp import Line
from tests.support.waiting import until

DEADLINE_S = 3.0
STORE_TIMEOUT_S = 1.0
GOOD = encoded(shape("a red circle"))
LABELS = ["a red circle", "a blue square"]


@dataclass
class Rig:
    """A gateway that reaches its Triton over a line, and where it keeps its data."""

    gateway: Gateway
    triton: Behind
    line: Line
    client: httpx2.Client
    mounted: bool

    def ready(self) -> None:
        """Have everything run, and nothing of what went before."""
        self.triton.start()
        self.gateway.wait()
        until(self.triton.idle)

    @property
    def database(self) -> Path:
        return self.gateway.data_dir / "gateway.sqlite"


def classify(client: httpx2.Client, picture: bytes = GOOD, labels: list[str] | None = None) -> httpx2.Response:
    return client.post("/v1/classify", files={"file": picture}, data={"labels": labels or LABELS, "views": "full"})


def moderate(client: httpx2.Client, picture: bytes = GOOD, policy: str = "default") -> httpx2.Response:
    return client.post("/v1/moderate", files={"file": picture}, data={"policy": policy})


def embed(client: httpx2.Client, picture: bytes = GOOD) -> httpx2.Response:
    image = {"base64": base64.b64encode(picture).decode()}
    return client.post("/v1/embeddings", json={"input": [{"image": image}]})


def moderations(client: httpx2.Client, picture: bytes = GOOD) -> httpx2.Response:
    url = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
    return client.post("/v1/moderations", json={"input": [{"type": "image_url", "image_url": {"url": url}}]})


ENDPOINTS: dict[str, Callable[[httpx2.Client, bytes], httpx2.Response]] = {
    "classify": classify,
    "moderate": moderate,
    "embeddings": embed,
    "moderations": moderations,
}


def under_way(
    rig: Rig, pool: ThreadPoolExecutor, ask: Callable[..., httpx2.Response], *arguments: Any
) -> Future[httpx2.Response]:
    """Ask about a picture that takes its time, and return once its inference runs: nothing meets it in its batch."""
    before = rig.triton.begun()
    asked = pool.submit(ask, *arguments)
    until(lambda: asked.done() or rig.triton.begun() > before)
    return asked


def everywhere(rig: Rig, picture: bytes = GOOD) -> dict[str, httpx2.Response]:
    """Send a picture to every endpoint at once."""
    with ThreadPoolExecutor(len(ENDPOINTS)) as pool:
        sent = {name: pool.submit(ask, rig.client, picture) for name, ask in ENDPOINTS.items()}
        return {name: answer.result() for name, answer in sent.items()}


def no_verdict(answer: httpx2.Response) -> bool:
    """Whether an answer tells nothing about a picture."""
    return not {"results", "data", "flagged", "decision", "scores", "embedding"} & set(answer.json())


def expect_everywhere(faults: FaultLog, number: int, what: str, rig: Rig, allowed: str, picture: bytes = GOOD) -> None:
    for name, answer in everywhere(rig, picture).items():
        faults.expect(number, f"{what}: {name}", answer, allowed)
        assert no_verdict(answer)
        if allowed.startswith("503"):
            assert int(answer.headers["retry-after"]) >= 1
    assert rig.gateway.status("/livez") == 200


def expect_recovery(faults: FaultLog, number: int, what: str, rig: Rig) -> None:
    rig.gateway.wait(200)
    for name, answer in everywhere(rig).items():
        faults.expect(number, f"{what}, and then: {name}", answer, "200")
