"""The services of the comparison: how each is started, what it is asked, and whether they answer alike."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import numpy as np

from scripts.bench.client import posted, upload
from scripts.bench.encoder import exported
from scripts.bench.peer_setup import OFFLINE, SERVICES, environment, version, weights
from scripts.bench.pictures import photographs
from scripts.bench.plan import Plan
from scripts.bench.stack import FIRST_PORT, stack
from scripts.triton.ports import require_free
from scripts.triton.server import end_with_parent

PORT = FIRST_PORT + 20
START_TIMEOUT_S = 300.0
STOP_TIMEOUT_S = 10.0
LABELS = ("a cat", "a dog", "a car", "a hat", "a map")
"""Six tokens each with the vocabulary of random weights, which knows letters only: about as many as the words "a photo
of a cat" have in CLIP's own. Longer words would cost a peer that encodes labels at each request more than they should.
"""
OURS = ("this, fp32", "this, int8")
PLAIN = ("plain service", "plain service, label vectors kept")
INFINITY, VLLM = "infinity", "vLLM"
MOST_APART = 0.01
"""Of probabilities, and of cosines from 1: resizing is not the same in all of them to the last bit."""

Started = AbstractContextManager[tuple[int, int]]
"""A running service; entering it gives its port and its process."""


@dataclass(frozen=True, slots=True)
class Side:
    """A service that takes its turn.

    Attributes:
        start: runs it.
        requests: that it is asked, as bytes.
        work: what it does for one of them, in words.
        versions: of what it is made of.
    """

    start: Callable[[], Started]
    requests: Sequence[bytes]
    work: str
    versions: str


def sides(plan: Plan) -> dict[str, Side]:
    """Return all services by name, with what they need made: bundles, weights, environments."""
    pictures = photographs()
    fields = [("labels", label) for label in LABELS]
    ours = [upload("/v1/classify", [picture], [*fields, ("templates", "{}")]) for picture in pictures]
    plain = [upload("/classify", [picture], fields) for picture in pictures]
    infinity = [posted("/embeddings", json.dumps(_for_infinity(picture)).encode()) for picture in pictures]
    vllm = [posted("/v1/embeddings", json.dumps(_for_vllm(picture)).encode()) for picture in pictures]
    folder = str(weights(plan.model))
    torch = f"torch {version('plain', 'torch')}"
    found = {}
    for name in OURS:
        work = "upload; labels come with it, their vectors are kept by the gateway"
        found[name] = Side(_gateway(plan.model, name.rpartition(" ")[2]), ours, work, f"{torch}, Triton")
    command = [str(environment("plain") / "python"), "-m", "uvicorn", "--factory", "plain_service:create"]
    command += ["--app-dir", str(SERVICES), "--port", str(PORT), "--log-level", "warning"]
    versions = f"{torch}, transformers {version('plain', 'transformers')}, FastAPI {version('plain', 'fastapi')}"
    works = ("upload; labels encoded at each request, as on the model cards", "the same; labels encoded once")
    for name, keep, work in zip(PLAIN, "01", works, strict=True):
        found[name] = Side(_service(command, {"WEIGHTS": folder, "KEEP_TEXTS": keep}), plain, work, versions)
    command = [str(environment("infinity") / "infinity_emb"), "v2", "--model-id", folder, "--served-model-name", "clip"]
    command += ["--engine", "torch", "--device", "cpu", "--dtype", "float32", "--no-bettertransformer"]
    command += ["--host", "127.0.0.1", "--port", str(PORT), "--log-level", "warning"]
    found[INFINITY] = Side(
        _service(command, {}),
        infinity,
        "data URI to a vector, no labels; batches up to 32, torch.compile (its default)",
        f"infinity-emb {version('infinity', 'infinity_emb')}, torch {version('infinity', 'torch')}, "
        f"transformers {version('infinity', 'transformers')}",
    )
    command = [str(environment("vllm") / "python"), "-m", "vllm.entrypoints.openai.api_server", "--model", folder]
    command += ["--served-model-name", "clip", "--runner", "pooling", "--dtype", "float32"]
    # The pictures repeat: with its caches on, most of them would not be computed at all.
    command += ["--mm-processor-cache-gb", "0", "--no-enable-prefix-caching", "--uvicorn-log-level", "warning"]
    command += ["--host", "127.0.0.1", "--port", str(PORT)]
    # Left to itself it keeps one core free.
    settings = {"VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, sorted(os.sched_getaffinity(0))))}
    settings |= {"VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
    found[VLLM] = Side(
        _service(command, settings),
        vllm,
        "data URI to a vector, no labels; its batches, its caches of pictures off",
        f"vllm-cpu {version('vllm', 'vllm-cpu')}, torch {version('vllm', 'torch')}",
    )
    return found


class NotStarted(RuntimeError):
    """A service ended, or does not answer, before it was ever asked anything."""


def agreement(found: Mapping[str, Side]) -> tuple[dict[str, Side], str]:
    """Ask each service about one picture and compare the answers.

    Returns:
        The services that could be started, and in words how alike they answer and which are missing: vLLM, for one,
        does not run on every processor.

    Raises:
        RuntimeError: they do not see the same picture with the same weights.
    """
    picture, labels = photographs(1)[0], list(LABELS)
    files = {"file": ("p.jpg", picture)}
    with found[OURS[0]].start() as (port, _):
        fields = {"labels": labels, "templates": "{}", "include": "embedding"}
        ours = _asked(port, "/v1/classify", files=files, data=fields)["results"][0]
    scores = {score["label"]: score["score"] for score in ours["scores"]}
    vector = np.array(ours["embedding"])

    def difference(port: int) -> float:
        theirs = _asked(port, "/classify", files=files, data={"labels": labels})["scores"]
        return float(max(abs(scores[label] - theirs[label]) for label in labels))

    def distance(port: int, path: str, body: dict[str, Any]) -> float:
        other = np.array(_asked(port, path, json=body)["data"][0]["embedding"])
        return 1 - float(vector @ other / np.linalg.norm(other))

    compared: dict[str, Callable[[int], float]] = dict.fromkeys(PLAIN, difference)
    compared[INFINITY] = lambda port: distance(port, "/embeddings", _for_infinity(picture))
    compared[VLLM] = lambda port: distance(port, "/v1/embeddings", _for_vllm(picture))
    apart, missing = {}, []
    for name, compare in compared.items():
        try:
            with found[name].start() as (port, _):
                apart[name] = compare(port)
        except NotStarted:
            missing.append(name)
    words = "The answers agree: largest difference of a probability, or of a vector's cosine from 1, "
    words += ", ".join(f"{name} {value:.5f}" for name, value in apart.items()) + "."
    if max(apart.values(), default=0.0) > MOST_APART:
        raise RuntimeError(f"the peers do not see the same picture with the same weights: {apart}")
    if missing:
        words += f" Could not be started on this machine: {', '.join(missing)}."
    return {name: side for name, side in found.items() if name not in missing}, words


def _asked(port: int, path: str, **given: Any) -> Any:  # noqa: ANN401 - as httpx2 takes it and JSON comes
    answer = httpx2.post(f"http://127.0.0.1:{port}{path}", timeout=60, **given)
    answer.raise_for_status()
    return answer.json()


def _for_infinity(picture: bytes) -> dict[str, Any]:
    return {"model": "clip", "input": [_data_uri(picture)], "modality": "image"}


def _for_vllm(picture: bytes) -> dict[str, Any]:
    content = [{"type": "image_url", "image_url": {"url": _data_uri(picture)}}]
    return {"model": "clip", "encoding_format": "float", "messages": [{"role": "user", "content": content}]}


def _data_uri(picture: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(picture).decode()


def _gateway(model: str, precision: str) -> Callable[[], Started]:
    exported(model, precision, "cpu")

    @contextmanager
    def started() -> Iterator[tuple[int, int]]:
        with stack(model, precision, "cpu") as running:
            yield running.port, running.pid

    return started


def _service(command: Sequence[str], settings: Mapping[str, str]) -> Callable[[], Started]:
    @contextmanager
    def started() -> Iterator[tuple[int, int]]:
        environment = {**os.environ, **OFFLINE, **settings}
        require_free({"BENCH_PORT + 20": ("127.0.0.1", PORT)})  # or another's answers would be measured
        with tempfile.TemporaryFile() as log:
            process = subprocess.Popen(
                command,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=end_with_parent(),  # noqa: PLW1509 - one system call
            )
            try:
                end = time.monotonic() + START_TIMEOUT_S
                while not _answers():
                    if process.poll() is not None or time.monotonic() > end:
                        log.seek(0)
                        sys.stderr.write(log.read().decode(errors="replace"))
                        raise NotStarted(f"{command[0]} does not answer; its output is above")
                    time.sleep(0.5)
                yield PORT, process.pid
            finally:
                _stop(process)

    return started


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers() -> bool:
    try:
        return httpx2.get(f"http://127.0.0.1:{PORT}/health", timeout=5).status_code == httpx2.codes.OK
    except httpx2.TransportError:
        return False
