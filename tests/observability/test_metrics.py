"""What is counted, under which names, and that alerts and dashboard ask for nothing else."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from gateway.observability.metrics import MOST_NAMES, Metrics
from gateway.settings import MIB
from tests.conftest import ROOT
from tests.support.in_process_app import Web, png
from tests.support.saved_policies import moderate
from tests.support.waiting import until

pytest_plugins = ["tests.support.saved_policies_fixtures"]
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
DASHBOARD = ROOT / "deploy" / "grafana" / "gateway.json"
PROMETHEUS = ROOT / "deploy" / "prometheus" / "prometheus.yml"
LABEL = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"')


PROCESS = {"process_resident_memory_bytes", "process_open_fds", "process_max_fds"}


def shown(made: Web) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return every sample by name and labels."""
    families = text_string_to_metric_families(made.client.get("/metrics").text)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def value(made: Web, name: str, **labels: str) -> float:
    return shown(made).get((name, frozenset(labels.items())), 0.0)


def test_decisions_are_counted_by_policy_category_and_outcome(made: Web) -> None:
    moderate(made, png(), png("blue"))
    moderate(made, b"nothing")
    ((category,),) = (result["categories"] for result in moderate(made).json()["results"])
    assert value(made, "gateway_decisions_total", policy="strict", decision="block") == 3
    assert value(made, "gateway_category_decisions_total", policy="strict", category="bad", decision="block") == 3
    far = abs(category["score"] - category["block_at"]) > 0.05
    near = value(made, "gateway_category_scores_near_threshold_total", policy="strict", category="bad")
    assert near == (0 if far else 3)
    assert value(made, "gateway_images_total", format="png", megapixels="<=0.25") == 3


def test_a_match_of_a_list_is_counted_as_one_and_not_as_a_category(made: Web) -> None:
    picture = png("green")
    made.client.put("/v1/lists/known", json={"action": "block", "kind": "sha256"})
    made.client.post("/v1/lists/known/entries", json=[hashlib.sha256(picture).hexdigest()])
    moderate(made, picture)
    assert value(made, "gateway_list_matches_total", list="known") == 1
    assert value(made, "gateway_decisions_total", policy="strict", decision="block") == 1
    assert not any(name == "gateway_category_decisions_total" for name, _ in shown(made))


@pytest.mark.parametrize("web", [{"store_timeout_s": 1.0, "decision_spool_mib": 0}], indirect=True)
def test_failures_of_store_and_log_are_counted(made: Web, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "data" / "gateway.sqlite", isolation_level=None) as held:
        held.execute("BEGIN IMMEDIATE")
        moderate(made, png(), png("blue"))
        held.execute("ROLLBACK")
    held.close()
    assert value(made, "gateway_decisions_not_logged_total") == 2
    assert value(made, "gateway_store_failures_total", cause="locked") > 0


def test_a_score_near_a_threshold_is_counted() -> None:
    metrics = Metrics()
    for score in (0.44, 0.46, 0.54, 0.56, 0.86):
        metrics.observe_category("p", "c", "allow", score, (0.5, 0.9))
    text = metrics.exposition().decode()
    assert 'gateway_category_scores_near_threshold_total{category="c",policy="p"} 3.0' in text


def test_names_that_clients_choose_are_bounded() -> None:
    metrics = Metrics()
    for number in range(MOST_NAMES + 50):
        metrics.observe_decision(f"p{number}", "block")
        metrics.observe_category(f"p{number}", "c", "block", 1.0, ())
        metrics.observe_list_match(f"l{number}")
    metrics.observe_decision("p0", "block")  # one that was known stays known
    lines = metrics.exposition().decode().splitlines()
    for name in ("gateway_decisions_total", "gateway_category_decisions_total", "gateway_list_matches_total"):
        assert sum(line.startswith(f"{name}{{") for line in lines) == MOST_NAMES + 1, name
    assert 'gateway_decisions_total{decision="block",policy="p0"} 2.0' in lines
    assert 'gateway_decisions_total{decision="block",policy="other"} 50.0' in lines


def test_sizes_are_few() -> None:
    metrics = Metrics()
    for side in (10, 500, 501, 1000, 2000, 4000, 4001, 60_000):
        metrics.observe_image("png", side, side)
    found = re.findall(
        r'gateway_images_total\{format="png",megapixels="([^"]+)"\} (\S+)', metrics.exposition().decode()
    )
    assert dict(found) == {"<=0.25": "2.0", "<=1": "2.0", "<=4": "1.0", "<=16": "1.0", ">16": "2.0"}


@pytest.mark.heavy
@pytest.mark.parametrize("web", [{"decode_isolation": True, "decode_workers": 2}], indirect=True)
def test_the_memory_of_decoders_is_shown(made: Web) -> None:
    until(lambda: value(made, "gateway_decode_workers_memory_bytes") > 2 * 10 * MIB)


def test_every_route_of_the_service_has_its_own_name(made: Web) -> None:
    for path in ("/", "/docs", "/openapi.json", "/swagger/swagger-ui.css", "/livez", "/readyz", "/nothing/at/all"):
        made.client.get(path)
    routes = {dict(labels)["route"] for name, labels in shown(made) if name == "gateway_requests_total"}
    assert {"/", "/docs", "/openapi.json", "/swagger", "/livez", "/readyz", "unmatched"} <= routes
    assert not any("nothing" in route or ".css" in route for route in routes)


def alerts() -> Iterator[str]:
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        for rule in group["rules"]:
            assert {"summary", "action"} <= rule["annotations"].keys()
            yield rule["expr"]


def dashboard() -> Iterator[str]:
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        yield from (target["expr"].replace("$__rate_interval", "5m") for target in panel["targets"])


def declared() -> dict[str, set[str]]:
    """Return the labels of every series of a gateway, used or not."""
    kinds = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
    found: dict[str, set[str]] = {}
    for metric in vars(Metrics()).values():
        if hasattr(metric, "_labelnames"):
            labels = {*metric._labelnames, "instance"}
            found |= {f"{metric._name}{end}": labels for end in kinds[metric._type]}
            found |= {f"{metric._name}_bucket": labels | {"le"}} if metric._type == "histogram" else {}
    return found


@pytest.mark.parametrize("asked", [alerts, dashboard])
def test_alerts_and_dashboard_ask_for_series_that_exist(asked: Any, made: Web) -> None:
    text, own = made.client.get("/metrics").text, declared()
    known = own | {name: {"instance"} for name in PROCESS}
    for expression in asked():
        series = re.findall(r"\b((?:gateway|process)_\w+)(?:\{([^}]*)\})?", expression)
        assert series, expression
        for name, matchers in series:
            assert name in known, f"{name} in {expression}"
            family = re.sub(r"_(total|bucket|sum|count)$", "", name)
            assert name not in own or re.search(rf"^# TYPE {family}(_total)? ", text, re.MULTILINE), name
            assert set(LABEL.findall(matchers)) <= known[name], expression
        grouped = re.findall(r"\bby \(([^)]*)\)", expression)
        assert {word.strip() for words in grouped for word in words.split(",")} <= {
            label for name, _ in series for label in known[name]
        }, expression


def test_what_runs_and_what_its_process_uses_are_shown(made: Web) -> None:
    samples = shown(made)
    (labels,) = (dict(labels) for name, labels in samples if name == "gateway_build_info")
    model = made.client.get("/v1/models").json()["data"][0]
    assert labels["version"] == made.client.get("/openapi.json").json()["info"]["version"]
    told = {"bundle_id": "bundle_id", "model": "id", "precision": "precision", "device": "device"}
    assert {name: labels[name] for name in told} == {name: model[field] for name, field in told.items()}
    assert labels["target"] == "wheel"
    assert value(made, "process_resident_memory_bytes") > 10e6
    assert 3 < value(made, "process_open_fds") < value(made, "process_max_fds")


def test_prometheus_takes_alerts_and_dashboard(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    rules = [{"record": f"panel:{number}", "expr": expression} for number, expression in enumerate(dashboard())]
    (tmp_path / "dashboard.yml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    for file in (ALERTS, tmp_path / "dashboard.yml"):
        done = subprocess.run([promtool, "check", "rules", file], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    check = [promtool, "check", "config", "--syntax-only", str(PROMETHEUS)]  # the key's file is made at the start
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
