"""Images and a policy → verdicts, written to the decision log before they are answered.

An image on a hash list is decided by that list, without the model. For every other one, all classifiers of the policy
and of the shadow policy are scored over its views and frames, and the policies' rules decide.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

import numpy as np
import structlog

from gateway.decoding.pdq import MIN_QUALITY
from gateway.decoding.preprocess import PreprocessedImage
from gateway.errors import GatewayError, IdempotencyKeyInUse, StorageUnavailable
from gateway.fetching.image_source import ImageRequest
from gateway.hash_matching.matcher import HashMatcher, Match
from gateway.hash_matching.refresher import ListRefresher
from gateway.inference.explanation import Explain
from gateway.limits.deadline import Deadline
from gateway.moderation.binding import BoundPolicy
from gateway.moderation.decision_log import DecisionLog
from gateway.moderation.idempotency import Attempt
from gateway.moderation.policy import STRICTNESS
from gateway.moderation.rollout import Judges
from gateway.moderation.stills_for_review import Pending, keep_stills
from gateway.moderation.verdict_json import place_json, verdict_json
from gateway.moderation.verdicts import AUDIT, Verdict, from_lists, verdict_of
from gateway.observability.metrics import Metrics
from gateway.observability.stage_timer import StageTimer
from gateway.pipeline import ImageOutcome, Pipeline, Stills
from gateway.review.images import ReviewImages
from gateway.store.decisions import DecisionRecord
from gateway.store.idempotency import ClaimLost, KeptAnswer
from gateway.store.outages import StoreUnavailable

NOT_LOGGED = "decision_not_logged"
NOT_HASHED = "perceptual_lists_not_asked"
LOTS = 1 << 256  # an HMAC-SHA-256 is a number below it


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
class RequestOrigin:
    """Of a request, for the decision log: the client's id for its images, its own id, and the name of its API key."""

    external_id: str | None
    request_id: str
    key_name: str | None

    def id_of(self, image: ImageRequest) -> str | None:
        """Return the client's id of an image: its own, else the request's."""
        return self.external_id if image.external_id is None else image.external_id


@dataclass(frozen=True, slots=True)
class Moderated:
    """One image's outcome: unless it failed, with the verdict, the shadow policy's, and the id in the decision log."""

    outcome: ImageOutcome
    verdict: Verdict | None
    shadow: Verdict | None
    decision_id: str | None

    @property
    def shadow_differs(self) -> bool | None:
        """Whether the shadow decided otherwise; None without one, and where a hash list decided for both."""
        if self.verdict is None or self.shadow is None or self.outcome.matches:
            return None
        return self.shadow.decision != self.verdict.judged


@dataclass(frozen=True, slots=True)
class Answering:
    """How a request that may be repeated is answered: its attempt, and what makes the answer."""

    attempt: Attempt
    answer_of: Callable[[list[Moderated]], bytes]

    def kept(self, judged: list[Moderated]) -> KeptAnswer | None:
        """Return the answer as it is to be kept; None for a request without a key, or whose answer is an error."""
        with suppress(GatewayError):
            return self.attempt.kept(self.answer_of(judged)) if self.attempt.claim else None
        return None


class Moderator:
    """Applies policies to images.

    Args:
        pipeline: images → vectors.
        list_refresher: holds the hash lists in force.
        log: where decisions are logged.
        rules: what is logged.
        bundle_id: of the models.
        logit_scale: of the bundle.
        metrics: decisions are counted there.
        images: keeps stills of what waits for review; None where none are kept.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        list_refresher: ListRefresher,
        log: DecisionLog,
        rules: LogRules,
        bundle_id: str,
        logit_scale: float,
        metrics: Metrics,
        images: ReviewImages | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._images = images if rules.enabled else None
        self._metrics = metrics
        self._list_refresher = list_refresher
        self._decision_log = log
        self._rules = rules
        self._bundle_id = bundle_id
        self._logit_scale = logit_scale
        self._log = structlog.get_logger("moderation")

    async def moderate(
        self,
        images: Sequence[ImageRequest],
        judges: Judges,
        origin: RequestOrigin,
        deadline: Deadline,
        answering: Answering | None = None,
        explain: Explain | None = None,
    ) -> list[Moderated]:
        """Decide about every image by itself; a failed one has no verdict and leaves the others alone.

        The answer of a request that may be repeated is kept with its decisions, unless there is none. With ``explain``
        each image that a list does not decide has a heat map, or a warning that it has none.

        Raises:
            RequestError: too many views or heat maps, or a request that was repeated has taken this one's place.
            StorageUnavailable: the lists were never loaded, or a verdict must be logged and cannot be.
        """
        matcher = self._list_refresher.current
        if not self._list_refresher.loaded:
            raise StorageUnavailable(
                "The lists of known images are not loaded yet; nothing was decided.", retry_after_s=1
            )
        hash_lookup = partial(matches, matcher) if matcher.lists else None
        with self._images.room.allowance() if self._images else nullcontext() as room:
            outcomes = await self._pipeline.run(
                images,
                judges.views,
                deadline,
                hash_lookup,
                explain=explain,
                beside=judges.views_beside,
                deciding=True,
                stills=Stills(self._images.rules.side_px, room) if self._images and room else None,
            )
            judged = [await self._audited(self._judge(outcome, matcher, judges)) for outcome in outcomes]
            judged = await self._logged(judged, images, origin, deadline, answering)
            if self._images is not None:
                pending = [
                    Pending(item.decision_id, origin.id_of(images[item.outcome.index]), item.outcome, item.verdict)
                    for item in judged
                    if item.verdict and item.decision_id
                ]
                await keep_stills(self._images, pending, deadline)
        for item in judged:
            self._count(item)
        return judged

    def _count(self, item: Moderated) -> None:
        if item.verdict is None:
            return
        policy = item.verdict.policy.name
        self._metrics.observe_decision(policy, item.verdict.judged)
        if item.verdict.audited:
            self._metrics.observe_audit(policy)
        for match in item.outcome.matches:
            self._metrics.observe_list_match(match.list)
        for category in item.verdict.categories if not item.outcome.matches else ():
            thresholds = category.review_at, category.block_at
            self._metrics.observe_category(policy, category.category, category.decision, category.score, thresholds)
        if item.shadow is not None and item.shadow_differs is not None:
            stricter = STRICTNESS[item.shadow.decision] - STRICTNESS[item.verdict.judged]
            self._metrics.observe_shadow(policy, stricter)

    def _judge(self, outcome: ImageOutcome, matcher: HashMatcher, judges: Judges) -> Moderated:
        if outcome.prepared is None:
            return Moderated(outcome, None, None, None)
        policy, shadow = judges.deciding(outcome.prepared.info.sha256), judges.shadow_in_force
        timer = StageTimer()
        with timer.stage("score"):
            warnings = _warnings(outcome, outcome.prepared, matcher)
            verdict = self._verdict(policy, outcome, outcome.prepared, warnings)
            second = self._verdict(shadow, outcome, outcome.prepared, warnings) if shadow else None
        outcome.elapsed_s.update(timer.elapsed_s)
        return Moderated(outcome, verdict, second, None)

    async def _audited(self, item: Moderated) -> Moderated:
        """Send an image that its policy allows to review where the audit draws it: a file is always treated alike.

        Without the secret, which the store keeps, nothing is drawn: what is allowed stays so.
        """
        verdict, prepared = item.verdict, item.outcome.prepared
        if verdict is None or prepared is None or item.outcome.matches or verdict.decision != "allow":
            return item
        share = verdict.policy.audit_share
        if share == 0:
            return item
        try:
            lot = await self._pipeline.seed_of(f"{AUDIT}:{verdict.policy.name}:{prepared.info.sha256}")
        except StoreUnavailable:
            return item
        return replace(item, verdict=verdict.sent_to_audit()) if lot < share * LOTS else item

    def _verdict(
        self, policy: BoundPolicy, outcome: ImageOutcome, prepared: PreprocessedImage, warnings: tuple[str, ...]
    ) -> Verdict:
        if outcome.matches:
            return from_lists(policy, outcome.matches, prepared)
        if outcome.vectors is None:
            raise ValueError("an image without a match and without vectors has no verdict")
        return verdict_of(policy, outcome.vectors, prepared.places, self._logit_scale, warnings)

    async def _logged(
        self,
        judged: list[Moderated],
        images: Sequence[ImageRequest],
        origin: RequestOrigin,
        deadline: Deadline,
        answering: Answering | None,
    ) -> list[Moderated]:
        """Write every verdict to the log, and put its id into the outcome; without a store, a warning.

        Raises:
            StorageUnavailable: without a store, where verdicts must be logged.
            IdempotencyKeyInUse: the request was repeated, and that one decides.
        """
        now, marked = datetime.now(UTC), judged
        if self._rules.enabled:
            marked = [replace(item, decision_id=decision_id(now)) if item.verdict else item for item in judged]
        if not any(item.verdict for item in marked):
            return marked
        records = [
            self._record(item, origin.id_of(images[item.outcome.index]), now, origin)
            for item in marked
            if item.verdict and item.decision_id
        ]
        kept = answering.kept(marked) if answering is not None else None
        try:
            if not records and kept is None:
                return marked
            if await self._decision_log.append(records, deadline, kept):
                if answering is not None and kept is not None:
                    answering.attempt.answer = kept.answer
                return marked
        except ClaimLost:
            raise IdempotencyKeyInUse("The request was repeated, and that one is worked on.", retry_after_s=1) from None
        if not records:
            return marked
        self._log.warning("decisions not logged", count=len(records))
        self._metrics.decisions_not_logged.inc(len(records))
        if self._rules.required:
            raise StorageUnavailable("The decision could not be logged and must be; nothing was decided.")
        return [
            replace(item, verdict=replace(item.verdict, warnings=(*item.verdict.warnings, NOT_LOGGED)))
            if item.verdict
            else item
            for item in judged
        ]

    def _record(self, item: Moderated, external_id: str | None, now: datetime, origin: RequestOrigin) -> DecisionRecord:
        assert item.verdict is not None  # noqa: S101 - only verdicts are logged
        assert item.outcome.prepared is not None  # noqa: S101
        prepared, verdict = item.outcome.prepared, item.verdict
        keep = self._rules.vectors and item.outcome.vectors is not None
        best = max(prepared.fingerprints, key=lambda found: found.quality, default=None)
        return DecisionRecord(
            id=item.decision_id or "",
            at=now,
            request_id=origin.request_id,
            external_id=external_id,
            image_sha256=prepared.info.sha256,
            image_pdq=best.hex if best else None,
            policy=verdict.policy.name,
            policy_version=verdict.policy.version,
            bundle_id=self._bundle_id,
            decision=verdict.decision,
            outcome=verdict.decision,
            shadow_differs=item.shadow_differs,
            categories={category.category: category.score for category in verdict.categories},
            detail={
                **verdict_json(verdict, item.shadow, verdict.policy),
                "key": origin.key_name,
                "audit_share": None if item.outcome.matches else verdict.policy.audit_share,
                "image_id": item.outcome.id,
                "near_matching": best is not None and best.quality >= MIN_QUALITY and prepared.info.frames == 1,
                "places": [place_json(place) for place in prepared.places] if keep else [],
            },
            vectors=np.ascontiguousarray(item.outcome.vectors, "<f4").tobytes() if keep else None,
        )


def _warnings(outcome: ImageOutcome, prepared: PreprocessedImage, matcher: HashMatcher) -> tuple[str, ...]:
    """Return what was not looked at: frames of an animation, lists of perceptual hashes."""
    asked = prepared.fingerprints or not any(made.kind == "pdq" and made.entries for made in matcher.lists)
    return outcome.warnings if asked else (*outcome.warnings, NOT_HASHED)


def matches(matcher: HashMatcher, prepared: PreprocessedImage) -> tuple[Match, ...]:
    """Return the entries of lists that an image matches: by its bytes, or by any analyzed frame; each list once.

    For a thread: a wide distance on a long list takes some milliseconds a frame.
    """
    found: dict[str, Match] = {match.list: match for match in matcher.match(prepared.info.sha256)}
    for print_ in prepared.fingerprints:
        for match in matcher.match(prepared.info.sha256, print_.hex, print_.quality):
            found.setdefault(match.list, match)
    return tuple(found.values())


def decision_id(now: datetime) -> str:
    """Return an id that sorts by time: milliseconds since 1970 in 12 hex digits, then 20 random ones."""
    return f"{int(now.timestamp() * 1000):012x}{secrets.token_hex(10)}"
