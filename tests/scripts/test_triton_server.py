"""The launcher and the backend: a real Triton on a tiny model, batching, faults, restarts, and nothing left behind."""

from __future__ import annotations

import os
import queue
import re
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from gateway.inference.bundle import read_manifest
from scripts.export.formats import torchscript
from scripts.triton import leftovers
from scripts.triton.failure import TritonFailed
from scripts.triton.server import Settings
from scripts.triton.supervisor import TritonSupervisor
from tests.conftest import Stack, free_ports
from tests.support.tiny_clip import export, tiny_clip
from tests.support.waiting import UNTIL_S, until

pytestmark = pytest.mark.heavy

LARGE = 32  # pictures in a batch, at most
MEET = LARGE - 1  # that come together, so that a batch of theirs is told from a large one


@dataclass(frozen=True)
class Served:
    """A running Triton, looked after by a thread as ``scripts.serve`` would."""

    settings: Settings
    supervisor: TritonSupervisor
    log: list[str]

    def client(self) -> Any:
        return triton.InferenceServerClient(f"127.0.0.1:{self.settings.grpc_port}")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("triton") / "model_repository"
    assert export(tiny_clip(folder.parent / "tiny-clip"), folder) == 0
    # One instance, so that requests that come together wait for each other and are batched.
    config = folder / "clip_image" / "config.pbtxt"
    words = re.sub(r"count: \d+", "count: 1", config.read_text())
    config.write_text(re.sub(r"max_batch_size: \d+", f"max_batch_size: {LARGE}", words))
    return folder


@pytest.fixture(scope="module")
def served(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    http, grpc, metrics = free_ports(3)
    settings = Settings(repository, tmp_path_factory.mktemp("data"), http, grpc, metrics)
    supervisor = TritonSupervisor(settings, (log := list[str]()).append)
    supervisor.prepare()
    supervisor.start()
    stop = threading.Event()

    def look_after() -> None:
        while not stop.wait(0.05):
            supervisor.poll()

    thread = threading.Thread(target=look_after)
    thread.start()
    try:
        until(lambda: supervisor.ready, lambda: last(log))
        yield Served(settings, supervisor, log)
    finally:
        stop.set()
        thread.join()
        supervisor.stop()
    assert leftovers.processes(settings.prefix) == []
    assert leftovers.regions(settings.prefix) == []


def last(log: list[str]) -> str:
    """Return the end of a log."""
    return "\n".join(log[-30:])


def image(client: Any, pixels: np.ndarray[Any, Any], **options: Any) -> np.ndarray[Any, Any]:
    given = triton.InferInput("pixels", pixels.shape, "UINT8")
    given.set_data_from_numpy(pixels)
    return np.asarray(client.infer("clip_image", [given], **options).as_numpy("embedding__0"))


def burst(client: Any, count: int) -> list[np.ndarray[Any, Any]]:
    """Send the pictures of the first ``count`` seeds without waiting in between, so that they meet in the queue.

    They stand behind a large batch: on no machine are the first computed before the last have come.
    """
    answers: list[queue.Queue[Any]] = [queue.Queue() for _ in range(1 + count)]
    inputs = []
    for sent in (pictures(LARGE), *(pictures(1, seed) for seed in range(count))):
        given = triton.InferInput("pixels", sent.shape, "UINT8")
        given.set_data_from_numpy(sent)
        inputs.append([given])
    for answer, given in zip(answers, inputs, strict=True):
        client.async_infer(
            "clip_image", given, callback=lambda result, error, answer=answer: answer.put(error or result)
        )
    results = [answer.get(timeout=UNTIL_S) for answer in answers][1:]
    return [np.asarray(result.as_numpy("embedding__0")) for result in results]


def text(client: Any, ids: list[list[int]]) -> np.ndarray[Any, Any]:
    array = np.array(ids, dtype=np.int64).reshape(len(ids), -1)
    given = triton.InferInput("input_ids", array.shape, "INT64")
    given.set_data_from_numpy(array)
    return np.asarray(client.infer("clip_text", [given]).as_numpy("embedding__0"))


def pictures(count: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def test_answers_are_the_exported_models_own(served: Served, repository: Path) -> None:
    pixels, ids = pictures(3), [[512, 4, 5, 513, 513, 513, 513, 513]]
    for name, sent, found in (
        ("clip_image", torch.from_numpy(pixels), image(served.client(), pixels)),
        ("clip_text", torch.tensor(ids), text(served.client(), ids)),
    ):
        module = torchscript.load(str(repository / name / "1" / "model.pt"), torch.device("cpu"))
        with torch.inference_mode():
            expected = module(sent).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


def test_the_config_that_triton_gives_out_names_the_bundle(served: Served, repository: Path) -> None:
    manifest = read_manifest(repository)
    for name in ("clip_image", "clip_text"):
        config = served.client().get_model_config(name).config
        assert config.parameters["bundle_id"].string_value == manifest.bundle_id
    assert [model.name for model in served.client().get_model_repository_index().models] == ["clip_image", "clip_text"]


def counted(client: Any, size: int) -> tuple[int, int, int]:
    """Return how many pictures and batches were computed, and how many batches of a size."""
    found = client.get_inference_statistics("clip_image").model_stats[0]
    of_size = sum(one.compute_infer.count for one in found.batch_stats if one.batch_size == size)
    return found.inference_count, found.execution_count, of_size


def test_requests_that_come_together_run_as_one_batch_and_keep_their_rows(served: Served) -> None:
    client = served.client()
    alone = [image(client, pictures(1, seed)) for seed in range(MEET)]

    def counts() -> tuple[int, int]:
        """Triton counts a run after it has answered, an instance's in order: waits for one that can be told."""
        before = counted(client, LARGE)[2]
        image(client, pictures(LARGE))
        until(lambda: counted(client, LARGE)[2] > before)
        return counted(client, LARGE)[:2]

    inferences, executions = counts()
    for _ in range(5):
        for one, other in zip(alone, burst(client, MEET), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)
    after = counts()
    assert after[0] - inferences == 5 * MEET + 6 * LARGE
    assert after[1] - executions - 6 < 0.75 * 5 * MEET  # some shared a run; how many depends on the machine


def test_one_bad_value_fails_its_own_request_alone(served: Served) -> None:
    good, bad = [[512, 4, 513, 513, 513, 513, 513, 513]], [[512, 99_999, 513, 513, 513, 513, 513, 513]]
    expected = text(served.client(), good)
    client = served.client()

    def ask(index: int) -> np.ndarray[Any, Any]:
        return text(client, bad if index % 4 == 0 else good)

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(48)))
    for index, answer in enumerate(answers):
        if index % 4 == 0:
            assert np.isnan(answer).all()  # which no client takes for a vector
        else:
            np.testing.assert_allclose(answer, expected, atol=1e-5)


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(lambda client: text(client, [[]]), id="no ids"),
        pytest.param(lambda client: image(client, np.zeros((1, 16, 16, 3), np.uint8)), id="wrong size"),
        pytest.param(lambda client: image(client, pictures(999)), id="above max_batch_size"),
    ],
)
def test_bad_requests_fail_alone(bad: Callable[[Any], object], served: Served) -> None:
    with pytest.raises(InferenceServerException) as caught:
        bad(served.client())
    assert ".py" not in str(caught.value)
    assert image(served.client(), pictures(1)).shape == (1, 24)


def test_openvino_is_served_by_the_same_names_and_its_neighbours_are_unharmed_too(
    repository: Path, served: Served, tmp_path: Path
) -> None:
    pytest.importorskip("openvino", reason="the extra openvino is not installed")
    assert export(repository.parent / "tiny-clip", tmp_path / "models", "--format", "openvino") == 0
    supervisor = TritonSupervisor(
        Settings(tmp_path / "models", tmp_path / "data", *free_ports(3)), (log := list[str]()).append
    )
    supervisor.prepare()
    try:
        supervisor.start()
        assert supervisor.wait_ready(), last(log)
        client = triton.InferenceServerClient(f"127.0.0.1:{supervisor._settings.grpc_port}")
        np.testing.assert_allclose(image(client, pictures(3)), image(served.client(), pictures(3)), atol=1e-5)
        good, bad = [512, 4, *[513] * 6], [512, -7, *[513] * 6]
        found = text(client, [good, bad])
        assert np.isnan(found[1]).all()
        np.testing.assert_allclose(found[:1], text(served.client(), [good]), atol=1e-5)
    finally:
        supervisor.stop()


def test_a_second_stack_on_the_same_data_folder_or_ports_is_refused(served: Served, tmp_path: Path) -> None:
    second = TritonSupervisor(served.settings, lambda _: None)
    with pytest.raises(TritonFailed, match="another stack uses"):
        second.prepare()
    second.stop()
    ports = (served.settings.http_port, served.settings.grpc_port, served.settings.metrics_port)
    third = TritonSupervisor(Settings(served.settings.repository, tmp_path, *ports), lambda _: None)
    with pytest.raises(TritonFailed, match=rf"port {ports[0]} .* set TRITON_HTTP_PORT"):
        third.prepare()
    third.stop()
    assert image(served.client(), pictures(1)).shape == (1, 24)


def test_a_running_stacks_bundle_cannot_be_replaced(
    served: Served, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(repository.parent / "tiny-clip", repository, "--precision", "int8") == 1
    assert "in use by a running stack" in capsys.readouterr().err
    assert served.supervisor.ready


def answers_again(served: Served) -> bool:
    try:
        return bool(image(served.client(), pictures(1), client_timeout=5).shape == (1, 24))
    except InferenceServerException:
        return False


def test_a_killed_triton_comes_back_without_its_orphans(served: Served) -> None:
    before = set(leftovers.processes(served.settings.prefix))
    killed = served.supervisor.pid
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    until(lambda: served.supervisor.pid not in {None, killed} and served.supervisor.ready, lambda: last(served.log))
    until(lambda: answers_again(served), lambda: last(served.log))
    after = set(leftovers.processes(served.settings.prefix))
    assert len(after) == len(before)
    assert not before & after


def test_a_killed_model_instance_is_noticed_and_replaced(served: Served) -> None:
    # Triton itself stays "ready" then, and fails what reaches that instance for ever.
    server = served.supervisor.pid
    stub = next(process for process in leftovers.processes(served.settings.prefix) if process != server)
    os.kill(stub, signal.SIGKILL)
    until(lambda: served.supervisor.pid not in {None, server} and served.supervisor.ready, lambda: last(served.log))
    until(lambda: answers_again(served), lambda: last(served.log))


def test_the_instances_of_a_model_share_its_weights(stack: Stack) -> None:
    """What a process maps of the model's file is the file's own pages: none of them are private copies."""
    stubs = [psutil.Process(pid) for pid in leftovers.processes(leftovers.stack_prefix(stack.data_dir))]
    for model in ("clip_image", "clip_text"):
        words = (stack.model_repository / model / "config.pbtxt").read_text(encoding="utf-8")
        instances = int(re.search(r"instance_group \{\s+count: (\d+)", words)[1])  # type: ignore[index]
        file = stack.model_repository / model / "1" / "model.pt"
        maps = [one for stub in stubs for one in stub.memory_maps() if one.path == str(file.resolve())]
        assert len(maps) == instances
        for one in maps:
            assert one.rss > 0.5 * file.stat().st_size
            assert one.private_dirty == one.anonymous == 0
