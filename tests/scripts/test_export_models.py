"""The export: what it writes, and how it keeps a bundle whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from google.protobuf import text_format  # type: ignore[import-untyped]
from transformers import CLIPModel
from tritonclient.grpc import model_config_pb2

from gateway.inference.bundle import file_sha256, read_manifest
from scripts.export import parity, pipeline, sizing
from scripts.export.formats import torchscript
from scripts.export.lock import exclusive, hold_for_serving
from scripts.export.refusal import ExportRefused
from scripts.export.source import parse_source
from scripts.export.towers import ImageTower, TextTower
from tests.support.tiny_clip import export, tiny_clip

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_clip(tmp_path_factory.mktemp("models") / "tiny-clip")


ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def repository(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "model_repository"
    assert export(tiny, folder) == 0
    return folder


def loaded(repository: Path, name: str) -> torch.jit.ScriptModule:
    return torchscript.load(str(repository / name / "1" / "model.pt"), torch.device("cpu"))


def config_of(repository: Path, name: str) -> Any:
    return text_format.Parse((repository / name / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())


def test_manifest_says_what_was_exported(repository: Path) -> None:
    manifest = read_manifest(repository)
    assert manifest.model.id == "tiny-clip"
    assert not manifest.model.demo
    assert not manifest.model.random
    assert (manifest.image.size_px, manifest.image.resize_px) == (32, 36)
    assert manifest.image.mean == (0.5, 0.4, 0.3)
    assert manifest.text.length_buckets == (8, 16, 20)
    assert (manifest.text.bos_id, manifest.text.eos_id) == (512, 513)
    assert manifest.embedding_dim == 24
    assert manifest.parity["image"]["max_abs"] < 1e-5
    assert manifest.parity["text"]["max_abs"] < 1e-5
    assert manifest.templates == ("a photo of {}",)
    assert {name: file_sha256(repository / name) for name in manifest.checksums} == manifest.checksums


def test_image_tower_equals_eager_on_plainly_normalised_pixels(repository: Path, tiny: Path) -> None:
    pixels = np.random.default_rng(5).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    plain = (torch.from_numpy(pixels).float() / 255 - torch.tensor([0.5, 0.4, 0.3])) / torch.tensor([0.2, 0.25, 0.3])
    with torch.inference_mode():
        expected = CLIPModel.from_pretrained(tiny).get_image_features(plain.permute(0, 3, 1, 2)).pooler_output
        found = loaded(repository, "clip_image")(torch.from_numpy(pixels))
    expected = expected / expected.norm(dim=-1, keepdim=True)
    assert found.dtype == torch.float32
    assert float((found - expected).abs().max()) < 1e-5


def test_text_tower_reads_the_first_end_token_and_ignores_what_follows(repository: Path) -> None:
    text = loaded(repository, "clip_text")
    with torch.inference_mode():
        short = text(torch.tensor([[512, 5, 6, 513]]))
        for tail in ([513] * 4, [0] * 4, [7, 513, 9, 9], [512, 511, 510, 513]):
            assert torch.allclose(short, text(torch.tensor([[512, 5, 6, 513, *tail]])), atol=1e-6)
        assert not torch.allclose(short, text(torch.tensor([[512, 5, 513, 6]])), atol=1e-2)


NO_TEXTS = (
    pytest.param([512, 99_999, 513, 513], id="an id that the vocabulary lacks"),
    pytest.param([512, -(2**63), 513, 513], id="a negative id"),
    pytest.param([512, 2**63 - 1, 513, 513], id="the largest id"),
    pytest.param([512, 5, 6, 7], id="no end token"),
    pytest.param([512, 5] + [513] * 19, id="longer than the context"),
)


@pytest.mark.parametrize("row", NO_TEXTS)
def test_a_row_that_is_no_text_gets_nan_and_its_neighbours_their_vectors(row: list[int], repository: Path) -> None:
    text = loaded(repository, "clip_text")
    good = [[512, 5, 6] + [513] * (len(row) - 3), [512, 7] + [513] * (len(row) - 2)]
    with torch.inference_mode():
        found = text(torch.tensor([good[0], row, good[1]]))
        assert torch.isnan(found[1]).all()
        if len(row) <= 20:
            expected = text(torch.tensor(good))
            assert torch.isfinite(expected).all()
            assert torch.allclose(found[[0, 2]], expected, atol=1e-6)


def test_neither_the_file_nor_an_error_tells_a_path_of_the_exporting_machine(repository: Path) -> None:
    paths = (str(ROOT).encode(), sys.prefix.encode(), str(Path.home()).encode() + b"/")
    for name in ("clip_image", "clip_text"):
        with zipfile.ZipFile(repository / name / "1" / "model.pt") as archive:
            for entry in archive.namelist():
                assert not entry.endswith(".debug_pkl")
                assert not any(path in archive.read(entry) for path in paths), entry
    with pytest.raises(RuntimeError) as caught:
        loaded(repository, "clip_image")(torch.zeros(1, 8, 8, 3, dtype=torch.uint8))
    assert "serialized code" in str(caught.value) or "TorchScript" in str(caught.value)
    assert not any(path.decode() in str(caught.value) for path in paths)


def test_a_bundle_for_the_container_is_measured_on_libtorchs_own_engine(tiny: Path, tmp_path: Path) -> None:
    assert export(tiny, tmp_path, "--precision", "int8", "--target", "container") == 0
    manifest = read_manifest(tmp_path)
    code = "import torch; print(torch.backends.quantized.engine)"
    default = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert (manifest.target, manifest.exported_with["quantized_engine"]) == ("container", default)
    assert "QUANTIZED_ENGINE" not in config_of(tmp_path, "clip_image").parameters


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_openvino_gives_the_same_vectors_by_the_same_names(
    precision: str, tiny: Path, repository: Path, tmp_path: Path
) -> None:
    pytest.importorskip("openvino", reason="the extra openvino is not installed")
    from scripts.export.formats.makers import maker

    assert export(tiny, tmp_path, "--format", "openvino", "--precision", precision) == 0
    manifest = read_manifest(tmp_path)
    assert manifest.format_name == "openvino"
    assert manifest.bundle_id == read_manifest(repository).bundle_id
    assert manifest.parity["image"]["min_cosine"] > (0.9999 if precision == "fp32" else 0.995)
    device = torch.device("cpu")
    text = maker("openvino").load(tmp_path / "clip_text" / "1", device, "wheel")
    good = [[512, 5, 6, *[513] * 18], [512, 7, *[513] * 19]]
    for row in ([512, 99_999, 513], [512, -1, 513], [512, 5, 6], [512, 5] + [513] * 19):
        padded = row + [7] * (21 - len(row)) if 513 not in row else row + [513] * (21 - len(row))
        length = 21 if len(row) == 21 else 20
        found = text(torch.tensor([one[:length] for one in (good[0], padded, good[1])]))
        assert torch.isnan(found[1]).all()
        if length == 20:
            expected = loaded(repository, "clip_text")(torch.tensor([one[:length] for one in good]))
            assert torch.allclose(found[[0, 2]], expected, atol=1e-5)


def test_an_export_beside_a_running_stack_leaves_its_bundle_alone(tiny: Path, repository: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in repository.rglob("*") if path.is_file()}
    held = hold_for_serving(repository)
    assert held is not None
    try:
        assert export(tiny, tmp_path / "next", "--target", "container") == 0
    finally:
        os.close(held)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert read_manifest(tmp_path / "next").bundle_id == read_manifest(repository).bundle_id


def test_graphs_hold_no_device_and_take_the_named_arguments(repository: Path) -> None:
    for name, argument in (("clip_image", "pixels"), ("clip_text", "input_ids")):
        module = loaded(repository, name)
        assert torchscript.device_constants(module) == []
        assert [entry.name for entry in module.forward.schema.arguments[1:]] == [argument]  # type: ignore[attr-defined]


def test_configs_are_valid_and_tell_a_bare_client_what_it_needs(repository: Path) -> None:
    manifest = read_manifest(repository)
    image, text = config_of(repository, "clip_image"), config_of(repository, "clip_text")
    for config in (image, text):
        assert (config.backend, config.platform) == ("pytorch", "pytorch_libtorch")
        assert 0 < config.dynamic_batching.max_queue_delay_microseconds <= 2000
        assert not config.dynamic_batching.HasField("default_queue_policy")  # Triton would sleep beside work
        assert int(config.parameters["inferences_at_most"].string_value) > 128
        assert [(entry.name, list(entry.dims)) for entry in config.output] == [("embedding__0", [24])]
        assert config.parameters["bundle_id"].string_value == manifest.bundle_id
        assert config.parameters["ENABLE_JIT_PROFILING"].string_value == "false"
        assert "INTER_OP_THREAD_COUNT" not in config.parameters
        assert not any(entry.optional for entry in config.input)
    assert (image.input[0].name, list(image.input[0].dims)) == ("pixels", [32, 32, 3])
    assert image.max_batch_size == manifest.image_max_batch
    assert {entry.batch_size for entry in image.model_warmup} >= {1, image.max_batch_size}
    assert (text.input[0].name, list(text.input[0].dims)) == ("input_ids", [-1])
    assert {entry.inputs["input_ids"].dims[0] for entry in text.model_warmup} == {8, 16, 20}
    assert text.parameters["eos_id"].string_value == "513"
    assert json.loads(text.parameters["templates"].string_value) == ["a photo of {}"]


@pytest.mark.parametrize(("precision", "floor"), [("int8", 0.995), ("fp16", 0.999)])
def test_other_precisions_keep_the_bundle_id_and_stay_above_their_floor(
    precision: str, floor: float, tiny: Path, repository: Path, tmp_path: Path
) -> None:
    assert export(tiny, tmp_path, "--precision", precision) == 0
    manifest = read_manifest(tmp_path)
    assert manifest.precision == precision
    assert manifest.bundle_id == read_manifest(repository).bundle_id
    assert min(manifest.parity[tower]["min_cosine"] for tower in ("image", "text")) >= floor
    text = config_of(tmp_path, "clip_text").parameters["precision"].string_value
    assert text == ("fp32" if precision == "int8" else precision)
    if text == "fp32":
        assert manifest.parity["text"]["max_abs"] <= 1e-4


def test_other_weights_have_another_bundle_id(tmp_path: Path, repository: Path) -> None:
    assert export(tiny_clip(tmp_path / "other", seed=1), tmp_path / "repository") == 0
    assert read_manifest(tmp_path / "repository").bundle_id != read_manifest(repository).bundle_id


def test_old_configs_with_the_wrong_end_token_give_the_same_vectors(tmp_path: Path, repository: Path) -> None:
    # transformers reads such a model at its largest id, which is the end token.
    assert export(tiny_clip(tmp_path / "legacy", eos_token_id=2), tmp_path / "repository") == 0
    ids = torch.tensor([[512, 8, 9, 513, 513, 513, 513, 513]])
    assert torch.equal(loaded(tmp_path / "repository", "clip_text")(ids), loaded(repository, "clip_text")(ids))


def test_a_present_bundle_is_recognised_fast_and_without_torch(tiny: Path, repository: Path) -> None:
    code = (
        "import sys\nfrom scripts.export.__main__ import main\n"
        f"code = main(['--model', {str(tiny)!r}, '--repository', {str(repository)!r}, '--device', 'cpu'])\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules\nsys.exit(code)"
    )
    begin = os.times()
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "already" in done.stdout
    end = os.times()
    spent_s = end.children_user + end.children_system - begin.children_user - begin.children_system
    assert spent_s < 3  # a tenth of a second


@pytest.mark.heavy
def test_a_damaged_bundle_and_a_changed_source_are_exported_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, target = tiny_clip(tmp_path / "model"), tmp_path / "repository"
    assert export(model, target) == 0
    first = read_manifest(target).bundle_id
    (target / "clip_text" / "config.pbtxt").write_text("name: 'broken'")
    assert export(model, target) == 0
    assert config_of(target, "clip_text").name == "clip_text"
    capsys.readouterr()
    tiny_clip(model, seed=3)
    assert export(model, target) == 0
    assert "already" not in capsys.readouterr().out
    assert read_manifest(target).bundle_id != first


def test_a_served_bundle_is_never_replaced(tiny: Path, repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held = hold_for_serving(repository)
    assert held is not None
    try:
        assert export(tiny, repository, "--precision", "int8") == 1
        assert export(tiny, repository) == 0  # it is there already: nothing to write
    finally:
        os.close(held)
    assert "in use by a running stack" in capsys.readouterr().err
    assert read_manifest(repository).precision == "fp32"


def test_nothing_serves_a_bundle_while_it_is_written(tmp_path: Path) -> None:
    with exclusive(tmp_path), pytest.raises(BlockingIOError):
        hold_for_serving(tmp_path)


def test_a_failed_export_leaves_the_old_bundle_whole(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "repository"
    assert export(tiny, target) == 0
    before = read_manifest(target)

    def refuse(*_: object, **__: object) -> None:
        raise ExportRefused("too far from the original")

    monkeypatch.setattr(parity, "check", refuse)
    assert export(tiny_clip(tmp_path / "other", seed=1), target) == 1
    assert read_manifest(target) == before
    assert {name: file_sha256(target / name) for name in before.checksums} == before.checksums
    assert not (target / ".staging").exists()  # Triton would take it for a model


def test_rows_that_begin_alike_share_their_beginning_and_get_the_same_vectors(tiny: Path) -> None:
    model = pipeline.load(parse_source(str(tiny)))
    eos_id = model.words.transform.eos_id
    example = parity.example_ids(model.words, 2, 20, seed=0)
    shared, plain = (
        torchscript.trace(deepcopy(TextTower(model.eager, eos_id, sharing=sharing)).eval(), example)
        for sharing in (True, False)
    )
    ids = parity.example_ids(model.words, 60, 12, seed=1)
    ends = (ids == eos_id).int().argmax(dim=1)
    assert len(set(ends.tolist())) > 3
    for common in range(13):  # up to rows that are all the same, where the end token is not shared
        alike = ids.clone()
        alike[:, :common] = ids[0, :common]
        assert torch.allclose(shared(alike), plain(alike), atol=1e-5), common
        end = (alike == eos_id).int().argmax(dim=1, keepdim=True)
        expected = min(common, int(end.min())) if common else 1  # all begin with the start token
        assert int(TextTower.begins_alike(alike, end)) == (expected if 59 * expected >= 40 else 0)


def test_half_precision_as_on_a_gpu_stays_above_its_floor(tiny: Path) -> None:
    # The graph that a GPU gets, computed here on the CPU. Towers share modules with the eager model: hence the copies.
    model = pipeline.load(parse_source(str(tiny)))
    device = torch.device("cpu")
    image = ImageTower(model.eager, model.transform.mean, model.transform.std)
    text = TextTower(model.eager, model.words.transform.eos_id, sharing=False)
    figures = parity.check(
        model.eager,
        torchscript.trace(torchscript.in_half_precision(deepcopy(image).eval()), parity.example_pixels(2, 32, seed=0)),
        torchscript.trace(
            torchscript.in_half_precision(deepcopy(text).eval()), parity.example_ids(model.words, 2, 20, seed=0)
        ),
        transform=model.transform,
        vocabulary=model.words,
        precision="fp16",
        device=device,
    )
    assert figures.image.min_cosine > 0.9999
    assert figures.text.min_cosine > 0.9999


@pytest.mark.parametrize(
    ("cores", "gigabytes", "expected"),
    [(1, 0.6, (1, 1)), (2, 0.6, (2, 1)), (4, 0.6, (4, 1)), (16, 0.0, (8, 2)), (4, 10_000, (1, 4)), (7, 0.0, (7, 1))],
)
def test_cores_are_divided_between_instances(cores: int, gigabytes: float, expected: tuple[int, int]) -> None:
    assert sizing.instances_and_threads(cores, int(gigabytes * 1e9)) == expected


def test_small_models_get_fewer_instances_and_slow_ones_smaller_batches() -> None:
    assert sizing.instances_needed(4, 12.0) == 4
    assert sizing.instances_needed(4, 1000.0) == 2
    assert sizing.instances_needed(4, 9000.0) == 1
    assert sizing.largest_batch(12.0, 32) == 16
    assert sizing.largest_batch(0.5, 32) == 4
    assert sizing.batches_worth_trying(16.0) == (4, 6, 8, 12, 16)
    assert sizing.batches_worth_trying(0.5) == (4,)
    assert (sizing.queue_places(10.0), sizing.queue_places(500.0)) == (128, 1000)
    assert (sizing.queue_delay_us(16.0), sizing.queue_delay_us(1000.0), sizing.queue_delay_us(1.0)) == (625, 10, 2000)


def test_a_batch_is_as_large_as_throughput_is_worth() -> None:
    assert sizing.best_batch({4: 19.4, 6: 20.3, 8: 19.7, 12: 20.9, 16: 20.9, 24: 21.1}) == 6, "ViT-B/32 on one thread"
    assert sizing.best_batch({8: 1500.0, 12: 1590.0, 16: 1600.0, 32: 1610.0}) == 32, "each batch costs the server, too"
    assert sizing.best_batch({4: 0.5}) == 4
