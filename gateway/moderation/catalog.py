"""The classifiers and policies in force: an immutable snapshot in memory, kept up to date from the store.

A request takes what it needs from the snapshot once and keeps it: a change in flight does not touch it. A new snapshot
becomes current only when the text vectors of everything in it are there, so no request pays for them: they are read
from the store, or computed and kept there. When the store is away the last snapshot goes on serving.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import structlog
from cachetools import LRUCache

from gateway.errors import (
    GatewayError,
    InvalidRequest,
    ModelUnavailable,
    NotFound,
    RequestError,
    ServiceError,
    StorageUnavailable,
)
from gateway.inference.bundle import Manifest
from gateway.inference.heads import Head
from gateway.inference.label_matrix import packed, unpacked
from gateway.inference.prompts import LabelRules, LabelSet
from gateway.inference.scoring import TextMatrix
from gateway.inference.text_embeddings import TextEmbeddings
from gateway.limits.deadline import Deadline
from gateway.moderation.binding import BoundClassifier, BoundPolicy, bind, mismatch, stored_classifier, stored_policy
from gateway.moderation.classifiers import Classifier, split_reference
from gateway.moderation.heads import HeadClassifier
from gateway.moderation.policy import Policy
from gateway.moderation.rollout import Judges, Rollout
from gateway.store.outages import StoreUnavailable
from gateway.store.rollouts import StoredRollout
from gateway.store.versions import Kind, Version, Versions

POLL_S = 0.5  # half of what a change may take to be live everywhere is two seconds
BIND_TIMEOUT_S = 120.0
KEPT_OLD_VERSIONS = 256
KEPT_BYTES = 128 << 20  # of classifiers' vectors and heads' parameters, in force or old
RETRY_AFTER_S = 2


@dataclass(frozen=True, slots=True)
class CatalogSnapshot:
    """What is in force: active versions by name."""

    revision: int = -1
    classifiers: Mapping[str, BoundClassifier] = field(default_factory=dict)
    policies: Mapping[str, BoundPolicy] = field(default_factory=dict)
    mismatched: Mapping[str, Version] = field(default_factory=dict)
    rollouts: Mapping[str, Rollout] = field(default_factory=dict)
    not_applicable: frozenset[tuple[Kind, str]] = frozenset()


class Catalog:
    """Reads from the store, binds to the bundle, serves from memory.

    Args:
        versions: where they are kept, as the bundle sees them.
        text: computes what words mean to the model.
        manifest: the bundle being served.
        rules: caps on words.
    """

    def __init__(self, versions: Versions, text: TextEmbeddings, manifest: Manifest, rules: LabelRules) -> None:
        self._versions = versions
        self._text = text
        self._manifest = manifest
        self._rules = rules
        self._current = CatalogSnapshot()
        self._bound: LRUCache[str, BoundClassifier] = LRUCache(KEPT_BYTES, lambda bound: bound.matrix.nbytes)
        self._old_policies: LRUCache[str, BoundPolicy] = LRUCache(KEPT_OLD_VERSIONS)
        self._refreshing = asyncio.Lock()
        self._log = structlog.get_logger("catalog")
        self._prepared = False
        self._not_loaded_because: GatewayError | None = None
        self._keeps_vectors = True  # until that fails; tried again with the next snapshot
        self.store_lost = False

    @property
    def loaded(self) -> bool:
        """Whether a snapshot has been loaded, with what comes with the program or with what was stored before."""
        return self._current.revision >= 0 and (self._prepared or bool(self._current.policies))

    @property
    def not_applicable(self) -> frozenset[tuple[Kind, str]]:
        """Kind and name of what is in force, here or for another bundle, and cannot be applied with this one."""
        return self._current.not_applicable

    async def watch(self, *prepare: Callable[[], Awaitable[object]]) -> None:
        """Keep the snapshot up to date, for ever; runs as a task of the application's lifespan.

        Args:
            prepare: run before the first snapshot, until all succeed: put into the store what has to be there.
        """
        while True:
            if not self._prepared:
                self._prepared = all([await self._attempt(step) for step in prepare])
            await self._attempt(self.catch_up)  # what is stored serves even where nothing can be written
            await asyncio.sleep(POLL_S)

    async def _attempt(self, step: Callable[[], Awaitable[object]]) -> bool:
        try:
            await step()
        except StoreUnavailable:
            self._note_lost()
        except GatewayError as error:  # the models are away: the old snapshot serves, and we try again
            self._not_loaded_because = error
            self._log.debug("catalog not refreshed", code=error.code)
        except Exception:  # noqa: BLE001 - whatever is in one row must not end the watch
            self._log.exception("catalog not refreshed")
        else:
            return True
        return False

    async def refresh(self) -> None:
        """Load and bind everything in force, then make it current in one step.

        Raises:
            StoreUnavailable: the store is away.
            ServiceError: text vectors could not be computed.
        """
        async with self._refreshing:
            snapshot = await self._versions.snapshot()
            deadline = Deadline.after(BIND_TIMEOUT_S)
            self._keeps_vectors = True
            by_key = {(row.kind, row.name, row.number): row for row in snapshot.versions}
            classifiers, policies, mismatched = {}, {}, {}
            unfit: set[tuple[Kind, str]] = set()
            for row in snapshot.versions:
                try:
                    if row.kind == "classifier" and row.active:
                        classifiers[row.name] = await self.bind_classifier(row, deadline)
                    elif row.kind == "policy" and not row.active:  # active for another bundle
                        mismatched[row.name] = row
                        unfit.add((row.kind, row.name))
                    elif row.kind == "policy":
                        pinned = {name: by_key["classifier", name, number] for name, number in row.pins.items()}
                        policies[row.name] = await self._bind_policy(row, pinned, deadline)
                except RequestError as error:  # words that this model cannot take: that one is not served, others are
                    unfit.add((row.kind, row.name))
                    self._log.error("not usable with this model", kind=row.kind, name=row.name, code=error.code)
            rollouts = {
                name: await self._rollout(stored, name, policies, deadline)
                for name, stored in snapshot.rollouts.items()
                if name in policies
            }
            parts = (classifiers, policies, mismatched, rollouts, frozenset(unfit))
            self._current = CatalogSnapshot(snapshot.revision, *parts)
            there = {row.name for row in snapshot.versions if row.kind == "policy"}
            for key in [key for key, old in self._old_policies.items() if old.name not in there]:
                del self._old_policies[key]  # deleted: its versions are gone too

    async def catch_up(self) -> None:
        """Take over what another gateway has changed since the last refresh.

        Raises:
            StoreUnavailable, ServiceError: as ``refresh``.
        """
        if await self._versions.revision() != self._current.revision:
            await self.refresh()
        self.store_lost = False

    async def classifier(self, reference: str, deadline: Deadline) -> BoundClassifier:
        """Return the active version of ``name``, or the version of ``name@version``.

        Raises:
            NotFound: there is none.
            StorageUnavailable: an old version is not in memory and the store is away.
            ServiceError: text vectors could not be computed, or nothing has been loaded since the start.
        """
        name, number = split_reference(reference)
        active = self._current.classifiers.get(name)
        if active is not None and number in {None, active.version}:
            return active
        return await self.bind_classifier(await self._row("classifier", name, number), deadline)

    async def policy(self, reference: str, deadline: Deadline) -> BoundPolicy:
        """Return the active version of ``name``, or the version of ``name@version``.

        Raises:
            NotFound: there is none.
            PolicyModelMismatch: it was saved for another bundle.
            StorageUnavailable: an old version is not in memory and the store is away.
            ServiceError: text vectors could not be computed.
        """
        name, number = split_reference(reference)
        active = self._current.policies.get(name)
        if active is not None and number in {None, active.version}:
            return active
        if number is None and name in self._current.mismatched:
            raise mismatch(self._current.mismatched[name], self._manifest)
        if (old := self._old_policies.get(f"{name}@{number}")) is not None:
            return old
        row = await self._row("policy", name, number)
        pinned = {
            classifier: await self._row("classifier", classifier, version) for classifier, version in row.pins.items()
        }
        bound = await self._bind_policy(row, pinned, deadline)
        self._old_policies[bound.key] = bound
        return bound

    async def judges(self, reference: str, shadow: str | None, deadline: Deadline) -> Judges:
        """Return the policies of a request: the one that it names, its shadow, and the rollout of the active version.

        Raises:
            GatewayError: as ``policy``.
        """
        asked = await self.policy(shadow, deadline) if shadow else None
        policy = await self.policy(reference, deadline)  # in force: from memory, so of the same snapshot as its rollout
        name, number = split_reference(reference)
        return Judges(policy, asked, self._current.rollouts.get(name, Rollout()) if number is None else Rollout())

    async def bind_classifier(self, row: Version, deadline: Deadline) -> BoundClassifier:
        """Return a classifier version with its text vectors: known, kept with it, or computed and then kept.

        Raises:
            HeadModelMismatch: a head for another model.
            InvalidLabels, LabelTooLong: words that this model cannot take.
            ServiceError: text vectors could not be computed.
        """
        if (known := self._bound.get(row.etag)) is not None:
            return known
        body = stored_classifier(row)
        matrix: TextMatrix | Head
        if isinstance(body, HeadClassifier):
            body.check_model(self._manifest)
            matrix = await asyncio.to_thread(body.head, self._rules)
        else:
            labels = await asyncio.to_thread(body.label_set, self._rules)
            matrix = await self._matrix(row, labels, deadline)
        made = BoundClassifier(
            key=f"{row.name}@{row.number}",
            name=row.name,
            version=row.number,
            description=body.description,
            matrix=matrix,
            calibrations=tuple(entry.calibration for entry in body.labels),
            temperature=body.temperature,
            groups=tuple(body.calibrations),
            none_below=body.none_below if isinstance(body, Classifier) else None,
        )
        if made.matrix.nbytes <= KEPT_BYTES:
            self._bound[row.etag] = made
        return made

    async def bind_candidate(self, name: str, body: Policy, deadline: Deadline) -> BoundPolicy:
        """Return a policy body that is not saved yet, bound to the classifier versions that it names now.

        Raises:
            InvalidRequest: a rule's classifier does not exist or does not have a label; the field is named.
            ServiceError: text vectors could not be computed.
        """
        found: dict[str, BoundClassifier] = {}
        references = [(f"rules.{index}.classifier", rule.classifier) for index, rule in enumerate(body.rules)]
        references += [(f"attributes.{index}", reference) for index, reference in enumerate(body.attributes)]
        for where, reference in references:
            try:
                classifier = await self.classifier(reference, deadline)
            except NotFound:
                raise InvalidRequest(
                    f"Field “{where}” names the classifier “{reference}”, which does not exist."
                ) from None
            if found.setdefault(classifier.name, classifier).version != classifier.version:
                raise InvalidRequest(
                    f"Field “{where}” names another version of “{classifier.name}” than a rule before it."
                )
        return bind(name, 0, self._manifest.bundle_id, body, found)

    async def _rollout(
        self, stored: StoredRollout, name: str, active: Mapping[str, BoundPolicy], deadline: Deadline
    ) -> Rollout:
        """Return a rollout with what can be served of it, given the policies of its snapshot."""
        candidate = None if stored.candidate is None else f"{name}@{stored.candidate}"
        found: list[BoundPolicy | None] = []
        for reference in (stored.shadow, candidate):
            try:
                found.append(None if reference is None else await self._beside(reference, active, deadline))
            except RequestError as error:  # deleted, or of another bundle
                self._log.error("not run beside the policy", name=name, beside=reference, code=error.code)
                found.append(None)
        return Rollout(found[0], found[1], stored.share)

    async def _beside(self, reference: str, active: Mapping[str, BoundPolicy], deadline: Deadline) -> BoundPolicy:
        name, number = split_reference(reference)
        if name in active and number in {None, active[name].version}:
            return active[name]
        if number is None:
            raise NotFound(f"The policy “{name}” is not active.")
        return await self.policy(reference, deadline)

    async def _bind_policy(self, row: Version, pinned: Mapping[str, Version], deadline: Deadline) -> BoundPolicy:
        classifiers = {name: await self.bind_classifier(version, deadline) for name, version in pinned.items()}
        return bind(row.name, row.number, row.bundle_id or "", stored_policy(row), classifiers)

    async def _matrix(self, row: Version, labels: LabelSet, deadline: Deadline) -> TextMatrix:
        kept_vectors, dim = self._versions.label_vectors, self._manifest.embedding_dim
        try:
            kept = await kept_vectors.read(row.name, row.number)
        except StoreUnavailable:
            return await self._text.assemble(labels, deadline)
        if kept is not None:
            if (matrix := await asyncio.to_thread(unpacked, labels, kept, dim)) is not None:
                return matrix
            self._log.warning("label vectors are damaged; computed anew", classifier=row.name, version=row.number)
        matrix = await self._text.assemble(labels, deadline)
        if not self._keeps_vectors:
            return matrix
        data = await asyncio.to_thread(packed, labels, matrix)
        try:
            data = await kept_vectors.keep(row.name, row.number, data, seen=kept)
        except StoreUnavailable:  # they serve all the same; a classifier that waits for it is enough
            self._keeps_vectors = False
            self._log.warning("label vectors cannot be kept; the next start computes them again")
        return await asyncio.to_thread(unpacked, labels, data, dim) or matrix  # another gateway's, if it was faster

    async def _row(self, kind: Kind, name: str, number: int | None) -> Version:
        try:
            row = await self._versions.read(kind, name, number)
        except StoreUnavailable:
            self._note_lost()
            raise StorageUnavailable("The store cannot be reached; only what is in force is served.") from None
        if row is None:
            # What comes with the program may not be stored yet: the policies last, on classifiers that are there.
            if not (self.loaded or (kind == "classifier" and self._current.revision >= 0)):
                raise self._why_not_loaded()
            shown = name if number is None else f"{name}@{number}"
            raise NotFound(f"There is no {kind} “{shown}”.")
        if kind == "policy" and row.bundle_id != self._manifest.bundle_id:
            raise mismatch(row, self._manifest)
        if number is None and not row.active:
            raise NotFound(f"Of the {kind} “{name}” there are drafts only; name one as {name}@{row.number}.")
        return row

    def _why_not_loaded(self) -> GatewayError:
        known = self._not_loaded_because
        if isinstance(known, ServiceError):
            return type(known)(known.detail, retry_after_s=known.retry_after_s)
        return ModelUnavailable("The service is starting; nothing was decided.", retry_after_s=RETRY_AFTER_S)

    def _note_lost(self) -> None:
        if not self.store_lost:
            self._log.warning("store unavailable; what is in force goes on serving")
        self.store_lost = True
