"""What `clip-gateway evaluate` asks a real gateway, what it keeps, and how it goes on after a break."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from gateway.cli.collecting import Question
from gateway.cli.connection import Connection
from gateway.cli.evaluate import collected
from gateway.cli.policies import Refused
from gateway.evaluation.collect import FILE, OtherRun, contradictions
from gateway.evaluation.judged import JudgedSet, read_judged
from gateway.evaluation.tables import SourceUnusable
from scripts.demo.labelled import write
from tests.conftest import Stack
from tests.support.drawings import encoded, shape
from tests.support.gateway_processes import more_gateways
from tests.support.waiting import until


@pytest.fixture(scope="module")
def address(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A gateway that keeps vectors, on the suite's Triton."""
    with more_gateways(stack, 1, tmp_path_factory.mktemp("gateway"), DECISION_VECTORS="true") as (found,):
        yield found


@pytest.fixture(scope="module")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About 32 labelled drawings, a folder for each class."""
    folder = tmp_path_factory.mktemp("drawings")
    write(folder, 32, 5)
    return folder


def question(address: str, **given: Any) -> Question:
    fields: dict[str, Any] = {"policy": "default", "body": None, "classifier": None, "concurrency": 4, "timeout_s": 60}
    return Question(Connection(address, None), **{**fields, **given})


def collect(address: str, source: Path, out: Path, *, fresh: bool = False, **given: Any) -> JudgedSet:
    return collected(question(address, **given), source, out, fresh=fresh)


def logged(address: str, external_id: str) -> list[dict[str, Any]]:
    rows = httpx2.get(f"{address}/v1/decisions", params={"external_id": external_id, "limit": 500}).json()["data"]
    return list(rows)


def test_every_image_has_its_label_scores_and_views_and_is_in_the_file(
    address: str, drawings: Path, tmp_path: Path
) -> None:
    judged = collect(address, drawings, tmp_path)
    files = sorted(str(path) for path in drawings.rglob("*.png"))
    assert [image.image.source for image in judged.images] == files, "in the order of the source"
    assert not judged.failed
    for image in judged.images:
        folder, hand = Path(image.image.source).relative_to(drawings).parts[:2]
        assert image.image.labels == (frozenset() if folder == "harmless" else set(folder.split("+")))
        assert image.image.slices == {"folder": hand}
        assert set(image.scores) == {"nudity", "gore", "offensive"} == set(judged.categories)
        assert image.vectors is not None
        for said in image.views.values():
            assert len(said.probabilities) == len(image.vectors)
    assert judged.run.policy is not None
    assert {key.split("@")[0] for key in judged.run.classifiers} == set(judged.run.policy["classifiers"])
    assert "version" not in (judged.run.policy_body or {})
    known = read_judged(tmp_path / FILE)
    assert [image.image for image in known.images] == [image.image for image in judged.images]
    decisions = logged(address, f"evaluation {judged.run.at}")
    assert len(decisions) == len(files), "they can be told from users' and be forgotten together"
    gore = [image.scores["gore"] for image in judged.images if "gore" in image.image.labels]
    calm = [image.scores["gore"] for image in judged.images if not image.image.labels]
    assert np.median(gore) > np.median(calm)


@pytest.mark.heavy
def test_a_run_that_is_killed_goes_on_and_asks_about_the_rest_alone(
    address: str, drawings: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    code = (
        "import sys; from pathlib import Path; from tests.cli.test_collecting import collect;"
        "collect(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), concurrency=1)"
    )
    command = [sys.executable, "-c", code, address, str(drawings), str(out)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)

    def lines() -> int:
        return len((out / FILE).read_bytes().splitlines()) if (out / FILE).exists() else 0

    until(lambda: lines() >= 4, lambda: "it never wrote a line")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = read_judged(out / FILE)
    total = len(list(drawings.rglob("*.png")))
    assert 0 < len(before.images) < total
    with (out / FILE).open("a") as file:
        file.write('{"source": "cut sh')
    judged = collect(address, drawings, out)
    assert len(judged.images) == total
    assert judged.run.at == before.run.at
    asked = [row["image"]["sha256"] for row in logged(address, f"evaluation {before.run.at}")]
    assert len(asked) <= total + 1, "at most the one that was under way is asked about again"
    assert {image.sha256 for image in judged.images} == set(asked)


def test_failures_are_counted_kept_and_tried_again(address: str, tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    (source / "gore").mkdir(parents=True)
    (source / "harmless").mkdir()
    (source / "gore" / "a.png").write_bytes(encoded(shape("a red circle")))
    (source / "gore" / "b.png").write_bytes(b"broken")
    (source / "harmless" / "c.png").symlink_to(tmp_path / "nowhere")
    (source / "harmless" / "d.png").write_bytes(encoded(shape("a blue square")))
    judged = collect(address, source, out)
    assert {Path(image.image.source).name: image.error for image in judged.failed} == {
        "b.png": "unsupported_image",
        "c.png": "unreadable_file",
    }
    assert len(judged.images) == 2
    rows = [json.loads(line) for line in (out / FILE).read_text().splitlines()[1:]]
    assert [row["error"] for row in rows] == [None, "unsupported_image", "unreadable_file", None]
    (source / "harmless" / "c.png").unlink()
    (source / "gore" / "b.png").write_bytes(encoded(shape("a green star")))
    (source / "gore" / "a.png").write_bytes(encoded(shape("a green circle")))
    (source / "harmless" / "d.png").rename(source / "gore" / "d.png")
    again = collect(address, source, out)
    assert not again.failed
    assert {Path(image.image.source).name for image in again.images} == {"a.png", "b.png", "d.png"}
    assert {image.sha256 for image in again.images} != {image.sha256 for image in judged.images}, (
        "another file is asked"
    )
    assert all(image.image.labels == {"gore"} for image in again.images), "what is true is what is said now"


def test_a_file_that_is_not_there_is_a_failure_of_its_row(address: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(shape("a red circle")))
    table = tmp_path / "l.csv"
    table.write_text("path,labels,hand\na.png,gore,mine\nb.png,,mine\n")
    judged = collect(address, table, tmp_path / "out")
    assert [(image.image.source, image.error) for image in judged.failed] == [
        (str(tmp_path / "b.png"), "unreadable_file")
    ]
    assert [dict(image.image.slices) for image in judged.images] == [{"hand": "mine"}]


def test_another_policy_is_another_run(address: str, tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    (source / "gore").mkdir(parents=True)
    (source / "gore" / "a.png").write_bytes(encoded(shape("a red circle")))
    collect(address, source, out)
    body = httpx2.get(f"{address}/v1/policies/default").json()
    body["description"] = "another"
    made = httpx2.put(f"{address}/v1/policies/default?activate=false", json=body).json()["version"]
    assert collect(address, source, out).images, "a draft changes nothing of what was pinned"
    with pytest.raises(OtherRun, match=rf"policy default@1, and now policy default@{made}"):
        collect(address, source, out, policy=f"default@{made}")
    other = source.rename(tmp_path / "other")
    with pytest.raises(OtherRun, match="other images"):
        collect(address, other, out)
    assert collect(address, other, out, policy=f"default@{made}", fresh=True).run.policy == {
        "name": "default",
        "version": made,
        "classifiers": body["classifiers"],
    }
    (out / FILE).write_text("something else")
    with pytest.raises(OtherRun, match="--fresh"):
        collect(address, other, out)


def test_what_is_not_in_the_policy_is_refused_before_anything_is_asked(address: str, tmp_path: Path) -> None:
    (tmp_path / "in" / "blood").mkdir(parents=True)
    (tmp_path / "in" / "blood" / "a.png").write_bytes(encoded(shape("a red circle")))
    with pytest.raises(SourceUnusable, match="“blood” is none of nudity, gore, offensive, harmless"):
        collect(address, tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(Refused, match="not_found"):
        collect(address, tmp_path / "in", tmp_path / "out", policy="nothing")


def test_copies_of_a_file_with_other_labels_are_told(address: str, tmp_path: Path) -> None:
    data = encoded(shape("a red circle"))
    for folder in ("gore", "harmless", "nudity"):
        (tmp_path / "in" / folder).mkdir(parents=True)
        (tmp_path / "in" / folder / "a.png").write_bytes(data if folder != "nudity" else encoded(shape("a blue star")))
    (tmp_path / "in" / "nudity" / "b.png").write_bytes(encoded(shape("a blue star")))
    (same,) = contradictions(collect(address, tmp_path / "in", tmp_path / "out"))
    assert [set(image.image.labels) for image in same] == [{"gore"}, set()]
    assert len({image.group for image in same}) == 1


def test_logged_decisions_are_judged_anew_from_their_vectors(address: str, drawings: Path, tmp_path: Path) -> None:
    first = collect(address, drawings, tmp_path / "images")
    ids = {row["image"]["sha256"]: row["id"] for row in logged(address, f"evaluation {first.run.at}")}
    table = tmp_path / "decisions.jsonl"
    rows = [{"decision_id": ids[image.sha256], "labels": sorted(image.image.labels)} for image in first.images]
    table.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"decision_id": "ff" * 16, "labels": []}]))
    judged = collect(address, table, tmp_path / "same")
    assert [(image.sha256, image.decision) for image in judged.images] == [
        (image.sha256, image.decision) for image in first.images
    ]
    for before, after in zip(first.images, judged.images, strict=True):
        assert after.scores == pytest.approx(dict(before.scores), abs=1e-5)
        assert np.allclose(after.vectors, before.vectors)  # type: ignore[arg-type]
    assert [image.error for image in judged.failed] == ["decision_not_found"]
    body = httpx2.get(f"{address}/v1/policies/default").json()
    strict = {"rules": [{**rule, "review_at": 0.0, "block_at": 0.0} for rule in body["rules"]], "views": body["views"]}
    other = collect(address, table, tmp_path / "strict", body=strict)
    assert {image.decision for image in other.images} == {"block"}
    assert other.run.policy is not None
    assert other.run.policy["version"] == 0
    with pytest.raises(Refused, match="--policy-file is for logged decisions"):
        collect(address, drawings, tmp_path / "no", body=strict)


def test_a_classifier_is_asked_instead_of_a_policy(address: str, tmp_path: Path) -> None:
    labels = ["a red circle", "a blue star"]
    assert httpx2.put(f"{address}/v1/classifiers/shapes", json={"labels": labels}).status_code == 201
    for label in labels:
        (tmp_path / "in" / label).mkdir(parents=True)
        (tmp_path / "in" / label / "a.png").write_bytes(encoded(shape(label)))
    judged = collect(address, tmp_path / "in", tmp_path / "out", classifier="shapes")
    assert (judged.run.classifier, judged.run.policy, set(judged.categories)) == ("shapes@1", None, set(labels))
    for image in judged.images:
        (true,) = image.image.labels
        assert max(image.scores, key=image.scores.__getitem__) == true
        said = image.views["shapes@1"]
        assert said.labels == tuple(labels)
        assert said.similarities is not None
        assert said.similarities.shape == said.probabilities.shape == (1, 2)
        assert image.decision is None
    body = {"labels": labels, "temperature": 3.0}
    assert httpx2.put(f"{address}/v1/classifiers/shapes", json=body).status_code == 200
    cooled = collect(address, tmp_path / "in", tmp_path / "cooled", classifier="shapes")
    for before, after in zip(judged.images, cooled.images, strict=True):
        assert max(after.scores.values()) < max(before.scores.values())
        raw = after.views["shapes@2"].probabilities
        assert np.allclose(raw, before.views["shapes@1"].probabilities, atol=1e-4), "what is kept is not calibrated"
