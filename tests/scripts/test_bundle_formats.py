"""What a bundle's config says of its format and its server, and what the export asks of the machine and of PyTorch."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from google.protobuf import text_format  # type: ignore[import-untyped]
from tritonclient.grpc import model_config_pb2

from gateway.inference.bundle import read_manifest
from scripts.export import sizing
from scripts.export.order import read_order
from scripts.export.refusal import ExportRefused
from scripts.export.sizing import Sizing
from scripts.export.triton_config import image_config, text_config
from tests.support.fake_encoder import write_bundle

SIZE = Sizing(instances=2, threads=3, max_batch=8, queue=128, rows_per_s=50.0, delay_us=400)


def configs(tmp_path: Path, target: str, format_name: str) -> tuple[Any, Any]:
    write_bundle(tmp_path)
    manifest = dataclasses.replace(
        read_manifest(tmp_path),
        target=target,
        format_name=format_name,
        exported_with={"quantized_engine": "onednn"} if format_name == "torchscript" else {},
    )
    return tuple(
        text_format.Parse(words, model_config_pb2.ModelConfig())
        for words in (image_config(manifest, SIZE), text_config(manifest, SIZE))
    )


def said(config: Any) -> dict[str, str]:
    """Return a config's parameters for its backend."""
    return {key: value.string_value for key, value in config.parameters.items() if key.isupper()}


def test_the_wheels_own_backend_gets_its_kernels_and_all_threads_for_a_lone_batch(tmp_path: Path) -> None:
    image, text = configs(tmp_path, "wheel", "torchscript")
    assert said(image)["QUANTIZED_ENGINE"] == "onednn"
    assert "QUANTIZED_ENGINE" not in said(text)
    assert said(image)["LONE_THREAD_COUNT"] == said(text)["LONE_THREAD_COUNT"] == "6"


def test_nvidias_backend_gets_what_it_reads_and_the_same_threads_for_both_models(tmp_path: Path) -> None:
    for config in configs(tmp_path, "container", "torchscript"):
        assert (config.backend, config.platform) == ("pytorch", "pytorch_libtorch")
        assert said(config) == {
            "INFERENCE_MODE": "true",
            "ENABLE_JIT_PROFILING": "false",
            "ENABLE_WEIGHT_SHARING": "true",
            "INTRA_OP_THREAD_COUNT": "3",
        }


def test_openvino_has_the_same_tensors_and_its_own_parameters(tmp_path: Path) -> None:
    image, text = configs(tmp_path, "wheel", "openvino")
    usual = configs(tmp_path, "wheel", "torchscript")
    for config, other in zip((image, text), usual, strict=True):
        assert (config.backend, config.platform) == ("openvino", "")
        assert (list(config.input), list(config.output)) == (list(other.input), list(other.output))
        assert said(config) == {"INFERENCE_NUM_THREADS": "3", "NUM_STREAMS": "1"}
        assert config.max_batch_size == 8


def test_nvidias_openvino_backend_computes_requests_one_by_one(tmp_path: Path) -> None:
    # With max_batch_size it would fill every batch up to that.
    image, text = configs(tmp_path, "container", "openvino")
    for config in (image, text):
        assert config.max_batch_size == 0
        assert not config.HasField("dynamic_batching")
        assert said(config) == {"INFERENCE_NUM_THREADS": "6", "NUM_STREAMS": "2"}
        assert {entry.batch_size for entry in config.model_warmup} == {0}
    assert image.input[0].dims[0] == -1
    assert [entry.inputs["pixels"].dims[0] for entry in image.model_warmup] == [1, 2, 8]
    assert list(text.input[0].dims) == [-1, -1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"target": "cloud"}, "TARGET=cloud is unknown: choose one of wheel, container"),
        ({"format_name": "onnx"}, "FORMAT=onnx is unknown: choose one of torchscript, openvino"),
    ],
)
def test_unknown_targets_and_formats_are_refused(words: dict[str, str], message: str) -> None:
    with pytest.raises(ExportRefused, match=message):
        read_order("demo", "fp32", "cpu", **words)  # type: ignore[arg-type]


def test_openvino_is_for_cpus() -> None:
    with pytest.raises(ExportRefused, match="FORMAT=openvino is for CPUs"):
        read_order("demo", "fp32", "cuda", format_name="openvino")
    assert read_order("demo", "fp32", "auto", format_name="openvino").device == "cpu"


def test_another_target_or_format_is_another_bundle() -> None:
    requests = {
        read_order("demo", "fp32", "cpu", target=target, format_name=name).request()
        for target in ("wheel", "container")
        for name in ("torchscript", "openvino")
    }
    assert len(requests) == 4


def test_a_pytorch_that_lacks_something_is_named_before_anything_is_traced() -> None:
    import torch

    from scripts.export.formats.torchscript import NEEDED, require

    require(torch)  # the one that is installed has all of it
    without = {name: getattr(torch, name) for name in ("jit", "ops", "_C")}
    newer = SimpleNamespace(__version__="9.0", ao=SimpleNamespace(), **without)
    assert "ao.quantization.quantize_dynamic" in NEEDED
    with pytest.raises(ExportRefused, match=r"PyTorch 9\.0 has no torch\.ao\.quantization.* install PyTorch 2\.12 to"):
        require(newer)


@pytest.mark.parametrize(
    ("files", "cores", "memory"),
    [
        ({"cpu.max": "100000 100000\n", "memory.max": "1073741824\n"}, 1, 1 << 30),
        ({"cpu.max": "50000 100000\n", "memory.max": "max\n"}, 1, None),
        ({"cpu.max": "max 100000\n"}, None, None),
        (
            {
                "cpu/cpu.cfs_quota_us": "100000\n",
                "cpu/cpu.cfs_period_us": "100000\n",
                "memory/memory.limit_in_bytes": "536870912\n",
            },
            1,
            1 << 29,
        ),
        (
            {
                "cpu/cpu.cfs_quota_us": "-1\n",
                "cpu/cpu.cfs_period_us": "100000\n",
                "memory/memory.limit_in_bytes": "9223372036854771712\n",
            },
            None,
            None,
        ),
        ({}, None, None),
    ],
)
def test_cores_and_memory_are_what_the_container_may_use(
    files: dict[str, str], cores: int | None, memory: int | None, tmp_path: Path
) -> None:
    nowhere = tmp_path / "nowhere"
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert sizing.usable_cores(tmp_path) == (cores or sizing.usable_cores(nowhere))
    assert sizing.usable_memory(tmp_path) == (memory or sizing.usable_memory(nowhere))
