"""Classifiers and policies as files: out of a gateway and into one, on a fake encoder and a real SQLite store."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from click.testing import CliRunner, Result

from gateway.cli.main import cli
from gateway.cli.policies import DIFFERS, DONE, ERROR, export, import_, told
from tests.conftest import ROOT, Stack
from tests.support.in_process_app import Web

CLASSIFIER: dict[str, Any] = {"labels": [{"label": "bad", "prompts": ["b1", "b2"]}, {"label": "good"}]}
POLICY: dict[str, Any] = {
    "rules": [{"category": "bad", "classifier": "scene", "labels": ["bad"], "review_at": 0.5, "block_at": 0.9}],
    "views": "full",
}


def run(client: httpx2.Client, command: str, folder: Path, *, dry_run: bool) -> int:
    work = export if command == "export" else import_
    return told(client, lambda client: work(client, folder, dry_run=dry_run))


def command(*words: Any) -> Result:
    return CliRunner().invoke(cli, ["policies", *map(str, words)])


@pytest.fixture
def made(web: Web) -> Web:
    """The application with one classifier and one policy."""
    assert web.client.put("/v1/classifiers/scene", json=CLASSIFIER).status_code == 201
    assert web.client.put("/v1/policies/mine", json=POLICY).status_code == 201
    return web


@pytest.fixture
def folder(made: Web, tmp_path: Path) -> Path:
    """What that application exports."""
    target = tmp_path / "policies"
    assert run(made.client, "export", target, dry_run=False) == DONE
    return target


def load(folder: Path, path: str) -> Any:
    return yaml.safe_load((folder / path).read_text(encoding="utf-8"))


def change(folder: Path, path: str, **fields: Any) -> None:
    (folder / path).write_text(yaml.safe_dump({**load(folder, path), **fields}), encoding="utf-8")


def version(web: Web, path: str) -> int:
    return int(web.client.get(f"/v1/{path}").json()["version"])


def test_an_export_is_complete_and_an_import_of_it_does_nothing(made: Web, folder: Path) -> None:
    assert load(folder, "policies/mine.yaml")["rules"][0]["block_at"] == 0.9
    assert load(folder, "classifiers/scene.yaml")["templates"], "with every default in place"
    assert not {"name", "version", "active", "bundle_id"} & set(load(folder, "policies/mine.yaml"))
    for dry_run in (True, False):
        assert run(made.client, "import", folder, dry_run=dry_run) == DONE
    assert (version(made, "classifiers/scene"), version(made, "policies/mine")) == (1, 1)


def test_a_file_that_says_the_same_keeps_its_comments(made: Web, folder: Path) -> None:
    path = folder / "policies" / "mine.yaml"
    path.write_text("# our reasons\n" + yaml.safe_dump(POLICY), encoding="utf-8")
    assert run(made.client, "export", folder, dry_run=True) == DONE
    assert run(made.client, "export", folder, dry_run=False) == DONE
    assert path.read_text(encoding="utf-8").startswith("# our reasons\n")


def test_a_dry_run_shows_and_changes_nothing(made: Web, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(folder, "policies/mine.yaml", views="tiles")
    capsys.readouterr()
    assert run(made.client, "import", folder, dry_run=True) == DIFFERS
    shown = capsys.readouterr().out
    assert "-views: full" in shown
    assert "+views: tiles" in shown
    assert version(made, "policies/mine") == 1
    assert run(made.client, "export", folder, dry_run=True) == DIFFERS
    assert load(folder, "policies/mine.yaml")["views"] == "tiles"


def test_an_import_saves_what_differs(made: Web, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(folder, "policies/mine.yaml", views="tiles")
    assert run(made.client, "import", folder, dry_run=False) == DONE
    assert "saved policies/mine as version 2" in capsys.readouterr().out
    assert made.client.get("/v1/policies/mine").json()["views"] == "tiles"
    assert version(made, "classifiers/scene") == 1


def test_a_changed_classifier_moves_the_policies_that_name_it(
    made: Web, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(folder, "classifiers/scene.yaml", description="sharper")
    assert run(made.client, "import", folder, dry_run=True) == DIFFERS
    assert "policies/mine.yaml: pins scene@1" in capsys.readouterr().out
    assert run(made.client, "import", folder, dry_run=False) == DONE
    assert made.client.get("/v1/policies/mine").json()["classifiers"] == {"scene": 2}
    assert run(made.client, "import", folder, dry_run=True) == DONE


def test_a_new_gateway_gets_everything(web: Web, tmp_path: Path) -> None:
    source = tmp_path / "files"
    for path, body in (("classifiers/scene", CLASSIFIER), ("policies/mine", POLICY)):
        (source / path).parent.mkdir(parents=True)
        (source / f"{path}.yaml").write_text(yaml.safe_dump(body), encoding="utf-8")
    assert run(web.client, "import", source, dry_run=True) == DIFFERS
    assert web.client.get("/v1/policies/mine").status_code == 404
    assert run(web.client, "import", source, dry_run=False) == DONE
    assert version(web, "policies/mine") == 1
    assert run(web.client, "import", source, dry_run=True) == DONE, "what the files leave to defaults is no difference"


class Meddling(httpx2.BaseTransport):
    """The gateway, on which somebody else saves right before the write."""

    def __init__(self, web: Web, before: str) -> None:
        self.web = web
        self.before = before

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        if f"{request.method} {request.url.path}" == self.before:
            self.before = ""
            self.web.client.put("/v1/policies/mine", json={**POLICY, "description": "theirs"})
        sent = self.web.client.request(
            request.method, str(request.url), content=request.read(), headers=dict(request.headers)
        )
        return httpx2.Response(sent.status_code, headers=sent.headers, content=sent.content)


@pytest.mark.parametrize("before", ["GET /v1/policies/mine/versions", "PUT /v1/policies/mine"])
def test_an_edit_meanwhile_is_not_overwritten(
    made: Web, folder: Path, before: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change(folder, "policies/mine.yaml", views="tiles")
    with httpx2.Client(transport=Meddling(made, before), base_url="http://localhost") as client:
        assert run(client, "import", folder, dry_run=False) == ERROR
    assert "changed on the gateway meanwhile" in capsys.readouterr().err
    assert made.client.get("/v1/policies/mine").json()["description"] == "theirs"


@pytest.mark.parametrize(
    ("path", "text", "said"),
    [
        ("policies/mine.yaml", "rules: []", "rules"),
        ("policies/mine.yaml", "rules: [", "mine.yaml"),
        ("policies/mine.yaml", "- a list", "mine.yaml"),
        ("policies/Not A Name.yaml", yaml.safe_dump(POLICY), "Not A Name"),
        ("classifiers/scene.yaml", "labels: [a, b]\ncolour: red", "colour"),
    ],
)
def test_one_bad_file_and_nothing_is_written(
    made: Web, folder: Path, path: str, text: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change(folder, "classifiers/scene.yaml", description="changed")
    (folder / path).write_text(text, encoding="utf-8")
    assert run(made.client, "import", folder, dry_run=False) == ERROR
    assert said in capsys.readouterr().err
    assert version(made, "classifiers/scene") == 1


def test_what_the_gateway_refuses_is_told(made: Web, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(folder, "policies/mine.yaml", rules=[{**POLICY["rules"][0], "classifier": "absent"}])
    assert run(made.client, "import", folder, dry_run=False) == ERROR
    assert "absent" in capsys.readouterr().err
    assert run(made.client, "import", folder / "nowhere", dry_run=False) == ERROR


def test_a_gateway_that_is_away_is_told(folder: Path) -> None:
    away = command("import", "--folder", folder, "--address", "http://127.0.0.1:9")
    assert (away.exit_code, "cannot be reached" in away.stderr) == (ERROR, True)
    wrong = command("import", "--folder", folder, "--address", "http://a:b")
    assert (wrong.exit_code, "is no address" in wrong.stderr) == (ERROR, True)


def test_what_is_no_gateway_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for said in ("<html>", "{}", '{"data": [3]}'):
        transport = httpx2.MockTransport(lambda _, said=said: httpx2.Response(200, text=said))
        with httpx2.Client(base_url="http://elsewhere", transport=transport) as client:
            assert run(client, "export", folder, dry_run=True) == ERROR
        assert "does not answer as a gateway does" in capsys.readouterr().err


def test_the_shipped_files_are_what_a_fresh_gateway_exports(stack: Stack, tmp_path: Path) -> None:
    shipped = ROOT / "gateway" / "moderation" / "scenarios" / "demo"
    shutil.copytree(shipped, tmp_path / "classifiers", ignore=shutil.ignore_patterns("policy-*"))
    assert command("export", "--folder", tmp_path, "--address", stack.gateway_url).exit_code == DONE
    for name in ("nudity", "gore", "offensive", "facial_attributes"):
        kept = (tmp_path / "classifiers" / f"{name}.yaml").read_text(encoding="utf-8")
        assert kept == (shipped / f"{name}.yaml").read_text(encoding="utf-8"), "no difference, so nothing was written"
    assert load(tmp_path, "policies/default.yaml") is not None


def test_what_is_in_force_is_listed(stack: Stack) -> None:
    listed = command("list", "--address", stack.gateway_url).stdout
    assert "classifiers  gore@" in listed
    assert "policies     default@" in listed
    rows = json.loads(command("list", "--json", "--address", stack.gateway_url).stdout)
    assert {row["name"]: row["kind"] for row in rows}["default"] == "policies"
    assert all(row["version"] >= 1 and ("rules" in row or "labels" in row) for row in rows)
