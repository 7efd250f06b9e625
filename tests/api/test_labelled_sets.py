"""Labelled sets by the public API: what is kept, what each file gets, and what is refused."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import ModelUnavailable
from tests.support.in_process_app import Web, b64, is_problem, png
from tests.support.saved_policies import ALWAYS, CLASSIFIER, put

PATH = "/v1/labelled-sets/mine"


@pytest.fixture
def mine(web: Web) -> Web:
    made = web.client.put(PATH, json={"description": "of tests"})
    assert (made.status_code, made.json()["images"]) == (201, 0)
    return web


def upload(web: Web, *pictures: bytes, labels: Any, **fields: Any) -> Any:
    files = [("file", ("a.png", picture, "image/png")) for picture in pictures]
    return web.client.post(f"{PATH}/images", files=files, data={"labels": labels, **fields})


def test_files_get_their_labels_and_fail_by_themselves(mine: Web, tmp_path: Path) -> None:
    red, blue = png("red"), png("blue")
    answer = upload(mine, red, b"nothing", blue, labels=['["gore"]', "[]", '["harmless"]'], group="g").json()
    first, second, third = answer["results"]
    assert first == {
        "index": 0,
        "sha256": hashlib.sha256(red).hexdigest(),
        "labels": ["gore"],
        "outcome": "added",
        "error": None,
    }
    assert (second["outcome"], second["error"]["code"]) == (None, "unsupported_image")
    assert (third["labels"], third["outcome"]) == ([], "added")
    assert (answer["set"]["images"], answer["set"]["labels"]) == (2, {"gore": 1, "harmless": 1})
    again = upload(mine, red, labels='["gore", "nudity"]').json()
    assert [one["outcome"] for one in again["results"]] == ["updated"]
    assert again["set"]["labels"] == {"gore": 1, "nudity": 1, "harmless": 1}
    assert mine.client.get(PATH).json() == again["set"]
    assert mine.client.get("/v1/labelled-sets").json() == {"data": [again["set"]]}
    (one,) = upload(mine, b"nothing", labels="[]").json()["results"]
    assert one["error"]["code"] == "unsupported_image", "of one file alone too"
    kept = (tmp_path / "data" / "gateway.sqlite").read_bytes() + (tmp_path / "data" / "gateway.sqlite-wal").read_bytes()
    assert red[40:] not in kept, "no image"


def test_labels_may_come_in_one_field_or_as_json(mine: Web) -> None:
    answer = upload(mine, png("red"), png("blue"), labels='[["gore"], []]', slices='{"from": "web"}').json()
    assert [one["labels"] for one in answer["results"]] == [["gore"], []]
    body = {"images": [{**b64(png("pink")), "labels": ["nudity"], "group": "video"}]}
    as_json = mine.client.post(f"{PATH}/images", json=body)
    assert as_json.json()["results"][0]["labels"] == ["nudity"], as_json.text
    assert as_json.json()["set"]["images"] == 3


@pytest.mark.parametrize(
    "labels", ["gore", "{}", '["a", "harmless"]', "[1]", ['["a"]', '["b"]', "[]"], json.dumps(["a"] * 51)]
)
def test_labels_that_say_nothing_clear_are_refused(mine: Web, labels: Any) -> None:
    answer = upload(mine, png("red"), png("blue"), labels=labels)
    assert answer.status_code == 422, answer.text
    assert answer.json()["code"] in {"invalid_request", "invalid_labels"}
    assert mine.client.get(PATH).json()["images"] == 0


@pytest.mark.parametrize("web", [{"max_labelled_images": 1, "max_labelled_sets": 1}], indirect=True)
def test_caps_hold(mine: Web) -> None:
    answer = upload(mine, png("red"), png("blue"), labels="[]").json()
    assert [one["outcome"] for one in answer["results"]] == ["added", None]
    assert "MAX_LABELLED_IMAGES" in answer["results"][1]["error"]["detail"]
    is_problem(mine.client.put("/v1/labelled-sets/more", json={}), 422, "invalid_request")
    assert mine.client.delete(PATH).status_code == 204
    is_problem(mine.client.delete(PATH), 404, "not_found")
    is_problem(mine.client.get(PATH), 404, "not_found")
    is_problem(upload(mine, png(), labels="[]"), 404, "not_found")


def test_a_set_of_another_bundle_says_so(mine: Web, tmp_path: Path) -> None:
    upload(mine, png(), labels="[]")
    with sqlite3.connect(tmp_path / "data" / "gateway.sqlite") as database:
        database.execute("UPDATE labelled_sets SET bundle_id = 'another'")
    assert not mine.client.get(PATH).json()["served"]
    is_problem(upload(mine, png("blue"), labels="[]"), 409, "set_model_mismatch")
    assert put(mine, "/v1/classifiers/scene", CLASSIFIER).status_code == 201
    assert put(mine, "/v1/policies/strict", ALWAYS).status_code == 201
    job = {"policy": "strict", "source": {"set": "mine"}}
    is_problem(mine.client.post("/v1/jobs", json=job), 409, "set_model_mismatch")


def test_a_fault_of_the_service_is_no_label(mine: Web) -> None:
    mine.encoder.failure = ModelUnavailable("away")
    assert upload(mine, png("red"), png("blue"), labels="[]").status_code == 503
    assert mine.client.get(PATH).json()["images"] == 0
