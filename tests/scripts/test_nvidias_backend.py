"""A bundle for the container on NVIDIA's own backend, where one is built: LIBTORCH_BACKEND names its folder.

The folder holds ``libtriton_pytorch.so``, built for the wheel's server from the public sources (docs/bundles.md).
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import torch
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from scripts.export.formats import torchscript
from scripts.triton.server import Settings, command, environment
from scripts.triton.wheel import find_server
from tests.conftest import ROOT, free_ports
from tests.support.tiny_clip import export, tiny_clip
from tests.support.waiting import until

BACKEND = os.environ.get("LIBTORCH_BACKEND")
pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(not BACKEND, reason="LIBTORCH_BACKEND names no folder with NVIDIA's backend"),
]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("container") / "model_repository"
    words = ("--target", "container", "--instances", "2", "--text-instances", "1", "--threads", "1")
    assert export(tiny_clip(folder.parent / "tiny-clip"), folder, *words) == 0
    return folder


@pytest.fixture(scope="module")
def served(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Path]]:
    folder = tmp_path_factory.mktemp("native")
    (folder / "backends").mkdir()
    (folder / "backends" / "pytorch").symlink_to(Path(BACKEND or "").resolve())
    settings = Settings(repository, folder, *free_ports(3))
    words = [word for word in command(find_server(), folder / "backends", settings) if "python" not in word]
    log = folder / "triton.log"
    with log.open("wb") as output:
        process = subprocess.Popen(words, env=environment(find_server()), stdout=output, stderr=output)

    def ready() -> bool:
        assert process.poll() is None, log.read_text(errors="replace")[-3000:]
        try:
            return httpx2.get(f"http://127.0.0.1:{settings.http_port}/v2/health/ready", timeout=2).status_code == 200
        except httpx2.TransportError:
            return False

    try:
        until(ready)
        yield triton.InferenceServerClient(f"127.0.0.1:{settings.grpc_port}"), log
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def ask(client: Any, model: str, name: str, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    given = triton.InferInput(name, rows.shape, "INT64" if rows.dtype == np.int64 else "UINT8")
    given.set_data_from_numpy(rows)
    return np.asarray(client.infer(model, [given]).as_numpy("embedding__0"))


def test_it_gives_the_vectors_of_the_files(served: tuple[Any, Path], repository: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    ids = np.array([[512, 4, 5, 513, 513, 513, 513, 513]])
    for model, name, rows in (("clip_image", "pixels", pixels), ("clip_text", "input_ids", ids)):
        module = torchscript.load(str(repository / model / "1" / "model.pt"), torch.device("cpu"))
        with torch.inference_mode():
            expected = module(torch.from_numpy(rows)).numpy()
        np.testing.assert_allclose(ask(served[0], model, name, rows), expected, atol=1e-6)


def test_one_bad_value_fails_its_own_request_alone(served: tuple[Any, Path]) -> None:
    good, bad = (np.array([[512, word, *[513] * 6]]) for word in (4, 99_999))
    expected = ask(served[0], "clip_text", "input_ids", good)
    with ThreadPoolExecutor(16) as pool:
        sent = [bad if index % 4 == 0 else good for index in range(240)]
        answers = list(pool.map(lambda rows: ask(served[0], "clip_text", "input_ids", rows), sent))
    assert all(np.isnan(answer).all() for answer in answers[::4])
    for index, answer in enumerate(answers):
        if index % 4:
            np.testing.assert_allclose(answer, expected, atol=1e-5)


def test_its_errors_tell_no_path_and_its_instances_share_weights(served: tuple[Any, Path]) -> None:
    with pytest.raises(InferenceServerException) as caught:
        ask(served[0], "clip_text", "input_ids", np.zeros((1, 0), np.int64))
    assert "TorchScript" in str(caught.value)
    assert str(ROOT) not in str(caught.value)
    assert "Reusing TorchScript model for instance 'clip_image" in served[1].read_text(errors="replace")
