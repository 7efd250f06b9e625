"""Through the whole real stack: a closed set says of foreign drawings that none of its labels fits."""

from __future__ import annotations

import base64
from typing import Any

import httpx2
import numpy as np

from gateway.evaluation.judged import ClassifierViews, JudgedImage, JudgedSet, LabelledImage, Run
from gateway.evaluation.none_of_these import fit_none_of_these
from tests.support.drawings import LABELS, encoded, shape

KNOWN = [label for label in LABELS if "circle" in label or "star" in label]
SIZES = [(width, height) for width in (200, 240, 280) for height in (220, 260)]


def asked(client: httpx2.Client, **fields: Any) -> list[tuple[str, dict[str, Any]]]:
    """What the classifier says of every shape in every size."""
    found = []
    for label in LABELS:
        images = [{"base64": base64.b64encode(encoded(shape(label, size))).decode()} for size in SIZES]
        answer = client.post("/v1/classify", json={"images": images, "classifier": "round-or-pointed", **fields})
        assert answer.status_code == 200, answer.text
        found += [(label, result) for result in answer.json()["results"]]
    return found


def test_foreign_drawings_are_none_of_a_closed_set(client: httpx2.Client) -> None:
    body = {"labels": KNOWN, "templates": ["a drawing of {}", "a picture of {}"]}
    assert client.put("/v1/classifiers/round-or-pointed", json=body).status_code in {200, 201}
    images = []
    for label, result in asked(client, include=["similarity"]):
        scores = {entry["label"]: entry for entry in result["scores"]}
        rows = [np.array([[scores[name][field] for name in KNOWN]], np.float32) for field in ("score", "similarity")]
        views = {"round-or-pointed@1": ClassifierViews(tuple(KNOWN), *rows)}
        images.append(JudgedImage(LabelledImage(label, frozenset({label})), result["image"]["sha256"], views=views))
    stored = client.get("/v1/classifiers/round-or-pointed").json()
    run = Run({}, None, "round-or-pointed@1", None, {"round-or-pointed@1": stored}, "2026-01-01T00:00:00Z")
    made = fit_none_of_these(JudgedSet(run, tuple(images)), 0.2, parts=("train", "calibration", "test"))
    assert client.put("/v1/classifiers/round-or-pointed", json=made.classifier).status_code == 200
    known: list[bool] = []
    foreign: list[bool] = []
    for label, result in asked(client):
        (known if label in KNOWN else foreign).append(result["none_of_these"])
    assert np.mean(known) <= 0.2
    assert np.mean(foreign) >= 0.8
