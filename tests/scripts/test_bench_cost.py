"""What the table of costs computes; no timing is asserted."""

from __future__ import annotations

import pytest

from scripts.bench import cost

RATES = {("classify", "fp32"): 100.0, ("moderate", "fp32"): 40.0, ("moderate", "int8"): 80.0}


def test_a_million_pictures_at_a_hundred_a_second_take_ten_thousand_seconds() -> None:
    assert cost.per_million(100, 0.36, busy=1.0) == pytest.approx(1.0)
    assert cost.per_million(100, 0.36, busy=0.4) == pytest.approx(2.5)


def test_each_throughput_has_its_price_and_that_of_twice_the_cores() -> None:
    own, _ = cost.computed(RATES, {}, 0.36).tables
    assert own.rows[:3] == (
        ("classify, fp32", "100.0", "0.36", "1.00", "2.50"),
        ("classify, fp32", "100.0", "0.72", "2.00", "5.00"),
        ("moderate, fp32", "40.0", "0.36", "2.50", "6.25"),
    )


def test_closed_services_are_set_beside_moderation_and_a_price_that_was_not_found_is_not_made_up() -> None:
    rows = {row[0]: row for row in cost.computed(RATES, {}, 0.36).tables[1].rows}
    assert rows["AWS Rekognition, image moderation"][1:3] == ("1,000", "320")  # of 3.125 dollars
    assert rows["Azure AI Content Safety, pictures"][1:3] == ("not found", "")
    assert rows["OpenAI, omni-moderation"][1:3] == ("free", "")


def test_a_gpu_costs_what_was_said_when_it_was_measured() -> None:
    figures = {"rest cuda fp16": 1000.0, "rest cuda price per hour": 3.6}
    own, closed = cost.computed({}, figures, 0.36).tables
    assert own.rows == (("classify, fp16 on a GPU", "1000.0", "3.60", "1.00", "2.50"),)
    assert closed.rows[0][2] == ""
    assert cost.computed({}, {"rest cuda fp16": 1000.0}, 0.36).tables[0].rows == ()
