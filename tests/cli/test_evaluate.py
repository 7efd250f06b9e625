"""`clip-gateway evaluate` as a user runs it: what it writes, what it says, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from click.testing import CliRunner, Result

from gateway.cli.main import cli
from gateway.evaluation.collect import FILE
from gateway.evaluation.judged import judged_of, line_of, part_of
from gateway.moderation.policy import Policy
from scripts.demo.labelled import write
from tests.conftest import Stack
from tests.support.drawings import encoded, shape

pytestmark = pytest.mark.heavy

DONE, USAGE, SOME_FAILED, NOT_PROMISED = 0, 2, 3, 5
PROMISABLE = ("--block-fpr", "0.2", "--catch", "0.5")


@pytest.fixture(scope="module")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About 160 labelled drawings, a folder for each class."""
    folder = tmp_path_factory.mktemp("drawings")
    write(folder, 160, 7)
    return folder


@pytest.fixture(scope="module")
def collected(stack: Stack, drawings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run without any goal; later runs go on with what it holds."""
    out = tmp_path_factory.mktemp("out")
    ended = evaluate(stack, drawings, out)
    assert ended.exit_code == DONE, ended.output
    return out


def evaluate(stack: Stack, source: Path, out: Path, *words: str) -> Result:
    line = ["evaluate", str(source), "--address", stack.gateway_url, "--out", str(out), *words]
    return CliRunner().invoke(cli, line)


def report(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "report.json").read_text())
    return found


def test_a_folder_becomes_a_report_and_five_lines(stack: Stack, drawings: Path, collected: Path) -> None:
    before = (collected / FILE).read_bytes()
    ended = evaluate(stack, drawings, collected)
    lines = ended.stdout.splitlines()
    assert [line.split(" ")[0].rstrip(":") for line in lines[1:]] == ["Recall", "No", "Report", "Next"]
    assert lines[0] == f"{len(list(drawings.rglob('*.png')))} images judged by default@1, 0 failed."
    assert (collected / FILE).read_bytes() == before, "nothing is asked twice"
    found = report(collected)
    assert (found["pictures"], found["failed"]) == (len(before.splitlines()) - 1, 0)
    assert {entry["category"] for entry in found["categories"]} == {"nudity", "gore", "offensive"}
    for entry in found["categories"]:
        assert entry["roc_auc"]["low"] <= entry["roc_auc"]["value"] <= entry["roc_auc"]["high"]
        assert entry["positives"] == sum(
            entry["category"] in path.parent.parent.name for path in drawings.rglob("*.png")
        )
        assert "0.01" in entry["recall_at_fpr"]
    assert "<html" in (collected / "report.html").read_text()
    assert not (collected / "draft" / "policies").exists()


def test_goals_make_a_draft_that_import_takes_and_the_report_is_of_the_test_part(
    stack: Stack, drawings: Path, collected: Path
) -> None:
    ended = evaluate(stack, drawings, collected, "--calibrate", *PROMISABLE)
    assert ended.exit_code == DONE, ended.output
    assert "Promised, at 95% confidence: at most 20 % of harmless images are blocked" in ended.stdout
    body = yaml.safe_load((collected / "draft" / "policies" / "default.yaml").read_text())
    policy = Policy.model_validate(body)
    assert {rule.category for rule in policy.rules} == {"nudity", "gore", "offensive"}
    drafts = {path.stem for path in (collected / "draft" / "classifiers").glob("*.yaml")}
    for rule in policy.rules:
        assert rule.classifier in drafts or "@" in rule.classifier, "the version whose scores were judged is pinned"
    rows = [judged_of(line) for line in (collected / FILE).read_text().splitlines()[1:]]
    assert report(collected)["pictures"] == sum(part_of(row.group) == "test" for row in rows)
    command = ["policies", "import", "--folder", str(collected / "draft"), "--dry-run", "--address", stack.gateway_url]
    shown = CliRunner().invoke(cli, command)
    assert shown.exit_code == 1, shown.output  # it differs from what is in force
    assert "+++ b/policies/default.yaml" in shown.stdout
    again = evaluate(stack, drawings, collected)
    assert again.exit_code == DONE
    assert not list((collected / "draft").rglob("*.yaml")), "no draft of a run before stays"


def test_a_goal_that_cannot_be_promised_says_how_many_are_missing(
    stack: Stack, drawings: Path, collected: Path
) -> None:
    ended = evaluate(stack, drawings, collected, "--block-fpr", "0.001")
    assert ended.exit_code == NOT_PROMISED, ended.output
    assert "2,995" in ended.stdout
    assert "Next: label more images" in ended.stdout
    assert report(collected)["thresholds"]["missing"]


def test_failures_and_contradictions_are_in_the_report_and_the_exit_code(stack: Stack, tmp_path: Path) -> None:
    source = tmp_path / "in"
    count = write(source, 80, 3)
    for folder in ("gore", "harmless"):
        (source / folder / "same.png").write_bytes(encoded(shape("a red circle")))
    (source / "gore" / "broken.png").write_bytes(b"broken")
    ended = evaluate(stack, source, tmp_path / "out")
    assert ended.exit_code == SOME_FAILED, ended.output
    assert "1 failed: 1 unsupported_image." in ended.stdout
    assert "One file with labels that contradict each other" in ended.stderr
    found = report(tmp_path / "out")
    assert (found["pictures"], found["failed"], found["failures"]) == (count + 2, 1, {"unsupported_image": 1})
    assert [len(same) for same in found["contradictions"]["files"]] == [2]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--policy", "nothing"), "There is no such policy"),
        (("--classifier", "gore", "--policy", "default"), "--policy or --classifier"),
        (("--classifier", "gore"), "is none of"),
        (("--prevalence", "gore"), "CATEGORY=SHARE"),
        (("--prevalence", "blood=0.1", "--review-share", "0.1"), "no category “blood”"),
        (("--review-share", "0.1"), "how common things are"),
        (("--prevalence", "gore=nan"), "is no share"),
        (("--prevalence", "gore=2"), "is no share"),
        (("--compare", "tests"), "judged.jsonl"),
    ],
)
def test_what_is_wrong_is_said_and_exits_2(
    stack: Stack, drawings: Path, collected: Path, words: tuple[str, ...], said: str
) -> None:
    ended = evaluate(stack, drawings, collected, *words)
    assert ended.exit_code == USAGE, ended.output
    assert said in " ".join(ended.stderr.replace("│", " ").split())


def test_a_gateway_that_is_away_keeps_what_was_answered(drawings: Path, collected: Path) -> None:
    before = (collected / FILE).read_bytes()
    line = ["evaluate", str(drawings), "--address", "http://127.0.0.1:9", "--out", str(collected)]
    ended = CliRunner().invoke(cli, line)
    assert ended.exit_code == SOME_FAILED
    assert "cannot be reached" in ended.stderr
    assert (collected / FILE).read_bytes() == before


def test_an_image_is_the_same_line_whatever_it_holds(collected: Path) -> None:
    for line in (collected / FILE).read_text().splitlines()[1:5]:
        assert json.loads(line_of(judged_of(line))) == json.loads(line)


def test_decisions_of_an_evaluation_can_be_forgotten(stack: Stack, collected: Path) -> None:
    at = json.loads((collected / FILE).read_text().splitlines()[0])["run"]["at"]
    gone = httpx2.delete(f"{stack.gateway_url}/v1/decisions", params={"external_id": f"evaluation {at}"})
    assert gone.json()["deleted"] == report(collected)["judged"]
