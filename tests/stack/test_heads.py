"""Heads on the real stack and the demo model: learned from drawings by a hand that the model never saw."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.metrics import roc_auc_score

from gateway.cli.main import cli
from gateway.moderation.heads import unpacked
from scripts.demo.hands import drawings
from tests.conftest import Stack, running_stack

pytestmark = pytest.mark.heavy

SEED = 51_000
PROMPTS = [{"label": "scrawl", "prompts": ["an angry scrawl"]}]


def pictures(what: str, count: int, seed: int = SEED) -> list[dict[str, str]]:
    made = []
    for drawing in drawings("ink", what, count, seed):
        out = io.BytesIO()
        drawing.save(out, "PNG")
        made.append({"base64": base64.b64encode(out.getvalue()).decode()})
    return made


def examples(scrawls: int, others: int, seed: int = SEED) -> list[dict[str, Any]]:
    made = [{"labels": ["scrawl"], "image": picture} for picture in pictures("scrawl", scrawls, seed)]
    harmless = pictures("writing", others // 2, seed) + pictures("coloured splash", others - others // 2, seed)
    return made + [{"labels": [], "image": picture} for picture in harmless]


def train(client: httpx2.Client, name: str, body: dict[str, Any], **parameters: Any) -> Any:
    answer = client.post(f"/v1/classifiers/{name}/train", json=body, params=parameters, timeout=120)
    assert answer.status_code in {200, 201}, answer.text
    return answer.json()


def scores(client: httpx2.Client, classifier: str, images: list[dict[str, str]]) -> list[float]:
    made = []
    for start in range(0, len(images), 20):
        asked = {"images": images[start : start + 20], "classifier": classifier, "views": "full"}
        answer = client.post("/v1/classify", json=asked)
        assert answer.status_code == 200, answer.text
        made += [
            {row["label"]: row["score"] for row in result["scores"]}["scrawl"] for result in answer.json()["results"]
        ]
    return made


def area(client: httpx2.Client, classifier: str, fresh: list[dict[str, str]]) -> float:
    """The area under the ROC curve on drawings of the same hand that nobody trained on, first those that offend."""
    truth = np.repeat([1, 0], len(fresh) // 2)
    return float(roc_auc_score(truth, scores(client, classifier, fresh)))


@pytest.fixture(scope="module")
def own(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack that keeps vectors."""
    folder = tmp_path_factory.mktemp("heads")
    with running_stack(folder, stack.model_repository, MODEL="demo", DECISION_VECTORS="true") as made:
        yield made


@pytest.fixture
def keeping(own: Stack) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=own.gateway_url, timeout=60) as client:
        yield client


def test_20_examples_a_label_beat_the_words_and_can_be_rolled_back(keeping: httpx2.Client) -> None:
    words = {"mode": "independent", "labels": PROMPTS}
    assert keeping.put("/v1/classifiers/scrawls", json=words).status_code == 201
    fresh = pictures("scrawl", 30, SEED + 1) + pictures("writing", 30, SEED + 1)
    before = area(keeping, "scrawls", fresh)
    made = train(keeping, "scrawls", {"from_classifier": "scrawls", "examples": examples(20, 20)})
    assert made["offered"], made["reason"]
    assert made["figures"]["gain"]["low"] > 0
    saved = made["classifier"]
    assert (saved["version"], saved["active"], saved["kind"]) == (2, False, "head")
    assert made["examples"] == {"used": 40, "groups": 40, "by_label": {"scrawl": 20}}
    assert area(keeping, "scrawls@2", fresh) > before
    assert area(keeping, "scrawls", fresh) == pytest.approx(before, abs=0.01), "a draft changes nothing"

    assert keeping.post("/v1/classifiers/scrawls/activate", json={"version": 2}).status_code == 200
    rule = {"category": "scrawl", "classifier": "scrawls", "labels": ["scrawl"], "review_at": 0.5}
    assert keeping.put("/v1/policies/scrawls", json={"rules": [rule], "views": "full"}).status_code == 201
    asked = {"images": pictures("scrawl", 1, SEED + 2), "policy": "scrawls"}
    (result,) = keeping.post("/v1/moderate", json=asked).json()["results"]
    assert result["decision"] == "review"
    assert {entry["kind"] for entry in result["categories"][0]["evidence"]} == {"head"}
    assert keeping.post("/v1/classifiers/scrawls/activate", json={"version": 1}).status_code == 200
    assert area(keeping, "scrawls", fresh) == pytest.approx(before, abs=0.01)
    listed = keeping.get("/v1/classifiers/scrawls/versions").json()["data"]
    assert "layers" not in listed[0]
    assert keeping.get("/v1/classifiers/scrawls?version=2").json()["layers"]
    audit = keeping.get("/v1/audit", params={"kind": "classifier", "name": "scrawls"}).json()["data"]
    assert ("save", 2) in {(row["action"], row["version"]) for row in audit}


def test_shuffled_labels_are_not_offered(keeping: httpx2.Client) -> None:
    rng = np.random.default_rng(3)
    given = examples(50, 50)
    labels = rng.permutation(np.array([entry["labels"] == ["scrawl"] for entry in given]))
    shuffled = [{**entry, "labels": ["scrawl"] if true else []} for entry, true in zip(given, labels, strict=True)]
    made = train(keeping, "shuffled", {"labels": PROMPTS, "examples": shuffled}, activate=True)
    assert (made["offered"], made["classifier"]) == (False, None)
    assert "not better" in made["reason"]
    assert made["figures"]["gain"]["low"] <= 0
    assert keeping.get("/v1/classifiers/shuffled").status_code == 404


def test_10_examples_of_new_labels_without_words(keeping: httpx2.Client) -> None:
    given = [{"labels": ["scrawl"], "image": picture} for picture in pictures("scrawl", 10)]
    given += [{"labels": ["shape"], "image": picture} for picture in pictures("shape", 10)]
    given += [{"labels": ["shape"], "image": {"base64": "bm8gaW1hZ2U="}}]
    body = {"labels": [{"label": "scrawl"}, {"label": "shape"}], "output": "softmax", "examples": given}
    made = train(keeping, "new", body, activate=True)
    assert made["offered"], made["reason"]
    assert made["skipped"] == [{"index": 20, "decision_id": None, "reason": "unsupported_image"}]
    seen = scores(keeping, "new", pictures("scrawl", 5, SEED + 4) + pictures("shape", 5, SEED + 4))
    assert min(seen[:5]) > max(seen[5:])
    again = train(keeping, "again", body)
    weights = [
        unpacked(keeping.get(f"/v1/classifiers/{name}").json()["layers"][0]["weight"]) for name in ("new", "again")
    ]
    np.testing.assert_allclose(weights[0], weights[1], atol=0.01)  # a batch's float noise is in the vectors
    assert again["sha256"] == made["sha256"]


def test_reviewed_decisions_teach(keeping: httpx2.Client) -> None:
    ids: dict[str, list[str]] = {}
    for what in ("scrawl", "writing"):
        asked = {"images": pictures(what, 12, SEED + 5), "external_id": "teaching"}
        results = keeping.post("/v1/moderate", json=asked).json()["results"]
        ids[what] = [result["decision_id"] for result in results]
    for decision in ids["scrawl"]:
        verdict = {"decision": "block", "categories": ["scrawl", "another"]}
        assert keeping.post(f"/v1/decisions/{decision}/feedback", json=verdict).status_code == 201
    for decision in ids["writing"]:
        assert keeping.post(f"/v1/decisions/{decision}/feedback", json={"decision": "allow"}).status_code == 201
    by_filter = train(keeping, "learned", {"labels": PROMPTS, "decisions": {"external_id": "teaching"}})
    assert by_filter["examples"]["by_label"] == {"scrawl": 12}
    assert by_filter["examples"]["used"] == 24
    listed = [{"decision_id": decision} for decision in (*ids["scrawl"], *ids["writing"], "0" * 32)]
    by_id = train(keeping, "learned", {"labels": PROMPTS, "examples": listed})
    assert by_id["examples"] == by_filter["examples"]
    assert by_id["skipped_because"] == {"no_such_decision": 1}
    assert by_id["offered"] == by_filter["offered"]


def test_a_restarted_gateway_serves_the_head(stack: Stack, tmp_path: Path) -> None:
    body = {"labels": PROMPTS, "examples": examples(20, 20)}
    picture = pictures("scrawl", 3, SEED + 6)
    seen = []
    for run in range(2):
        with (
            running_stack(tmp_path, stack.model_repository, MODEL="demo") as made,
            httpx2.Client(base_url=made.gateway_url, timeout=60) as client,
        ):
            if run == 0:
                assert train(client, "kept", body, activate=True)["offered"]
            seen.append(scores(client, "kept", picture))
    assert seen[0] == pytest.approx(seen[1], abs=1e-5)


def test_a_folder_of_each_class_teaches_by_one_command(own: Stack, keeping: httpx2.Client, tmp_path: Path) -> None:
    for folder, what in (("scrawl", "scrawl"), ("harmless", "writing")):
        (tmp_path / folder).mkdir()
        for number, picture in enumerate(pictures(what, 20, SEED + 7)):
            (tmp_path / folder / f"{number}.png").write_bytes(base64.b64decode(picture["base64"]))
    asked = ["train", "taught", str(tmp_path), "--address", own.gateway_url, "--prompt", "scrawl=an angry scrawl"]
    run = CliRunner().invoke(cli, asked)
    assert run.exit_code == 0, run.output
    assert "40 examples (20 scrawl)" in run.output
    assert "Saved taught@1, a draft" in run.output
    assert keeping.get("/v1/classifiers/taught?version=1").json()["training"]["examples"]["used"] == 40
    (tmp_path / "harmless" / "0.png").write_bytes(b"no image")
    again = CliRunner().invoke(cli, [*asked, "--json"])
    assert again.exit_code == 3, again.output
