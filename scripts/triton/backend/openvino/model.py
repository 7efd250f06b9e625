"""A Triton backend named ``openvino`` that runs OpenVINO's models with its Python package.

The server of the ``nvidia-pytriton`` wheel has no OpenVINO backend. This one serves ``<model>/<version>/model.xml`` by
the tensors' names, as NVIDIA's does, and reads of its parameters ``INFERENCE_NUM_THREADS`` and ``NUM_STREAMS``. It puts
requests together, which NVIDIA's does only by filling batches up, and computes fp32 in fp32 on every CPU.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import openvino
import rows  # copied beside this file
import torch
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """One instance of a model."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the model.

        Args:
            args: as Triton gives them: ``model_config`` (JSON), ``model_repository``, ``model_version``.

        Raises:
            pb_utils.TritonModelException: the file is absent or the config does not fit it.
        """
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config.get("parameters", {}).items()}
        os.nice(int(os.environ.get("TRITON_STUB_NICE", "0")))
        path = Path(args["model_repository"]) / args["model_version"] / "model.xml"
        if not path.is_file():
            raise pb_utils.TritonModelException(f"{config['name']}: version {args['model_version']} has no model.xml")
        properties: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
        properties |= {
            key: int(parameters[key]) for key in ("INFERENCE_NUM_THREADS", "NUM_STREAMS") if key in parameters
        }
        compiled: Any = openvino.Core().compile_model(path, "CPU", properties)
        self._request = compiled.create_infer_request()
        self._inputs = [entry["name"] for entry in config["input"]]
        self._outputs = [(entry["name"], entry["data_type"]) for entry in config["output"]]
        has = {name for port in (*compiled.inputs, *compiled.outputs) for name in port.get_names()}
        if lacking := {*self._inputs, *(name for name, _ in self._outputs)} - has:
            raise pb_utils.TritonModelException(
                f"{config['name']}: the model has no tensor {', '.join(sorted(lacking))}"
            )

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer a batch."""
        return rows.answers(requests, self._inputs, self._outputs, self._compute)  # type: ignore[no-any-return]

    def _compute(self, tensors: list[Any]) -> list[Any]:
        arrays = {name: tensor.numpy() for name, tensor in zip(self._inputs, tensors, strict=True)}
        self._request.infer(arrays, share_inputs=True)
        # Copied: the request's own memory is written anew by the next batch.
        return [torch.tensor(self._request.get_tensor(name).data) for name, _ in self._outputs]
