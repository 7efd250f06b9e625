"""Heads: against numpy, LAION's published one, and parameters that cannot be used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gateway.errors import ModelInvalidOutput
from gateway.inference.heads import Head, Layer, Norm, Output, fault_of, largest_value


def units(rng: np.random.Generator, count: int, dim: int) -> np.ndarray:
    rows = rng.standard_normal((count, dim)).astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def layer(rng: np.random.Generator, width: int, dim: int) -> Layer:
    return Layer(rng.standard_normal((width, dim)).astype(np.float32), rng.standard_normal(width).astype(np.float32))


@pytest.mark.parametrize("output", ["sigmoid", "softmax"])
def test_it_equals_the_definition(output: Output) -> None:
    rng = np.random.default_rng(1)
    images = units(rng, 9, 16)
    first, second = layer(rng, 5, 16), layer(rng, 3, 5)
    norm = Norm(rng.standard_normal(16).astype(np.float32), rng.uniform(0.5, 2, 16).astype(np.float32))
    made = Head(("a", "b", "c"), output, (first, second), norm).probabilities(images)
    hidden = np.maximum((images.astype(float) - norm.mean) / norm.std @ first.weight.T.astype(float) + first.bias, 0)
    logits = hidden @ second.weight.T + second.bias
    expected = 1 / (1 + np.exp(-logits))
    if output == "softmax":
        expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert made.dtype == np.float32
    np.testing.assert_allclose(made, expected, atol=1e-6)


def test_one_layer_has_no_relu() -> None:
    head = Head(("a",), "sigmoid", (Layer(np.array([[-1.0, 0.0]], np.float32), np.zeros(1, np.float32)),))
    assert head.probabilities(np.array([[1, 0], [-1, 0]], np.float32))[:, 0].tolist() == pytest.approx(
        [0.26894, 0.73106], abs=1e-5
    )


def test_an_overflow_gives_no_score() -> None:
    weight = np.full((4, 4), 3e38, np.float32)
    head = Head(tuple("abcd"), "sigmoid", (Layer(weight, np.zeros(4, np.float32)), Layer(-weight, weight[0])))
    with pytest.raises(ModelInvalidOutput):
        head.probabilities(np.full((1, 4), 0.5, np.float32))


@pytest.mark.parametrize(
    ("layers", "norm", "said"),
    [
        ([((3, 4), 3)], None, "3 outputs for 2 labels"),
        ([((2, 5), 2)], None, "4 columns"),
        ([((6, 4), 6), ((2, 5), 2)], None, "6 columns"),
        ([((2, 4), 3)], None, "one row a bias"),
        ([((4097, 4), 4097), ((2, 4097), 2)], None, "1 to 4096"),
        ([((4096, 4), 4096), ((256, 4096), 256), ((2, 256), 2)], None, "parameters"),
        ([((2, 4), 2)], (3, 3), "4 means"),
    ],
)
def test_what_is_wrong_is_said(
    layers: list[tuple[tuple[int, int], int]], norm: tuple[int, int] | None, said: str
) -> None:
    made = [Layer(np.zeros(shape, np.float32), np.zeros(bias, np.float32)) for shape, bias in layers]
    sizes = norm and Norm(np.zeros(norm[0], np.float32), np.ones(norm[1], np.float32))
    assert said in (fault_of(("a", "b"), made, sizes or None, 4) or "")


def test_numbers_that_are_none_are_refused() -> None:
    good = Layer(np.zeros((1, 2), np.float32), np.zeros(1, np.float32))
    for bad in (np.nan, np.inf):
        layers = [Layer(np.full((1, 2), bad, np.float32), good.bias)]
        assert "finite" in (fault_of(("a",), layers, None, 2) or "")
    zero = Norm(np.zeros(2, np.float32), np.zeros(2, np.float32))
    assert "above 0" in (fault_of(("a",), [good], zero, 2) or "")
    assert fault_of(("a",), [good], None, 2) is None


def test_parameters_that_could_overflow_are_refused() -> None:
    large = Layer(np.full((1, 2), 3e38, np.float32), np.zeros(1, np.float32))
    assert "overflow" in (fault_of(("a",), [large], None, 2) or "")
    good = Layer(np.ones((1, 2), np.float32), np.zeros(1, np.float32))
    tiny = Norm(np.zeros(2, np.float32), np.full(2, 1e-45, np.float32))
    assert "overflow" in (fault_of(("a",), [good], tiny, 2) or "")
    middle = Layer(np.full((4096, 4096), 1e38, np.float32), np.zeros(4096, np.float32))
    assert not largest_value([middle] * 9, None, 4096) <= float(np.finfo(np.float32).max)


def test_the_published_nsfw_head_finds_nothing_in_seven_photographs(golden: Path) -> None:
    file = np.load(golden / "laion_nsfw_head_vitb32.npz")
    vectors = np.load(golden / "photos_vitb32.npz")["image_embeds"]
    layers = tuple(Layer(file[f"linear_{number}.weight"], file[f"linear_{number}.bias"]) for number in (1, 2, 3))
    norm = Norm(file["norm.mean"], np.sqrt(file["norm.variance"]))
    made = Head(("nsfw",), "sigmoid", layers, norm).probabilities(vectors)
    assert made.shape == (7, 1)
    assert made.max() < 0.1
