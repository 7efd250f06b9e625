"""Pages of listed origins: what a browser is told that they may send and read, and what it tells all others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.api.authorization import ACCESS
from gateway.auth.api_keys import ApiKey, digest_of, entry_of, new_key
from gateway.errors import ModelUnavailable
from tests.conftest import Stack
from tests.support.browser import browser, site
from tests.support.gateway_processes import more_gateways
from tests.support.in_process_app import Web, b64, png
from tests.support.raw_http import head, send_raw

pytestmark = pytest.mark.heavy

LISTED = "https://console.example.org"
STRANGERS = [
    "http://console.example.org",
    "https://console.example.org:8443",
    "https://console.example.org.evil.example",
    "https://evil.example",
    "HTTPS://CONSOLE.EXAMPLE.ORG",
    "null",
    "",
]
KEY = new_key()
KEYS = {"gateway_api_keys": entry_of(ApiKey("console", digest_of(KEY), frozenset({"infer", "read", "manage"}), None))}
SHARED = {"cors_allowed_origins": f"{LISTED},http://127.0.0.1:3000"}
with_keys = pytest.mark.parametrize("web", [KEYS | SHARED], indirect=True, ids=[""])


def told(headers: Any) -> dict[str, str]:
    """Return what an answer says to browsers about other origins."""
    return {name.lower(): value for name, value in headers.items() if name.lower().startswith("access-control-")}


def preflight(web: Web, origin: str, path: str, method: str, headers: str = "authorization") -> Any:
    asked = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers}
    return web.client.options(path, headers={"Origin": origin, "Sec-Fetch-Site": "cross-site", **asked})


@with_keys
def test_a_listed_page_may_send_what_every_route_takes(web: Web) -> None:
    names = {"authorization", "content-type", "if-match", "if-none-match", "idempotency-key", "x-request-id"}
    for method, route in ACCESS:
        answer = preflight(web, LISTED, route.replace("{name}", "x").replace("{decision_id}", "x"), method)
        assert answer.status_code == 204, "no key: a browser sends none"
        said = told(answer.headers)
        assert said["access-control-allow-origin"] == LISTED
        assert method in said["access-control-allow-methods"].split(", ")
        assert names == set(said["access-control-allow-headers"].lower().split(", "))
        assert "access-control-allow-credentials" not in said
        assert answer.headers["vary"] == "Origin"
        assert answer.headers["x-request-id"]


@with_keys
@pytest.mark.parametrize("origin", STRANGERS)
def test_others_are_told_nothing(web: Web, origin: str) -> None:
    key = {"Authorization": f"Bearer {KEY}", "Origin": origin}
    for answer, status in (
        (preflight(web, origin, "/v1/classify", "POST"), 401),
        (web.client.get("/v1/models", headers=key), 200),
        (web.client.get("/v1/models", headers={"Origin": origin}), 401),
        (web.client.delete("/v1/lists/x", headers=key), 403),
    ):
        assert answer.status_code == status
        assert told(answer.headers) == {}
        assert answer.headers["vary"] == "Origin", "a cache must not hand it to a listed page"


@with_keys
def test_a_listed_page_reads_every_answer_errors_too(web: Web) -> None:
    def send(method: str, path: str, *, key: str = KEY, **more: Any) -> Any:
        headers = {"Origin": LISTED, "Sec-Fetch-Site": "cross-site", "Authorization": f"Bearer {key}"}
        return web.client.request(method, path, headers=headers | more.pop("headers", {}), **more)

    asked = {"images": [b64(png())], "labels": ["cat", "dog"]}
    answers = [
        send("POST", "/v1/classify", json=asked),
        send("GET", "/v1/policies/none"),
        send("GET", "/v1/models", key="wrong"),
        send("PATCH", "/v1/classify"),
        send("POST", "/v1/classify", content=b"x"),
        send("POST", "/v1/classify", headers={"Content-Length": "9" * 12}),
        send("GET", "/livez", headers={"Host": "evil.example:80:80"}),
    ]
    failures: Any = (RuntimeError("secret"), ModelUnavailable("It is away."))
    for web.encoder.failure in failures:
        answers.append(send("POST", "/v1/classify", json=asked))
    assert [answer.status_code for answer in answers] == [200, 404, 401, 405, 415, 413, 400, 500, 503]
    for answer in answers:
        said = told(answer.headers)
        assert said.pop("access-control-allow-origin") == LISTED
        assert {"ETag", "X-Request-ID", "Retry-After", "RateLimit"} <= set(
            said.pop("access-control-expose-headers").split(", ")
        )
        assert said == {}
        assert answer.headers["vary"] == "Origin"


@pytest.mark.parametrize("web", [KEYS], indirect=True, ids=[""])
def test_it_is_off_by_default(web: Web) -> None:
    answers = [preflight(web, LISTED, "/v1/classify", "POST"), web.client.get("/livez", headers={"Origin": LISTED})]
    assert [answer.status_code for answer in answers] == [401, 200]
    for answer in answers:
        assert told(answer.headers) == {}
        assert "vary" not in answer.headers


def test_a_listed_page_reads_that_it_is_slow_or_the_service_full(stack: Stack, tmp_path: Path) -> None:
    limits = {"BODY_TIMEOUT_S": "1", "MAX_BYTES_IN_FLIGHT": str(1 << 20)}
    with more_gateways(stack, 1, tmp_path, CORS_ALLOWED_ORIGINS=LISTED, **limits) as (address,):
        for length, status in ((100, 408), (2 << 20, 503)):
            lines = [f"Origin: {LISTED}", "Content-Type: application/json", f"Content-Length: {length}"]
            answer = send_raw(address, head(*lines), b"{")
            assert answer.status_code == status
            assert told(answer.headers)["access-control-allow-origin"] == LISTED


@pytest.mark.heavy
def test_in_a_browser_the_listed_page_reads_and_the_other_does_not(stack: Stack, tmp_path: Path) -> None:
    with site("<p>console</p>") as listed, site("<p>other</p>") as other:
        origin = listed.rstrip("/")
        entry = KEYS["gateway_api_keys"]
        settings = {"CORS_ALLOWED_ORIGINS": origin, "GATEWAY_API_KEYS": entry}
        with more_gateways(stack, 1, tmp_path, **settings) as (address,), browser(tmp_path / "profile") as page:
            asked = {"action": "block", "kind": "sha256"}
            script = """(async () => {
                const seen = [];
                for (const key of [KEY, "wrong"]) try {
                    const answer = await fetch(URL, {method: "PUT", body: BODY, headers: {
                        "Content-Type": "application/json", "Authorization": "Bearer " + key, "If-None-Match": "*"}});
                    seen.push([answer.status, answer.headers.get("ETag") !== null, (await answer.json()).code ?? ""]);
                } catch (error) { seen.push(error.name) }
                return seen;
            })()"""
            url = f"{address}/v1/lists/known"
            for name, value in {"KEY": KEY, "URL": url, "BODY": json.dumps(asked)}.items():
                script = script.replace(name, json.dumps(value), 1)
            page.open(other)
            assert page.run(script) == ["TypeError", "TypeError"], "the preflight is refused"
            page.open(listed)
            assert page.run(script) == [[201, True, ""], [401, False, "unauthorized"]]
            assert page.run(script)[0] == [412, False, "precondition_failed"]
            page.open("data:text/html,<iframe sandbox=allow-scripts></iframe>")  # whose origin is null
            assert page.run(script) == ["TypeError", "TypeError"]
