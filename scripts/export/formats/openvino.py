"""OpenVINO's intermediate representation, for CPUs; Triton's ``openvino`` backends serve it."""

from __future__ import annotations

import copy
import inspect
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from scripts.export.formats.torchscript import quiet_deprecations
from scripts.export.refusal import ExportRefused

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # an export tells nobody what it converts

import openvino  # noqa: E402 - after the line above

FILE = "model.xml"
AS_WRITTEN = {"INFERENCE_PRECISION_HINT": "f32"}
"""Else OpenVINO computes fp32 in bf16 on a CPU that can. NVIDIA's backend has no parameter that would prevent it."""
ROUNDED_TOGETHER = 128
"""Activations that share one scale in 8 bits. Measured on two cores with ViT-B/32 and 8 rows: 25 pictures/s in groups
of 32 (OpenVINO's default), 32 in groups of 128, 34 in groups of 768, with cosines to fp32 of .9997 in all."""


class OpenVino:
    """``<version>/model.xml`` with its weights in ``model.bin``."""

    def require(self) -> None:
        """See ``Format.require``: importing this module has."""

    def write(self, tower: nn.Module, example: torch.Tensor, precision: str, target: str, folder: Path) -> None:  # noqa: ARG002
        """See ``Format.write``.

        fp16 and int8 are the weights' alone, per output channel and without calibration. On a CPU with instructions for
        it the runtime rounds activations to 8 bits as they come, in groups, and multiplies in 8 bits.
        """
        tower = copy.deepcopy(tower).eval()
        for parameter in tower.parameters():
            parameter.requires_grad = False
        with quiet_deprecations(), torch.no_grad():
            traced = torch.jit.trace(tower, example, check_trace=False)  # type: ignore[no-untyped-call]
            model = openvino.convert_model(traced, example_input=example)
        # Their only names: NVIDIA's backend asks for any of them.
        (argument,) = inspect.signature(tower.forward).parameters
        model.input(0).get_tensor().set_names({argument})
        model.output(0).get_tensor().set_names({"embedding__0"})
        if precision == "int8":
            model = _with_int8_weights(model)
        openvino.save_model(model, folder / FILE, compress_to_fp16=precision == "fp16")

    def load(self, folder: Path, device: torch.device, target: str) -> Any:  # noqa: ANN401, ARG002 - see Format.load
        """See ``Format.load``. It takes as many threads as PyTorch has when it is first called."""
        return Compiled(folder / FILE, {} if target == "container" else AS_WRITTEN)

    def versions(self, precision: str, device: str) -> dict[str, str]:  # noqa: ARG002
        """See ``Format.versions``."""
        return {"openvino": str(openvino.get_version())}


class Compiled:
    """A model that OpenVINO has compiled for PyTorch's number of threads, anew when that has changed."""

    def __init__(self, path: Path, properties: dict[str, Any]) -> None:
        self._path, self._properties, self._threads = path, properties, 0

    def __call__(self, given: torch.Tensor) -> torch.Tensor:
        """Return unit vectors fp32 [N, D]."""
        if self._threads != torch.get_num_threads():
            self._threads = torch.get_num_threads()
            properties = {**self._properties, "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": self._threads}
            compiled: Any = openvino.Core().compile_model(self._path, "CPU", properties)
            self._request = compiled.create_infer_request()
        self._request.infer([given.numpy()], share_inputs=True)
        return torch.from_numpy(np.array(self._request.get_output_tensor(0).data))


def _with_int8_weights(model: Any) -> Any:  # noqa: ANN401 - openvino.Model
    import logging

    try:
        import nncf
    except ModuleNotFoundError as error:
        raise ExportRefused(
            f"int8 in OpenVINO's format needs the package {error.name}: install it with `pip install '.[openvino]'`"
        ) from None
    nncf.set_log_level(logging.ERROR)
    model = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_SYM)
    model.set_rt_info(str(ROUNDED_TOGETHER), ["runtime_options", "DYNAMIC_QUANTIZATION_GROUP_SIZE"])
    return model
