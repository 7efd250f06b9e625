"""This checkout beside another one, usually an earlier commit: speed and memory of both stacks, measured in turns.

``git worktree add ../before COMMIT``, then ``python -m scripts.bench against --checkout ../before``. The stack that is
not measured is stopped, as by SIGSTOP.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import psutil

from scripts.bench.alternate import alternate, ratio
from scripts.bench.client import closed_loop, upload
from scripts.bench.gateway import classification
from scripts.bench.memory_runs import FIELDS, LARGE
from scripts.bench.memory_runs import IN_FLIGHT as LARGE_IN_FLIGHT
from scripts.bench.pictures import photographs
from scripts.bench.plan import Plan
from scripts.bench.report import ROOT, Section, Table, Target
from scripts.bench.resident import Watched, listener, rollup
from scripts.bench.scale_runs import send_signal_to_all, wait_ready
from scripts.bench.stack import FIRST_PORT, Stack, repository_of, stack

IN_FLIGHT = (1, 16, 64)
REPLICAS = 4
ONE, MANY = 0.97, 0.95
MOST_MB, MOST_PSS = 200, 1.3
SAMPLE_S = 0.05


def measure(plan: Plan) -> Section:
    """Measure a gateway with the model of the plan, then four of them with the demo model.

    Raises:
        ValueError: the plan names no other checkout.
    """
    if plan.checkout is None:
        raise ValueError("--checkout names the folder to compare with")
    trees = {"before": plan.checkout, "now": ROOT}
    single = [classification(picture) for picture in photographs()]
    large = [upload("/v1/classify", photographs(1, *LARGE), FIELDS)]
    with both(plan, plan.model, trees, 1) as one:
        rates = {n: _alternated(one, single, n, plan) for n in IN_FLIGHT}
        peaks = alternate({name: partial(_peak_mb, running, large, plan.seconds) for name, running in one.items()}, 2)
    with both(plan, "demo", trees, REPLICAS) as four:
        many = _alternated(four, single, IN_FLIGHT[-1], plan)
        held = {name: _replicas_mb(running) for name, running in four.items()}
    now_mb = max(peaks["now"])
    targets = [_target(f"{plan.model}, {n} in flight", found, ONE) for n, found in rates.items()]
    targets.append(_target(f"demo, {REPLICAS} replicas, {IN_FLIGHT[-1]} in flight", many, MANY))
    share = held["now"] / held["before"]
    targets += [
        Target(
            f"one replica and its decoders, PSS at {LARGE_IN_FLIGHT} x 4 MB", f"under {MOST_MB} MB", f"{now_mb:.0f} MB",
            now_mb < MOST_MB,
        ),
        Target(f"PSS of {REPLICAS} replicas, of before", f"at most {MOST_PSS}", f"{share:.2f}", share <= MOST_PSS),
    ]  # fmt: skip
    rows = [(f"{plan.model}, {n}", *_medians(found)) for n, found in rates.items()]
    rows += [(f"demo, {REPLICAS} replicas, {IN_FLIGHT[-1]}", *_medians(many))]
    memory = [
        (f"one, {LARGE_IN_FLIGHT} x 4 MB", *(f"{max(peaks[name]):.0f}" for name in trees)),
        (f"{REPLICAS} replicas after load", *(f"{held[name]:.0f}" for name in trees)),
    ]
    return Section(
        "Against another checkout",
        tuple(targets),
        (Table(("pictures/s", *trees), tuple(rows)), Table(("PSS, MB", *trees), tuple(memory))),
        ("Each side has a Triton and a bundle of its own, and rests while the other is measured.",),
    )


@contextmanager
def both(plan: Plan, model: str, trees: dict[str, Path], replicas: int) -> Iterator[dict[str, Stack]]:
    """Run each checkout's stack, stopped until it is measured."""
    with ExitStack() as held:
        running: dict[str, Stack] = {}
        for number, (name, checkout) in enumerate(trees.items()):
            ports = ("GATEWAY_PORT", "TRITON_HTTP_PORT", "TRITON_GRPC_PORT", "TRITON_METRICS_PORT")
            settings = {port: str(FIRST_PORT + 4 * number + place) for place, port in enumerate(ports)}
            settings |= {"MODEL_REPOSITORY": f"{repository_of(model, plan.precision, plan.device)}-{name}"}
            settings |= {"REPLICAS": str(replicas), "GATEWAY_PROCESSES": str(replicas)}  # the name before replicas
            settings |= {"UPLOAD_WAIT_S": "60"}
            running[name] = held.enter_context(stack(model, plan.precision, plan.device, settings, checkout=checkout))
            root = psutil.Process(running[name].pid)
            held.callback(send_signal_to_all, root, "SIGCONT")
            send_signal_to_all(root, "SIGSTOP")
        yield running


@contextmanager
def awake(running: Stack) -> Iterator[None]:
    """Let a stack run for the block."""
    root = psutil.Process(running.pid)
    send_signal_to_all(root, "SIGCONT")
    try:
        wait_ready(running.url)
        yield
    finally:
        send_signal_to_all(root, "SIGSTOP")


def _alternated(sides: dict[str, Stack], requests: list[bytes], in_flight: int, plan: Plan) -> dict[str, list[float]]:
    def rate(running: Stack) -> float:
        with awake(running):
            address = (running.host, running.port)
            load = asyncio.run(closed_loop(address, requests, in_flight, plan.seconds, warm=64))
        if set(load.statuses) != {200}:
            raise RuntimeError(f"answers other than 200: {load.statuses}")
        return load.rate

    return alternate({name: partial(rate, running) for name, running in sides.items()}, plan.rounds)


def _peak_mb(running: Stack, requests: list[bytes], seconds: float) -> float:
    with awake(running), Watched(listener(running.port), SAMPLE_S) as watched:
        asyncio.run(closed_loop((running.host, running.port), requests, LARGE_IN_FLIGHT, seconds))
    return watched.most.together / 1e6


def _replicas_mb(running: Stack) -> float:
    """Return the PSS of everything below the launcher that is not Triton, decoders left out, MB."""
    found = psutil.Process(running.pid).children(recursive=True)
    gateways = [one for one in found if "-m" in (words := one.cmdline()) and words[words.index("-m") + 1] == "gateway"]
    return sum(rollup(one.pid)["Pss"] for one in gateways) / 1e6


def _target(name: str, found: dict[str, list[float]], least: float) -> Target:
    share = ratio(found, "now", to="before")
    return Target(f"pictures/s of before: {name}", f"at least {least}", f"{share:.2f}", share >= least)


def _medians(found: dict[str, list[float]]) -> tuple[str, ...]:
    return tuple(f"{statistics.median(values):.1f}" for values in found.values())
