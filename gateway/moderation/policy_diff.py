"""What a candidate policy would change: both policies over the same vectors, compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gateway.decoding.views import Place
from gateway.inference.triton import Vectors
from gateway.moderation.binding import BoundPolicy
from gateway.moderation.policy import Decision
from gateway.moderation.verdicts import Verdict, uses, verdict_of
from gateway.store.decisions import DecisionRecord

NO_VECTORS, OTHER_MODEL, OTHER_VIEWS = "vectors_not_kept", "other_model", "other_views"
NO_DECISION = "decision_not_found"


@dataclass(frozen=True, slots=True)
class Sample:
    """An image to try policies on: its vectors [V, D], their V places, and the warnings about it."""

    decision_id: str | None
    external_id: str | None
    image_sha256: str
    vectors: Vectors
    places: tuple[Place, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """An image whose decision would change."""

    sample: Sample
    before: Decision
    after: Verdict


@dataclass(frozen=True, slots=True)
class Comparison:
    """Images by decision before and after; those ``skipped`` by reason."""

    counts: dict[tuple[Decision, Decision], int]
    changes: tuple[Change, ...]
    compared: int
    skipped: dict[str, int]


def sample_of(record: DecisionRecord, dim: int, bundle_id: str) -> Sample | str:
    """Return a logged decision as a sample, or why it is none."""
    places = places_of(record.detail.get("places", []))
    if record.bundle_id != bundle_id:
        return OTHER_MODEL
    if record.vectors is None:
        return NO_VECTORS
    vectors = np.frombuffer(record.vectors, "<f4").reshape(-1, dim).astype(np.float32)
    if len(vectors) != len(places):
        return NO_VECTORS
    warnings = tuple(record.detail.get("warnings", ()))
    return Sample(record.id, record.external_id, record.image_sha256, vectors, places, warnings)


def places_of(entries: Iterable[Mapping[str, Any]]) -> tuple[Place, ...]:
    """Return places that were kept as JSON values."""
    return tuple(
        Place(entry["view"], tuple(entry["box"]), entry["frame_ms"], entry.get("background")) for entry in entries
    )


def compare(
    samples: Iterable[Sample | str], active: BoundPolicy, candidate: BoundPolicy, logit_scale: float, examples: int
) -> Comparison:
    """Apply both policies to every sample, and count why others are none; CPU-bound, runs in a thread."""
    counts: Counter[tuple[Decision, Decision]] = Counter()
    changes: list[Change] = []
    skipped: Counter[str] = Counter()
    for sample in samples:
        if isinstance(sample, str):
            skipped[sample] += 1
            continue
        if not all(sees(policy, sample.places) for policy in (active, candidate)):
            skipped[OTHER_VIEWS] += 1
            continue
        before = verdict_of(active, sample.vectors, sample.places, logit_scale, sample.warnings)
        after = verdict_of(candidate, sample.vectors, sample.places, logit_scale, sample.warnings)
        counts[before.decision, after.decision] += 1
        if before.decision != after.decision and len(changes) < examples:
            changes.append(Change(sample, before.decision, after))
    return Comparison(dict(counts), tuple(changes), sum(counts.values()), dict(skipped))


def sees(policy: BoundPolicy, places: Iterable[Place]) -> bool:
    """Return whether the policy uses any of the places."""
    return any(uses(policy, place.view) for place in places)
