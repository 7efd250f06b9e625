"""What an evaluation does with judged images, step by step: heads, thresholds, calibrations, report, drafts.

The command ``evaluate`` and jobs share it. Libraries of the extra ``evaluate`` are loaded by the steps that need them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.evaluation.collect import contradictions_section
from gateway.evaluation.judged import JudgedSet
from gateway.evaluation.reviews.reviewed import Reviews
from gateway.evaluation.section import Section
from gateway.moderation.classifiers import split_reference
from gateway.moderation.policy import Policy

if TYPE_CHECKING:
    from gateway.evaluation.guarantee.choice import Choice
    from gateway.evaluation.risk_control import Goals

NO_AUDIT = (
    "nothing was audited, so that reviewers saw only what the policy flagged; set audit_share in the policy, and come "
    "back when audited images have been reviewed"
)


@dataclass(frozen=True, slots=True)
class Steps:
    """What is asked for.

    Attributes:
        head: train a head a category.
        calibrate: fit calibrations.
        none_of_these: of a classifier, share lost to “none of these” at most; None: not asked.
        block_fpr, review_share, catch: goals that thresholds are to keep, 0 to 1; None: not asked.
        confidence: of the promises.
        prevalence: category → share of the traffic.
        traffic: images a day, for the load on reviewers.
        price_per_hour: of the machine.
        thumbnails: whether mistakes are shown as small images.
        compare: folder of another report.
    """

    head: bool = False
    calibrate: bool = False
    none_of_these: float | None = None
    block_fpr: float | None = None
    review_share: float | None = None
    catch: float | None = None
    confidence: float = 0.95
    prevalence: Mapping[str, float] = field(default_factory=dict)
    traffic: int | None = None
    price_per_hour: float | None = None
    thumbnails: bool = False
    compare: Path | None = None


@dataclass(slots=True)
class Evaluation:
    """What was found, and what follows from it.

    Attributes:
        judged: images with scores, rescored by each step.
        sections: that steps add to the report.
        policy: draft of the policy; None where nothing was fitted.
        classifiers: drafts by name.
        promises: what the thresholds keep, for people; those that cannot be promised in ``missing``.
        reviews: that the labels come from; None where somebody labelled the images.
    """

    judged: JudgedSet
    sections: list[Section] = field(default_factory=list)
    policy: dict[str, Any] | None = None
    classifiers: dict[str, Any] = field(default_factory=dict)
    promises: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    reviews: Reviews | None = None

    def draft(self) -> dict[str, Any] | None:
        """Return the policy's draft as a body; None without one.

        Its rules name the versions that gave the scores, or no version where the draft brings a new one.
        """
        if self.policy is None:
            return None
        from gateway.evaluation.draft import draft_body  # noqa: PLC0415 - of an extra

        body = draft_body(self.policy, self.judged.run)
        rules = [{**rule, "classifier": self._unpinned(rule["classifier"])} for rule in body["rules"]]
        return {**body, "rules": rules}

    def _unpinned(self, reference: str) -> str:
        name, _ = split_reference(reference)
        return name if name in self.classifiers else reference


def fit(done: Evaluation, steps: Steps) -> None:
    """Train heads, choose thresholds, and calibrate, as far as each is asked for.

    Thresholds come before calibrations, which move them and keep every decision: chosen on scores whose calibration was
    fitted to the same images, they would promise more than was tested.

    Raises:
        ValueError: a step cannot work with these images; the text is for people.
    """
    if steps.head:
        from gateway.evaluation.heads import fit_heads  # noqa: PLC0415 - loads scikit-learn

        heads = fit_heads(done.judged)
        done.judged, done.policy = heads.judged, heads.policy
        done.classifiers |= heads.classifiers
        done.sections.append(heads.section())
    goals = {name: getattr(steps, name) for name in ("block_fpr", "review_share", "catch")}
    if any(goal is not None for goal in goals.values()):
        if done.judged.run.policy_body is None:
            raise ValueError("Thresholds are a policy's: give --policy rather than --classifier")
        from gateway.evaluation.rescoring import bodies_of, rescored  # noqa: PLC0415 - loads what judges
        from gateway.evaluation.risk_control import Goals, choose  # noqa: PLC0415 - of an extra

        wanted = Goals(**goals, confidence=steps.confidence, prevalence=steps.prevalence or None)
        choice = choose(done.judged, wanted) if done.reviews is None else retuned(done.reviews, wanted)
        done.sections.append(choice.section())
        done.promises = [promise.text for promise in choice.promises]
        done.missing = [*(missing.text for missing in choice.missing), *choice.contradictions]
        if choice.policy is not None:
            done.policy = dict(choice.policy)
        if choice.policy is not None and done.reviews is None:
            before = bodies_of(done.judged.run)
            after = replace(before, policy=Policy.model_validate(choice.policy))
            done.judged = rescored(done.judged, before, after)
    if steps.calibrate:
        from gateway.evaluation.calibration import calibrate  # noqa: PLC0415 - loads scikit-learn

        calibrated = calibrate(done.judged, steps.prevalence or None)
        done.judged, done.policy = calibrated.judged, calibrated.policy
        done.classifiers |= calibrated.classifiers
        done.sections.append(calibrated.section())
    if steps.none_of_these is not None:
        from gateway.evaluation.none_of_these import fit_none_of_these  # noqa: PLC0415 - loads SciPy

        none = fit_none_of_these(done.judged, steps.none_of_these)
        done.classifiers[none.name] = none.classifier
        done.sections.append(none.section())


def reported(done: Evaluation, out: Path, steps: Steps) -> dict[str, Any]:
    """Write the report, and the comparison where one is asked for; return the report's JSON values.

    Raises:
        ValueError: no image is in both reports.
        OSError: a file cannot be read or written.
    """
    from gateway.evaluation.report import ReportOptions, write_report  # noqa: PLC0415 - of an extra

    options = ReportOptions(
        traffic_per_day=steps.traffic,
        price_per_hour=steps.price_per_hour,
        prevalence=sum(steps.prevalence.values()) or None,
        thumbnails=steps.thumbnails,
        caveats=() if done.reviews is None else done.reviews.caveats,
        part="all" if done.reviews else "test" if done.policy is not None or done.classifiers else "auto",
    )
    contradicting = contradictions_section(done.judged)
    report = write_report(done.judged, out, options, [*([contradicting] if contradicting else []), *done.sections])
    if steps.compare is not None:
        from gateway.evaluation.compare import compare_reports  # noqa: PLC0415 - of an extra

        compare_reports(steps.compare, out, out)
    return report


def sections_of(reviews: Reviews) -> list[Section]:
    """Return what the report says of the reviews beside its figures."""
    from gateway.evaluation.reviews.agreement import agreement_section, missed_section  # noqa: PLC0415 - loads scikit-learn
    from gateway.evaluation.reviews.drift import drift_section  # noqa: PLC0415 - of an extra

    return [reviews.section(), missed_section(reviews), agreement_section(reviews), drift_section(reviews)]


def retuned(reviews: Reviews, goals: Goals) -> Choice:
    """Return thresholds chosen on those reviewed files that are like the traffic.

    Raises:
        ValueError: nothing was audited: thresholds from what the policy flagged alone would let pass what nobody saw.
    """
    from gateway.evaluation.risk_control import choose  # noqa: PLC0415 - of an extra

    fair = reviews.fair
    if fair is None:
        raise ValueError(f"No thresholds can be proposed: {NO_AUDIT}")
    return choose(fair, goals, traffic=[image.scores for image in fair.images])
