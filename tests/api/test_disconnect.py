"""Fault 101, and deadlines: who goes away or has waited long enough leaves no work behind, here or in Triton."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import numpy.typing as npt
import psutil
import pytest
import uvicorn
from tritonclient import grpc as grpcclient

from gateway.api.body import reader as bodies
from gateway.api.body import strict_json
from gateway.app import connection_protocol, create_app
from gateway.errors import GatewayError
from gateway.inference.bundle import read_manifest
from gateway.inference.triton import TritonEncoder, Vectors
from gateway.limits.deadline import Deadline
from gateway.moderation.binding import BoundPolicy
from gateway.moderation.catalog import Catalog
from gateway.serving.http_protocol import GuardedProtocol
from gateway.serving.sequential import HEAD_READ_BYTES
from gateway.settings import Settings
from tests.conftest import Stack, free_ports
from tests.support.awkward_images import plain
from tests.support.drawings import encoded, shape
from tests.support.fake_encoder import PROBE_GREY, FakeEncoder, unit_rows, write_bundle
from tests.support.fake_triton import FakeTriton, listening
from tests.support.fault_table import FaultLog
from tests.support.raw_http import connection, field, form, head, read_answer
from tests.support.waiting import UNTIL_S, until

pytestmark = pytest.mark.heavy

QUEUED = 100
JSON = {"content-type": "application/json"}
PICTURE = encoded(shape("a red circle"))
LARGE = plain("PNG", 500, 400)  # noise, 0.6 MB: neither one read of the server's nor what the kernel keeps for it
RESET = b"\x01\0\0\0\0\0\0\0"  # SO_LINGER: on, 0 s
STARS = {"rules": [{"category": "stars", "classifier": "stars", "labels": ["star"], "block_at": 0.5}], "views": "full"}
WORDS = {"labels": ["star", "other"], "templates": ["{}"]}


def body_of(picture: bytes = PICTURE, **more: Any) -> bytes:
    image = {"base64": base64.b64encode(picture).decode()}
    return json.dumps({"images": [image], "labels": ["a red circle", "a blue square"], **more}).encode()


def ask(body: bytes, path: str = "/v1/classify") -> bytes:
    return head("Content-Type: application/json", f"Content-Length: {len(body)}", path=path) + body


def ask_by_form(picture: bytes) -> bytes:
    words = [(field("labels"), word) for word in (b"a red circle", b"a blue square")]
    body = form("b", (field("file", "x.png"), picture), *words)
    return head("Content-Type: multipart/form-data; boundary=b", f"Content-Length: {len(body)}") + body


def moderation_of(path: str, picture: bytes) -> bytes:
    """A question to either route that asks a policy, named ``stars``."""
    image = base64.b64encode(picture).decode()
    if path == "/v1/moderate":
        return json.dumps({"images": [{"base64": image}], "policy": "stars"}).encode()
    part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}}
    return json.dumps({"input": [part], "model": "stars"}).encode()


class Patient(FakeEncoder):
    """Answers the gateway's own probes, which are all grey, at once; only requests wait, count and are cancelled."""

    async def encode_images(self, pixels: npt.NDArray[np.uint8], deadline: Deadline) -> Vectors:
        return unit_rows(pixels) if (pixels == PROBE_GREY).all() else await super().encode_images(pixels, deadline)

    async def encode_texts(self, input_ids: npt.NDArray[np.int64], deadline: Deadline) -> Vectors:
        return unit_rows(input_ids)


@contextmanager
def serving(
    folder: Path, encoder: FakeEncoder, protocol: type[asyncio.Protocol] | None = None, **settings: Any
) -> Iterator[str]:
    """The gateway on a real port, in a thread of this process, in front of an encoder that is no model."""
    write_bundle(folder)
    (port,) = free_ports(1)
    made = Settings(model_repository=folder, data_dir=folder / "data", log_level="error", **settings)
    config = uvicorn.Config(
        create_app(made, lambda *_: encoder),
        http=protocol or connection_protocol(made),
        ws="none",
        port=port,
        log_level="error",
        lifespan="on",
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    address = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        with contextlib.suppress(httpx2.TransportError):
            return httpx2.get(f"{address}/readyz").status_code == 200
        return False

    try:
        until(ready, "ready")
        yield address
    finally:
        server.should_exit = True
        thread.join()


def metric(address: str, pattern: str) -> float:
    """Return the sum of a metric's samples whose line matches."""
    lines = httpx2.get(f"{address}/metrics").text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if re.match(pattern, line))


def save_stars(address: str) -> None:
    assert httpx2.put(f"{address}/v1/classifiers/stars", json=WORDS).status_code == 201
    assert httpx2.put(f"{address}/v1/policies/stars", json=STARS).status_code == 201


def test_101_who_leaves_frees_the_inference_the_place_and_the_memory(tmp_path: Path, faults: FaultLog) -> None:
    encoder = Patient()
    limits: dict[str, Any] = {"max_requests_in_flight": 1, "max_bytes_in_flight": 1 << 20, "request_timeout_s": 60.0}
    with serving(tmp_path, encoder, **limits) as address:
        assert httpx2.post(f"{address}/v1/classify", content=body_of(), headers=JSON).status_code == 200
        save_stars(address)
        before = set(tmp_path.rglob("*"))
        encoder.delay_s = 60.0
        for path, body in {
            "/v1/classify": body_of(),
            "/v1/embeddings": json.dumps({"input": [{"image": json.loads(body_of())["images"][0]}]}).encode(),
            "/v1/moderate": json.dumps({"images": json.loads(body_of())["images"], "policy": "stars"}).encode(),
        }.items():
            calls, cancelled = encoder.image_calls, encoder.cancelled
            with connection(address) as leaver:
                leaver.sendall(ask(body).replace(b"/v1/classify", path.encode(), 1))
                until(lambda calls=calls: encoder.image_calls > calls, f"{path} reaches the model")
                assert metric(address, "gateway_requests_in_flight ") == 1
            until(lambda cancelled=cancelled: encoder.cancelled > cancelled, f"{path} is cancelled")
            until(lambda: metric(address, "gateway_requests_in_flight ") == 0, "its place is free")
            faults.expect(101, f"the client leaves during the inference of {path}", "cancelled", "cancelled")
        encoder.delay_s = 0.0
        until(lambda: metric(address, r'gateway_requests_total\{.*status="499"') == 3)
        assert metric(address, "gateway_errors_total") == 0, "a client that leaves is no error of ours"
        # The only place and all of the memory are free again: one request after another goes through.
        for _ in range(4):
            assert httpx2.post(f"{address}/v1/classify", content=body_of(), headers=JSON).status_code == 200
        files = {path for path in tmp_path.rglob("*") if "data" not in path.parts} - before
        assert files == set()


@pytest.mark.parametrize("reset", [pytest.param(False, id="closes"), pytest.param(True, id="resets")])
def test_101_who_leaves_after_a_large_upload_is_noticed(tmp_path: Path, faults: FaultLog, *, reset: bool) -> None:
    """The server has stopped reading meanwhile: the body came faster than it was taken."""
    encoder = Patient()
    with serving(tmp_path, encoder, request_timeout_s=300.0) as address:
        assert httpx2.post(f"{address}/v1/classify", content=body_of(), headers=JSON).status_code == 200
        encoder.delay_s = 2 * UNTIL_S
        huge = LARGE + bytes(3 << 20)  # what follows a picture is not read
        for what, sent in {
            "0.6 MB in a form": ask_by_form(LARGE),
            "0.8 MB of JSON": ask(body_of(LARGE)),
            "4 MB in a form": ask_by_form(huge),
            "5 MB of JSON": ask(body_of(huge)),
        }.items():
            calls, cancelled = encoder.image_calls, encoder.cancelled
            with connection(address) as leaver:
                leaver.sendall(sent)
                until(lambda calls=calls: encoder.image_calls > calls, "the picture reaches the model")
                if reset:
                    leaver.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            until(lambda cancelled=cancelled: encoder.cancelled > cancelled, f"{what} is cancelled")
            until(lambda: metric(address, "gateway_requests_in_flight ") == 0, "its place is free")
            how = "resets" if reset else "closes"
            faults.expect(101, f"the client {how} during the inference of {what}", "cancelled", "cancelled")
        encoder.delay_s = 0.0


def test_what_follows_a_large_upload_is_not_read_ahead_without_bounds(tmp_path: Path) -> None:
    made: list[GuardedProtocol] = []

    class Seen(connection_protocol(Settings())):  # type: ignore[misc] # made at run time
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            made.append(self)

    encoder = Patient()
    with serving(tmp_path, encoder, Seen, request_timeout_s=300.0) as address:
        encoder.delay_s = 2 * UNTIL_S
        made.clear()
        with connection(address) as client:
            client.sendall(ask(body_of(LARGE)))
            until(lambda: encoder.image_calls == 1, "the picture reaches the model")
            (held,) = made
            second = ask(body_of(LARGE, top_k=1))
            with futures.ThreadPoolExecutor(1) as thread:
                sending = thread.submit(client.sendall, second * 4)  # more than the kernel may take
                until(lambda: len(held.received) > 0, "the second one has come")
                time.sleep(0.2)
                assert len(held.received) <= HEAD_READ_BYTES
                assert encoder.image_calls == 1
                encoder.delay_s = 0.0
                answers = [read_answer(client) for _ in range(5)]
                sending.result()
        assert [answer.status_code for answer in answers] == [200] * 5
        assert [len(answer.json()["results"][0]["scores"]) for answer in answers] == [2, 1, 1, 1, 1]


def is_connected(port: int) -> bool:
    """Whether the server still holds its end of the connection from a client's port."""
    return any(one.raddr and one.raddr.port == port for one in psutil.Process().net_connections("tcp"))


@pytest.mark.parametrize(
    ("path", "where"),
    [
        pytest.param("/v1/classify", "json", id="while-its-JSON-is-parsed"),
        pytest.param("/v1/moderate", "policy", id="while-its-policy-is-looked-up"),
        pytest.param("/v1/moderations", "policy", id="while-that-of-OpenAI's-form-is"),
    ],
)
def test_101_who_has_left_before_the_work_begins_is_noticed_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faults: FaultLog, path: str, where: str
) -> None:
    reached, left = threading.Event(), threading.Event()
    parse, look_up = strict_json.parse_object, Catalog.policy

    def parse_late(*asked: Any) -> dict[str, Any]:
        reached.set()
        assert left.wait(UNTIL_S)
        return parse(*asked)

    async def look_up_late(*asked: Any) -> BoundPolicy:
        reached.set()
        assert await asyncio.to_thread(left.wait, UNTIL_S)
        return await look_up(*asked)

    encoder = Patient()
    with serving(tmp_path, encoder) as address:
        save_stars(address)
        if where == "json":
            monkeypatch.setattr(bodies, "parse_object", parse_late)
        else:
            monkeypatch.setattr(Catalog, "policy", look_up_late)
        with connection(address) as leaver:
            port = leaver.getsockname()[1]
            leaver.sendall(ask(body_of(LARGE) if where == "json" else moderation_of(path, PICTURE), path))
            assert reached.wait(UNTIL_S)
            leaver.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        try:
            # Of our own two ends the client's is closed, and so the server's is what is left.
            until(lambda: not is_connected(port), "the server has seen the end")
        finally:
            left.set()
        until(lambda: metric(address, rf'gateway_requests_total\{{.*route="{path}"') == 1, "it has ended")
        assert metric(address, rf'gateway_requests_total\{{.*route="{path}",status="499"') == 1
        assert metric(address, "gateway_requests_in_flight ") == 0
        seen = "the model is not asked" if encoder.image_calls == 0 else "worked on in vain"
        faults.expect(101, f"the client leaves before the work on {path} begins", seen, "the model is not asked")


def test_an_answer_to_who_has_just_left_is_no_error_of_the_loop() -> None:
    """The end of a connection and its answer meet in one turn of the loop."""
    made: list[GuardedProtocol] = []
    faults: list[dict[str, Any]] = []
    answered = threading.Event()

    class Seen(connection_protocol(Settings())):  # type: ignore[misc] # made at run time
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            made.append(self)

    async def app(_: Any, __: Any, send: Callable[[Any], Awaitable[None]]) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
        made[-1].transport.abort()  # the end is told in the loop's next turn, as that which the kernel tells of is
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b"ok"})
        await asyncio.sleep(0.05)
        answered.set()

    (port,) = free_ports(1)
    server = uvicorn.Server(uvicorn.Config(app, http=Seen, ws="none", lifespan="off", port=port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started)
        with connection(f"http://127.0.0.1:{port}") as leaver:
            leaver.sendall(head(method="GET", path="/"))
            assert answered.wait(UNTIL_S)
    finally:
        server.should_exit = True
        thread.join()
    assert faults == []


def test_101_who_leaves_while_sending_gives_back_what_was_kept_for_him(tmp_path: Path, faults: FaultLog) -> None:
    with serving(tmp_path, FakeEncoder(), max_bytes_in_flight=4 << 20, max_body_bytes=4 << 20) as address:
        form = "Content-Type: multipart/form-data; boundary=b"
        for what, reset in (("closes", False), ("resets", True)):
            with connection(address) as leaver:
                leaver.sendall(head(form, f"Content-Length: {4 << 20}") + b"--b\r\n")
                small = {"content": body_of(), "headers": JSON}
                until(
                    lambda small=small: httpx2.post(f"{address}/v1/classify", **small).status_code == 503,
                    "the bytes are reserved",
                )
                if reset:
                    leaver.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            until(
                lambda small=small: httpx2.post(f"{address}/v1/classify", **small).status_code == 200,
                "the bytes are free",
            )
            faults.expect(
                101, f"the client {what} the connection while it uploads", "bytes given back", "bytes given back"
            )


def failures(stack: Stack, reason: str) -> float:
    name = rf'nv_inference_request_failure\{{model="clip_image",reason="{reason}"'
    return metric(stack.triton_metrics_url, name)


@contextmanager
def busy_triton(stack: Stack) -> Iterator[None]:
    """Within, Triton's queue holds work by gRPC, however fast it is: whoever is answered asks again."""
    manifest = read_manifest(stack.model_repository)
    sizes = [manifest.image_max_batch, manifest.image.size_px, manifest.image.size_px, 3]
    pixels = grpcclient.InferInput("pixels", sizes, "UINT8")
    pixels.set_data_from_numpy(np.zeros(sizes, np.uint8))
    over, answered = threading.Event(), threading.Semaphore(0)

    def keep_asking() -> None:
        while not over.is_set():
            triton.infer("clip_image", [pixels])
            answered.release()

    with (
        grpcclient.InferenceServerClient(stack.triton_grpc_address) as triton,
        futures.ThreadPoolExecutor(QUEUED) as threads,
    ):
        asking = [threads.submit(keep_asking) for _ in range(QUEUED)]
        try:
            assert answered.acquire(timeout=UNTIL_S)
            yield
        finally:
            over.set()
        for one in asking:
            one.result()


@pytest.mark.heavy
def test_101_tritons_queue_forgets_who_has_left(stack: Stack, client: httpx2.Client, faults: FaultLog) -> None:
    """Clients leave while their pictures wait: Triton's own count of cancelled requests grows."""
    assert client.post("/v1/classify", content=body_of(), headers=JSON).status_code == 200
    family = psutil.Process(stack.process.pid).children(recursive=True)
    gateway = next(process for process in family if "gateway" in process.cmdline())
    before = failures(stack, "CANCELED")
    with busy_triton(stack):
        # When a picture is decoded and not yet computed is not seen from outside: so they leave ever later.
        for patience_s in (0.03, 0.1, 0.3, 0.9, 2.7):
            with contextlib.ExitStack() as exits:
                for _ in range(6):
                    exits.enter_context(connection(stack.gateway_url)).sendall(ask(body_of()))
                until(lambda: metric(stack.gateway_url, "gateway_requests_in_flight ") > 0, "they wait for Triton")
                time.sleep(patience_s)
            until(lambda: metric(stack.gateway_url, "gateway_requests_in_flight ") == 0, "all are gone")
            if failures(stack, "CANCELED") > before:
                break
    until(lambda: failures(stack, "CANCELED") > before, "Triton has counted")
    seen = "cancelled in Triton" if failures(stack, "CANCELED") > before else "worked on in vain"
    faults.expect(101, "clients leave while their pictures wait in Triton's queue", seen, "cancelled in Triton")
    assert client.post("/v1/classify", content=body_of(), headers=JSON).status_code == 200
    opened = [Path(file.path) for file in gateway.open_files()]
    assert [path for path in opened if not path.is_relative_to(stack.data_dir) and path != stack.log] == []


async def test_94_a_call_to_triton_carries_what_is_left_of_the_deadline(tmp_path: Path) -> None:
    seen: list[tuple[float, float]] = []

    class Slow(FakeTriton):
        async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
            seen.append((context.time_remaining(), request.parameters["timeout"].int64_param / 1e6))
            await asyncio.sleep(30)

    slow = Slow()
    async with listening(slow):
        encoder = TritonEncoder(slow.address, write_bundle(tmp_path), lambda *_: None)
        await encoder.served_parameters(Deadline.after(30))
        deadline = Deadline.after(2.0)
        await asyncio.sleep(0.8)  # spent on intake and decoding
        with pytest.raises(GatewayError) as caught:
            await encoder.encode_images(np.zeros((1, 32, 32, 3), np.uint8), deadline)
        assert caught.value.code == "deadline_exceeded"
        assert deadline.passed or deadline.remaining_s() < 0.1
        await encoder.close()
    ((for_grpc_s, for_the_queue_s),) = seen
    assert 0 < for_grpc_s <= 1.25
    assert 0 < for_the_queue_s <= 1.25
