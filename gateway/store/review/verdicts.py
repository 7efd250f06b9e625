"""What reviewers decide: verdicts, verdicts taken back, and appeals, each with all that it changes in one transaction.

Rows are locked in one order everywhere: the decision, its case, hash lists.
"""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from sqlalchemy import Row, delete, insert, select, update

from gateway.store import audit
from gateway.store.audit import Actor, Detail
from gateway.store.database import Database, Repository, Transaction, writes
from gateway.store.review.cases import ANONYMOUS, UNCLAIMED, CaseRecord, CaseTaken, read_case
from gateway.store.review.feedback import Feedback
from gateway.store.review.new_cases import AUDIT, new_case
from gateway.store.review.outbox import enqueue
from gateway.store.review.tables import review_cases, review_skips
from gateway.store.reviewed_lists import ListEffects, ReviewedImage, put_on_list, take_back
from gateway.store.schema import decisions, feedback

Agreement = Literal["agreed", "overturned"]


@dataclass
class NotUndoable(Exception):
    """There is no verdict that this person can take back, or not any more."""


@dataclass(frozen=True, slots=True)
class Reviewed:
    """A verdict as it was kept.

    Attributes:
        verdict: that was given.
        image: that it is about.
        lists: hash lists that it put that on.
        state: of the case: ``waiting`` for a second opinion, else ``closed``.
        reason: why the case waited; None where none did.
        agreement: whether the verdict says what was said before it: the policy, or of an appeal and a second opinion
            the verdict that held. None of a repeated one.
    """

    verdict: Feedback
    image: ReviewedImage
    lists: tuple[str, ...]
    state: Literal["waiting", "closed"] = "closed"
    reason: str | None = None
    agreement: Agreement | None = None


class Verdicts(Repository):
    """What people say of decisions.

    Args:
        database: where it is kept.
        tell: put verdicts, appeals and undos into the outbox of webhooks.
        lease_s: of the claim that an undo gives.
        undo_s: how long a verdict can be taken back.
    """

    def __init__(
        self, database: Database, *, tell: bool = False, lease_s: float = 300.0, undo_s: float = 600.0
    ) -> None:
        super().__init__(database)
        self._tell = tell
        self._lease_s = lease_s
        self._undo_s = undo_s

    @writes
    async def give(
        self,
        tx: Transaction,
        verdict: Feedback,
        *,
        actor: Actor,
        add_to_list: bool = False,
        token: str | None = None,
        second_opinion: bool = False,
    ) -> Reviewed | None:
        """Keep a verdict, which is the decision's outcome from now on; None if there is no such decision.

        It closes the decision's case. Given under a claim it may be repeated, and is kept once; another one under that
        claim, or the same after it was taken back, is refused.

        Args:
            tx: of the verdict and of its changes of lists.
            verdict: to keep; its ``list`` None means the list that all such verdicts share.
            actor: for the audit.
            add_to_list: put the image on the list.
            token: of the claim; None: whoever has claimed the case loses it.
            second_opinion: leave the case open for another person.

        Raises:
            CaseTaken: somebody else has claimed the case, or it is decided.
            ListUnfit: the list is of another action or kind.
        """
        row = await _locked(tx, verdict.decision_id)
        if row is None:
            return None
        image = ReviewedImage(row.image_sha256, row.image_pdq if row.detail.get("near_matching") else None)
        case = await _locked_case(tx, verdict.decision_id)
        if token is not None:
            if (given := await _given_under(tx, verdict.decision_id, token)) is not None:
                kept, lists = given
                if not _repeats(verdict, kept):
                    raise CaseTaken
                return Reviewed(kept, image, lists, "closed" if case is None or case.closed_at else "waiting")
            if case is None or case.closed_at is not None or case.token != token:
                raise CaseTaken
            if verdict.reviewer is None and case.claimed_by != (verdict.key or ANONYMOUS):
                verdict = replace(verdict, reviewer=case.claimed_by)
        effects = ListEffects()
        if add_to_list and verdict.decision is not None:
            contrary = await _contrary(tx, image, verdict)
            effects = await put_on_list(tx, image, verdict.decision, verdict.list, contrary, actor=actor)
            verdict = replace(verdict, list=effects.on[0])
        waited = case is not None and case.closed_at is None
        reason = case.reason if case is not None and waited else None
        before = {
            "outcome": row.outcome,
            "reviewed_at": row.reviewed_at and row.reviewed_at.isoformat(),
            "reviewed_by": row.reviewed_by,
            "reviewer": row.reviewer,
            "reason": reason,
            "lists": asdict(effects),
        }
        await tx.execute(insert(feedback).values(**asdict(verdict), token=token, before=before))
        who = {"reviewed_at": verdict.at, "reviewed_by": verdict.key, "reviewer": verdict.reviewer}
        mine = decisions.c.id == verdict.decision_id
        await tx.execute(update(decisions).where(mine).values(outcome=verdict.decision, **who))
        if case is not None:
            await _settle(tx, verdict, second_opinion=second_opinion)
        detail: Detail = {"decision": verdict.decision, "categories": verdict.categories}
        detail |= {"reviewer": verdict.reviewer} if verdict.reviewer else {}
        detail |= {"lists": list(effects.on)} if effects.on else {}
        await audit.note(tx, actor=actor, action="feedback", kind="decision", name=verdict.decision_id, detail=detail)
        await self._told(tx, "review.verdict", row, verdict, outcome=verdict.decision)
        state: Literal["waiting", "closed"] = "waiting" if second_opinion and case is not None else "closed"
        return Reviewed(verdict, image, effects.on, state, reason, _agreement(row, reason, verdict))

    @writes
    async def undo(self, tx: Transaction, decision_id: str, who: str, *, actor: Actor, key: str | None) -> CaseRecord:
        """Take back a person's own verdict: outcome and hash lists are as before it, and the case is theirs again.

        It has to come by the API key that the verdict came by, since names are free to choose, and verdicts change
        lists.

        Raises:
            NotUndoable: somebody else's word came last, somebody else has the case, or it is too late.
        """
        row, case = await _locked(tx, decision_id), await _locked_case(tx, decision_id)
        now = datetime.now(UTC)
        of_it = select(feedback).where(feedback.c.decision_id == decision_id, feedback.c.kind != "undo")
        of_it = of_it.where(~feedback.c.undone).order_by(feedback.c.id.desc()).limit(1)
        last = (await tx.execute(of_it.with_for_update())).first()
        if row is None or case is None or last is None or last.kind != "verdict" or last.before is None:
            raise NotUndoable
        taken = case.closed_at is None and case.claimed_until is not None and case.claimed_until > now
        others = (last.reviewer or last.key or ANONYMOUS, last.key) != (who, key)
        if others or taken or last.at < now - timedelta(seconds=self._undo_s):
            raise NotUndoable
        before: dict[str, Any] = last.before
        await _take_back(tx, last.id, row.image_sha256, ListEffects.of(before["lists"]), actor)
        reviewed_at = before["reviewed_at"] and datetime.fromisoformat(before["reviewed_at"])
        restored = {name: before[name] for name in ("outcome", "reviewed_by", "reviewer")}
        mine = decisions.c.id == decision_id
        await tx.execute(update(decisions).where(mine).values(reviewed_at=reviewed_at, **restored))
        await tx.execute(update(feedback).where(feedback.c.id == last.id).values(undone=True))
        undo = Feedback(decision_id, now, None, [], "", key, None if who == (key or ANONYMOUS) else who, kind="undo")
        await tx.execute(insert(feedback).values(**asdict(undo)))
        claim = {
            "claimed_by": who,
            "claimed_at": now,
            "claimed_until": now + timedelta(seconds=self._lease_s),
            "token": secrets.token_urlsafe(24),
        }
        opened = {"closed_at": None, "reason": before["reason"] or case.reason, **claim}
        await tx.execute(update(review_cases).where(review_cases.c.decision_id == decision_id).values(**opened))
        await audit.note(tx, actor=actor, action="undo", kind="decision", name=decision_id, detail={"reviewer": who})
        await self._told(tx, "review.undo", row, undo, outcome=before["outcome"])
        return await _there(tx, decision_id)

    @writes
    async def appeal(self, tx: Transaction, appeal: Feedback, *, actor: Actor) -> CaseRecord | None:
        """Open or reopen a decision's case; None if there is no such decision. Its outcome stays until a verdict."""
        row, case = await _locked(tx, appeal.decision_id), await _locked_case(tx, appeal.decision_id)
        if row is None:
            return None
        await tx.execute(insert(feedback).values(**asdict(appeal)))
        if case is None:
            await tx.execute(insert(review_cases).values(**{**new_case(row), **_reopened(appeal)}))
        else:
            values = {"reason": "appeal"} if case.closed_at is None else {**_reopened(appeal), **UNCLAIMED}
            mine = review_cases.c.decision_id == appeal.decision_id
            await tx.execute(update(review_cases).where(mine).values(**values))
        await audit.note(tx, actor=actor, action="appeal", kind="decision", name=appeal.decision_id, detail={})
        await self._told(tx, "review.appeal", row, appeal, outcome=row.outcome)
        return await _there(tx, appeal.decision_id)

    async def _told(self, tx: Transaction, event: str, row: Row[Any], said: Feedback, *, outcome: str | None) -> None:
        if not self._tell:
            return
        data = {
            "decision_id": row.id,
            "external_id": row.external_id,
            "image_sha256": row.image_sha256,
            "policy": {"name": row.policy, "version": row.policy_version},
            "decision": row.decision,
            "outcome": outcome,
            "categories": said.categories,
            "reason": said.reason,
            "reviewer": said.reviewer,
            "at": said.at.isoformat(),
        }
        await enqueue(tx, event, data, row.image_sha256)


async def _locked(tx: Transaction, decision_id: str) -> Row[Any] | None:
    columns = [column for column in decisions.c if column is not decisions.c.vectors]
    return (await tx.execute(select(*columns).where(decisions.c.id == decision_id).with_for_update())).one_or_none()


async def _locked_case(tx: Transaction, decision_id: str) -> Row[Any] | None:
    asked = select(review_cases).where(review_cases.c.decision_id == decision_id)
    return (await tx.execute(asked.with_for_update())).one_or_none()


async def _there(tx: Transaction, decision_id: str) -> CaseRecord:
    found = await read_case(tx, decision_id)
    assert found is not None  # noqa: S101 - locked in this transaction
    return found


async def _given_under(tx: Transaction, decision_id: str, token: str) -> tuple[Feedback, tuple[str, ...]] | None:
    """Return the verdict that was given under a claim, and the lists that it put the image on."""
    mine = select(feedback).where(feedback.c.decision_id == decision_id, feedback.c.token == token)
    row = (await tx.execute(mine)).mappings().first()
    if row is None:
        return None
    return Feedback(**{name: row[name] for name in Feedback.__dataclass_fields__}), tuple(row["before"]["lists"]["on"])


def _repeats(verdict: Feedback, kept: Feedback) -> bool:
    said = ("decision", "categories", "note", "reason")
    return kept.stands and all(getattr(verdict, name) == getattr(kept, name) for name in said)


async def _take_back(tx: Transaction, number: int, sha256: str, effects: ListEffects, actor: Actor) -> None:
    """Undo what a verdict did to lists; where a later one about the same file stands, that has done it instead."""
    later = select(feedback.c.id, feedback.c.before).join(decisions, decisions.c.id == feedback.c.decision_id)
    later = later.where(decisions.c.image_sha256 == sha256, feedback.c.id > number, feedback.c.list.is_not(None))
    later = later.where(~feedback.c.undone).order_by(feedback.c.id).limit(1)
    heir = (await tx.execute(later.with_for_update(of=feedback))).one_or_none()
    if heir is None or not (effects.added or effects.removed):
        await take_back(tx, effects, actor=actor)
        return
    lists = asdict(ListEffects.of(heir.before["lists"]).behind(effects))
    mine = feedback.c.id == heir.id
    await tx.execute(update(feedback).where(mine).values(before={**heir.before, "lists": lists}))


async def _settle(tx: Transaction, verdict: Feedback, *, second_opinion: bool) -> None:
    mine = review_cases.c.decision_id == verdict.decision_id
    done: dict[str, Any] = {"closed_at": verdict.at}
    if second_opinion:
        done = {"closed_at": None, "reason": "second_opinion"}
    await tx.execute(update(review_cases).where(mine).values(**done, **UNCLAIMED))
    await tx.execute(delete(review_skips).where(review_skips.c.decision_id == verdict.decision_id))


async def _contrary(tx: Transaction, image: ReviewedImage, verdict: Feedback) -> set[str]:
    """Return the lists that verdicts to the contrary put an image on."""
    of_it = select(feedback.c.list).join(decisions, decisions.c.id == feedback.c.decision_id).distinct()
    of_it = of_it.where(decisions.c.image_sha256 == image.sha256, feedback.c.list.is_not(None))
    return set((await tx.execute(of_it.where(feedback.c.decision != verdict.decision))).scalars())


def _reopened(appeal: Feedback) -> dict[str, Any]:
    return {"reason": "appeal", "opened_at": appeal.at, "closed_at": None}


def _agreement(row: Row[Any], reason: str | None, verdict: Feedback) -> Agreement:
    held = "allow" if row.decision == "allow" or AUDIT in row.detail.get("warnings", ()) else "block"
    if reason in {"appeal", "second_opinion"} and row.reviewed_at is not None:
        held = row.outcome
    return "agreed" if verdict.decision == held else "overturned"
