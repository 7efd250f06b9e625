"""What the Python-based backends have in common: the rows of several requests as one batch, and back.

Copied beside each backend's ``model.py``. Tensors go in and out through DLPack: with numpy 2 a ``pb_utils.Tensor`` made
of an array arrives empty, and its inputs read as arrays are wrong. PyTorch's: numpy's own complains at each one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.utils.dlpack
import triton_python_backend_utils as pb_utils

TYPES = {
    "TYPE_BOOL": torch.bool,
    "TYPE_UINT8": torch.uint8,
    "TYPE_INT8": torch.int8,
    "TYPE_INT16": torch.int16,
    "TYPE_INT32": torch.int32,
    "TYPE_INT64": torch.int64,
    "TYPE_FP16": torch.float16,
    "TYPE_FP32": torch.float32,
    "TYPE_FP64": torch.float64,
}


def answers(
    requests: Sequence[Any],
    inputs: Sequence[str],
    outputs: Sequence[tuple[str, str]],
    compute: Callable[[list[torch.Tensor]], Sequence[torch.Tensor]],
) -> list[Any]:
    """Answer a batch: the model runs once over the rows of all requests that were not cancelled.

    No value of a row may make it fail; where it does fail all its requests do.

    Args:
        requests: as Triton gives them.
        inputs: names, in the order that the model takes them.
        outputs: name and type in words of the config, in the order that the model gives them.
        compute: runs the model.
    """
    alive = [request for request in requests if not request.is_cancelled()]
    try:
        answered = iter(_computed(alive, inputs, outputs, compute) if alive else [])
    except Exception as error:  # noqa: BLE001 - whatever the model raises belongs to these requests, not to the process
        answered = iter([_failed(_reason(error)) for _ in alive])
    waited_for = {id(request) for request in alive}
    # A response of its own for each: the server frees it, and one that is given out twice ends the server.
    return [next(answered) if id(request) in waited_for else _cancelled() for request in requests]


def _computed(
    requests: Sequence[Any],
    inputs: Sequence[str],
    outputs: Sequence[tuple[str, str]],
    compute: Callable[[list[torch.Tensor]], Sequence[torch.Tensor]],
) -> list[Any]:
    columns = [
        [torch.utils.dlpack.from_dlpack(pb_utils.get_input_tensor_by_name(request, name)) for request in requests]
        for name in inputs
    ]
    counts = [len(tensor) for tensor in columns[0]]
    results = compute([torch.cat(column) if len(column) > 1 else column[0] for column in columns])
    split = []
    for (name, words), found in zip(outputs, results, strict=True):
        if found.dtype != TYPES[words] or len(found) != sum(counts):
            raise RuntimeError(f"output {name} is {found.dtype} {list(found.shape)}, not as the config says")
        split.append((name, found.cpu().contiguous().split(counts)))  # type: ignore[no-untyped-call]
    return [
        pb_utils.InferenceResponse([pb_utils.Tensor.from_dlpack(name, parts[at]) for name, parts in split])
        for at in range(len(requests))
    ]


def _cancelled() -> Any:  # noqa: ANN401 - a class of the stub
    return _failed("the request was cancelled", pb_utils.TritonError.CANCELLED)


def _failed(reason: str, code: int | None = None) -> Any:  # noqa: ANN401 - a class of the stub
    error = pb_utils.TritonError(reason, pb_utils.TritonError.INTERNAL if code is None else code)
    return pb_utils.InferenceResponse(output_tensors=[], error=error)


def _reason(error: Exception) -> str:
    """Return the last line of an error: before it TorchScript prints its code."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"the model failed: {lines[-1] if lines else type(error).__name__}"
