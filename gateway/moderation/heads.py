"""Classifiers that are heads: the wire form of their parameters, and which model they belong to."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
import orjson
from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from gateway.errors import HeadModelMismatch, InvalidRequest
from gateway.inference.bundle import Manifest
from gateway.inference.heads import MAX_LAYERS, MAX_PARAMETERS, MAX_WIDTH, Head, Layer, Norm, Output, fault_of
from gateway.inference.prompts import LabelRules, Mode, check_words
from gateway.moderation.calibration import Calibration, GroupCalibrations, Temperature, check_groups
from gateway.moderation.classifiers import Classifier, as_labels
from gateway.moderation.request_model import StrictModel

ARRAY_CHARS = -(-4 * MAX_PARAMETERS // 3) * 4  # of base64
RECORD_BYTES, RECORD_DEPTH = 1 << 17, 32  # of JSON; a training of 50 labels writes a quarter of it, 6 deep


def packed(values: npt.ArrayLike) -> str:
    """Return numbers as base64 of little-endian float32, row by row."""
    return base64.b64encode(np.ascontiguousarray(values, "<f4").tobytes()).decode()


def unpacked(text: str) -> npt.NDArray[np.float32]:
    """Return the numbers that ``packed`` made text of, as one row.

    Raises:
        ValueError: it is not of that form.
    """
    try:
        return np.frombuffer(base64.b64decode(text, validate=True), "<f4").astype(np.float32)
    except (binascii.Error, ValueError):
        raise ValueError("must be base64 of little-endian float32") from None


def as_packed(value: object) -> object:
    """Return a list of numbers, or of rows of them, as ``packed`` does; anything else as it is.

    Raises:
        ValueError: a list of something else.
    """
    if not isinstance(value, list):
        return value
    try:
        with np.errstate(over="ignore"):
            return packed(np.array(value, np.float32))
    except (ValueError, TypeError, OverflowError):  # the last: of a whole number that no float reaches
        raise ValueError("must hold numbers, or rows of as many each") from None


def small_record(value: dict[str, Any]) -> dict[str, Any]:
    """Return an object of the client's own that every answer can show again.

    Raises:
        ValueError: it is too large or too deep, or holds what ``orjson`` cannot write.
    """
    level: list[Any] = [value]
    for _ in range(RECORD_DEPTH):
        inner = (entry.values() if isinstance(entry, dict) else entry for entry in level)
        level = [child for entry in inner for child in entry if isinstance(child, dict | list)]
    try:
        if not level and len(orjson.dumps(value)) <= RECORD_BYTES:
            return value
    except TypeError:  # a lone surrogate, or a whole number beyond 64 bits
        raise ValueError("must hold valid Unicode and numbers of 64 bits at most") from None
    raise ValueError(f"takes at most {RECORD_BYTES} bytes of JSON, {RECORD_DEPTH} deep")


Numbers = Annotated[
    str, BeforeValidator(as_packed, json_schema_input_type=str | list[float] | list[list[float]]), Field(min_length=4)
]


class HeadLayer(StrictModel):
    """A linear layer; numbers as base64 of little-endian float32, or as lists."""

    weight: Numbers = Field(max_length=ARRAY_CHARS, description="One row an output, one column an input.")
    bias: Numbers = Field(max_length=8 * MAX_WIDTH, description="One number an output.")


class HeadNorm(StrictModel):
    """What is done to a vector first: (vector - mean) / std; numbers as in a layer."""

    mean: Numbers = Field(max_length=8 * MAX_WIDTH)
    std: Numbers = Field(max_length=8 * MAX_WIDTH)


class HeadModel(StrictModel):
    """The model whose vectors a head takes."""

    id: str = Field(min_length=1, max_length=256, description="As /v1/models names it.")
    embedding_dim: int = Field(ge=1, le=MAX_WIDTH, strict=True)
    bundle_id: str | None = Field(
        None, max_length=64, description="Of a head that was trained here; an imported one names the model alone."
    )


class HeadLabel(StrictModel):
    """One output of a head, and its calibration (None: as the head gives it)."""

    label: str
    calibration: Calibration | None = None


class HeadClassifier(StrictModel):
    """A classifier learned from examples: its labels are a head's outputs."""

    kind: Literal["head"]
    labels: Annotated[list[HeadLabel], BeforeValidator(as_labels)] = Field(min_length=1, max_length=MAX_WIDTH)
    output: Output = Field(description="sigmoid: each label by itself. softmax: scores sum to 1 over the labels.")
    model: HeadModel
    norm: HeadNorm | None = None
    layers: list[HeadLayer] = Field(min_length=1, max_length=MAX_LAYERS, description="ReLU stands between two.")
    training: Annotated[dict[str, Any], AfterValidator(small_record)] | None = Field(
        None, description="What it was trained on, and how good it was on examples held out; for people."
    )
    description: str = Field("", max_length=4000)
    temperature: Temperature = None
    calibrations: GroupCalibrations = Field(default_factory=list)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_groups(self.names, self.calibrations)
        return self

    @property
    def mode(self) -> Mode:
        """How its scores are to be read, as those of words."""
        return "softmax" if self.output == "softmax" else "independent"

    @property
    def names(self) -> tuple[str, ...]:
        """The labels."""
        return tuple(entry.label for entry in self.labels)

    def check_model(self, manifest: Manifest) -> None:
        """Check that a head takes the vectors of the bundle being served.

        Raises:
            HeadModelMismatch: it is for another model, bundle or size of vectors; both are named.
        """
        mine, served = self.model, manifest.model.id
        if mine.bundle_id not in {None, manifest.bundle_id}:
            raise HeadModelMismatch(
                f"The head was trained on vectors of {mine.id}, bundle {mine.bundle_id}; this service runs {served}, "
                f"bundle {manifest.bundle_id}. Train it again."
            )
        if (mine.id, mine.embedding_dim) != (served, manifest.embedding_dim):
            raise HeadModelMismatch(
                f"The head takes {mine.embedding_dim} values of {mine.id}; this service runs {served}, whose vectors "
                f"have {manifest.embedding_dim}."
            )

    def head(self, rules: LabelRules) -> Head:
        """Return the head itself; CPU-bound, for a thread.

        Raises:
            InvalidLabels: labels that cannot be used.
            InvalidRequest: parameters that make no head.
        """
        check_words(list(self.names), "label", rules)
        if len(set(self.names)) != len(self.names):
            raise InvalidRequest("A head names each label once.")
        if self.output == "softmax" and len(self.names) == 1:
            raise InvalidRequest("A softmax over one label is always 1; a head of one label has the output sigmoid.")
        try:
            layers, width = [], self.model.embedding_dim
            for entry in self.layers:
                bias = unpacked(entry.bias)
                weight = unpacked(entry.weight)
                layers.append(Layer(weight.reshape(len(bias), width), bias))
                width = len(bias)
            norm = None if self.norm is None else Norm(unpacked(self.norm.mean), unpacked(self.norm.std))
        except ValueError as error:
            said = str(error) if "base64" in str(error) else "the sizes of its layers do not follow from one another"
            raise InvalidRequest(f"The head cannot be read: {said}.") from None
        if (fault := fault_of(self.names, layers, norm, self.model.embedding_dim)) is not None:
            raise InvalidRequest(fault)
        return Head(self.names, self.output, tuple(layers), norm)


AnyClassifier = Classifier | HeadClassifier


def classifier_form(fields: Mapping[str, object]) -> type[AnyClassifier]:
    """Return the model of a classifier's body, by its field ``kind``.

    Raises:
        InvalidRequest: there is no such kind.
    """
    kind = fields.get("kind")
    if kind not in (None, "labels", "head"):
        raise InvalidRequest("Field “kind” must be labels or head.")
    return HeadClassifier if kind == "head" else Classifier


def form_of(head: Head) -> dict[str, Any]:
    """Return the fields of a classifier's body that a head itself fills."""
    return {
        "kind": "head",
        "labels": [{"label": label} for label in head.labels],
        "output": head.output,
        "norm": head.norm and {"mean": packed(head.norm.mean), "std": packed(head.norm.std)},
        "layers": [{"weight": packed(layer.weight), "bias": packed(layer.bias)} for layer in head.layers],
    }


def without_parameters(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stored head's body without its numbers, which may be megabytes; other bodies as they are."""
    left_out = ("layers", "norm") if body.get("kind") == "head" else ()
    return {name: value for name, value in body.items() if name not in left_out}
