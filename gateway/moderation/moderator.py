"""Images and a policy → verdicts, logged before they are told.

Known images are asked first: a match decides without the model. Then every classifier that the policy, its shadow and
their attributes need is scored once over all views and frames, and the policy says what the scores mean.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

import numpy as np
import structlog

from gateway.decoding.preprocess import PreprocessedImage
from gateway.errors import StorageUnavailable
from gateway.fetching.image_source import ImageRequest
from gateway.hash_matching.matcher import HashMatcher, Match
from gateway.hash_matching.refresher import ListRefresher
from gateway.limits.deadline import Deadline
from gateway.moderation.binding import BoundPolicy
from gateway.moderation.decision_log import DecisionLog
from gateway.moderation.verdicts import Verdict, from_lists, place_out, shadow_out, verdict_of, verdict_out
from gateway.observability.stage_timer import StageTimer
from gateway.pipeline import ImageOutcome, Pipeline
from gateway.store.decisions import DecisionRecord

NOT_LOGGED = "decision_not_logged"
PARTLY_SEEN = "frames_sampled"
NOT_HASHED = "perceptual_lists_not_asked"


@dataclass(frozen=True, slots=True)
class LogRules:
    """What the decision log keeps, and what happens when it cannot.

    Attributes:
        enabled: otherwise nothing is logged.
        vectors: keep the images' vectors too.
        required: a verdict that cannot be logged is not given; otherwise it is, with a warning.
    """

    enabled: bool
    vectors: bool
    required: bool


@dataclass(frozen=True, slots=True)
class Asked:
    """Of a request, for the log: the client's id for it, its own id, and the name of its API key."""

    external_id: str | None
    request_id: str
    key_name: str | None


@dataclass(frozen=True, slots=True)
class Moderated:
    """One image's outcome: a look, and unless it failed a verdict, the shadow's, and the id in the log."""

    look: ImageOutcome
    verdict: Verdict | None
    shadow: Verdict | None
    decision_id: str | None


class Moderator:
    """Applies policies to images.

    Args:
        pipeline: images → vectors.
        known: holds the lists of known images that are in force.
        log: where decisions are logged.
        rules: what is logged.
        bundle_id: of the models.
        logit_scale: of the bundle.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        known: ListRefresher,
        log: DecisionLog,
        rules: LogRules,
        bundle_id: str,
        logit_scale: float,
    ) -> None:
        self._pipeline = pipeline
        self._known = known
        self._decision_log = log
        self._rules = rules
        self._bundle_id = bundle_id
        self._logit_scale = logit_scale
        self._log = structlog.get_logger("moderation")

    async def moderate(
        self,
        images: Sequence[ImageRequest],
        policy: BoundPolicy,
        shadow: BoundPolicy | None,
        *,
        external_id: str | None,
        request_id: str,
        key_name: str | None,
        deadline: Deadline,
    ) -> list[Moderated]:
        """Judge every image by itself; a failed one has no verdict, and its neighbours are complete.

        ``external_id``, ``request_id`` and ``key_name`` go into the log.

        Raises:
            RequestError: too many views.
            StorageUnavailable: the lists were never loaded, or a verdict must be logged and cannot be.
        """
        known = self._known.current
        if not self._known.loaded:
            raise StorageUnavailable(
                "The lists of known images are not loaded yet; nothing was decided.", retry_after_s=1
            )
        rules = frozenset({policy.views} | ({shadow.views} if shadow else set()))
        recognise = partial(matches, known) if known.lists else None
        looks = await self._pipeline.run(images, rules, deadline, recognise, fingerprint=True)
        judged = [self._timed(look, known, policy, shadow) for look in looks]
        if self._rules.enabled:
            judged = await self._logged(judged, Asked(external_id, request_id, key_name), deadline)
        return judged

    def _timed(
        self, look: ImageOutcome, known: HashMatcher, policy: BoundPolicy, shadow: BoundPolicy | None
    ) -> Moderated:
        timer = StageTimer()
        with timer.stage("score"):
            judged = self._judge(look, known, policy, shadow)
        look.elapsed_s.update(timer.elapsed_s)
        return judged

    def _judge(
        self, look: ImageOutcome, known: HashMatcher, policy: BoundPolicy, shadow: BoundPolicy | None
    ) -> Moderated:
        if look.prepared is None:
            return Moderated(look, None, None, None)
        if look.matches:
            verdict = from_lists(policy, look.matches, look.prepared)
            return Moderated(look, verdict, from_lists(shadow, look.matches, look.prepared) if shadow else None, None)
        if look.vectors is None:
            raise ValueError("an image that was neither recognised nor seen by the model has no verdict")
        verdict = verdict_of(policy, look.vectors, look.prepared.places, self._logit_scale)
        second = verdict_of(shadow, look.vectors, look.prepared.places, self._logit_scale) if shadow else None
        if look.prepared.info.frames_analyzed < look.prepared.info.frames:
            verdict = replace(verdict, warnings=(*verdict.warnings, PARTLY_SEEN))
        if not look.prepared.fingerprints and any(made.kind == "pdq" and made.entries for made in known.lists):
            verdict = replace(verdict, warnings=(*verdict.warnings, NOT_HASHED))
        return Moderated(look, verdict, second, None)

    async def _logged(self, judged: list[Moderated], asked: Asked, deadline: Deadline) -> list[Moderated]:
        """Write every verdict to the log, and put its id into the outcome; without a store, a warning.

        Raises:
            StorageUnavailable: without a store, where verdicts must be logged.
        """
        now = datetime.now(UTC)
        marked = [replace(item, decision_id=decision_id(now)) if item.verdict else item for item in judged]
        records = [self._record(item, now, asked) for item in marked if item.verdict]
        if not records:
            return marked
        if await self._decision_log.append(records, deadline):
            return marked
        self._log.warning("decisions not logged", count=len(records))
        if self._rules.required:
            raise StorageUnavailable("The decision could not be logged and must be; nothing was decided.")
        return [
            replace(item, verdict=replace(item.verdict, warnings=(*item.verdict.warnings, NOT_LOGGED)))
            if item.verdict
            else item
            for item in judged
        ]

    def _record(self, item: Moderated, now: datetime, asked: Asked) -> DecisionRecord:
        assert item.verdict is not None  # noqa: S101 - only verdicts are logged
        assert item.look.prepared is not None  # noqa: S101
        prepared, verdict = item.look.prepared, item.verdict
        keep = self._rules.vectors and item.look.vectors is not None
        best = max(prepared.fingerprints, key=lambda found: found.quality, default=None)
        return DecisionRecord(
            id=item.decision_id or "",
            at=now,
            request_id=asked.request_id,
            external_id=asked.external_id,
            image_sha256=prepared.info.sha256,
            image_pdq=best.hex if best else None,
            policy=verdict.policy.name,
            policy_version=verdict.policy.version,
            bundle_id=self._bundle_id,
            decision=verdict.decision,
            categories={category.category: category.score for category in verdict.categories},
            detail={
                **verdict_out(verdict),
                "shadow": shadow_out(item.shadow),
                "key": asked.key_name,
                "places": [place_out(place) for place in prepared.places] if keep else [],
            },
            vectors=np.ascontiguousarray(item.look.vectors, "<f4").tobytes() if keep else None,
        )


def matches(known: HashMatcher, prepared: PreprocessedImage) -> tuple[Match, ...]:
    """Return the entries of lists that an image matches: by its bytes, or by any frame looked at; each list once.

    For a thread: a wide distance on a long list takes some milliseconds a frame.
    """
    found: dict[str, Match] = {match.list: match for match in known.match(prepared.info.sha256, None, 0)}
    for print_ in prepared.fingerprints:
        for match in known.match(prepared.info.sha256, print_.hex, print_.quality):
            found.setdefault(match.list, match)
    return tuple(found.values())


def decision_id(now: datetime) -> str:
    """Return an id that sorts by time: milliseconds since 1970 in 12 hex digits, then 20 random ones."""
    return f"{int(now.timestamp() * 1000):012x}{secrets.token_hex(10)}"
