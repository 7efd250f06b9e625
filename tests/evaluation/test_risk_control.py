"""Thresholds with a guarantee: how many images a promise takes, what is refused, and that promises hold."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import yaml
from scipy.stats import binom

from gateway.evaluation.draft import draft_text
from gateway.evaluation.guarantee.path import ThresholdPath, loosest_row, strictest_row
from gateway.evaluation.guarantee.promises import GoalName, Missing, Promise, needed, possible
from gateway.evaluation.judged import JudgedImage, JudgedSet, LabelledImage
from gateway.evaluation.risk_control import Choice, Goals, choose
from gateway.moderation.policy import Policy
from tests.support.synthetic_scores import drawn, policy_body, reached

PREVALENCE = {"gore": 0.002, "nudity": 0.01, "offensive": 0.003}


def few(count: int, **changes: Any) -> JudgedSet:
    return drawn(np.random.default_rng(1), count, count, **changes)


def without_test(judged: JudgedSet) -> JudgedSet:
    """All images stand in the calibration part: a count in a test is then exact."""
    images = []
    number = 0
    for image in judged.images:
        while replace(image, image=replace(image.image, group=f"g{number}")).part != "calibration":
            number += 1
        images.append(replace(image, image=replace(image.image, group=f"g{number}")))
        number += 1
    return replace(judged, images=tuple(images))


@pytest.mark.parametrize("goal", ["block_fpr", "catch"])
def test_what_is_said_to_be_possible_is_possible(goal: GoalName) -> None:
    for images in (4, 22, 41, 300):
        told = Missing(goal, "gore", 0.001, "images", images, 2995, possible(images, 0.95)).text
        option = float(told.split(f"--{goal.replace('_', '-')} ")[-1].rstrip(")."))
        assert needed(1 - option if goal == "catch" else option, 0.95) <= images
        assert f" {100 * option:.4g} %" in told


@pytest.mark.parametrize(("level", "images"), [(0.01, 299), (0.001, 2995), (0.05, 59), (0.1, 29)])
def test_how_many_images_a_promise_takes(level: float, images: int) -> None:
    assert needed(level, 0.95) == images
    least = possible(images, 0.95)
    assert least is not None
    assert least <= level + 1e-4
    nothing_reaches = np.zeros(images, int)
    assert loosest_row(nothing_reaches, 5, level, 0.95) == 1
    assert loosest_row(nothing_reaches[1:], 5, level, 0.95) is None
    assert strictest_row([nothing_reaches + 4], level, 0.95) == 4
    assert strictest_row([nothing_reaches + 4, nothing_reaches[1:] + 4], level, 0.95) is None


def test_a_path_goes_from_everything_to_nothing_and_never_lets_more_images_pass_than_were_tested() -> None:
    path = ThresholdPath.through(np.array([-3.0, 1.0]), np.array([1.0, 0.0]))
    assert (path.thresholds[1:] >= path.thresholds[:-1]).all()
    scores = np.random.default_rng(0).random((500, 2)).astype(np.float32).astype(float)
    rows = path.reached(np.vstack([scores, [[0, 0], [1, 1]]]))
    assert rows[-2] < 100
    assert rows[-1] < path.last
    for row in (1, 700, 1500, path.last):
        limits = [np.inf if at is None else at for at in path.at(row)]
        assert ((scores >= limits).any(axis=1) == (rows[:-2] >= row)).all()


def test_sixty_drawings_promise_ten_percent_and_not_one() -> None:
    half = drawn(np.random.default_rng(1), 30, 30)
    choice = choose(without_test(half), Goals(block_fpr=0.01))
    assert choice.policy is None
    (missing,) = choice.missing
    assert (missing.have, missing.need) == (30, 299)
    assert missing.possible == pytest.approx(0.0951, abs=2e-4)
    assert "269 more" in missing.text
    assert "at most 9.51 % of harmless images are blocked" in missing.text
    assert "269 more" in " ".join(choice.section().paragraphs)
    assert choose(without_test(half), Goals(block_fpr=0.1)).policy is not None


def test_several_promises_take_more_images_than_one() -> None:
    judged = without_test(few(300))
    assert choose(judged, Goals(block_fpr=0.01)).policy is not None
    choice = choose(judged, Goals(block_fpr=0.01, catch=0.9))
    assert [(missing.goal, missing.need) for missing in choice.missing] == [("block_fpr", 368)]


def test_a_category_without_images_cannot_be_promised() -> None:
    judged = few(400)
    images = tuple(image for image in judged.images if "offensive" not in image.image.labels)
    (missing,) = choose(replace(judged, images=images), Goals(catch=0.9)).missing
    assert (missing.category, missing.have, missing.possible) == ("offensive", 0, None)
    assert "offensive" in missing.text


def test_a_copy_or_a_frame_of_the_same_video_is_no_further_image() -> None:
    judged = without_test(few(300))
    grouped = [replace(one, image=replace(one.image, group=judged.images[0].image.group)) for one in judged.images[:10]]
    (missing,) = choose(replace(judged, images=(*grouped, *judged.images[10:])), Goals(block_fpr=0.01)).missing
    assert missing.have == 291


def test_nothing_of_the_test_part_reaches_the_choice() -> None:
    judged = few(1500)
    goals = Goals(block_fpr=0.01, catch=0.9)
    turned = tuple(
        replace(one, scores={name: 1 - score for name, score in one.scores.items()}) if one.part == "test" else one
        for one in judged.images
    )
    first, second = choose(judged, goals), choose(replace(judged, images=turned), goals)
    assert rules(first) == rules(second)
    assert {found.verdict for found in first.held} == {"kept"}
    assert "broken" in {found.verdict for found in second.held}


def test_a_review_share_needs_to_know_how_common_things_are() -> None:
    judged = few(1000)
    with pytest.raises(ValueError, match="a folder does not say how common things are"):
        choose(judged, Goals(review_share=0.2))
    with pytest.raises(ValueError, match=r"\(offensive\)"):
        choose(judged, Goals(review_share=0.2, prevalence={"gore": 0.1, "nudity": 0.01}))
    with pytest.raises(ValueError, match="no category “dogs”"):
        choose(judged, Goals(review_share=0.2, prevalence={**PREVALENCE, "dogs": 0.1}))
    assert choose(judged, Goals(review_share=0.2, prevalence=PREVALENCE)).policy is not None
    too_common = choose(judged, Goals(review_share=0.2, prevalence={**PREVALENCE, "gore": 0.3}))
    assert too_common.policy is None
    assert "State a review share above 31.3 %" in too_common.contradictions[0]


def test_stored_decisions_tell_the_review_share_without_a_prevalence() -> None:
    traffic = [image.scores for image in drawn(np.random.default_rng(9), 2000, 10).images]
    choice = choose(few(400), Goals(review_share=0.1), traffic=traffic)
    assert choice.policy is not None
    limits = {rule["category"]: rule["review_at"] for rule in choice.policy["rules"]}
    seen = np.mean([any(row[name] >= at for name, at in limits.items()) for row in traffic])
    assert 0.06 < seen <= 0.1
    assert choice.promises[0].images > 1900


def test_goals_that_contradict_each_other_are_named_with_what_is_possible() -> None:
    choice = choose(few(3000), Goals(review_share=0.03, catch=0.99, prevalence=PREVALENCE))
    assert choice.policy is None
    (said,) = choice.contradictions
    assert "--review-share and --catch" in said
    assert "of “offensive”" in said


@pytest.mark.parametrize(
    "fields", [{}, {"block_fpr": 0.0}, {"catch": 1.0}, {"block_fpr": 0.1, "confidence": 1.0}, {"review_share": -1.0}]
)
def test_goals_out_of_range_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"share|state"):
        Goals(**fields)


def test_a_policy_that_cannot_be_tuned_is_refused() -> None:
    judged = few(300)
    with pytest.raises(ValueError, match="judged by a classifier"):
        choose(replace(judged, run=replace(judged.run, policy_body=None)), Goals(block_fpr=0.1))
    twice = policy_body()
    twice["rules"].append({**twice["rules"][0], "classifier": "second"})
    with pytest.raises(ValueError, match="two rules for a category"):
        choose(replace(judged, run=replace(judged.run, policy_body=twice)), Goals(block_fpr=0.1))


def test_a_rule_reviews_no_later_than_it_blocks_and_keeps_its_promise() -> None:
    judged = few(3000)
    for goals in (
        Goals(block_fpr=0.2),
        Goals(block_fpr=0.01),
        Goals(catch=0.9),
        Goals(review_share=0.03, block_fpr=0.2, prevalence=PREVALENCE),
        Goals(review_share=0.03, prevalence=PREVALENCE),
    ):
        choice = choose(judged, goals)
        assert choice.policy is not None
        Policy.model_validate(choice.policy)
        assert {found.verdict for found in choice.held} == {"kept"}
        if goals.review_share is not None:
            assert reached(choice.policy, "review_at") < 0.03


def test_saturated_scores_are_never_blocked_beyond_the_promise() -> None:
    """Harmless images that score 1 cannot be told from what offends: the rule then never blocks."""
    judged = few(400)
    full = tuple(
        replace(one, scores={**one.scores, "gore": 1.0}) if not one.image.labels else one for one in judged.images
    )
    choice = choose(replace(judged, images=full), Goals(block_fpr=0.05))
    assert choice.policy is not None
    assert choice.policy["rules"][0]["block_at"] is None
    assert "Nothing is blocked as gore" in " ".join(choice.notes)


def test_what_was_used_is_written_into_the_draft() -> None:
    judged = few(1000)
    failed = JudgedImage(LabelledImage("x.png", frozenset()), error="image_corrupt")
    choice = choose(replace(judged, failed=(failed,)), Goals(block_fpr=0.01))
    text = draft_text(choice, judged.run)
    body = yaml.safe_load(text)
    made = Policy.model_validate(body)
    assert made.tuned_on is not None
    half = judged.of("train", "calibration")
    assert made.tuned_on.harmless == sum(not image.image.labels for image in half.images)
    assert made.tuned_on.images == len(half.images)
    assert made.tuned_on.parts == ["train", "calibration"]
    assert made.tuned_on.promises == ["at most 1 % of harmless images are blocked"]
    assert (made.tuned_on.policy, made.tuned_on.model, made.tuned_on.bundle_id) == ("default@3", "demo", "b1")
    assert made.rules[0].classifier == "gore@2", "a promise is about the version that gave the scores"
    assert "# - at most 1 % of harmless images are blocked" in text
    again = choose(judged, Goals(block_fpr=0.01))
    assert again.policy is not None
    assert again.policy["tuned_on"]["digest"] == made.tuned_on.digest


def test_images_that_no_rule_is_about_are_passed_over_and_said() -> None:
    judged = few(400)
    strange = tuple(
        JudgedImage(LabelledImage(f"{number}", frozenset({"weapons"})), f"{number:064x}", "allow", {"gore": 0.99})
        for number in range(40)
    )
    choice = choose(replace(judged, images=judged.images + strange), Goals(block_fpr=0.05))
    assert rules(choice) == rules(choose(judged, Goals(block_fpr=0.05)))
    assert "passed over" in " ".join(choice.notes)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("goals", "drawing"),
    [
        (Goals(block_fpr=0.01), {"harmless": 1600, "offending": 100}),
        (Goals(block_fpr=0.03), {"harmless": 300, "offending": 30}),
        (Goals(block_fpr=0.05, confidence=0.8), {"harmless": 300, "offending": 30, "names": ["gore"]}),
        (Goals(block_fpr=0.05, catch=0.8), {"harmless": 900, "offending": 100}),
        (
            Goals(block_fpr=0.02, review_share=0.15, catch=0.8, confidence=0.8, prevalence=PREVALENCE),
            {"harmless": 900, "offending": 120},
        ),
        (Goals(block_fpr=0.03, catch=0.7, confidence=0.8), {"harmless": 1500, "offending": 300, "group_size": 5}),
    ],
)
def test_promises_are_broken_no_more_often_than_the_confidence_allows(goals: Goals, drawing: dict[str, Any]) -> None:
    """200 draws; the true risks of each draft are computed from the distributions that the scores came from."""
    rng = np.random.default_rng(11)
    draws = 200
    choices = [choose(drawn(rng, **drawing), goals) for _ in range(draws)]
    kept = [choice for choice in choices if choice.policy is not None]
    assert len(kept) > 0.7 * draws
    wrong = sum(broken(choice, goals) for choice in kept)
    assert wrong <= binom.ppf(0.999, draws, 1 - goals.confidence), wrong


def broken(choice: Choice, goals: Goals) -> bool:
    """Whether any promise of a draft is untrue of the distributions."""
    body = choice.policy
    assert body is not None
    categories = [rule["category"] for rule in body["rules"]]
    wrong = goals.block_fpr is not None and reached(body, "block_at") > goals.block_fpr
    if goals.review_share is not None:
        seen = {name: reached(body, "review_at", name) for name in categories}
        share = (1 - goals.offending) * reached(body, "review_at")
        share += sum(PREVALENCE[name] * value for name, value in seen.items())
        wrong |= share > goals.review_share
    if goals.catch is not None:
        wrong |= min(reached(body, "review_at", name) for name in categories) < goals.catch
    return wrong


def rules(choice: Choice) -> Any:
    assert choice.policy is not None
    return choice.policy["rules"]


def test_no_text_promises_more_than_what_was_tested() -> None:
    judged = drawn(np.random.default_rng(4), 56, 10, names=["gore"])
    (missing,) = choose(judged, Goals(block_fpr=0.01)).missing
    assert missing.possible is not None
    said = float(missing.text.split("can be promised: at most ")[1].split(" %")[0]) / 100
    assert choose(judged, Goals(block_fpr=said)).policy is not None, "what is offered can be asked for"
    assert Promise("catch", "gore", 0.0004, 0, 9000).text.startswith("at least 99.96 % of")
    assert Promise("block_fpr", None, 0.01234, 0, 9000).text.startswith("at most 1.234 % of")


def test_a_name_with_a_line_separator_stays_in_the_drafts_comment() -> None:
    name = "gore\u2028sneaked: 1"
    judged = drawn(np.random.default_rng(4), 400, 400, names=["gore"])
    renamed = [
        replace(
            one,
            image=replace(one.image, labels=frozenset({name} & {name if one.image.labels else ""})),
            scores={name: one.scores["gore"]},
        )
        for one in judged.images
    ]
    body = json.loads(
        json.dumps(judged.run.policy_body).replace('"category": "gore"', json.dumps({"category": name})[1:-1])
    )
    judged = replace(judged, images=tuple(renamed), run=replace(judged.run, policy_body=body))
    made = choose(judged, Goals(catch=0.9))
    assert "sneaked" not in yaml.safe_load(draft_text(made, judged.run))
