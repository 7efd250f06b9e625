"""What turns scores into probabilities: Platt scaling, isotonic knots, and a temperature. All keep the order of scores.

A temperature and a label's own calibration act on every view's scores of labels. A category's score adds labels up and
takes the maximum over views, and is no probability even when those are: a ``GroupCalibration`` acts on that score, of
the labels and the aggregate that it was fitted to.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Annotated, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from gateway.inference.activations import sigmoid
from gateway.inference.prompts import Mode
from gateway.inference.scoring import Floats
from gateway.moderation.request_model import StrictModel

Aggregate = Literal["sum", "max"]
Unit = Annotated[float, Field(ge=0, le=1, strict=True)]
Doubles = npt.NDArray[np.float64]
MAX_KNOTS = 64
LEAST, MOST = 2.0**-150, 1 - 2.0**-25
"""Scores are clipped to these before their log odds are taken: no float32 but 0 and 1 lies outside."""


class Calibration(StrictModel):
    """A strictly increasing map from a score to a probability.

    ``platt``: sigmoid(scale x logit(score) + offset) (Platt, 1999). ``isotonic``: straight lines between knots,
    on log odds of both, so that no two float32 scores become equal.

    Attributes:
        scale: 1 leaves the slope as it is.
        offset: 0 leaves the middle where it is.
        knots: score and probability, both rising strictly, from score 0 to score 1.
        source: what it was fitted on, for people.
        images: how many it was fitted on; None where nobody said.
        prevalence: the share of images that the category is true of, for which the probabilities hold.
    """

    kind: Literal["platt", "isotonic"] = "platt"
    scale: float = Field(1.0, gt=0, le=1000, allow_inf_nan=False, strict=True)
    offset: float = Field(0.0, ge=-1000, le=1000, allow_inf_nan=False, strict=True)
    knots: list[tuple[Unit, Unit]] = Field(default_factory=list, max_length=MAX_KNOTS)
    source: str = Field("", max_length=500)
    images: int | None = Field(None, ge=0, le=10**9, strict=True)
    prevalence: float | None = Field(None, gt=0, lt=1, strict=True)

    @model_validator(mode="after")
    def _knots(self) -> Self:
        if self.kind == "platt":
            if self.knots:
                raise ValueError("knots belong to the kind isotonic")
            return self
        if self.scale != 1 or self.offset != 0:
            raise ValueError("scale and offset belong to the kind platt")
        if not self.knots or (self.knots[0][0], self.knots[-1][0]) != (0, 1):
            raise ValueError("knots begin at score 0 and end at score 1")
        if (np.diff(np.array(self.knots), axis=0) <= 0).any():
            raise ValueError("scores and probabilities of knots rise strictly")
        return self

    def of(self, scores: npt.ArrayLike) -> Doubles:
        """Return the probabilities of scores, both 0..1 and of one shape."""
        given = np.asarray(scores, np.float64)
        if self.kind == "isotonic":
            return sigmoid(np.interp(log_odds(given), *log_odds(self.knots).T))
        if self.scale == 1 and self.offset == 0:
            return given
        return sigmoid(self.scale * log_odds(given) + self.offset)

    def inverse(self, probabilities: npt.ArrayLike) -> Doubles:
        """Return the scores of probabilities; of one that no score has, the nearest end."""
        given = np.asarray(probabilities, np.float64)
        if self.kind == "isotonic":
            return sigmoid(np.interp(log_odds(given), *log_odds(self.knots).T[::-1]))
        if self.scale == 1 and self.offset == 0:
            return given
        return sigmoid((log_odds(given) - self.offset) / self.scale)


class GroupCalibration(Calibration):
    """The calibration of a category's score of an image: of rules with these labels and this aggregate."""

    labels: list[str] = Field(min_length=1)
    aggregate: Aggregate = "sum"

    def fits(self, labels: Collection[str], aggregate: Aggregate) -> bool:
        """Return whether a rule of these labels has the score that this was fitted to."""
        return set(self.labels) == set(labels) and (aggregate == self.aggregate or len(self.labels) == 1)


Temperature = Annotated[
    Annotated[float, Field(ge=0.01, le=100, strict=True, allow_inf_nan=False)] | None,
    Field(description="Divides the logits; null: uncalibrated."),
]
GroupCalibrations = Annotated[
    list[GroupCalibration],
    Field(max_length=200, description="Of a category's score: of rules that name just these labels."),
]


def check_groups(labels: Collection[str], calibrations: Sequence[GroupCalibration]) -> None:
    """Check that groups are of a classifier's labels, each of others.

    Raises:
        ValueError: one is not.
    """
    for position, group in enumerate(calibrations):
        if not set(labels).issuperset(group.labels):
            raise ValueError(f"calibrations.{position} names a label that the classifier does not have")
        if any(group.fits(other.labels, other.aggregate) for other in calibrations[:position]):
            raise ValueError(f"calibrations.{position} is of the same labels as one before it")


def calibrated(
    probabilities: Floats,
    calibrations: Sequence[Calibration | None],
    mode: Mode = "softmax",
    temperature: float | None = None,
) -> Floats:
    """Return a classifier's probabilities [V, L] after its temperature and then each label's calibration.

    A temperature divides logits (Guo et al., 2017); p^(1/T), brought back to a sum of 1, is the same. In independent
    mode it divides the log odds of each label.
    """
    if temperature is None and all(entry is None for entry in calibrations):
        return probabilities
    made = probabilities.astype(np.float64)
    if temperature is not None and mode == "softmax":
        made = (made / made.max(axis=1, keepdims=True)) ** (1 / temperature)  # or a small one leaves only zeros
        made /= made.sum(axis=1, keepdims=True)
    elif temperature is not None:
        made = sigmoid(log_odds(made) / temperature)
    for position, entry in enumerate(calibrations):
        if entry is not None:
            made[:, position] = entry.of(made[:, position])
    return made.astype(np.float32)


def log_odds(scores: npt.ArrayLike) -> Doubles:
    """Return ln(s / (1 - s)), finite also at 0 and 1."""
    clipped = np.clip(np.asarray(scores, np.float64), LEAST, MOST)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))
