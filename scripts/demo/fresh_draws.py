"""Fresh draws of drawings with the shipped policy's scores, as a table that a guarantee can be tried on many times.

A draw is of independent drawings, none of which is in any other draw. Scores are kept in files, so that a run that was
cut off goes on; drawings are made anew and never kept.
"""

from __future__ import annotations

import multiprocessing
import random
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from gateway.evaluation.judged import JudgedImage, JudgedSet, LabelledImage, Part, Run, part_of
from gateway.moderation.builtin_scenarios import shipped
from scripts.demo.hands import HANDS, HARMLESS, OFFENDING
from scripts.demo.measure_policy import Case, bound, judged, looked_at
from scripts.demo.model import Demo

HAND = "flat"
"""The hand that draws the fastest, 2,400 drawings a second."""

CATEGORIES = tuple(OFFENDING.values())
_EVERYTHING = (*OFFENDING, *HARMLESS)
_BATCH = 64


def scored(folder: Path, draw: str, count: int, parts: Sequence[Part]) -> Path:
    """Return the file of a draw's scores, made now unless it exists.

    It holds ``numbers`` [n] of the drawings, ``offends`` [n] as positions in CATEGORIES (-1: nothing), and ``scores``
    [n, categories], 0 to 1. One view a drawing, the square in its middle, is enough here and the quickest.

    Args:
        folder: of the files.
        draw: its name; the same name gives the same drawings.
        count: drawings of the draw, an eighth of them of each of OFFENDING and HARMLESS in the mean.
        parts: drawings that belong to other parts are not even drawn, since nothing would look at them.
    """
    path = folder / f"{HAND}-{draw}-{count}-{'-'.join(parts)}.npz"
    if path.exists():
        return path
    torch.set_num_threads(1)
    demo = Demo.load()
    policy = replace(bound(demo), views="center")
    numbers = [number for number in range(count) if part_of(name_of(draw, number)) in parts]
    offends, scores = [], []
    for start in range(0, len(numbers), _BATCH):
        cases = []
        for number in numbers[start : start + _BATCH]:
            dice = random.Random(name_of(draw, number))  # noqa: S311 - lots, not secrets
            what = dice.choice(_EVERYTHING)
            offends.append(CATEGORIES.index(OFFENDING[what]) if what in OFFENDING else -1)
            cases.append(Case((HANDS[HAND][what](dice),), frozenset(), 1))
        for verdict in judged(policy, looked_at(demo, cases, policy.views), demo.scale):
            found = {category.category: category.score for category in verdict.categories}
            scores.append([found[name] for name in CATEGORIES])
    part = path.with_suffix(".part.npz")
    np.savez_compressed(part, numbers=numbers, offends=np.array(offends, np.int8), scores=np.array(scores, np.float32))
    part.replace(path)
    return path


def score_all(folder: Path, draws: Sequence[str], count: int, parts: Sequence[Part], workers: int) -> None:
    """Make the files of many draws, by several processes."""
    folder.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context) as pool:
        jobs = [pool.submit(scored, folder, draw, count, parts) for draw in draws]
        for job in tqdm(jobs, desc=f"draws of {count:,}", unit="draw"):
            job.result()


def name_of(draw: str, number: int) -> str:
    """Return a drawing's name, by which its part is chosen: no two drawings share one."""
    return f"{HAND}-{draw}-{number}"


def judged_set_of(path: Path, draw: str) -> JudgedSet:
    """Return a draw's file as the table that thresholds are chosen on."""
    with np.load(path) as kept:
        numbers, offends, scores = kept["numbers"], kept["offends"], kept["scores"]
    found = shipped("demo")
    run = Run(
        model={"id": "demo", "bundle_id": "demo"},
        policy={"name": "default", "version": 1, "classifiers": {}},
        classifier=None,
        policy_body=found.policies["default"].model_dump(mode="json"),
        classifiers={},
        at="1970-01-01T00:00:00Z",
    )
    images = tuple(
        JudgedImage(
            LabelledImage(
                name_of(draw, int(number)),
                frozenset({CATEGORIES[offence]} if offence >= 0 else ()),
                group=name_of(draw, int(number)),
            ),
            sha256=None,
            decision="allow",
            scores=dict(zip(CATEGORIES, map(float, row), strict=True)),
        )
        for number, offence, row in zip(numbers, offends, scores, strict=True)
    )
    return JudgedSet(run, images)
