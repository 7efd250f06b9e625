"""The classifiers and policies in force: an immutable snapshot in memory, kept up to date from the store.

A request takes what it needs from the snapshot once and keeps it: a change in flight does not touch it. A new snapshot
becomes current only when the text vectors of everything in it are computed, so no request pays for them. When the store
is away the last snapshot goes on serving.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog
from cachetools import LRUCache
from pydantic import ValidationError

from gateway.bundle import Manifest
from gateway.classifiers import Calibration, Classifier, split_reference
from gateway.deadline import Deadline
from gateway.errors import (
    GatewayError,
    InvalidRequest,
    NotFound,
    PolicyModelMismatch,
    RequestError,
    StorageUnavailable,
)
from gateway.labels import LabelRules
from gateway.policy import BoundRule, Policy
from gateway.scoring import TextMatrix
from gateway.store.records import Kind, Store, StoreUnavailable, Version
from gateway.text_vectors import TextVectors
from gateway.views import ViewRule

POLL_S = 0.5  # half of what a change may take to be live everywhere is two seconds
BIND_TIMEOUT_S = 120.0
KEPT_OLD_VERSIONS = 256


@dataclass(frozen=True, slots=True)
class BoundClassifier:
    """A classifier version with its text side computed; ``key`` is ``name@version``."""

    key: str
    name: str
    version: int
    description: str
    matrix: TextMatrix
    calibrations: tuple[Calibration | None, ...]


@dataclass(frozen=True, slots=True)
class BoundPolicy:
    """A policy version with all it pins; ``classifiers`` by key, ``attributes`` are keys of those that inform."""

    name: str
    version: int
    bundle_id: str
    views: ViewRule
    rules: tuple[BoundRule, ...]
    attributes: tuple[str, ...]
    classifiers: Mapping[str, BoundClassifier]
    openai_categories: Mapping[str, tuple[str, ...]]
    uncalibrated: bool

    @property
    def key(self) -> str:
        """``name@version``."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True)
class Current:
    """What is in force: active versions by name."""

    revision: int = -1
    classifiers: Mapping[str, BoundClassifier] = field(default_factory=dict)
    policies: Mapping[str, BoundPolicy] = field(default_factory=dict)
    mismatched: Mapping[str, Version] = field(default_factory=dict)


class Catalogue:
    """Reads from the store, binds to the bundle, serves from memory.

    Args:
        store: where versions are kept.
        text: computes what words mean to the model.
        manifest: the bundle being served.
        rules: caps on words.
    """

    def __init__(self, store: Store, text: TextVectors, manifest: Manifest, rules: LabelRules) -> None:
        self._store = store
        self._text = text
        self._manifest = manifest
        self._rules = rules
        self._current = Current()
        self._bound: LRUCache[str, BoundClassifier] = LRUCache(KEPT_OLD_VERSIONS)
        self._old_policies: LRUCache[str, BoundPolicy] = LRUCache(KEPT_OLD_VERSIONS)
        self._refreshing = asyncio.Lock()
        self._log = structlog.get_logger("catalogue")
        self.store_lost = False

    @property
    def loaded(self) -> bool:
        """Whether a snapshot has ever been loaded."""
        return self._current.revision >= 0

    async def watch(self, prepare: Callable[[], Awaitable[object]]) -> None:
        """Keep the snapshot up to date, for ever; runs as a task of the application's lifespan.

        Args:
            prepare: run before the first snapshot, until it succeeds: puts the shipped scenarios into the store.
        """
        prepared = False
        while True:
            try:
                if not prepared:
                    await prepare()
                    prepared = True
                if await self._store.revision() != self._current.revision:
                    await self.refresh()
                self.store_lost = False
            except StoreUnavailable:
                self._note_lost()
            except GatewayError as error:  # the models are away: the old snapshot serves, and we try again
                self._log.debug("catalogue not refreshed", code=error.code)
            except Exception:  # noqa: BLE001 - whatever is in one row must not end the watch
                self._log.exception("catalogue not refreshed")
            await asyncio.sleep(POLL_S)

    async def refresh(self) -> None:
        """Load and bind everything in force, then make it current in one step.

        Raises:
            StoreUnavailable: the store is away.
            ServiceError: text vectors could not be computed.
        """
        async with self._refreshing:
            snapshot = await self._store.snapshot()
            deadline = Deadline.after(BIND_TIMEOUT_S)
            by_key = {(row.kind, row.name, row.number): row for row in snapshot.versions}
            classifiers, policies, mismatched = {}, {}, {}
            for row in snapshot.versions:
                try:
                    if row.kind == "classifier" and row.active:
                        classifiers[row.name] = await self.bind_classifier(row, deadline)
                    elif row.kind == "policy" and row.active and row.bundle_id != self._manifest.bundle_id:
                        mismatched[row.name] = row
                    elif row.kind == "policy" and row.active:
                        pinned = {name: by_key["classifier", name, number] for name, number in row.pins.items()}
                        policies[row.name] = await self._bind_policy(row, pinned, deadline)
                except RequestError as error:  # words that this model cannot take: that one is not served, others are
                    self._log.error("not usable with this model", kind=row.kind, name=row.name, code=error.code)
            self._current = Current(snapshot.revision, classifiers, policies, mismatched)
            there = {row.name for row in snapshot.versions if row.kind == "policy"}
            for key in [key for key, old in self._old_policies.items() if old.name not in there]:
                del self._old_policies[key]  # deleted: its versions are gone too

    async def catch_up(self) -> None:
        """Take over what another gateway has changed since the last look.

        Raises:
            StoreUnavailable, ServiceError: as ``refresh``.
        """
        if await self._store.revision() != self._current.revision:
            await self.refresh()

    async def classifier(self, reference: str, deadline: Deadline) -> BoundClassifier:
        """Return the active version of ``name``, or the version of ``name@version``.

        Raises:
            NotFound: there is none.
            StorageUnavailable: an old version is not in memory and the store is away.
            ServiceError: text vectors could not be computed.
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
        old = self._old_policies.get(f"{name}@{number}")
        if old is not None:
            return old
        row = await self._row("policy", name, number)
        if row.bundle_id != self._manifest.bundle_id:
            raise mismatch(row, self._manifest)
        pinned = {
            classifier: await self._row("classifier", classifier, version) for classifier, version in row.pins.items()
        }
        bound = await self._bind_policy(row, pinned, deadline)
        self._old_policies[bound.key] = bound
        return bound

    async def bind_classifier(self, row: Version, deadline: Deadline) -> BoundClassifier:
        """Return a classifier version with its text vectors, computed unless they are known.

        Raises:
            InvalidLabels, LabelTooLong: words that this model cannot take.
            ServiceError: text vectors could not be computed.
        """
        known = self._bound.get(row.etag)
        if known is not None:
            return known
        body = read_classifier(row.body)
        matrix = await self._text.assemble(body.label_set(self._rules), deadline)
        made = BoundClassifier(
            key=f"{row.name}@{row.number}",
            name=row.name,
            version=row.number,
            description=body.description,
            matrix=matrix,
            calibrations=tuple(entry.calibration for entry in body.labels),
        )
        if row.number:  # 0 is a candidate that is not saved
            self._bound[row.etag] = made
        return made

    async def bind_candidate(self, name: str, body: Policy, deadline: Deadline) -> tuple[BoundPolicy, dict[str, int]]:
        """Return a policy body that is not saved yet, bound to present versions, and the versions it would pin.

        Raises:
            InvalidRequest: a rule's classifier does not exist or does not have a label; the field is named.
            ServiceError: text vectors could not be computed.
        """
        pins: dict[str, int] = {}
        found: dict[str, BoundClassifier] = {}
        references = [(f"rules.{index}.classifier", rule.classifier) for index, rule in enumerate(body.rules)]
        references += [(f"attributes.{index}", reference) for index, reference in enumerate(body.attributes)]
        for where, reference in references:
            name, _ = split_reference(reference)
            try:
                classifier = await self.classifier(reference, deadline)
            except NotFound:
                raise InvalidRequest(
                    f"Field “{where}” names the classifier “{reference}”, which does not exist."
                ) from None
            if pins.setdefault(name, classifier.version) != classifier.version:
                raise InvalidRequest(f"Field “{where}” names another version of “{name}” than a rule before it.")
            found[name] = classifier
        return bind(name, 0, self._manifest.bundle_id, body, found), pins

    async def _bind_policy(self, row: Version, pinned: Mapping[str, Version], deadline: Deadline) -> BoundPolicy:
        classifiers = {name: await self.bind_classifier(version, deadline) for name, version in pinned.items()}
        return bind(row.name, row.number, row.bundle_id or "", read_policy(row.body), classifiers)

    async def _row(self, kind: Kind, name: str, number: int | None) -> Version:
        try:
            row = await self._store.read(kind, name, number)
        except StoreUnavailable:
            self._note_lost()
            raise StorageUnavailable("The store cannot be reached; only what is in force is served.") from None
        if row is None:
            shown = name if number is None else f"{name}@{number}"
            raise NotFound(f"There is no {kind} “{shown}”.")
        if number is None and not row.active:
            raise NotFound(f"Of the {kind} “{name}” there are drafts only; name one as {name}@{row.number}.")
        return row

    def _note_lost(self) -> None:
        if not self.store_lost:
            self._log.warning("store unavailable; what is in force goes on serving")
        self.store_lost = True


def bind(
    name: str, number: int, bundle_id: str, body: Policy, classifiers: Mapping[str, BoundClassifier]
) -> BoundPolicy:
    """Return a policy with its classifiers, by name; 0 is the number of one that is not saved.

    Raises:
        InvalidRequest: a rule names a label that its classifier does not have.
    """
    rules = []
    uncalibrated = False
    for index, rule in enumerate(body.rules):
        classifier = classifiers[split_reference(rule.classifier)[0]]
        for position, label in enumerate(rule.labels):
            if label not in classifier.matrix.labels:
                raise InvalidRequest(
                    f"Field “rules.{index}.labels.{position}” names the label “{label}”, which “{classifier.key}” does "
                    "not have."
                )
            uncalibrated |= classifier.calibrations[classifier.matrix.labels.index(label)] is None
        aggregate = rule.aggregate or ("sum" if classifier.matrix.mode == "softmax" else "max")
        rules.append(BoundRule(rule, classifier.key, aggregate))
    return BoundPolicy(
        name=name,
        version=number,
        bundle_id=bundle_id,
        views=body.views,
        rules=tuple(rules),
        attributes=tuple(classifiers[split_reference(reference)[0]].key for reference in body.attributes),
        classifiers={classifier.key: classifier for classifier in classifiers.values()},
        openai_categories={category: tuple(names) for category, names in body.openai_categories.items()},
        uncalibrated=uncalibrated,
    )


def read_classifier(body: dict[str, Any]) -> Classifier:
    """Return a stored body as a classifier.

    Raises:
        InvalidRequest: it was stored by a version of this program that knew other fields.
    """
    try:
        return Classifier.model_validate(body)
    except ValidationError:
        raise InvalidRequest("The stored classifier is not of a form this version reads; save it again.") from None


def read_policy(body: dict[str, Any]) -> Policy:
    """Return a stored body as a policy.

    Raises:
        InvalidRequest: as ``read_classifier``.
    """
    try:
        return Policy.model_validate(body)
    except ValidationError:
        raise InvalidRequest("The stored policy is not of a form this version reads; save it again.") from None


def mismatch(row: Version, manifest: Manifest) -> PolicyModelMismatch:
    """Return the error of a policy that was saved for another bundle."""
    return PolicyModelMismatch(
        f"Policy “{row.name}@{row.number}” was saved for bundle {row.bundle_id}; this service runs "
        f"{manifest.bundle_id} ({manifest.model.id}). Look at its thresholds and save it again for this model."
    )
