"""The steps of the study: one prompt a label, the shipped prompts, calibration, thresholds with a guarantee, heads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest

from gateway.evaluation.calibration import calibrate
from gateway.evaluation.heads import fit_heads
from gateway.evaluation.judged import JudgedImage, JudgedSet
from gateway.evaluation.rescoring import bodies_of, rescored
from gateway.evaluation.risk_control import Choice, Goals, choose
from gateway.moderation.binding import bind
from gateway.moderation.builtin_scenarios import shipped
from gateway.moderation.classifiers import Classifier
from gateway.moderation.policy import Policy
from scripts.demo.judged_drawings import rejudged
from scripts.demo.measure_policy import bound_classifier
from scripts.demo.model import Demo
from scripts.export.prompts import DRAWINGS

GOALS = Goals(block_fpr=0.01, confidence=0.95)
SHOTS = (20, 200)


@dataclass(frozen=True, slots=True)
class Step:
    """One step's scores of a hand's drawings.

    Attributes:
        name: as the table has it.
        labelled: drawings that somebody had to label for it: to learn from, and to calibrate or choose thresholds on.
        judged: drawings of the parts calibration and test.
        block_at: category → the threshold that blocks.
        promise: what thresholds were asked to keep; None of typed ones.
    """

    name: str
    labelled: tuple[int, int]
    judged: JudgedSet
    block_at: Mapping[str, float | None]
    promise: Choice | None = None


def steps(
    demo: Demo, by_hand: Mapping[str, JudgedSet], hand: str, goals: Goals = GOALS, shots: Sequence[int] = SHOTS
) -> Iterator[Step]:
    """Yield every step on the drawings of one hand.

    Args:
        demo: the model.
        by_hand: drawings of every hand, judged by the shipped policy, all parts.
        hand: whose.
        goals: what thresholds are chosen to keep, from the fourth step on.
        shots: examples a label that heads learn from.
    """
    mine = by_hand[hand]
    kept = mine.of("calibration", "test")
    tuned = len(mine.of("calibration").images)
    yield _step("one prompt a label", (0, 0), one_prompt(demo, kept))
    yield _step("shipped prompts", (0, 0), kept)
    calibrated = calibrate(kept, parts=("calibration",)).judged
    yield _step("calibrated", (0, tuned), calibrated)
    yield _calibrated(_promised("thresholds with a guarantee", (0, tuned), kept, goals))
    others = [found for name, found in by_hand.items() if name != hand]
    for number in shots:
        for whose, sources in (("other hands", others), ("the same hand", [mine])):
            examples = few(sources, number)
            learned = fit_heads(replace(kept, images=(*examples, *kept.images)))
            judged = learned.judged.of("calibration", "test")
            yield _promised(f"head, {number} of {whose}", (len(examples), tuned), judged, goals)


def one_prompt(demo: Demo, judged: JudgedSet) -> JudgedSet:
    """Return the drawings judged by the shipped labels' first prompts alone, each in the model's one template."""
    found = shipped("demo")
    policy = found.policies["default"]
    bodies = {name: bare(found.classifiers[name]) for name in dict.fromkeys(rule.classifier for rule in policy.rules)}
    classifiers = {name: bound_classifier(demo, name, body) for name, body in bodies.items()}
    return rejudged(judged, bind("one prompt", 1, "demo", policy, classifiers), demo.scale, bodies)


def bare(body: Classifier) -> Classifier:
    """Return a classifier with each label's first prompt and negative alone, in the model's one template."""
    labels = [
        entry.model_copy(update={"prompts": entry.prompts[:1], "negatives": entry.negatives[:1]})
        for entry in body.labels
    ]
    return body.model_copy(update={"labels": labels, "templates": list(DRAWINGS.templates)})


def few(sources: list[JudgedSet], shots: int) -> tuple[JudgedImage, ...]:
    """Return the first drawings of part train, so many of each category and harmless, of all sources in turn."""
    kinds: dict[str, list[JudgedImage]] = {}
    turns = zip_longest(*(found.of("train").images for found in sources))
    for image in (found for found in chain.from_iterable(turns) if found is not None):
        row = kinds.setdefault(",".join(sorted(image.image.labels)), [])
        if len(row) < shots:
            row.append(image)
    return tuple(chain.from_iterable(kinds.values()))


def _step(name: str, labelled: tuple[int, int], judged: JudgedSet) -> Step:
    rules = (judged.run.policy_body or {})["rules"]
    return Step(name, labelled, judged, {rule["category"]: rule["block_at"] for rule in rules})


def _promised(name: str, labelled: tuple[int, int], judged: JudgedSet, goals: Goals) -> Step:
    """Return a step with thresholds chosen on part calibration; where none keep the promise, nothing is blocked."""
    choice = choose(judged, goals, parts=("calibration",))
    rules = choice.policy["rules"] if choice.policy is not None else []
    block_at = dict.fromkeys(judged.categories) | {rule["category"]: rule["block_at"] for rule in rules}
    return Step(name, labelled, judged, block_at, choice)


def _calibrated(step: Step) -> Step:
    """Return a step with calibrated scores and the thresholds moved with them, as an evaluation does it.

    Thresholds come first: on scores that were fitted to the same images a promise would not hold.
    """
    if step.promise is None or step.promise.policy is None:
        return step
    before = bodies_of(step.judged.run)
    after = replace(before, policy=Policy.model_validate(step.promise.policy))
    judged = calibrate(rescored(step.judged, before, after), parts=("calibration",)).judged
    return replace(_step(step.name, step.labelled, judged), promise=step.promise)
