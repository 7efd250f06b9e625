"""Other software on the same cores, with the same weights and pictures: ``PEERS=1``, or this section named.

The peers: the service that one writes in an afternoon, infinity and vLLM as they come from PyPI, and ONNX Runtime in
process. Each runs in an environment of its own (``peer_setup``); a service is started for its turn and stopped after
it, so that none is measured beside another.
"""

from __future__ import annotations

import asyncio
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import psutil

from scripts.bench.alternate import alternate, ratio
from scripts.bench.client import Load, closed_loop
from scripts.bench.machine import cores
from scripts.bench.peer_encoders import BATCHES, PRECISIONS, encoders
from scripts.bench.peer_encoders import OURS as OUR_ENCODER
from scripts.bench.peer_encoders import THEIRS as THEIR_ENCODER
from scripts.bench.peer_setup import onnx, version
from scripts.bench.peer_sides import LABELS, OURS, Side, agreement, sides
from scripts.bench.plan import Plan
from scripts.bench.report import Section, Table, Target

CONCURRENCY = (1, 16, 64)
IN_FLIGHT = " / ".join(map(str, CONCURRENCY)) + " in flight"
WARM_S = 4.0
MOST_ROUNDS = 3
"""Every service is started anew in each of them, which takes longer than measuring it."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What one turn of a service gave.

    Attributes:
        loads: by requests in flight.
        resident_mb: of all its processes at the end, memory that they share counted once.
    """

    loads: dict[int, Load]
    resident_mb: float

    def rate(self, in_flight: int) -> float:
        """Return pictures a second that were answered."""
        load = self.loads[in_flight]
        return load.served

    def refused(self) -> int:
        """Return how many answers were no 200."""
        return sum(len(load.latencies_s) - load.statuses.get(200, 0) for load in self.loads.values())


def measure(plan: Plan) -> Section:
    """Measure services in turns by requests in flight, then encoders in process by batch."""
    found, agree = agreement(sides(plan))
    rounds = min(plan.rounds, MOST_ROUNDS)
    turns = alternate({name: _turn_of(side, plan.seconds) for name, side in found.items()}, rounds)
    rates = {f"{name} {n}": [turn.rate(n) for turn in turns[name]] for name in turns for n in CONCURRENCY}
    alone = alternate(encoders(plan), plan.rounds)
    by_batch = {f"{name} {batch}": [one[batch] for one in alone[name]] for name in alone for batch in BATCHES}
    refused = {name: number for name in turns if (number := sum(turn.refused() for turn in turns[name]))}
    made_of = tuple((name, side.versions, side.work) for name, side in found.items())
    return Section(
        "Peers",
        (*_service_targets(rates), *_encoder_targets(by_batch)),
        (
            Table(("", "made of", "does for a request"), made_of),
            _throughput(rates, turns),
            _latency(turns),
            _in_process(by_batch),
        ),
        (
            *_notes(agree, plan.model),
            *([f"Answers other than 200, which are not counted: {refused}."] if refused else []),
        ),
        {f"peers rest {name}": statistics.median(values) for name, values in rates.items()},
    )


def _turn_of(side: Side, seconds: float) -> Callable[[], Turn]:
    def turn() -> Turn:
        with side.start() as (port, pid):
            address = ("127.0.0.1", port)
            asyncio.run(closed_loop(address, side.requests, max(CONCURRENCY), WARM_S))
            loads = {n: asyncio.run(closed_loop(address, side.requests, n, seconds)) for n in CONCURRENCY}
            return Turn(loads, _resident_mb(pid))

    return turn


def _resident_mb(pid: int) -> float:
    """Return the proportional set size of a process and all below it, in 10^6 bytes."""
    process = psutil.Process(pid)
    total = 0
    for one in (process, *process.children(recursive=True)):
        try:
            total += one.memory_full_info().pss
        except psutil.Error:  # it ended meanwhile
            continue
    return total / 1e6


def _service_targets(rates: Mapping[str, list[float]]) -> list[Target]:
    found = []
    for name in _names(rates):
        if name not in OURS:
            each = [ratio(rates, f"{OURS[0]} {n}", f"{name} {n}") for n in CONCURRENCY]
            words = " / ".join(f"{one:.2f}" for one in each)
            found.append(Target(f"REST fp32 of {name}, {IN_FLIGHT}", "above 1", words, min(each) > 1))
    return found


def _encoder_targets(by_batch: Mapping[str, list[float]]) -> list[Target]:
    found = []
    for precision in PRECISIONS:
        for batch in BATCHES:
            times = ratio(by_batch, f"{OUR_ENCODER} {precision} {batch}", f"{THEIR_ENCODER} {precision} {batch}")
            name = f"encoder {precision} of {THEIR_ENCODER}'s, batch {batch}"
            found.append(Target(name, "above 1", f"{times:.2f}", times > 1))
    return found


def _throughput(rates: Mapping[str, list[float]], turns: Mapping[str, Sequence[Turn]]) -> Table:
    rows = []
    for name in _names(rates):
        middle = " / ".join(f"{statistics.median(rates[f'{name} {n}']):.1f}" for n in CONCURRENCY)
        times = [" / ".join(f"{ratio(rates, f'{own} {n}', f'{name} {n}'):.2f}" for n in CONCURRENCY) for own in OURS]
        memory = statistics.median(turn.resident_mb for turn in turns[name])
        rows.append((name, middle, *times, f"{memory:.0f}"))
    header = (f"pictures/s, {IN_FLIGHT}", f"{OURS[0]} / it", f"{OURS[1]} / it", "memory, MB")
    return Table(("", *header), tuple(rows))


def _latency(turns: Mapping[str, Sequence[Turn]]) -> Table:
    def both(name: str, in_flight: int) -> str:
        middle, last = (
            statistics.median(turn.loads[in_flight].percentile(share) for turn in turns[name]) for share in (0.5, 0.99)
        )
        return f"{middle * 1e3:.0f} / {last * 1e3:.0f}"

    rows = tuple((name, *(both(name, in_flight) for in_flight in CONCURRENCY)) for name in turns)
    return Table(("p50 / p99, ms", *(f"{in_flight} in flight" for in_flight in CONCURRENCY)), rows)


def _in_process(by_batch: Mapping[str, list[float]]) -> Table:
    def cells(name: str) -> list[str]:
        return [f"{statistics.median(by_batch[f'{name} {batch}']):.1f}" for batch in BATCHES]

    rows = tuple((name, *cells(name)) for name in _names(by_batch))
    return Table(("encoder in process, pictures/s", *(f"batch {batch}" for batch in BATCHES)), rows)


def _names(found: Mapping[str, object]) -> list[str]:
    """Return the names in ``<name> <number>``, in order."""
    return list(dict.fromkeys(name.rpartition(" ")[0] for name in found))


def _notes(agree: str, model: str) -> tuple[str, ...]:
    cosine = json.loads((onnx(model) / "cosine.json").read_text(encoding="utf-8"))
    how = (
        f"All on the same {cores()} cores, the load generator too; each service is started for its turn, warmed for "
        f"{WARM_S:g} s and stopped, at most {MOST_ROUNDS} times. {len(LABELS)} labels; the same JPEGs of 640 x 480, "
        f"sent as they are (to infinity and vLLM as data URIs, which their routes ask for). {agree}"
    )
    less = (
        "infinity and vLLM do less: their routes for embeddings give a vector. Whoever wants labels asks for their "
        "vectors beforehand and compares at home, which is not counted; their classify routes are for models trained "
        "as classifiers. All services but the second of ours run in fp32."
    )
    runtime = (
        f"{THEIR_ENCODER} {version('onnx', 'onnxruntime')} runs transformers' vision model, exported by PyTorch's "
        "TorchScript-based exporter, and that quantised dynamically per channel (the quickest of what was tried, see "
        f"`peer_services/onnx_export.py`; lowest cosine to eager on noise {cosine['fp32']:.6f}, {cosine['int8']:.4f}). "
        "One inference at a time on all cores, for both; normalised pixels in there, uint8 here."
    )
    others = (
        "Not here: clip-as-service (clip-server 0.8.3), for which pip found no versions that go together in seven "
        "minutes; clip-api-service 0.1.3, which knows a list of hub models alone; embed-anything, a library without a "
        "service; frameworks such as LitServe and BentoML, which serve what one writes in them."
    )
    return how, less, runtime, others
