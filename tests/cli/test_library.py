"""The scenario library from the command line: listed, added to a gateway, and what it prints put into a policy."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml
from click.testing import CliRunner
from starlette.testclient import TestClient

from gateway.app import create_app
from gateway.cli.library import add
from gateway.cli.main import cli
from gateway.cli.policies import DONE, ERROR, told
from gateway.moderation.builtin_scenarios import shipped
from gateway.settings import Settings
from tests.support.fake_encoder import FakeEncoder, write_bundle
from tests.support.in_process_app import Web, png, wait_ready

LIBRARY = shipped("library")


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """The application in process, with a model that reads prompts of 200 characters."""
    folder = tmp_path_factory.mktemp("bundle")
    write_bundle(folder, context_length=200)
    settings = Settings(model_repository=folder, data_dir=folder / "data", log_level="error", decode_isolation=False)
    encoder = FakeEncoder()
    with TestClient(create_app(settings, lambda *_: encoder), base_url="http://localhost") as client:
        made = Web(client, encoder)
        wait_ready(made)
        yield made


def printed(out: str, key: str) -> object:
    """What was printed for a policy; the application's log stands before it, since it runs in this process."""
    return yaml.safe_load(out[out.index(f"{key}:\n") :])


def added(web: Web, *names: str) -> int:
    return told(web.client, lambda client: add(client, LIBRARY, names))


def test_every_scenario_is_listed_with_a_sentence() -> None:
    lines = CliRunner().invoke(cli, ["library"]).stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(LIBRARY.classifiers)
    assert all(line.endswith(".") and len(line.split()) > 5 for line in lines)


def test_what_is_added_decides_once_a_policy_has_what_was_printed(web: Web, capsys: pytest.CaptureFixture[str]) -> None:
    assert added(web, "weapons") == DONE
    shown = capsys.readouterr()
    assert "saved classifiers/weapons as version 1" in shown.err
    body = printed(shown.out, "rules")
    assert body == {"rules": [LIBRARY.policies["library"].rules[0].model_dump(mode="json")]}
    assert web.client.put("/v1/policies/market", json=body).status_code == 201
    files = {"file": ("a.png", png(), "image/png")}
    answer = web.client.post("/v1/moderate", files=files, data={"policy": "market"}).json()
    assert [entry["category"] for entry in answer["results"][0]["categories"]] == ["weapons"]


def test_the_demo_model_is_told_that_it_knows_drawings_alone(web: Web, capsys: pytest.CaptureFixture[str]) -> None:
    assert added(web, "violence") == DONE
    assert "knows drawings" in capsys.readouterr().err


def test_crowds_inform_and_come_without_a_rule(web: Web, capsys: pytest.CaptureFixture[str]) -> None:
    assert added(web, "crowds_and_protest") == DONE
    assert printed(capsys.readouterr().out, "attributes") == {"attributes": ["crowds_and_protest"]}


def test_several_make_one_policy(web: Web, capsys: pytest.CaptureFixture[str]) -> None:
    assert added(web, "scams", "text_screenshots", "crowds_and_protest") == DONE
    body = printed(capsys.readouterr().out, "rules")
    assert web.client.put("/v1/policies/mixed", json=body).status_code == 201
    saved = web.client.get("/v1/policies/mixed").json()
    assert [rule["category"] for rule in saved["rules"]] == ["scams", "text_screenshots"]
    assert saved["attributes"] == ["crowds_and_protest"]


def test_adding_again_changes_nothing_and_an_edit_is_not_overwritten(
    web: Web, capsys: pytest.CaptureFixture[str]
) -> None:
    assert added(web, "drugs") == DONE
    assert added(web, "drugs") == DONE
    assert "classifiers/drugs is there already" in capsys.readouterr().err
    assert len(web.client.get("/v1/classifiers/drugs/versions").json()["data"]) == 1
    edited = LIBRARY.classifiers["drugs"].model_copy(update={"description": "ours"})
    assert web.client.put("/v1/classifiers/drugs", json=edited.model_dump(mode="json")).status_code == 200
    assert added(web, "gambling", "drugs") == ERROR
    assert "says something else" in capsys.readouterr().err
    assert web.client.get("/v1/classifiers/drugs").json()["description"] == "ours"
    assert web.client.get("/v1/classifiers/gambling").status_code == 404


def test_a_name_that_is_not_there_is_told_with_those_that_are() -> None:
    result = CliRunner().invoke(cli, ["library", "add", "minors_present"])
    assert result.exit_code == 2
    assert "self_harm" in result.stderr
