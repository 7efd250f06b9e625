"""What a heat map of a verdict explains: the category that decided, in the view that its evidence stands in."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from gateway.decoding.preprocess import PreprocessedImage
from gateway.decoding.views import Place
from gateway.inference.explanation import Explain, Explained
from gateway.inference.scoring import Floats
from gateway.inference.triton import Vectors
from gateway.moderation.binding import BoundPolicy
from gateway.moderation.rollout import Judges
from gateway.moderation.verdicts import verdict_of


def explain_category(judges: Judges, logit_scale: float, category: str | None) -> Explain:
    """Return what says which score a heat map is made of.

    Args:
        judges: of the request; the policy that decides about an image is the one that is explained.
        logit_scale: of the bundle.
        category: to explain; None: the strictest, which comes first in the verdict.
    """

    def explain(prepared: PreprocessedImage, vectors: Vectors) -> Explained | None:
        policy = judges.deciding(prepared.info.sha256)
        verdict = verdict_of(policy, vectors, prepared.places, logit_scale)
        found = next((entry for entry in verdict.categories if category in {None, entry.category}), None)
        if found is None:
            return None
        place = found.evidence[0].place
        scores = partial(category_scores, policy, found.category, place, logit_scale)
        return Explained(found.category, prepared.places.index(place), scores)

    return explain


def category_scores(policy: BoundPolicy, category: str, place: Place, logit_scale: float, vectors: Vectors) -> Floats:
    """Return a category's score [N] for each of N vectors of one view."""
    shown = (replace(place, background=None),)
    verdicts = (verdict_of(policy, vector[np.newaxis], shown, logit_scale) for vector in vectors)
    found = (next(entry for entry in verdict.categories if entry.category == category) for verdict in verdicts)
    return np.array([entry.score for entry in found], np.float32)
