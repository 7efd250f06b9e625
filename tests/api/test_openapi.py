"""The OpenAPI text against the service: requests made from it, right and wrong ones, on every route that it names."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from gateway.auth.api_keys import ApiKey, digest_of, entry_of, new_key
from tests.conftest import ROOT, Stack
from tests.support.gateway_processes import more_gateways

SEED = "20261121"


SESSIONS = "^/v1/session($|/)"  # a browser's page alone may ask; tests/auth/test_sessions.py does


@pytest.mark.heavy
@pytest.mark.timeout(600)
def test_every_route_answers_as_documented(stack: Stack, tmp_path: Path) -> None:
    """No 5xx, no undocumented status or content type, no answer of another shape, nothing wrong accepted.

    On a gateway of its own, with a key: the requests delete whatever they can name.
    """
    key = new_key()
    entry = entry_of(ApiKey("tester", digest_of(key), frozenset({"infer", "read", "manage", "review"})))
    with more_gateways(stack, 1, tmp_path, LOG_LEVEL="error", GATEWAY_API_KEYS=entry) as (address,):
        paths = httpx2.get(f"{address}/openapi.json").json()["paths"]
        operations = sum(len(methods) for path, methods in paths.items() if not re.search(SESSIONS, path))
        words = ["--checks", "all", "--phases", "examples,coverage,fuzzing", "--max-examples", "3", "--seed", SEED]
        run = subprocess.run(
            [
                str(Path(sys.executable).with_name("schemathesis")),
                "--no-color",
                "--config-file",
                str(ROOT / "schemathesis.toml"),
                "run",
                f"{address}/openapi.json",
                *words,
                "--exclude-path-regex",
                SESSIONS,
                "--header",
                f"Authorization: Bearer {key}",
                "--no-shrink",
                "--continue-on-failure",
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
    tested = re.search(r"Tested: (\d+)", run.stdout)
    assert tested is not None
    assert int(tested[1]) == operations >= 30
    passed = re.search(r"(\d+) generated, (\d+) passed", run.stdout)
    assert passed is not None
    assert passed[1] == passed[2]
    assert int(passed[1]) > 1000


def test_errors_that_every_route_can_give_are_documented(client: httpx2.Client) -> None:
    schema = client.get("/openapi.json").json()
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            assert {"400", "408", "431", "500", "503"} <= set(operation["responses"]), (method, path)
            for status, response in operation["responses"].items():
                if int(status) >= 400 and (path, status) != ("/readyz", "503"):
                    assert "application/problem+json" in response["content"], (method, path, status)


def test_a_wrong_method_is_told_all_that_the_path_takes(client: httpx2.Client) -> None:
    for path, methods in {
        "/v1/policies/default": "DELETE, GET, PUT",
        "/v1/classify": "POST",
        "/v1/reviews/claim": "POST",
        "/livez": "GET, HEAD",
    }.items():
        answer = client.request("PATCH", path)
        assert (answer.status_code, answer.headers["allow"]) == (405, methods)
        assert answer.json()["code"] == "method_not_allowed"
    assert client.get("/v1/policies/").status_code == 404, "no redirect to a host that the client named"


def test_the_documentation_page_may_load_its_own_files_and_nothing_else(client: httpx2.Client) -> None:
    page = client.get("/docs")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert policy.count("'sha256-") == len(re.findall(r"<script>", page.text)) == 1
    for name in re.findall(r'(?:src|href)="(swagger/[^"]+)"', page.text):
        assert client.get(f"/{name}").status_code == 200
    assert "'unsafe-inline'" not in policy.split("style-src")[0]
    api = client.get("/livez").headers
    assert api["content-security-policy"].startswith("default-src 'none'")
    assert (api["x-content-type-options"], api["x-frame-options"]) == ("nosniff", "DENY")
    assert (api["cache-control"], api["referrer-policy"]) == ("no-store", "no-referrer")
    assert "server" not in api
