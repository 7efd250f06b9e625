"""Maps from scores to probabilities, fitted to labelled scores; arrays in, a ``Calibration`` out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold

from gateway.inference.activations import sigmoid
from gateway.moderation.calibration import MAX_KNOTS, Calibration, Doubles, log_odds

Truth = npt.NDArray[np.bool_]
FOLDS = 5
MOST_LOG_TEMPERATURE = 4.0  # 1/55 to 55; the largest found in practice is about 5
LEAST_PROBABILITY = 1e-7  # in a log loss: one image that was certain and wrong costs 16, not infinity
ERROR_BINS = 10


def fit_platt(scores: Doubles, truth: Truth) -> Calibration | None:
    """Return Platt scaling by maximum likelihood; None where higher scores do not make the category likelier.

    Every image counts as both, with the weights of ``soft_targets``.
    """
    targets = soft_targets(truth)
    logits = np.tile(log_odds(scores), 2)[:, np.newaxis]
    answers = np.repeat([True, False], len(truth))
    fitted = LogisticRegression(C=np.inf).fit(logits, answers, sample_weight=np.concatenate([targets, 1 - targets]))
    scale, offset = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    return Calibration(scale=scale, offset=offset) if 0 < scale <= 1000 and abs(offset) <= 1000 else None  # noqa: PLR2004 - the schema's


def soft_targets(truth: Truth) -> Doubles:
    """Return Platt's (1999) targets, (n + 1) / (n + 2) and 1 / (n + 2) for 1 and 0.

    With them classes that do not overlap have a slope too: without, the best one is infinite, and one image that is
    certain and wrong then costs more than all others bring.
    """
    positives = np.count_nonzero(truth)
    return np.where(truth, (positives + 1) / (positives + 2), 1 / (len(truth) - positives + 2))


def soft_log_loss(probabilities: Doubles, truth: Truth) -> float:
    """Return the mean log loss against ``soft_targets``, in nats."""
    targets = soft_targets(truth)
    return float((targets * log_losses(probabilities, np.ones_like(truth))).mean()) + float(
        ((1 - targets) * log_losses(probabilities, np.zeros_like(truth))).mean()
    )


def fit_isotonic(scores: Doubles, truth: Truth) -> Calibration | None:
    """Return isotonic regression as knots that rise strictly; None where higher scores do not make it likelier.

    As centred isotonic regression (Oron and Flournoy, 2017), each level of the fit is one knot at the mean score of its
    images, so that no two scores become equal. Scores are averaged in bins of as many images first, which caps the
    knots. No level is nearer to 0 or 1 than n + 2 images can tell.
    """
    bins = np.array_split(np.argsort(scores, kind="stable"), min(len(scores), MAX_KNOTS - 2))
    counts = np.array([len(rows) for rows in bins], float)
    centres = np.array([scores[rows].mean() for rows in bins])
    nearest = 1 / (len(scores) + 2)
    fit = IsotonicRegression(y_min=nearest, y_max=1 - nearest)
    levels = fit.fit_transform(centres, [truth[rows].mean() for rows in bins], sample_weight=counts)
    knots = []
    for level in np.unique(levels):
        same = levels == level
        knots.append((float(np.average(centres[same], weights=counts[same])), float(level)))
    if len(knots) < 2:  # noqa: PLR2004 - one level tells nothing
        return None
    inner = [knot for knot in knots if 0 < knot[0] < 1]
    return Calibration(kind="isotonic", knots=[(0.0, knots[0][1] / 2), *inner, (1.0, (1 + knots[-1][1]) / 2)])


def fit_temperature(loss: Callable[[float], float]) -> float:
    """Return the temperature whose loss is least."""
    found = minimize_scalar(
        lambda exponent: loss(float(np.exp(exponent))),
        bounds=(-MOST_LOG_TEMPERATURE, MOST_LOG_TEMPERATURE),
        method="bounded",
        options={"xatol": 1e-4},
    )
    return float(np.exp(found.x))


def moved(calibration: Calibration, before: float, after: float) -> Calibration:
    """Return a calibration whose probabilities hold at another prevalence: the log odds move by the priors'."""
    by = float(log_odds(after) - log_odds(before))
    if calibration.kind == "platt":
        return calibration.model_copy(update={"offset": calibration.offset + by})
    knots = [(score, float(sigmoid(log_odds(level) + by))) for score, level in calibration.knots]
    return calibration.model_copy(update={"knots": knots})


def folds(kinds: npt.NDArray[np.int_], groups: Sequence[str]) -> Iterator[tuple[npt.NDArray[np.int_], ...]]:
    """Yield rows to fit on and rows to predict, with as much of every kind in each; a group stays together."""
    splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    yield from splitter.split(np.zeros((len(kinds), 1)), kinds, groups)


def log_losses(probabilities: Doubles, truth: Truth) -> Doubles:
    """Return each image's log loss, in nats."""
    of_truth = np.where(truth, probabilities, 1 - probabilities)
    return np.asarray(-np.log(np.clip(of_truth, LEAST_PROBABILITY, 1)))


def is_lower(losses: Doubles, than: Doubles, groups: Sequence[str]) -> bool:
    """Return whether the mean of the first losses is lower by more than a standard error of the difference.

    Images of one group count as one draw.
    """
    gain = than - losses
    _, number = np.unique(list(groups), return_inverse=True)
    by_group = np.bincount(number, gain - gain.mean())
    return bool(gain.mean() > np.sqrt((by_group**2).sum()) / len(gain))


def calibration_error(probabilities: Doubles, truth: Truth, weights: Doubles) -> float:
    """Return the expected calibration error over ten equal bins (Naeini et al., 2015)."""
    place = np.minimum((probabilities * ERROR_BINS).astype(int), ERROR_BINS - 1)
    gaps = np.bincount(place, weights * (probabilities - truth), minlength=ERROR_BINS)
    return float(np.abs(gaps).sum() / weights.sum())
