"""Several gateways on one port: what a client notices of one that dies, hangs or leaves."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import psutil
import pytest

from gateway.inference.bundle import MANIFEST_NAME, TOKENIZER_NAME
from gateway.settings import MIB, Settings
from tests.conftest import ROOT, Stack, free_ports
from tests.support.waiting import UNTIL_S, until

pytestmark = pytest.mark.heavy  # processes that start and stop

COUNT = 3


@dataclass(frozen=True)
class Gateways:
    """Several gateways: where they are, and the launcher above them."""

    port: int
    launcher: psutil.Popen
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def replicas(self) -> list[psutil.Process]:
        found = [child for child in self.launcher.children() if child.status() != psutil.STATUS_ZOMBIE]
        return [child for child in found if child.cmdline()[1:3] == ["-m", "gateway"]]

    @property
    def own_ports(self) -> list[int]:
        """Where each answers for itself."""
        return [int(port) for port in re.findall(r"one replica +http://127\.0\.0\.1:(\d+)/metrics", self.tail())]

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-6000:]

    def connection(self) -> http.client.HTTPConnection:
        """A connection of its own, kept alive."""
        made = http.client.HTTPConnection("127.0.0.1", self.port, timeout=UNTIL_S)
        made.connect()
        return made

    def loads(self) -> list[int]:
        """How many connections each has open."""
        found = [process.net_connections("tcp") for process in self.replicas]
        return [sum(c.laddr.port == self.port and c.status == psutil.CONN_ESTABLISHED for c in each) for each in found]


def launched(stack: Stack, log: Path, **environment: str) -> psutil.Popen:
    """The launcher, in front of the suite's Triton."""
    settings = {
        "TRITON_GRPC_PORT": stack.triton_grpc_address.split(":")[1],
        "MODEL_REPOSITORY": str(stack.model_repository),
        "DATA_DIR": str(log.parent),
        "REPLICAS": str(COUNT),
        "LOG_LEVEL": "warning",
        **environment,
    }
    with log.open("wb") as output:
        return psutil.Popen(
            [sys.executable, "-m", "scripts.serve", "--no-triton"],
            cwd=ROOT,
            env={**os.environ, **settings},
            stdout=output,
            stderr=output,
        )


@contextmanager
def running(stack: Stack, folder: Path, **environment: str) -> Iterator[Gateways]:
    """Gateways that are ready."""
    (port,) = free_ports(1)
    launcher = launched(stack, folder / "serve.log", GATEWAY_PORT=str(port), **environment)
    gateways = Gateways(port, launcher, folder / "serve.log")
    try:
        until(lambda: "ready; Ctrl-C" in gateways.tail(), gateways.tail)
        yield gateways
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):  # a test has ended it
            launcher.terminate()
        launcher.wait(UNTIL_S)


@pytest.fixture(scope="module")
def gateways(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateways]:
    with running(stack, tmp_path_factory.mktemp("replicas")) as made:
        yield made


def ask(connection: http.client.HTTPConnection, path: str = "/livez") -> int:
    connection.request("GET", path)
    got = connection.getresponse()
    got.read()
    return got.status


def requests_of(port: int) -> float:
    """How many requests for /v1/models a gateway has counted."""
    lines = httpx2.get(f"http://127.0.0.1:{port}/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if re.match(r'gateway_requests_total.*"/v1/models"', line))


class Load:
    """Clients over fresh and kept connections; a kept one is closed when the server says so.

    Attributes:
        answered: with 200.
        failed: what each other request got.
    """

    def __init__(self, gateways: Gateways) -> None:
        self.answered = 0
        self.failed: list[str] = []
        self._gateways = gateways
        self._ended = threading.Event()
        kinds: list[Callable[[], None]] = [self._fresh, self._kept, self._kept_with_pauses]
        self._threads = [threading.Thread(target=kind) for kind in 2 * kinds]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _fresh(self) -> None:
        while not self._ended.is_set():
            self._asked(self._gateways.connection(), closing=True)

    def _kept_with_pauses(self) -> None:
        self._kept(0.2)

    def _kept(self, pause_s: float = 0.0) -> None:
        connection = None
        while not self._ended.wait(pause_s):
            connection = self._asked(connection or self._gateways.connection())
        if connection is not None:
            connection.close()

    def _asked(
        self, connection: http.client.HTTPConnection, *, closing: bool = False
    ) -> http.client.HTTPConnection | None:
        """Ask; return the connection where it may be asked again."""
        try:
            connection.request("GET", "/v1/models", headers={"Connection": "close"} if closing else {})
            got = connection.getresponse()
            got.read()
        except (OSError, http.client.HTTPException) as error:
            self.failed.append(repr(error))
            connection.close()
            return None
        if got.status == 200:
            self.answered += 1
        else:
            self.failed.append(str(got.status))
        if got.will_close:
            connection.close()
            return None
        return connection


def test_each_gets_its_part_of_the_connections_and_counts_its_own_requests(gateways: Gateways) -> None:
    assert len(gateways.own_ports) == COUNT
    before = [requests_of(port) for port in gateways.own_ports]
    until(lambda: sum(gateways.loads()) == 0)
    with ExitStack() as held:
        connections = [held.enter_context(contextlib.closing(gateways.connection())) for _ in range(16 * COUNT)]
        assert {ask(connection, "/v1/models") for connection in connections} == {200}
        assert max(gateways.loads()) < 3 * 16, gateways.loads()
        counted = [requests_of(port) - first for port, first in zip(gateways.own_ports, before, strict=True)]
        assert sorted(counted) == sorted(gateways.loads())
    assert httpx2.get(f"http://127.0.0.1:{gateways.own_ports[0]}/readyz").status_code == 200


def test_one_that_dies_is_replaced_and_takes_only_its_own_connections_along(gateways: Gateways) -> None:
    before = {replica.pid for replica in gateways.replicas}
    until(lambda: sum(gateways.loads()) == 0)
    with ExitStack() as held:
        connections = [held.enter_context(contextlib.closing(gateways.connection())) for _ in range(8 * COUNT)]
        assert {ask(connection) for connection in connections} == {200}
        theirs = gateways.loads()
        gateways.replicas[0].kill()
        failed = 0
        for connection in connections:
            try:
                assert ask(connection) == 200
            except (ConnectionError, http.client.HTTPException):
                failed += 1
        assert failed == theirs[0]
        for _ in range(20):  # and who comes meanwhile is answered
            with contextlib.closing(gateways.connection()) as fresh:
                assert ask(fresh) == 200
    until(lambda: len(gateways.replicas) == COUNT, gateways.tail)
    assert len({replica.pid for replica in gateways.replicas} - before) == 1
    until(lambda: all(answers(port) for port in gateways.own_ports), gateways.tail)


def answers(port: int) -> bool:
    """Whether a gateway says that it is ready."""
    with contextlib.suppress(httpx2.TransportError):
        return httpx2.get(f"http://127.0.0.1:{port}/readyz", timeout=1).status_code == 200
    return False


@pytest.mark.heavy
def test_one_that_hangs_is_replaced(gateways: Gateways) -> None:
    hung = gateways.replicas[0]
    hung.send_signal(signal.SIGSTOP)
    load = Load(gateways)
    until(lambda: not hung.is_running() or hung.status() == psutil.STATUS_ZOMBIE, gateways.tail)
    until(lambda: len(gateways.replicas) == COUNT, gateways.tail)
    load.end()
    assert load.failed == []
    assert load.answered > 100
    assert "does not answer" in gateways.tail()


@pytest.mark.heavy
def test_a_rolling_restart_fails_no_request(gateways: Gateways) -> None:
    until(lambda: all(answers(port) for port in gateways.own_ports), gateways.tail)
    before = {replica.pid for replica in gateways.replicas}
    load = Load(gateways)
    gateways.launcher.send_signal(signal.SIGUSR1)
    until(lambda: "all are replaced" in gateways.tail(), gateways.tail)
    until(lambda: len(gateways.replicas) == COUNT, gateways.tail)
    time.sleep(1.0)
    load.end()
    assert load.failed == []
    assert load.answered > 1000
    assert not before & {replica.pid for replica in gateways.replicas}


@pytest.mark.heavy
def test_a_rolling_restart_that_cannot_start_anything_leaves_all_as_it_was(stack: Stack, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    for name in (MANIFEST_NAME, TOKENIZER_NAME):
        shutil.copy(stack.model_repository / name, bundle)
    with running(stack, tmp_path, MODEL_REPOSITORY=str(bundle), REPLICAS="1", SHUTDOWN_DELAY_S="0") as gateways:
        before = [replica.pid for replica in gateways.replicas]
        (bundle / MANIFEST_NAME).unlink()
        gateways.launcher.send_signal(signal.SIGUSR1)
        until(lambda: "rolling restart given up" in gateways.tail(), gateways.tail)
        assert [replica.pid for replica in gateways.replicas] == before
        assert httpx2.get(f"{gateways.url}/readyz").status_code == 200


def test_a_stop_is_announced_and_ends_all(stack: Stack, tmp_path: Path) -> None:
    with running(stack, tmp_path, SHUTDOWN_DELAY_S="60", REPLICAS="2") as gateways:
        below = gateways.launcher.children(recursive=True)
        assert len(below) > 2 * 2  # each with its decoders
        with contextlib.closing(gateways.connection()) as kept:
            assert ask(kept) == 200
            gateways.launcher.terminate()
            until(lambda: httpx2.get(f"{gateways.url}/readyz").json()["failing"] == ["draining"])
            assert ask(kept) == 200  # the door is open until the delay is over
            gateways.launcher.terminate()  # or until somebody is in a hurry
        _, left = psutil.wait_procs([gateways.launcher, *below], timeout=UNTIL_S)
        assert not left
        assert gateways.launcher.wait() == 0


def test_nothing_outlives_a_launcher_that_is_killed(stack: Stack, tmp_path: Path) -> None:
    with running(stack, tmp_path, SHUTDOWN_DELAY_S="0", REPLICAS="2") as gateways:
        below = gateways.launcher.children(recursive=True)
        gateways.launcher.kill()
        _, left = psutil.wait_procs([gateways.launcher, *below], timeout=UNTIL_S)
        assert not left


@pytest.mark.parametrize(
    ("environment", "code", "said"),
    [
        ({"MODEL_REPOSITORY": "/nowhere"}, 2, "/nowhere"),
        ({"MAX_LABELS": "none"}, 2, "MAX_LABELS is not valid"),
        ({"REPLICAS": "many"}, 1, "REPLICAS=many is no number"),
    ],
)
def test_what_cannot_start_ends_all_and_says_why(
    stack: Stack, tmp_path: Path, environment: dict[str, str], code: int, said: str
) -> None:
    log = tmp_path / "log"
    launcher = launched(stack, log, GATEWAY_PORT=str(free_ports(1)[0]), **environment)
    assert launcher.wait(UNTIL_S) == code
    assert said in log.read_text()


def test_a_port_that_is_taken_is_named(stack: Stack, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with socket.create_server(("127.0.0.1", port)):
        launcher = launched(stack, tmp_path / "log", GATEWAY_PORT="1", GATEWAY_METRICS_PORT=str(port - 1))
        assert launcher.wait(UNTIL_S) == 1
    assert "cannot be used" in (tmp_path / "log").read_text()


def test_what_protects_the_machine_is_divided() -> None:
    whole = Settings(
        decode_workers=8,
        decode_memory_mib=1000,
        fetch_concurrency=2,
        max_bytes_in_flight=512 * MIB,
        max_body_bytes=10 * MIB,
        gateway_replicas=4,
    )
    part = whole.part()
    assert (part.decode_workers, part.decode_memory_mib, part.view_memory_mib) == (2, 250, 64)
    assert (part.upload_room_mib, part.max_bytes_in_flight) == (4, 128 * MIB)
    assert part.fetch_concurrency == 1  # none can do without
    assert part.max_requests_in_flight == whole.max_requests_in_flight  # each one's own
    assert whole.model_copy(update={"gateway_replicas": 64}).part().max_bytes_in_flight == 30 * MIB  # the largest body
    assert Settings(decode_workers=3).part() == Settings(decode_workers=3)
