"""Rows of kept stills, on both databases: what is due, what is held, and what goes with its decision."""

from __future__ import annotations

from datetime import timedelta

from gateway.store.audit import Actor, AuditFilter
from gateway.store.review.images import ImageRows, ReviewImage
from gateway.store.review.legal_holds import LegalHold, LegalHolds
from tests.support.stores import NOON, Store, decision

pytest_plugins = ["tests.support.store_fixtures"]

ME = Actor("me")
LATER = NOON + timedelta(days=30)


def row(number: int, external_id: str | None = None) -> ReviewImage:
    return ReviewImage(f"{number:032x}", external_id, NOON, 64, 48, [{"frame_ms": None, "background": None}])


def ids(rows: tuple[ReviewImage, ...]) -> list[int]:
    return [int(found.decision_id, 16) for found in rows]


async def test_what_is_due_is_found_and_what_is_held_or_gone_is_told_apart(store: Store) -> None:
    rows, holds = ImageRows(store.database), LegalHolds(store.database)
    named = {1: "judged", 2: "held", 3: "waits"}
    await store.decisions.append([decision(number, external_id=name) for number, name in named.items()])
    await rows.begin([*(row(number, name) for number, name in named.items()), row(4, "gone"), row(5)])
    await rows.finish([f"{number:032x}" for number in range(1, 5)], NOON)
    await holds.put(LegalHold("held", NOON, "a case", None), actor=ME)
    assert ids(await rows.due(10, reviewed_before=LATER, begun_before=NOON)) == [4, 5], "no decision"
    assert await rows.kept(10, "") == tuple(f"{number:032x}" for number in (1, 3, 4, 5))
    assert (ids(await rows.kept_for("judged", 10)), await rows.kept_for("held", 10)) == ([1], ())
    found = await rows.read(f"{3:032x}")
    assert found is not None
    assert (found.state, found.width, found.stills) == ("kept", 64, row(3).stills)
    names = [f"{number:032x}" for number in (3, 4, 9)]
    assert await rows.without_stills(names) == {f"{9:032x}"}

    for number in (3, 4):
        for _ in range(2):
            await rows.note_deleted(f"{number:032x}", LATER, actor=ME)
    assert len(await store.audit.latest(10, AuditFilter(action="delete", kind="review_image"))) == 2
    await rows.remove_orphans()
    assert await rows.read(f"{4:032x}") is None
    left = await rows.read(f"{3:032x}")
    assert left is not None
    assert left.state == "deleted"
    assert await rows.without_stills(names) == set(names)
