"""Delivery of the outbox to a receiver on a real socket, which fails in every way that receivers do."""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
import trustme

from gateway.observability.metrics import Metrics
from gateway.review.webhook_sender import DeliveryAttempt, WebhookSender, WebhooksInvalid
from gateway.review.webhooks import MAX_PAUSE_S, DeliveryRules, Webhooks, pause_s
from gateway.store.audit import Actor
from gateway.store.review.feedback import Feedback
from gateway.store.review.outbox import EventRecord, Outbox, enqueue
from gateway.store.review.verdicts import Verdicts
from tests.support.postgres_server import Server
from tests.support.stores import NOON, Store, decision, opened
from tests.support.webhook_receiver import SECOND, SECRET, receiving

pytest_plugins = ["tests.support.store_fixtures"]

pytestmark = pytest.mark.heavy

ME = Actor("me")
WAIT_S = 30.0


@asynccontextmanager
async def delivering(
    store: Store,
    url: str,
    *,
    secret: str = SECRET,
    timeout_s: float = 5.0,
    metrics: Metrics | None = None,
    **rules: Any,
) -> AsyncIterator[Outbox]:
    outbox = Outbox(store.database)
    given: dict[str, Any] = {"attempts": 12, "concurrency": 4, "lease_s": 30, "retention": timedelta(days=1)}
    made = DeliveryRules(**{**given, "first_pause_s": 0.05, **rules})
    watch = asyncio.create_task(
        Webhooks(outbox, WebhookSender(url, secret, timeout_s), made, metrics or Metrics()).watch()
    )
    try:
        yield outbox
    finally:
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)


async def tell(store: Store, name: str, image: str = "a", external_id: str | None = None) -> None:
    data = {"decision_id": name, "external_id": external_id, "outcome": "block"}
    await store.database.write(lambda tx: enqueue(tx, "review.verdict", data, image))


async def states(outbox: Outbox) -> list[str]:
    return [row.state for row in reversed(await outbox.page(None, limit=100))]


async def settled(outbox: Outbox) -> list[EventRecord]:
    """Wait until nothing waits; return the events, oldest first."""
    async with asyncio.timeout(WAIT_S):
        while "waiting" in await states(outbox):  # noqa: ASYNC110 - another process's work is not awaited
            await asyncio.sleep(0.05)
    return list(reversed(await outbox.page(None, limit=500)))


async def test_an_event_is_signed_by_every_secret_and_verified_by_either(store: Store) -> None:
    with receiving() as receiver:
        async with delivering(store, receiver.url, secret=f"{SECRET},{SECOND}") as outbox:
            await tell(store, "d1", external_id="Zoë")
            rows = await settled(outbox)
    assert [(row.state, row.attempts, row.last_error) for row in rows] == [("delivered", 1, None)]
    (got,) = receiver.got
    assert (got.id, got.event["type"], got.event["data"]["external_id"]) == (
        rows[0].message_id,
        "review.verdict",
        "Zoë",
    )
    got.check(SECRET)
    got.check(SECOND)


@pytest.mark.parametrize(
    ("first", "kind"),
    [
        (500, "failed"),
        (404, "refused"),
        ((302, {"Location": "/elsewhere"}), "redirect"),
        ("hang", "timeout"),
        ("drip", "timeout"),
        ("close", "connection"),
        ("late", "timeout"),
    ],
)
async def test_what_fails_is_tried_again_under_the_same_id(store: Store, first: Any, kind: str) -> None:
    metrics = Metrics()
    with receiving(lambda number, _: first if number < 2 else 204) as receiver:
        async with delivering(store, receiver.url, timeout_s=0.5, metrics=metrics) as outbox:
            await tell(store, "d1")
            rows = await settled(outbox)
    assert [(row.state, row.attempts) for row in rows] == [("delivered", 3)]
    assert len({got.id for got in receiver.got}) == 1
    assert len(receiver.got) == 3
    assert len({got.body for got in receiver.got}) == 1
    for got in receiver.got:
        got.check()
    text = metrics.exposition().decode()
    assert f'gateway_webhook_attempts_total{{outcome="{kind}"}} 2.0' in text
    assert 'gateway_webhook_attempts_total{outcome="delivered"} 1.0' in text


async def test_gone_ends_at_once_and_the_next_event_goes_on(store: Store) -> None:
    with receiving(lambda number, _: 410 if number == 0 else 200) as receiver:
        async with delivering(store, receiver.url) as outbox:
            await tell(store, "d1")
            await tell(store, "d2")
            rows = await settled(outbox)
            assert [(row.state, row.attempts, row.last_error) for row in rows] == [
                ("dead", 1, "status 410"),
                ("delivered", 1, None),
            ]
            assert await outbox.retry(rows[0].message_id, actor=ME)
            assert [row.state for row in await settled(outbox)] == ["delivered", "delivered"]
            assert await outbox.retry("msg_unknown", actor=ME) is None
    assert receiver.arrived() == ["d1", "d2", "d1"]


async def test_an_event_that_always_fails_is_dead_after_its_attempts(store: Store) -> None:
    with receiving(lambda *_: 500) as receiver:
        async with delivering(store, receiver.url, attempts=3) as outbox:
            await tell(store, "d1")
            rows = await settled(outbox)
            assert [(row.state, row.attempts, row.last_error) for row in rows] == [("dead", 3, "status 500")]
            assert (await outbox.counts()).dead == 1
            assert await outbox.expire(datetime.now(UTC)) == 1
    assert len(receiver.got) == 3


@pytest.mark.parametrize("trusted", [True, False])
async def test_certificates_are_verified(trusted: bool) -> None:  # noqa: FBT001
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    client = ssl.create_default_context()
    (authority if trusted else trustme.CA()).configure_trust(client)
    with receiving(context=context) as receiver:
        attempt = await WebhookSender(receiver.url, SECRET, 5, client).send("msg_1", "{}")
    assert attempt.outcome == ("delivered" if trusted else "tls")
    assert len(receiver.got) == trusted


async def test_nobody_listens() -> None:
    attempt = await WebhookSender("http://127.0.0.1:9/hook", SECRET, 5).send("msg_1", "{}")
    assert attempt.outcome == "connection"
    assert "127.0.0.1" not in attempt.error


async def test_events_of_an_image_arrive_in_order_although_the_first_fails(store: Store) -> None:
    """Three images, five events each: the first event of image 0 fails twice, and holds up none of the others."""
    failed: Counter[str] = Counter()

    def answer(_number: int, got: Any) -> int:
        name = got.event["data"]["decision_id"]
        failed[name] += 1
        return 500 if name == "0 0" and failed[name] <= 2 else 200

    with receiving(answer) as receiver:
        for number in range(5):
            for image in range(3):
                await tell(store, f"{image} {number}", image=str(image))
        async with AsyncExitStack() as several:
            for _ in range(2):
                outbox = await several.enter_async_context(delivering(store, receiver.url, first_pause_s=0.6))
            await settled(outbox)
    names = [name for name in receiver.arrived() if name != "0 0"]
    assert sorted(names) == sorted({*names})
    assert len(names) == 14
    for image in range(3):
        assert [name for name in names if name[0] == str(image)] == [f"{image} {n}" for n in range(image == 0, 5)]
    assert max(index for index, name in enumerate(receiver.arrived()) if name == "0 0") > receiver.arrived().index(
        "2 4"
    )
    assert receiver.arrived().index("0 1") > max(i for i, name in enumerate(receiver.arrived()) if name == "0 0")


async def test_two_gateways_on_one_postgresql_deliver_each_event_once(postgres: Server) -> None:
    url = postgres.new_database()
    with receiving() as receiver:
        async with opened(url) as one, opened(url) as other:
            for number in range(60):
                await tell(one, f"d{number}", image=str(number % 7))
            async with delivering(one, receiver.url) as outbox, delivering(other, receiver.url):
                await settled(outbox)
    assert Counter(receiver.arrived()) == Counter(f"d{number}" for number in range(60))
    for image in range(7):
        numbers = [int(name[1:]) for name in receiver.arrived() if int(name[1:]) % 7 == image]
        assert numbers == sorted(numbers)


async def test_order_is_that_of_commits(postgres: Server) -> None:
    """A transaction that told first and commits last is told first: the one behind it waits for its commit."""
    url = postgres.new_database()
    told, go = asyncio.Event(), asyncio.Event()

    async def slow(tx: Any) -> None:
        await enqueue(tx, "review.verdict", {"decision_id": "first", "external_id": None}, "a")
        told.set()
        await go.wait()

    async with opened(url) as one, opened(url) as other:
        first = asyncio.create_task(one.database.write(slow))
        await told.wait()
        second = asyncio.create_task(tell(other, "second"))
        await asyncio.sleep(0.3)
        assert await Outbox(other.database).claim("me", 5, 30) == ()
        go.set()
        await asyncio.gather(first, second)
        rows = await Outbox(one.database).page(None, limit=5)
    assert [row.decision_id for row in rows] == ["second", "first"]


async def test_a_lease_that_ran_out_is_taken_over_and_its_late_word_does_not_count(store: Store) -> None:
    outbox = Outbox(store.database)
    await tell(store, "d1")
    (lost,) = await outbox.claim("killed", 5, 0.2)
    assert await outbox.claim("other", 5, 30) == ()
    await asyncio.sleep(0.3)
    (taken,) = await outbox.claim("other", 5, 30)
    assert (taken.message_id, taken.attempts) == (lost.message_id, 2)
    await outbox.failed(lost, "late", None)
    assert await states(outbox) == ["waiting"]
    await outbox.delivered(taken)
    assert await states(outbox) == ["delivered"]


async def test_a_gateway_that_ends_gives_its_leases_up(store: Store) -> None:
    with receiving(lambda number, _: "hang" if number == 0 else 200) as receiver:
        async with delivering(store, receiver.url, timeout_s=60):
            await tell(store, "d1")
            while not receiver.got:  # noqa: ASYNC110 - filled by a thread
                await asyncio.sleep(0.05)
        async with delivering(store, receiver.url) as outbox:
            assert [row.attempts for row in await settled(outbox)] == [2]


async def test_outbox_and_verdict_are_one_transaction(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await store.decisions.append([decision(1, external_id="post 1")])
    verdicts, outbox = Verdicts(store.database, tell=True), Outbox(store.database)
    said = Feedback(decision(1).id, NOON, "block", ["gore"], "private note")
    with monkeypatch.context() as patch:
        patch.setattr("gateway.store.review.verdicts.enqueue", failing)
        with pytest.raises(RuntimeError, match="full"):
            await verdicts.give(said, actor=ME)
    found = await store.decisions.read(decision(1).id)
    assert found is not None
    assert (found[0].outcome, found[1], await states(outbox)) == ("allow", (), [])
    await verdicts.give(said, actor=ME)
    (event,) = await outbox.claim("me", 1, 30)
    assert '"outcome":"block"' in event.body
    assert "private note" not in event.body


async def failing(*given: Any) -> None:
    await enqueue(*given)
    raise RuntimeError("the disk is full")


async def test_nothing_is_told_of_a_forgotten_external_id(store: Store) -> None:
    await store.decisions.append([decision(1, external_id="post 1"), decision(2, external_id="post 2")])
    verdicts, outbox = Verdicts(store.database, tell=True), Outbox(store.database)
    for number in (1, 2):
        await verdicts.give(Feedback(decision(number).id, NOON, "block", [], ""), actor=ME)
    (lost, _) = await outbox.claim("me", 5, 30)
    await outbox.failed(lost, "status 500", datetime.now(UTC))
    await store.decisions.forget("post 1", actor=ME)
    with receiving() as receiver:
        await outbox.release("me")
        async with delivering(store, receiver.url):
            await settled(outbox)
    assert receiver.arrived("external_id") == ["post 2"]
    assert [row.decision_id for row in await outbox.page(None, limit=5)] == [decision(2).id]


@pytest.mark.parametrize(
    ("header", "pause"),
    [("30", (30, 30)), ("99999999999", (MAX_PAUSE_S, MAX_PAUSE_S)), ("0", (4, 6)), ("soon", (4, 6)), ("-5", (4, 6))]
    + [(f"Mon, 01 Jan {year} 00:00:00 {zone}", (4, 6)) for year, zone in (("2020", "+" + "9" * 20), ("9" * 20, "GMT"))],
)
async def test_retry_after_is_respected_within_bounds(header: str, pause: tuple[float, float]) -> None:
    with receiving(lambda *_: (429, {"Retry-After": header})) as receiver:
        attempt = await WebhookSender(receiver.url, SECRET, 5).send("msg_1", "{}")
    assert attempt.outcome == "refused"
    assert pause[0] <= pause_s(1, attempt, 5) <= pause[1]


async def test_retry_after_may_be_a_date() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    with receiving(lambda *_: (503, {"Retry-After": date})) as receiver:
        attempt = await WebhookSender(receiver.url, SECRET, 5).send("msg_1", "{}")
    assert 60 <= pause_s(1, attempt, 5) <= 100


def test_twelve_attempts_take_about_a_day() -> None:
    total = sum(pause_s(attempts, DeliveryAttempt("failed"), 5) for attempts in range(1, 12))
    assert 18 * 3600 <= total <= 28 * 3600


@pytest.mark.parametrize("secret", ["", ",", "whsec_", "whsec_c2hvcnQ=", f"{SECRET},no base64", "whsec_" + "A" * 100])
def test_secrets_that_cannot_sign_are_refused_and_not_repeated(secret: str) -> None:
    with pytest.raises(WebhooksInvalid) as refused:
        WebhookSender("http://localhost", secret, 5)
    assert SECRET not in str(refused.value)
