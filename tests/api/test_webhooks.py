"""Webhooks over the real application: from a verdict to a receiver, and the dead-letter view."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gateway.auth.api_keys import ApiKey, digest_of, entry_of, new_key
from tests.api.test_reviews import ROLES, app_on, claim, fill, verdict, waiting
from tests.support.fake_encoder import FakeEncoder
from tests.support.in_process_app import Web, is_problem, wait_ready
from tests.support.waiting import until
from tests.support.webhook_receiver import SECRET, receiving


def test_verdict_undo_appeal_and_feedback_reach_who_asked(tmp_path: Path) -> None:
    fill(tmp_path, waiting(1), waiting(2))
    with receiving() as receiver, app_on(tmp_path, webhook_url=receiver.url, webhook_secret=SECRET) as client:
        wait_ready(Web(client, FakeEncoder()))
        case = claim(client, reviewer="ann")
        verdict(client, case, "block", categories=["gore"], reason="gore", note="private")
        client.post(f"/v1/reviews/{case['id']}/undo", json={"reviewer": "ann"})
        client.post(f"/v1/reviews/{case['id']}/appeal", json={"note": "private", "by": "owner"})
        client.post(f"/v1/decisions/{case['id']}/feedback", json={"decision": "allow", "note": "private"})
        until(lambda: len(receiver.got) == 4, lambda: f"{len(receiver.got)} events arrived")
        until(lambda: client.get("/v1/webhooks/deliveries").json()["counts"]["delivered"] == 4, lambda: "not delivered")
        listed = client.get("/v1/webhooks/deliveries?state=delivered&limit=3").json()
        assert 'gateway_webhook_attempts_total{outcome="delivered"} 4.0' in client.get("/metrics").text
    assert [got.event["type"] for got in receiver.got] == [
        "review.verdict",
        "review.undo",
        "review.appeal",
        "review.verdict",
    ]
    assert receiver.arrived("outcome") == ["block", "review", "review", "allow"]
    assert receiver.arrived("external_id") == ["post 1"] * 4
    for got in receiver.got:
        got.check()
        assert b"private" not in got.body
    assert [row["id"] for row in listed["data"]] == [got.id for got in receiver.got[:0:-1]]
    assert listed["next_cursor"] == "2"


def test_a_dead_event_is_listed_and_tried_again(tmp_path: Path) -> None:
    fill(tmp_path, waiting(1))
    given = {"webhook_secret": SECRET, "webhook_attempts": 1}
    with (
        receiving(lambda number, _: 500 if number == 0 else 200) as receiver,
        app_on(tmp_path, webhook_url=receiver.url, **given) as client,
    ):
        wait_ready(Web(client, FakeEncoder()))
        verdict(client, claim(client))

        def counts() -> dict[str, int]:
            found: dict[str, int] = client.get("/v1/webhooks/deliveries?state=dead").json()["counts"]
            return found

        until(lambda: counts()["dead"] == 1, lambda: "no event is dead")
        (dead,) = client.get("/v1/webhooks/deliveries?state=dead").json()["data"]
        assert (dead["state"], dead["attempts"], dead["last_error"]) == ("dead", 1, "status 500")
        again = client.post(f"/v1/webhooks/deliveries/{dead['id']}/retry")
        assert (again.status_code, again.json()["state"]) == (202, "waiting")
        until(lambda: counts()["delivered"] == 1, lambda: "not delivered")
        assert client.get("/v1/audit?action=retry").json()["data"][0]["name"] == dead["id"]
        is_problem(client.post("/v1/webhooks/deliveries/msg_none/retry"), 404, "not_found")
        text = client.get("/openapi.json").json()
    assert set(text["webhooks"]) == {"review.verdict", "review.appeal", "review.undo"}
    assert len({got.id for got in receiver.got}) == 1


def test_without_an_address_nothing_is_kept_for_it(tmp_path: Path) -> None:
    fill(tmp_path, waiting(1))
    with app_on(tmp_path) as client:
        wait_ready(Web(client, FakeEncoder()))
        verdict(client, claim(client))
        assert client.get("/v1/webhooks/deliveries").json() == {
            "data": [],
            "next_cursor": None,
            "counts": {"waiting": 0, "dead": 0, "delivered": 0},
        }


def test_roles_and_what_the_view_never_tells(tmp_path: Path) -> None:
    keys = {role: new_key() for role in ROLES}
    entries = " ".join(entry_of(ApiKey(role, digest_of(key), frozenset({role}))) for role, key in keys.items())
    fill(tmp_path, waiting(1))
    given = {"webhook_secret": SECRET, "webhook_attempts": 1, "gateway_api_keys": entries}
    with (
        receiving(lambda *_: 500) as receiver,
        app_on(tmp_path, webhook_url=f"{receiver.url}?token=hidden", **given) as client,
    ):
        wait_ready(Web(client, FakeEncoder()))

        def ask(role: str, method: str, path: str) -> Any:
            return client.request(method, path, headers={"Authorization": f"Bearer {keys[role]}"})

        path = f"/v1/decisions/{waiting(1).id}/feedback"
        headers = {"Authorization": f"Bearer {keys['review']}"}
        client.post(path, json={"decision": "block", "note": "private"}, headers=headers)
        view = "/v1/webhooks/deliveries"
        until(lambda: ask("read", "GET", view).json()["counts"]["dead"] == 1, lambda: "no event is dead")
        retry = f"{view}/{ask('read', 'GET', view).json()['data'][0]['id']}/retry"
        rights = {("GET", view): {"read", "manage"}, ("POST", retry): {"manage"}}
        for (method, route), allowed in rights.items():
            assert {role for role in ROLES if ask(role, method, route).status_code != 403} == allowed
            assert client.request(method, route).status_code == 401
        texts = (ask("manage", "GET", view), ask("read", "GET", "/metrics"), ask("read", "GET", "/v1/status"))
        for text in (answer.text for answer in texts):
            assert not any(word in text for word in (SECRET, "whsec_", "hidden", "private", receiver.url))
