"""Heads: small networks on image vectors, trained elsewhere or here. V views, D dimensions, L labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from gateway.errors import ModelInvalidOutput
from gateway.inference.activations import sigmoid, softmax
from gateway.inference.prompts import Mode

Output = Literal["sigmoid", "softmax"]

MAX_LAYERS = 8
MAX_WIDTH = 4096
MAX_PARAMETERS = 1_000_000
"""4 MB of float32. The largest heads that are published for CLIP have 0.9 million."""

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Layer:
    """A linear layer: ``weight`` [out, in], ``bias`` [out]."""

    weight: Array
    bias: Array


@dataclass(frozen=True, slots=True)
class Norm:
    """What is done to a vector first: (vector - mean) / std; both [D]."""

    mean: Array
    std: Array


@dataclass(frozen=True, slots=True)
class Head:
    """A head: norm, linear layers with ReLU between them, output.

    Attributes:
        labels: L names.
        output: softmax over the labels, or sigmoid of each.
        layers: in order; the last one has L rows.
        norm: None leaves vectors as they are.
    """

    labels: tuple[str, ...]
    output: Output
    layers: tuple[Layer, ...]
    norm: Norm | None = None

    @property
    def mode(self) -> Mode:
        """How its scores are to be read, as those of words."""
        return "softmax" if self.output == "softmax" else "independent"

    def probabilities(self, images: Array) -> Array:
        """Return the probabilities [V, L] of V unit vectors [V, D].

        Raises:
            ModelInvalidOutput: the parameters are so large that a value overflowed.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            values = images if self.norm is None else (images - self.norm.mean) / self.norm.std
            for number, layer in enumerate(self.layers):
                values = (values if number == 0 else np.maximum(values, 0)) @ layer.weight.T + layer.bias
        if not np.isfinite(values).all():
            raise ModelInvalidOutput("A head gave no finite number; nothing was decided.")
        logits = values.astype(np.float64)
        return (softmax(logits) if self.output == "softmax" else sigmoid(logits)).astype(np.float32)


def fault_of(labels: Sequence[str], layers: Sequence[Layer], norm: Norm | None, dim: int) -> str | None:
    """Return what is wrong with a head for vectors of ``dim`` values, as a sentence; None if it can be used."""
    width = dim
    for number, layer in enumerate(layers, start=1):
        if layer.weight.ndim != 2 or layer.weight.shape != (len(layer.bias), width):  # noqa: PLR2004 - a matrix
            return f"Layer {number} must have one row a bias and {width} columns; its shape is {layer.weight.shape}."
        width = len(layer.bias)
        if not 0 < width <= MAX_WIDTH:
            return f"Layer {number} has {width} outputs; 1 to {MAX_WIDTH} are accepted."
    if width != len(labels):
        return f"The last layer has {width} outputs for {len(labels)} labels."
    if norm is not None and (norm.mean.shape != (dim,) or norm.std.shape != (dim,)):
        return f"The norm must have {dim} means and {dim} deviations."
    if norm is not None and not (norm.std > 0).all():
        return "The norm's deviations must be above 0."
    arrays = [array for layer in layers for array in (layer.weight, layer.bias)]
    arrays += [norm.mean, norm.std] if norm is not None else []
    if sum(array.size for array in arrays) > MAX_PARAMETERS:
        return f"A head may have {MAX_PARAMETERS} parameters."
    if not all(np.isfinite(array).all() for array in arrays):
        return "A parameter is not a finite number."
    overflows = not largest_value(layers, norm, dim) <= float(np.finfo(np.float32).max)
    return "The parameters are so large that a value of the head could overflow." if overflows else None


def largest_value(layers: Sequence[Layer], norm: Norm | None, dim: int) -> float:
    """Return what no value of a head exceeds, whatever unit vector it is given; infinity or NaN beyond float64."""
    with np.errstate(over="ignore", invalid="ignore"):
        bounds = [np.ones(dim) if norm is None else (1 + np.abs(norm.mean.astype(np.float64))) / norm.std]
        for layer in layers:
            bounds.append(np.abs(layer.weight) @ bounds[-1] + np.abs(layer.bias))
    return float(np.concatenate(bounds).max())
