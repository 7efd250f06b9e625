"""Sessions of the console: a key becomes a cookie, which opens what the key may do, from own pages alone."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from gateway.app import create_app
from gateway.auth.api_keys import ApiKey, digest_of, entry_of, new_key
from gateway.settings import Settings
from gateway.store.database import Transaction
from gateway.store.outages import StoreUnavailable
from tests.support.fake_encoder import FakeEncoder, write_bundle
from tests.support.in_process_app import Web, is_problem, wait_ready

MADE = {role: new_key() for role in ("infer", "read", "manage", "review")}
OWN = {"Origin": "http://localhost"}
SAFE = {"Origin": "https://localhost"}
FOREIGN = {"Origin": "http://evil.example"}


def entries(**rates: str) -> str:
    made = [ApiKey(role, digest_of(key), frozenset({role}), rates.get(role)) for role, key in MADE.items()]
    return ",".join(map(entry_of, made))


WITH_KEYS = pytest.mark.parametrize("web", [{"gateway_api_keys": entries()}], indirect=True, ids=[""])


def sign_in(web: Web, role: str = "manage", **more: Any) -> Any:
    return web.client.post("/v1/session", json={"key": MADE[role], **more}, headers=OWN)


def bearer(role: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {MADE[role]}"}


@WITH_KEYS
def test_a_key_becomes_a_cookie_that_no_script_reads(web: Web) -> None:
    before = web.client.get("/v1/session").json()
    assert (before["open"], before["signed_in"], before["roles"], before["name"]) == (False, False, [], None)
    is_problem(web.client.get("/v1/models"), 401, "unauthorized")
    answer = sign_in(web, "review", reviewer="ann")
    assert answer.status_code == 200
    assert (answer.json()["name"], answer.json()["reviewer"], answer.json()["roles"]) == ("review", "ann", ["review"])
    cookie = answer.headers["set-cookie"]
    assert re.match(r"clip_session=[A-Za-z0-9_-]{43}; ", cookie)
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
    assert "Secure" not in cookie, "on plain loopback a browser would not keep it"
    assert web.client.get("/v1/models").status_code == 200
    is_problem(web.client.get("/v1/policies"), 403, "forbidden")
    said = web.client.get("/v1/session").json()
    assert (said["signed_in"], said["reviewer"], said["features"]["log"]) == (True, "ann", True)
    left = datetime.fromisoformat(said["expires_at"]) - datetime.now(UTC)
    assert timedelta(hours=7.9) < left <= timedelta(hours=8)


@WITH_KEYS
def test_over_https_the_cookie_is_bound_to_the_host(web: Web) -> None:
    answer = web.client.post("/v1/session", json={"key": MADE["read"]}, headers=SAFE)
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-clip_session=")
    assert "Secure" in cookie.split("; ")
    assert "Domain" not in cookie
    value = cookie.partition("=")[2].partition(";")[0]
    web.client.cookies.clear()
    assert web.client.get("/v1/models", headers={"Cookie": f"__Host-clip_session={value}"}).status_code == 200
    plain = web.client.get("/v1/models", headers={"Cookie": f"clip_session={value}"})
    is_problem(plain, 401, "unauthorized")  # one that a neighbouring name could have put there


@WITH_KEYS
@pytest.mark.parametrize(
    ("host", "headers", "counts"),
    [
        ("localhost", {"Sec-Fetch-Site": "same-origin"}, True),
        ("127.0.0.1:8000", {"Sec-Fetch-Site": "none"}, True),
        ("gateway.example", {}, True),  # plain HTTP in one's own network
        ("gateway.example", {"Sec-Fetch-Site": "same-origin"}, False),  # a browser that says this is on HTTPS
        ("gateway.example", {"Origin": "https://gateway.example"}, False),
    ],
)
def test_over_https_a_cookie_of_plain_http_opens_nothing(web: Web, host: str, headers: Any, counts: bool) -> None:  # noqa: FBT001
    sign_in(web)
    value = web.client.cookies["clip_session"]
    web.client.cookies.clear()
    given = {"Host": host, "Cookie": f"clip_session={value}", **headers}
    assert web.client.get("/v1/models", headers=given).status_code == (200 if counts else 401)


@WITH_KEYS
def test_what_changes_something_needs_proof_of_an_own_page(web: Web) -> None:
    sign_in(web)
    body = {"action": "block", "kind": "sha256"}
    for headers in (
        {},
        FOREIGN,
        {"Origin": "null"},
        {"Origin": "http://localhost:81"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "same-origin, cross-site"},
    ):
        for method, path in (("PUT", "/v1/lists/x"), ("DELETE", "/v1/session"), ("PATCH", "/v1/session")):
            is_problem(web.client.request(method, path, json=body, headers=headers), 403, "cross_site_request")
    for headers in (OWN, {"Sec-Fetch-Site": "same-origin"}):
        assert web.client.put("/v1/lists/x", json=body, headers=headers).status_code in {200, 201}
    assert web.client.put("/v1/lists/x", json=body, headers=bearer("manage")).status_code == 200, "a program's key"
    for headers in ({"Sec-Fetch-Site": "same-site"}, FOREIGN):
        is_problem(web.client.get("/v1/lists", headers=headers), 403, "cross_site_request")


@pytest.mark.parametrize(
    "web", [{"gateway_api_keys": entries(), "cors_allowed_origins": "http://evil.example"}], indirect=True, ids=[""]
)
def test_pages_that_are_listed_for_cors_have_no_session(web: Web) -> None:
    sign_in(web)
    answer = web.client.put("/v1/lists/x", json={"action": "block", "kind": "sha256"}, headers=FOREIGN)
    is_problem(answer, 403, "cross_site_request")
    assert "access-control-allow-credentials" not in answer.headers
    is_problem(web.client.post("/v1/session", json={"key": MADE["read"]}, headers=FOREIGN), 403, "cross_site_request")


@WITH_KEYS
def test_signing_in_from_another_site_or_with_no_key(web: Web) -> None:
    for headers in ({}, FOREIGN, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}):
        answer = web.client.post("/v1/session", json={"key": MADE["read"]}, headers=headers)
        is_problem(answer, 403, "cross_site_request")
        assert "set-cookie" not in answer.headers
    is_problem(web.client.post("/v1/session", json={"key": new_key()}, headers=OWN), 401, "unauthorized")
    is_problem(web.client.post("/v1/session", json={"key": 7}, headers=OWN), 422, "invalid_request")
    plain = web.client.post("/v1/session", content="key=x", headers={**OWN, "Content-Type": "text/plain"})
    is_problem(plain, 415, "unsupported_media_type")


@WITH_KEYS
def test_each_sign_in_is_a_new_session_and_ends_the_former(web: Web) -> None:
    sign_in(web)
    first = web.client.cookies["clip_session"]
    sign_in(web)
    second = web.client.cookies["clip_session"]
    assert first != second
    web.client.cookies.clear()
    for value, status in ((first, 401), (second, 200), ("A" * 43, 401), ("short", 401), (f"{second}x", 401)):
        assert web.client.get("/v1/models", headers={"Cookie": f"clip_session={value}"}).status_code == status
    # What somebody else chose is never taken on.
    chosen = {**OWN, "Cookie": f"clip_session={'B' * 43}"}
    answer = web.client.post("/v1/session", json={"key": MADE["read"]}, headers=chosen)
    assert "B" * 43 not in answer.headers["set-cookie"]


@WITH_KEYS
def test_signing_out_renaming_and_revoking(web: Web) -> None:
    sign_in(web)
    renamed = web.client.patch("/v1/session", json={"reviewer": "bea"}, headers=OWN)
    assert renamed.json()["reviewer"] == web.client.get("/v1/session").json()["reviewer"] == "bea"
    (listed,) = web.client.get("/v1/sessions").json()["data"]
    assert (listed["name"], listed["reviewer"], listed["by"]) == ("manage", "bea", "key")
    value = web.client.cookies["clip_session"]
    assert value not in str(listed)
    assert hashlib.sha256(value.encode()).hexdigest() not in str(listed)
    is_problem(web.client.delete(f"/v1/sessions/{listed['id']}", headers=bearer("read")), 403, "forbidden")
    assert web.client.delete(f"/v1/sessions/{listed['id']}", headers=bearer("manage")).status_code == 204
    is_problem(web.client.get("/v1/models"), 401, "unauthorized")
    is_problem(web.client.delete(f"/v1/sessions/{listed['id']}", headers=bearer("manage")), 404, "not_found")
    (row,) = web.client.get("/v1/audit?action=revoke", headers=bearer("read")).json()["data"]
    assert (row["kind"], row["name"], row["actor"]) == ("session", listed["id"], "manage")
    sign_in(web)
    value = web.client.cookies["clip_session"]
    assert web.client.delete("/v1/session", headers=OWN).status_code == 204
    assert "clip_session" not in web.client.cookies
    is_problem(web.client.get("/v1/models", headers={"Cookie": f"clip_session={value}"}), 401, "unauthorized")


@pytest.mark.parametrize("web", [{"gateway_api_keys": entries(review="2/hour")}], indirect=True, ids=[""])
def test_a_session_has_the_rate_of_its_key(web: Web) -> None:
    sign_in(web, "review")
    answers = [web.client.get("/v1/models") for _ in range(4)]
    assert answers[0].headers["ratelimit-policy"] == '"review";q=2;w=3600'
    is_problem(answers[-1], 429, "rate_limited")


@pytest.mark.parametrize("web", [{"gateway_api_keys": entries(), "sign_ins_per_minute": 3}], indirect=True, ids=[""])
def test_attempts_are_limited_by_address_and_counted(web: Web) -> None:
    answers = [web.client.post("/v1/session", json={"key": "guess"}, headers=OWN) for _ in range(6)]
    is_problem(answers[0], 401, "unauthorized")
    is_problem(answers[-1], 429, "rate_limited")
    assert int(answers[-1].headers["retry-after"]) >= 1
    is_problem(sign_in(web), 429, "rate_limited")
    assert web.client.get("/v1/models", headers=bearer("read")).status_code == 200
    exposed = web.client.get("/metrics", headers=bearer("read")).text
    assert 'gateway_sign_ins_total{outcome="unauthorized"}' in exposed
    assert 'gateway_sign_ins_total{outcome="rate_limited"}' in exposed


def test_a_gateway_without_keys_has_no_sessions(web: Web) -> None:
    answer = web.client.post("/v1/session", json={"key": "any"}, headers=OWN)
    assert answer.json()["open"] is True
    assert "review" in answer.json()["roles"]
    assert "set-cookie" not in answer.headers
    assert web.client.get("/v1/session", headers={"Cookie": f"clip_session={'A' * 43}"}).json()["signed_in"] is False


@pytest.mark.parametrize("web", [{"gateway_api_keys": entries(), "console": False}], indirect=True, ids=[""])
def test_without_a_console_nobody_signs_in(web: Web) -> None:
    is_problem(web.client.get("/v1/session"), 404, "not_found")
    is_problem(sign_in(web), 404, "not_found")
    is_problem(web.client.get("/v1/session/oidc"), 404, "not_found")
    described = web.client.get("/openapi.json").json()["paths"]
    assert not [path for path in described if path.startswith("/v1/session")]


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Web, Web, Path]]:
    """Two gateways on one database, with their keys in a file."""
    write_bundle(tmp_path)
    keys = tmp_path / "keys.txt"
    keys.write_text(entries())
    made = []
    for _ in range(2):
        settings = Settings(
            model_repository=tmp_path,
            data_dir=tmp_path / "data",
            log_level="error",
            decode_isolation=False,
            gateway_api_keys_file=keys,
        )
        encoder = FakeEncoder()
        client = TestClient(create_app(settings, lambda *_, encoder=encoder: encoder), base_url="http://localhost")
        made.append(Web(client, encoder))
    with made[0].client, made[1].client:
        for web in made:
            wait_ready(web)
        yield made[0], made[1], keys


def access(web: Web) -> Any:
    return web.client.app_state["services"].access


def waited(web: Web, path: str, status: int, cookie: str) -> None:
    from tests.support.waiting import until

    headers = {"Cookie": f"clip_session={cookie}"}
    until(lambda: web.client.get(path, headers=headers).status_code == status, f"never {status}", 30)


def test_every_gateway_knows_a_session_and_its_end(pair: tuple[Web, Web, Path]) -> None:
    one, two, keys = pair
    sign_in(one, "manage")
    cookie = one.client.cookies["clip_session"]
    assert two.client.get("/v1/models", headers={"Cookie": f"clip_session={cookie}"}).status_code == 200
    (listed,) = two.client.get("/v1/sessions", headers=bearer("manage")).json()["data"]
    two.client.delete(f"/v1/sessions/{listed['id']}", headers=bearer("manage"))
    waited(one, "/v1/models", 401, cookie)  # within the seconds for which what was read counts
    sign_in(one, "manage")
    sign_in(two, "review")
    kept, lost = one.client.cookies["clip_session"], two.client.cookies["clip_session"]
    keys.write_text("\n".join(entry for entry in entries().split(",") if not entry.startswith("review:")))
    for web in (one, two):
        web.client.cookies.clear()
        waited(web, "/v1/models", 401, lost)  # its key was withdrawn
        waited(web, "/v1/models", 200, kept)


@WITH_KEYS
def test_sessions_end_by_time(web: Web) -> None:
    for column, then in (("expires_at", timedelta(seconds=1)), ("seen_at", timedelta(minutes=61))):
        sign_in(web)
        database = web.client.app_state["services"].decisions._database

        async def age(tx: Transaction, column: str = column, then: timedelta = then) -> None:
            at = (datetime.now(UTC) - then).replace(tzinfo=None).isoformat(" ")
            await tx.execute(text(f"UPDATE sessions SET {column} = :at").bindparams(at=at))  # noqa: S608

        web.client.portal.call(database.write, age)  # type: ignore[union-attr]
        answer = web.client.get("/v1/models")
        is_problem(answer, 401, "unauthorized")
        gone = web.client.get("/v1/session")
        assert gone.json()["signed_in"] is False
        assert 'clip_session=""' in gone.headers["set-cookie"], "a browser forgets it"
        assert web.client.get("/v1/sessions", headers=bearer("manage")).json()["data"] == []
        live = access(web).sessions
        web.client.portal.call(live.expire)  # type: ignore[union-attr]
        assert web.client.portal.call(live.rows.expire, timedelta(hours=1)) == 0  # type: ignore[union-attr]


@WITH_KEYS
def test_while_the_store_is_away_no_door_opens(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    sign_in(web)
    assert web.client.get("/v1/models").status_code == 200

    async def away(*_: object) -> None:
        raise StoreUnavailable("away")

    live = access(web).sessions
    monkeypatch.setattr(live.rows, "find", away)
    row, _ = next(iter(live._cached.values()))
    for seconds, status in ((6, 200), (61, 503)):
        live._cached[row.token_sha256] = (row, datetime.now(UTC) - timedelta(seconds=seconds))
        assert web.client.get("/v1/models").status_code == status
    web.client.cookies.clear()
    unknown = web.client.get("/v1/models", headers={"Cookie": f"clip_session={'C' * 43}"})
    is_problem(unknown, 503, "storage_unavailable")
    assert web.client.get("/v1/models", headers=bearer("read")).status_code == 200
