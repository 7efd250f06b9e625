"""Scores as they are answered: labels best first, in JSON that is put together by hand."""

from __future__ import annotations

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.classify import ranked

NASTY = ("a cat", '"', "\\", '","', '\\","\\', "},{", '"score":1', "é 漢字 👩‍👩‍👧", " two  spaces ", "\u2028", "/", "'")
WORDS = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1)


def read(labels: tuple[str, ...], scores: list[float], top_k: int | None = None, *, near: bool = False) -> object:
    values = np.array(scores, np.float32)
    fragment = ranked(labels, values, -values, top_k, with_similarity=near)
    return orjson.loads(orjson.dumps({"scores": fragment}))["scores"]


@given(st.lists(st.one_of(WORDS, st.sampled_from(NASTY)), min_size=1, max_size=20), st.randoms())
def test_every_label_comes_back_as_it_was_with_its_score(words: list[str], dice: object) -> None:
    scores = [number / 32 for number in range(len(words))]
    dice.shuffle(scores)  # type: ignore[attr-defined]
    expected = sorted(zip(words, scores, strict=True), key=lambda pair: -pair[1])
    assert read(tuple(words), scores) == [{"label": word, "score": score} for word, score in expected]


@pytest.mark.parametrize("label", NASTY)
def test_a_label_alone(label: str) -> None:
    assert read((label,), [0.25]) == [{"label": label, "score": 0.25}]


def test_ties_keep_their_order_and_the_rest_is_cut_off() -> None:
    labels = ("a", "b", "c", "d")
    assert read(labels, [0.25, 0.5, 0.25, 0.0], 3) == [
        {"label": "b", "score": 0.5},
        {"label": "a", "score": 0.25},
        {"label": "c", "score": 0.25},
    ]
    assert read(labels, [0.25, 0.5, 0.25, 0.0], 1, near=True) == [{"label": "b", "score": 0.5, "similarity": -0.5}]


def test_scores_are_those_numbers_to_the_last_bit() -> None:
    values = np.random.default_rng(3).random(1000).astype(np.float32) ** 20
    labels = tuple(map(str, range(1000)))
    answer = orjson.loads(orjson.dumps(ranked(labels, values, values, None, with_similarity=True)))
    for entry in answer:
        value = values[int(entry["label"])]
        assert (np.float32(entry["score"]), np.float32(entry["similarity"])) == (value, value)
    assert [entry["score"] for entry in answer] == sorted((entry["score"] for entry in answer), reverse=True)
