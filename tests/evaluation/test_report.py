"""The report: its JSON form, what its sentences promise, and that the page needs nothing and runs nothing."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gateway.evaluation.judged import JudgedImage, JudgedSet, LabelledImage
from gateway.evaluation.report import ReportOptions, write_report
from gateway.evaluation.reporting.plots import inline
from gateway.evaluation.section import Figure, Section, Table
from tests.support.judged_sets import RULES, image, made_set, run_of

HOSTILE = "\"><script>alert(1)</script>'$x^"


class Elements(HTMLParser):
    """Names, ids and attributes of a page's elements."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.ids: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.evaluation.intervals.RESAMPLES", 50)


def page_of(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


def written(judged: JudgedSet, out: Path, sections: tuple[Section, ...] = (), **options: Any) -> dict[str, Any]:
    values = write_report(judged, out, ReportOptions(**options), sections)
    assert json.loads((out / "report.json").read_text()) == json.loads(json.dumps(values))
    return values


def test_the_json_has_the_form_that_scripts_rely_on(tmp_path: Path) -> None:
    judged = made_set(240)
    failed = JudgedImage(LabelledImage("broken.jpg", frozenset({"gore"})), error="image_corrupt")
    values = written(replace(judged, failed=(failed,)), tmp_path, traffic_per_day=1000, price_per_hour=1.0)
    assert (values["pictures"], values["failed"]) == (240, 1)
    assert [entry["category"] for entry in values["categories"]] == list(RULES)
    for entry in values["categories"]:
        assert (entry["pictures"], entry["positives"]) == (240, 80)
        assert set(entry["recall_at_fpr"]) == {"0.001", "0.01", "0.05"}
        for interval in (entry["roc_auc"], entry["average_precision"], *entry["recall_at_fpr"].values()):
            assert set(interval) == {"value", "low", "high"}
        assert entry["promises"]["0.01"] == {"needed": 299, "here": 160, "missing": 139}
    assert values["decisions"]["of"] == 240
    assert values["model"] == dict(judged.run.model)
    assert values["policy"] == dict(judged.run.policy or {})
    assert values["failures"] == {"image_corrupt": 1}
    assert len(list(tmp_path.glob("*.png"))) == 4 * len(RULES)


@pytest.mark.usefixtures("quick")
def test_too_few_images_say_how_many_are_missing(tmp_path: Path) -> None:
    written(made_set(240), tmp_path)
    text = re.sub(r"\s+", " ", page_of(tmp_path))
    assert "0.1 % (2,995 needed, 2,835 missing) and 1 % (299 needed, 139 missing)" in text
    assert "160 here are not of it. With no false alarm among them 1.9 % could be promised" in text


@pytest.mark.usefixtures("quick")
def test_figures_of_a_tuned_policy_are_of_the_test_part(tmp_path: Path) -> None:
    judged = made_set(240, tuned_on={"part": "calibration", "images": 61})
    values = written(judged, tmp_path)
    assert values["part"] == "test"
    assert values["pictures"] == len(judged.of("test").images)
    assert values["judged"] == 240
    assert values["method"]["tuned_on"] == {"part": "calibration", "images": 61}
    assert "part calibration, images 61" in page_of(tmp_path)
    assert written(judged, tmp_path, part="all")["pictures"] == 240


@pytest.mark.usefixtures("quick")
def test_a_draft_is_called_one_and_a_learned_head_is_told_of(tmp_path: Path) -> None:
    judged = made_set(240)
    assert written(replace(judged, run=replace(judged.run, draft=True)), tmp_path)["draft"] is True
    assert "the draft made from policy default, version" in re.sub(r"\s+", " ", page_of(tmp_path))
    classifiers = {"gore-head@1": {"kind": "head", "training": {"examples": {"used": 40}}}}
    assert written(replace(judged, run=replace(judged.run, classifiers=classifiers)), tmp_path)["part"] == "test"
    assert "is a head, learned from images" in page_of(tmp_path)


@pytest.mark.usefixtures("quick")
def test_a_file_whose_name_is_no_utf8_is_in_the_report(tmp_path: Path) -> None:
    failed = JudgedImage(LabelledImage(os.fsdecode(b"in/\xff.jpg"), frozenset({"gore"})), error="image_corrupt")
    written(replace(made_set(240), failed=(failed,)), tmp_path)
    assert "in/\\udcff.jpg" in page_of(tmp_path)
    json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))


@pytest.mark.usefixtures("quick")
def test_sections_of_other_steps_are_drawn_and_told(tmp_path: Path) -> None:
    svg = (
        '<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="9pt" height="9pt" onload="alert(1)">'
        '<metadata>http://purl.org/</metadata><script>alert(2)</script><path id="p" d="M0 0" style="fill: #000000"/>'
        '<use xlink:href="#p"/></svg>'
    )
    section = Section(
        "risk", "Risk", ["Kept."], [Table("Table", ["a"], [["b"]])], [Figure("risk", "Curve", svg)], {"kept": True}
    )
    assert written(made_set(60), tmp_path, (section,))["risk"] == {"kept": True}
    assert {"Risk", "Kept.", "Curve"} <= set(re.findall(r">([^<>]+)<", page_of(tmp_path)))
    assert (tmp_path / "risk.svg").read_text() == svg
    assert inline(section.figures[0]) == (
        '<svg aria-hidden="true"><path id="risk-p" d="M0 0" style="fill: var(--ink)"/><use href="#risk-p"/></svg>'
    )
    with pytest.raises(ValueError, match="categories"):
        write_report(made_set(60), tmp_path, ReportOptions(), [Section("categories", "Taken")])


@pytest.mark.usefixtures("quick")
def test_the_page_loads_nothing_and_every_id_stands_once(tmp_path: Path) -> None:
    written(made_set(90), tmp_path, traffic_per_day=1000, price_per_hour=1.0)
    page = page_of(tmp_path)
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", page)
    assert "default-src 'none'" in page
    found = Elements(page)
    assert not {"script", "link", "iframe", "object"} & set(found.names)
    assert len(found.ids) == len(set(found.ids))
    targets = [value for name, value in found.attributes if name == "href"]
    assert {target.removeprefix("#") for target in targets} <= set(found.ids)


@pytest.mark.usefixtures("quick")
def test_hostile_names_are_text(tmp_path: Path) -> None:
    rules = {HOSTILE: (0.5, 0.9)}
    rows = [
        image(i, [HOSTILE] if i % 2 else [HOSTILE + "!"], {HOSTILE: i / 40}, source=HOSTILE, slices={HOSTILE: HOSTILE})
        for i in range(40)
    ]
    failed = JudgedImage(LabelledImage(HOSTILE, frozenset()), error="image_corrupt")
    run = replace(run_of(rules), model={HOSTILE: HOSTILE})
    written(JudgedSet(run, tuple(rows), (failed,)), tmp_path, thumbnails=True)
    page = page_of(tmp_path)
    assert "<script" not in page
    assert not [name for name, _ in Elements(page).attributes if name.startswith("on")]
    assert all(re.fullmatch(r"[\w.-]+", path.name) for path in tmp_path.iterdir())


@pytest.mark.usefixtures("quick")
def test_thumbnails_are_shown_only_when_asked_for_and_blurred(tmp_path: Path) -> None:
    path = tmp_path / "missed.png"
    Image.new("RGB", (900, 300), "red").save(path)
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    judged = made_set(60)
    rows = [
        image(100, ["gore"], {"gore": 0.01, "nudity": 0.0}, source=str(path)),
        image(101, ["gore"], {"gore": 0.01, "nudity": 0.0}, source=str(tmp_path / "broken.jpg")),
        image(102, ["gore"], {"gore": 0.0, "nudity": 0.0}, source="https://images.example/missed.jpg"),
    ]
    judged = replace(judged, images=(*judged.images, *rows))
    written(judged, tmp_path / "without")
    assert "<img" not in page_of(tmp_path / "without")
    assert str(path) in page_of(tmp_path / "without")
    written(judged, tmp_path / "with", thumbnails=True)
    shown = [value for name, value in Elements(page_of(tmp_path / "with")).attributes if name == "src"]
    assert len(shown) == 1
    assert shown[0].startswith("data:image/jpeg;base64,")
    assert len(shown[0]) < 4000
    assert "filter: blur" in page_of(tmp_path / "with")


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("count", [0, 1, 2])
def test_next_to_nothing_is_told_as_such(count: int, tmp_path: Path) -> None:
    values = written(made_set(count), tmp_path)
    assert values["pictures"] == count
    assert all(entry["roc_auc"]["value"] is None for entry in values["categories"] if entry["positives"] in {0, count})


@pytest.mark.usefixtures("quick")
def test_only_failures_are_a_report_too(tmp_path: Path) -> None:
    failed = JudgedImage(LabelledImage("a.jpg", frozenset()), error="image_corrupt")
    assert written(JudgedSet(run_of(), (), (failed,)), tmp_path)["failures"] == {"image_corrupt": 1}
