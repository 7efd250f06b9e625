"""What the store keeps, as values, and the protocol of a store. No SQL here, no HTTP here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

from gateway.store.audit_records import ANY_CHANGE, Actor, AuditFilter, AuditRow
from gateway.store.preconditions import UNCONDITIONAL, Precondition

Kind = Literal["classifier", "policy"]
Decision = Literal["allow", "review", "block"]
ListAction = Literal["block", "allow"]
ListKind = Literal["sha256", "pdq"]


class StoreUnavailable(Exception):
    """The database cannot be reached, is locked for too long, or is full. The store's only exception for outages."""


class DatabaseUnusable(ValueError):
    """The database is not one that this gateway can use; the text says why, without the address."""


class InUse(Exception):
    """A classifier that a policy's active version uses cannot be deleted; ``users`` names the policies."""

    def __init__(self, users: Sequence[str]) -> None:
        super().__init__(", ".join(users))
        self.users = tuple(users)


class PinMissing(Exception):
    """A policy pins classifier versions that are not there (any more); ``missing`` names them, as ``name@version``."""

    def __init__(self, missing: Sequence[str]) -> None:
        super().__init__(", ".join(missing))
        self.missing = tuple(missing)


@dataclass(frozen=True, slots=True)
class Version:
    """One immutable version of a classifier or policy.

    Attributes:
        kind: classifier or policy.
        name: of the resource.
        number: 1, 2, … without gaps. A number is never given out again: a resource that is deleted and made anew
            goes on behind its old numbers, so that ``name@3`` in a decision or a pin never means something else.
        body: what was saved, as JSON values.
        pins: of a policy: classifier name → version number; empty for a classifier.
        bundle_id: of a policy: the bundle it was saved for; None for a classifier.
        created_at: UTC.
        etag: strong, quoted, unique to this version's content and number.
        active: whether this is the version in force now.
    """

    kind: Kind
    name: str
    number: int
    body: dict[str, Any]
    pins: dict[str, int]
    bundle_id: str | None
    created_at: datetime
    etag: str
    active: bool


@dataclass(frozen=True, slots=True)
class Saved:
    """Outcome of a save: the version that now stands for the body, and whether it is new."""

    version: Version
    new: bool


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything in force at one moment: active versions of all resources, and versions that active policies pin.

    ``revision`` grows with every change of a classifier, policy or list.
    """

    revision: int
    versions: tuple[Version, ...]


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """One line of the decision log. Never holds a picture.

    Attributes:
        id: unique, sorts by time (UUIDv7-like hex or ULID).
        at: UTC.
        request_id: of the request it was part of.
        external_id: the client's own, or None.
        image_sha256: hex of the uploaded bytes.
        image_pdq: hex of the perceptual hash, or None where none was computed.
        policy: name.
        policy_version: number.
        bundle_id: of the models.
        decision: what was decided.
        categories: name → score, 0..1.
        detail: the result as answered (categories with evidence, attributes, warnings), and ``key``, the name of the
            API key or None; JSON values. The log's category filter reads ``detail["categories"]``: those whose
            ``decision`` is review or block have fired.
        vectors: float32 little-endian bytes of [V, D] image vectors, or None unless storing is switched on.
    """

    id: str
    at: datetime
    request_id: str
    external_id: str | None
    image_sha256: str
    image_pdq: str | None
    policy: str
    policy_version: int
    bundle_id: str
    decision: Decision
    categories: dict[str, float]
    detail: dict[str, Any]
    vectors: bytes | None = None


@dataclass(frozen=True, slots=True)
class Feedback:
    """A reviewer's verdict on a decision; several may be given, each is kept."""

    decision_id: str
    at: datetime
    decision: Literal["allow", "block"]
    categories: tuple[str, ...]
    note: str


@dataclass(frozen=True, slots=True)
class DecisionFilter:
    """Which decisions to read; None means any. ``since`` is inclusive, ``until`` exclusive.

    ``category`` means decisions in which it fired (reached review or block), not those in which it was only scored.
    ``with_vectors`` means decisions whose vectors were stored, and reads those; else vectors are left out.
    """

    since: datetime | None = None
    until: datetime | None = None
    policy: str | None = None
    policy_version: int | None = None
    decision: Decision | None = None
    category: str | None = None
    external_id: str | None = None
    with_vectors: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """Decisions, newest first, and the cursor of the next page (None at the end)."""

    records: tuple[DecisionRecord, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class PictureList:
    """A named list of hashes. ``max_distance`` is of bits, for PDQ only.

    ``entries`` and ``revision`` are the store's: how many hashes it holds, and the store's revision when the list last
    changed, by which a reader knows whether to read its entries again.
    """

    name: str
    action: ListAction
    kind: ListKind
    max_distance: int
    entries: int = 0
    revision: int = 0


@dataclass(frozen=True, slots=True)
class ListChanges:
    """What brings a reader of a list up to ``revision``: hashes to take out of what was read, and to put into it."""

    revision: int
    added: tuple[str, ...]
    removed: tuple[str, ...]


class Store(Protocol):
    """A database. Every method may raise StoreUnavailable; none waits longer than the store's timeout.

    Work in many steps (entries by the hundred thousand, deletion of a long log) has the timeout for each step. Behind a
    StoreUnavailable, a write may have happened or not; each of them may be repeated. Values that no database keeps
    (text with a NUL, a time without a zone, a number that is not one) raise ValueError.
    """

    async def save(
        self,
        kind: Kind,
        name: str,
        body: dict[str, Any],
        *,
        pins: dict[str, int],
        bundle_id: str | None,
        activate: bool,
        actor: Actor,
        precondition: Precondition = UNCONDITIONAL,
    ) -> Saved:
        """Keep a new version, or find that the latest one has the same body, pins and bundle (then nothing is new).

        A version with ``activate`` becomes the active one, another one is a draft, also the first of its name; an
        unchanged body with ``activate`` activates the latest. Concurrent saves each get a number of their own; none is
        lost.

        Raises:
            StaleWrite: the precondition does not hold of the latest version.
            PinMissing: a classifier version in ``pins`` is not there.
        """
        ...

    async def activate(
        self, kind: Kind, name: str, number: int, *, actor: Actor, precondition: Precondition = UNCONDITIONAL
    ) -> Version | None:
        """Make a version the active one; None if there is no such version.

        Raises:
            StaleWrite: the precondition holds neither of the latest version nor of the one in force.
            PinMissing: a classifier version that it pins was deleted.
        """
        ...

    async def read(self, kind: Kind, name: str, number: int | None) -> Version | None:
        """Return a version, or the active one for None (the latest where none is active)."""
        ...

    async def versions(self, kind: Kind, name: str) -> tuple[Version, ...]:
        """Return all versions, newest first."""
        ...

    async def names(self, kind: Kind) -> tuple[Version, ...]:
        """Return the active (or else latest) version of every resource, by name."""
        ...

    async def was_deleted(self, kind: Kind, name: str) -> bool:
        """Return whether a resource of this name was there, was deleted, and was not made anew."""
        ...

    async def delete(self, kind: Kind, name: str, *, actor: Actor, precondition: Precondition = UNCONDITIONAL) -> bool:
        """Delete a resource with all versions; False if there is none.

        Raises:
            InUse: a policy's active version pins the classifier.
            StaleWrite: the precondition does not hold of the latest version.
        """
        ...

    async def revision(self) -> int:
        """Return the current revision: cheap, polled."""
        ...

    async def lists_revision(self) -> int:
        """Return a number that grows with every change of a list or its entries: cheap, polled."""
        ...

    async def snapshot(self) -> Snapshot:
        """Return everything in force, consistently."""
        ...

    async def log(self, records: Sequence[DecisionRecord]) -> None:
        """Append decisions, all or none. One whose id is there already is passed over."""
        ...

    async def decisions(self, wanted: DecisionFilter, *, cursor: str | None, limit: int) -> Page:
        """Return a page of decisions, newest first.

        Raises:
            ValueError: the cursor is not one that a page gave.
        """
        ...

    async def decision(self, decision_id: str) -> tuple[DecisionRecord, tuple[Feedback, ...]] | None:
        """Return one decision with its feedback, oldest first."""
        ...

    async def add_feedback(self, feedback: Feedback, *, actor: Actor) -> bool:
        """Keep a verdict; False if there is no such decision."""
        ...

    async def forget(self, external_id: str, *, actor: Actor) -> int:
        """Delete all decisions of an external id with their feedback; return how many."""
        ...

    async def expire(self, before: datetime) -> int:
        """Delete decisions older than ``before``; return how many."""
        ...

    async def put_list(self, made: PictureList, *, actor: Actor, precondition: Precondition = UNCONDITIONAL) -> bool:
        """Create or change a list; True if it was created. ``made.entries`` and ``made.revision`` are not read.

        Raises:
            ValueError: the list exists and is of the other kind.
            StaleWrite: the precondition does not hold; so with the entries.
        """
        ...

    async def lists(self) -> tuple[PictureList, ...]:
        """Return all lists with their numbers of entries, by name."""
        ...

    async def add_entries(
        self, name: str, hashes: Sequence[str], *, actor: Actor, precondition: Precondition = UNCONDITIONAL
    ) -> int | None:
        """Add hashes, in hex, all or none; return how many were new, None if there is no such list.

        Many are written in steps, between which others write; they belong to the list from the last step on. Raises
        ValueError if one of them is not hex.
        """
        ...

    async def entries(self, name: str, *, after: str | None, limit: int) -> tuple[str, ...]:
        """Return hashes of a list, lower-case hex in ascending order, those behind ``after``."""
        ...

    async def list_changes(self, name: str, *, since: int) -> ListChanges | None:
        """Return what changed in a list's entries since a revision of it; None: not known any more, read it whole."""
        ...

    async def remove_entries(
        self, name: str, hashes: Sequence[str], *, actor: Actor, precondition: Precondition = UNCONDITIONAL
    ) -> int:
        """Remove hashes; return how many were there."""
        ...

    async def delete_list(self, name: str, *, actor: Actor, precondition: Precondition = UNCONDITIONAL) -> bool:
        """Delete a list with its entries; False if there is none."""
        ...

    async def check_writable(self) -> None:
        """Write something and leave everything as it was."""
        ...

    async def audit(
        self, limit: int, wanted: AuditFilter = ANY_CHANGE, *, before: int | None = None
    ) -> tuple[AuditRow, ...]:
        """Return the latest audit rows, newest first; those with numbers under ``before``."""
        ...

    async def close(self) -> None:
        """Give up all connections."""
        ...
