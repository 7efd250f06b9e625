"""What is asked and promised of thresholds, how many images that takes, and what became of it on images kept aside."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from scipy.stats import binomtest

GoalName = Literal["block_fpr", "review_share", "catch"]
OPTIONS: Mapping[GoalName, str] = {"block_fpr": "--block-fpr", "review_share": "--review-share", "catch": "--catch"}


@dataclass(frozen=True, slots=True)
class Goals:
    """What the thresholds are to keep, at least one of three; shares above 0, below 1.

    Attributes:
        block_fpr: the most of harmless images that may be blocked.
        review_share: the most of all images that may be sent to review (what is blocked counts too).
        catch: the least of each category's images that must be reviewed or blocked.
        confidence: that all of them hold.
        prevalence: category → share of traffic; what ``review_share`` needs where no stored decisions are given.

    Raises:
        ValueError: a number is out of its range, or nothing is to be kept.
    """

    block_fpr: float | None = None
    review_share: float | None = None
    catch: float | None = None
    confidence: float = 0.95
    prevalence: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        """Check every number."""
        for name, value in (*self.stated.items(), ("confidence", self.confidence)):
            if not 0 < value < 1:
                raise ValueError(f"{name} is {value:g}; a share lies between 0 and 1: 0.01 is 1 %")
        if not self.stated:
            raise ValueError("state what is to be kept: block_fpr, review_share, catch")
        rates = (self.prevalence or {}).values()
        if any(not 0 <= rate <= 1 for rate in rates) or sum(rates) >= 1:
            raise ValueError("a prevalence is a share of the traffic: each is 0 to 1, together they are under 1")

    @property
    def stated(self) -> dict[GoalName, float]:
        """Those that are given."""
        given: dict[GoalName, float | None] = {
            "block_fpr": self.block_fpr,
            "review_share": self.review_share,
            "catch": self.catch,
        }
        return {name: value for name, value in given.items() if value is not None}

    @property
    def each_confidence(self) -> float:
        """Of each goal, so that all hold together at ``confidence`` (Bonferroni)."""
        return 1 - (1 - self.confidence) / len(self.stated)

    @property
    def offending(self) -> float:
        """Share of the traffic that is of any category, at most."""
        return sum((self.prevalence or {}).values())


@dataclass(frozen=True, slots=True)
class Promise:
    """A share that is not exceeded in what the images were drawn from.

    Attributes:
        goal: which.
        category: of ``catch``; None of the others.
        limit: the most, a share of images: wrongly blocked, looked at, or missed.
        errors: how many of the images that it was tested on.
        images: independent ones that it was tested on.
        always: share that is counted as reviewed before any image is looked at: what is offending, of ``review_share``.
    """

    goal: GoalName
    category: str | None
    limit: float
    errors: int
    images: int
    always: float = 0.0

    @property
    def text(self) -> str:
        """The promise as people read it, without its confidence."""
        if self.goal == "catch":
            return f"at least {stated(1 - self.limit)} of “{self.category}” images are reviewed or blocked"
        if self.goal == "review_share":
            return f"at most {stated(self.limit)} of all images are sent to review or blocked"
        return f"at most {stated(self.limit)} of harmless images are blocked"


@dataclass(frozen=True, slots=True)
class Held:
    """A promise on the test part.

    Attributes:
        promise: which.
        value, low, high: share on the test part, with its exact 95 % interval (Clopper and Pearson, 1934).
        images: independent ones.
    """

    promise: Promise
    value: float
    low: float
    high: float
    images: int

    @property
    def verdict(self) -> Literal["kept", "above, within chance", "broken"]:
        """Whether the test part speaks against the promise; broken where all of the interval is above it."""
        if self.value <= self.promise.limit:
            return "kept"
        return "broken" if self.low > self.promise.limit else "above, within chance"


@dataclass(frozen=True, slots=True)
class Missing:
    """Too few images for a promise.

    Attributes:
        goal, category, limit: of the promise.
        kind: which images: harmless images, images of a category, or stored decisions.
        have: independent images that can be tuned on.
        need: how many it takes with not one error among them.
        possible: the least limit that ``have`` images can promise; None of no image.
    """

    goal: GoalName
    category: str | None
    limit: float
    kind: str
    have: int
    need: int
    possible: float | None

    @property
    def text(self) -> str:
        """What is missing, and what can be promised instead, as people read it."""
        promise = Promise(self.goal, self.category, self.limit, 0, 0).text
        said = f"{OPTIONS[self.goal]}: “{promise}” takes {self.need:,} {self.kind} to tune on; there are {self.have:,}"
        short = f"{self.need - self.have:,} more"
        if self.possible is None:
            return f"{said} ({short}). Nothing can be promised without any."
        least = math.ceil(self.possible * 1e4 - 1e-6) / 1e4  # as it is printed, it can be promised
        instead = Promise(self.goal, self.category, least, 0, 0).text
        option = f"{OPTIONS[self.goal]} {1 - least if self.goal == 'catch' else least:.4g}"
        return f"{said} ({short}). With these, this can be promised: {instead} ({option})."


def needed(limit: float, confidence: float) -> int:
    """Return how many images without one error certify a limit: the least n with (1 - limit)^n at most 1 - confidence.

    299 for 1 % at 95 %, 2,995 for 0.1 %.
    """
    return max(1, math.ceil(math.log(1 - confidence) / math.log1p(-limit) - 1e-9))


def possible(images: int, confidence: float, always: float = 0.0) -> float | None:
    """Return the least limit, in 1/100 %, that this many images without an error certify; None of no image.

    Args:
        images: independent ones.
        confidence: of the promise.
        always: share that counts as an error before any image is looked at.
    """
    if not images:
        return None
    least: float = 1 - (1 - confidence) ** (1 / images)
    return math.ceil(1e4 * (always + (1 - always) * least)) / 1e4


def held(promise: Promise, errors: int, images: int) -> Held | None:
    """Return what became of a promise on images kept aside; None where there is none.

    Args:
        promise: which.
        errors: how many of the images broke it.
        images: independent ones.
    """
    if images == 0:
        return None
    ends = binomtest(errors, images).proportion_ci(0.95, method="exact")
    shares = (errors / images, float(ends.low), float(ends.high))
    value, low, high = (promise.always + (1 - promise.always) * share for share in shares)
    return Held(promise, value, low, high, images)


def stated(share: float) -> str:
    """Return a share that is promised, in percent with all its digits: one that is rounded may promise more."""
    return f"{100 * share:.10g} %"


def percent(share: float) -> str:
    """Return a share that was counted, in percent, three digits at most."""
    return f"{100 * share:.3g} %"
