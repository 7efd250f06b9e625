"""Several server processes on one port: what each client, each limit and each number gets of them."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import psutil
import pytest

from gateway.errors import Overloaded
from gateway.limits import Admission, BodyLimits
from gateway.member import Member, Tallies, member
from gateway.settings import Settings
from gateway.telemetry import FOLDER_PREFIX, clear_leftovers
from gateway.text_shelf import TextShelf
from tests.conftest import ROOT, Stack
from tests.drawings import encoded, shape
from tests.gateways import more_gateways
from tests.waiting import UNTIL_S, until

COUNT = 3
WAIT_S = UNTIL_S


@dataclass(frozen=True)
class Gateway:
    """A gateway of several processes: where it is, and the process above them."""

    address: str
    process: psutil.Process

    @property
    def members(self) -> list[psutil.Process]:
        return sorted(self.process.children(), key=lambda child: child.pid)

    def connection(self) -> http.client.HTTPConnection:
        """A connection of its own, kept alive."""
        host, _, port = self.address.removeprefix("http://").partition(":")
        made = http.client.HTTPConnection(host, int(port), timeout=WAIT_S)
        made.connect()
        return made

    def metric(self, pattern: str) -> float:
        """The sum of the samples whose line matches."""
        lines = httpx2.get(f"{self.address}/metrics").text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if re.match(pattern, line))


@contextmanager
def running(stack: Stack, folder: Path, count: int, **environment: str) -> Iterator[Gateway]:
    before = {child.pid for child in psutil.Process().children()}
    with more_gateways(stack, 1, folder, GATEWAY_PROCESSES=str(count), **environment) as (address,):
        (process,) = [child for child in psutil.Process().children() if child.pid not in before]
        yield Gateway(address, process)


@pytest.fixture(scope="module")
def many(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("many")
    with running(stack, folder, COUNT, TMPDIR=str(folder)) as gateway:
        yield gateway


def ask(connection: http.client.HTTPConnection, path: str = "/livez") -> tuple[int, bytes]:
    connection.request("GET", path)
    return answer(connection)


def answer(connection: http.client.HTTPConnection) -> tuple[int, bytes]:
    got = connection.getresponse()
    return got.status, got.read()


def loads(gateway: Gateway) -> list[int]:
    """How many connections each process has open."""
    port = int(gateway.address.rpartition(":")[2])
    found = [process.net_connections("tcp") for process in gateway.members]
    return [sum(c.laddr.port == port and c.status == psutil.CONN_ESTABLISHED for c in each) for each in found]


def test_every_process_gets_as_many_connections(many: Gateway) -> None:
    until(lambda: sum(loads(many)) == 0)
    with contextlib.ExitStack() as held:
        connections = [held.enter_context(contextlib.closing(many.connection())) for _ in range(4 * COUNT)]
        assert {ask(connection)[0] for connection in connections} == {200}
        assert loads(many) == [4] * COUNT
        # Who leaves makes room where he was: the next ones go there.
        for connection in connections[::COUNT]:
            connection.close()
        until(lambda: sum(loads(many)) == 4 * (COUNT - 1))
        more = [held.enter_context(contextlib.closing(many.connection())) for _ in range(4)]
        assert {ask(connection)[0] for connection in more} == {200}
        assert loads(many) == [4] * COUNT


def test_metrics_are_those_of_all_processes(many: Gateway) -> None:
    count = r'gateway_requests_total\{method="GET",route="/v1/models",status="200"\}'
    before = many.metric(count)
    with contextlib.ExitStack() as held:
        for _ in range(2 * COUNT):
            connection = held.enter_context(contextlib.closing(many.connection()))
            assert ask(connection, "/v1/models")[0] == 200
            connection.request("GET", "/metrics")  # whichever process is asked
            answer(connection)
        assert {many.metric(count) for _ in range(COUNT)} == {before + 2 * COUNT}
    assert many.metric("gateway_ready ") == 1
    assert many.metric("gateway_requests_in_flight ") == 0


def test_what_one_process_saved_another_reads_at_once(many: Gateway) -> None:
    body = json.dumps({"labels": ["a red circle", "a blue square"]})
    with contextlib.ExitStack() as held:
        writer, *readers = [held.enter_context(contextlib.closing(many.connection())) for _ in range(COUNT)]
        writer.request("PUT", "/v1/classifiers/shared", body, {"Content-Type": "application/json"})
        assert answer(writer)[0] == 201
        for reader in readers:
            status, found = ask(reader, "/v1/classifiers/shared")
            assert (status, json.loads(found)["version"]) == (200, 1)
    picture = encoded(shape("a red circle"))
    for _ in range(COUNT):  # each over a connection of its own, and so in another process
        with httpx2.Client(base_url=many.address, timeout=WAIT_S) as client:
            got = client.post("/v1/classify", files={"file": picture}, data={"classifier": "shared"})
        assert got.json()["results"][0]["scores"][0]["label"] == "a red circle"


def one_each(gateway: Gateway, held: contextlib.ExitStack) -> list[http.client.HTTPConnection]:
    """Return a connection to each process: each goes where the fewest are, once those of other tests have ended."""
    made: list[http.client.HTTPConnection] = []

    def is_spread() -> bool:
        for connection in made:
            connection.close()
        made[:] = [gateway.connection() for _ in range(COUNT)]
        return {ask(connection)[0] for connection in made} == {200} and loads(gateway) == [1] * COUNT

    until(lambda: sum(loads(gateway)) == 0)
    until(is_spread)
    for connection in made:
        held.enter_context(contextlib.closing(connection))
    return made


def send_json(connection: http.client.HTTPConnection, method: str, path: str, body: dict[str, Any]) -> Any:
    connection.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
    status, said = answer(connection)
    assert status in {200, 201}, said
    return json.loads(said)


def test_what_one_process_computed_another_takes_over(many: Gateway) -> None:
    missed, hit = (f'gateway_text_cache_lookups_total{{outcome="{outcome}"' for outcome in ("miss", "hit"))

    def counted(connection: http.client.HTTPConnection) -> tuple[float, ...]:
        lines = ask(connection, "/metrics")[1].decode().splitlines()
        misses, hits = (
            sum(float(line.split()[-1]) for line in lines if re.match(what, line)) for what in (missed, hit)
        )
        return misses, hits

    with contextlib.ExitStack() as held:
        connections = one_each(many, held)
        words = {"labels": ["a red circle", "a blue square"]}
        send_json(connections[0], "PUT", "/v1/classifiers/words", words)
        # To save a policy a process takes over all that others have saved. From then on nothing is saved but policies
        # on classifiers that it knows, and so nothing looks words up but what is asked here.
        rule = {"category": "red", "classifier": "words", "labels": ["a red circle"], "block_at": 0.5}
        for number, connection in enumerate(connections):
            send_json(connection, "PUT", f"/v1/policies/words-{number}", {"rules": [rule]})
        for number in range(4 * COUNT):
            body = {"input": [f"a text that nobody has sent before {number}"]}
            first = number % COUNT  # whichever process is asked first
            before = counted(connections[0])
            found = set()
            for connection in connections[first:] + connections[:first]:
                found.add(str(send_json(connection, "POST", "/v1/embeddings", body)["data"][0]["embedding"]))
            assert len(found) == 1
            misses, hits = counted(connections[0])
            assert (misses - before[0], hits - before[1]) == (1, COUNT - 1)


def test_one_that_dies_is_replaced_and_takes_only_its_own_along(many: Gateway) -> None:
    starts = many.metric("gateway_process_starts_total ")
    answered = r"gateway_requests_total\{"
    with contextlib.ExitStack() as held:
        until(lambda: sum(loads(many)) == 0)
        connections = [held.enter_context(contextlib.closing(many.connection())) for _ in range(2 * COUNT)]
        assert {ask(connection)[0] for connection in connections} == {200}
        before = many.metric(answered)
        victim = many.members[0]
        victim.send_signal(signal.SIGSTOP)  # so that connections are on their way to it when it ends
        waiting = [held.enter_context(contextlib.closing(many.connection())) for _ in range(COUNT)]
        for connection in waiting:
            connection.request("GET", "/livez")
        victim.kill()
        assert {answer(connection)[0] for connection in waiting} == {200}
        lost = 0
        for connection in connections:
            try:
                assert ask(connection)[0] == 200
            except (ConnectionError, http.client.HTTPException):
                lost += 1
        assert lost == 2
    until(lambda: many.metric("gateway_process_starts_total ") == starts + 1)
    until(lambda: len(many.members) == COUNT)
    assert victim not in many.members
    assert many.metric(answered) > before  # what the dead one had counted is kept
    until(lambda: many.metric("gateway_ready ") == 1)


def test_a_stop_is_announced_and_leaves_nothing(stack: Stack, tmp_path: Path) -> None:
    with running(stack, tmp_path, 2, SHUTDOWN_DELAY_S="60", TMPDIR=str(tmp_path)) as gateway:
        assert len(list(tmp_path.glob(f"{FOLDER_PREFIX}*/*.db"))) == 2 * 4
        below = gateway.process.children(recursive=True)
        with contextlib.closing(gateway.connection()) as kept:
            assert ask(kept)[0] == 200
            gateway.process.send_signal(signal.SIGTERM)
            until(lambda: httpx2.get(f"{gateway.address}/readyz").json()["failing"] == ["draining"])
            assert ask(kept)[0] == 200  # the door is open until the delay is over
            gateway.process.send_signal(signal.SIGTERM)  # or until somebody is in a hurry
        _, left = psutil.wait_procs([gateway.process, *below], timeout=WAIT_S)
        assert not left
        assert gateway.process.wait() == 0
    assert not list(tmp_path.glob(f"{FOLDER_PREFIX}*"))


def test_nothing_outlives_a_supervisor_that_is_killed(many: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    below = many.process.children(recursive=True)
    assert len(below) > 2 * COUNT  # each with its decoders
    folder = Path(many.process.environ()["TMPDIR"])
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    clear_leftovers()
    assert len(list(folder.glob(f"{FOLDER_PREFIX}*"))) == 1  # in use
    many.process.kill()
    _, left = psutil.wait_procs([many.process, *below], timeout=WAIT_S)
    assert not left
    clear_leftovers()  # as the next gateway does when it starts
    assert not list(folder.glob(f"{FOLDER_PREFIX}*"))


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"MODEL_REPOSITORY": "/nowhere"}, "/nowhere"),
        ({"GATEWAY_PORT": "1", "GATEWAY_HOST": "203.0.113.1", "GATEWAY_ALLOW_OPEN": "true"}, "cannot listen on"),
    ],
)
def test_what_cannot_start_says_why_once(stack: Stack, tmp_path: Path, environment: dict[str, str], said: str) -> None:
    settings = {"MODEL_REPOSITORY": str(stack.model_repository), "DATA_DIR": str(tmp_path), "GATEWAY_PROCESSES": "3"}
    run = subprocess.run(
        [sys.executable, "-m", "gateway"],
        cwd=ROOT,
        env={**os.environ, **settings, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=WAIT_S,
    )
    assert run.returncode == 2
    assert len(run.stderr.splitlines()) == 1
    assert said in run.stderr


def test_a_process_that_cannot_start_ends_all() -> None:
    code = (
        "import socket, sys, time\n"
        "from gateway.member import Tallies, member\n"
        "from gateway.supervisor import Ending, Supervisor\n"
        "def serve(place, channel):\n"
        "    if place.index == 1:\n"
        "        return 7\n"
        "    channel.send(b'S')\n"
        "    time.sleep(60)\n"
        "tallies = Tallies(2)\n"
        "places = [member(tallies, index, 2, None) for index in range(2)]\n"
        "listener = socket.create_server(('127.0.0.1', 0))\n"
        "sys.exit(Supervisor(places, [listener], serve, tallies.forget, Ending(60, 60)).run())\n"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False, timeout=WAIT_S)
    assert run.returncode == 7


@pytest.fixture
def places() -> list[Member]:
    tallies = Tallies(COUNT)
    return [member(tallies, index, COUNT, None) for index in range(COUNT)]


def test_limits_hold_for_all_processes_together(places: list[Member]) -> None:
    seen: list[int] = []
    first, second, _ = (Admission(2, BodyLimits(1000, 1000, 1.0), seen.append, place) for place in places)
    with first.request() as one, second.request() as other:
        one.grow_to(600)
        one.begin()
        other.begin()
        for admission in (first, second):
            with pytest.raises(Overloaded):
                admission.check_room()
        with pytest.raises(Overloaded):
            other.grow_to(401)
        other.grow_to(400)
    second.check_room()
    assert seen == [1, 1, 0, 0]  # each tells of its own


def test_shares_add_up(places: list[Member]) -> None:
    settings = Settings(decode_workers=8, decode_memory_mib=1000, view_memory_mib=256, fetch_concurrency=2)
    parts: list[Any] = [settings.part_of(place) for place in places]
    assert [part.decode_workers for part in parts] == [3, 3, 2]
    assert sum(part.decode_memory_mib for part in parts) == 1000
    assert sum(part.view_memory_mib for part in parts) == 256
    assert [part.fetch_concurrency for part in parts] == [1, 1, 1]  # none can do without
    assert [part.decision_retention_days for part in parts] == [90, 0, 0]  # done once for all


def test_a_vector_is_found_by_its_prompt_and_model_alone() -> None:
    shelf = TextShelf(1, most_dim=4)  # one place
    one, other = shelf.of("model a"), shelf.of("model b")
    vector = np.arange(4, dtype=np.float32)
    one.put("a cat", vector)
    found = one.get("a cat")
    assert found is not None
    np.testing.assert_array_equal(found, vector)
    assert one.get("a dog") is None
    assert other.get("a cat") is None
    one.put("a dog", np.zeros(5, np.float32))  # too long: not kept
    assert one.get("a dog") is None
    other.put("a cat", vector + 1)  # the place is another's now
    assert one.get("a cat") is None


def test_a_vector_that_is_being_written_is_not_there() -> None:
    shelf = TextShelf(1, most_dim=4)
    shelf.put("a cat", np.ones(4, np.float32))
    memory = memoryview(shelf._memory)
    memory[-1] ^= 1
    assert shelf.get("a cat") is None
    memory[-1] ^= 1
    assert shelf.get("a cat") is not None
    memory.release()


def test_a_process_that_ended_counts_no_more() -> None:
    tallies = Tallies(2)
    one, other = (member(tallies, index, 2, None) for index in range(2))
    one.requests.add(3)
    other.requests.add(4)
    tallies.forget(0)
    assert (one.requests.own, other.requests.total()) == (0, 4)
