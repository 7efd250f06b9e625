"""Heads as classifiers: saved, served, listed, kept as files, and refused for another model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import numpy.typing as npt
import pytest
from starlette.testclient import TestClient

from gateway.app import create_app
from gateway.cli.head_file import Stated, read_head
from gateway.cli.policies import export, import_
from gateway.inference.bundle import ModelIdentity
from gateway.inference.triton import Vectors
from gateway.limits.deadline import Deadline
from gateway.moderation.heads import packed
from gateway.settings import Settings
from tests.support.fake_encoder import BUNDLE_ID, DIM, FakeEncoder, write_bundle
from tests.support.in_process_app import Web, b64, is_problem, png, wait_ready
from tests.support.saved_policies import moderate, put

WEIGHT = np.arange(2 * DIM, dtype=np.float32).reshape(2, DIM) / DIM
HEAD: dict[str, Any] = {
    "kind": "head",
    "labels": ["bad", "good"],
    "output": "softmax",
    "model": {"id": "fake", "embedding_dim": DIM},
    "layers": [{"weight": WEIGHT.tolist(), "bias": [0.5, -0.5]}],
}
RULE = {"category": "bad", "classifier": "learned", "labels": ["bad"], "review_at": 0.0}
POLICY = {"rules": [RULE], "views": "full"}
REFUSED = "head_model_mismatch"

Start = Callable[..., Any]


@pytest.fixture
def gateway(tmp_path: Path) -> Start:
    """Starts a gateway with a bundle, on the database of all of them."""

    @contextmanager
    def start(bundle_id: str = BUNDLE_ID, encoder: FakeEncoder | None = None, **changed: Any) -> Iterator[Web]:
        folder = tmp_path / bundle_id
        manifest = replace(write_bundle(folder, context_length=200), bundle_id=bundle_id, **changed)
        (folder / "manifest.json").write_text(manifest.to_json())
        encoder = encoder or FakeEncoder()
        encoder.bundle_id = bundle_id
        settings = Settings(model_repository=folder, data_dir=tmp_path, log_level="error", decode_isolation=False)
        with TestClient(create_app(settings, lambda *_: encoder), base_url="http://localhost") as client:
            web = Web(client, encoder)
            wait_ready(web)
            yield web

    return start


def classified(web: Web, classifier: str = "learned", **fields: Any) -> Any:
    asked = {"images": [b64(png())], "classifier": classifier, **fields}
    return web.client.post("/v1/classify", json=asked)


def test_a_head_is_versioned_and_served_without_a_text(web: Web) -> None:
    before = list(web.encoder.text_calls)
    made = put(web, "/v1/classifiers/learned", HEAD)
    assert (made.status_code, made.json()["version"]) == (201, 1)
    assert made.json()["layers"][0]["weight"] == packed(WEIGHT)
    assert put(web, "/v1/classifiers/learned", made.json()).json()["version"] == 1, "as it was read, nothing is new"
    answer = classified(web, include=["embedding"]).json()
    result = answer["results"][0]
    logits = WEIGHT @ np.array(result["embedding"]) + [0.5, -0.5]
    expected = np.exp(logits) / np.exp(logits).sum()
    got = {row["label"]: row["score"] for row in result["scores"]}
    assert [got["bad"], got["good"]] == pytest.approx(expected.tolist(), abs=1e-6)
    assert (answer["classifier"], answer["mode"]) == ("learned@1", "softmax")
    assert put(web, "/v1/policies/strict", POLICY).status_code == 201
    (verdict,) = moderate(web).json()["results"]
    assert verdict["decision"] == "review"
    assert [(entry["kind"], entry["label"]) for entry in verdict["categories"][0]["evidence"]] == [("head", "bad")]
    assert web.encoder.text_calls == before
    is_problem(classified(web, include=["similarity"]), 422, "invalid_request")
    for path in ("/v1/classifiers", "/v1/classifiers/learned/versions"):
        (row,) = [row for row in web.client.get(path).json()["data"] if row["name"] == "learned"]
        assert (row["kind"], "layers" in row, "norm" in row) == ("head", False, False)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"model": {"id": "openai/clip-vit-large-patch14", "embedding_dim": DIM}}, "openai/clip-vit-large-patch14"),
        ({"model": {"id": "fake", "embedding_dim": 512}}, "512 values"),
        ({"model": {"id": "fake", "embedding_dim": DIM, "bundle_id": "0123"}}, "bundle 0123"),
    ],
)
def test_a_head_of_another_model_is_refused_by_name(web: Web, changed: dict[str, Any], said: str) -> None:
    answer = put(web, "/v1/classifiers/learned", {**HEAD, **changed})
    is_problem(answer, 409, REFUSED)
    assert said in answer.json()["detail"]
    assert "this service runs fake" in answer.json()["detail"]
    assert web.client.get("/v1/classifiers/learned").status_code == 404


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"labels": ["bad"]}, "softmax over one label"),
        ({"labels": ["bad", "bad"]}, "once"),
        ({"labels": ["bad", "good", "odd"]}, "2 outputs for 3 labels"),
        ({"layers": [{"weight": "AAAA", "bias": [0.0]}]}, "base64"),
        ({"layers": [{"weight": [[1.0], [1.0, 2.0]], "bias": [0.0]}]}, "weight"),
        ({"layers": [{"weight": packed(WEIGHT), "bias": packed([0.0, np.nan])}]}, "finite"),
        ({"layers": [{"weight": packed(WEIGHT[:, :3]), "bias": packed([0.0, 0.0])}]}, "sizes"),
        ({"layers": []}, "layers"),
        ({"output": "relu"}, "output"),
        ({"kind": "tree"}, "kind"),
        ({"layers": [{"weight": [[10**400, 0]], "bias": [0]}]}, "numbers"),
        ({"training": {"odd": 10**30}}, "64 bits"),
        ({"training": {"odd": "x" * (1 << 17)}}, "131072 bytes"),
        ({"training": json.loads('{"odd":' * 40 + "0" + "}" * 40)}, "32 deep"),
        ({"labels": [{"label": "bad", "calibration": {"images": 10**30}}, "good"]}, "images"),
        ({"kind": []}, "kind"),
    ],
)
def test_what_makes_no_head_is_named(web: Web, changed: dict[str, Any], said: str) -> None:
    answer = put(web, "/v1/classifiers/learned", {**HEAD, **changed})
    assert answer.status_code == 422, answer.text
    assert said in answer.json()["detail"]
    assert web.client.get("/v1/classifiers").status_code == 200


@pytest.mark.parametrize("record", [{"odd": "\ud800"}, {"\ud800": 1}])
def test_a_record_that_no_answer_could_show_is_refused(web: Web, record: dict[str, Any]) -> None:
    body = json.dumps({**HEAD, "training": record})
    answer = web.client.put("/v1/classifiers/learned", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert "Unicode" in answer.json()["detail"]


def test_a_head_is_not_served_by_another_bundle(gateway: Start) -> None:
    trained = {**HEAD, "model": {**HEAD["model"], "bundle_id": "one"}}
    with gateway("one") as first:
        assert put(first, "/v1/classifiers/learned", trained).status_code == 201
        assert put(first, "/v1/policies/strict", POLICY).status_code == 201
        before = classified(first).json()["results"][0]["scores"]
        with gateway("two") as second:
            answer = classified(second)
            is_problem(answer, 409, REFUSED)
            assert {"one", "two"} <= set(answer.json()["detail"].replace(";", "").replace(".", "").split())
            is_problem(moderate(second), 409, "policy_model_mismatch")
            is_problem(put(second, "/v1/policies/strict", POLICY), 409, REFUSED)
            is_problem(second.client.post("/v1/classifiers/learned/activate", json={"version": 1}), 409, REFUSED)
        assert classified(first).json()["results"][0]["scores"] == before
    with gateway("one") as again:
        assert classified(again).json()["results"][0]["scores"] == before


def test_an_imported_head_serves_every_bundle_of_its_model(gateway: Start) -> None:
    with gateway("one") as first:
        assert put(first, "/v1/classifiers/learned", HEAD).status_code == 201
    with gateway("two") as second:
        assert classified(second).status_code == 200


def test_files_of_a_team_hold_it_whole(web: Web, tmp_path: Path) -> None:
    put(web, "/v1/classifiers/learned", HEAD)
    before = web.client.get("/v1/classifiers/learned").json()
    client: httpx2.Client = web.client
    assert export(client, tmp_path, dry_run=False) == 0
    assert export(client, tmp_path, dry_run=True) == 0, "nothing differs"
    assert import_(client, tmp_path, dry_run=True) == 0
    assert web.client.delete("/v1/classifiers/learned").status_code == 204
    assert import_(client, tmp_path, dry_run=False) == 0
    after = web.client.get("/v1/classifiers/learned").json()
    assert (after["layers"], after["labels"], after["model"]) == (before["layers"], before["labels"], before["model"])


def test_the_published_head_judges_photographs_over_rest(gateway: Start, golden: Path) -> None:
    vectors = np.load(golden / "photos_vitb32.npz")["image_embeds"]

    class Photographs(FakeEncoder):
        """Answers the real model's vector of one photograph after the other."""

        shown = 0

        async def encode_images(self, pixels: npt.NDArray[np.uint8], deadline: Deadline) -> Vectors:
            rows = [(self.shown + row) % len(vectors) for row in range(len(pixels))]
            self.shown += len(pixels)
            return np.asarray(vectors[rows], np.float32)

        async def encode_texts(self, input_ids: npt.NDArray[np.int64], deadline: Deadline) -> Vectors:
            return np.asarray(np.repeat(vectors[:1], len(input_ids), axis=0), np.float32)

    model = "openai/clip-vit-base-patch32"
    identity = ModelIdentity(model, "0", demo=False, random=False)
    head = read_head(golden / "laion_nsfw_head_vitb32.npz", Stated(model, "sigmoid", ("nsfw",)))
    with gateway("clip", Photographs(), model=identity, embedding_dim=512) as web:
        saved = put(web, "/v1/classifiers/learned", head.model_dump(mode="json"))
        assert saved.status_code == 201, saved.text
        results = [classified(web).json()["results"][0]["scores"][0] for _ in range(7)]
        assert all(row["label"] == "nsfw" and row["score"] < 0.1 for row in results)
    with gateway("demo") as web:
        refused = put(web, "/v1/classifiers/learned", head.model_dump(mode="json"))
        is_problem(refused, 409, REFUSED)
        assert model in refused.json()["detail"]
