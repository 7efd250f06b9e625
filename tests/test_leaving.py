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
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx2
import numpy as np
import numpy.typing as npt
import psutil
import pytest
import uvicorn
from tritonclient import grpc as grpcclient
from tritonclient.grpc import service_pb2, service_pb2_grpc

from gateway.app import connection_protocol, create_app
from gateway.bundle import read_manifest
from gateway.deadline import Deadline
from gateway.encoder import TritonEncoder, Vectors
from gateway.errors import GatewayError
from gateway.settings import Settings
from tests.conftest import Stack, free_ports
from tests.drawings import encoded, shape
from tests.fakes import PROBE_GREY, FakeEncoder, unit_rows, write_bundle
from tests.faults import FaultLog
from tests.raw_http import connection, head
from tests.waiting import UNTIL_S, until

QUEUED = 100
JSON = {"content-type": "application/json"}
PICTURE = encoded(shape("a red circle"))


def body_of(**more: Any) -> bytes:
    image = {"base64": base64.b64encode(PICTURE).decode()}
    return json.dumps({"images": [image], "labels": ["a red circle", "a blue square"], **more}).encode()


def ask(body: bytes) -> bytes:
    return head("Content-Type: application/json", f"Content-Length: {len(body)}") + body


class Patient(FakeEncoder):
    """Answers the gateway's own probes, which are all grey, at once; only requests wait, count and are cancelled."""

    async def encode_images(self, pixels: npt.NDArray[np.uint8], deadline: Deadline) -> Vectors:
        return unit_rows(pixels) if (pixels == PROBE_GREY).all() else await super().encode_images(pixels, deadline)

    async def encode_texts(self, input_ids: npt.NDArray[np.int64], deadline: Deadline) -> Vectors:
        return unit_rows(input_ids)


@contextmanager
def serving(folder: Path, encoder: FakeEncoder, **settings: Any) -> Iterator[str]:
    """The gateway on a real port, in a thread of this process, in front of an encoder that is no model."""
    write_bundle(folder)
    (port,) = free_ports(1)
    made = Settings(model_repository=folder, data_dir=folder / "data", log_level="error", **settings)
    config = uvicorn.Config(
        create_app(made, lambda *_: encoder),
        http=connection_protocol(made),
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


def test_101_who_leaves_frees_the_inference_the_place_and_the_memory(tmp_path: Path, faults: FaultLog) -> None:
    encoder = Patient()
    limits = {"max_requests_in_flight": 1, "max_bytes_in_flight": 1 << 20, "request_timeout_s": 60.0}
    with serving(tmp_path, encoder, **limits) as address:
        assert httpx2.post(f"{address}/v1/classify", content=body_of(), headers=JSON).status_code == 200
        words = {"labels": ["star", "other"], "templates": ["{}"]}
        rules = [{"category": "stars", "classifier": "stars", "labels": ["star"], "block_at": 0.5}]
        assert httpx2.put(f"{address}/v1/classifiers/stars", json=words).status_code == 201
        assert httpx2.put(f"{address}/v1/policies/stars", json={"rules": rules, "views": "full"}).status_code == 201
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
                    leaver.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
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

    class Slow(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
        async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
            seen.append((context.time_remaining(), request.parameters["timeout"].int64_param / 1e6))
            await asyncio.sleep(30)
            return service_pb2.ModelInferResponse()

    write_bundle(tmp_path)
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Slow(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    encoder = TritonEncoder(f"127.0.0.1:{port}", read_manifest(tmp_path), lambda *_: None)
    try:
        deadline = Deadline.after(2.0)
        await asyncio.sleep(0.8)  # spent on intake and decoding
        with pytest.raises(GatewayError) as caught:
            await encoder.encode_images(np.zeros((1, 32, 32, 3), np.uint8), deadline)
        assert caught.value.code == "deadline_exceeded"
        assert deadline.passed or deadline.remaining_s() < 0.1
    finally:
        await encoder.close()
        await server.stop(0)
    ((for_grpc_s, for_the_queue_s),) = seen
    assert 0 < for_grpc_s <= 1.25
    assert 0 < for_the_queue_s <= 1.25
