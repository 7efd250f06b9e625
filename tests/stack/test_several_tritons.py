"""Three real Tritons on loopback addresses under load: one dies, freezes, or is swapped for another bundle."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from scripts.failover import Clients
from scripts.triton.staged import StagedTriton, another_bundle
from tests.conftest import free_ports
from tests.support.backends import Gateway
from tests.support.waiting import until

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(400)]

CLIENTS = 6
ENOUGH = 60  # good answers


@dataclass
class Several:
    """Three Tritons, the gateway in front of them, and clients that never rest."""

    tritons: list[StagedTriton]
    gateway: Gateway
    clients: Clients
    other: Path

    def states(self) -> dict[str, Any]:
        """Return whether each is up, by host."""
        said = self.gateway.get("/v1/status").json()["tritons"]
        return {one["address"].split(":")[0]: one["up"] for one in said}

    def reason(self, triton: StagedTriton) -> str:
        """Return why the gateway does not ask a Triton."""
        said = self.gateway.get("/v1/status").json()["tritons"]
        return next(one["reason"] or "" for one in said if one["address"] == triton.address)

    def work(self) -> None:
        """Let the clients get a number of good answers."""
        had = self.clients.answers()["200"]
        until(lambda: self.clients.answers()["200"] > had + ENOUGH, self.gateway.tail)

    def failures(self) -> int:
        """Return how many requests failed since ``clients.begin``, once sure that none was answered by another bundle.

        Each client may fail once and no more: what a Triton leaves unanswered is asked again elsewhere.
        """
        answers = self.clients.answers()
        assert set(answers) <= {"200", "503 model_unavailable"}, answers
        failed = sum(answers.values()) - answers["200"]
        assert failed <= CLIENTS, answers
        return failed

    def counted(self) -> int:
        """Return how many errors the gateway has counted."""
        return self.metric("gateway_errors_total")

    def metric(self, name: str) -> int:
        """Return the sum of a metric's samples."""
        found = re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", self.gateway.get("/metrics").text, re.MULTILINE)
        return int(sum(map(float, found)))


@pytest.fixture(scope="module")
def rig(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Several]:
    folder = tmp_path_factory.mktemp("several")
    with ExitStack() as exits:
        ports = free_ports(4)
        tritons = []
        for number in (1, 2, 3):
            triton = StagedTriton(f"127.0.0.{number}", ports[:3], folder / f"triton-{number}", bundle)
            exits.callback(triton.kill)
            tritons.append(triton.start())
        other = another_bundle(bundle, folder / "another")
        for triton in tritons:
            triton.wait_ready()
        settings = {"TRITON_ADDRESSES": ",".join(triton.address for triton in tritons), "MODEL_REPOSITORY": str(bundle)}
        gateway = Gateway(folder, ports[3], **settings)
        exits.callback(gateway.stop)
        gateway.wait()
        clients = Clients(gateway.url, CLIENTS)
        exits.callback(clients.end)
        yield Several(tritons, gateway, clients, other)


@pytest.fixture
def several(rig: Several) -> Several:
    """All are up."""
    until(lambda: all(rig.states().values()) and len(rig.states()) == len(rig.tritons), rig.gateway.tail)
    rig.clients.begin()
    return rig


def test_each_gets_its_share(several: Several) -> None:
    before = [triton.inferences() for triton in several.tritons]
    several.work()
    several.work()
    made = [triton.inferences() - had for triton, had in zip(several.tritons, before, strict=True)]
    assert min(made) >= sum(made) / 10, made
    assert several.failures() == 0
    assert several.gateway.readiness()["tritons"] == {"up": 3, "of": 3}


def test_one_is_killed_swapped_for_another_bundle_and_comes_back(several: Several) -> None:
    struck, counted = several.tritons[0], several.counted()
    ours = struck.repository
    struck.kill()
    until(lambda: not several.states()[struck.host])
    several.work()
    said = several.gateway.readiness()
    assert (said["status"], said["degraded"], said["tritons"]) == ("degraded", ["tritons"], {"up": 2, "of": 3})
    struck.start(several.other).wait_ready()
    before = struck.inferences()
    several.work()
    until(lambda: "another bundle" in several.reason(struck))
    assert struck.inferences() == before, "it was asked for no picture"
    struck.kill()
    struck.start(ours).wait_ready()
    until(lambda: several.states()[struck.host])
    before = struck.inferences()
    several.work()
    assert struck.inferences() > before
    failed = several.failures()
    assert several.counted() - counted >= failed


def test_one_freezes_and_wakes_up(several: Several) -> None:
    frozen = several.tritons[1]
    frozen.signal(signal.SIGSTOP)
    try:
        until(lambda: not several.states()[frozen.host])
        several.work()
    finally:
        frozen.signal(signal.SIGCONT)
    until(lambda: several.states()[frozen.host])
    several.failures()  # none of them a 504: it cost no request its deadline
    assert several.metric("gateway_triton_up") == len(several.tritons)
    assert several.metric("gateway_triton_retries_total") > 0
