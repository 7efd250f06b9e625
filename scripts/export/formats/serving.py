"""What Triton's config says of a bundle's format: backend, threads, and who makes batches. Imports no torch."""

from __future__ import annotations

from gateway.inference.bundle import IMAGE_MODEL, Manifest
from scripts.export.sizing import Sizing

# What libtorch reads. The profiling executor would optimise anew at every batch size it has not seen. The number of
# inter-op threads is left alone: set in two models, it aborts the server.
LIBTORCH = {"INFERENCE_MODE": "true", "ENABLE_JIT_PROFILING": "false"}
BACKENDS = {"torchscript": ("pytorch", "pytorch_libtorch"), "openvino": ("openvino", "")}
"""``backend`` and ``platform`` of the config, by format."""


def batches_itself(manifest: Manifest) -> bool:
    """Return whether Triton puts requests together.

    NVIDIA's OpenVINO backend fixes a model that batches to ``max_batch_size`` rows, and fills up what is smaller: there
    a request is computed by itself, with all its rows.
    """
    return (manifest.format_name, manifest.target) != ("openvino", "container")


def parameters(model: str, manifest: Manifest, sizing: Sizing) -> dict[str, str]:
    """Return what a model's config tells its backend."""
    if manifest.format_name == "openvino":
        return _openvino(manifest, sizing)
    return _torchscript(model, manifest, sizing)


def _torchscript(model: str, manifest: Manifest, sizing: Sizing) -> dict[str, str]:
    found = LIBTORCH | {"INTRA_OP_THREAD_COUNT": str(sizing.threads)}
    if manifest.target == "container":
        return found | {"ENABLE_WEIGHT_SHARING": "true"}
    # For the Python-based backend alone; libtorch ignores both.
    if manifest.device == "cpu" and sizing.instances > 1:
        # A batch that runs alone takes the threads of all instances.
        found["LONE_THREAD_COUNT"] = str(sizing.threads * sizing.instances)
    if model == IMAGE_MODEL and (engine := manifest.exported_with.get("quantized_engine")):
        found["QUANTIZED_ENGINE"] = engine
    return found


def _openvino(manifest: Manifest, sizing: Sizing) -> dict[str, str]:
    # NVIDIA's backend compiles a model once for all its instances, each of which is a stream; in the wheel each
    # instance is a process with a stream of its own.
    streams = sizing.instances if manifest.target == "container" else 1
    return {"INFERENCE_NUM_THREADS": str(sizing.threads * streams), "NUM_STREAMS": str(streams)}
