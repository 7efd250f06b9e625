"""A reviewer's verdict is the decision: in the log, in its filters, and for the same file the next time."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from gateway.app import create_app
from gateway.settings import Settings
from tests.auth.test_api_keys import ENTRIES, bearer
from tests.support.fake_encoder import FakeEncoder
from tests.support.in_process_app import Web, is_problem, png, wait_ready
from tests.support.saved_policies import NEVER, moderate, put
from tests.support.waiting import until

pytest_plugins = ["tests.support.saved_policies_fixtures"]


def decided(web: Web, picture: bytes, **fields: Any) -> dict[str, Any]:
    (result,) = moderate(web, picture, **fields).json()["results"]
    found: dict[str, Any] = result
    return found


def judge(web: Web, result: dict[str, Any], **verdict: Any) -> dict[str, Any]:
    answer = web.client.post(f"/v1/decisions/{result['decision_id']}/feedback", json=verdict)
    assert answer.status_code == 201, answer.text
    kept: dict[str, Any] = answer.json()
    return kept


def noise(seed: int, change: int = 0) -> bytes:
    """Return a picture that PDQ finds structure in; ``change`` makes another file that looks the same."""
    small = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    picture = np.array(Image.fromarray(small).resize((256, 256), Image.Resampling.BICUBIC))
    picture[0, 0] = change
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "PNG")
    return out.getvalue()


def test_the_latest_verdict_is_the_outcome_everywhere(made: Web) -> None:
    first, other = decided(made, png("red")), decided(made, png("blue"))
    judge(made, first, decision="block")
    judge(made, first, decision="allow", note="art", reviewer="ann")
    line = made.client.get(f"/v1/decisions/{first['decision_id']}").json()
    assert (line["decision"], line["outcome"]) == ("block", "allow")
    assert (line["reviewed"]["reviewer"], line["reviewed"]["key"]) == ("ann", None)
    assert [entry["reviewer"] for entry in line["feedback"]] == [None, "ann"]
    untouched = made.client.get(f"/v1/decisions/{other['decision_id']}").json()
    assert (untouched["outcome"], untouched["reviewed"]) == ("block", None)
    for query, wanted in (
        ("outcome=allow", [first]),
        ("outcome=block", [other]),
        ("decision=block", [other, first]),
        ("reviewed=true", [first]),
        ("reviewed=false", [other]),
    ):
        ids = [result["decision_id"] for result in wanted]
        page = made.client.get(f"/v1/decisions?{query}").json()["data"]
        assert [row["id"] for row in page] == ids, query
        exported = made.client.get(f"/v1/decisions?{query}&format=jsonl").text
        assert exported.count("\n") == len(ids)
        assert exported.count('"outcome"') == len(ids)


def test_without_being_asked_no_list_is_made(made: Web) -> None:
    result = decided(made, png())
    assert judge(made, result, decision="allow")["lists"] == []
    assert judge(made, result, decision="allow", add_to_list=False)["list"] is None
    assert made.client.get("/v1/lists").json()["data"] == []
    assert decided(made, png())["decision"] == "block"


def test_the_same_file_gets_the_reviewers_verdict_and_no_other(made: Web) -> None:
    picture, alike = noise(1), noise(1, change=255)
    kept = judge(made, decided(made, picture), decision="allow", add_to_list=True)
    assert (kept["list"], kept["lists"], kept["still_blocked_by"]) == ("reviewed-allow", ["reviewed-allow"], [])
    again = decided(made, picture)
    assert again["decision"] == "allow"
    assert again["categories"][0]["category"] == "list:reviewed-allow"
    assert decided(made, alike)["decision"] == "block", "another file is not let through"
    judge(made, again, decision="block", add_to_list=True)
    put(made, "/v1/policies/lenient", NEVER)
    assert decided(made, picture, policy="lenient")["decision"] == "block"
    lists = {row["name"]: row for row in made.client.get("/v1/lists").json()["data"]}
    assert lists["reviewed-allow"]["entries"] == 0
    assert (lists["reviewed-block"]["action"], lists["reviewed-block"]["entries"]) == ("block", 1)


def test_what_looks_like_a_blocked_image_is_blocked_until_a_reviewer_allows_that_file(made: Web) -> None:
    pytest.importorskip("pdqhash")
    put(made, "/v1/policies/lenient", NEVER)
    picture, alike = noise(2), noise(2, change=255)
    kept = judge(made, decided(made, picture, policy="lenient"), decision="block", add_to_list=True)
    assert kept["lists"] == ["reviewed-block", "reviewed-block-pdq"]
    near = decided(made, alike, policy="lenient")
    assert (near["decision"], near["categories"][0]["category"]) == ("block", "list:reviewed-block-pdq")
    put(made, "/v1/lists/known-bad", {"action": "block", "kind": "sha256"})
    made.client.post("/v1/lists/known-bad/entries", json=[hashlib.sha256(alike).hexdigest()])
    assert judge(made, near, decision="allow", add_to_list=True)["still_blocked_by"] == ["known-bad"]
    assert decided(made, alike, policy="lenient")["decision"] == "block", "somebody else's list wins"
    made.client.delete("/v1/lists/known-bad")
    assert decided(made, alike, policy="lenient")["decision"] == "allow"
    assert decided(made, picture, policy="lenient")["decision"] == "block"


def test_a_flat_image_and_an_animation_are_listed_by_their_bytes_alone(made: Web) -> None:
    """PDQ says too little about the one, and of the other it is of one frame, which need not be the one to blame."""
    pytest.importorskip("pdqhash")
    frames = [Image.open(io.BytesIO(noise(seed))) for seed in (3, 4)]
    moving = io.BytesIO()
    frames[0].save(moving, "GIF", save_all=True, append_images=frames[1:])
    for picture in (png("red"), moving.getvalue()):
        assert judge(made, decided(made, picture), decision="block", add_to_list=True)["lists"] == ["reviewed-block"]


def test_a_list_can_be_named_if_it_says_the_same(made: Web) -> None:
    result = decided(made, png())
    path = f"/v1/decisions/{result['decision_id']}/feedback"
    assert judge(made, result, decision="allow", add_to_list="shown-in-court")["lists"] == ["shown-in-court"]
    assert decided(made, png())["decision"] == "allow"
    wrong = made.client.post(path, json={"decision": "block", "add_to_list": "shown-in-court"})
    is_problem(wrong, 422, "invalid_request")
    assert "its action is allow" in wrong.json()["detail"]
    is_problem(made.client.post(path, json={"decision": "block", "add_to_list": "No Name"}), 422, "invalid_request")
    assert len(made.client.get(f"/v1/decisions/{result['decision_id']}").json()["feedback"]) == 1
    judge(made, result, decision="block", add_to_list=True)
    assert decided(made, png())["decision"] == "block"
    assert made.client.get("/v1/lists/shown-in-court").json()["entries"] == 0


def test_lists_need_a_key_that_may_manage_and_the_log_names_the_key(tmp_path: Path, made: Web) -> None:
    """Through a second gateway with keys on the same store, which puts the first one's verdicts in force too."""
    settings = Settings(
        model_repository=tmp_path,
        data_dir=tmp_path / "data",
        log_level="error",
        decode_isolation=False,
        gateway_api_keys=ENTRIES,
    )
    result = decided(made, png())
    path = f"/v1/decisions/{result['decision_id']}/feedback"
    encoder = FakeEncoder()
    with TestClient(create_app(settings, lambda *_: encoder), base_url="http://localhost") as client:
        wait_ready(Web(client, encoder))

        def give(role: str, **verdict: Any) -> Any:
            return client.post(path, json=verdict, headers=bearer(role))

        is_problem(give("read", decision="allow", add_to_list=True), 403, "forbidden")
        assert give("read", decision="block").json()["key"] == "read-key"
        assert give("manage", decision="allow", add_to_list=True, reviewer="ann").status_code == 201
    reviewed = made.client.get(f"/v1/decisions/{result['decision_id']}").json()["reviewed"]
    assert (reviewed["key"], reviewed["reviewer"]) == ("manage-key", "ann")
    until(lambda: decided(made, png())["decision"] == "allow")
