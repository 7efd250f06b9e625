"""A random share of what a policy allows is sent to review: always the same files, and no other decision is touched."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.in_process_app import Web, b64, png
from tests.support.moderator_parts import sha256
from tests.support.saved_policies import ALWAYS, NEVER, moderate, put

pytest_plugins = ["tests.support.saved_policies_fixtures"]

HALF, ALL = {**NEVER, "audit_share": 0.5}, {**NEVER, "audit_share": 1.0}


def files(count: int) -> list[bytes]:
    """Images of as many colors."""
    return [png(f"#{number:02x}{255 - number:02x}80", 64) for number in range(count)]


def judged(web: Web, *pictures: bytes, **fields: Any) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = []
    for start in range(0, len(pictures), 20):
        answer = moderate(web, *pictures[start : start + 20], **fields)
        assert answer.status_code == 200, answer.text
        results += answer.json()["results"]
    return results


def test_a_share_of_what_is_allowed_is_reviewed_and_always_the_same_files(made: Web) -> None:
    """Half of 60 is 30, give or take 4 standard deviations of 4."""
    put(made, "/v1/policies/strict", HALF)
    first, again = (judged(made, *files(60)) for _ in range(2))
    decisions = [result["decision"] for result in first]
    assert decisions == [result["decision"] for result in again]
    assert 14 <= decisions.count("review") <= 46
    for result in first:
        assert ("audit" in result["warnings"]) == (result["decision"] == "review")
        assert {category["decision"] for category in result["categories"]} == {"allow"}


def test_a_larger_share_keeps_the_files_of_a_smaller_and_policies_draw_apart(made: Web) -> None:
    drawn: dict[str, list[bool]] = {}
    for name, share in (("few", 0.3), ("many", 0.7), ("other", 0.3)):
        policy = "other" if name == "other" else "strict"
        put(made, f"/v1/policies/{policy}", {**NEVER, "audit_share": share})
        drawn[name] = [result["decision"] == "review" for result in judged(made, *files(40), policy=policy)]
    assert all(many for few, many in zip(drawn["few"], drawn["many"], strict=True) if few)
    assert drawn["few"] != drawn["other"]


def test_the_log_knows_with_what_probability_each_was_drawn(made: Web) -> None:
    put(made, "/v1/policies/strict", HALF)
    judged(made, *files(20))
    rows = made.client.get("/v1/decisions?limit=500").json()["data"]
    assert len(rows) == 20
    assert {row["audit_share"] for row in rows} == {0.5}
    assert {("audit" in row["warnings"], row["decision"]) for row in rows} == {(True, "review"), (False, "allow")}
    (row,) = made.client.get("/v1/decisions?limit=1&outcome=review").json()["data"]
    answer = made.client.post(f"/v1/decisions/{row['id']}/feedback", json={"decision": "allow"})
    assert answer.status_code == 201


def test_only_what_is_allowed_is_drawn(made: Web) -> None:
    put(made, "/v1/policies/strict", {**ALWAYS, "audit_share": 1.0})
    (result,) = judged(made, png("red"))
    assert (result["decision"], result["warnings"].count("audit")) == ("block", 0)


def test_an_allow_list_is_not_audited(made: Web) -> None:
    put(made, "/v1/policies/strict", ALL)
    known = png("red")
    made.client.put("/v1/lists/known", json={"action": "allow", "kind": "sha256"})
    made.client.post("/v1/lists/known/entries", content=sha256(known), headers={"Content-Type": "text/plain"})
    results = judged(made, known, png("blue"))
    assert [result["decision"] for result in results] == ["allow", "review"]
    (row,) = made.client.get(f"/v1/decisions?image_sha256={sha256(known)}").json()["data"]
    assert row["audit_share"] is None


def test_a_shadow_is_neither_audited_nor_compared_with_the_audit(made: Web) -> None:
    put(made, "/v1/policies/strict", ALL)
    put(made, "/v1/policies/beside", ALL)
    (result,) = judged(made, png("red"), shadow="beside")
    assert (result["decision"], result["shadow"]["decision"]) == ("review", "allow")
    assert "audit" not in result["shadow"]["warnings"]
    (row,) = made.client.get("/v1/decisions").json()["data"]
    assert row["shadow_differs"] is False


def test_a_dry_run_leaves_the_audit_out(made: Web) -> None:
    put(made, "/v1/policies/strict", NEVER)
    answer = made.client.post("/v1/policies/strict/dry-run", json={"policy": ALL, "images": [b64(png())]})
    assert answer.status_code == 200, answer.text
    assert (answer.json()["compared"], answer.json()["changed"]) == (1, 0)


@pytest.mark.parametrize("web", [{"moderations_review_flags": True}], indirect=True)
def test_openais_clients_see_no_flag_for_an_audit(made: Web) -> None:
    put(made, "/v1/policies/strict", ALL)
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + b64(png())["base64"]}}
    answer = made.client.post("/v1/moderations", json={"input": [part], "model": "strict"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["results"][0]["flagged"] is False
    (row,) = made.client.get("/v1/decisions").json()["data"]
    assert row["decision"] == "review"


def test_metrics_count_the_audit_apart(made: Web) -> None:
    put(made, "/v1/policies/strict", ALL)
    judged(made, png("red"), png("blue"))
    lines = made.client.get("/metrics").text.splitlines()
    assert 'gateway_audited_total{policy="strict"} 2.0' in lines
    assert 'gateway_decisions_total{decision="allow",policy="strict"} 2.0' in lines
    assert not any("gateway_decisions_total{" in line and 'decision="review"' in line for line in lines)


@pytest.mark.parametrize("share", [-0.1, 1.1, "a tenth", True])
def test_a_share_is_a_number_from_0_to_1(made: Web, share: Any) -> None:
    answer = made.client.put("/v1/policies/strict", json={**NEVER, "audit_share": share})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
