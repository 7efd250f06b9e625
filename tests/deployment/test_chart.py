"""The Helm chart renders, is valid, and names nothing that does not exist."""

from __future__ import annotations

import importlib.util
import json
import math
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.api.authorization import OPEN_PATHS
from gateway.memory_ceiling import ceiling_mib
from gateway.settings import Settings
from scripts.export.__main__ import main as export_main
from tests.conftest import ROOT
from tests.deployment.test_compose import services, stages, text_of
from tests.support.rendered_chart import (
    BUNDLE,
    CASES,
    CHART,
    NEXT,
    REFUSED,
    container,
    of,
    one,
    pods,
    rendered,
    variables,
)

pytestmark = pytest.mark.heavy

FIXED = {"GATEWAY_HOST", "GATEWAY_PORT", "TRITON_HOST", "TRITON_GRPC_PORT", "MODEL_REPOSITORY", "DATA_DIR"}


@pytest.fixture(scope="module")
def answer() -> dict[str, Any]:
    return rendered()


@pytest.fixture(scope="module")
def made(answer: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The objects of every case that is not to be refused."""
    assert {name: answer["cases"][name].get("refused") for name in CASES} == dict.fromkeys(CASES)
    return {name: answer["cases"][name]["objects"] for name in CASES}


def test_every_case_is_valid_kubernetes(answer: dict[str, Any], made: dict[str, Any]) -> None:
    assert {name: answer["cases"][name]["invalid"] for name in made} == {name: [] for name in made}
    assert answer["lint"]["errors"] == []
    for objects in made.values():
        names = [(it["kind"], it["metadata"]["name"]) for it in objects]
        assert len(names) == len(set(names))
        assert all(len(name) <= 63 for _, name in names)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_work_is_refused_with_the_reason(name: str, answer: dict[str, Any]) -> None:
    assert REFUSED[name][1] in answer["cases"][name].get("refused", "")


def test_the_gateway_gets_settings_and_no_others(made: dict[str, Any]) -> None:
    for name, objects in made.items():
        for it in of(objects, "Deployment", "gateway"):
            given = variables(it["spec"]["template"]["spec"]["containers"][0])
            assert {key.lower() for key in given} <= set(Settings.model_fields), name
            values: dict[str, Any] = {key.lower(): value for key, value in given.items()}
            settings = Settings(**values)
            assert settings.model_repository == Path("/models") / BUNDLE
            assert settings.gateway_allow_open == (name == "open")
            keys = None if name == "open" else Path("/run/secrets/api_keys")
            assert settings.gateway_api_keys_file == keys
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    refused = schema["properties"]["gateway"]["properties"]["env"]["propertyNames"]["not"]["enum"]
    assert (
        {*refused} - {"TRITON_ADDRESSES"}
        == FIXED
        < variables(container(made["served"], "Deployment", "gateway")).keys()
    )


def test_secrets_are_files_named_like_settings(made: dict[str, Any]) -> None:
    written = one(made["made secrets"], "Secret")["stringData"]
    assert written.keys() - {"api_keys"} <= Settings.model_fields.keys()
    named = re.search(r"\((database_url[^)]*)\)", text_of("deploy/helm/clip-moderation/values.yaml").replace("\n#", ""))
    assert named is not None
    assert set(re.findall(r"\w+_\w+", named[1])) <= Settings.model_fields.keys()
    for case, secret in (
        ("made secrets", one(made["made secrets"], "Secret")["metadata"]["name"]),
        ("served", "clip-secrets"),
    ):
        pod = one(made[case], "Deployment", "gateway")["spec"]["template"]["spec"]
        (volume,) = [it for it in pod["volumes"] if it["name"] == "secrets"]
        assert volume["secret"]["secretName"] == secret
        mounted = {it["name"]: it["mountPath"] for it in pod["containers"][0]["volumeMounts"]}
        assert mounted["secrets"] == "/run/secrets"
    assert 'SECRETS = Path("/run/secrets")' in text_of("gateway/__main__.py")


def test_pods_are_confined_and_are_told_nothing_by_services(made: dict[str, Any]) -> None:
    for objects in made.values():
        for pod in (it["spec"] for it in pods(objects)):
            assert pod["enableServiceLinks"] is False, "a Service named gateway would set GATEWAY_PORT"
            assert pod["automountServiceAccountToken"] is False, "its folder would lie in /run/secrets"
            assert pod["securityContext"]["runAsNonRoot"] is True
            assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            for each in pod["containers"]:
                assert each["securityContext"] == {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                }
                assert {"cpu", "memory"} <= each["resources"]["limits"].keys()
                assert {it["name"] for it in each["volumeMounts"]} == {it["name"] for it in pod["volumes"]}


def test_users_and_images_are_those_of_the_container_files(made: dict[str, Any]) -> None:
    objects = made["served"]
    for kind, name in (("Deployment", "gateway"), ("Job", "export")):
        security = one(objects, kind, name)["spec"]["template"]["spec"]["securityContext"]
        assert f"USER {security['runAsUser']}:{security['runAsGroup']}" in stages()[name]
        assert security["fsGroup"] == security["runAsGroup"]
        image = container(objects, kind, name)["image"].split(":")[0]
        assert image == services()[name]["image"].split(":")[0]
    triton = one(objects, "Deployment", "triton")["spec"]["template"]["spec"]
    assert (
        services()["triton"]["user"]
        == f"{triton['securityContext']['runAsUser']}:{triton['securityContext']['runAsGroup']}"
    )
    assert triton["containers"][0]["image"].split(":")[0] == services()["triton"]["image"].split(":")[0]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert f'version = "{chart["appVersion"]}"' in text_of("pyproject.toml")


def test_ports_and_probes_lead_to_what_is_there(made: dict[str, Any]) -> None:
    gateway = container(made["served"], "Deployment", "gateway")
    assert [it["containerPort"] for it in gateway["ports"]] == [int(variables(gateway)["GATEWAY_PORT"])]
    assert f"EXPOSE {variables(gateway)['GATEWAY_PORT']}" in stages()["gateway"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        asked = gateway[probe]["httpGet"]
        assert asked["path"] in OPEN_PATHS
        assert asked["httpHeaders"] == [{"name": "Host", "value": "localhost"}], "ALLOWED_HOSTS never shuts it out"
    assert gateway["readinessProbe"]["httpGet"]["path"] == "/readyz"
    triton = container(made["served"], "Deployment", "triton")
    ports = {it["name"]: it["containerPort"] for it in triton["ports"]}
    assert ports == {"http": 8000, "grpc": int(variables(gateway)["TRITON_GRPC_PORT"]), "metrics": 8002}
    for objects in made.values():
        for service in of(objects, "Service"):
            selected = [
                pod for pod in pods(objects) if service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
            ]
            assert len(selected) == 1
            (each,) = selected[0]["spec"]["containers"]
            assert {it["targetPort"] for it in service["spec"]["ports"]} <= {it["name"] for it in each["ports"]}


def test_the_gateway_finds_every_replica_of_its_bundles_triton(made: dict[str, Any]) -> None:
    for name in ("served", "two bundles"):
        objects = made[name]
        host = variables(container(objects, "Deployment", "gateway"))["TRITON_HOST"]
        service = next(it for it in of(objects, "Service") if it["metadata"]["name"] == host)
        assert service["spec"]["clusterIP"] == "None"
        assert service["spec"]["publishNotReadyAddresses"] is False
        triton = next(it for it in of(objects, "Deployment") if it["metadata"]["name"] == host)
        assert service["spec"]["selector"] == triton["spec"]["selector"]["matchLabels"]
        assert variables(triton["spec"]["template"]["spec"]["containers"][0])["BUNDLE"] == BUNDLE


def test_a_further_bundle_and_a_change_of_the_gateway_leave_a_triton_as_it_is(made: dict[str, Any]) -> None:
    (before,) = of(made["served"], "Deployment", "triton")
    after = of(made["two bundles"], "Deployment", "triton")
    assert before in after
    served = [variables(it["spec"]["template"]["spec"]["containers"][0])["BUNDLE"] for it in after]
    assert served == [BUNDLE, NEXT]
    assert of(made["scaled"], "Deployment", "triton") == [before]
    assert of(made["two bundles"], "Deployment", "gateway") == of(made["served"], "Deployment", "gateway")


def test_triton_is_started_as_compose_starts_it(made: dict[str, Any]) -> None:
    shell, dash_c, script = container(made["served"], "Deployment", "triton")["command"]
    assert (shell, dash_c) == ("/bin/sh", "-c")
    subprocess.run([shell, "-n", dash_c, script], check=True)
    serve = ROOT / "docker" / "triton" / "serve.sh"
    composed = text_of("docker-compose.yml") + (serve.read_text(encoding="utf-8") if serve.exists() else "")
    flags = re.findall(r"--[\w-]+", script)
    assert len(flags) == 7
    for flag in re.findall(r"--[\w-]+(?:=[\w-]+)?(?=[ \n])", script):
        assert flag in composed
    assert all(flag in composed for flag in flags)
    assert "$(BUNDLE)" not in script, "the shell's to fill in"
    seconds = int(re.findall(r"--exit-timeout-secs=(\d+)", script)[0])
    pod = one(made["served"], "Deployment", "triton")["spec"]["template"]["spec"]
    leave = int(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > leave + seconds


@pytest.mark.parametrize("case", ["served", "gpu"])
def test_the_export_understands_its_command(
    case: str, made: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run with a model that does not exist: it is the model that is refused, not the words."""
    export = container(made[case], "Job", "export")
    assert export["command"][:2] == ["python", "-m"]
    assert importlib.util.find_spec(export["command"][2])
    assert ("--device=cuda" in export["args"]) == (case == "gpu")
    with pytest.raises(SystemExit):
        export_main(["--help"])
    known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    for word in ("--into", "--target"):
        if word not in known:
            pytest.skip(f"this export has no {word} yet")
    words = [word.replace("/models", str(tmp_path)) for word in export["args"]]
    words = ["--model=./absent" if word.startswith("--model=") else word for word in words]
    assert export_main(words) == 1
    assert "there is no folder ./absent" in capsys.readouterr().err


def test_another_order_is_another_job(made: dict[str, Any]) -> None:
    names = {case: one(made[case], "Job")["metadata"]["name"] for case in ("served", "export alone", "gpu")}
    assert names["served"] == names["export alone"] != names["gpu"]
    assert [it["kind"] for it in made["export alone"] if it["kind"] in ("Deployment", "Service", "Ingress")] == []


def test_a_gpu_is_asked_for_where_one_is_wanted(made: dict[str, Any]) -> None:
    for kind, name in (("Deployment", "triton"), ("Job", "export")):
        pod = one(made["gpu"], kind, name)["spec"]["template"]["spec"]
        assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1
        assert pod["runtimeClassName"] == "nvidia"
        assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in pod["tolerations"]
        assert "nvidia.com/gpu" not in container(made["served"], kind, name)["resources"]["limits"]


def test_stops_wait_for_the_drain(made: dict[str, Any]) -> None:
    defaults = {name: str(Settings.model_fields[name].default) for name in ("shutdown_delay_s", "drain_timeout_s")}
    for case in ("served", "scaled"):
        pod = one(made[case], "Deployment", "gateway")["spec"]["template"]["spec"]
        given = {name.lower(): value for name, value in variables(pod["containers"][0]).items()}
        waits = sum(float((defaults | given)[name]) for name in defaults)
        assert pod["terminationGracePeriodSeconds"] == math.ceil(waits) + 10


def test_memory_covers_the_formula_of_the_operations_page(made: dict[str, Any]) -> None:
    gateway = container(made["served"], "Deployment", "gateway")
    given: dict[str, Any] = {key.lower(): value for key, value in variables(gateway).items()}
    limit = int(gateway["resources"]["limits"]["memory"].removesuffix("Gi")) * 1024
    assert ceiling_mib(Settings(**given)) < limit
    assert gateway["resources"]["requests"]["memory"] == gateway["resources"]["limits"]["memory"]


def test_policies_keep_triton_and_database_to_the_gateways(made: dict[str, Any]) -> None:
    objects = made["guarded stores"]
    gateways = one(objects, "Deployment", "gateway")["spec"]["selector"]["matchLabels"]
    for name, port in (("triton", 8001), ("database", 5432)):
        spec = one(objects, "NetworkPolicy", name)["spec"]
        assert spec["ingress"] == [{"ports": [{"port": port}], "from": [{"podSelector": {"matchLabels": gateways}}]}]
    triton = one(objects, "NetworkPolicy", "triton")["spec"]
    assert triton["egress"] == []
    for pod in (it["spec"]["template"] for it in of(made["two bundles"], "Deployment", "triton")):
        assert triton["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    for name in ("gateway", "export"):
        rules = one(objects, "NetworkPolicy", name)["spec"]["egress"]
        internet = next(rule for rule in rules if any("0.0.0.0/0" in str(to) for to in rule.get("to", [])))
        assert {it["port"] for it in internet["ports"]} == {80, 443}
        assert {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10"} <= set(
            internet["to"][0]["ipBlock"]["except"]
        )
    assert of(made["scaled"], "NetworkPolicy") == []


def test_prometheus_reaches_tritons_metrics_alone(made: dict[str, Any]) -> None:
    rules = one(made["monitored"], "NetworkPolicy", "triton")["spec"]["ingress"]
    assert [[it["port"] for it in rule["ports"]] for rule in rules] == [[8001], [8002]]
    for monitor in of(made["monitored"], "ServiceMonitor"):
        (service,) = [
            it
            for it in of(made["monitored"], "Service")
            if monitor["spec"]["selector"]["matchLabels"].items() <= it["metadata"]["labels"].items()
        ]
        (endpoint,) = monitor["spec"]["endpoints"]
        assert endpoint["port"] in {it["name"] for it in service["spec"]["ports"]}
    assert one(made["monitored"], "ServiceMonitor", "gateway")["spec"]["endpoints"][0]["authorization"][
        "credentials"
    ] == {
        "name": "metrics-key",
        "key": "key",
    }


def test_alerts_and_dashboard_are_the_files_of_deploy(made: dict[str, Any]) -> None:
    rule = one(made["monitored"], "PrometheusRule")
    assert rule["spec"] == yaml.safe_load(text_of("deploy/prometheus/alerts.yml"))
    shown = one(made["monitored"], "ConfigMap", "dashboard")
    assert json.loads(shown["data"]["clip-moderation.json"]) == json.loads(text_of("deploy/grafana/gateway.json"))
    assert shown["metadata"]["labels"]["grafana_dashboard"] == "1"


def test_the_ingress_lets_through_what_the_gateway_takes(made: dict[str, Any]) -> None:
    ingress = one(made["ingress"], "Ingress")
    said = {name.rpartition("/")[2]: value for name, value in ingress["metadata"]["annotations"].items()}
    fields = Settings.model_fields
    assert int(said["proxy-body-size"]) == fields["max_body_bytes"].default
    longest = fields["upload_wait_s"].default + fields["save_timeout_s"].default
    assert int(said["proxy-read-timeout"]) == longest + 5
    assert said["proxy-request-buffering"] == "off"
    assert "proxy_request_buffering off;" in text_of("docker/proxy/gateway.conf.template")
    assert ingress["spec"]["tls"] == [{"hosts": ["a.example"], "secretName": "tls"}]
    backend = ingress["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
    assert backend["name"] in {it["metadata"]["name"] for it in of(made["ingress"], "Service")}


def test_replicas_are_the_autoscalers_where_there_is_one(made: dict[str, Any]) -> None:
    scaler = one(made["scaled"], "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    gateway = one(made["scaled"], "Deployment", "gateway")
    assert scaler["name"] == gateway["metadata"]["name"]
    assert "replicas" not in gateway["spec"]
    assert "cpu" in container(made["scaled"], "Deployment", "gateway")["resources"]["requests"]
    assert one(made["sqlite"], "Deployment", "gateway")["spec"]["strategy"] == {"type": "Recreate"}
    for case, objects in made.items():
        for budget in of(objects, "PodDisruptionBudget"):
            selected = budget["spec"]["selector"]["matchLabels"].items()
            assert any(selected <= pod["metadata"]["labels"].items() for pod in pods(objects)), case
    assert of(made["scaled"], "PodDisruptionBudget") == []


def test_volumes_outlive_the_release_and_are_claimed(made: dict[str, Any]) -> None:
    for case, objects in made.items():
        claims = {it["metadata"]["name"] for it in of(objects, "PersistentVolumeClaim")}
        used = {
            volume["persistentVolumeClaim"]["claimName"]
            for pod in pods(objects)
            for volume in pod["spec"]["volumes"]
            if "persistentVolumeClaim" in volume
        }
        assert used == claims, case
        for it in of(objects, "PersistentVolumeClaim"):
            assert it["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_a_first_install_says_what_comes_next(answer: dict[str, Any]) -> None:
    assert "helm upgrade … --set bundle=NAME" in answer["cases"]["export alone"]["notes"]
    assert "https://a.example" in answer["cases"]["ingress"]["notes"]
