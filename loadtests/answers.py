"""What an answer must be to count as a success: a load test that does not look passes while nothing works."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from loadtests.pictures import Picture

SUM_TOLERANCE = 1e-3


class WrongAnswer(Exception):
    """A status 200 with something else inside than what was asked for; the text says what."""


def check_classification(body: Any, pictures: Sequence[Picture], labels: Sequence[str]) -> None:  # noqa: ANN401 - JSON
    """Hold an answer of ``POST /v1/classify`` (softmax) against its request.

    Raises:
        WrongAnswer: not one complete result for each picture, in order, of these labels.
    """
    try:
        results = body["results"]
        if len(results) != len(pictures):
            raise WrongAnswer(f"{len(results)} results for {len(pictures)} pictures")
        for index, (result, picture) in enumerate(zip(results, pictures, strict=True)):
            if result["error"] is not None:
                raise WrongAnswer(f"picture {index} failed: {result['error']['code']}")
            if (result["index"], result["image"]["sha256"]) != (index, picture.sha256):
                raise WrongAnswer(f"result {index} is about another picture")
            if (result["image"]["width"], result["image"]["height"]) != (picture.drawing.width, picture.drawing.height):
                raise WrongAnswer(f"result {index} has another size")
            check_scores({score["label"]: score["score"] for score in result["scores"]}, labels)
    except (KeyError, TypeError) as error:
        raise WrongAnswer(f"the answer has not the documented form: {type(error).__name__} {error}") from None


def check_scores(scores: dict[str, float], labels: Sequence[str]) -> None:
    """Hold one picture's scores, best first, against the labels.

    Raises:
        WrongAnswer: not exactly these labels, not probabilities that sum to 1, or out of order.
    """
    if set(scores) != set(labels):
        raise WrongAnswer(f"{len(scores)} scores for {len(labels)} labels")
    values = list(scores.values())
    if not all(math.isfinite(value) and 0 <= value <= 1 for value in values):
        raise WrongAnswer("a score is no probability")
    if abs(sum(values) - 1) > SUM_TOLERANCE:
        raise WrongAnswer(f"the scores sum to {sum(values):.4f}")
    if values != sorted(values, reverse=True):
        raise WrongAnswer("the scores are not best first")
