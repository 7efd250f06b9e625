"""A real gateway process with API keys, through real HTTP: rates, roles, the tools, the key file, OpenAI's client."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2
import openai
import pytest
from openai.types import ModerationImageURLInputParam

from gateway.auth.api_keys import ApiKey, digest_of, entry_of, new_key
from loadtests.run import usable
from loadtests.target import NoStack, Target
from tests.conftest import ROOT, Stack
from tests.support.drawings import encoded, shape
from tests.support.fault_table import FaultLog
from tests.support.gateway_processes import more_gateways
from tests.support.waiting import until

pytestmark = pytest.mark.heavy

LABEL = "a red circle"
QUOTA = 3


@dataclass(frozen=True)
class Kept:
    """A gateway that asks for keys, one of each kind, and what it wrote."""

    url: str
    keys: dict[str, str]
    file: Path
    log: Path


def auth(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture(scope="module")
def kept(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    """Listening on all addresses: with keys it may."""
    folder = tmp_path_factory.mktemp("kept")
    made = {name: new_key() for name in ("infer", "read", "manage", "metrics", "quota", "sdk-quota")}
    roles = {name: frozenset({name if name in {"read", "manage", "metrics"} else "infer"}) for name in made}
    rates = {"quota": f"{QUOTA}/hour", "sdk-quota": "1/hour"}
    entries = [entry_of(ApiKey(name, digest_of(key), roles[name], rates.get(name))) for name, key in made.items()]
    file = folder / "keys.txt"
    file.write_text(entries.pop() + "\n")
    environment = {
        "GATEWAY_HOST": "0.0.0.0",  # noqa: S104 - what is tested
        "GATEWAY_API_KEYS": ",".join(entries),
        "GATEWAY_API_KEYS_FILE": str(file),
        "LOG_FORMAT": "json",
        "LOG_LEVEL": "info",
    }
    with more_gateways(stack, 1, folder, **environment) as (url,):
        yield Kept(url, made, file, folder / "gateway-0.log")


def classify(kept: Kept, **headers: str) -> httpx2.Response:
    data = {"labels": [LABEL, "a blue square"]}
    return httpx2.post(
        f"{kept.url}/v1/classify", files={"file": encoded(shape(LABEL))}, data=data, headers=headers, timeout=30
    )


def test_97_a_key_over_its_quota(kept: Kept, faults: FaultLog) -> None:
    header = auth(kept.keys["quota"])
    admitted = 0
    while (response := classify(kept, **header)).status_code == 200:
        admitted += 1
        assert response.headers["ratelimit-policy"] == f'"quota";q={QUOTA};w=3600'
        assert f";r={QUOTA - admitted};" in response.headers["ratelimit"] or admitted > 1
        assert admitted <= QUOTA + 1, "one more where two windows meet"
    assert admitted >= QUOTA
    faults.expect(97, f"a request of a key over its quota of {QUOTA} an hour", response, "429 rate_limited")
    assert 1 <= int(response.headers["retry-after"]) <= 3600
    assert response.headers["content-type"] == "application/problem+json"
    assert "scores" not in response.text
    assert "r=0" in response.headers["ratelimit"]
    also = httpx2.get(f"{kept.url}/v1/models", headers=header)
    faults.expect(97, "any other route with the same key", also, "429 rate_limited")
    assert classify(kept, **auth(kept.keys["infer"])).status_code == 200, "another key is not held up"


def test_no_key_wrong_key_wrong_role(kept: Kept) -> None:
    for headers in ({}, auth(new_key())):
        response = classify(kept, **headers)
        assert (response.status_code, response.json()["code"]) == (401, "unauthorized")
        assert response.headers["www-authenticate"] == 'Bearer realm="clip-gateway"'
    response = classify(kept, **auth(kept.keys["read"]))
    assert (response.status_code, response.json()["code"]) == (403, "forbidden")
    assert classify(kept, **auth(kept.keys["infer"])).json()["results"][0]["scores"][0]["label"] == LABEL
    for name, status in (("metrics", 200), ("read", 200), ("infer", 403)):
        assert httpx2.get(f"{kept.url}/metrics", headers=auth(kept.keys[name])).status_code == status
    for path in ("/livez", "/readyz", "/docs", "/openapi.json"):
        assert httpx2.get(f"{kept.url}{path}").status_code == 200


def test_a_key_is_asked_for_before_the_body_is_read(kept: Kept) -> None:
    address = httpx2.URL(kept.url)
    with socket.create_connection((address.host, address.port or 0), timeout=10) as connection:
        connection.sendall(
            b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nContent-Length: 5000000\r\n\r\n"
        )
        assert connection.recv(12) == b"HTTP/1.1 401"


def test_logs_and_decisions_name_the_key_and_never_hold_it(kept: Kept) -> None:
    response = httpx2.post(
        f"{kept.url}/v1/moderate", files={"file": encoded(shape(LABEL))}, headers=auth(kept.keys["infer"]), timeout=30
    )
    decision = response.json()["results"][0]["decision_id"]
    shown = httpx2.get(f"{kept.url}/v1/decisions/{decision}", headers=auth(kept.keys["read"])).json()
    assert shown["key"] == "infer"
    unknown = new_key()
    classify(kept, **auth(unknown))
    until(lambda: "unknown key" in kept.log.read_text())
    text = kept.log.read_text()
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    mine = [line for line in lines if line.get("request_id") == response.headers["x-request-id"]]
    assert [(line["key"], line["route"]) for line in mine] == [("infer", "/v1/moderate")]
    refused = {(line["refused"], line["client"]) for line in lines if line.get("status") == 401}
    assert ("unknown key", "127.0.0.1") in refused
    for key in (*kept.keys.values(), unknown):
        assert key not in text
        assert digest_of(key).hex() not in text


def test_the_openai_package(kept: Kept) -> None:
    uri = "data:image/png;base64," + base64.b64encode(encoded(shape(LABEL))).decode()

    def moderate(key: str) -> bool:
        with openai.OpenAI(base_url=f"{kept.url}/v1", api_key=key, max_retries=0) as client:
            part: ModerationImageURLInputParam = {"type": "image_url", "image_url": {"url": uri}}
            answer = client.moderations.create(input=[part])
            return answer.results[0].flagged

    assert moderate(kept.keys["infer"]) is False
    with pytest.raises(openai.AuthenticationError) as wrong:
        moderate(new_key())
    assert wrong.value.code == "unauthorized"
    with pytest.raises(openai.PermissionDeniedError):
        moderate(kept.keys["read"])
    moderate(kept.keys["sdk-quota"])
    with suppress(openai.RateLimitError):
        moderate(kept.keys["sdk-quota"])  # where two windows meet it may pass
    with pytest.raises(openai.RateLimitError) as over:
        moderate(kept.keys["sdk-quota"])
    assert over.value.code == "rate_limited"
    assert int(over.value.response.headers["retry-after"]) >= 1


def test_keys_are_added_and_withdrawn_without_a_restart(kept: Kept) -> None:
    before = kept.file.read_text()
    program = str(Path(sys.executable).with_name("clip-gateway"))
    command = [program, "keys", "new", "--name", "late", "--roles", "infer", "--append-to", str(kept.file)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    late = run.stdout.strip()

    def status() -> int:
        return httpx2.get(f"{kept.url}/v1/models", headers=auth(late)).status_code

    until(lambda: status() == 200)
    kept.file.write_text(before)
    until(lambda: status() == 401)


def test_the_tools_send_the_key_of_the_environment(kept: Kept, tmp_path: Path) -> None:
    def run(*command: str, key: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "CLIP_API_KEY": key}
        return subprocess.run(
            [Path(sys.executable).with_name("clip-gateway"), *command, "--address", kept.url],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    picture = "examples/red-circle.png"
    assert run("moderate", picture, key=kept.keys["infer"]).returncode == 0
    refused = run("moderate", picture, key="")
    assert refused.returncode == 3
    assert "unauthorized" in refused.stdout
    assert run("policies", "export", "--folder", str(tmp_path), key=kept.keys["read"]).returncode == 0
    assert (tmp_path / "policies" / "default.yaml").is_file()


def test_the_load_test_sends_the_key_and_says_when_it_lacks_one(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    target = Target(kept.url, "127.0.0.1:1", Path("none"))
    monkeypatch.setenv("CLIP_API_KEY", kept.keys["infer"])
    assert usable(["upload"], target, "http://127.0.0.1:1") == ["upload"]
    monkeypatch.delenv("CLIP_API_KEY")
    with pytest.raises(NoStack, match="CLIP_API_KEY"):
        usable(["upload"], target, "http://127.0.0.1:1")
