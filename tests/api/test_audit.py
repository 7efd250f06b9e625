"""The audit: a row for every change, in the change's own transaction, and its route."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from gateway.store.audit import Actor, AuditFilter
from gateway.store.database import Transaction
from gateway.store.lists import HashList
from gateway.store.outages import StoreUnavailable
from gateway.store.review.feedback import Feedback
from tests.auth.test_api_keys import ENTRIES, bearer
from tests.support.in_process_app import Web, is_problem, png
from tests.support.stores import NOON, Store, decision, save

pytest_plugins = ["tests.support.store_fixtures"]

ME = Actor("me", "request-1")
POLICY = {"rules": [{"category": "stars", "classifier": "stars", "labels": ["star"], "review_at": 0.5}]}
VERDICT = Feedback(decision(1).id, NOON, "block", ["gore"], "blood")


async def test_every_kind_of_change_leaves_a_row(store: Store) -> None:
    await store.decisions.append([decision(1, external_id="user-42"), decision(2, external_id="user-42")])
    await save(store, "cats", {}, actor=ME)
    await save(store, "cats", {"v": 2}, actor=ME, activate=False)
    await store.versions.activate("classifier", "cats", 2, actor=ME)
    await store.lists.put(HashList("bad", "block", "sha256", 0), actor=ME)
    await store.lists.add("bad", ["00" * 32], actor=ME)
    await store.lists.remove("bad", ["00" * 32], actor=ME)
    await store.lists.drop("bad", actor=ME)
    await store.versions.remove("classifier", "cats", actor=ME)
    revision = await store.versions.revision()
    await store.verdicts.give(VERDICT, actor=ME)
    await store.decisions.forget("user-42", actor=ME)
    assert await store.versions.revision() == revision, "nothing in force has changed"
    rows = await store.audit.latest(99)
    digest = hashlib.sha256(b"user-42").hexdigest()
    assert [(row.action, row.kind, row.name, row.version) for row in reversed(rows)] == [
        ("save", "classifier", "cats", 1),
        ("save", "classifier", "cats", 2),
        ("activate", "classifier", "cats", 2),
        ("put", "list", "bad", None),
        ("add_entries", "list", "bad", None),
        ("remove_entries", "list", "bad", None),
        ("delete", "list", "bad", None),
        ("delete", "classifier", "cats", None),
        ("feedback", "decision", decision(1).id, None),
        ("forget", "external_id", digest, None),
        ("forget", "external_id", digest, None),
    ]
    assert {(row.actor, row.request_id) for row in rows} == {("me", "request-1")}
    assert rows[0].detail == {"decisions": 2}
    assert [row.number for row in rows] == sorted((row.number for row in rows), reverse=True)


async def test_what_changes_nothing_leaves_none(store: Store) -> None:
    """But that somebody is to be forgotten does: a decision may wait for the store elsewhere."""
    assert not await store.verdicts.give(VERDICT, actor=ME)
    assert await store.decisions.forget("nobody", actor=ME) == 0
    assert not await store.versions.remove("classifier", "none", actor=ME)
    assert [(row.action, row.detail) for row in await store.audit.latest(9)] == [("forget", {})]


async def test_no_change_without_a_row(store: Store) -> None:
    """The audit cannot be written to: neither is anything else."""

    async def spoil(tx: Transaction) -> None:
        await tx.execute(text("ALTER TABLE audit RENAME TO elsewhere"))

    await store.decisions.append([decision(1, external_id="me")])
    await store.database.write(spoil)
    for change in (
        lambda: store.verdicts.give(VERDICT, actor=ME),
        lambda: store.decisions.forget("me", actor=ME),
        lambda: save(store, "cats", {}),
        lambda: store.lists.put(HashList("bad", "block", "sha256", 0), actor=ME),
    ):
        with pytest.raises(StoreUnavailable):
            await change()
    assert await store.decisions.read(decision(1).id) == (decision(1, external_id="me"), ())
    assert await store.versions.shown("classifier") == ()
    assert await store.lists.every() == ()


async def test_filters_and_pages(store: Store) -> None:
    for number in range(5):
        await save(store, f"c{number % 2}", {"v": number}, actor=Actor(f"a{number}"))
    rows = await store.audit.latest(9)
    assert [row.name for row in await store.audit.latest(9, AuditFilter(name="c0"))] == ["c0"] * 3
    assert [row.actor for row in await store.audit.latest(9, AuditFilter(actor="a3"))] == ["a3"]
    assert await store.audit.latest(9, AuditFilter(action="delete")) == ()
    assert await store.audit.latest(9, AuditFilter(kind="classifier")) == rows
    assert await store.audit.latest(9, AuditFilter(since=rows[1].at)) == rows[:2]
    assert await store.audit.latest(9, AuditFilter(until=rows[1].at)) == rows[2:]
    assert await store.audit.latest(9, AuditFilter(since=rows[0].at + timedelta(days=1))) == ()
    assert await store.audit.latest(2, before=rows[1].number) == rows[2:4]


@pytest.mark.parametrize("web", [{"gateway_api_keys": ENTRIES}], indirect=True)
def test_the_route_says_who_did_what(web: Web) -> None:
    def call(method: str, path: str, role: str = "manage", **more: Any) -> Any:
        response = web.client.request(method, path, headers={**bearer(role), "X-Request-ID": "mine"}, **more)
        assert response.status_code < 300, response.text
        return response.json() if response.content else None

    call("PUT", "/v1/classifiers/stars", json={"labels": ["star", "moon"]})
    call("PUT", "/v1/classifiers/stars?activate=false", json={"labels": ["star", "sun"]})
    call("POST", "/v1/classifiers/stars/activate", json={"version": 2})
    call("PUT", "/v1/policies/no-stars", json=POLICY)
    form = {"policy": "no-stars", "external_id": "user-42"}
    moderated = call("POST", "/v1/moderate", "infer", files={"file": png()}, data=form)
    made = moderated["results"][0]["decision_id"]
    call("POST", f"/v1/decisions/{made}/feedback", "read", json={"decision": "allow"})
    call("DELETE", "/v1/decisions?external_id=user-42")
    is_problem(web.client.delete("/v1/classifiers/stars", headers=bearer("manage")), 409, "resource_in_use")
    call("DELETE", "/v1/policies/no-stars")
    call("DELETE", "/v1/classifiers/stars")
    is_problem(web.client.delete("/v1/classifiers/stars", headers=bearer("manage")), 404, "not_found")

    rows = [row for row in call("GET", "/v1/audit", "read")["data"] if row["actor"] != "seed"]
    assert [(row["actor"], row["action"], row["kind"]) for row in rows] == [
        ("manage-key", "delete", "classifier"),
        ("manage-key", "delete", "policy"),
        ("manage-key", "forget", "external_id"),
        ("manage-key", "forget", "external_id"),
        ("read-key", "feedback", "decision"),
        ("manage-key", "save", "policy"),
        ("manage-key", "activate", "classifier"),
        ("manage-key", "save", "classifier"),
        ("manage-key", "save", "classifier"),
    ]
    assert {row["request_id"] for row in rows} == {"mine"}
    assert "user-42" not in str(rows)

    paged, cursor = [], None
    while True:
        query = {"actor": "manage-key", "limit": 2} | ({"cursor": cursor} if cursor else {})
        page = call("GET", "/v1/audit", params=query)
        paged += page["data"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert paged == [row for row in rows if row["actor"] == "manage-key"]
    for wrong in ({"cursor": "x"}, {"cursor": "0"}, {"cursor": str(2**64)}, {"limit": 501}, {"action": "x"}):
        is_problem(web.client.get("/v1/audit", params=wrong, headers=bearer("read")), 422, "invalid_request")
