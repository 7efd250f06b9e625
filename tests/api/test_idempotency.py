"""Requests that decide, sent again under their Idempotency-Key: one decision, one row, the same answer."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from gateway.errors import ModelUnavailable
from gateway.store.decisions import Decisions
from gateway.store.idempotency import IdempotencyKeys
from gateway.store.outages import StoreUnavailable
from tests.support.in_process_app import Web, b64, is_problem, png, wait_ready
from tests.support.saved_policies import ALWAYS, NEVER, put
from tests.support.waiting import UNTIL_S, until

pytest_plugins = ["tests.support.saved_policies_fixtures"]

KEY = {"Idempotency-Key": "one"}
BODY = {"images": [b64(png()), b64(b"no image")], "policy": "strict", "external_id": "mine"}
OPENAI = {
    "model": "strict",
    "input": [{"type": "image_url", "image_url": {"url": "data:image/png;base64," + b64(png())["base64"]}}],
}


def ask(web: Web, body: Any = BODY, headers: Any = KEY, path: str = "/v1/moderate") -> Any:
    return web.client.post(path, json=body, headers=headers)


def rows(web: Web) -> int:
    return len(web.client.get("/v1/decisions?limit=500").json()["data"])


def test_a_repeated_request_gets_the_answer_of_the_first(made: Web) -> None:
    for path, body in (("/v1/moderate", BODY), ("/v1/moderations", OPENAI)):
        key, before = {"Idempotency-Key": path}, rows(made)
        first, calls = ask(made, body, key, path), made.encoder.image_calls
        assert first.status_code == 200
        assert "idempotent-replayed" not in first.headers
        assert rows(made) == before + 1
        put(made, "/v1/policies/strict", NEVER)
        for _ in range(2):
            again = ask(made, body, key, path)
            assert (again.status_code, again.content) == (200, first.content)
            assert again.headers["idempotent-replayed"] == "true"
            assert again.headers["x-request-id"] != first.headers["x-request-id"]
        assert (rows(made), made.encoder.image_calls) == (before + 1, calls)
        assert ask(made, body, {"Idempotency-Key": "other"}, path).content != first.content
        put(made, "/v1/policies/strict", ALWAYS)


def test_a_form_is_the_same_whatever_its_boundary(made: Web) -> None:
    def send(picture: bytes, **fields: str) -> Any:
        files: Any = [("file", picture), *((name, (None, value)) for name, value in fields.items())]
        return made.client.post("/v1/moderate", files=files, headers=KEY)

    first = send(png(), policy="strict")
    assert first.status_code == 200
    assert send(png(), policy="strict").content == first.content
    is_problem(send(png("blue"), policy="strict"), 422, "idempotency_key_reused")
    is_problem(send(png(), policy="strict", external_id="a"), 422, "idempotency_key_reused")
    assert rows(made) == 1


def test_another_request_under_the_key_is_refused(made: Web) -> None:
    assert ask(made).status_code == 200
    for other in (
        {**BODY, "external_id": "other"},
        {**BODY, "images": BODY["images"][:1]},
        {**BODY, "images": BODY["images"][::-1]},
        {**BODY, "images": [{**b64(png()), "id": "a"}, b64(b"no image")]},
    ):
        is_problem(ask(made, other), 422, "idempotency_key_reused")
    answer = ask(made, OPENAI, KEY, "/v1/moderations")
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "idempotency_key_reused")
    assert rows(made) == 1


def test_while_the_first_is_worked_on_a_second_is_told_to_wait(made: Web) -> None:
    ask(made, headers={})
    calls = made.encoder.image_calls
    made.encoder.delay_s = UNTIL_S
    answers: list[Any] = []
    first = threading.Thread(target=lambda: answers.append(ask(made)))
    first.start()
    until(lambda: made.encoder.image_calls > calls)
    second = ask(made)
    other = ask(made, {**BODY, "external_id": "other"})
    made.encoder.delay_s = 0
    first.join()
    is_problem(second, 409, "idempotency_key_in_use")
    assert int(second.headers["retry-after"]) >= 1
    is_problem(other, 422, "idempotency_key_reused")
    assert ask(made).content == answers[0].content
    assert rows(made) == 2


def test_what_was_not_decided_may_be_sent_again(made: Web) -> None:
    ask(made, headers={})
    before = rows(made)
    broken = {"images": [b64(b"no image")], "policy": "strict"}
    for _ in range(2):
        is_problem(ask(made, broken, {"Idempotency-Key": "broken"}), 415, "unsupported_image")
    is_problem(ask(made, {**BODY, "policy": "none"}, {"Idempotency-Key": "none"}), 404, "not_found")
    made.encoder.failure = ModelUnavailable("down")
    is_problem(ask(made, {"images": [b64(png())], "policy": "strict"}), 503, "model_unavailable")
    made.encoder.failure = None
    wait_ready(made)
    assert rows(made) == before
    assert ask(made, {"images": [b64(png())], "policy": "strict"}).status_code == 200
    assert rows(made) == before + 1


def test_a_key_that_is_none(made: Web) -> None:
    for bad in ("", "a" * 256, "a b", "\u00e9"):
        is_problem(ask(made, headers={"Idempotency-Key": bad.encode("latin-1")}), 422, "invalid_request")
    is_problem(ask(made, headers=[("Idempotency-Key", "a"), ("Idempotency-Key", "b")]), 400, "http_malformed")
    assert ask(made, headers={"Idempotency-Key": "a" * 255}).status_code == 200
    assert rows(made) == 1


def test_forgetting_an_external_id_forgets_the_answer(made: Web) -> None:
    first = ask(made)
    assert made.client.delete("/v1/decisions?external_id=mine").json()["deleted"] == 1
    again = ask(made)
    assert again.json()["results"][0]["decision_id"] != first.json()["results"][0]["decision_id"]
    assert rows(made) == 1


@pytest.mark.parametrize(
    "web",
    [{"decision_log_required": True}, {"decision_spool_mib": 0}],
    ids=["required", "not"],
    indirect=True,
)
def test_without_a_store_a_key_is_as_a_decision_is(
    made: Web, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    async def away(*_: Any, **__: Any) -> Any:
        raise StoreUnavailable("gone")

    monkeypatch.setattr(IdempotencyKeys, "claim", away)
    monkeypatch.setattr(Decisions, "append", away)
    answer = ask(made)
    if "required" in request.node.name:
        is_problem(answer, 503, "storage_unavailable")
    else:
        (result, _) = answer.json()["results"]
        assert (result["decision"], result["warnings"]) == ("block", ["uncalibrated", "decision_not_logged"])
        assert result["decision_id"] is None


@pytest.mark.parametrize("web", [{"decision_log": False}], indirect=True)
def test_without_a_log_answers_are_kept_all_the_same(made: Web) -> None:
    first = ask(made)
    assert ask(made).content == first.content
    assert first.json()["results"][0]["decision_id"] is None
