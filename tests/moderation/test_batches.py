"""Batches: each image's own ids in the decision log, by JSON and by form; the log by image, and its limit."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from tests.support.in_process_app import Web, b64, is_problem, png

pytest_plugins = ["tests.support.saved_policies_fixtures"]

COLOURS = ("red", "green", "blue")


def logged(web: Web, query: str = "") -> dict[str, tuple[Any, Any]]:
    """Return the client's ids in the log by the picture's colour: of the content, and of the image in its request."""
    names = {hashlib.sha256(png(colour)).hexdigest(): colour for colour in COLOURS}
    rows = web.client.get(f"/v1/decisions{query}").json()["data"]
    return {names[row["image"]["sha256"]]: (row["external_id"], row["image"]["id"]) for row in rows}


def form(web: Web, **fields: Any) -> Any:
    files = [("file", (f"{colour}.png", png(colour), "image/png")) for colour in COLOURS]
    return web.client.post("/v1/moderate", files=files, data={"policy": "strict", **fields})


def test_each_image_of_a_json_request_has_its_own_ids(made: Web) -> None:
    own: list[dict[str, str]] = [{"id": "a", "external_id": "post-1"}, {"external_id": ""}, {"id": "c"}]
    images = [{**b64(png(colour)), **ids} for colour, ids in zip(COLOURS, own, strict=True)]
    body = {"policy": "strict", "images": images, "external_id": "batch"}
    results = made.client.post("/v1/moderate", json=body).json()["results"]
    assert [result["id"] for result in results] == ["a", None, "c"]
    assert logged(made) == {"red": ("post-1", "a"), "green": ("", None), "blue": ("batch", "c")}
    assert list(logged(made, "?external_id=post-1")) == ["red"]
    assert made.client.delete("/v1/decisions?external_id=post-1").json() == {"deleted": 1}
    is_problem(
        made.client.post("/v1/classify", json={"images": images, "labels": ["a", "b"]}), 422, "invalid_request"
    )  # where nothing is logged


def test_each_image_of_a_form_has_its_own_ids(made: Web) -> None:
    results = form(made, id=["a", "b", "c"], external_id=["post-1", "post-2", "post-3"]).json()["results"]
    assert [result["id"] for result in results] == ["a", "b", "c"]
    assert logged(made) == {"red": ("post-1", "a"), "green": ("post-2", "b"), "blue": ("post-3", "c")}


def test_one_external_id_of_a_form_is_that_of_all_its_images(made: Web) -> None:
    for fields in ({"external_id": "one"}, {"options": json.dumps({"external_id": "two"})}):
        assert form(made, **fields).status_code == 200
    assert len(made.client.get("/v1/decisions?external_id=one").json()["data"]) == 3
    assert len(made.client.get("/v1/decisions?external_id=two").json()["data"]) == 3
    by_list = form(made, options=json.dumps({"external_id": ["x", "y", "z"], "id": ["1", "2", "3"]}))
    assert [result["id"] for result in by_list.json()["results"]] == ["1", "2", "3"]
    assert list(logged(made, "?external_id=y")) == ["green"]


def test_as_many_ids_as_images(made: Web) -> None:
    for fields in ({"external_id": ["a", "b"]}, {"id": "a"}, {"id": ["a", "b", "c", "d"]}):
        refused = form(made, **fields)
        is_problem(refused, 422, "invalid_request")
        assert next(iter(fields)) in refused.json()["detail"]
    assert logged(made) == {}


def test_the_log_by_image(made: Web) -> None:
    form(made)
    form(made)
    digest = hashlib.sha256(png("red")).hexdigest()
    for given in (digest, digest.upper()):
        found = made.client.get(f"/v1/decisions?image_sha256={given}").json()["data"]
        assert [row["image"]["sha256"] for row in found] == [digest] * 2
    is_problem(made.client.get("/v1/decisions?image_sha256=abc"), 422, "invalid_request")


def test_the_limit_holds_for_an_export(made: Web) -> None:
    for _ in range(2):
        form(made)
    for query, lines in (("", 6), ("&limit=4", 4), ("&limit=6", 6), ("&limit=501", 6)):
        assert made.client.get(f"/v1/decisions?format=jsonl{query}").text.count("\n") == lines, query
    page = made.client.get("/v1/decisions?limit=4").json()
    rest = made.client.get(f"/v1/decisions?format=jsonl&limit=1&cursor={page['next_cursor']}").text
    assert json.loads(rest)["id"] not in {row["id"] for row in page["data"]}
    is_problem(made.client.get("/v1/decisions?limit=501"), 422, "invalid_request")
    is_problem(made.client.get("/v1/decisions?format=jsonl&limit=0"), 422, "invalid_request")
