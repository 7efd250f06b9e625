"""`clip-gateway evaluate --reviewed`, on a real stack: from reviewers' verdicts to a report and a proposal."""

from __future__ import annotations

import base64
import csv
import json
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from gateway.cli.evaluate import evaluate
from scripts.demo.world import SCENARIOS, draw, scenario_scene
from tests.conftest import Stack
from tests.support.drawings import encoded

pytestmark = pytest.mark.heavy

NAME, SEED, PER_KIND = "audited", 5_123, 12


@pytest.fixture(scope="module")
def reviewed(stack: Stack) -> str:
    """A policy that audits every allowed file, and reviewers who know what was drawn."""
    rng = np.random.default_rng(SEED)
    with httpx2.Client(base_url=stack.gateway_url, timeout=60) as client:
        body = client.get("/v1/policies/default").json()
        fields = ("rules", "views")
        policy = {name: body[name] for name in fields} | {"audit_share": 1.0}
        assert client.put(f"/v1/policies/{NAME}", json=policy).status_code == 201
        for number in range(len(SCENARIOS) * 2 * PER_KIND):
            category, present = SCENARIOS[number % 3], number % 2 == 0
            picture = encoded(draw(scenario_scene(category, rng, present=present), (200, 200), rng))
            asked = {"images": [{"base64": base64.b64encode(picture).decode()}], "policy": NAME}
            answer = client.post("/v1/moderate", json=asked)
            assert answer.status_code == 200, answer.text
            (result,) = answer.json()["results"]
            if result["decision"] == "allow":
                continue
            said = {"decision": "block" if present else "allow", "categories": [category] if present else []}
            given = client.post(f"/v1/decisions/{result['decision_id']}/feedback", json={**said, "reviewer": "ann"})
            assert given.status_code == 201, given.text
    return stack.gateway_url


def run(*words: Any) -> Result:
    return CliRunner().invoke(evaluate, ["--reviewed", *map(str, words)])


def test_verdicts_become_a_report_that_says_what_they_cannot_tell(reviewed: str, tmp_path: Path) -> None:
    done = run("--address", reviewed, "--policy", NAME, "--out", tmp_path)
    assert done.exit_code == 0, done.output
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["reviewed"]["flagged"] + report["reviewed"]["audited"] == len(SCENARIOS) * 2 * PER_KIND
    assert report["missed"]["known"]
    share = report["missed"]["share"]
    assert share["low"] <= share["value"] <= share["high"]
    assert report["agreement"]["decisions"]["allow"]["reviewed"] == report["reviewed"]["audited"]
    assert not report["drift"]["known"]
    page = (tmp_path / "report.html").read_text()
    assert 0 < page.index("Only what was reviewed is labelled") < page.index("Categories"), "before any figure"
    rows = list(csv.DictReader((tmp_path / "reviewed.csv").read_text().splitlines()))
    assert {row["reviewed because"] for row in rows} == {"flagged", "audited"}


def test_a_proposal_is_made_from_audited_traffic(reviewed: str, tmp_path: Path) -> None:
    """A third of harmless files may be blocked: eight harmless ones are enough to promise that."""
    done = run("--address", reviewed, "--policy", NAME, "--out", tmp_path, "--block-fpr", 0.33)
    assert done.exit_code == 0, done.output
    assert "draft" in done.output
    assert (tmp_path / "draft" / "policies" / f"{NAME}.yaml").exists()
    assert "tuned_on" in (tmp_path / "draft" / "policies" / f"{NAME}.yaml").read_text()


def test_without_an_audit_nothing_is_proposed(reviewed: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(SEED + 1)
    with httpx2.Client(base_url=reviewed, timeout=60) as client:
        picture = encoded(draw(scenario_scene("gore", rng, present=True), (200, 200), rng))
        asked = {"images": [{"base64": base64.b64encode(picture).decode()}], "policy": "default"}
        (result,) = client.post("/v1/moderate", json=asked).json()["results"]
        client.post(
            f"/v1/decisions/{result['decision_id']}/feedback", json={"decision": "block", "categories": ["gore"]}
        )
    done = run("--address", reviewed, "--out", tmp_path, "--block-fpr", 0.33)
    assert done.exit_code == 2
    assert "audit_share" in done.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--policy", "nothing"], "not_found"),
        (["--since", "2999-01-01"], "No reviewed decision"),
        (["--since", "soon"], "no date"),
        (["--head"], "reviewed.csv"),
        (["--classifier", "gore"], "a policy"),
    ],
)
def test_what_cannot_be_is_told(reviewed: str, tmp_path: Path, words: list[str], said: str) -> None:
    done = run("--address", reviewed, "--out", tmp_path, *words)
    assert done.exit_code == 2
    assert said in done.output
