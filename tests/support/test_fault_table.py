"""The record of staged faults: it refuses what is not allowed, and its table shows each fault once."""

from __future__ import annotations

import httpx2
import pytest

from tests.support.fault_table import NUMBERS, FaultLog, outcome


def answer(status: int, **body: str) -> httpx2.Response:
    return httpx2.Response(status, json=body)


def test_an_answer_is_its_status_and_its_code() -> None:
    assert outcome(answer(200, code="none")) == "200"
    assert outcome(answer(422, code="image_corrupt")) == "422 image_corrupt"
    assert outcome(httpx2.Response(404, text="nothing")) == "404"


def test_what_is_not_allowed_fails_and_stands_in_the_table() -> None:
    log = FaultLog()
    for _ in range(2):
        log.expect(1, "an empty body", answer(400, code="empty_file"), "400 empty_file")
    with pytest.raises(AssertionError, match=r"fault 2, a\|b: 500, not"):
        log.expect(2, "a|b", answer(500), "415 unsupported_image", "422 image_corrupt")
    assert log.table().splitlines()[2:] == [
        "| 1 | an empty body | 400 empty_file | 400 empty_file |",
        "| 2 | a\\|b | 415 unsupported_image or 422 image_corrupt | 500 |",
    ]
    assert log.missing == [number for number in NUMBERS if number > 2]
