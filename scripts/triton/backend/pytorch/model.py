"""A Triton backend named ``pytorch`` that runs TorchScript models with PyTorch's Python package.

The server of the ``nvidia-pytriton`` wheel has no libtorch backend. This one serves the same model repositories under
the same name and by the same rules, so that a bundle runs unchanged in NVIDIA's container:

- the model is ``<model>/<version>/model.pt``;
- an input is named as an argument of ``forward``, or all are ``NAME__<index>``; an output is ``NAME__<index>``;
- the parameters ``INFERENCE_MODE``, ``DISABLE_OPTIMIZED_EXECUTION``, ``ENABLE_JIT_EXECUTOR``, ``ENABLE_JIT_PROFILING``,
  ``INTRA_OP_THREAD_COUNT`` and ``INTER_OP_THREAD_COUNT`` mean what they mean there.

One parameter is its own, ``QUANTIZED_ENGINE``: the kernels that 8-bit weights are packed for when they are loaded,
where this PyTorch has them. libtorch's backend packs them for its default, and gives the same vectors more slowly.

It runs inside Triton's Python stub, one process per instance, and can import nothing of this repository but what is
copied beside it. On a CPU the instances of a model share its weights: they are mapped from the file, where
``torch.jit.load`` gives each process a copy.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import mmap
import os
import re
import struct
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import rows  # copied beside this file
import torch
import triton_python_backend_utils as pb_utils

INDEXED = re.compile(r"__(\d+)$")
SHARED_FROM_BYTES = 1 << 16  # smaller weights are not worth a mapping


class TritonPythonModel:
    """One instance of a model."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the model.

        Args:
            args: as Triton gives them: ``model_config`` (JSON), ``model_repository``, ``model_version``,
                ``model_instance_kind``, ``model_instance_device_id``.

        Raises:
            pb_utils.TritonModelException: the file is absent or the config does not fit it.
        """
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config.get("parameters", {}).items()}
        _configure_torch(parameters)
        self._crowd = Crowd.of_environment(parameters)
        os.nice(int(os.environ.get("TRITON_STUB_NICE", "0")))
        self._no_grad = torch.inference_mode if _is_true(parameters, "INFERENCE_MODE") else torch.no_grad
        gpu = args["model_instance_kind"] == "GPU"
        self._device = torch.device(f"cuda:{args['model_instance_device_id']}" if gpu else "cpu")
        path = Path(args["model_repository"]) / args["model_version"] / "model.pt"
        if not path.is_file():
            raise pb_utils.TritonModelException(f"{config['name']}: version {args['model_version']} has no model.pt")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            self._module = torch.jit.load(str(path), map_location=self._device).eval()  # type: ignore[no-untyped-call]
        if not gpu:
            share_weights(self._module, path)
        arguments = [argument.name for argument in self._module.forward.schema.arguments[1:]]
        self._inputs = _input_order([entry["name"] for entry in config["input"]], arguments)
        self._outputs = [(entry["name"], entry["data_type"]) for entry in config["output"]]
        self._indices = [_index(name) for name, _ in self._outputs]
        _give_memory_back()

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer a batch."""
        return rows.answers(requests, self._inputs, self._outputs, self._compute)  # type: ignore[no-any-return]

    def _compute(self, tensors: list[Any]) -> list[Any]:
        batch = [tensor.to(self._device) for tensor in tensors]
        with self._crowd.computing(), self._no_grad():
            result = self._module(*batch)
        results = (result,) if isinstance(result, torch.Tensor) else tuple(result)
        return [results[index] for index in self._indices]


def share_weights(module: Any, path: Path) -> int:  # noqa: ANN401 - a ScriptModule
    """Let a frozen module's weights be pages of its file, which all processes share, instead of copies of them.

    A weight is replaced only by what is equal to it bit by bit. What an operator has packed in a form of its own (int8,
    fp16) is no tensor of the file and stays as it is.

    Args:
        module: as loaded from the file onto a CPU, not run yet.
        path: the file, which nobody may overwrite while it is mapped.

    Returns:
        Bytes that are shared.
    """
    records = _records(path)
    file: Any = torch.UntypedStorage.from_file(str(path), shared=False, nbytes=path.stat().st_size)
    places: dict[int, int | None] = {}  # offset in the file by where the copy was
    shared = 0
    for weight in _constants(module.forward.graph):
        if weight.layout != torch.strided or weight.is_quantized:
            continue
        copy = weight.untyped_storage()
        if copy.data_ptr() not in places:
            places[copy.data_ptr()] = place = _place_of(copy, file, records)
            shared += 0 if place is None else copy.nbytes()
        place = places[copy.data_ptr()]
        if place is not None and place % weight.element_size() == 0:
            start = place // weight.element_size() + weight.storage_offset()
            weight.set_(file, start, weight.size(), weight.stride())
    return shared


def _place_of(copy: torch.UntypedStorage, file: Any, records: dict[int, list[int]]) -> int | None:  # noqa: ANN401
    """Return where the file has the same bytes as a storage, None if nowhere or not worth it."""
    if copy.nbytes() < SHARED_FROM_BYTES:
        return None
    here = torch.empty(0, dtype=torch.uint8)
    here.set_(copy)
    for offset in records.get(copy.nbytes(), ()):
        there = torch.empty(0, dtype=torch.uint8)
        there.set_(file, offset, here.size(), here.stride())
        if torch.equal(here, there):
            return offset
    return None


def _records(path: Path) -> dict[int, list[int]]:
    """Return where the uncompressed records of a TorchScript archive begin, by their size in bytes."""
    found: dict[int, list[int]] = {}
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        for record in archive.infolist():
            if record.compress_type == zipfile.ZIP_STORED:
                file.seek(record.header_offset + 26, os.SEEK_SET)  # lengths of name and extra field, APPNOTE 4.3.7
                name, extra = struct.unpack("<HH", file.read(4))
                found.setdefault(record.file_size, []).append(record.header_offset + 30 + name + extra)
    return found


def _constants(block: Any) -> Iterator[torch.Tensor]:  # noqa: ANN401 - a graph, or a block of one
    """Yield the tensors that a graph has as constants."""
    for node in block.nodes():
        if node.kind() == "prim::Constant" and node.hasAttribute("value") and node.kindOf("value") == "t":
            yield node.t("value")
        for inner in node.blocks():
            yield from _constants(inner)


class Crowd:
    """The instances of one server that compute at this moment: they share out the cores among themselves.

    A batch that finds no other under way takes ``LONE_THREAD_COUNT`` threads, of two each half of them, and so on, but
    ``INTRA_OP_THREAD_COUNT`` at least: a lone request has all cores, and under load nobody waits for anybody's threads.
    Each instance has a byte in a file that all of them map, locked for as long as its process lives.

    Args:
        file: which all instances share; None where there is nothing to share out.
        fewest: threads of a batch, at least.
        most: threads of all batches together.
    """

    PLACES = 256

    def __init__(self, file: Path | None, fewest: int, most: int) -> None:
        self._fewest, self._most = fewest, most
        self._places: mmap.mmap | None = None
        if file is None or most <= fewest:
            return
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)  # kept open: its lock ends with the process
        os.ftruncate(descriptor, self.PLACES)
        self._places = mmap.mmap(descriptor, self.PLACES)
        for place in range(self.PLACES):
            with contextlib.suppress(OSError):
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
                self._place = place
                break

    @classmethod
    def of_environment(cls, parameters: dict[str, str]) -> Crowd:
        """Return the crowd that the launcher's variable and the model's parameters describe."""
        file = os.environ.get("TRITON_CROWD_FILE")
        fewest = int(parameters.get("INTRA_OP_THREAD_COUNT", "0"))
        most = int(parameters.get("LONE_THREAD_COUNT", "0"))
        return cls(Path(file) if file and fewest else None, fewest, most)

    @contextlib.contextmanager
    def computing(self) -> Iterator[None]:
        """Count this instance among those that compute, and give PyTorch its share of the threads."""
        if self._places is None:
            yield
            return
        self._places[self._place] = 1
        try:
            torch.set_num_threads(max(self._fewest, self._most // sum(self._places[:])))
            yield
        finally:
            self._places[self._place] = 0


def _configure_torch(parameters: dict[str, str]) -> None:
    """Apply the process-wide settings of libtorch's parameters."""
    if "INTRA_OP_THREAD_COUNT" in parameters:
        torch.set_num_threads(int(parameters["INTRA_OP_THREAD_COUNT"]))
    if "INTER_OP_THREAD_COUNT" in parameters:
        with contextlib.suppress(RuntimeError):
            torch.set_num_interop_threads(int(parameters["INTER_OP_THREAD_COUNT"]))
    if parameters.get("QUANTIZED_ENGINE") in torch.backends.quantized.supported_engines:
        torch.backends.quantized.engine = parameters["QUANTIZED_ENGINE"]
    if _is_true(parameters, "DISABLE_OPTIMIZED_EXECUTION"):
        torch._C._set_graph_executor_optimize(False)  # noqa: SLF001, FBT003 - no public name
    if "ENABLE_JIT_EXECUTOR" in parameters:
        torch._C._jit_set_profiling_executor(_is_true(parameters, "ENABLE_JIT_EXECUTOR"))  # noqa: SLF001
    if "ENABLE_JIT_PROFILING" in parameters:
        torch._C._jit_set_profiling_mode(_is_true(parameters, "ENABLE_JIT_PROFILING"))  # noqa: SLF001


def _give_memory_back() -> None:
    """Return to the system what loading took and left: later nothing is returned, see ``scripts.triton.server``."""
    with contextlib.suppress(AttributeError, OSError):  # another C library than glibc
        ctypes.CDLL(None).malloc_trim(0)


def _is_true(parameters: dict[str, str], name: str) -> bool:
    return parameters.get(name, "").strip().lower() in {"1", "true", "on"}


def _input_order(names: list[str], arguments: list[str]) -> list[str]:
    """Return the config's input names in the order of the arguments of ``forward``."""
    if sorted(names) == sorted(arguments):
        return arguments
    indices = [INDEXED.search(name) for name in names]
    by_index = {int(found[1]): name for found, name in zip(indices, names, strict=True) if found}
    if sorted(by_index) == list(range(len(arguments))):
        return [by_index[index] for index in range(len(arguments))]
    raise pb_utils.TritonModelException(
        f"inputs {names} are neither forward's arguments ({', '.join(arguments)}) nor numbered NAME__0, NAME__1 ..."
    )


def _index(name: str) -> int:
    found = INDEXED.search(name)
    if found is None:
        raise pb_utils.TritonModelException(f"output {name} is not named NAME__<index>")
    return int(found[1])
