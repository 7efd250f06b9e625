"""Fault 116: what a page of another site makes a browser send to an open gateway on its own machine changes nothing."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pydantic import ValidationError

from gateway.api.authorization import ACCESS
from gateway.auth.api_keys import ApiKey, digest_of, entry_of, new_key
from gateway.settings import Settings
from tests.conftest import Stack
from tests.serving.test_http_faults import is_problem
from tests.support.browser import FLAGS, browser_path, site
from tests.support.fault_table import FaultLog
from tests.support.gateway_processes import more_gateways
from tests.support.in_process_app import Web
from tests.support.raw_http import RawAnswer, head, send_raw
from tests.support.waiting import until

SIMPLE = ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b")
OTHERS = "https://evil.example"
HASH = "ab" * 32


def routes(address: str) -> list[tuple[str, str]]:
    """Every route, of the table of roles and of the OpenAPI text, and some that are none."""
    described = httpx2.get(f"{address}/openapi.json").json()["paths"]
    found = set(ACCESS) | {(method.upper(), path) for path, methods in described.items() for method in methods}
    return [
        *sorted(found),
        ("PATCH", "/v1/policies/{name}"),
        ("POST", "/nothing"),
        ("PUT", "/livez"),
        ("POST", "/docs"),
    ]


def asked(address: str, *lines: str, method: str = "POST", path: str = "/v1/classify", **more: Any) -> RawAnswer:
    return send_raw(address, head(*lines, "Content-Length: 0", method=method, path=path, **more))


def own(address: str) -> str:
    return address.removeprefix("http://")


def test_116_no_page_of_another_site_reaches_a_route_that_changes_something(stack: Stack, faults: FaultLog) -> None:
    address, unsafe = stack.gateway_url, 0
    for method, route in routes(address):
        path = route.replace("{name}", "x").replace("{decision_id}", "x")
        for lines in (
            [f"Origin: {OTHERS}", "Sec-Fetch-Site: cross-site"],
            [f"Origin: {OTHERS}"],
            ["Sec-Fetch-Site: same-site"],
            ["Origin: null"],
        ):
            answer = asked(address, *lines, f"Content-Type: {SIMPLE[unsafe % 3]}", method=method, path=path)
            if method == "GET":
                assert answer.status_code != 403, path
                continue
            unsafe += 1
            faults.expect(116, f"{method} {route}, {lines[-1]}", str(answer.status_code), "403")
            if path == "/v1/moderations":
                error = answer.json()["error"]
                assert (error["code"], error["type"]) == ("cross_site_request", "permission_error")
            else:
                is_problem(answer)
                assert answer.json()["code"] == "cross_site_request"
    assert unsafe > 60


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([], 415),
        (["Sec-Fetch-Site: same-origin", "Origin: http://{own}"], 415),
        (["Sec-Fetch-Site: none"], 415),
        (["Origin: http://{own}"], 415),
        (["Origin: HTTP://{own}"], 415),
        (["Origin: https://{own}"], 415),  # a proxy with TLS is in between
        (["Sec-Fetch-Site: Same-Origin"], 403),
        (["Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: cross-site"], 403),
        (["Sec-Fetch-Site: "], 403),
        (["Origin: http://{own}", "Sec-Fetch-Site: cross-site"], 403),
        (["Origin: http://{own}", "Origin: https://evil.example"], 403),
        (["Origin: http://{own}.evil.example"], 403),
        (["Origin: http://evil.example@{own}"], 403),
        (["Origin: http://{own}/"], 403),
        (["Origin: ftp://{own}"], 403),
        (["Origin: http://localhost"], 403),
        (["Origin: http://127.0.0.1:1"], 403),
        (["Origin: {own}"], 403),
        (["Origin: "], 403),
        (["Origin: null", "Sec-Fetch-Site: cross-site"], 403),
        (["Origin: chrome-extension://abc"], 403),
    ],
    ids=str,
)
def test_who_may_send_what_changes_something(stack: Stack, lines: list[str], status: int) -> None:
    here = own(stack.gateway_url)
    answer = asked(stack.gateway_url, *(line.format(own=here) for line in lines), host=here)
    assert answer.status_code == status  # 415: it came as far as the body
    assert answer.json()["code"] == {403: "cross_site_request", 415: "unsupported_media_type"}[status]


def test_default_ports_may_be_left_out(stack: Stack) -> None:
    for origin, host, passes in (
        ("http://localhost", "localhost:80", True),
        ("https://localhost:443", "localhost", True),
        ("https://localhost", "localhost:443", True),
        ("http://localhost", "localhost:443", False),
        ("http://[::1]", "[::1]:80", True),
        ("http://LOCALHOST:8000", "localhost:8000", True),
    ):
        assert (asked(stack.gateway_url, f"Origin: {origin}", host=host).status_code == 415) is passes, origin


def test_what_is_no_change_is_answered_as_before(stack: Stack) -> None:
    cross = [f"Origin: {OTHERS}", "Sec-Fetch-Site: cross-site"]
    assert asked(stack.gateway_url, *cross, method="GET", path="/v1/models").status_code == 200
    assert asked(stack.gateway_url, *cross, method="HEAD", path="/livez").status_code in {200, 405}
    preflight = [*cross, "Access-Control-Request-Method: POST"]
    answer = asked(stack.gateway_url, *preflight, method="OPTIONS")
    assert answer.status_code == 405
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *((host, 200) for host in ("localhost", "LocalHost:1", "127.0.0.1", "127.3.2.1:8000", "[::1]", "[::1]:8000")),
        *((host, 200) for host in ("localhost.", "[::ffff:127.0.0.1]:8000")),  # loopback by other spellings
        *((host, 421) for host in ("evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "127.1")),
        *((host, 421) for host in ("0.0.0.0", "[::]", "10.0.0.1", "2130706433", "[::ffff:10.0.0.1]", "local%68ost")),  # noqa: S104
        *((host, 421) for host in ("x.localhost", "localhost..", "[::2]")),
        *((host, 400) for host in ("foo?", "localhost:8000/evil", "evil.example\\@localhost", "localhost:80:80", "")),
        *((host, 400) for host in ("localhost#", "localhost, evil.example", "[::1", "::1", "localhost:123456")),
    ],
)
@pytest.mark.parametrize("path", ["/v1/models", "/metrics", "/docs"])
def test_an_open_gateway_on_loopback_is_addressed_as_such(stack: Stack, host: str, status: int, path: str) -> None:
    answer = asked(stack.gateway_url, method="GET", path=path, host=host)
    assert answer.status_code == status
    if status != 200:
        is_problem(answer)
        assert answer.json()["code"] == ("host_not_allowed" if status == 421 else "http_malformed")


def test_two_hosts_and_targets_that_name_another_one(stack: Stack) -> None:
    address = stack.gateway_url
    for more, path, status in (
        (["Host: localhost"], "/v1/models", 400),
        (["Host: evil.example"], "/v1/models", 400),
        ([], "http://localhost/v1/models", 200),
        ([], "HTTP://LOCALHOST:80/v1/models", 200),
        ([], "http://evil.example/v1/models", 400),
        ([], "http://localhost@evil.example/v1/models", 400),
        ([], "http://evil.example@localhost/v1/models", 400),
        ([], "http://localhost:81/v1/models", 400),
        ([], "ftp://localhost/v1/models", 400),
        ([], "//evil.example/v1/models", 404),
    ):
        assert asked(address, *more, method="GET", path=path).status_code == status, path
    evil = asked(address, method="GET", path="http://evil.example/v1/models", host="evil.example")
    assert evil.status_code == 421


KEY = new_key()
KEYS = {"gateway_api_keys": entry_of(ApiKey("tester", digest_of(KEY), frozenset({"manage"})))}
NAMED = {"allowed_hosts": "api.example.org,*.internal,10.0.0.0/8", "cors_allowed_origins": OTHERS}
OPEN = {"gateway_host": "0.0.0.0", "gateway_allow_open": True}  # noqa: S104


@pytest.mark.parametrize(
    ("web", "status", "named"),
    [(KEYS, 401, False), (KEYS | NAMED, 401, True), (OPEN, 200, False), (OPEN | NAMED, 200, True)],
    indirect=["web"],
    ids=["keys", "keys and names", "open to others", "open to others by names"],
)
def test_beyond_a_gateway_without_keys_on_loopback(web: Web, status: int, named: bool) -> None:  # noqa: FBT001
    """Any host may be named unless ALLOWED_HOSTS is set; pages of other sites stay out unless they are listed."""
    for host in ("api.example.org:8080", "a.internal", "10.1.2.3", "127.0.0.1"):
        assert web.client.get("/v1/models", headers={"Host": host}).status_code == status
    other = web.client.get("/v1/models", headers={"Host": "evil.example"})
    assert other.status_code == (421 if named else status)
    # Before the key, and whether it is a good one or none.
    for key, then in (({}, 401 if status == 401 else 404), ({"Authorization": f"Bearer {KEY}"}, 404)):
        site = {"Origin": OTHERS, "Sec-Fetch-Site": "cross-site", **key}
        assert web.client.delete("/v1/lists/x", headers=site).status_code == (then if named else 403)
        site["Origin"] = "https://evil.example.org"
        assert web.client.delete("/v1/lists/x", headers=site).status_code == 403


@pytest.mark.parametrize("name", ["ALLOWED_HOSTS", "CORS_ALLOWED_ORIGINS"])
def test_a_setting_that_cannot_be_meant_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("https://a.example/path", "a.example:8000", "*", "https://a b", "a.example,https://b.example/"):
        monkeypatch.setenv(name, value)
        with pytest.raises(ValidationError):
            Settings()


def test_a_refusal_comes_before_the_body_and_is_counted(stack: Stack) -> None:
    address = stack.gateway_url

    def count() -> float:
        lines = httpx2.get(f"{address}/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if "cross_site_request" in line)

    before = count()
    answer = send_raw(address, head(f"Origin: {OTHERS}", "Content-Length: 60000000"))  # and not one byte of it
    assert answer.status_code == 403
    assert answer.closed
    assert count() == before + 1


def browse(url: str, profile: Path) -> str:
    """Open a page in a real browser for some seconds; return what it shows in the end."""
    words = [*FLAGS, f"--user-data-dir={profile}", "--virtual-time-budget=5000"]
    rebound = "--host-resolver-rules=MAP rebound.example 127.0.0.1"
    return subprocess.run(
        [browser_path(), *words, rebound, "--dump-dom", url], capture_output=True, text=True, timeout=120, check=True
    ).stdout


@pytest.mark.heavy
def test_116_a_browser_on_a_page_of_another_site(stack: Stack, tmp_path: Path) -> None:
    with more_gateways(stack, 1, tmp_path) as (address,):
        httpx2.put(f"{address}/v1/lists/known", json={"action": "block", "kind": "sha256"}).raise_for_status()
        before = httpx2.get(f"{address}/v1/audit").json()
        entries = f"{address}/v1/lists/known/entries"
        page = f"""<form method="post" enctype="text/plain" action="{entries}" target="shown">
            <input name="{HASH}" value=""></form><iframe name="shown"></iframe><script>
            document.forms[0].submit();
            fetch("{entries}", {{method: "POST", mode: "no-cors", body: "{HASH}"}});
            </script>"""
        with site(page) as other:
            browse(other, tmp_path / "profile")
        until(lambda: "cross_site_request" in httpx2.get(f"{address}/metrics").text)
        assert httpx2.get(entries).json()["data"] == []
        assert httpx2.get(f"{address}/v1/audit").json() == before
        shown = browse(f"{address.replace('127.0.0.1', 'rebound.example')}/v1/lists", tmp_path / "profile")
        assert "host_not_allowed" in shown
        assert "known" not in shown
        assert '"known"' in browse(f"{address}/v1/lists", tmp_path / "profile")
