"""Heads in files: npz or safetensors → the body of a classifier.

The file holds ``linear_1.weight`` [out, in] and ``linear_1.bias`` [out], ``linear_2.…`` and so on, and if vectors are
to be standardized ``norm.mean`` and ``norm.std`` (or ``norm.variance``), all float32. What the head is stands in the
metadata of a safetensors file or as strings of an npz file: ``model`` and ``embedding_dim`` that it belongs to,
``output`` (sigmoid or softmax), ``labels`` (JSON, or one a string of an array). A file is data, never code: nothing in
it is unpickled.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from gateway.errors import GatewayError
from gateway.inference.heads import MAX_LAYERS, MAX_PARAMETERS, Head, Layer, Norm, fault_of
from gateway.inference.prompts import LabelRules
from gateway.moderation.heads import HeadClassifier, form_of

MOST_BYTES = 4 * MAX_PARAMETERS + (1 << 20)
LEAST_STD = 1e-7  # as Keras' Normalization has it, where a variance is 0
FACTS = ("model", "embedding_dim", "output", "labels", "description")
Arrays = dict[str, npt.NDArray[np.float32]]


class HeadUnusable(Exception):
    """A file is no head; the text says why, for people."""


@dataclass(frozen=True, slots=True)
class Stated:
    """What the command line says of a head, for files that do not; it wins over the file.

    Attributes:
        model: whose vectors it takes, as ``/v1/models`` names it.
        output: sigmoid or softmax.
        labels: in the order of its outputs.
    """

    model: str | None = None
    output: str | None = None
    labels: tuple[str, ...] = ()


def read_head(path: Path, stated: Stated) -> HeadClassifier:
    """Return the classifier that a file holds.

    Raises:
        HeadUnusable: it is no head, or does not say what it is.
        OSError: it cannot be read.
    """
    if path.stat().st_size > MOST_BYTES:
        raise HeadUnusable(f"{path} has more than {MOST_BYTES} bytes; a head may have {MAX_PARAMETERS} parameters")
    arrays, facts = _npz(path) if path.suffix == ".npz" else _safetensors(path)
    facts |= {"model": stated.model} if stated.model else {}
    facts |= {"output": stated.output} if stated.output else {}
    facts |= {"labels": list(stated.labels)} if stated.labels else {}
    for name, option in (("model", "--model"), ("labels", "--label"), ("output", "--output")):
        if not facts.get(name):
            raise HeadUnusable(f"{path} does not say its {name}; give {option}")
    return _classifier(path, arrays, facts)


def _classifier(path: Path, arrays: Arrays, facts: Mapping[str, Any]) -> HeadClassifier:
    layers: list[Layer] = []
    while f"linear_{len(layers) + 1}.weight" in arrays:
        name = f"linear_{len(layers) + 1}"
        if f"{name}.bias" not in arrays:
            raise HeadUnusable(f"{path} holds no {name}.bias")
        layers.append(Layer(arrays.pop(f"{name}.weight"), arrays.pop(f"{name}.bias")))
    if not 0 < len(layers) <= MAX_LAYERS:
        raise HeadUnusable(f"{path} holds {len(layers)} layers, linear_1 and so on; 1 to {MAX_LAYERS} can be used")
    norm = None
    if "norm.mean" in arrays:
        std = arrays.pop("norm.std", None)
        variance = arrays.pop("norm.variance", None)
        if std is None and variance is None:
            raise HeadUnusable(f"{path} holds norm.mean without norm.std or norm.variance")
        with np.errstate(invalid="ignore"):
            used = np.maximum(np.sqrt(variance), LEAST_STD) if std is None and variance is not None else std
        norm = Norm(arrays.pop("norm.mean"), np.asarray(used, np.float32))
    if arrays:
        raise HeadUnusable(f"{path} holds {min(arrays)}, which no head has")
    labels = facts["labels"]
    width = layers[0].weight.shape[-1] if layers[0].weight.ndim else 0
    dim = int(facts.get("embedding_dim") or width)
    if (fault := fault_of(labels, layers, norm, dim)) is not None:
        raise HeadUnusable(f"{path}: {fault}")
    body = form_of(Head(tuple(labels), facts["output"], tuple(layers), norm))
    body |= {"model": {"id": facts["model"], "embedding_dim": dim}, "description": facts.get("description") or ""}
    try:
        made = HeadClassifier.model_validate(body)
        made.head(LabelRules())
    except ValidationError as error:
        field = ".".join(map(str, error.errors()[0]["loc"]))
        raise HeadUnusable(f"{path}: “{field}” is of another form, or out of its range") from None
    except GatewayError as error:
        raise HeadUnusable(f"{path}: {error.detail}") from None
    return made


def _npz(path: Path) -> tuple[Arrays, dict[str, Any]]:
    """Return the arrays and facts of an npz file; sizes are looked at before anything is read."""
    arrays: Arrays = {}
    facts: dict[str, Any] = {}
    try:
        with zipfile.ZipFile(path) as members, np.load(path, allow_pickle=False) as file:
            if sum(member.file_size for member in members.infolist()) > MOST_BYTES:
                raise HeadUnusable(f"{path} unpacks to more than {MOST_BYTES} bytes")
            for member in members.infolist():
                name = member.filename.removesuffix(".npy")
                with members.open(member) as data:
                    shape, kind = _header(data)
                if int(np.prod(shape, dtype=object)) * kind.itemsize > member.file_size:
                    raise HeadUnusable(f"{path}: {name} is cut short")
                if name in FACTS:
                    facts[name] = _fact(name, file[name].tolist())
                else:
                    arrays[name] = _floats(path, name, file[name])
    except (ValueError, OSError, zipfile.BadZipFile, EOFError, MemoryError, NotImplementedError) as error:
        if isinstance(error, FileNotFoundError | PermissionError):
            raise
        raise HeadUnusable(f"{path} is no npz file of plain numbers and text") from None
    return arrays, facts


def _header(data: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(data)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, kind = read(data)
    return shape, kind


def _safetensors(path: Path) -> tuple[Arrays, dict[str, Any]]:
    """Return the arrays and facts of a safetensors file, read by its own library."""
    if find_spec("safetensors") is None:
        raise HeadUnusable("This file needs the package safetensors: pip install safetensors; an npz file does not")
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415 - not needed by the gateway

    try:
        with safe_open(str(path), framework="numpy") as file:
            arrays = {name: _floats(path, name, file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
            facts = {name: _fact(name, text) for name, text in (file.metadata() or {}).items() if name in FACTS}
    except (SafetensorError, ValueError, TypeError, AttributeError, MemoryError):
        raise HeadUnusable(f"{path} is no npz and no safetensors file of float32") from None
    return arrays, facts


def _floats(path: Path, name: str, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    if values.dtype != np.float32:
        raise HeadUnusable(f"{path}: {name} holds {values.dtype}, not float32")
    return np.asarray(values, np.float32)


def _fact(name: str, value: Any) -> Any:
    """Return a fact: labels as a list of strings, the size as a number, the others as text.

    Raises:
        ValueError: it is of another form.
    """
    if name == "labels":
        made = json.loads(value) if isinstance(value, str) else value
        if not isinstance(made, list) or not all(isinstance(label, str) for label in made):
            raise ValueError(name)
        return made
    return int(value) if name == "embedding_dim" else str(value)
