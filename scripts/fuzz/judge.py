"""What a picture may get, whatever it is: scores, or an error of the contract about this picture. Nothing else."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

from gateway.errors import ImageError, error_classes

LABELS = ("a red circle", "a blue square")
ERRORS = {error.code: error.status for error in error_classes(ImageError)}
PROBLEM = {"type", "title", "status", "code", "detail", "request_id"}
_LEAK = re.compile(r"Traceback|0x[0-9a-f]{4}|/\w+/|\w(?:Error|Exception)\b|\.py\b|libav|libwebp|Pillow")


class Offence(Exception):
    """An answer that no picture may get; the text says what is wrong with it."""


def outcomes(status: int, answer: Any, pictures: int) -> list[str]:  # noqa: ANN401 - whatever JSON there is
    """Return what each picture of a request got: ``200``, or ``422 image_corrupt`` and the like.

    Args:
        status: of the response.
        answer: its JSON, None where it has none.
        pictures: how many were sent.

    Raises:
        Offence: the response or one of its results is not what the contract allows.
    """
    if status != 200:
        if pictures == 1:
            return [_error(status, answer)]
        raise Offence(f"{status} {_code_of(answer)} for the whole request")
    results = answer.get("results") if isinstance(answer, dict) else None
    if not isinstance(results, list) or [one.get("index") for one in results] != list(range(pictures)):
        raise Offence("not one result for each picture")
    return list(_of_each(results))


def _of_each(results: Sequence[dict[str, Any]]) -> Iterator[str]:
    for result in results:
        error, scores = result["error"], result["scores"]
        if (error is None) == (scores is None):
            raise Offence("scores and an error, or neither")
        if error is not None:
            yield _error(error.get("status"), error)
            continue
        numbers = [score["score"] for score in scores]
        if {score["label"] for score in scores} != set(LABELS):
            raise Offence("not the labels that were asked for")
        if not all(math.isfinite(number) and 0 <= number <= 1 for number in numbers) or abs(sum(numbers) - 1) > 1e-3:
            raise Offence(f"scores {numbers}")
        yield "200"


def _error(status: object, error: Any) -> str:  # noqa: ANN401 - whatever JSON there is
    if not isinstance(error, dict) or set(error) != PROBLEM:
        raise Offence(f"{status} without a problem document")
    if ERRORS.get(error["code"]) != status or error["status"] != status:
        raise Offence(f"{status} {error['code']}")
    if _LEAK.search(error["detail"]):
        raise Offence(f"{status} {error['code']} that says too much: {error['detail'][:200]}")
    return f"{status} {error['code']}"


def _code_of(answer: Any) -> str:  # noqa: ANN401 - whatever JSON there is
    return str(answer.get("code")) if isinstance(answer, dict) else "without a problem document"
