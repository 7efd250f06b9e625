"""Triton, the line to it and the store misbehave behind a real gateway; and the gateway itself is told to end."""

from __future__ import annotations

import base64
import json
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from gateway.bundle import MANIFEST_NAME
from tests.behind import BAD_WORD, NAN, QUEUE, RAISES, SHORT, Behind, Gateway, Line, slow, solid, until
from tests.conftest import Stack, free_ports
from tests.drawings import encoded, shape
from tests.faults import FaultLog
from tests.postgres import Server
from tests.stores import another_process

pytest_plugins = ["tests.store_fixtures"]

DEADLINE_S = 3.0
STORE_TIMEOUT_S = 1.0
GOOD = encoded(shape("a red circle"))
LABELS = ["a red circle", "a blue square"]

LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.readline()
connection.execute("ROLLBACK")
connection.close()
"""


@dataclass
class Rig:
    """A gateway that reaches its Triton over a line, and where it keeps its data."""

    gateway: Gateway
    triton: Behind
    line: Line
    client: httpx2.Client
    mounted: bool

    def ready(self) -> None:
        """Have everything run."""
        self.triton.start()
        self.gateway.wait()

    @property
    def database(self) -> Path:
        return self.gateway.data_dir / "gateway.sqlite"


@pytest.fixture(scope="module")
def rig(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """The gateway is started first, and nothing behind it."""
    folder = tmp_path_factory.mktemp("behind")
    with ExitStack() as exits:
        ports = free_ports(5)
        triton = Behind(stack.model_repository, folder, ports[:3])
        exits.callback(triton.kill)
        line = Line(ports[3], triton.settings.grpc_port)
        exits.callback(line.close)
        data = folder / "data"
        data.mkdir()
        mount = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", data], capture_output=True, check=False
        )
        if mount.returncode == 0:
            exits.callback(lambda: subprocess.run(["umount", "--lazy", data], check=True))
        gateway = Gateway(
            folder,
            ports[4],
            TRITON_GRPC_PORT=str(ports[3]),
            MODEL_REPOSITORY=str(triton.repository),
            REQUEST_TIMEOUT_S=str(DEADLINE_S),
            STORE_TIMEOUT_S=str(STORE_TIMEOUT_S),
        )
        exits.callback(gateway.stop)
        client = exits.enter_context(httpx2.Client(base_url=gateway.url, timeout=30))
        yield Rig(gateway, triton, line, client, mount.returncode == 0)


@pytest.fixture
def ready(rig: Rig) -> Rig:
    rig.ready()
    return rig


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


@pytest.mark.timeout(240)
def test_92_a_gateway_before_its_triton(rig: Rig, faults: FaultLog) -> None:
    rig.gateway.wait(200, "/livez")
    if rig.gateway.status() != 200:
        until(lambda: "inference" in rig.gateway.readiness()["failing"])
        faults.expect(92, "gateway started, Triton not yet: readyz", rig.gateway.get("/readyz"), "503")
        expect_everywhere(faults, 92, "gateway started, Triton not yet", rig, "503 model_unavailable")
    rig.ready()
    expect_recovery(faults, 92, "Triton started after the gateway", rig)


@pytest.mark.timeout(240)
def test_92_triton_killed_and_started_again(ready: Rig, faults: FaultLog) -> None:
    assert classify(ready.client).status_code == 200
    process = ready.gateway.process.pid
    ready.triton.kill()
    ready.gateway.wait(503)  # nobody has asked for anything
    start = time.monotonic()
    for _ in range(5):
        expect_everywhere(faults, 92, "Triton killed", ready, "503 model_unavailable")
    assert time.monotonic() - start < DEADLINE_S, "twenty requests together cost less than one deadline"
    assert ready.gateway.status() == 503
    text = ready.client.post("/v1/embeddings", json={"input": ["never seen before"]})
    faults.expect(92, "Triton killed: embeddings of a text", text, "503 model_unavailable")
    ready.triton.start()
    expect_recovery(faults, 92, "Triton killed and started again", ready)
    assert ready.gateway.process.pid == process
    assert ready.gateway.process.poll() is None


def test_92_an_inference_whose_connection_breaks_is_asked_again(ready: Rig, faults: FaultLog) -> None:
    classify(ready.client)
    before = ready.line.connections
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(classify, ready.client, solid(slow(8)))
        time.sleep(0.4)
        ready.line.cut()
        faults.expect(92, "the connection to Triton breaks under an inference", answer.result(), "200")
    assert ready.line.connections > before


def test_92_a_line_that_keeps_breaking_is_not_hammered(ready: Rig) -> None:
    def runs() -> int:
        found = httpx2.get(f"{ready.triton.url}/v2/models/clip_image/stats", timeout=5).json()["model_stats"][0]
        return int(found["inference_stats"]["success"]["count"] + found["inference_stats"]["fail"]["count"])

    ready.gateway.wait()
    over = threading.Event()

    def keep_cutting() -> None:
        while not over.wait(0.3):
            ready.line.cut()

    cutting = threading.Thread(target=keep_cutting)
    cutting.start()
    try:
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: classify(ready.client, solid(slow(6))), range(24)))
    finally:
        over.set()
        cutting.join()
    seen = Counter((answer.status_code, answer.json().get("code")) for answer in answers)
    assert set(seen) <= {(200, None), (503, "model_unavailable"), (503, "overloaded")}, seen
    ready.gateway.wait(200)
    assert classify(ready.client).status_code == 200


@pytest.mark.timeout(240)
def test_93_a_model_is_unloaded(ready: Rig, faults: FaultLog) -> None:
    ready.triton.unload()
    ready.gateway.wait(503)
    faults.expect(93, "clip_image unloaded: readyz", ready.gateway.get("/readyz"), "503")
    expect_everywhere(faults, 93, "clip_image unloaded", ready, "503 model_unavailable")
    ready.triton.load()
    expect_recovery(faults, 93, "clip_image unloaded and loaded again", ready)


def test_93_the_process_of_a_model_dies(ready: Rig, faults: FaultLog) -> None:
    """Triton stays ready and fails what reaches the instance; the launcher starts it again, which is tested there."""
    psutil.Process(ready.triton.stub()).kill()
    answers = [classify(ready.client) for _ in range(10)]
    for answer in answers:
        faults.expect(93, "the process of a model instance dies", answer, "200", "503 model_unavailable")
    ready.triton.kill()
    ready.triton.start()
    ready.gateway.wait(200)


def test_93_another_bundle_than_the_gateways(ready: Rig, tmp_path: Path, faults: FaultLog) -> None:
    for name in (MANIFEST_NAME, "tokenizer.json"):
        shutil.copy(ready.triton.repository / name, tmp_path / name)
    manifest = json.loads((tmp_path / MANIFEST_NAME).read_text())
    (tmp_path / MANIFEST_NAME).write_text(json.dumps({**manifest, "bundle_id": "0123456789abcdef"}))
    grpc = str(ready.triton.settings.grpc_port)
    gateway = Gateway(tmp_path, free_ports(1)[0], TRITON_GRPC_PORT=grpc, MODEL_REPOSITORY=str(tmp_path))
    try:
        gateway.wait(200, "/livez")
        until(lambda: "bundle" in gateway.readiness()["failing"], gateway.tail)
        with httpx2.Client(base_url=gateway.url, timeout=30) as client:
            for name, ask in ENDPOINTS.items():
                answer = ask(client, GOOD)
                faults.expect(93, f"Triton serves another bundle: {name}", answer, "503 model_unavailable")
        assert gateway.status() == 503
    finally:
        assert gateway.stop() == 0


def test_94_one_slow_inference_among_others(ready: Rig, faults: FaultLog) -> None:
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(moderate, ready.client, solid(slow(35)))
        time.sleep(0.4)  # it runs: nothing meets it in its batch
        answers = []
        while not late.done():
            answers.append(classify(ready.client).status_code)
            time.sleep(0.05)
    faults.expect(
        94, "an inference takes 3.5 s, the deadline is 3 s, others go on", late.result(), "504 deadline_exceeded"
    )
    assert no_verdict(late.result())
    assert set(answers) == {200}
    time.sleep(0.6)  # the instance sleeps on


@pytest.mark.timeout(240)
def test_94_triton_hangs(ready: Rig, faults: FaultLog) -> None:
    with ready.triton.frozen():
        for name, answer in everywhere(ready).items():
            faults.expect(94, f"Triton is frozen: {name}", answer, "504 deadline_exceeded")
            assert no_verdict(answer)
        ready.gateway.wait(503)
        start = time.monotonic()
        for _ in range(5):
            expect_everywhere(faults, 94, "Triton has been frozen for a while", ready, "503 model_unavailable")
        assert time.monotonic() - start < DEADLINE_S, "twenty requests together cost less than one deadline"
    expect_recovery(faults, 94, "Triton frozen and awake again", ready)


def test_95_outputs_that_cannot_be_right(ready: Rig, faults: FaultLog) -> None:
    for colour, what in ((NAN, "NaN"), (SHORT, "one dimension too few"), (RAISES, "an exception")):
        expect_everywhere(faults, 95, f"the image model gives {what}", ready, "502 model_invalid_output", solid(colour))
    words = classify(ready.client, labels=["a red circle", BAD_WORD])
    faults.expect(95, "the text model gives NaN: classify", words, "502 model_invalid_output")
    text = ready.client.post("/v1/embeddings", json={"input": [f"a {BAD_WORD}"]})
    faults.expect(95, "the text model gives NaN: embeddings", text, "502 model_invalid_output")
    entry = {"label": BAD_WORD, "prompts": [f"a {BAD_WORD}"]}
    saved = ready.client.put("/v1/classifiers/broken", json={"labels": [entry, {"label": "a circle"}]})
    faults.expect(95, "the text model gives NaN: a classifier is saved", saved, "502 model_invalid_output")
    assert ready.client.get("/v1/classifiers/broken").status_code == 404
    both = ready.client.post(
        "/v1/classify", files=[("file", solid(NAN)), ("file", GOOD)], data={"labels": LABELS, "views": "full"}
    ).json()
    assert [result["scores"] is None for result in both["results"]] == [True, False]
    assert both["results"][0]["error"]["code"] == "model_invalid_output"
    ready.gateway.wait(200)  # a look of the gateway's own may have shared a batch with the one that was too short
    assert classify(ready.client).status_code == 200


def test_96_the_queue_of_a_model_is_full(ready: Rig, faults: FaultLog) -> None:
    count = 6 * QUEUE
    with ThreadPoolExecutor(count) as pool:
        answers = list(pool.map(lambda _: classify(ready.client, solid(slow(2))), range(count)))
    refused = [answer for answer in answers if answer.status_code != 200]
    assert refused
    assert len(refused) < count
    for answer in answers:
        faults.expect(96, f"{count} requests at once, Triton queues {QUEUE}", answer, "200", "503 overloaded")
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert ready.gateway.status() == 200
    assert classify(ready.client).status_code == 200


def classifier(text: str) -> dict[str, Any]:
    return {"labels": ["a red circle", "a blue square"], "description": text}


def save(rig: Rig, text: str, name: str = "shapes") -> httpx2.Response:
    return rig.client.put(f"/v1/classifiers/{name}", json=classifier(text))


def expect_serving_without_writes(faults: FaultLog, number: int, what: str, rig: Rig) -> None:
    decided = moderate(rig.client)
    faults.expect(number, f"{what}: moderate with a saved policy", decided, "200")
    (result,) = decided.json()["results"]
    assert (result["decision_id"], "decision_not_logged" in result["warnings"]) == (None, True)
    assert result["decision"] in {"allow", "review", "block"}
    faults.expect(number, f"{what}: a classifier is read", rig.client.get("/v1/classifiers/shapes"), "200")
    faults.expect(number, f"{what}: decisions are read", rig.client.get("/v1/decisions"), "200")
    faults.expect(number, f"{what}: readyz", rig.gateway.get("/readyz"), "200")
    assert rig.gateway.readiness()["degraded"] == ["store"]


def expect_writes_again(faults: FaultLog, number: int, what: str, rig: Rig) -> None:
    until(lambda: rig.gateway.readiness()["degraded"] == [], rig.gateway.tail)
    faults.expect(number, f"{what} no more: a classifier is saved", save(rig, f"after {what}"), "200", "201")
    (result,) = moderate(rig.client).json()["results"]
    assert rig.client.get(f"/v1/decisions/{result['decision_id']}").status_code == 200
    with sqlite3.connect(rig.database) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()


def test_98_the_database_is_locked(ready: Rig, faults: FaultLog) -> None:
    assert save(ready, "before").status_code in {200, 201}
    before = moderate(ready.client).json()["results"][0]["decision_id"]
    holder = another_process(LOCK, str(ready.database))
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    try:
        refused = {
            "a classifier is saved": save(ready, "while locked"),
            "feedback": ready.client.post(f"/v1/decisions/{before}/feedback", json={"decision": "allow"}),
            "a list is made": ready.client.put("/v1/lists/x", json={"action": "block", "kind": "sha256"}),
            "decisions are forgotten": ready.client.delete("/v1/decisions", params={"external_id": "x"}),
        }
        for name, answer in refused.items():
            faults.expect(98, f"another process locks the database: {name}", answer, "503 storage_unavailable")
        expect_serving_without_writes(faults, 98, "another process locks the database", ready)
        start = time.monotonic()
        assert {moderate(ready.client).status_code for _ in range(5)} == {200}
        assert time.monotonic() - start < 5 * STORE_TIMEOUT_S, "not every request waits for the lock"
    finally:
        holder.communicate("go\n", 20)
    expect_writes_again(faults, 98, "the lock", ready)
    assert ready.client.get("/v1/classifiers/shapes").json()["description"] != "while locked"


@contextmanager
def disk_full(rig: Rig) -> Iterator[None]:
    """Within, nothing more fits on the disk that holds the data."""
    filler = rig.gateway.data_dir / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def files_limited(rig: Rig) -> Iterator[None]:
    """Within, the gateway may make no file longer than the database's log is: what a full disk does, to one process."""
    size = rig.database.with_name("gateway.sqlite-wal").stat().st_size
    pid = rig.gateway.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE, (max(size, 1), -1))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("full", "what"), [(files_limited, "files may not grow"), (disk_full, "the disk is full")], ids=["limit", "disk"]
)
def test_99_the_disk_is_full(ready: Rig, full: Callable[[Rig], Any], what: str, faults: FaultLog) -> None:
    if full is disk_full and not ready.mounted:
        pytest.skip("a small disk cannot be mounted here; a limit on the size of files stands for it")
    saved = save(ready, f"before: {what}").json()
    with full(ready):
        refused = None
        for number in range(50):  # room that the database has set aside is used up first
            refused = save(ready, f"{what} {number}")
            if refused.status_code not in {200, 201}:
                break
            saved = refused.json()
        assert refused is not None
        faults.expect(99, f"{what}: a classifier is saved", refused, "503 storage_unavailable")
        until(lambda: moderate(ready.client).json()["results"][0]["decision_id"] is None)
        expect_serving_without_writes(faults, 99, what, ready)
        assert ready.client.get("/v1/classifiers/shapes").json()["version"] == saved["version"]
    expect_writes_again(faults, 99, what, ready)


def test_100_a_policy_is_edited_in_flight(ready: Rig, faults: FaultLog) -> None:
    assert save(ready, "for a policy").status_code in {200, 201}
    rule = {"category": "circles", "classifier": "shapes", "labels": ["a red circle"], "block_at": None}

    def put(review_at: float) -> int:
        body = {"rules": [{**rule, "review_at": review_at}], "views": "full"}
        answer = ready.client.put("/v1/policies/edited", json=body)
        assert answer.status_code in {200, 201}, answer.text
        return int(answer.json()["version"])

    old = put(0.4)
    with ThreadPoolExecutor(1) as pool:
        started = pool.submit(moderate, ready.client, solid(slow(15)), "edited")
        time.sleep(0.5)
        new = put(0.6)
        meanwhile = moderate(ready.client, GOOD, "edited").json()["results"][0]
        assert not started.done()
        assert meanwhile["policy"]["version"] == new == old + 1
        answer = started.result()
    faults.expect(100, "a policy is edited while a request is in flight", answer, "200")
    (result,) = answer.json()["results"]
    assert result["policy"]["version"] == old
    assert result["categories"][0]["review_at"] == 0.4
    logged = ready.client.get(f"/v1/decisions/{result['decision_id']}").json()
    assert logged["policy"]["version"] == old
    faults.expect(
        100, "that request's decision names", f"version {result['policy']['version'] - old + 1} of 2", "version 1 of 2"
    )


@pytest.mark.timeout(240)
def test_98_a_gateway_before_its_database(ready: Rig, tmp_path: Path, postgres: Server, faults: FaultLog) -> None:
    url, started = postgres.new_database(), False
    postgres.stop()
    try:
        gateway = Gateway(
            tmp_path,
            free_ports(1)[0],
            TRITON_GRPC_PORT=str(ready.triton.settings.grpc_port),
            MODEL_REPOSITORY=str(ready.triton.repository),
            DATABASE_URL=url,
            STORE_TIMEOUT_S="1",
        )
        try:
            gateway.wait(200, "/livez")
            until(lambda: gateway.readiness()["failing"] == ["policies", "lists"], gateway.tail)
            with httpx2.Client(base_url=gateway.url, timeout=30) as client:
                unknown = moderate(client)
                faults.expect(98, "gateway started, database not yet: moderate", unknown, "503 storage_unavailable")
                known = classify(client)
                faults.expect(98, "gateway started, database not yet: classify by labels", known, "200")
                started = True
                postgres.start()
                gateway.wait(200)
                decided = moderate(client)
                faults.expect(98, "database started after the gateway: moderate", decided, "200")
                assert decided.json()["results"][0]["decision_id"]
        finally:
            assert gateway.stop() == 0
    finally:
        if not started:
            postgres.start()


def test_a_database_of_a_newer_gateway_is_refused_in_one_sentence(stack: Stack, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "gateway.sqlite") as database:
        database.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        database.execute("INSERT INTO alembic_version VALUES ('9999')")
    database.close()
    gateway = Gateway(tmp_path, free_ports(1)[0], DATA_DIR=str(tmp_path), MODEL_REPOSITORY=str(stack.model_repository))
    assert gateway.process.wait(60) == 2
    said = gateway.tail()
    assert "a newer" in said
    assert "Traceback" not in said


@pytest.mark.timeout(240)
def test_95_a_model_of_another_type(ready: Rig, faults: FaultLog) -> None:
    with ready.triton.doubled():
        ready.gateway.wait(503)
        faults.expect(95, "every vector is float64: readyz", ready.gateway.get("/readyz"), "503")
        expect_everywhere(faults, 95, "every vector is float64", ready, "502 model_invalid_output")
    expect_recovery(faults, 95, "the image model is the right one again", ready)


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
        upload = Upload(gateway, solid((0, 0, 0)))
        with ThreadPoolExecutor(2) as pool, httpx2.Client(base_url=gateway.url, timeout=30) as client:
            late = [pool.submit(moderate, client, solid(slow(12))) for _ in range(2)]
            time.sleep(0.3)
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


class Upload:
    """A request of which half has been sent."""

    def __init__(self, gateway: Gateway, picture: bytes) -> None:
        body = json.dumps({"images": [{"base64": base64.b64encode(picture).decode()}]}).encode()
        self._rest = body[10:]
        self._socket = socket.create_connection(("127.0.0.1", gateway.port), timeout=30)
        head = f"POST /v1/moderate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        self._socket.sendall(head.encode() + b"\r\n\r\n" + body[:10])

    def finish(self) -> httpx2.Response:
        """Send the other half, and read the answer until the server closes the connection."""
        self._socket.sendall(self._rest)
        said = b""
        while data := self._socket.recv(1 << 16):
            said += data
        self._socket.close()
        head, _, body = said.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = [tuple(line.split(": ", 1)) for line in lines[1:]]
        return httpx2.Response(int(lines[0].split()[1]), headers=headers, content=body)  # type: ignore[arg-type]


def test_102_sigterm_before_anything_is_ready(stack: Stack, tmp_path: Path, faults: FaultLog) -> None:
    gateway = Gateway(tmp_path, free_ports(1)[0], TRITON_GRPC_PORT="1", MODEL_REPOSITORY=str(stack.model_repository))
    gateway.wait(200, "/livez")
    faults.expect(102, "SIGTERM before Triton was ever there", f"exit code {gateway.stop()}", "exit code 0")
