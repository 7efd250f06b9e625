"""Moderation: evidence, log, shadows, dry runs and known pictures, on a fake encoder and a real SQLite store."""

from __future__ import annotations

import asyncio
import hashlib
import io
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from starlette.testclient import TestClient

from gateway.app import create_app
from gateway.errors import ModelUnavailable
from gateway.settings import Settings
from gateway.store.lists import Lists
from tests.support.fake_encoder import FakeEncoder, write_bundle
from tests.support.in_process_app import Web, b64, is_problem, png, wait_ready
from tests.support.saved_policies import ALWAYS, CLASSIFIER, NEVER, moderate, put
from tests.support.waiting import until

pytest_plugins = ["tests.support.saved_policies_fixtures"]


def test_a_decision_says_why_and_is_logged(made: Web) -> None:
    picture = png()
    response = moderate(made, picture, external_id="user-1")
    result = response.json()["results"][0]
    assert result["decision"] == "block"
    (category,) = result["categories"]
    assert (category["category"], category["block_at"]) == ("bad", 0.0)
    assert category["evidence"][0]["view"] == "full"
    assert category["evidence"][0]["box"] == [0, 0, 64, 64]
    assert "uncalibrated" in result["warnings"]
    row = made.client.get(f"/v1/decisions/{result['decision_id']}").json()
    assert row["request_id"] == response.json()["request_id"]
    assert row["image"]["sha256"] == hashlib.sha256(picture).hexdigest()
    assert (row["decision"], row["policy"]["version"], row["external_id"]) == ("block", 1, "user-1")
    assert row["categories"] == result["categories"]
    put(made, "/v1/policies/lenient", NEVER)
    moderate(made, png("blue"), policy="lenient")
    for query, count in (
        ("", 2),
        ("?decision=block", 1),
        ("?policy=lenient", 1),
        ("?category=bad", 1),
        ("?external_id=user-1", 1),
        ("?since=2999-01-01T00:00:00Z", 0),
    ):
        assert len(made.client.get(f"/v1/decisions{query}").json()["data"]) == count, query
    page = made.client.get("/v1/decisions?limit=1").json()
    rest = made.client.get(f"/v1/decisions?limit=1&cursor={page['next_cursor']}").json()
    assert {entry["decision"] for entry in (*page["data"], *rest["data"])} == {"allow", "block"}
    assert made.client.get("/v1/decisions?format=jsonl").text.count("\n") == 2
    is_problem(made.client.get("/v1/decisions?cursor=nonsense"), 422, "invalid_request")
    is_problem(made.client.get("/v1/decisions?limit=many"), 422, "invalid_request")
    path = f"/v1/decisions/{result['decision_id']}/feedback"
    assert made.client.post(path, json={"decision": "allow", "note": "art"}).status_code == 201
    assert made.client.get(f"/v1/decisions/{result['decision_id']}").json()["feedback"][0]["note"] == "art"
    is_problem(made.client.post("/v1/decisions/none/feedback", json={"decision": "allow"}), 404, "not_found")
    assert made.client.delete("/v1/decisions?external_id=user-1").json() == {"deleted": 1}
    is_problem(made.client.get(f"/v1/decisions/{result['decision_id']}"), 404, "not_found")


@pytest.mark.parametrize("web", [{"decision_log": False}], indirect=True)
def test_the_log_can_be_switched_off(made: Web) -> None:
    result = moderate(made).json()["results"][0]
    assert (result["decision"], result["decision_id"]) == ("block", None)
    assert made.client.get("/v1/decisions").json()["data"] == []


@pytest.mark.parametrize(
    "web",
    [
        {"store_timeout_s": 1.0, "decision_spool_mib": 0},
        {"store_timeout_s": 1.0, "decision_spool_mib": 0, "decision_log_required": True},
    ],
    indirect=True,
    ids=["optional", "required"],
)
def test_a_decision_that_cannot_be_logged(made: Web, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """By default it is given with a warning and no id; where the log is required it is not given, at any endpoint."""
    required = request.node.callspec.id == "required"
    image = {"url": "data:image/png;base64," + b64(png())["base64"]}
    flagging = {"model": "strict", "input": [{"type": "image_url", "image_url": image}]}
    with sqlite3.connect(tmp_path / "data" / "gateway.sqlite", isolation_level=None) as held:
        held.execute("BEGIN IMMEDIATE")  # another process writes, and does not come to an end
        decided, flagged = moderate(made), made.client.post("/v1/moderations", json=flagging)
        unreadable = moderate(made, b"nothing")
        said, shown = made.client.get("/readyz"), made.client.get("/metrics").text
        held.execute("ROLLBACK")
    held.close()
    assert (said.status_code, said.json()["status"], said.json()["degraded"]) == (200, "degraded", ["store"])
    assert said.json()["reasons"] == [
        "Decisions are not being logged: the database takes no writes.",
        "Another process holds locks in the database.",
    ]
    assert said.json()["causes"] == {"store": "locked"}
    assert 'gateway_degraded{part="decision_log"} 1.0' in shown
    assert 'gateway_degraded{part="store"} 0.0' in shown
    if required:
        is_problem(decided, 503, "storage_unavailable")
        assert (flagged.status_code, flagged.json()["error"]["code"]) == (503, "storage_unavailable")
        for answer in (decided, flagged):
            assert not {"results", "decision", "flagged"} & set(answer.json())
    else:
        (result,) = decided.json()["results"]
        assert (result["decision"], result["decision_id"]) == ("block", None)
        assert "decision_not_logged" in result["warnings"]
        assert flagged.json()["results"][0]["flagged"] is True
    is_problem(unreadable, 415, "unsupported_image")  # there is no decision to log
    until(lambda: not made.client.get("/readyz").json()["degraded"])  # the log notices by itself
    assert made.client.get("/readyz").json()["status"] == "ready"
    assert 'gateway_degraded{part="decision_log"} 0.0' in made.client.get("/metrics").text
    assert moderate(made).json()["results"][0]["decision_id"]
    assert len(made.client.get("/v1/decisions").json()["data"]) == 1, "nothing of what failed was written"


def test_a_failed_picture_has_no_verdict_and_no_row(made: Web) -> None:
    results = moderate(made, png(), b"nothing").json()["results"]
    assert [result["decision"] for result in results] == ["block", None]
    assert results[1]["error"]["code"] == "unsupported_image"
    assert len(made.client.get("/v1/decisions").json()["data"]) == 1
    made.encoder.failure = ModelUnavailable("down")
    is_problem(moderate(made), 503, "model_unavailable")
    assert len(made.client.get("/v1/decisions").json()["data"]) == 1


def test_a_shadow_is_reported_and_never_decides(made: Web) -> None:
    put(made, "/v1/policies/lenient", NEVER)
    result = moderate(made, policy="lenient", shadow="strict").json()["results"][0]
    assert result["decision"] == "allow"
    assert result["shadow"]["decision"] == "block"
    assert result["shadow"]["policy"]["name"] == "strict"


def test_known_pictures_decide_before_any_model(made: Web) -> None:
    known, other = png("red"), png("green")
    digest = hashlib.sha256(known).hexdigest()
    made.client.put("/v1/lists/bad", json={"action": "block", "kind": "sha256"})
    made.client.put("/v1/lists/good", json={"action": "allow", "kind": "sha256"})
    put(made, "/v1/policies/lenient", NEVER)
    added = made.client.post("/v1/lists/bad/entries", content=f"# comment\n{digest.upper()}\n\n")
    assert added.json() == {"received": 1, "added": 1}
    calls = made.encoder.image_calls
    result = moderate(made, known, policy="lenient").json()["results"][0]
    assert result["decision"] == "block"
    assert result["categories"][0]["evidence"][0]["kind"] == "list"
    assert made.encoder.image_calls == calls
    made.client.post("/v1/lists/good/entries", json=[digest, hashlib.sha256(other).hexdigest()])
    assert moderate(made, known).json()["results"][0]["decision"] == "block", "block wins over allow"
    assert moderate(made, other).json()["results"][0]["decision"] == "allow"
    assert made.client.get("/v1/lists/good").json()["entries"] == 2
    assert made.client.request("DELETE", "/v1/lists/bad/entries", json=[digest]).json() == {"deleted": 1}
    assert moderate(made, known).json()["results"][0]["decision"] == "allow"
    is_problem(made.client.put("/v1/lists/p", json={"action": "allow", "kind": "pdq"}), 422, "invalid_request")
    is_problem(made.client.put("/v1/lists/bad", json={"action": "block", "kind": "pdq"}), 422, "invalid_request")
    is_problem(made.client.post("/v1/lists/bad/entries", content="abc"), 422, "invalid_request")
    is_problem(made.client.get("/v1/lists/none"), 404, "not_found")
    assert made.client.delete("/v1/lists/bad").status_code == 204
    assert [entry["name"] for entry in made.client.get("/v1/lists").json()["data"]] == ["good"]


def test_each_picture_of_a_request_meets_its_own_list(made: Web) -> None:
    pictures = {name: png(name) for name in ("red", "green", "blue", "white")}
    for name, action in (("bad", "block"), ("good", "allow")):
        made.client.put(f"/v1/lists/{name}", json={"action": action, "kind": "sha256"})
    made.client.post("/v1/lists/bad/entries", json=[hashlib.sha256(pictures["green"]).hexdigest()])
    made.client.post("/v1/lists/good/entries", json=[hashlib.sha256(pictures["blue"]).hexdigest()])
    results = moderate(made, *pictures.values()).json()["results"]
    assert [result["decision"] for result in results] == ["block", "block", "allow", "block"]
    kinds = [{e["kind"] for c in result["categories"] for e in c["evidence"]} for result in results]
    assert kinds == [{"label"}, {"list"}, {"list"}, {"label"}]


@pytest.mark.parametrize("web", [{"decision_vectors": True}], indirect=True)
def test_a_dry_run_over_stored_vectors_needs_neither_picture_nor_model(made: Web) -> None:
    for color in ("red", "green", "blue"):
        moderate(made, png(color))
    made.encoder.failure = ModelUnavailable("down")
    answer = made.client.post("/v1/policies/strict/dry-run", json={"policy": NEVER}).json()
    assert (answer["compared"], answer["changed"]) == (3, 3)
    assert answer["counts"] == [{"before": "block", "after": "allow", "count": 3}]
    assert {example["after"] for example in answer["examples"]} == {"allow"}
    same = made.client.post("/v1/policies/strict/dry-run", json={"version": 1}).json()
    assert (same["compared"], same["changed"]) == (3, 0)
    assert made.client.get("/v1/policies/strict/versions").json()["data"][0]["version"] == 1, "nothing was saved"


def test_a_dry_run_over_pictures(made: Web) -> None:
    body = {"policy": NEVER, "images": [b64(png("red")), b64(b"nothing")]}
    answer = made.client.post("/v1/policies/strict/dry-run", json=body).json()
    assert (answer["compared"], answer["skipped"], answer["changed"]) == (1, 1, 1)
    assert (answer["candidate"]["name"], answer["candidate"]["version"]) == ("strict", 0)
    is_problem(made.client.post("/v1/policies/strict/dry-run", json={}), 422, "invalid_request")
    both = {**body, "decision": "block"}
    is_problem(made.client.post("/v1/policies/strict/dry-run", json=both), 422, "invalid_request")


def test_openais_shape(made: Web) -> None:
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + b64(png())["base64"]}}
    answer = made.client.post("/v1/moderations", json={"model": "strict", "input": [part, part]})
    assert answer.status_code == 200, answer.text
    (result,) = answer.json()["results"]
    assert result["flagged"] is True
    assert (
        len(result["categories"]) == len(result["category_scores"]) == len(result["category_applied_input_types"]) == 13
    )
    assert result["categories"]["violence"] is True
    assert result["category_applied_input_types"]["violence"] == ["image"]
    assert (result["categories"]["sexual/minors"], result["category_scores"]["sexual/minors"]) == (False, 0.0)
    text = made.client.post("/v1/moderations", json={"model": "strict", "input": "some words"})
    assert text.status_code == 400
    assert set(text.json()["error"]) == {"message", "type", "param", "code"}
    assert text.json()["error"]["code"] == "text_not_supported"
    beside = [part, {"type": "text", "text": "words"}]
    assert made.client.post("/v1/moderations", json={"model": "strict", "input": beside}).status_code == 400
    broken = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    failed = made.client.post("/v1/moderations", json={"model": "strict", "input": [part, broken]})
    assert (failed.status_code, failed.json()["error"]["code"]) == (415, "unsupported_image")
    for name in ("nothing", "No Name"):
        missing = made.client.post("/v1/moderations", json={"model": name, "input": [part]})
        assert (missing.status_code, missing.json()["error"]["param"]) == (404, "model")
    for wrong, said in (({"type": "audio"}, "“input.0” must have 'type'"), ({"type": "image_url"}, "is required")):
        refused = made.client.post("/v1/moderations", json={"input": [wrong]}).json()["error"]["message"]
        assert said in refused
        assert "union" not in refused


@pytest.mark.parametrize("web", [{"moderations_text": "ignore", "moderations_review_flags": False}], indirect=True)
def test_text_can_be_read_past_and_review_need_not_flag(made: Web) -> None:
    review = {**ALWAYS, "rules": [{**ALWAYS["rules"][0], "block_at": None}]}
    put(made, "/v1/policies/reviewing", review)
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + b64(png())["base64"]}}
    body = {"model": "reviewing", "input": [part, {"type": "text", "text": "words"}]}
    assert made.client.post("/v1/moderations", json=body).json()["results"][0]["flagged"] is False
    assert made.client.post("/v1/moderations", json={"model": "strict", "input": [part]}).json()["results"][0][
        "flagged"
    ]
    only_text = made.client.post("/v1/moderations", json={"input": "words"})
    assert only_text.status_code == 400


def test_until_the_lists_are_read_nothing_is_decided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture that is on a list must not pass because its gateway has just started."""
    may_read = asyncio.Event()
    read = Lists.every

    async def slow(self: Lists) -> Any:
        await may_read.wait()
        return await read(self)

    monkeypatch.setattr(Lists, "every", slow)
    write_bundle(tmp_path)
    settings = Settings(model_repository=tmp_path, data_dir=tmp_path / "data", log_level="error")
    encoder = FakeEncoder()
    with TestClient(create_app(settings, lambda *_: encoder), base_url="http://localhost") as client:
        web = Web(client, encoder)
        until(lambda: client.get("/readyz").json()["failing"] == ["lists"])
        assert client.get("/readyz").status_code == 503
        put(web, "/v1/classifiers/scene", CLASSIFIER)
        put(web, "/v1/policies/strict", ALWAYS)
        is_problem(moderate(web), 503, "storage_unavailable")
        assert client.portal is not None
        client.portal.call(may_read.set)
        wait_ready(web)
        assert moderate(web).json()["results"][0]["decision"] == "block"


def animation(frames: int) -> bytes:
    pictures = [Image.new("RGB", (64, 64), (40 * number, 0, 0)) for number in range(frames)]
    out = io.BytesIO()
    pictures[0].save(out, "GIF", save_all=True, append_images=pictures[1:])
    return out.getvalue()


@pytest.mark.parametrize("web", [{"sampled_frames": 3}], indirect=True)
@pytest.mark.parametrize(("frames", "warned"), [(1, False), (3, False), (4, True)])
def test_frames_that_were_not_looked_at_are_warned_of(made: Web, frames: int, *, warned: bool) -> None:
    result = moderate(made, animation(frames)).json()["results"][0]
    assert result["image"]["frames"] == frames
    assert result["warnings"] == ["uncalibrated"] + ["frames_sampled"] * warned


@pytest.mark.parametrize("web", [{"store_timeout_s": 1.0, "decision_log_required": True}], indirect=True)
def test_a_decision_that_the_store_does_not_take_is_kept_on_disk(made: Web, tmp_path: Path) -> None:
    """It counts as logged, also where decisions must be, and is there under its id when the store is back."""
    with sqlite3.connect(tmp_path / "data" / "gateway.sqlite", isolation_level=None) as held:
        held.execute("BEGIN IMMEDIATE")
        (result,) = moderate(made).json()["results"]
        said = made.client.get("/readyz").json()
        spooled = made.client.get("/metrics").text
        held.execute("ROLLBACK")
    held.close()
    assert result["decision_id"]
    assert "decision_not_logged" not in result["warnings"]
    assert (said["degraded"], said["causes"]) == (["store"], {"store": "locked"})
    assert said["reasons"][0] == "Decisions are kept on disk until the database takes writes again."
    assert "gateway_decisions_spooled 1.0" in spooled
    until(lambda: made.client.get(f"/v1/decisions/{result['decision_id']}").status_code == 200)
    until(lambda: "gateway_decisions_spooled 0.0" in made.client.get("/metrics").text)
    assert "gateway_decisions_not_logged_total 0.0" in made.client.get("/metrics").text
