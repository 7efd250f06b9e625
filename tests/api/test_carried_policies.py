"""Two gateways with two bundles on one database: what of the other can be applied, and carrying it over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from gateway.app import create_app
from gateway.cli.carry import carry
from gateway.cli.policies import DONE, ERROR, told
from gateway.moderation.heads import packed
from gateway.settings import Settings
from tests.support.fake_encoder import DIM, FakeEncoder, write_bundle
from tests.support.in_process_app import Web, is_problem, wait_ready
from tests.support.saved_policies import ALWAYS, CLASSIFIER, moderate, put
from tests.support.waiting import until

OLD, NEW = "a1" * 32, "b2" * 32
TUNED_ON: dict[str, Any] = {
    "at": "2026-11-01T12:00:00Z",
    "images": 500,
    "harmless": 400,
    "parts": ["train"],
    "digest": "0" * 64,
    "model": "demo",
    "bundle_id": OLD,
    "policy": "strict@1",
    "confidence": 0.9,
}
CARRIED = {"bundle_id": OLD, "version": 1}


@dataclass(frozen=True)
class Both:
    """Two gateways on one database: the one with the bundle ``OLD`` has a policy that the other one lacks."""

    old: Web
    new: Web

    def carry(self, *names: str, activate: bool = False, from_bundle: str = OLD[:6], to_bundle: str = NEW[:6]) -> int:
        """Run the command; what it prints is captured."""
        return told(
            self.new.client,
            lambda client: carry(client, from_bundle, to_bundle, names, activate=activate, as_json=False),
        )

    def versions(self, name: str = "strict") -> list[Any]:
        """Of a policy, as the new gateway shows them."""
        data: list[Any] = self.new.client.get(f"/v1/policies/{name}/versions").json()["data"]
        return data


def served(folder: Path, bundle_id: str) -> tuple[TestClient, FakeEncoder]:
    manifest = replace(write_bundle(folder / bundle_id, context_length=200), bundle_id=bundle_id)
    (folder / bundle_id / "manifest.json").write_text(manifest.to_json())
    encoder = FakeEncoder()
    encoder.bundle_id = bundle_id
    settings = Settings(model_repository=folder / bundle_id, data_dir=folder, log_level="error", decode_isolation=False)
    return TestClient(create_app(settings, lambda *_: encoder), base_url="http://localhost"), encoder


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Both]:
    (one, encoder), (two, other) = served(tmp_path, OLD), served(tmp_path, NEW)
    with ExitStack() as exits:
        made = Both(Web(one, encoder), Web(two, other))
        for web in (made.old, made.new):
            exits.enter_context(web.client)
            wait_ready(web)
        put(made.old, "/v1/classifiers/scene", CLASSIFIER)
        put(made.old, "/v1/policies/strict", {**ALWAYS, "tuned_on": TUNED_ON}).raise_for_status()
        until(lambda: readiness(made.new)["status"] == "degraded")
        yield made


def readiness(web: Web) -> Any:
    return web.client.get("/readyz").json()


def not_applicable(web: Web) -> str:
    return next(
        line.split()[-1]
        for line in web.client.get("/metrics").text.splitlines()
        if line.startswith("gateway_policies_not_applicable ")
    )


def head(web: Web) -> dict[str, Any]:
    served = web.client.get("/v1/models").json()["data"][0]
    model = {name: served[name] for name in ("id", "embedding_dim", "bundle_id")}
    layer = {"weight": packed([[1.0] * DIM]), "bias": packed([0.0])}
    return {"kind": "head", "labels": ["bad"], "output": "sigmoid", "model": model, "layers": [layer]}


def test_policies_that_cannot_be_applied_show_and_carrying_mends_it(
    both: Both, capsys: pytest.CaptureFixture[str]
) -> None:
    said = both.new.client.get("/readyz")
    assert (said.status_code, said.json()["degraded"]) == (200, ["policies"])
    assert said.json()["reasons"][0].startswith("1 ")
    assert both.new.client.get("/v1/status").json()["not_applicable"] == [{"kind": "policy", "name": "strict"}]
    assert (not_applicable(both.new), not_applicable(both.old)) == ("1.0", "0.0")
    assert readiness(both.old)["degraded"] == []
    is_problem(moderate(both.new), 409, "policy_model_mismatch")

    assert both.carry("strict") == DONE
    assert "policy strict@1: carried as version 2, a draft\n" in capsys.readouterr().out
    draft = both.versions()[0]
    assert (draft["version"], draft["bundle_id"], draft["active"]) == (2, NEW, False)
    assert (draft["carried_from"], draft["tuned_on"]) == (CARRIED, None)
    assert (draft["rules"], draft["classifiers"]) == (both.versions()[1]["rules"], {"scene": 1})
    is_problem(moderate(both.new), 409, "policy_model_mismatch")
    drafted = moderate(both.new, policy="strict@2").json()["results"][0]
    assert (drafted["decision"], "uncalibrated" in drafted["warnings"]) == ("block", True)

    assert both.carry("strict") == DONE
    assert "is there already as version 2, a draft" in capsys.readouterr().out
    assert both.carry("strict", activate=True) == DONE
    assert "is there already as version 2, in force" in capsys.readouterr().out
    assert len(both.versions()) == 2
    assert moderate(both.new).json()["results"][0]["policy"]["version"] == 2
    assert moderate(both.old).json()["results"][0]["policy"]["version"] == 1
    assert (readiness(both.new)["degraded"], not_applicable(both.new)) == ([], "0.0")


@pytest.mark.heavy
def test_what_was_measured_since_stays_in_force(both: Both) -> None:
    both.carry("strict")
    measured = {
        **ALWAYS,
        "rules": [{**ALWAYS["rules"][0], "block_at": 0.5}],
        "tuned_on": {**TUNED_ON, "bundle_id": NEW},
    }
    assert put(both.new, "/v1/policies/strict", measured).json()["carried_from"] is None
    assert both.carry("strict", activate=True) == DONE
    assert [(row["version"], row["active"]) for row in both.versions()] == [(3, True), (2, False), (1, False)]
    put(both.old, "/v1/policies/strict", {**ALWAYS, "views": "tiles"})
    assert both.carry("strict", activate=True) == DONE, "what is new at the old one is put in force when that is asked"
    assert (both.versions()[0]["views"], both.versions()[0]["active"]) == ("tiles", True)


def test_all_are_carried_but_heads_and_what_uses_them(both: Both, capsys: pytest.CaptureFixture[str]) -> None:
    assert put(both.old, "/v1/classifiers/learned", head(both.old)).status_code == 201
    rule = {**ALWAYS["rules"][0], "classifier": "learned"}
    put(both.old, "/v1/policies/learned", {**ALWAYS, "rules": [rule]}).raise_for_status()
    until(lambda: not_applicable(both.new) == "3.0")
    assert {"kind": "classifier", "name": "learned"} in both.new.client.get("/v1/status").json()["not_applicable"]
    shown = both.new.client.get("/v1/classifiers").json()["data"]
    assert {row["name"]: row["active"] for row in shown if row["name"] in {"scene", "learned"}} == {
        "scene": True,
        "learned": False,
    }
    assert both.carry() == ERROR
    said = capsys.readouterr()
    assert "policy strict@1: carried as version 2, a draft" in said.out
    assert "policy default@1: is there already as version" in said.out, "the shipped one of this bundle says the same"
    assert "policy learned@1: not carried: The head was trained on vectors of" in said.err
    assert "classifier learned@1: not carried: a head fits the model" in said.err
    assert [row["version"] for row in both.versions("learned")] == [1]


@pytest.mark.heavy
def test_a_wrong_bundle_or_name_is_refused(both: Both, capsys: pytest.CaptureFixture[str]) -> None:
    def active(bundle_id: str) -> set[tuple[str, int]]:
        rows = both.new.client.get("/v1/policies", params={"bundle_id": bundle_id}).json()["data"]
        return {(row["name"], row["version"]) for row in rows if row["active"]}

    assert active(OLD) == {("strict", 1), ("default", 1)}
    assert active(NEW[:8]) == {("default", 2)}
    is_problem(both.new.client.get("/v1/policies", params={"bundle_id": "zzzzzz"}), 422, "invalid_request")
    for given, told_ in (
        ({"to_bundle": OLD}, f"serves bundle {NEW}, not {OLD}"),
        ({"from_bundle": "a1a1a"}, "“a1a1a” is no bundle on this database"),
        ({"from_bundle": "c3" * 32}, "is no bundle on this database"),
        ({"from_bundle": NEW}, "names the bundle being served"),
    ):
        assert both.carry("strict" if "c3" in told_ else "default", **given) == ERROR  # type: ignore[arg-type]
        assert told_ in capsys.readouterr().err
    assert both.carry("absent") == ERROR
    assert "not in force for bundle a1a1a1: absent" in capsys.readouterr().err
    is_problem(both.new.client.post("/v1/policies/strict/carry", json={"from_bundle": NEW}), 422, "invalid_request")
    is_problem(both.new.client.post("/v1/policies/absent/carry", json={"from_bundle": OLD}), 404, "not_found")
    stale = both.new.client.post("/v1/policies/strict/carry", json={"from_bundle": OLD}, headers={"if-match": '"9-9"'})
    is_problem(stale, 412, "precondition_failed")
    assert len(both.versions()) == 1
    capsys.readouterr()
    told(both.new.client, lambda client: carry(client, OLD, NEW, ["strict"], activate=False, as_json=True))
    out = capsys.readouterr().out
    (row,) = json.loads(out[out.index("[\n") :])
    assert (row["name"], row["from_version"], row["version"], row["new"]) == ("strict", 1, 2, True)
