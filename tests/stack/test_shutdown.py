"""Fault 102: a real gateway is told to end, under load and before anything is ready."""

from __future__ import annotations

import signal
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from tests.conftest import Stack, free_ports
from tests.support.backends import Gateway
from tests.support.fault_rig import Rig, moderate, under_way
from tests.support.fault_table import FaultLog
from tests.support.misbehaving_models import slow, solid
from tests.support.raw_http import Upload
from tests.support.waiting import until

pytest_plugins = ["tests.support.fault_rig_fixtures"]


class Load:
    """Clients that ask for decisions all the while, until what stands before the gateways would send them elsewhere."""

    def __init__(self, gateway: Gateway, clients: int) -> None:
        self.turned_away = threading.Event()
        self.decided: list[str] = []
        self.wrong: list[str] = []
        self.closing: list[bool] = []
        self._gateway = gateway
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        with httpx2.Client(base_url=self._gateway.url, timeout=30) as client:
            while not self.turned_away.is_set():
                try:
                    self.note(moderate(client))
                except httpx2.HTTPError as error:
                    self.wrong.append(repr(error))

    def note(self, answer: httpx2.Response) -> None:
        self.closing.append(answer.headers.get("connection") == "close")
        if answer.status_code == 200:
            self.decided += [result["decision_id"] for result in answer.json()["results"]]
        else:
            self.wrong.append(answer.text)


@pytest.mark.timeout(240)
@pytest.mark.heavy
def test_102_sigterm_under_load(ready: Rig, tmp_path: Path, faults: FaultLog) -> None:
    gateway = Gateway(
        tmp_path,
        free_ports(1)[0],
        TRITON_GRPC_PORT=str(ready.triton.settings.grpc_port),
        MODEL_REPOSITORY=str(ready.triton.repository),
        SHUTDOWN_DELAY_S="5",
    )
    try:
        gateway.wait(200)
        load = Load(gateway, 4)
        until(lambda: len(load.decided) > 20)
        upload = Upload(gateway.port, solid((0, 0, 0)))
        with ThreadPoolExecutor(2) as pool, httpx2.Client(base_url=gateway.url, timeout=30) as client:
            late = [under_way(ready, pool, moderate, client, solid(slow(12))) for _ in range(2)]
            gateway.process.send_signal(signal.SIGTERM)
            until(lambda: gateway.status() != 200)
            said = gateway.get("/readyz")
            faults.expect(102, "SIGTERM under load: readyz, before anything is refused", said, "503")
            assert said.json()["failing"] == ["draining"]
            still = len(load.decided)
            until(lambda: len(load.decided) > still)  # served all the while
            load.turned_away.set()
            load.end()
            until(lambda: gateway.status("/livez") == 0)  # the door is shut
            assert gateway.process.poll() is None
            load.note(upload.finish())
            for answer in late:
                load.note(answer.result())
        assert gateway.process.wait(30) == 0
    finally:
        gateway.stop()
    assert load.wrong == []
    assert any(load.closing)
    with sqlite3.connect(gateway.data_dir / "gateway.sqlite") as database:
        logged = {row[0] for row in database.execute("SELECT id FROM decisions")}
    database.close()
    assert set(load.decided) <= logged
    lost = len(load.wrong) + len(set(load.decided) - logged)
    faults.expect(102, "SIGTERM under load: accepted requests", f"{lost} lost, exit code 0", "0 lost, exit code 0")


def test_102_sigterm_before_anything_is_ready(stack: Stack, tmp_path: Path, faults: FaultLog) -> None:
    gateway = Gateway(tmp_path, free_ports(1)[0], TRITON_GRPC_PORT="1", MODEL_REPOSITORY=str(stack.model_repository))
    gateway.wait(200, "/livez")
    faults.expect(102, "SIGTERM before Triton was ever there", f"exit code {gateway.stop()}", "exit code 0")
