"""Two runs compared: pairs by file, exact tests, and no difference made out of noise."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from gateway.evaluation.compare import ALPHA, compare_reports, differences, mcnemar, paired
from gateway.evaluation.judged import JudgedSet, line_of
from tests.support.judged_sets import image, made_set

WORLDS = 100


def stored(judged: JudgedSet, folder: Path) -> Path:
    folder.mkdir()
    lines = [json.dumps({"run": asdict(judged.run)}), *map(line_of, (*judged.images, *judged.failed))]
    (folder / "judged.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test_a_better_run_is_called_better(tmp_path: Path) -> None:
    first, second = (
        stored(made_set(600, noise=2.5), tmp_path / "a"),
        stored(made_set(600, 1, shift=2.0), tmp_path / "b"),
    )
    values = compare_reports(first, second, tmp_path / "out")
    assert values["pictures"] == 600
    assert {"right decisions", "ROC AUC of gore", "average precision of gore"} <= set(values["real"])
    caught = next(entry for entry in values["differences"] if entry["name"] == "offending images blocked or reviewed")
    assert caught["second"] > caught["first"]
    assert json.loads((tmp_path / "out" / "compare.json").read_text()) == values
    page = (tmp_path / "out" / "compare.html").read_text()
    assert "Real: right decisions" in page
    assert "http:" not in page


def test_a_run_against_itself_differs_in_nothing() -> None:
    judged = made_set(120)
    for entry in differences(judged, judged):
        assert entry.first == entry.second
        assert entry.p == 1
        assert not entry.real


def test_mcnemar_is_the_binomial_test_of_what_changed() -> None:
    first = np.array([True] * 5 + [False] * 9 + [True] * 50)
    second = np.array([False] * 5 + [True] * 9 + [True] * 50)
    assert mcnemar(first, second) == pytest.approx(stats.binomtest(9, 14).pvalue)


def test_runs_that_differ_by_noise_alone_are_seldom_called_different(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.evaluation.compare.RESAMPLES", 400)
    alarms = sum(
        any(entry.real for entry in differences(made_set(90, 2 * world), made_set(90, 2 * world + 1)))
        for world in range(WORLDS)
    )
    assert alarms <= stats.binom.ppf(0.999, WORLDS, ALPHA)


def test_images_are_paired_by_file_and_the_rest_is_told() -> None:
    first = made_set(30)
    other = replace(first.images[3], image=replace(first.images[3].image, labels=frozenset({"else"})))
    second = replace(first, images=(other, *first.images[5:], image(99, [], {"gore": 0.1, "nudity": 0.1})))
    one, two, notes = paired(first, second)
    assert [entry.sha256 for entry in one.images] == [entry.sha256 for entry in two.images]
    assert len(one.images) == 25
    assert notes == [
        "Judged in one run alone: 4 in the first, 1 in the second.",
        "1 image with other labels in the two tables are left out.",
    ]


def test_the_test_part_is_compared_where_a_policy_was_tuned() -> None:
    tuned = made_set(60, tuned_on={"part": "calibration"})
    one, _, notes = paired(made_set(60), tuned)
    assert {entry.part for entry in one.images} == {"test"}
    assert notes[0].startswith("Only images of the test part")


def test_nothing_in_both_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing to compare"):
        paired(made_set(3), replace(made_set(3), images=()))


def test_copies_are_no_evidence_of_a_difference() -> None:
    """Three groups of 40 copies each that all got better: one in eight by chance, not one in 2^120."""
    rows = [
        image(i, ["gore"] if i % 120 < 60 else [], {"gore": score, "nudity": 0.0}, group=f"{i // 40}")
        for score in (0.4, 0.6)
        for i in range(240)
    ]
    first, second = (replace(made_set(0), images=tuple(rows[half : half + 240])) for half in (0, 240))
    caught = next(entry for entry in differences(first, second) if entry.name == "offending images blocked or reviewed")
    assert (caught.first, caught.second) == (0, 1)
    assert caught.p >= 0.125
