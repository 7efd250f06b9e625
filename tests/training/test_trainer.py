"""Training in a process of its own: what is offered, what is not, and what ends it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from gateway.errors import InvalidRequest, Overloaded
from gateway.inference.heads import Output
from gateway.inference.scoring import TextMatrix
from gateway.limits.deadline import Deadline
from gateway.training.examples import Examples, ZeroShot
from gateway.training.held_out import ranking, train
from gateway.training.trainer import Trainer, Training, TrainingLimits

pytestmark = pytest.mark.heavy

DIM, SCALE = 64, 50.0
LIMITS = TrainingLimits(max_examples=1000, timeout_s=120, memory_bytes=2 << 30, processes=1)
ROOT = Path(__file__).parents[2]


def units(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def examples(
    count: int, *, output: Output = "sigmoid", words: bool = True, shuffled: bool = False, seed: int = 0
) -> Examples:
    """Two kinds of vectors, whose words point roughly where they are."""
    rng = np.random.default_rng(seed)
    kinds = rng.standard_normal((2, DIM)) * 0.35
    kind = np.repeat([0, 1], count)
    vectors = units(2 * rng.standard_normal(DIM) + kinds[kind] + rng.standard_normal((2 * count, DIM)))
    text = units(kinds + 0.5 * rng.standard_normal((2, DIM)))
    told = rng.permutation(kind) if shuffled else kind
    truth = np.stack([told == 0, told == 1], axis=1).astype(np.float32)[:, : 1 if output == "sigmoid" else 2]
    weight = np.asarray(SCALE * (text if output == "softmax" else text[:1] - text[1:]), np.float32)
    zero_shot = ZeroShot(np.asarray(vectors @ weight.T), weight) if words else None
    labels = ("x", "y")[: truth.shape[1]]
    groups = np.arange(2 * count, dtype=np.int32)
    return Examples(labels, output, vectors, truth, groups, zero_shot, np.ones(2 * count, np.float32))


@pytest.mark.parametrize("output", ["sigmoid", "softmax"])
@pytest.mark.parametrize("words", [True, False])
def test_a_head_that_ranks_better_is_offered_and_the_same_for_a_seed(output: Output, *, words: bool) -> None:
    given = examples(60, output=output, words=words)
    made, again = train(given, 0.95), train(given, 0.95)
    assert made.head is not None, made.reason
    assert again.head is not None
    assert made.figures == again.figures
    assert (made.head.layers[0].weight == again.head.layers[0].weight).all()
    fresh = examples(200, output=output, words=words)  # of the same kinds
    right = made.head.probabilities(fresh.vectors)[:, 0] > 0.5
    assert (right == (fresh.truth[:, 0] > 0)).mean() > 0.8
    assert set(made.figures["labels"]["x"]["head"]) == {"roc_auc", "average_precision", "recall_at_1_percent_fpr"}
    assert (made.figures["labels"]["x"]["words"] is not None) == words


@pytest.mark.parametrize("words", [True, False])
def test_shuffled_labels_are_hardly_ever_offered(*, words: bool) -> None:
    """At 95 % one in forty is offered by chance."""
    offered = [train(examples(20, words=words, shuffled=True, seed=seed), 0.95).head for seed in range(6)]
    assert sum(head is not None for head in offered) <= 1


def test_vectors_that_are_all_one_are_not_offered_for_what_rounding_gains() -> None:
    same = np.repeat(units(np.random.default_rng(0).standard_normal((1, DIM))), 60, axis=0)
    truth = (np.arange(60) % 2)[:, np.newaxis].astype(np.float32)
    ones, groups = np.ones(60, np.float32), np.arange(60, dtype=np.int32)
    assert train(Examples(("x",), "sigmoid", same, truth, groups, None, ones), 0.95).head is None


def test_a_label_whose_groups_are_all_in_one_part_is_told() -> None:
    """Rare sets of labels are split by the first label alone; with this seed the second one's groups fall together."""
    groups = np.repeat(np.arange(60, dtype=np.int32), 2)
    truth = np.zeros((120, 3), np.float32)
    truth[:80, 0] = truth[:10, 1] = truth[100:112, 2] = truth[20, 2] = 1
    vectors, ones = units(np.random.default_rng(0).standard_normal((120, DIM))), np.ones(120, np.float32)
    made = train(Examples(("a", "b", "c"), "sigmoid", vectors, truth, groups, None, ones, seed=493), 0.95)
    assert made.head is None
    assert "“b”" in (made.reason or "")


def test_a_group_is_never_on_both_sides() -> None:
    """Vectors that say nothing but which group they are of: known groups would be told apart."""
    rng = np.random.default_rng(5)
    count, groups = 20, 10
    base = units(rng.standard_normal((groups, DIM)))
    group = np.repeat(np.arange(groups), count)
    vectors = units(base[group] + 0.01 * rng.standard_normal((len(group), DIM)))
    truth = (group % 2)[:, np.newaxis].astype(np.float32)
    given = Examples(("x",), "sigmoid", vectors, truth, group.astype(np.int32), None, np.ones(len(group), np.float32))
    assert train(given, 0.95).head is None
    assert train(replace(given, groups=np.arange(len(group), dtype=np.int32)), 0.95).head is not None


def test_words_against_negatives_as_a_linear_function() -> None:
    """The gradient of the margin, averaged: by finite differences."""
    rng = np.random.default_rng(2)
    text = TextMatrix(
        mode="independent",
        labels=("a", "b"),
        vectors=units(rng.standard_normal((2, DIM))),
        negatives=units(rng.standard_normal((5, DIM))),
        group_starts=np.array([0, 2], np.intp),
        group_of=np.array([1, 0], np.intp),
    )
    vectors = units(rng.standard_normal((7, DIM)))
    made = ZeroShot.of(vectors, text, 5.0)
    assert made.weight is not None
    step = 1e-2 * rng.standard_normal(DIM).astype(np.float32)
    change = (ZeroShot.of(vectors + step, text, 5.0).logits - ZeroShot.of(vectors - step, text, 5.0).logits) / 2
    np.testing.assert_allclose(change.mean(axis=0), made.weight @ step, atol=2e-3)


def test_the_child_says_what_training_here_says() -> None:
    given = examples(60)
    made = asyncio.run(Trainer(LIMITS).train(given, Deadline.after(120)))
    here = train(given, 0.95)
    assert here.head is not None
    assert made.head is not None
    np.testing.assert_allclose(made.head.layers[0].weight, here.head.layers[0].weight, rtol=1e-4, atol=1e-4)
    assert made.figures["method"] == here.figures["method"]


@pytest.mark.parametrize(
    "limits", [replace(LIMITS, timeout_s=0.2), replace(LIMITS, memory_bytes=64 << 20)], ids=["time", "memory"]
)
def test_more_time_or_memory_than_allowed_is_told(limits: TrainingLimits) -> None:
    with pytest.raises(InvalidRequest, match="TRAINING_"):
        asyncio.run(Trainer(limits).train(examples(50), Deadline.after(120)))
    assert children() == []


def test_who_leaves_ends_the_process_and_frees_the_turn() -> None:
    async def run() -> None:
        trainer = Trainer(LIMITS)
        leaving = asyncio.create_task(in_turn(trainer, examples(400), 120))
        while not children():  # noqa: ASYNC110 - a process, which sets no event
            await asyncio.sleep(0.01)
        leaving.cancel()
        await asyncio.wait([leaving])
        assert children() == []
        assert (await in_turn(trainer, examples(30), 120)).figures

    asyncio.run(run())


def test_who_waits_in_vain_is_told_to_come_again() -> None:
    """Busy is no fault of the request, whether no turn came or one that left too little time."""

    async def run() -> None:
        trainer = Trainer(LIMITS)
        async with trainer.turn(Deadline.after(120)):
            with pytest.raises(Overloaded) as refused:
                await in_turn(trainer, examples(30), 0.1)
            assert refused.value.retry_after_s is not None
            with pytest.raises(Overloaded):
                await trainer.train(examples(30), Deadline.after(0.2))
        assert children() == []

    asyncio.run(run())


async def in_turn(trainer: Trainer, given: Examples, seconds: float) -> Training:
    deadline = Deadline.after(seconds)
    async with trainer.turn(deadline):
        return await trainer.train(given, deadline)


def children() -> list[psutil.Process]:
    found = psutil.Process().children(recursive=True)
    return [child for child in found if "gateway.training.child" in child.cmdline()]


def test_the_gateway_never_loads_what_trains() -> None:
    never = {"sklearn", "scipy", "pandas"}
    code = f"import sys, gateway.__main__, gateway.app; print(sorted({never!r} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert run.stdout.strip() == "[]"


def test_few_examples_without_an_error_do_not_make_a_figure_sure() -> None:
    """Nineteen of nineteen are found: the exact 95 % interval of that begins at 0.824 (Clopper and Pearson)."""
    truth = np.repeat([1.0, 0.0], [19, 60])[:, np.newaxis].astype(np.float32)
    given = replace(examples(60), truth=truth, groups=np.arange(79, dtype=np.int32), counted=np.ones(79, np.float32))
    figures = ranking(np.where(truth > 0, 3.0, -3.0).astype(float), given, 0, 0.95)
    for name in ("roc_auc", "recall_at_1_percent_fpr"):
        assert figures[name]["value"] == 1
        assert figures[name]["low"] == pytest.approx(0.8235, abs=1e-3), name
