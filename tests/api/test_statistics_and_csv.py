"""Decisions over time against the verdicts given, and their CSV as a reader of CSV and a spreadsheet take it."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from tests.support.in_process_app import Web, b64, is_problem, png
from tests.support.saved_policies import ALWAYS, NEVER, moderate, put

pytest_plugins = ["tests.support.saved_policies_fixtures"]

PATH = "/v1/decisions/statistics"
HOSTILE = (
    *('=1+1"', "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\uff1d1+1", '"quoted", and; comma', "plain", "üñí €"),
    '=HYPERLINK("http://evil","x")',
)


def judge(web: Web, decision: str, verdict: str) -> None:
    answer = web.client.post(f"/v1/decisions/{decision}/feedback", json={"decision": verdict})
    assert answer.status_code == 201


def counted(web: Web, **asked: Any) -> list[dict[str, Any]]:
    answer = web.client.get(PATH, params=asked)
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = answer.json()["data"]
    return rows


@pytest.mark.parametrize("bucket", ["hour", "day", "week"])
def test_statistics_are_those_of_the_verdicts_given(made: Web, bucket: str) -> None:
    put(made, "/v1/policies/lenient", {**NEVER, "audit_share": 1.0})
    blocked = [one["decision_id"] for one in moderate(made, png("red"), png("blue"), png("pink")).json()["results"]]
    audited = [one["decision_id"] for one in moderate(made, png(), png("black"), policy="lenient").json()["results"]]
    judge(made, blocked[0], "block")
    judge(made, blocked[1], "block")
    judge(made, blocked[1], "allow")
    judge(made, audited[0], "allow")  # the rules allowed it, and so does the reviewer
    judge(made, audited[1], "block")
    rows = counted(made, bucket=bucket)
    assert all(one["to"] == two["from"] for one, two in pairwise(rows))
    begin, end = datetime.fromisoformat(rows[-1]["from"]), datetime.fromisoformat(rows[-1]["to"])
    assert begin <= datetime.now(UTC) < end
    last = rows[-1]
    assert last["decisions"] == {"allow": 0, "review": 2, "block": 3}
    assert last["outcomes"] == {"allow": 2, "review": 0, "block": 3}
    assert (last["reviewed"], last["agreed"], last["overturned"]) == (4, 2, 2)
    strict = counted(made, bucket=bucket, policy="strict")[-1]
    assert (strict["reviewed"], strict["agreed"], strict["overturned"]) == (2, 1, 1)
    assert all(not sum(row["decisions"].values()) for row in rows[:-1])


def test_statistics_end_where_they_are_asked_to(made: Web) -> None:
    moderate(made)
    now = datetime.now(UTC)
    past = counted(made, since=(now - timedelta(days=3)).isoformat(), until=(now - timedelta(days=1)).isoformat())
    assert [sum(row["decisions"].values()) for row in past] == [0] * len(past)
    assert counted(made, since=now.isoformat(), until=(now - timedelta(days=2)).isoformat()) == []
    for wrong in ({"since": "2020-01-01T00:00:00Z", "bucket": "hour"}, {"bucket": "year"}, {"by": "day"}):
        is_problem(made.client.get(PATH, params=wrong), 422, "invalid_request")
    for until in ("0001-01-02T00:00:00Z", "9999-12-31T23:59:59Z"):
        is_problem(made.client.get(PATH, params={"until": until}), 422, "invalid_request")


def test_csv_reads_back_and_holds_no_formula(made: Web) -> None:
    body = {"images": [{**b64(png()), "external_id": one} for one in HOSTILE], "policy": "strict"}
    results = made.client.post("/v1/moderate", json=body).json()["results"]
    first = results[0]["decision_id"]
    note = {"decision": "allow", "note": "=1+1\nsecond line", "reviewer": "@ann"}
    assert made.client.post(f"/v1/decisions/{first}/feedback", json=note).status_code == 201
    answer = made.client.get("/v1/decisions", params={"format": "csv"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/csv; charset=utf-8")
    rows = list(csv.DictReader(io.StringIO(answer.text, newline=""), strict=True))
    assert [row["id"] for row in rows] == [row["id"] for row in made.client.get("/v1/decisions").json()["data"]]
    by_id = {row["id"]: row for row in rows}
    for result, external_id in zip(results, HOSTILE, strict=True):
        row = by_id[result["decision_id"]]
        assert row["external_id"] in {external_id, f"'{external_id}"}
        assert json.loads(row["scores"]) == {"bad": result["categories"][0]["score"]}
        assert (row["policy"], row["version"], row["decision"], row["categories"]) == ("strict", "1", "block", "bad")
        for cell in row.values():
            assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d"))
    assert (by_id[first]["outcome"], by_id[first]["reviewer"]) == ("allow", "'@ann")
    assert by_id[first]["note"] == "'=1+1\nsecond line"
    head, *_ = answer.text.splitlines()
    assert head == ("id,at,external_id,image_sha256,policy,version,decision,outcome,categories,scores,reviewer,note")
    limited = made.client.get("/v1/decisions", params={"format": "csv", "limit": 2}).text
    assert len(list(csv.reader(io.StringIO(limited, newline="")))) == 3


def test_csv_goes_on_over_pages(made: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.api.review.decisions.EXPORT_PAGE", 2)
    put(made, "/v1/policies/strict", {**ALWAYS, "description": "again"})
    moderate(made, *(png(color) for color in ("red", "green", "blue", "pink", "gold")))
    text = made.client.get("/v1/decisions", params={"format": "csv"}).text
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert len({row["id"] for row in rows}) == len(rows) == 5
