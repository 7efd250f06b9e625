"""What a load needs, in closed form: hosts, replicas, and which part is full first."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

MEASURED = Path(__file__).with_name("measured.json")  # written by scripts.sizing.measure
FULL = 0.7  # of a part's capacity: above it the wait grows faster than the load
PICTURE_BYTES = 150_000  # of a JPEG as users upload them


def erlang_c(servers: int, offered: float) -> float:
    """Return the probability that a picture waits at all (Erlang's C formula), 0 to 1.

    Args:
        servers: that work in parallel.
        offered: arrivals a second times seconds of service; under ``servers``.
    """
    blocked = 1.0  # Erlang's B, by its recursion, which no number of servers overflows
    for number in range(1, servers + 1):
        blocked = offered * blocked / (number + offered * blocked)
    return blocked / (1 - offered / servers * (1 - blocked))


def mean_wait_s(servers: int, rate: float, service_s: float, variation: float = 0.0) -> float:
    """Return how long a picture waits on average before its service begins (Allen and Cunneen's approximation).

    Exact for one server (Pollaczek and Khinchine) and for exponential service (``variation`` 1).

    Args:
        servers: that work in parallel.
        rate: Poisson arrivals a second.
        service_s: mean seconds of service.
        variation: squared coefficient of variation of the service; 0: always the same.

    Raises:
        ValueError: the load is more than the servers can do.
    """
    offered = rate * service_s
    if offered >= servers:
        raise ValueError(f"{offered:.2f} servers are needed, and there are {servers}")
    return erlang_c(servers, offered) * service_s / (servers - offered) * (1 + variation) / 2


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the stack, and what a load asks of it.

    Attributes:
        name: of it.
        needed: units at full load.
        units: to run, filled to ``FULL``.
        unit: what one is.
    """

    name: str
    needed: float
    units: int
    unit: str


@dataclass(frozen=True, slots=True)
class Costs:
    """What a picture costs each part.

    Attributes:
        encode_s: core-seconds of the encoder for each view.
        decode_s: core-seconds of decoders.
        gateway_s: core-seconds of the gateway's event loop and Triton's server.
        decisions_per_s: that one database takes.
        views: that the encoder sees of a picture: 1 for the whole, up to 6 with tiles.
        gpu_rate: views a second of one GPU; 0: encoders run on CPUs.
    """

    encode_s: float
    decode_s: float
    gateway_s: float
    decisions_per_s: float
    views: int = 1
    gpu_rate: float = 0.0


def parts_of(rate: float, costs: Costs) -> list[Part]:
    """Return what a rate of pictures a second needs of each part."""

    def part(name: str, needed: float, unit: str) -> Part:
        return Part(name, needed, max(1, math.ceil(needed / FULL)), unit)

    encoding = (
        part("encoder", rate * costs.views / costs.gpu_rate, "GPU")
        if costs.gpu_rate
        else part("encoder", rate * costs.views * costs.encode_s, "core")
    )
    return [
        encoding,
        part("decoders", rate * costs.decode_s, "core"),
        part("gateway's event loop", rate * costs.gateway_s, "replica"),
        part("decision log", rate / costs.decisions_per_s, "database"),
        part("network in", rate * PICTURE_BYTES * 8 / 1e9, "Gbit/s"),
    ]
