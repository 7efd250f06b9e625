"""API keys over the application in process: entries, hashing, roles, and that only what is meant to be open is."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.api.authorization import ACCESS, OPEN_PATHS, SESSION_PATHS
from gateway.auth.api_keys import KEY_PREFIX, ApiKey, Keyring, KeysInvalid, digest_of, entry_of, new_key, parse_entries
from gateway.auth.key_file import KeyFile
from gateway.cli.main import cli
from tests.conftest import ROOT
from tests.support.fake_encoder import write_bundle
from tests.support.in_process_app import Web, ask, b64, is_problem, png

KEY = {role: f"{KEY_PREFIX}{role}-of-a-test" for role in ("infer", "read", "manage", "metrics")}
ENTRIES = ",".join(f"{role}-key:{hashlib.sha256(key.encode()).hexdigest()}:{role}" for role, key in KEY.items())
WITH_KEYS = pytest.mark.parametrize("web", [{"gateway_api_keys": ENTRIES}], indirect=True)
DIGEST = "a" * 64


def bearer(role: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEY[role]}"}


def operations(web: Web) -> list[tuple[str, str]]:
    """Every (method, path) of the OpenAPI text, and of the routes that it leaves out."""
    described = web.client.get("/openapi.json").json()["paths"]
    found = [(method.upper(), path) for path, methods in described.items() for method in methods]
    return [*found, ("GET", "/docs"), ("GET", "/openapi.json"), ("GET", "/swagger/swagger-ui.css")]


def filled(path: str) -> str:
    return path.replace("{name}", "x").replace("{decision_id}", "x")


@WITH_KEYS
def test_without_a_key_nothing_answers_but_what_is_open(web: Web) -> None:
    asked = web.encoder.image_calls
    paths = operations(web)
    assert len(paths) > 30
    for method, path in [*paths, ("GET", "/"), ("GET", "/nothing"), ("POST", "/livez/"), ("GET", "//v1/models")]:
        response = web.client.request(method, filled(path), json={"images": [b64(png())], "labels": ["a", "b"]})
        if path in SESSION_PATHS:  # what they ask for instead: tests/auth/test_sessions.py
            continue
        if path in OPEN_PATHS or path.startswith("/swagger/"):
            assert response.status_code == 200, path
            continue
        assert response.status_code == 401, (method, path)
        assert response.headers["www-authenticate"].startswith("Bearer")
        if path != "/v1/moderations":
            is_problem(response, 401, "unauthorized")
    assert web.encoder.image_calls == asked


@WITH_KEYS
def test_every_route_is_in_the_table_and_asks_for_its_roles(web: Web) -> None:
    closed = {
        (method, path) for method, path in operations(web) if path not in OPEN_PATHS and not path.startswith("/swagger")
    }
    assert closed == set(ACCESS)
    for (method, path), roles in ACCESS.items():
        for role in KEY:
            response = web.client.request(method, filled(path), headers=bearer(role))
            refused = response.status_code == 403
            assert refused == (role not in roles), (method, path, role, response.text)
            if refused:
                assert "insufficient_scope" in response.headers["www-authenticate"]


@WITH_KEYS
def test_a_route_that_the_table_lacks_is_refused(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    assert web.client.get("/v1/models", headers=bearer("infer")).status_code == 200
    monkeypatch.setattr("gateway.api.authorization.ACCESS", {})
    for role in KEY:
        is_problem(web.client.get("/v1/models", headers=bearer(role)), 403, "forbidden")


@WITH_KEYS
def test_with_a_key_unknown_paths_and_methods_are_told_apart(web: Web) -> None:
    is_problem(web.client.get("/nothing", headers=bearer("infer")), 404, "not_found")
    is_problem(web.client.get("/v1/classify", headers=bearer("infer")), 405, "method_not_allowed")


@WITH_KEYS
@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("Authorization", "")],
        [("Authorization", "Bearer")],
        [("Authorization", "Bearer ")],
        [("Authorization", KEY["infer"])],
        [("Authorization", f"Basic {KEY['infer']}")],
        [("Authorization", f"Bearer {KEY['infer']}x")],
        [("Authorization", f"Bearer {KEY['infer'][:-1]}")],
        [("Authorization", f"Bearer {digest_of(KEY['infer']).hex()}")],
        [("Authorization", f"Bearer {'x' * 60_000}")],
        [("Authorization", "Bearer \xff\xfe")],
        [("Authorization", f"Bearer {KEY['infer']}"), ("Authorization", "Bearer other")],
    ],
)
def test_what_is_no_key(web: Web, headers: list[tuple[str, str]]) -> None:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    is_problem(web.client.get("/v1/models", headers=raw), 401, "unauthorized")


@WITH_KEYS
def test_the_scheme_may_be_written_in_any_case(web: Web) -> None:
    for scheme in ("bearer", "BEARER", "Bearer "):
        assert web.client.get("/v1/models", headers={"Authorization": f"{scheme} {KEY['infer']}"}).status_code == 200


@WITH_KEYS
def test_openai_errors_have_its_shape(web: Web) -> None:
    body = {"input": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]}
    for headers, status, kind, code in (
        ({}, 401, "authentication_error", "unauthorized"),
        (bearer("read"), 403, "permission_error", "forbidden"),
    ):
        response = web.client.post("/v1/moderations", json=body, headers=headers)
        assert response.status_code == status
        assert set(response.json()) == {"error"}
        assert (response.json()["error"]["type"], response.json()["error"]["code"]) == (kind, code)


def test_without_keys_everything_is_open_and_the_audit_says_anonymous(web: Web) -> None:
    assert ask(web).status_code == 200
    assert web.client.put("/v1/lists/x", json={"action": "block", "kind": "sha256"}).status_code == 201
    (row,) = web.client.get("/v1/audit", params={"kind": "list"}).json()["data"]
    assert row["actor"] == "anonymous"


@WITH_KEYS
def test_the_openapi_text_says_what_is_asked_for(web: Web) -> None:
    text = web.client.get("/openapi.json").json()
    (scheme,) = text["components"]["securitySchemes"]
    assert text["components"]["securitySchemes"][scheme]["scheme"] == "bearer"
    for path, methods in text["paths"].items():
        for method, operation in methods.items():
            if path in OPEN_PATHS:
                assert operation["security"] == []
                continue
            assert operation["security"] == [{scheme: []}]
            assert {"401", "403", "429"} <= set(operation["responses"]), (method, path)
            assert all(f"`{role}`" in operation["description"] for role in ACCESS[method.upper(), path])


def test_a_key_is_long_random_and_kept_as_its_hash_alone() -> None:
    made = {new_key() for _ in range(50)}
    assert len(made) == 50
    assert all(key.startswith("clipmod_") and len(key) >= len("clipmod_") + 43 for key in made)  # 256 bits in base64
    key = made.pop()
    assert digest_of(key) == hashlib.sha256(key.encode()).digest()
    entry = entry_of(ApiKey("ci", digest_of(key), frozenset({"infer", "read"}), "120/minute"))
    assert key not in entry
    (read,) = parse_entries(entry)
    assert read == ApiKey("ci", digest_of(key), frozenset({"infer", "read"}), "120/minute")
    assert key not in repr(Keyring([read]).keys)


def test_every_entry_is_compared_in_constant_time_whichever_matches(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [new_key() for _ in range(20)]
    ring = Keyring(ApiKey(f"k{number}", digest_of(key), frozenset({"infer"})) for number, key in enumerate(keys))
    compared: list[bytes] = []
    real = hmac.compare_digest

    def counting(known: bytes, given: bytes) -> bool:
        compared.append(known)
        return real(known, given)

    monkeypatch.setattr("gateway.auth.api_keys.hmac.compare_digest", counting)
    for given, name in ((keys[0], "k0"), (keys[-1], "k19"), ("clipmod_other", None)):
        compared.clear()
        found = ring.find(given)
        assert (found.name if found else None) == name
        assert compared == [key.digest for key in ring.keys]


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("clipmod_secret-secret-secret", "name:sha256:roles"),
        ("ci:clipmod_secret-secret-secret:infer", "SHA-256"),
        (f"ci:{DIGEST}secret:infer", "SHA-256"),
        (f"ci:{DIGEST}", "name:sha256:roles"),
        (f"ci:{DIGEST}:", "roles"),
        (f"ci:{DIGEST}:secret", "roles"),
        (f"ci:{DIGEST}:infer+", "roles"),
        (f"ci:{DIGEST}:infer:secret", "rate"),
        (f"ci:{DIGEST}:infer:0/minute", "rate"),
        (f"ci:{DIGEST}:infer:5/fortnight", "rate"),
        (f"ci:{DIGEST}:infer:5/minute:secret", "name:sha256:roles"),
        (f"-secret:{DIGEST}:infer", "name"),
        (f"seed:{DIGEST}:infer", "name"),
        (f"anonymous:{DIGEST}:infer", "name"),
        (f"ci:{hashlib.sha256(b'').hexdigest()}:infer", "nothing"),
        (f"ci:{DIGEST}:infer secret:{DIGEST.upper()}:read", "another entry"),
        ("\n".join(f"k:{number:064x}:infer" for number in range(1001)), "1000"),
    ],
)
def test_entries_that_are_refused_are_not_repeated(entry: str, said: str) -> None:
    with pytest.raises(KeysInvalid, match=said) as raised:
        parse_entries(entry)
    assert "secret" not in str(raised.value)
    assert DIGEST not in str(raised.value)


def test_entries_by_line_and_by_comma_with_comments() -> None:
    text = f"# all of them\na:{'1' * 64}:infer, b:{'2' * 64}:read:5/hour # the second\n\n\tb:{'3' * 64}:read+manage\n"
    assert [(key.name, sorted(key.roles), key.rate) for key in parse_entries(text)] == [
        ("a", ["infer"], None),
        ("b", ["read"], "5/hour"),
        ("b", ["manage", "read"], None),
    ]


async def test_the_file_is_followed_and_never_opens_the_gateway(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    old, new = new_key(), new_key()
    entries = {key: entry_of(ApiKey("ci", digest_of(key), frozenset({"infer"}))) for key in (old, new)}
    file.write_text(entries[old] + "\n")
    key_file = KeyFile("", file)

    async def known(text: str | None) -> list[bool]:
        if text is None:
            file.unlink()
        else:
            file.write_text(text)
        await key_file.refresh()
        assert key_file.current is not None
        return [key_file.current.find(key) is not None for key in (old, new)]

    assert await known(entries[old]) == [True, False]
    assert await known(f"{entries[old]}\n{entries[new]}") == [True, True]
    assert await known(entries[new]) == [False, True]
    assert await known(f"{entries[new]}\nci:{'x' * 64}:infer\n") == [False, True], "a wrong line is no key, others stay"
    assert await known(None) == [False, True], "a file that cannot be read says nothing"
    assert await known("") == [False, False], "no entry: nobody"
    assert await known(entries[old]) == [True, False]


def test_settings_that_name_no_key_are_refused(tmp_path: Path) -> None:
    assert KeyFile("", None).current is None
    (tmp_path / "empty").write_text("# none yet\n")
    for entries in (" ", "#"):
        with pytest.raises(KeysInvalid):
            KeyFile(entries, None)
    for file in (tmp_path / "empty", tmp_path / "absent", tmp_path):
        with pytest.raises(KeysInvalid):
            KeyFile("", file)


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"GATEWAY_HOST": "0.0.0.0"}, "no API keys"),  # noqa: S104 - what is refused
        ({"GATEWAY_API_KEYS": "ci:clipmod_secret:infer"}, "entry 1 has no SHA-256"),
        ({"RATE_LIMIT_STORAGE_URL": "mysql://user:secret@host"}, "redis://"),
    ],
)
def test_the_gateway_refuses_to_start(tmp_path: Path, environment: dict[str, str], said: str) -> None:
    write_bundle(tmp_path)
    run = subprocess.run(
        [sys.executable, "-m", "gateway"],
        cwd=ROOT,
        env={**os.environ, "MODEL_REPOSITORY": str(tmp_path), "DATA_DIR": str(tmp_path), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 2
    assert said in run.stderr
    assert "secret" not in run.stdout + run.stderr


def command(*words: str) -> Result:
    return CliRunner().invoke(cli, ["keys", "new", *words])


def test_the_command_prints_a_key_and_its_entry() -> None:
    run = command("--name", "ci", "--roles", "infer,read", "--rate", "120/minute")
    assert run.exit_code == 0, run.stderr
    key, entry = (line.split()[-1] for line in run.stdout.splitlines())
    (read,) = parse_entries(entry)
    assert (read.name, sorted(read.roles), read.rate) == ("ci", ["infer", "read"], "120/minute")
    assert Keyring([read]).find(key) is read
    assert key not in entry
    scripted = json.loads(command("--name", "ci", "--roles", "infer", "--json").stdout)
    assert Keyring(parse_entries(scripted["entry"])).find(scripted["key"]) is not None


def test_the_command_refuses_what_the_gateway_would(tmp_path: Path) -> None:
    unwritable = ["--roles", "infer", "--append-to", str(tmp_path / "absent" / "keys")]
    for wrong in (["--roles", "admin"], ["--roles", "infer", "--rate", "often"], unwritable):
        run = command("--name", "ci", *wrong)
        assert (run.exit_code, run.stdout) == (2, "")


def test_making_a_key_does_not_load_the_server() -> None:
    code = (
        "import sys; from gateway.cli.main import cli; cli(['keys', '--help'], standalone_mode=False); "
        "print(sorted({'fastapi', 'numpy'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert run.stdout.splitlines()[-1] == "[]"
