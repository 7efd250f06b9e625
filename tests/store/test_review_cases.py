"""The review queue on both databases: who gets which case, and what is kept of what they say."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.store.audit import Actor
from gateway.store.database import Transaction
from gateway.store.review import verdicts as verdicts_module
from gateway.store.review.cases import CaseFilter, CaseRecord, Cases, CaseTaken, ClaimRules
from gateway.store.review.feedback import Feedback
from gateway.store.review.legal_holds import LegalHold, LegallyHeld
from gateway.store.review.verdicts import NotUndoable, Verdicts
from tests.support.stores import NOON, Store, decision, fired, opened

pytest_plugins = ["tests.support.store_fixtures"]

ME = Actor("me")
ANY = CaseFilter()


def waiting(number: int, score: float = 0.9, **changed: Any) -> Any:
    entry = {"category": "gore", "score": score, "decision": "review", "review_at": 0.5, "block_at": 0.95}
    detail = {"categories": [entry], "warnings": [], "key": "shop"}
    return decision(number, **{"decision": "review", "detail": detail, **changed})


def said(case: CaseRecord | str, verdict: Any = "block", **changed: Any) -> Feedback:
    name = case if isinstance(case, str) else case.decision.id
    return Feedback(name, datetime.now(UTC), verdict, [], "", **{"reviewer": "ann", **changed})


async def claimed(store: Store, who: str = "ann", order: Any = "oldest", wanted: CaseFilter = ANY) -> CaseRecord:
    found = await store.cases.claim(who, order, wanted)
    assert found is not None
    return found


async def test_what_waits_and_in_which_order(store: Store) -> None:
    audit = {"categories": [], "warnings": ["audit"]}
    await store.decisions.append(
        [waiting(1, 0.55), waiting(2, 0.94), waiting(3, 0.7), waiting(4, detail=audit), decision(5, decision="block")]
    )
    await store.decisions.append([waiting(1, 0.55)])  # a log may be repeated

    async def order(order: Any, limit: int = 2) -> list[int]:
        found: list[int] = []
        cursor: str | None = None
        while True:
            page = await store.cases.page(ANY, order, limit=limit, cursor=cursor)
            found += [int(case.decision.id, 16) for case in page.cases]
            cursor = page.next_cursor
            if cursor is None:
                return found

    assert await order("oldest") == [1, 2, 3, 4]
    assert await order("riskiest") == await order("riskiest", 50) == [2, 3, 1, 4]
    assert await order("uncertain") == [2, 1, 3, 4]
    first = await store.cases.page(ANY, "oldest", limit=1)
    for other in ("riskiest", "uncertain"):
        with pytest.raises(ValueError, match="cursor"):
            await store.cases.page(ANY, other, limit=1, cursor=first.next_cursor)
    for broken in ("", "!", "AAAA", "b2xkZXN0IDIwMjYgYQ"):
        with pytest.raises(ValueError, match="cursor"):
            await store.cases.page(ANY, "oldest", limit=1, cursor=broken)
    assert (await claimed(store, order="riskiest")).decision.id == decision(2).id
    counts = await store.cases.counts()
    assert (counts.waiting, counts.claimed, counts.oldest_at) == (3, 1, decision(1).at)


async def test_filters(store: Store) -> None:
    other = {**waiting(1).detail, "key": "forum"}
    await store.decisions.append([waiting(1), waiting(2, policy="strict"), waiting(3, detail=other), waiting(4)])
    await store.decisions.append([decision(5, decision="review", detail=fired(nudity="review"))])

    async def found(**wanted: Any) -> list[int]:
        page = await store.cases.page(CaseFilter(**wanted), "oldest", limit=50)
        return [int(case.decision.id, 16) for case in page.cases]

    assert await found(policy="strict") == [2]
    assert await found(key="forum") == [3]
    assert await found(category="nudity") == [5]
    first = await claimed(store)
    assert await found(state="claimed") == [1]
    assert await found(state="waiting") == [2, 3, 4, 5]
    assert await found() == [1, 2, 3, 4, 5]
    await store.verdicts.give(said(first), actor=ME, token=first.token)
    assert await found(state="closed") == [1]
    assert (await claimed(store, wanted=CaseFilter(category="nudity"))).decision.id == decision(5).id


async def test_claims_at_once_never_share_a_case(database_url: str) -> None:
    """Two gateways, ten people: each case goes to one of them."""
    async with opened(database_url) as first, opened(database_url) as second:
        await first.decisions.append([waiting(number) for number in range(60)])
        rules = ClaimRules(300, 900, claims=100)
        stores = [Cases(first.database, rules), Cases(second.database, rules)]

        async def work(person: int) -> list[str]:
            mine = []
            while (case := await stores[person % 2].claim(f"person {person}", "oldest", ANY)) is not None:
                mine.append(case.decision.id)
            return mine

        found = await asyncio.gather(*(work(person) for person in range(10)))
        every = [name for names in found for name in names]
        assert sorted(every) == sorted(decision(number).id for number in range(60))


async def test_a_lease_ends(store: Store) -> None:
    await store.decisions.append([waiting(1)])
    short = Cases(store.database, ClaimRules(lease_s=0.2, skip_s=900, claims=3))
    mine = await short.claim("ann", "oldest", ANY)
    assert mine is not None
    assert await store.cases.claim("bo", "oldest", ANY) is None
    await asyncio.sleep(0.3)
    seen = await store.cases.read(mine.decision.id)
    assert seen is not None
    assert seen.state == "waiting"
    theirs = await claimed(store, "bo")
    assert theirs.token != mine.token
    assert mine.token is not None
    for lost in (
        store.verdicts.give(said(mine), actor=ME, token=mine.token),
        store.cases.extend(mine.decision.id, mine.token),
        store.cases.release(mine.decision.id, mine.token, skip=False),
    ):
        with pytest.raises(CaseTaken):
            await lost
    assert (await store.verdicts.give(said(theirs, "allow"), actor=ME, token=theirs.token)) is not None


async def test_a_late_verdict_counts_while_nobody_else_has_the_case(store: Store) -> None:
    await store.decisions.append([waiting(1)])
    mine = await Cases(store.database, ClaimRules(0.05, 900, 3)).claim("ann", "oldest", ANY)
    assert mine is not None
    await asyncio.sleep(0.1)
    kept = await store.verdicts.give(said(mine), actor=ME, token=mine.token)
    assert kept is not None
    assert (kept.state, kept.agreement) == ("closed", "agreed")


async def test_a_verdict_is_kept_exactly_once(store: Store) -> None:
    await store.decisions.append([waiting(1)])
    mine = await claimed(store)
    kept = await asyncio.gather(
        *(store.verdicts.give(said(mine), actor=ME, token=mine.token, add_to_list=True) for _ in range(8))
    )
    assert len({repr((one.verdict, one.lists, one.state)) for one in kept if one is not None}) == 1
    found = await store.cases.read(mine.decision.id)
    assert found is not None
    assert [row.kind for row in found.feedback] == ["verdict"]


async def test_another_verdict_under_a_claim_is_refused_and_never_passed_over(store: Store) -> None:
    await store.decisions.append([waiting(1)])
    mine = await claimed(store)
    await store.verdicts.give(said(mine), actor=ME, token=mine.token)
    for other in (said(mine, "allow"), dataclasses.replace(said(mine), note="more"), said(mine, reason="gore")):
        with pytest.raises(CaseTaken):
            await store.verdicts.give(other, actor=ME, token=mine.token)
    await store.verdicts.undo(mine.decision.id, "ann", actor=ME, key=None)
    with pytest.raises(CaseTaken):
        await store.verdicts.give(said(mine), actor=ME, token=mine.token)


async def test_of_two_verdicts_one_wins(store: Store) -> None:
    """The short form and the claim at once: both are not kept as if each had decided the case."""
    await store.decisions.append([waiting(1)])
    mine = await claimed(store)
    short: Any
    long: Any
    short, long = await asyncio.gather(
        store.verdicts.give(said(mine, "allow", reviewer="bo"), actor=ME),
        store.verdicts.give(said(mine, "block"), actor=ME, token=mine.token),
        return_exceptions=True,
    )
    found = await store.cases.read(mine.decision.id)
    assert found is not None
    assert not isinstance(short, BaseException)
    if isinstance(long, CaseTaken):
        assert (found.decision.outcome, len(found.feedback)) == ("allow", 1)
    else:
        assert len(found.feedback) == 2
    assert found.state == "closed"


async def test_skipped_cases_come_back(store: Store) -> None:
    await store.decisions.append([waiting(1)])
    short = Cases(store.database, ClaimRules(lease_s=300, skip_s=0.2, claims=3))
    for _ in range(2):
        mine = await short.claim("ann", "oldest", ANY)
        assert mine is not None
        assert mine.token is not None
        await short.release(mine.decision.id, mine.token, skip=True)
        assert await short.claim("ann", "oldest", ANY) is None
        await asyncio.sleep(0.3)
    assert (await claimed(store, "bo")).decision.id == decision(1).id


async def test_a_second_opinion_never_goes_to_who_decided_first(store: Store) -> None:
    await store.decisions.append([waiting(1)])
    for who in ("ann", "bo"):
        mine = await claimed(store, who)
        await store.verdicts.give(said(mine, reviewer=who), actor=ME, token=mine.token, second_opinion=True)
    assert await store.cases.claim("ann", "oldest", ANY) is None
    assert await store.cases.claim("bo", "oldest", ANY) is None
    third = await claimed(store, "cy")
    kept = await store.verdicts.give(said(third, "allow", reviewer="cy"), actor=ME, token=third.token)
    assert kept is not None
    assert (kept.reason, kept.agreement) == ("second_opinion", "overturned")


async def test_who_took_the_first_opinion_back_may_give_the_second(store: Store) -> None:
    await store.decisions.append([waiting(1)])
    mine = await claimed(store)
    await store.verdicts.give(said(mine), actor=ME, token=mine.token, second_opinion=True)
    back = await store.verdicts.undo(mine.decision.id, "ann", actor=ME, key=None)
    await store.cases.release(mine.decision.id, back.token or "", skip=False)
    other = await claimed(store, "bo")
    await store.verdicts.give(said(other, reviewer="bo"), actor=ME, token=other.token, second_opinion=True)
    assert await store.cases.claim("ann", "oldest", ANY) is not None


async def test_the_reviewer_of_a_claim_is_that_of_its_verdict(store: Store) -> None:
    await store.decisions.append([waiting(1)])
    mine = await claimed(store, "ann")
    kept = await store.verdicts.give(said(mine, reviewer=None, key="console"), actor=ME, token=mine.token)
    assert kept is not None
    assert (kept.verdict.reviewer, kept.verdict.key) == ("ann", "console")


async def test_undo_leaves_all_as_it_was(store: Store) -> None:
    """An earlier verdict holds again, and both lists are as that one left them."""
    await store.decisions.append([waiting(1)])
    name = decision(1).id
    await store.verdicts.give(said(name, "allow", reviewer="bo"), actor=ME, add_to_list=True)
    await store.verdicts.appeal(said(name, None, kind="appeal"), actor=ME)
    mine = await claimed(store)
    await store.verdicts.give(said(mine), actor=ME, token=mine.token, add_to_list=True)

    async def entries() -> dict[str, int]:
        return {made.name: made.entries for made in await store.lists.every()}

    assert await entries() == {"reviewed-allow": 0, "reviewed-block": 1}
    with pytest.raises(NotUndoable):
        await store.verdicts.undo(name, "bo", actor=ME, key=None)
    back = await store.verdicts.undo(name, "ann", actor=ME, key=None)
    assert await entries() == {"reviewed-allow": 1, "reviewed-block": 0}
    assert (back.state, back.reason, back.claimed_by) == ("claimed", "appeal", "ann")
    assert (back.decision.outcome, back.decision.reviewer) == ("allow", "bo")
    assert [(row.kind, row.undone) for row in back.feedback] == [
        ("verdict", False),
        ("appeal", False),
        ("verdict", True),
        ("undo", False),
    ]
    with pytest.raises(NotUndoable):
        await store.verdicts.undo(name, "ann", actor=ME, key=None)
    again = await store.verdicts.give(said(back, "allow"), actor=ME, token=back.token)
    assert again is not None
    assert (await store.verdicts.undo(name, "ann", actor=ME, key=None)).decision.outcome == "allow"


@pytest.mark.parametrize("first", ["block", "allow"])
@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
async def test_undo_of_one_of_two_verdicts_on_a_file(store: Store, first: str, order: tuple[int, int]) -> None:
    """Two decisions of one file: lists follow the verdict that stands, and with both taken back they are empty."""
    await store.decisions.append([waiting(number, image_sha256="ab" * 32) for number in (1, 2)])
    verdicts = {1: first, 2: "block"}
    for number, verdict in verdicts.items():
        await store.verdicts.give(said(decision(number).id, verdict), actor=ME, add_to_list=True)

    async def listed() -> set[str]:
        return {made.name for made in await store.lists.every() if made.entries}

    assert await listed() == {"reviewed-block"}
    await store.verdicts.undo(decision(order[0]).id, "ann", actor=ME, key=None)
    assert await listed() == {f"reviewed-{verdicts[order[1]]}"}
    await store.verdicts.undo(decision(order[1]).id, "ann", actor=ME, key=None)
    assert await listed() == set()


async def test_a_verdict_is_taken_back_by_the_key_that_gave_it_alone(store: Store) -> None:
    await store.decisions.append([waiting(1)])
    mine = await claimed(store)
    await store.verdicts.give(said(mine, key="lead"), actor=ME, token=mine.token)
    with pytest.raises(NotUndoable):
        await store.verdicts.undo(mine.decision.id, "ann", actor=ME, key="other")
    assert await store.verdicts.undo(mine.decision.id, "ann", actor=ME, key="lead")


async def test_an_undo_may_be_too_late(store: Store) -> None:
    await store.decisions.append([waiting(1)])
    mine = await claimed(store)
    old = dataclasses.replace(said(mine), at=datetime.now(UTC) - timedelta(seconds=601))
    await store.verdicts.give(old, actor=ME, token=mine.token)
    with pytest.raises(NotUndoable):
        await store.verdicts.undo(mine.decision.id, "ann", actor=ME, key=None)


async def test_an_appeal_opens_a_case_of_any_decision(store: Store) -> None:
    await store.decisions.append([decision(1, decision="block")])
    assert await store.cases.read(decision(1).id) is None
    opened_case = await store.verdicts.appeal(said(decision(1).id, None, kind="appeal"), actor=ME)
    assert opened_case is not None
    assert (opened_case.state, opened_case.reason, opened_case.decision.outcome) == ("waiting", "appeal", "block")
    mine = await claimed(store)
    again = await store.verdicts.appeal(said(decision(1).id, None, kind="appeal"), actor=ME)
    assert again is not None
    assert again.token == mine.token, "who is at it goes on"
    assert await store.verdicts.appeal(said("nothing", None, kind="appeal"), actor=ME) is None


async def test_a_legal_hold_stops_deletion_by_id_and_by_age(store: Store) -> None:
    await store.decisions.append([waiting(1, external_id="a"), waiting(2, external_id="b"), waiting(3)])
    await store.legal_holds.put(LegalHold("a", NOON, "court", None), actor=ME)
    with pytest.raises(LegallyHeld):
        await store.decisions.forget("a", actor=ME)
    assert await store.decisions.expire(NOON + timedelta(days=1)) == 2
    held = await store.cases.read(decision(1).id)
    assert held is not None
    assert held.legal_hold
    assert await store.legal_holds.lift("a", actor=ME)
    assert await store.decisions.forget("a", actor=ME) == 1


async def test_forgetting_reaches_cases_notes_and_skips(store: Store) -> None:
    await store.decisions.append([waiting(1, external_id="a")])
    mine = await claimed(store)
    assert mine.token is not None
    await store.cases.release(mine.decision.id, mine.token, skip=True)
    await store.verdicts.give(dataclasses.replace(said(mine), note="a note"), actor=ME)
    await store.decisions.forget("a", actor=ME)
    assert await store.cases.read(mine.decision.id) is None
    assert await store.decisions.feedback_on([mine.decision.id]) == ()
    assert not any("a note" in repr(row) for row in await store.audit.latest(100))


async def test_webhooks_are_told_in_the_same_transaction(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[tuple[str, dict[str, Any], str]] = []

    async def enqueue(_: Transaction, event_type: str, data: dict[str, Any], order_key: str) -> None:
        events.append((event_type, data, order_key))

    monkeypatch.setattr(verdicts_module, "enqueue", enqueue)
    await store.decisions.append([waiting(1, external_id="a")])
    telling = Verdicts(store.database, tell=True)
    await telling.give(said(decision(1).id, reason="gore"), actor=ME)
    await telling.undo(decision(1).id, "ann", actor=ME, key=None)
    await telling.appeal(said(decision(1).id, None, kind="appeal"), actor=ME)
    await store.verdicts.give(said(decision(1).id), actor=ME)
    assert [(event, data["outcome"], key) for event, data, key in events] == [
        ("review.verdict", "block", decision(1).image_sha256),
        ("review.undo", "review", decision(1).image_sha256),
        ("review.appeal", "review", decision(1).image_sha256),
    ]
    assert events[0][1]["reason"] == "gore"
    assert events[0][1]["policy"] == {"name": "default", "version": 1}
