"""Scores as they are answered: labels best first."""

from __future__ import annotations

import numpy as np

from gateway.api.classify import ranked


def read(labels: tuple[str, ...], scores: list[float], top_k: int | None = None, *, near: bool = False) -> object:
    values = np.array(scores, np.float32)
    return ranked(labels, values, -values if near else None, top_k)


def test_ties_keep_their_order_and_the_rest_is_cut_off() -> None:
    labels = ("a", "b", "c", "d")
    assert read(labels, [0.25, 0.5, 0.25, 0.0], 3) == [
        {"label": "b", "score": 0.5},
        {"label": "a", "score": 0.25},
        {"label": "c", "score": 0.25},
    ]
    assert read(labels, [0.25, 0.5, 0.25, 0.0], 1, near=True) == [{"label": "b", "score": 0.5, "similarity": -0.5}]
