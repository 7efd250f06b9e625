"""``clip-gateway thresholds``: from judged images to a draft, on a real SQLite store where one is saved."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result

from gateway.cli.collecting import external_id_of
from gateway.cli.main import cli
from gateway.cli.policies import Refused
from gateway.cli.thresholds import saved, stored
from gateway.evaluation.judged import JudgedSet, line_of
from gateway.moderation.policy import Policy
from tests.support.in_process_app import Web, b64, png
from tests.support.synthetic_scores import drawn

CLASSIFIER: dict[str, Any] = {"labels": [{"label": "bad", "prompts": ["b1", "b2"]}, {"label": "good"}]}


def table(folder: Path, judged: JudgedSet) -> Path:
    """What ``evaluate`` leaves in its folder."""
    run = judged.run
    fields = {name: getattr(run, name) for name in run.__dataclass_fields__}
    lines = [json.dumps({"run": fields}), *(line_of(image) for image in judged.images)]
    folder.mkdir(exist_ok=True)
    (folder / "judged.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def command(*words: Any) -> Result:
    return CliRunner().invoke(cli, ["thresholds", *map(str, words)])


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return table(tmp_path_factory.mktemp("report"), drawn(np.random.default_rng(2), 900, 100))


def test_a_draft_is_written_with_its_promise(report: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "policy.yaml"
    made = command("--report", report, "--block-fpr", 0.01, "--out", out)
    assert made.exit_code == 0, made.output
    assert "at most 1 % of harmless images are blocked" in made.output
    assert "The promises on images that were not used for tuning." in made.output
    text = out.read_text(encoding="utf-8")
    assert "# - at most 1 %" in text
    policy = Policy.model_validate(yaml.safe_load(text))
    assert policy.tuned_on is not None
    assert policy.tuned_on.goals == {"block_fpr": 0.01}


def test_too_few_images_end_with_5_and_no_file(report: Path, tmp_path: Path) -> None:
    out = tmp_path / "policy.yaml"
    made = command("--report", report, "--block-fpr", 0.001, "--out", out)
    assert made.exit_code == 5
    assert "takes 2,995 harmless images" in made.output
    assert "this can be promised: at most 0." in made.output
    assert not out.exists()
    as_json = command("--report", report, "--block-fpr", 0.001, "--out", out, "--json")
    (missing,) = json.loads(as_json.output)["missing"]
    assert missing["need"] == 2995
    assert as_json.exit_code == 5


def test_contradicting_goals_end_with_5(report: Path, tmp_path: Path) -> None:
    common = ("--report", report, "--out", tmp_path / "policy.yaml", "--review-share", 0.1)
    made = command(*common, "--prevalence", "gore=0.2,nudity=0.01", "--prevalence", "offensive=0")
    assert made.exit_code == 5
    assert "--review-share and --prevalence contradict each other" in made.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "state what is to be kept"),
        (["--review-share", "0.1"], "a folder does not say how common things are"),
        (["--review-share", "0.1", "--prevalence", "gore"], "is no CATEGORY=SHARE"),
        (["--block-fpr", "1"], "--block-fpr"),
        (["--block-fpr", "0"], "--block-fpr"),
    ],
)
def test_wrong_usage_ends_with_2(report: Path, tmp_path: Path, words: list[str], said: str) -> None:
    made = command("--report", report, "--out", tmp_path / "policy.yaml", *words)
    assert (made.exit_code, said in made.output) == (2, True), made.output


def test_a_folder_without_judged_images_is_named(tmp_path: Path) -> None:
    made = command("--report", tmp_path, "--block-fpr", 0.1, "--out", tmp_path / "policy.yaml")
    assert made.exit_code == 2
    assert "judged.jsonl" in made.output
    (tmp_path / "judged.jsonl").write_text("{}\n", encoding="utf-8")
    made = command("--report", tmp_path, "--block-fpr", 0.1, "--out", tmp_path / "policy.yaml")
    assert made.exit_code == 2
    assert "is no table of judged images" in made.output


@pytest.mark.parametrize("web", [{"decision_vectors": True}], indirect=True)
def test_a_draft_is_saved_but_decides_nothing_until_it_is_activated(
    web: Web, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert web.client.put("/v1/classifiers/scene", json=CLASSIFIER).status_code == 201
    rule = {"category": "gore", "classifier": "scene", "labels": ["bad"], "review_at": 0.5, "block_at": 0.9}
    before = web.client.put("/v1/policies/mine", json={"rules": [rule]}).json()
    assert before["tuned_on"] is None
    ask = {"policy": "mine", "images": [b64(png())]}
    assert web.client.post("/v1/moderate", json=ask).status_code == 200

    judged = drawn(np.random.default_rng(2), 900, 100, names=["gore"])
    policy = {name: before[name] for name in ("name", "version", "classifiers")}
    run = replace(judged.run, policy=policy, policy_body=before)
    folder = table(tmp_path / "report", replace(judged, run=run))
    out = tmp_path / "policy.yaml"
    assert command("--report", folder, "--block-fpr", 0.02, "--out", out).exit_code == 0
    saved(web.client, run, out.read_text(encoding="utf-8"), as_json=False)
    told = capsys.readouterr().out
    assert "Saved as mine@2, not active." in told
    assert "Over 1 logged decisions" in told
    assert "/v1/policies/mine/activate" in told
    assert web.client.get("/v1/policies/mine").json()["version"] == 1
    draft = web.client.get("/v1/policies/mine", params={"version": 2}).json()
    assert draft["tuned_on"]["promises"] == ["at most 2 % of harmless images are blocked"]
    assert draft["classifiers"] == {"scene": 1}
    assert web.client.post("/v1/policies/mine/activate", json={"version": 2}).status_code == 200
    assert web.client.get("/v1/policies/mine").json()["tuned_on"] == draft["tuned_on"]


def test_logged_decisions_of_the_version_are_the_traffic(web: Web) -> None:
    assert web.client.put("/v1/classifiers/scene", json=CLASSIFIER).status_code == 201
    rule = {"category": "gore", "classifier": "scene", "labels": ["bad"], "review_at": 0.5}
    row = web.client.put("/v1/policies/mine", json={"rules": [rule]}).json()
    run = replace(
        drawn(np.random.default_rng(2), 1, 1).run,
        policy={"name": "mine", "version": 1, "classifiers": {"scene": 1}},
        model={"id": "x", "bundle_id": row["bundle_id"]},
    )
    with pytest.raises(Refused, match="--prevalence"):
        stored(web.client, run)
    for color in ("red", "red", "blue"):
        web.client.post("/v1/moderate", json={"policy": "mine", "images": [b64(png(color))]})
    of_the_folder = {"policy": "mine", "images": [b64(png("green"))], "external_id": external_id_of(run)}
    assert web.client.post("/v1/moderate", json=of_the_folder).status_code == 200
    found = stored(web.client, run)
    assert [set(scores) for scores in found] == [{"gore"}, {"gore"}], "neither a copy nor an evaluation is one"
