"""``python -m scripts.sizing check|plan|table``: the simulation beside what was measured, and what loads need."""

from __future__ import annotations

import argparse
import json
import math
from typing import Any

from scripts.sizing.model import FULL, MEASURED, Costs, Part, mean_wait_s, parts_of
from scripts.sizing.simulation import Machine, closed

SIMULATED_S = 120.0
ENCODER_SHARES = {"fp32": 1.0, "int8": 0.43}  # of fp32's time: 56 against 24 core-ms, `scripts.bench formats`, batch 8
DECISIONS_PER_S = 1000  # of one PostgreSQL on this machine, ten at a time


def measured() -> dict[str, Any]:
    """Return what was measured."""
    found: dict[str, Any] = json.loads(MEASURED.read_text(encoding="utf-8"))
    return found


def machine_of(found: dict[str, Any]) -> Machine:
    """Return the machine that was measured."""
    steps, sizing = found["steps"], found["sizing"]
    served = f"encoder {sizing['instances']} x {sizing['threads']}, "
    by_batch = {int(name.removeprefix(served)): step for name, step in steps.items() if name.startswith(served)}
    return Machine(
        cores=found["cores"],
        gateway_s=steps["counted"]["gateway"] + steps["counted"]["triton"],
        decode_s=steps["counted"]["decoders"],
        encode_s={batch: step["core_s"] for batch, step in by_batch.items()},
        lone_s=steps[f"encoder 1 x {found['cores']}, 1"]["core_s"],
        instances=sizing["instances"],
        max_batch=sizing["max_batch"],
        delay_s=sizing["delay_us"] / 1e6,
    )


def check() -> list[tuple[int, float, float, float]]:
    """Print the curve measured and simulated; return for each level the ratios of rate, p50 and p95."""
    found, rows = measured(), []
    print("| in flight | pictures/s | simulated | p50, ms | simulated | p95, ms | simulated |")
    print("|---|---|---|---|---|---|---|")
    levels = {name.split()[1]: step for name, step in found["steps"].items() if name.startswith("closed ")}
    for level, seen in levels.items():
        curve = closed(machine_of(found), int(level), SIMULATED_S)
        p50, p95 = curve.percentile_s(0.5), curve.percentile_s(0.95)
        print(
            f"| {level} | {seen['rate']:.1f} | {curve.rate:.1f} | {1e3 * seen['p50_s']:.0f} | {1e3 * p50:.0f} "
            f"| {1e3 * seen['p95_s']:.0f} | {1e3 * p95:.0f} |"
        )
        rows.append((int(level), curve.rate / seen["rate"], p50 / seen["p50_s"], p95 / seen["p95_s"]))
    return rows


def costs_of(precision: str, views: int = 1, gpu_rate: float = 0.0) -> Costs:
    """Return what a picture costs each part, from what was measured."""
    machine = machine_of(measured())
    encode_s = machine.batch_s(machine.max_batch) / machine.max_batch
    return Costs(
        encode_s=encode_s * ENCODER_SHARES[precision],
        decode_s=machine.decode_s,
        gateway_s=machine.gateway_s,
        decisions_per_s=DECISIONS_PER_S,
        views=views,
        gpu_rate=gpu_rate,
    )


def hosts_for(parts: list[Part], cores: int) -> int:
    """Return how many hosts hold what needs processors, filled to ``FULL``."""
    busy = sum(part.needed for part in parts if part.unit in {"core", "replica"})
    return max(1, math.ceil(busy / FULL / cores))


def plan(rate: float, costs: Costs, cores: int, price: float) -> list[str]:
    """Return what a rate of pictures a second needs of each part, and a line on hosts, waits and cost."""
    parts = parts_of(rate, costs)
    hosts = hosts_for(parts, cores)
    rows = ["| part | at full load | to run |", "|---|---|---|"]
    rows += [f"| {part.name} | {part.needed:.2f} {part.unit} | {part.units} x {part.unit} |" for part in parts]
    most = max((part for part in parts if part.unit in {"core", "replica", "GPU"}), key=lambda part: part.needed)
    line = f"hosts of {cores} cores: {hosts}; most is the {most.name}'s"
    if not costs.gpu_rate:
        work_s = sum(part.needed for part in parts if part.unit in {"core", "replica"}) / rate
        wait_s = mean_wait_s(cores, rate / hosts, work_s)
        line += f"; on average {1e3 * wait_s:.0f} ms of waiting before {1e3 * work_s:.0f} core-ms of work"
    if price:
        line += f"; {hosts * price:.2f} an hour, {hosts * price / rate / 3.6:.4f} for 1,000 pictures"
    return [*rows, "", line]


def summary(cores: int = 16) -> list[str]:
    """Return the table of docs/sizing.md: what 1, 100 and 10,000 pictures a second need on CPUs."""
    units = "encoder, cores | decoders, cores | event loops | databases | Gbit/s in"
    rows = [f"| pictures/s | precision, views | {units} | hosts of {cores} cores | core-hours a million |"]
    rows.append("|---" * 9 + "|")
    for rate in (1, 100, 10_000):
        for precision, views in (("fp32", 1), ("int8", 1), ("int8", 4)):
            parts = parts_of(rate, costs_of(precision, views))
            counts = " | ".join(f"{part.units:,}" for part in parts)
            hours = sum(part.needed for part in parts[:3]) / rate * 1e6 / 3600
            rows.append(f"| {rate:,} | {precision}, {views} | {counts} | {hosts_for(parts, cores):,} | {hours:.0f} |")
    return rows


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m scripts.sizing", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("check", help="the simulation beside what was measured")
    commands.add_parser("table", help="what 1, 100 and 10,000 pictures a second need")
    wanted = commands.add_parser("plan", help="what a load needs")
    wanted.add_argument("--rate", type=float, required=True, help="pictures a second")
    wanted.add_argument("--precision", choices=sorted(ENCODER_SHARES), default="fp32")
    wanted.add_argument("--views", type=int, default=1, help="of a picture: 1 is the whole, up to 6 with tiles")
    wanted.add_argument("--gpu-rate", type=float, default=0.0, help="views a second of your GPU: none was measured")
    wanted.add_argument("--cores", type=int, default=16, help="of a host")
    wanted.add_argument("--price", type=float, default=0.0, help="of a host an hour")
    given = parser.parse_args()
    if given.command == "check":
        check()
    elif given.command == "table":
        print("\n".join(summary()))
    else:
        costs = costs_of(given.precision, given.views, given.gpu_rate)
        print("\n".join(plan(given.rate, costs, given.cores, given.price)))


if __name__ == "__main__":
    main()
