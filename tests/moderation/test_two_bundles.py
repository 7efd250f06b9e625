"""Gateways with one database and, in turn, one bundle or two: what a new one reads, computes, and leaves alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from starlette.testclient import TestClient

from gateway.app import create_app
from gateway.inference import label_matrix
from gateway.inference.prompts import LabelRules
from gateway.moderation.classifiers import Classifier
from gateway.settings import Settings
from tests.support.fake_encoder import FakeEncoder, write_bundle
from tests.support.in_process_app import Web, b64, is_problem, png, wait_ready
from tests.support.saved_policies import put
from tests.support.stores import locked

pytestmark = pytest.mark.heavy

CLASSIFIER: dict[str, Any] = {
    "mode": "independent",
    "labels": [
        {"label": "cat", "negatives": ["a dog", "a cow"]},
        {"label": "car", "negatives": ["a bus"]},
        {"label": "house", "negatives": ["a tree"]},
    ],
    "templates": ["a photo of {}", "a drawing of {}"],
}
POLICY = {"rules": [{"category": "cats", "classifier": "mine", "labels": ["cat"], "review_at": 0.0}], "views": "full"}

StartGateway = Callable[..., Any]


@pytest.fixture
def gateway(tmp_path: Path) -> StartGateway:
    """Starts a gateway with a bundle, on the database of all of them."""

    @contextmanager
    def start(bundle_id: str = "one", store_timeout_s: float = 10, **changed: Any) -> Iterator[Web]:
        folder = tmp_path / bundle_id
        manifest = replace(write_bundle(folder, context_length=200), bundle_id=bundle_id, **changed)
        (folder / "manifest.json").write_text(manifest.to_json())
        encoder = FakeEncoder()
        encoder.bundle_id = bundle_id
        settings = Settings(
            model_repository=folder, data_dir=tmp_path, log_level="error", store_timeout_s=store_timeout_s
        )
        with TestClient(create_app(settings, lambda *_: encoder), base_url="http://localhost") as client:
            web = Web(client, encoder)
            wait_ready(web)
            yield web

    return start


def kept(folder: Path, name: str) -> bytes:
    """The label vectors of a classifier's first version, in the gateways' database."""
    with closing(sqlite3.connect(folder / "gateway.sqlite")) as connection:
        rows = connection.execute("SELECT data FROM label_vectors WHERE name = ? AND number = 1", (name,)).fetchall()
    ((data,),) = rows
    return bytes(data)


def damage(folder: Path, name: str, data: bytes) -> None:
    with closing(sqlite3.connect(folder / "gateway.sqlite")) as connection:
        connection.execute("UPDATE label_vectors SET data = ? WHERE name = ?", (data, name))
        connection.commit()


def scores(web: Web, classifier: str = "mine") -> Any:
    answer = web.client.post("/v1/classify", json={"images": [b64(png())], "classifier": classifier})
    assert answer.status_code == 200, answer.text
    return answer.json()["results"][0]["scores"]


def signed(whole: bytes, rows: npt.NDArray[np.float32]) -> bytes:
    """Other vectors with the checksum that belongs to them, as of a gateway that is broken."""
    words = Classifier.model_validate(CLASSIFIER).normal((), ()).label_set(LabelRules())
    assert label_matrix._digest(words, whole[32:]) == whole[:32]
    return label_matrix._digest(words, rows.tobytes()) + rows.tobytes()


def default(web: Web) -> Any:
    answer = web.client.post("/v1/moderate", json={"images": [b64(png())]})
    assert answer.status_code == 200, answer.text
    return answer.json()["results"][0]


def test_a_second_gateway_is_ready_without_a_text_inference_and_scores_alike(gateway: StartGateway) -> None:
    with gateway() as first:
        put(first, "/v1/classifiers/mine", CLASSIFIER)
        put(first, "/v1/classifiers/old", CLASSIFIER)
        put(first, "/v1/classifiers/old", {**CLASSIFIER, "description": "another version"})
        before = scores(first), scores(first, "old@1"), default(first)["categories"]
        with gateway() as second:
            assert (scores(second), scores(second, "old@1"), default(second)["categories"]) == before
            assert second.encoder.text_calls == []


@pytest.mark.parametrize("changed", [{"precision": "fp16"}, {"checksums": {"clip_text/1/model.pt": "00"}}])
def test_vectors_of_another_text_tower_are_not_taken(gateway: StartGateway, changed: dict[str, Any]) -> None:
    with gateway() as first:
        put(first, "/v1/classifiers/mine", CLASSIFIER)
    with gateway(**changed) as second:
        assert second.encoder.text_calls
        scores(second)
    with gateway(**changed) as third:
        scores(third)
        assert third.encoder.text_calls == [], "they were kept beside the others"
    with gateway() as again:
        scores(again)
        assert again.encoder.text_calls == []


def test_the_texts_are_the_same_when_nothing_but_a_config_or_the_image_tower_is_another(gateway: StartGateway) -> None:
    files = {"clip_text/1/model.pt": "00", "clip_text/config.pbtxt": "01", "clip_image/1/model.pt": "02"}
    with gateway(checksums=files) as first:
        put(first, "/v1/classifiers/mine", CLASSIFIER)
    others = {"clip_text/config.pbtxt": "11", "clip_image/1/model.pt": "12"}
    with gateway(checksums=files | others, precision="int8") as second:
        scores(second)
        assert second.encoder.text_calls == []


def test_vectors_that_cannot_be_kept_serve_all_the_same(gateway: StartGateway, tmp_path: Path) -> None:
    with gateway() as first:
        put(first, "/v1/classifiers/mine", CLASSIFIER)
    with locked(tmp_path / "gateway.sqlite"), gateway(precision="fp16", store_timeout_s=1) as second:
        assert len(scores(second)) == len(CLASSIFIER["labels"])
        assert second.encoder.text_calls


@pytest.mark.parametrize(
    "damaged",
    [
        lambda whole, _: whole[:60],
        lambda whole, _: bytes(len(whole)),
        lambda *_: b"",
        lambda whole, _: whole[:-4] + bytes([whole[-4] ^ 1]) + whole[-3:],
        lambda _, other: other,
        lambda whole, _: signed(whole, np.full((len(whole) - 32) // 4, np.nan, "<f4")),
        lambda whole, _: signed(whole, np.full((len(whole) - 32) // 4, 0.5, "<f4")),
    ],
    ids=["cut off", "zeroes", "empty", "one bit", "another classifier's", "not a number", "no unit vectors"],
)
def test_vectors_that_are_damaged_are_computed_anew(
    gateway: StartGateway, tmp_path: Path, damaged: Callable[[bytes, bytes], bytes]
) -> None:
    with gateway() as first:
        put(first, "/v1/classifiers/mine", CLASSIFIER)
        put(first, "/v1/classifiers/other", {**CLASSIFIER, "templates": ["my {}", "your {}"]})
        before = scores(first)
    whole = kept(tmp_path, "mine")
    damage(tmp_path, "mine", damaged(whole, kept(tmp_path, "other")))
    with gateway() as second:
        assert scores(second) == before
        assert second.encoder.text_calls
    assert kept(tmp_path, "mine") == whole, "and mended"


def test_another_bundle_changes_nothing_for_the_one_that_serves(gateway: StartGateway) -> None:
    with gateway("one") as old:
        put(old, "/v1/classifiers/mine", CLASSIFIER)
        put(old, "/v1/policies/mine", POLICY)
        before = default(old)["policy"]
        with gateway("two") as new:
            assert default(new)["policy"]["version"] != before["version"]
            assert default(old)["policy"] == before
            refused = new.client.post("/v1/moderate", json={"images": [b64(png())], "policy": "mine"})
            is_problem(refused, 409, "policy_model_mismatch")
            is_problem(new.client.post("/v1/policies/mine/activate", json={"version": 1}), 409, "policy_model_mismatch")
            shown = new.client.get("/v1/policies/mine").json()
            assert (shown["version"], shown["active"], shown["bundle_id"]) == (1, False, "one")
            assert len(scores(new)) == len(CLASSIFIER["labels"]), "a classifier is words alone"
            saved = put(new, "/v1/policies/mine", POLICY).json()
            assert (saved["version"], saved["active"], saved["bundle_id"]) == (2, True, "two")
            for web, version in ((old, 1), (new, 2)):
                answer = web.client.post("/v1/moderate", json={"images": [b64(png())], "policy": "mine"})
                assert answer.json()["results"][0]["policy"]["version"] == version
            seeded = default(new)["policy"]
    with gateway("one") as old, gateway("two") as new:
        assert default(old)["policy"] == before
        assert default(new)["policy"] == seeded
