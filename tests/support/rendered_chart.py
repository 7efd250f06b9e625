"""The Helm chart rendered with several sets of values, by Helm's own library; skips where it is not installed."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT

CHART = ROOT / "deploy" / "helm" / "clip-moderation"
PYTHON = ROOT / ".venv-chart" / "bin" / "python"
SCHEMAS = yaml.safe_load((ROOT / "tests" / "deployment" / "custom_resources.yaml").read_text(encoding="utf-8"))
BUNDLE, NEXT = "clip-vit-base-patch32-fp32-0123456789ab-container", "clip-vit-large-patch14-fp16-ba9876543210-container"
SERVED: dict[str, Any] = {"bundle": BUNDLE, "secrets": {"existing": "clip-secrets"}}
CASES: dict[str, dict[str, Any]] = {
    "served": SERVED,
    "export alone": {},
    "made secrets": {
        "bundle": BUNDLE,
        "secrets": {
            "values": {"database_url": "postgresql://a:b@db/c", "api_keys": "web:00:infer", "webhook_secret": "w"}
        },
    },
    "sqlite": SERVED | {"database": "sqlite", "gateway": {"replicas": 1}},
    "gpu": SERVED
    | {
        "triton": {"gpu": {"enabled": True, "runtimeClassName": "nvidia"}, "nodeSelector": {"gpu": "yes"}},
        "export": {"args": ["--instances=2"], "hubTokenSecret": {"name": "hub"}, "env": {"HF_ENDPOINT": "https://hub"}},
    },
    "ingress": SERVED | {"ingress": {"enabled": True, "className": "nginx", "host": "a.example", "tlsSecret": "tls"}},
    "monitored": SERVED
    | {
        "monitoring": {
            "serviceMonitor": {"enabled": True, "labels": {"release": "p"}, "keySecret": {"name": "metrics-key"}},
            "prometheusRule": {"enabled": True},
            "dashboard": {"enabled": True},
        }
    },
    "scaled": SERVED
    | {
        "gateway": {
            "autoscaling": {"enabled": True},
            "persistence": {"enabled": True, "accessModes": ["ReadWriteMany"]},
            "env": {"SHUTDOWN_DELAY_S": "2.5", "DRAIN_TIMEOUT_S": "120"},
        },
        "networkPolicy": {"enabled": False},
        "podDisruptionBudget": {"enabled": False},
    },
    "two bundles": SERVED | {"alsoBundles": [NEXT]},
    "guarded stores": SERVED
    | {
        "networkPolicy": {
            "database": {"podSelector": {"matchLabels": {"app": "postgresql"}}},
            "redis": {"enabled": True, "to": [{"podSelector": {"matchLabels": {"app": "redis"}}}]},
            "gatewayFrom": [{"namespaceSelector": {}}],
        }
    },
    "open": {"bundle": BUNDLE, "database": "sqlite", "gateway": {"replicas": 1, "env": {"GATEWAY_ALLOW_OPEN": "true"}}},
}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no database": ({"bundle": BUNDLE}, "no secret has its address"),
    "no keys": ({"bundle": BUNDLE, "secrets": {"values": {"database_url": "postgresql://db/c"}}}, "without API keys"),
    "sqlite of several": (SERVED | {"database": "sqlite"}, "set gateway.replicas to 1"),
    "volume of one node": (SERVED | {"gateway": {"persistence": {"enabled": True}}}, "ReadWriteMany"),
    "nothing": ({"export": {"enabled": False}}, "nothing would be installed"),
    "no host": (SERVED | {"ingress": {"enabled": True}}, "ingress.host"),
    "a fixed setting": (SERVED | {"gateway": {"env": {"TRITON_HOST": "elsewhere"}}}, "TRITON_HOST"),
    "an unknown value": (SERVED | {"gateways": {}}, "gateways"),
    "a folder above": (SERVED | {"bundle": "../other"}, "bundle"),
}


def rendered() -> dict[str, Any]:
    """Return what every case comes to, refused ones too, and what Helm's lint says."""
    if not PYTHON.exists():
        pytest.skip("what renders the chart is not installed: make chart-tools")
    cases = CASES | {name: values for name, (values, _) in REFUSED.items()}
    asked = {"chart": str(CHART), "kubernetes": ["1.29", "1.37"], "schemas": SCHEMAS, "cases": cases}
    script = ROOT / "tests" / "support" / "render_chart.py"
    done = subprocess.run(
        [PYTHON, script], input=json.dumps(asked), capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    answers: dict[str, Any] = json.loads(done.stdout)
    return answers


def of(objects: list[dict[str, Any]], kind: str, name: str = "") -> list[dict[str, Any]]:
    return [it for it in objects if it["kind"] == kind and name in it["metadata"]["name"]]


def one(objects: list[dict[str, Any]], kind: str, name: str = "") -> dict[str, Any]:
    (found,) = of(objects, kind, name)
    return found


def pods(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [it["spec"]["template"] for it in objects if it["kind"] in ("Deployment", "Job")]


def container(objects: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    (found,) = one(objects, kind, name)["spec"]["template"]["spec"]["containers"]
    assert isinstance(found, dict)
    return found


def variables(of_container: dict[str, Any]) -> dict[str, str]:
    return {it["name"]: it.get("value", "") for it in of_container["env"]}
