"""The worked study in small, its new hands, the check of a guarantee, and what the real CLIP's vectors say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import log_loss

from gateway.evaluation.judged import JudgedImage, JudgedSet, LabelledImage, Part, Run
from gateway.evaluation.risk_control import Goals
from gateway.moderation.builtin_scenarios import shipped
from scripts import real_clip, second_signal
from scripts.demo import check_guarantee
from scripts.demo.fresh_draws import CATEGORIES, judged_set_of, name_of, scored
from scripts.demo.hands import FACES, WORN, faces
from scripts.demo.judged_drawings import judged_drawings, labelled
from scripts.demo.measure_policy import bound
from scripts.demo.model import Demo
from scripts.demo.study import STUDIED
from scripts.demo.study_figures import StepFigures, figures_of, picture, recalls, table
from scripts.demo.study_steps import Step, steps
from scripts.demo.thresholds import CHOOSING, HELD_OUT

COUNTS: dict[Part, tuple[int, int]] = {"train": (20, 20), "calibration": (25, 60), "test": (25, 60)}
GOALS = Goals(block_fpr=0.05)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def demo() -> Demo:
    return Demo.load()


@pytest.fixture(scope="module")
def made(demo: Demo) -> list[Step]:
    """Steps on drawings by the quickest hand, of which the model sees the middle alone."""
    policy = replace(bound(demo), views="center")
    drawn = {"flat": judged_drawings(demo, policy, "flat", COUNTS)}
    return list(steps(demo, drawn, "flat", GOALS, shots=(20,)))


@pytest.fixture(scope="module")
def found(made: list[Step]) -> dict[str, StepFigures]:
    return {step.name: figures_of(step, resamples=50) for step in made}


def test_the_new_hands_chose_no_threshold_and_are_studied() -> None:
    assert {"paper", "chalk"} <= set(STUDIED)
    assert not {"paper", "chalk"} & {*CHOOSING, HELD_OUT}


@pytest.mark.parametrize("hand", FACES)
def test_faces_show_what_they_are_asked_to(hand: str) -> None:
    drawn = faces(hand, 6, 3)
    assert [face.tobytes() for face, _ in drawn] == [face.tobytes() for face, _ in faces(hand, 6, 3)]
    assert {name for _, worn in drawn for name in worn} == set(WORN)


def test_no_two_drawings_share_a_lot_and_each_is_in_the_part_that_its_name_chooses() -> None:
    images = list(labelled("paper", COUNTS, 0))
    assert len({image.source for image in images}) == len(images) == 4 * 20 + 2 * (3 * 25 + 60)
    parts = [JudgedImage(image).part for image in images]
    assert [parts.count(part) for part in COUNTS] == [80, 135, 135]


def test_heads_do_not_fall_below_the_shipped_prompts(found: dict[str, StepFigures]) -> None:
    words, head = found["shipped prompts"], found["head, 20 of the same hand"]
    assert words.auc.value is not None
    assert head.auc.value is not None
    assert head.auc.value >= words.auc.value - 0.01
    assert head.labelled == (80, 135)
    assert found["one prompt a label"].labelled == (0, 0)


def test_calibration_lowers_the_log_loss_of_what_is_taken_wrongly_and_thresholds_come_with_their_promise(
    made: list[Step],
) -> None:
    gore = {
        step.name: log_loss(step.judged.of("test").truth("gore"), step.judged.of("test").scores("gore"))
        for step in made
    }
    assert gore["calibrated"] < gore["shipped prompts"], "red clothes are taken for gore with scores near 1"
    promised = next(step for step in made if step.name == "thresholds with a guarantee")
    assert promised.promise is not None
    assert [promise.limit for promise in promised.promise.promises] == [0.05]
    assert "at most 5 % of harmless images are blocked" in " ".join(promised.promise.section().paragraphs)


def test_the_table_has_a_row_for_each_step_and_the_picture_is_a_png(
    found: dict[str, StepFigures], tmp_path: Path
) -> None:
    rows = {"flat": list(found.values())}
    assert len(table(rows).splitlines()) == 2 + len(found)
    picture(rows, tmp_path / "study.png")
    assert (tmp_path / "study.png").read_bytes().startswith(b"\x89PNG")


def test_the_recall_at_one_percent_by_hand() -> None:
    """Of 100 others one may stand above the threshold: it lies at the second highest."""
    others = np.r_[0.9, 0.5, np.zeros(98)]
    scores = np.r_[0.95, 0.7, 0.5, 0.1, others][:, np.newaxis]
    truth = np.arange(104)[:, np.newaxis] < 4
    assert recalls(scores, truth) == [0.5]


def test_fresh_draws_share_no_drawing_and_are_not_made_twice(tmp_path: Path) -> None:
    path = scored(tmp_path, "0", 24, ("train", "calibration"))
    before = path.stat().st_mtime_ns
    assert scored(tmp_path, "0", 24, ("train", "calibration")).stat().st_mtime_ns == before
    drawn = judged_set_of(path, "0")
    assert {image.part for image in drawn.images} <= {"train", "calibration"}
    assert set(drawn.categories) == set(CATEGORIES)
    assert len({name_of(draw, number) for draw in ("0", "1") for number in range(24)}) == 48


def draw_of(rng: np.random.Generator, name: str, count: int) -> JudgedSet:
    """A draw without a drawing: scores of harmless images are spread evenly, those of others are high."""
    body = shipped("demo").policies["default"].model_dump(mode="json")
    images = []
    for number, row in enumerate(rng.random((count, len(CATEGORIES)))):
        offends = number % 5 == 0
        label = CATEGORIES[number % len(CATEGORIES)]
        scores = dict(zip(CATEGORIES, map(float, row), strict=True)) | ({label: 0.999} if offends else {})
        source = f"{name} {number}"
        image = LabelledImage(source, frozenset({label} if offends else ()), group=source)
        images.append(JudgedImage(image, decision="allow", scores=scores))
    return JudgedSet(Run({}, {}, None, body, {}, ""), tuple(images))


def test_a_promise_is_counted_as_broken_where_more_is_blocked_than_promised() -> None:
    rng = np.random.default_rng(1)
    truth = check_guarantee.truth_of([draw_of(rng, "truth", 5000)])
    assert len(truth.harmless) == 4000
    draws = [draw_of(rng, str(number), 1000) for number in range(10)]
    outcome = check_guarantee.outcome_of(draws, truth, GOALS)
    assert outcome.refused == 0
    assert check_guarantee.kept(outcome, GOALS)
    assert not check_guarantee.kept(replace(outcome, alarms=outcome.alarms + 0.05), GOALS)
    assert f"broken: {(outcome.alarms > 0.05).sum()} of 10" in check_guarantee.report(outcome, truth, GOALS)
    too_small = check_guarantee.outcome_of([draw_of(rng, "small", 40)], truth, GOALS)
    assert too_small.refused == 1


def test_the_real_clip_names_what_seven_photographs_show(golden: Path) -> None:
    said = {row.name: row for row in real_clip.read(golden)}
    assert set(said) == set(real_clip.SEEN)
    assert said["208_495.jpg"].label == "pier"
    assert said["456_123.jpg"].label == "tabby"
    assert all(row.nsfw < 0.1 and not row.inappropriate for row in said.values())
    assert len(real_clip.table(list(said.values())).splitlines()) == 9


def test_a_second_signal_adds_where_it_knows_something_and_nothing_where_it_does_not() -> None:
    rng = np.random.default_rng(5)
    truth = rng.random(2000) < 0.3
    own, knows, does_not = (1 / (1 + np.exp(-(2.0 * truth * what + rng.normal(size=2000)))) for what in (1, 1, 0))
    tuned = np.arange(2000) < 1000
    for second, expected in ((knows, "it adds"), (does_not, "no difference that is certain")):
        scores = second_signal.added(own, second, truth, tuned)
        assert expected in second_signal.report(scores, truth[~tuned], resamples=100)
    with pytest.raises(ValueError, match="with and without"):
        second_signal.added(own, knows, truth, truth)
