"""Through the real stack: pictures in other colors, and on grounds that hide them, are judged as they are seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.fault_table import FaultLog

FOUND = Path(__file__).parents[1] / "corpus" / "found"


def moderated(client: httpx2.Client, name: str) -> dict[str, Any]:
    answer = client.post("/v1/moderate", files={"file": (FOUND / name).read_bytes()})
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()["results"][0]
    return result


def score(result: dict[str, Any], category: str) -> float:
    return float(next(found["score"] for found in result["categories"] if found["category"] == category))


@pytest.mark.parametrize("name", ["pq.png", "pq.avif"])
def test_104_a_splatter_in_pq_is_judged_as_the_splatter(client: httpx2.Client, name: str, faults: FaultLog) -> None:
    result, plain = moderated(client, name), moderated(client, "sdr-of-pq.png")
    faults.expect(104, f"a splatter in BT.2020 and PQ, {name[3:]}", str(result["decision"]), "block")
    assert result["decision"] == plain["decision"] == "block"
    assert score(result, "gore") == pytest.approx(score(plain, "gore"), abs=0.01)


def test_104_what_a_profile_hides_is_seen(client: httpx2.Client) -> None:
    data = {"labels": ["a red circle", "a blue square", "an empty picture"]}
    answer = client.post("/v1/classify", files={"file": (FOUND / "icc-curve.png").read_bytes()}, data=data).json()
    best = answer["results"][0]["scores"][0]
    assert best["label"] == "a red circle"
    assert best["score"] > 0.9


@pytest.mark.parametrize("kind", ["png", "gif", "webp"])
def test_105_white_scrawl_on_nothing_is_blocked(client: httpx2.Client, kind: str, faults: FaultLog) -> None:
    result = moderated(client, f"white-scrawl.{kind}")
    faults.expect(105, f"white scrawl on transparent ground, {kind}", str(result["decision"]), "block")
    assert result["decision"] == "block"
    worst = result["categories"][0]
    assert worst["category"] == "offensive"
    assert worst["evidence"][0]["background"] == "black"
    assert result["image"]["frames_analyzed"] == 1


def test_105_classify_and_embeddings_look_on_white(client: httpx2.Client) -> None:
    data = {"labels": ["a red circle", "a scrawl"], "include": ["views"]}
    picture = (FOUND / "white-scrawl.png").read_bytes()
    views = client.post("/v1/classify", files={"file": picture}, data=data).json()["results"][0]["views"]
    assert [view["background"] for view in views] == [None]
