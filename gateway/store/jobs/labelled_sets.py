"""Labelled sets: of each image its labels and its vectors, by the SHA-256 of the file; never the image."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import Text, cast, delete, func, insert, select, update

from gateway.store import audit
from gateway.store.audit import Actor
from gateway.store.database import Repository, Transaction, reads, writes
from gateway.store.jobs.tables import labelled_images, labelled_sets

HARMLESS = "harmless"
Added = Literal["added", "updated", "full"]


class SetOfAnotherBundle(Exception):
    """The set's vectors are another bundle's; the text is its id."""


class TooManySets(Exception):
    """As many sets as allowed are there."""


@dataclass(frozen=True, slots=True)
class LabelledVectors:
    """An image of a set.

    Attributes:
        sha256: hex, of the file.
        labels: that are true of it; none: harmless.
        group: of images that belong together; None: by itself.
        slices: column → value.
        places: V, as JSON values.
        warnings: codes of what was not looked at.
        vectors: float32 little-endian bytes of [V, D].
    """

    sha256: str
    labels: list[str]
    group: str | None
    slices: dict[str, str]
    places: list[dict[str, Any]]
    warnings: list[str]
    vectors: bytes


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """A set.

    Attributes:
        name: of the set.
        description: for people.
        bundle_id: of its vectors; None of an empty set.
        created_at: UTC.
        images: how many.
        labels: label → images of it; ``harmless`` counts those without any.
    """

    name: str
    description: str
    bundle_id: str | None
    created_at: datetime
    images: int = 0
    labels: Counter[str] = field(default_factory=Counter)


COLUMNS = ("sha256", "labels", "group", "slices", "places", "warnings", "vectors")


class LabelledSets(Repository):
    """Sets and their images."""

    @writes
    async def put(self, tx: Transaction, name: str, description: str, most: int, *, actor: Actor) -> bool:
        """Make a set, or describe it anew; return whether it is new.

        Raises:
            TooManySets: there are ``most`` already.
        """
        await audit.lock_revision(tx)
        mine = labelled_sets.c.name == name
        if (await tx.execute(update(labelled_sets).where(mine).values(description=description))).rowcount:
            return False
        if (await tx.execute(select(func.count()).select_from(labelled_sets))).scalar_one() >= most:
            raise TooManySets
        made = {"name": name, "description": description, "created_at": datetime.now(UTC)}
        await tx.execute(insert(labelled_sets).values(**made))
        await audit.note(tx, actor=actor, action="put", kind="labelled_set", name=name, detail={})
        return True

    @reads
    async def all(self, tx: Transaction) -> list[LabelledSet]:
        """Return every set, by name."""
        return await _read(tx, None)

    @reads
    async def read(self, tx: Transaction, name: str) -> LabelledSet | None:
        """Return a set; None if there is none."""
        found = await _read(tx, name)
        return found[0] if found else None

    @writes
    async def delete(self, tx: Transaction, name: str, *, actor: Actor) -> bool:
        """Delete a set with its images; return whether it was there."""
        gone = (await tx.execute(delete(labelled_sets).where(labelled_sets.c.name == name))).rowcount
        if gone:
            await audit.note(tx, actor=actor, action="delete", kind="labelled_set", name=name, detail={})
        return bool(gone)

    @writes
    async def add(
        self,
        tx: Transaction,
        name: str,
        images: Sequence[LabelledVectors],
        *,
        bundle_id: str,
        most: int,
        actor: Actor,
    ) -> list[Added] | None:
        """Add images, or replace what is kept of those that are there; return what became of each. None: no such set.

        Raises:
            SetOfAnotherBundle: what is there was judged by another model.
        """
        mine = labelled_sets.c.name == name
        row = (await tx.execute(select(labelled_sets.c.bundle_id).where(mine).with_for_update())).one_or_none()
        if row is None:
            return None
        of_it = labelled_images.c.set_name == name
        count = int((await tx.execute(select(func.count()).select_from(labelled_images).where(of_it))).scalar_one())
        if count and row.bundle_id != bundle_id:
            raise SetOfAnotherBundle(row.bundle_id)
        asked = select(labelled_images.c.sha256).where(of_it)
        there = set((await tx.execute(asked.where(labelled_images.c.sha256.in_([i.sha256 for i in images])))).scalars())
        outcomes: list[Added] = []
        for image in images:
            values = {**asdict(image), "added_at": datetime.now(UTC)}
            if image.sha256 in there:
                outcomes.append("updated")
                this = labelled_images.c.sha256 == image.sha256
                await tx.execute(update(labelled_images).where(of_it, this).values(**values))
            elif count >= most:
                outcomes.append("full")
            else:
                outcomes.append("added")
                count += 1
                there.add(image.sha256)
                await tx.execute(insert(labelled_images).values(set_name=name, **values))
        await tx.execute(update(labelled_sets).where(mine).values(bundle_id=bundle_id))
        detail: audit.Detail = {**Counter(outcomes)}
        await audit.note(tx, actor=actor, action="add_images", kind="labelled_set", name=name, detail=detail)
        return outcomes

    @reads
    async def page(self, tx: Transaction, name: str, *, after: str, limit: int) -> list[LabelledVectors]:
        """Return images of a set in the order of their SHA-256, those behind ``after`` ("" at the begin)."""
        asked = select(*(labelled_images.c[column] for column in COLUMNS))
        asked = asked.where(labelled_images.c.set_name == name, labelled_images.c.sha256 > after)
        rows = await tx.execute(asked.order_by(labelled_images.c.sha256).limit(limit))
        return [LabelledVectors(**row) for row in rows.mappings()]


async def _read(tx: Transaction, name: str | None) -> list[LabelledSet]:
    asked = select(labelled_sets).order_by(labelled_sets.c.name)
    labels = cast(labelled_images.c.labels, Text).label("labels")  # as it was written: PostgreSQL cannot group JSON
    counted = select(labelled_images.c.set_name, labels, func.count().label("images")).group_by(
        labelled_images.c.set_name, labels
    )
    if name is not None:
        asked, counted = asked.where(labelled_sets.c.name == name), counted.where(labelled_images.c.set_name == name)
    images: Counter[str] = Counter()
    by_label: dict[str, Counter[str]] = {}
    for row in await tx.execute(counted):
        images[row.set_name] += row.images
        counts = by_label.setdefault(row.set_name, Counter())
        for label in json.loads(row.labels) or [HARMLESS]:
            counts[label] += row.images
    return [
        LabelledSet(**row, images=images[row["name"]], labels=by_label.get(row["name"], Counter()))
        for row in (await tx.execute(asked)).mappings()
    ]
