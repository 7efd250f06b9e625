"""A real Chromium that is signed in: what a page of another port, which is the same site, gets out of its cookie."""

from __future__ import annotations

import json
from pathlib import Path

import httpx2
import pytest

from tests.auth.test_sessions import bearer, entries
from tests.conftest import Stack
from tests.support.browser import browser, site
from tests.support.gateway_processes import more_gateways

SIGN_IN = """fetch("/v1/session", {method: "POST", headers: {"Content-Type": "application/json"}, body: BODY})
    .then(answer => answer.status)"""
STATUS = 'fetch("/v1/lists").then(answer => answer.status)'


@pytest.mark.heavy
def test_another_page_can_do_nothing_with_the_session(stack: Stack, tmp_path: Path) -> None:
    key = bearer("manage")["Authorization"].removeprefix("Bearer ")
    with (
        more_gateways(stack, 1, tmp_path, GATEWAY_API_KEYS=entries()) as (address,),
        site("<title>other</title>") as other,
        browser(tmp_path / "profile") as page,
    ):
        page.open(f"{address}/console")
        assert page.run(STATUS) == 401
        assert page.run(SIGN_IN.replace("BODY", json.dumps(json.dumps({"key": key})))) == 200
        assert page.run(STATUS) == 200
        assert page.run("document.cookie") == ""
        assert page.run(f'fetch("/v1/lists/mine", {list_of("block")}).then(answer => answer.status)') == 201
        page.open(other)
        form = f"""(() => {{ const form = document.createElement("form");
            form.method = "post"; form.action = "{address}/v1/session";
            form.target = "shown"; form.enctype = "text/plain";
            document.body.append(Object.assign(document.createElement("iframe"), {{name: "shown"}}), form);
            form.submit(); }})()"""
        page.run(form)
        for mode in ("cors", "no-cors"):
            sent = f'{{method: "DELETE", credentials: "include", mode: "{mode}"}}'
            page.run(f'fetch("{address}/v1/lists/mine", {sent}).then(() => 0, () => 1)')
            read = f'fetch("{address}/v1/lists", {{credentials: "include", mode: "{mode}"}})'
            assert page.run(f'{read}.then(answer => answer.text(), () => "")') == ""
        post = '{method: "POST", credentials: "include", mode: "no-cors", body: "ab"}'
        page.run(f'fetch("{address}/v1/lists/mine/entries", {post}).then(() => 0, () => 1)')
        lists = httpx2.get(f"{address}/v1/lists", headers=bearer("manage")).json()["data"]
        assert [(kept["name"], kept["entries"]) for kept in lists] == [("mine", 0)]
        refused = httpx2.get(f"{address}/metrics", headers=bearer("read")).text
        assert 'gateway_errors_total{code="cross_site_request"}' in refused
        page.open(f"{address}/console")
        assert page.run(STATUS) == 200, "still signed in"


def list_of(action: str) -> str:
    body = json.dumps({"action": action, "kind": "sha256"})
    return f'{{method: "PUT", headers: {{"Content-Type": "application/json"}}, body: {json.dumps(body)}}}'
