"""The container files agree with the code, as far as that can be seen without a Docker engine."""

from __future__ import annotations

import importlib.util
import json
import os
import re
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.api.problems import SECURITY_HEADERS
from gateway.cli.main import SUBCOMMANDS, main
from gateway.errors import error_classes
from gateway.settings import Settings
from scripts.export.__main__ import main as export_main
from tests.conftest import ROOT

BASE = "docker-compose.yml"
FILES = sorted(path.name for path in ROOT.glob("docker-compose*.yml"))
MONITORING = ("prometheus", "grafana")
REFERENCE = re.compile(r"(?<!\$)\$\{(?P<name>[A-Z_]+)(?::-(?P<default>[^}]*))?\}")


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def compose(name: str = BASE) -> dict[str, Any]:
    """The file with every variable at its default, as compose reads it."""
    parsed = yaml.safe_load(REFERENCE.sub(lambda found: found["default"] or "", text_of(name)))
    assert isinstance(parsed, dict)
    return parsed


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = compose()["services"]
    return found


def documented() -> dict[str, str]:
    """.env.example: names and default values."""
    return dict(re.findall(r"^#?([A-Z_]+)=(.*)$", text_of(".env.example"), re.MULTILINE))


def stages() -> dict[str, str]:
    """The Dockerfile's stages: name and text."""
    parts = re.split(r"^FROM .* AS (\S+)$", text_of("Dockerfile"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def seconds(duration: str) -> int:
    assert re.fullmatch(r"\d+s", duration), duration
    return int(duration[:-1])


def test_every_variable_is_documented_with_its_default() -> None:
    known = documented()
    used = {match["name"]: match["default"] or "" for name in FILES for match in REFERENCE.finditer(text_of(name))}
    passed_on = [
        name
        for service in services().values()
        for name, value in (service.get("environment") or {}).items()
        if value is None
    ]
    assert set(used) | set(passed_on) == set(known)
    overridden = {"PRECISION": "fp32"}  # fp16 in the GPU file, which .env.example says
    for name, default in used.items():
        assert known[name] == overridden.get(name, default), name
    for name in passed_on:
        field = Settings.model_fields.get(name.lower())
        if field is not None:
            shown = str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
            assert known[name] == ("" if field.default in (frozenset(), (), None) else shown), name


def test_the_gateway_gets_its_settings_and_no_others() -> None:
    """A new setting belongs into docker-compose.yml (gateway, environment) and into .env.example."""
    assert {name.lower() for name in services()["gateway"]["environment"]} == set(Settings.model_fields)


def test_the_gateways_fixed_settings_are_valid() -> None:
    given = {name.lower(): value for name, value in services()["gateway"]["environment"].items() if value is not None}
    settings = Settings(**given)
    assert [str(end) for end in settings.triton_endpoints] == ["triton:8001"]
    assert not settings.gateway_allow_open
    bundle, data = services()["gateway"]["volumes"]
    assert (bundle["target"], data) == (str(settings.model_repository), f"data:{settings.data_dir}")


def test_targets_files_and_volumes_exist() -> None:
    parsed = compose()
    for service in parsed["services"].values():
        if "build" in service:
            assert service["build"]["target"] in stages()
            assert set(service["build"]["args"]) <= set(re.findall(r"^ARG (\w+)=", text_of("Dockerfile"), re.MULTILINE))
            assert service["build"]["args"]["PYTHON_TAG"] in text_of("Dockerfile")
        for volume in service["volumes"]:
            source = volume["source"] if isinstance(volume, dict) else volume.split(":")[0]
            if not source.startswith("./bundles"):
                assert (ROOT / source).is_file() if source.startswith("./") else source in parsed["volumes"]
        assert set(service.get("networks", {})) <= set(parsed["networks"])
        assert set(service.get("depends_on", {})) <= set(parsed["services"])
    for name in FILES:
        assert set(compose(name)["services"]) <= set(parsed["services"])
    for line in re.findall(r"^COPY (?!--from)(.+)$", text_of("Dockerfile"), re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert f"!{source}" in text_of(".dockerignore").splitlines()
    assert set(
        re.findall(r"^(?:FROM|COPY --from=)\s*(build\S*|python|runtime)\b", text_of("Dockerfile"), re.MULTILINE)
    ) <= {*stages()}


def test_modules_of_commands_can_be_imported() -> None:
    commands = [
        service["command"] for name in FILES for service in compose(name)["services"].values() if "command" in service
    ]
    commands += [json.loads(found) for found in re.findall(r"^CMD (\[.*\])$", text_of("Dockerfile"), re.MULTILINE)]
    commands += [
        json.loads(found) for found in re.findall(r"^ENTRYPOINT (\[.*\])$", text_of("Dockerfile"), re.MULTILINE)
    ]
    modules = {words[2] for words in commands if words[:2] == ["python", "-m"]}
    assert modules == {"scripts.export", "scripts.serve"}
    assert all(importlib.util.find_spec(module) for module in modules)
    assert ["clip-gateway", "serve"] in commands
    assert entry_points(group="console_scripts", name="clip-gateway")["clip-gateway"].load() is main
    assert "serve" in SUBCOMMANDS


@pytest.mark.parametrize("name", [BASE, "docker-compose.gpu.yml"])
def test_the_export_understands_its_command(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Run with a model that does not exist: it is the model that is refused, not the words."""
    (entry,) = re.findall(r"^ENTRYPOINT (\[.*\])$", stages()["export"], re.MULTILINE)
    words = [*json.loads(entry)[3:], *compose(name)["services"]["export"]["command"]]
    words = [word.replace("/models", str(tmp_path)) for word in words]
    words = ["--model=./absent" if word.startswith("--model=") else word for word in words]
    assert export_main(words) == 1
    assert "there is no folder ./absent" in capsys.readouterr().err


def test_monitoring_starts_only_when_asked_for() -> None:
    assert all(services()[name]["profiles"] == ["monitoring"] for name in MONITORING)
    assert all(not set(MONITORING) & set(service.get("depends_on", {})) for service in services().values())


def test_limits_restarts_and_confinement() -> None:
    for name, service in services().items():
        limits = service["deploy"]["resources"]["limits"]
        assert set(limits) == {"cpus", "memory", "pids"}, name
        assert service["restart"] == ("no" if service.get("profiles") == ["export"] else "unless-stopped")
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert "privileged" not in service
        assert service["tmpfs"]
        assert service["logging"]["options"]["max-size"]
    for name in ("gateway", "export"):
        assert re.search(r"^USER 10001:10001$", stages()[name], re.MULTILINE)
    assert not services()["triton"]["user"].startswith(("0", "root"))


def test_as_many_gateways_run_as_are_told_that_they_share_the_machine() -> None:
    given = yaml.safe_load(text_of(BASE))["services"]["gateway"]
    assert given["deploy"]["replicas"] == given["environment"]["GATEWAY_REPLICAS"] == "${GATEWAY_REPLICAS:-1}"
    assert "ports" not in given, "one port would be one container's"
    assert "container_name" not in given
    (port,) = yaml.safe_load(text_of("docker-compose.gateway-ports.yml"))["services"]["gateway"]["ports"]
    assert port == "127.0.0.1:${GATEWAY_PORT:-8000}:8000"  # which may be a range


def test_stops_wait_for_the_drain() -> None:
    drain_s = Settings.model_fields["drain_timeout_s"].default
    assert seconds(services()["gateway"]["stop_grace_period"]) > drain_s
    assert seconds(services()["proxy"]["stop_grace_period"]) > drain_s
    (triton_s,) = (
        int(found) for found in re.findall(r"--exit-timeout-secs=(\d+)", str(services()["triton"]["command"]))
    )
    assert seconds(services()["triton"]["stop_grace_period"]) > triton_s


def test_nothing_of_triton_is_published_unless_asked_for() -> None:
    published = {name: service.get("ports", []) for name, service in services().items()}
    assert published.pop("proxy") == ["127.0.0.1:8080:8080"]
    assert [published.pop(name) for name in MONITORING] == [["127.0.0.1:9090:9090"], ["127.0.0.1:3000:3000"]]
    assert not any(published.values())
    assert services()["triton"]["networks"] == ["models"]
    assert compose()["networks"]["models"] == {"internal": True}
    assert all(service.get("network_mode", "none") == "none" for service in services().values())
    assert "ports" not in compose("docker-compose.gpu.yml")["services"]["triton"]
    asked = compose("docker-compose.triton-ports.yml")["services"]["triton"]
    assert all(port.startswith("127.0.0.1:") for port in asked["ports"])


def test_bundles_are_written_by_the_export_alone_and_one_that_is_not_there_is_no_folder() -> None:
    for name, source in {"triton": "first", "gateway": "first", "triton-next": "BUNDLE_NEXT-is-not-set"}.items():
        (mount,) = (volume for volume in services()[name]["volumes"] if isinstance(volume, dict))
        assert mount["source"] == f"./bundles/{source}"
        assert mount["target"] == "/models"
        assert mount["read_only"] is True
        assert mount["bind"] == {"create_host_path": False}
    assert services()["export"]["volumes"][0] == "./bundles:/models"


def test_nothing_is_replaced_because_of_what_it_calls() -> None:
    """Compose replaces what depends on what it replaces."""
    assert [name for name, service in services().items() if "depends_on" in service] == ["export"]
    assert services()["export"]["profiles"] == ["export"]


def test_what_is_served_side_by_side_differs_in_the_bundle_alone() -> None:
    for name in ("triton", "gateway"):
        served, beside = services()[name], services()[f"{name}-next"]
        apart = {key for key in served.keys() | beside.keys() if served.get(key) != beside.get(key)}
        assert apart == {"profiles", "volumes"} | ({"environment", "networks"} if name == "gateway" else set())
    own, beside = services()["gateway"]["environment"], services()["gateway-next"]["environment"]
    assert own | {"TRITON_HOST": "triton-next"} == beside


def test_the_gpu_file_asks_for_a_gpu() -> None:
    override = compose("docker-compose.gpu.yml")["services"]
    for name in ("export", "triton"):
        (device,) = override[name]["deploy"]["resources"]["reservations"]["devices"]
        assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    assert {"--device=cuda", "--precision=fp16"} <= set(override["export"]["command"])


def test_the_proxys_errors_are_the_gateways() -> None:
    """Their titles and headers; tests/deployment/test_proxy.py sees them answered."""
    template = text_of("docker/proxy/gateway.conf.template")
    known = list(error_classes())
    (titles,) = re.findall(r"map \$code \$title \{(.*?)\}", template, re.DOTALL)
    said = dict(re.findall(r'(\w+) "(.*)";', titles))
    assert said.items() <= {(error.code, error.title) for error in known}
    used = re.findall(r"error_page ([\d ]+)(?:=(\d+) )?/proxy-problem/(\w+);", template)
    assert {code for _, _, code in used} == set(said)
    assert {(code, int(shown or statuses)) for statuses, shown, code in used} <= {(it.code, it.status) for it in known}
    for name, value in SECURITY_HEADERS.items():
        assert re.search(rf'add_header {name} "?{re.escape(value)}"? always;', template), name


def test_secrets_of_the_secrets_file_are_settings_and_no_file_of_them_is_committed() -> None:
    override = compose("docker-compose.secrets.yml")
    gateway = override["services"]["gateway"]
    assert set(gateway["secrets"]) == set(override["secrets"])
    assert {name.lower() for name in gateway["environment"]} <= set(Settings.model_fields)
    by_path = {Path(path).name for path in gateway["environment"].values()}
    assert by_path == {"api_keys"}
    assert set(override["secrets"]) - by_path <= set(Settings.model_fields)
    assert not by_path & set(Settings.model_fields), "it would be read as a setting too"
    assert all(secret["file"] == f"./secrets/{name}" for name, secret in override["secrets"].items())
    assert "secrets/" in text_of(".gitignore").splitlines()


def test_the_proxys_limits_are_the_gateways() -> None:
    environment = services()["proxy"]["environment"]
    assert int(environment["PROXY_MAX_BODY_BYTES"]) == Settings.model_fields["max_body_bytes"].default
    for name, value in environment.items():
        if field := Settings.model_fields.get(name.lower()):
            assert float(value) == field.default, name
    derived = re.findall(r"^\s*(PROXY_\w+)=", text_of("docker/proxy/derived.envsh"), re.MULTILINE)
    used = set(re.findall(r"\$\{(\w+)\}", text_of("docker/proxy/gateway.conf.template"))) - {"PROXY_…"}
    used |= set(re.findall(r"\$\{?(PROXY_\w+)", text_of("docker/proxy/replicas.sh")))
    assert used == {*derived, *(name for name in environment if name.startswith("PROXY_"))} - {"PROXY_TRUSTED"}
    for name in ("derived.envsh", "replicas.sh"):
        assert os.access(ROOT / "docker/proxy" / name, os.X_OK), "the image reads no other"


def test_memory_of_the_proxy_covers_its_connections() -> None:
    main, template = text_of("docker/proxy/nginx.conf"), text_of("docker/proxy/gateway.conf.template")
    workers, connections = (int(re.findall(rf"{name} (\d+);", main)[0]) for name in ("processes", "connections"))
    small, large, body = (
        int(re.findall(rf"{name} (\d+)k;", template)[0])
        for name in ("client_header_buffer_size", "large_client_header_buffers 1", "client_body_buffer_size")
    )
    answer = 9 * 4  # nginx's own default of proxy_buffers and proxy_buffer_size: pages
    proxied = small + large + body + answer  # takes two connections, the client's and the gateway's
    kib = workers * connections * max(small + large, proxied / 2)
    limit = int(services()["proxy"]["deploy"]["resources"]["limits"]["memory"].removesuffix("g")) * 1024
    assert 2 * kib / 1024 + 64 < limit, "workers that a reload replaces may still have theirs"
