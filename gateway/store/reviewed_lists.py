"""The hash lists that reviewers' verdicts keep, in the transaction of the verdict.

A list that a verdict names is made on first use. The file's SHA-256 goes there, and leaves every list that verdicts to
the contrary put it on, so that the last verdict counts. An image that is blocked without a list being named is also put
on a list by its PDQ hash, where one was kept that may be matched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy import Row, update

from gateway.store import audit
from gateway.store.audit import Actor
from gateway.store.database import Transaction
from gateway.store.list_entries import add_rows, changed, locked, state_of, take_out, unknown
from gateway.store.schema import lists

REVIEWED: Final[Mapping[str, str]] = {"allow": "reviewed-allow", "block": "reviewed-block"}
REVIEWED_NEAR: Final = "reviewed-block-pdq"
MAX_DISTANCE: Final = 31
"""Bits of 256 that may differ: what PDQ's authors recommend, and a list's default."""

Action = Literal["allow", "block"]


@dataclass
class ListUnfit(Exception):
    """A verdict names a list that says something else, or whose hashes are not SHA-256."""

    name: str
    action: str
    kind: str


@dataclass(frozen=True, slots=True)
class ReviewedImage:
    """An image by its hashes, in hex; ``pdq`` is None where it may not be matched."""

    sha256: str
    pdq: str | None


@dataclass(frozen=True, slots=True)
class ListEffects:
    """What a verdict did to lists: those that the image is on for it, and the hashes put on and taken off, in hex."""

    on: tuple[str, ...] = ()
    added: tuple[tuple[str, str], ...] = ()
    removed: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> ListEffects:
        """Return what was kept as JSON."""
        pairs = (tuple((name, entry) for name, entry in kept[part]) for part in ("added", "removed"))
        return cls(tuple(kept["on"]), *pairs)

    def behind(self, earlier: ListEffects) -> ListEffects:
        """Return what this verdict would have done had the earlier one not been."""
        added = [*self.added, *earlier.added]
        removed = [*self.removed, *earlier.removed]
        return ListEffects(
            self.on,
            tuple(pair for pair in added if pair not in removed),
            tuple(pair for pair in removed if pair not in added),
        )


async def put_on_list(
    tx: Transaction, image: ReviewedImage, action: Action, name: str | None, contrary: Iterable[str], *, actor: Actor
) -> ListEffects:
    """Put an image on the list of a verdict, and take it off those of contrary ones; return what changed.

    Args:
        tx: of the verdict.
        image: that was judged.
        action: the verdict.
        name: of a list; None for the one that all such verdicts share.
        contrary: lists that earlier verdicts to the contrary named.
        actor: who judged.

    Raises:
        ListUnfit: the list of this name is of another action or kind.
    """
    target = name or REVIEWED[action]
    wanted = {target: ("sha256", image.sha256)}
    left = {*contrary, REVIEWED["block" if action == "allow" else "allow"]} - {target}
    if action == "allow":
        left.add(REVIEWED_NEAR)
    elif name is None and image.pdq is not None:
        wanted[REVIEWED_NEAR] = ("pdq", image.pdq)
    created = [made for made, (kind, _) in wanted.items() if await _created(tx, made, action, kind)]
    rows = {
        each: await locked(tx, each) for each in sorted({*wanted, *left})
    }  # in one order, so that none waits for all
    for each in created:
        rows[each] = await _begun(tx, rows[each], actor)
    added = [
        (each, entry)
        for each, (kind, entry) in wanted.items()
        if await _put(tx, rows[each], action, kind, bytes.fromhex(entry), actor=actor)
    ]
    removed = []
    for each in sorted(left):
        gone = rows[each]
        if gone is None or gone.action == action:
            continue
        former = image.sha256 if gone.kind == "sha256" else image.pdq
        if former is not None and await take_out(tx, gone, [[bytes.fromhex(former)]], actor=actor):
            removed.append((each, former))
    return ListEffects(tuple(wanted), tuple(added), tuple(removed))


async def take_back(tx: Transaction, effects: ListEffects, *, actor: Actor) -> None:
    """Undo what a verdict did to lists; one that was deleted since is passed over."""
    rows = {name: await locked(tx, name) for name in sorted({name for name, _ in effects.added + effects.removed})}
    for name, entry in effects.added:
        if (row := rows[name]) is not None:
            await take_out(tx, row, [[bytes.fromhex(entry)]], actor=actor)
    for name, entry in effects.removed:
        row = rows[name]
        if row is not None and (new := await unknown(tx, await state_of(tx, row), [bytes.fromhex(entry)])):
            await add_rows(tx, row.id, [new])
            await changed(tx, row, [new], len(new), actor=actor, action="add_entries")


async def _created(tx: Transaction, name: str, action: Action, kind: str) -> bool:
    row = {"action": action, "kind": kind, "max_distance": MAX_DISTANCE}
    made = tx.insert_new(lists).values(name=name, entries=0, revision=0, **row).returning(lists.c.id)
    return (await tx.execute(made)).scalar_one_or_none() is not None


async def _begun(tx: Transaction, row: Row[Any] | None, actor: Actor) -> Row[Any] | None:
    """Note that a list was made; return its row."""
    assert row is not None  # noqa: S101 - made in this transaction
    detail = {name: getattr(row, name) for name in ("action", "kind", "max_distance")}
    revision = await audit.record(tx, actor=actor, action="put", kind="list", name=row.name, detail=detail)
    await tx.execute(update(lists).where(lists.c.id == row.id).values(revision=revision, logged_since=revision))
    return await locked(tx, row.name)


async def _put(tx: Transaction, row: Row[Any] | None, action: Action, kind: str, entry: bytes, *, actor: Actor) -> bool:
    """Put an entry on a list; return whether it is new there."""
    assert row is not None  # noqa: S101 - locked in this transaction
    if (row.action, row.kind) != (action, kind):
        raise ListUnfit(row.name, row.action, row.kind)
    new = await unknown(tx, await state_of(tx, row), [entry])
    if new:
        await add_rows(tx, row.id, [new])
        await changed(tx, row, [new], len(new), actor=actor, action="add_entries")
    return bool(new)
