"""Gateway replicas by Triton instances: pictures a second, where the curve bends, and what each picture costs.

Run with the model of the plan, where the encoder is what limits, and with the demo model, whose encoder costs so little
that everything else is: that curve shows what a gateway can give to a GPU.
"""

from __future__ import annotations

import itertools
import math
import statistics

from scripts.bench import spread
from scripts.bench.machine import cores
from scripts.bench.plan import Plan
from scripts.bench.report import Section, Table
from scripts.bench.scale_runs import IN_FLIGHT, INSTANCES, REPLICAS, SIZES, Sample, measured

BUSY = 0.9  # of what it has: then that is what limits
GAIN = 1.05  # less is no growth
GPU_RATES = (300, 1500, 5000)
SPARE = 0.7  # of its core that a server process may be busy without making requests wait

HOW = (
    f"{IN_FLIGHT} requests of one picture in flight over kept-alive connections; every instance of the encoder has one "
    "thread, so that a second one is a second core. Gateway, decoders, Triton and client share the machine; processor "
    "time is that of a picture. The busiest replica is the event loop that works most: near 100 % it is what limits."
)
NEEDS = (
    "What a GPU needs follows from the processor time of a picture beside an encoder that costs next to nothing: "
    f"server processes busy to {SPARE:.0%}, and cores for them and for the decoders."
)
SPREAD = (
    "How connections that are opened at once are spread over four replicas: the part of the busiest and the idlest, 1 "
    "being even. Of those that share a listener the first to wake up accepts all that wait, unless each takes one and "
    "then looks away for a millisecond, as the gateway's do; SO_REUSEPORT hashes addresses, and one that ends takes "
    "along who waits for it."
)


def measure(plan: Plan) -> Section:
    """Measure every pair of counts with both models, all pairs of a model in turns."""
    tables: list[Table] = []
    notes: list[str] = []
    figures: dict[str, float] = {}
    for model, sizes in ((plan.model, ["640 x 480"]), ("demo", list(SIZES))):
        found = measured(model, sizes, plan)
        for size in sizes:
            middle = {(i, g): _median(found[i, g], size) for i in INSTANCES for g in REPLICAS}
            tables.append(_table(f"{model}, JPEG {size}", middle))
            notes.append(f"{model}, {size}: {' '.join(_why(instances, middle) for instances in INSTANCES)}")
            figures |= {f"scale {model} {size} {i} x {g}": sample.rate for (i, g), sample in middle.items()}
            last = middle[INSTANCES[-1], 1]
            figures |= {f"server ms {model} {size}": last.server_ms, f"decode ms {model} {size}": last.decode_ms}
        if model == "demo":
            tables.append(_needs(_median(found[INSTANCES[-1], 1], "640 x 480")))
    tables.append(_spread_table(plan.rounds))
    return Section("Scale", (), tuple(tables), (HOW, *notes, NEEDS, SPREAD), figures)


def _median(samples: list[dict[str, Sample]], size: str) -> Sample:
    found = [sample[size] for sample in samples]
    return Sample(*(statistics.median(getattr(one, name) for one in found) for name in Sample.__slots__))


def _table(name: str, middle: dict[tuple[int, int], Sample]) -> Table:
    header = (
        name, "replicas", "pictures/s", "busiest replica", "CPU ms a picture: servers", "decoders", "Triton",
        "client", "cores busy", "servers' memory, MiB",
    )  # fmt: skip
    rows = [
        (
            f"{instances} instance{'s' * (instances > 1)}", str(replicas), f"{one.rate:.1f}", f"{one.busiest:.0%}",
            f"{one.server_ms:.2f}", f"{one.decode_ms:.2f}", f"{one.triton_ms:.2f}", f"{one.client_ms:.2f}",
            f"{one.rate * one.all_ms / 1e3:.2f}", f"{one.memory_mib:.0f}",
        )
        for (instances, replicas), one in middle.items()
    ]  # fmt: skip
    return Table(header, tuple(rows))


def _why(instances: int, middle: dict[tuple[int, int], Sample]) -> str:
    """Say where the curve of one number of instances bends, and what keeps it from rising on."""
    rates = {replicas: middle[instances, replicas].rate for replicas in REPLICAS}
    bend = REPLICAS[0]
    for before, after in itertools.pairwise(REPLICAS):
        if rates[after] < GAIN * rates[before]:
            break
        bend = after
    at = middle[instances, bend]
    many = "1 replica gives" if bend == 1 else f"{bend} replicas give"
    grown = "and more add nothing" if bend == 1 else f"{rates[bend] / rates[REPLICAS[0]]:.2f} times what one gives"
    return (
        f"With {instances} instance{'s' * (instances > 1)} {many} {at.rate:.0f} pictures/s, {grown}: "
        f"{_limit(at, instances)}."
    )


def _limit(at: Sample, instances: int) -> str:
    """Say what a load kept busy to the full."""
    busy = at.rate * at.all_ms / 1e3
    encoder = at.rate * at.triton_ms / 1e3 / instances
    if at.busiest >= BUSY:
        return f"the event loop of a replica is busy for {at.busiest:.0%} of the time"
    if encoder >= BUSY and busy < BUSY * cores():
        return f"an instance of the encoder is busy for {min(1.0, encoder):.0%} of the time"
    if busy >= BUSY * cores():
        return (
            f"{busy:.1f} of {cores()} cores are busy, of each picture {at.triton_ms:.1f} ms with Triton, "
            f"{at.decode_ms:.1f} ms with decoding, {at.server_ms:.1f} ms with the server, {at.client_ms:.1f} ms with "
            "the client, so that further replicas only share them"
        )
    return f"{busy:.1f} of {cores()} cores and {at.busiest:.0%} of an event loop are busy; requests wait for each other"


def _needs(beside: Sample) -> Table:
    """Return what a faster encoder would need of the gateway."""
    rows = []
    for rate in GPU_RATES:
        servers = rate * beside.server_ms / 1e3
        cells = (math.ceil(servers / SPARE), servers, rate * beside.decode_ms / 1e3)
        rows.append((f"{rate}", str(cells[0]), f"{cells[1]:.1f}", f"{cells[2]:.1f}"))
    return Table(("for a GPU of pictures/s", "REPLICAS", "cores for them", "cores for decoders"), tuple(rows))


def _spread_table(rounds: int) -> Table:
    rows = [
        (way, str(count), f"{most:.2f}", f"{least:.2f}")
        for way in spread.WAYS
        for count, (most, least) in spread.measured(way, rounds).items()
    ]
    return Table(("connections over 4 replicas", "how many", "busiest", "idlest"), tuple(rows))
