"""``python -m scripts.stage_compose``: what clients notice when the Compose stack changes or fails, on a real engine.

Starts the stack as a project of its own with folders of its own, keeps clients at its proxy, and stages one thing after
another: typos, another bundle and back, a change of the gateway alone, several gateways and Tritons, a frozen gateway,
a Triton that stops answering, two bundles side by side. Each has what must hold; the end is a table. Images are built
first, unless ``--no-build``; the ones that the files name must be there or be had.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
from PIL import Image

from scripts.stage_compose.stack import PROJECT, REQUEST_TIMEOUT_S, Answers, Compose, clients, docker

READY_S = 300.0
STEP_S = 0.5
SETTLED_S = 3.0  # of good answers after each stage


def wait(what: str, holds: Callable[[], bool], seconds: float = READY_S) -> float:
    """Wait until something holds; return how long that took.

    Raises:
        SystemExit: it did not.
    """
    start = time.monotonic()
    while not holds():
        if time.monotonic() - start > seconds:
            raise SystemExit(f"stage_compose: {what} is not so after {seconds:.0f} s")
        time.sleep(STEP_S)
    return time.monotonic() - start


class Stages:
    """The stages, one a method, in order; each returns what was seen and whether it is as it must be."""

    def __init__(self, compose: Compose, url: str, answers: Answers) -> None:
        self.compose = compose
        self.url = url
        self.answers = answers
        self.rows: list[tuple[str, bool, str]] = []
        self.first = self.second = ""

    def stage(self, name: str, do: Callable[[], str], *, outage_s: float) -> None:
        """Run one; fewer seconds than ``outage_s`` without a good answer must pass, and where it is 0 none may fail."""
        start = time.monotonic()
        said = do()
        time.sleep(SETTLED_S)
        good, bad, longest = self.answers.since(start)
        holds = good > 0 and ((bad == 0) if outage_s == 0 else longest < outage_s)
        self.rows.append((name, holds, f"{good} good, {bad} failed, longest pause {longest:.2f} s; {said}"))
        print(("holds  " if holds else "FAILS  ") + f"{name}: {self.rows[-1][2]}", flush=True)

    def changed(self, do: Callable[[], object]) -> set[str]:
        """Return the containers that something replaced, ended or started."""
        before = self.compose.containers()
        do()
        after = self.compose.containers()
        return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}

    def served(self) -> str:
        """Return the precision that is served, or an empty text."""
        try:
            answer = httpx2.get(f"{self.url}/v1/models", timeout=REQUEST_TIMEOUT_S)
            return str(answer.json()["data"][0]["precision"]) if answer.status_code == 200 else ""
        except httpx2.HTTPError:
            return ""

    def ready(self, precision: str = "") -> float:
        """Wait until the proxy passes requests, of a model in this precision; return the seconds."""

        def holds() -> bool:
            try:
                well = httpx2.get(f"{self.url}/readyz", timeout=REQUEST_TIMEOUT_S).status_code == 200
            except httpx2.HTTPError:
                return False
            return well and (not precision or self.served() == precision)

        return wait(f"ready {precision}", holds)

    def typo_in_model(self) -> str:
        """An export of a model that is not there."""

        def export() -> None:
            assert self.compose("run", "--rm", "export", may_fail=True, MODEL="./demoo").returncode  # noqa: S101

        changed = self.changed(export)
        self.compose.settings["MODEL"] = "demo"
        return refuse_if(changed)

    def typo_in_bundle(self) -> str:
        """A switch to a bundle that is not there."""
        changed = self.changed(lambda: self.failing_up(BUNDLE="nonsense"))
        self.compose.settings["BUNDLE"] = self.first
        return refuse_if(changed)

    def failing_up(self, **settings: str) -> None:
        """Bring up what cannot be."""
        if self.compose("up", "-d", may_fail=True, **settings).returncode == 0:
            raise SystemExit(f"stage_compose: {settings} were accepted")

    def export_another(self) -> str:
        """Another bundle beside the one that is served."""
        self.second = self.compose("run", "--rm", "export", PRECISION="int8").stdout.split()[-1]
        return self.second

    def switch(self, bundle: str, precision: str) -> str:
        """Serve another bundle."""
        start = time.monotonic()
        changed = self.changed(lambda: self.compose("up", "-d", BUNDLE=bundle))
        self.ready(precision)
        if any(name.startswith("proxy") for name in changed):
            raise SystemExit("stage_compose: the proxy was replaced")
        return f"{precision} after {time.monotonic() - start:.1f} s; replaced {', '.join(sorted(changed))}"

    def gateway_alone(self) -> str:
        """A setting of the gateway."""
        changed = self.changed(lambda: self.compose("up", "-d", LOG_LEVEL="warning"))
        self.ready()
        if changed != {"gateway-1"}:
            raise SystemExit(f"stage_compose: replaced {changed}")
        return "replaced gateway-1"

    def scale(self, service: str, number: int) -> str:
        """More containers of a service, until all are healthy."""
        self.compose("up", "-d", "--no-recreate", "--scale", f"{service}={number}", "--wait")
        return f"{number} x {service}"

    def frozen_gateway(self) -> str:
        """One of several gateways frozen for a while: it takes connections and answers none."""
        name = f"{PROJECT}-gateway-1"
        docker("pause", name)
        time.sleep(15)
        docker("unpause", name)
        return "15 s"

    def frozen_triton(self, number: int, *, of: int) -> str:
        """Some Tritons stop answering: each ends by itself and is started anew."""
        names = [f"{PROJECT}-triton-{index + 1}" for index in range(number)]
        started = {name: docker("inspect", "--format", "{{.State.StartedAt}}", name) for name in names}
        for name in names:
            docker("exec", name, "sh", "-c", "kill -STOP $(pgrep -o tritonserver || pidof tritonserver)")
        seconds = wait(
            "every Triton anew",
            lambda: all(docker("inspect", "--format", "{{.State.StartedAt}}", n) != at for n, at in started.items()),
        )
        later = wait("every Triton asked again", lambda: self.tritons_up() == of)
        return f"started anew after {seconds:.0f} s, asked again {later:.0f} s later"

    def tritons_up(self) -> int:
        """Return how many Tritons the gateway asks."""
        try:
            return int(httpx2.get(f"{self.url}/readyz", timeout=REQUEST_TIMEOUT_S).json()["tritons"]["up"])
        except (httpx2.HTTPError, ValueError, KeyError):
            return 0

    def out_of_memory(self) -> str:
        """A gateway whose decoders need more memory than its container has: they are ended, and it is not."""
        self.compose("up", "-d", "--wait", GATEWAY_MEMORY="420m")
        name = f"{PROJECT}-gateway-1"
        started = docker("inspect", "--format", "{{.State.StartedAt}}", name)
        with tempfile.TemporaryFile() as large:
            Image.new("RGB", (7000, 7000)).save(large, "PNG")
            large.seek(0)
            sent = [large.read()] * 6
        with ThreadPoolExecutor(len(sent)) as pool:
            list(pool.map(lambda data: httpx2.post(f"{self.url}/v1/moderate", files={"file": data}, timeout=60), sent))
        ended = docker("logs", name).count('"cause": "SIGKILL", "event": "decoder ended"')
        if not ended or docker("inspect", "--format", "{{.State.StartedAt}}", name) != started:
            raise SystemExit(f"stage_compose: {ended} decoders were killed, or the gateway was")
        self.compose("up", "-d", "--wait", GATEWAY_MEMORY="4g")
        return f"{ended} decoders were killed, the gateway was not"

    def side_by_side(self) -> str:
        """A second bundle beside the first, then alone: the way without a pause."""
        next_up = ("--profile", "next", "up", "-d", "--wait")
        self.compose(*next_up, BUNDLE_NEXT=self.second)
        self.compose("stop", "gateway")
        self.compose("up", "-d", "--wait", "triton", "gateway", BUNDLE=self.second)
        self.compose("--profile", "next", "stop", "gateway-next")
        self.compose("--profile", "next", "rm", "--stop", "--force", "gateway-next", "triton-next")
        self.ready("int8")
        return "int8"


def refuse_if(changed: set[str]) -> str:
    """Return what is said where nothing changed.

    Raises:
        SystemExit: something did.
    """
    if changed:
        raise SystemExit(f"stage_compose: {sorted(changed)} changed")
    return "refused; nothing was touched"


def run(stages: Stages) -> None:
    """Run all stages."""
    first = stages.first
    stages.stage("typo in MODEL", stages.typo_in_model, outage_s=0)
    stages.stage("typo in BUNDLE", stages.typo_in_bundle, outage_s=0)
    stages.stage("export beside", stages.export_another, outage_s=0)
    stages.stage("switch", lambda: stages.switch(stages.second, "int8"), outage_s=66)
    stages.stage("and back", lambda: stages.switch(first, "fp32"), outage_s=66)
    stages.stage("gateway alone", stages.gateway_alone, outage_s=20)
    stages.stage("three gateways", lambda: stages.scale("gateway", 3), outage_s=0)
    stages.stage("one of three gateways frozen", stages.frozen_gateway, outage_s=2)
    stages.stage("one gateway", lambda: stages.scale("gateway", 1), outage_s=0)
    stages.stage("two Tritons", lambda: stages.scale("triton", 2), outage_s=0)
    stages.stage("one of two Tritons frozen", lambda: stages.frozen_triton(1, of=2), outage_s=2)
    stages.stage("one Triton", lambda: stages.scale("triton", 1), outage_s=0)
    stages.stage("the only Triton frozen", lambda: stages.frozen_triton(1, of=1), outage_s=60)
    stages.stage("memory runs out", stages.out_of_memory, outage_s=20)
    stages.stage("two bundles side by side, then the second", stages.side_by_side, outage_s=0)


def machine() -> Mapping[str, object]:
    """Return what the figures were measured on."""
    version = docker("version", "--format", "{{.Server.Version}}")
    return {"cores": os.cpu_count(), "machine": platform.machine(), "docker": version, "load": os.getloadavg()[0]}


def main() -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m scripts.stage_compose", description=__doc__)
    parser.add_argument("--port", type=int, default=18080, help="of the proxy, on loopback")
    parser.add_argument("--no-build", action="store_true")
    given = parser.parse_args()
    try:
        docker("info")
    except (OSError, subprocess.CalledProcessError):
        print("stage_compose: no Docker engine answers", file=sys.stderr)
        return 2
    folder = Path(tempfile.mkdtemp(prefix="stage-compose-"))
    compose, url = Compose(folder, given.port), f"http://127.0.0.1:{given.port}"
    try:
        print(json.dumps(machine()), flush=True)
        if not given.no_build:
            compose("--profile", "export", "build")
        first = compose("run", "--rm", "export").stdout.split()[-1]
        compose("up", "-d", "--wait", BUNDLE=first)
        with clients(url) as answers:
            stages = Stages(compose, url, answers)
            stages.first = first
            stages.ready("fp32")
            run(stages)
    finally:
        compose("--profile", "next", "down", "--volumes", "--timeout", "20", may_fail=True)
        shutil.rmtree(folder, ignore_errors=True)
    return 0 if all(holds for _, holds, _ in stages.rows) else 1


if __name__ == "__main__":
    sys.exit(main())
