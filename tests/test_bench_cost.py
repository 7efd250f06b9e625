"""What the table of costs computes; no timing is asserted."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from scripts.bench import cost, report
from scripts.bench.plan import Plan
from scripts.bench.report import Section, keep

PLAN = Plan("random:ViT-B/32", "fp32", "cpu", 1.0, 1, 1, peers=False, price_per_hour=0.36)


@pytest.fixture(autouse=True)
def _kept_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "KEPT", tmp_path)
    monkeypatch.setattr(cost, "KEPT", tmp_path)


def test_a_million_pictures_at_a_hundred_a_second_take_ten_thousand_seconds() -> None:
    assert cost.per_million(100, 0.36, busy=1.0) == pytest.approx(1.0)
    assert cost.per_million(100, 0.36, busy=0.4) == pytest.approx(2.5)


def test_the_table_is_made_of_what_was_kept_on_this_machine() -> None:
    keep("gateway", Section("Gateway", figures={"rest fp32": 100.0}), PLAN)
    keep("peers", Section("Peers", figures={"peers rest this, fp32 64": 1.0, "peers rest this, int8 64": 200.0}), PLAN)
    own, closed = cost.measure(PLAN).tables
    assert [row[:5] for row in own.rows] == [
        ("REST, fp32", "100.0", "0.36", "1.00", "2.50"),
        ("REST, fp32", "100.0", "0.72", "2.00", "5.00"),
        ("REST, int8", "200.0", "0.36", "0.50", "1.25"),
        ("REST, int8", "200.0", "0.72", "1.00", "2.50"),
    ]
    assert own.rows[2][5] == "3.75"  # three squares of a picture of 4:3
    assert closed.rows[0][:3] == ("AWS Rekognition, image moderation", "1,000", "267")


def test_a_price_that_was_not_found_is_not_made_up() -> None:
    keep("gateway", Section("Gateway", figures={"rest fp32": 100.0}), PLAN)
    rows = {row[0]: row for row in cost.measure(PLAN).tables[1].rows}
    assert rows["Azure AI Content Safety, pictures"][1:3] == ("not found", "")
    assert rows["OpenAI, omni-moderation"][1:3] == ("free", "")


def test_figures_of_another_machine_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    keep("gateway", Section("Gateway", figures={"rest fp32": 100.0}), PLAN)
    monkeypatch.setattr(cost, "machine", lambda: "another machine")
    section = cost.measure(PLAN)
    assert [target.met for target in section.targets] == [None]
    assert len(section.tables) == 1


def test_a_gpu_costs_what_was_said_when_it_was_measured() -> None:
    keep("gateway", Section("Gateway", figures={"rest fp32": 100.0}), PLAN)
    figures = {"rest cuda fp16": 1000.0, "rest cuda price per hour": 3.6}
    keep("gpu", Section("GPU", figures=figures), dataclasses.replace(PLAN, device="cuda"))
    assert cost.measure(PLAN).tables[0].rows[-1][:4] == ("REST, GPU, fp16", "1000.0", "3.60", "1.00")
