"""Signing in at an identity provider: the right flow, and each answer that must open nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import RSAKey
from starlette.testclient import TestClient

from gateway.access_parts import OidcInvalid, check_oidc
from gateway.app import create_app
from gateway.settings import Settings
from tests.auth.test_sessions import bearer, entries
from tests.support.fake_encoder import FakeEncoder, write_bundle
from tests.support.in_process_app import Web, is_problem, wait_ready
from tests.support.oidc_provider import CLIENT, SECRET, Provider, provider

pytestmark = pytest.mark.heavy

CALLBACK = "/v1/session/oidc/callback"


@pytest.fixture
def idp() -> Iterator[Provider]:
    with provider() as made:
        yield made


@pytest.fixture
def oidc(idp: Provider, tmp_path: Path) -> Iterator[Web]:
    write_bundle(tmp_path)
    settings = Settings(
        model_repository=tmp_path,
        data_dir=tmp_path / "data",
        log_level="error",
        decode_isolation=False,
        gateway_api_keys=entries(),
        oidc_issuer=idp.issuer,
        oidc_client_id=CLIENT,
        oidc_client_secret=SECRET,
        oidc_redirect_url=f"http://localhost{CALLBACK}",
        oidc_roles="moderators=review+read,admins=manage",
        oidc_timeout_s=2,
        sign_ins_per_minute=1000,
    )
    encoder = FakeEncoder()
    with TestClient(create_app(settings, lambda *_: encoder), base_url="http://localhost") as client:
        made = Web(client, encoder)
        wait_ready(made)
        yield made


def begin(web: Web, idp: Provider) -> tuple[str, str]:
    sent = web.client.get("/v1/session/oidc", follow_redirects=False)
    assert sent.status_code == 302
    assert sent.headers["location"].startswith(f"{idp.issuer}/authorize?")
    cookie = sent.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=lax", "Path=/", "Max-Age=600"} <= set(cookie.split("; "))
    return idp.consent(sent.headers["location"])


def come_back(web: Web, state: str, code: str, **more: Any) -> Any:
    return web.client.get(CALLBACK, params={"state": state, "code": code}, follow_redirects=False, **more)


def is_refused(web: Web, answer: Any, status: int = 401, code: str = "sign_in_failed") -> None:
    is_problem(answer, status, code)
    assert "clip_session" not in answer.headers.get("set-cookie", "")
    assert web.client.get("/v1/session").json()["signed_in"] is False


def test_a_person_of_a_group_gets_its_roles(oidc: Web, idp: Provider) -> None:
    assert oidc.client.get("/v1/session").json()["oidc"] is True
    answer = come_back(oidc, *begin(oidc, idp))
    assert (answer.status_code, answer.headers["location"]) == (302, "/console")
    said = oidc.client.get("/v1/session").json()
    assert (said["name"], said["reviewer"]) == ("oidc:ann@example.org", "ann@example.org")
    assert said["roles"] == ["read", "review"]
    assert oidc.client.get("/v1/decisions").status_code == 200
    is_problem(oidc.client.get("/v1/keys"), 403, "forbidden")
    (listed,) = oidc.client.get("/v1/sessions", headers=bearer("manage")).json()["data"]
    assert listed["by"] == "oidc"


def test_an_answer_counts_once_and_in_the_browser_that_began(oidc: Web, idp: Provider) -> None:
    state, code = begin(oidc, idp)
    kept = {"Cookie": f"clip_oidc={oidc.client.cookies['clip_oidc']}"}
    is_refused(oidc, come_back(oidc, "another", code))
    is_refused(oidc, come_back(oidc, "", code))
    is_refused(oidc, oidc.client.get(CALLBACK, params={"error": "access_denied", "state": state}))
    oidc.client.cookies.clear()
    is_refused(oidc, come_back(oidc, state, code))  # sent to somebody else: login CSRF
    begin(oidc, idp)  # who has begun a flow of their own
    is_refused(oidc, come_back(oidc, state, code))
    oidc.client.cookies.clear()
    assert come_back(oidc, state, code, headers=kept).status_code == 302
    oidc.client.cookies.clear()
    is_refused(oidc, come_back(oidc, state, code, headers=kept))


def now(seconds: float) -> int:
    return int(time.time() + seconds)


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": "another"},
        {"nonce": None},
        {"exp": now(-3600)},
        {"exp": None},
        {"aud": "another"},
        {"aud": [CLIENT, "another"]},
        {"aud": [CLIENT, "another"], "azp": "another"},
        {"azp": "another"},
        {"iss": "https://evil.example"},
        {"sub": ""},
        {"iat": now(3600)},
    ],
    ids=str,
)
def test_a_token_that_is_not_for_us_now(oidc: Web, idp: Provider, claims: dict[str, Any]) -> None:
    idp.claims = claims
    is_refused(oidc, come_back(oidc, *begin(oidc, idp)))


def test_a_token_that_the_provider_has_not_signed(oidc: Web, idp: Provider) -> None:
    real = idp.published = idp.key
    idp.key = RSAKey.generate_key(2048, {"kid": "first"}, private=True)
    is_refused(oidc, come_back(oidc, *begin(oidc, idp)))
    idp.header = {"alg": "none"}
    is_refused(oidc, come_back(oidc, *begin(oidc, idp)))
    idp.header, idp.key = {"alg": "HS256", "kid": "first"}, real
    is_refused(oidc, come_back(oidc, *begin(oidc, idp)))  # by the public key, which everybody has, as a secret
    idp.header, idp.id_token = {"alg": "RS256", "kid": "first"}, "no token"
    is_refused(oidc, come_back(oidc, *begin(oidc, idp)))
    idp.id_token = None
    assert come_back(oidc, *begin(oidc, idp)).status_code == 302


@pytest.mark.parametrize("groups", [[], ["staff"], None, "staff", 7, [["moderators"]], {"moderators": 1}], ids=str)
def test_a_person_without_a_role(oidc: Web, idp: Provider, groups: Any) -> None:
    idp.claims = {"groups": groups}
    is_refused(oidc, come_back(oidc, *begin(oidc, idp)), 403, "forbidden")


@pytest.mark.parametrize(("status", "delay_s"), [(500, 0.0), (404, 0.0), (200, 4.0)])
def test_a_provider_that_fails_or_hangs(oidc: Web, idp: Provider, status: int, delay_s: float) -> None:
    idp.status, idp.delay_s = status, delay_s
    answer = oidc.client.get("/v1/session/oidc", follow_redirects=False)
    is_problem(answer, 502, "provider_unavailable")
    assert idp.issuer not in answer.text
    assert oidc.client.get("/v1/models", headers=bearer("read")).status_code == 200


@pytest.mark.parametrize(
    "wrong",
    [
        {"gateway_api_keys": ""},
        {"oidc_client_id": ""},
        {"oidc_redirect_url": ""},
        {"oidc_roles": ""},
        {"oidc_roles": "moderators=admin"},
        {"oidc_roles": "moderators"},
    ],
    ids=str,
)
def test_settings_that_cannot_be_used(wrong: dict[str, str]) -> None:
    given: dict[str, Any] = {
        "gateway_api_keys": entries(),
        "oidc_issuer": "https://idp.example",
        "oidc_client_id": CLIENT,
        "oidc_redirect_url": f"https://gateway.example{CALLBACK}",
        "oidc_roles": "moderators=review",
    }
    check_oidc(Settings(**given))
    with pytest.raises(OidcInvalid):
        check_oidc(Settings(**given | wrong))
