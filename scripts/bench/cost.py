"""What a million pictures cost: throughput at saturation and a price an hour, beside closed services' list prices.

``PRICE_PER_HOUR`` is what the machine costs; list prices stand with their source and date.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gateway.decoding.views import tile_boxes
from scripts.bench.alternate import alternate, medians
from scripts.bench.client import closed_loop, upload
from scripts.bench.machine import cores
from scripts.bench.pictures import COMMON_SIZE, photographs
from scripts.bench.plan import Plan
from scripts.bench.report import Section, Table, load
from scripts.bench.stack import Stack, stack

MILLION = 1_000_000
SECONDS_PER_HOUR = 3600
BUSY = (1.0, 0.4)
"""Shares of the hour in which there is work: all of it, which no service reaches, and a usual one."""

IN_FLIGHT = 32
PRECISIONS = ("fp32", "int8")
LABELS = ("a cat", "a dog", "a car", "a house", "something else")

GPU_FIGURE, GPU_PRICE = "rest cuda fp16", "rest cuda price per hour"


@dataclass(frozen=True, slots=True)
class ListPrice:
    """What a closed service asks.

    Attributes:
        service: its name.
        per_million: US dollars for the first million pictures of a month; None where no price could be found.
        what: what one of them buys.
        source: where the price was read.
        read: date of the source, as precisely as it says.
        verified: whether the source is the seller's own page or a dated copy of it.
    """

    service: str
    per_million: float | None
    what: str
    source: str
    read: str
    verified: bool


LIST_PRICES = (
    ListPrice(
        "AWS Rekognition, image moderation", 1000.0, "its own categories; 0.0008 a picture beyond the first tier",
        "a transcription of AWS's price page, group 2", "2026-10-07", verified=True,
    ),
    ListPrice(
        "Google Cloud Vision, SafeSearch", 1498.5, "five likelihoods; 1.50 a thousand after the first thousand",
        "xscanhub.com, and the same at vantaige.io", "2026-05-28", verified=False,
    ),
    ListPrice(
        "Azure AI Content Safety, pictures", None, "four categories with severities",
        "no stored page had it", "", verified=False,
    ),
    ListPrice(
        "Sightengine, three models a picture", 5985.0, "one operation is one model on one picture",
        "a table of 1.995 a thousand operations, old; no stored page had today's", "2018-11", verified=False,
    ),
    ListPrice(
        "Hive, visual moderation", 3000.0, "its own categories",
        "edenai.co; Hive's own pages say to ask", "2026", verified=False,
    ),
    ListPrice(
        "OpenAI, omni-moderation", 0.0, "13 fixed categories, some of them for text only",
        "OpenAI's guide, a dated copy", "2026-05-02", verified=True,
    ),
)  # fmt: skip
"""Published prices in US dollars, looked up in stored pages in November 2026: none was seen on a live page."""


def per_million(pictures_per_s: float, price_per_hour: float, busy: float) -> float:
    """Return what a million pictures cost on a machine that is busy for a share of the time it is paid for.

    Args:
        pictures_per_s: at saturation.
        price_per_hour: of the machine.
        busy: 0 to 1.
    """
    return MILLION / (pictures_per_s * busy * SECONDS_PER_HOUR) * price_per_hour


def measure(plan: Plan) -> Section:
    """Measure both routes at both precisions, and compute; on a GPU only compute, from what its section kept."""
    kept = load("gpu")
    figures = kept.section.figures if kept is not None else {}
    rates = {} if plan.device == "cuda" else throughput(plan)
    return computed(rates, figures, plan.price_per_hour)


def throughput(plan: Plan) -> dict[tuple[str, str], float]:
    """Return pictures a second by route and precision, uploads of JPEG at saturation."""
    pictures = photographs()
    labels = [("labels", label) for label in LABELS]
    requests = {
        "classify": [upload("/v1/classify", [picture], labels) for picture in pictures],
        "moderate": [upload("/v1/moderate", [picture], []) for picture in pictures],
    }
    found: dict[tuple[str, str], float] = {}
    for precision in PRECISIONS:
        with stack(plan.model, precision, "cpu") as running:
            sides = {name: _load_of(running, each, plan.seconds) for name, each in requests.items()}
            for name, rate in medians(alternate(sides, plan.rounds)).items():
                found[name, precision] = rate
    return found


def _load_of(running: Stack, requests: list[bytes], seconds: float) -> Callable[[], float]:
    def run() -> float:
        load = asyncio.run(closed_loop((running.host, running.port), requests, IN_FLIGHT, seconds, warm=IN_FLIGHT))
        if set(load.statuses) != {200}:
            raise RuntimeError(f"not every picture was answered: {load.statuses}")
        return load.rate

    return run


def computed(rates: Mapping[tuple[str, str], float], gpu: Mapping[str, float], price_per_hour: float) -> Section:
    """Return the section.

    Args:
        rates: pictures a second by route and precision on this machine.
        gpu: figures of the section on a GPU, where one was measured and its price given.
        price_per_hour: of this machine.
    """
    prices = (price_per_hour, 2 * price_per_hour)
    rows = [_row(f"{name}, {kind}", rate, price) for (name, kind), rate in rates.items() for price in prices]
    if GPU_FIGURE in gpu and GPU_PRICE in gpu:
        rows.append(_row("classify, fp16 on a GPU", gpu[GPU_FIGURE], gpu[GPU_PRICE]))
    moderated = [rate for (name, _), rate in rates.items() if name == "moderate"]
    cheapest = min((per_million(rate, price_per_hour, BUSY[-1]) for rate in moderated), default=None)
    header = (
        "uploads of JPEG, 640 x 480",
        "pictures/s",
        "$ an hour",
        *(f"$ a million, {busy:.0%} busy" for busy in BUSY),
    )
    squares = 1 + len(tile_boxes(*COMMON_SIZE))
    what = (
        f"{IN_FLIGHT} in flight, {cores()} cores. `classify` looks at one square of a picture, `moderate` with the "
        f"shipped policy at {squares} of one of 4:3. {DEFAULT_PRICE} The second price is for a vCPU that is half a "
        "core, as on most x86 instances. In none of these: people, storage, and the traffic, which closed services add "
        "to as well."
    )
    notes = (FORMULA, what) if rates else (FORMULA,)
    return Section("Cost", (), (Table(header, tuple(rows)), _closed(cheapest)), notes)


DEFAULT_PRICE = (
    "`PRICE_PER_HOUR` is by default 0.20, about what 4 vCPUs with 16 GiB cost on demand (AWS m7i.xlarge 0.2016, "
    "c7i.xlarge with 8 GiB 0.1785, us-east-1, as a public table of rates quoted AWS's page at the end of 2025)."
)
FORMULA = (
    "Dollars a million = 1,000,000 / (r x u x 3,600) x p: pictures a second at saturation r, the share u of the paid "
    "time in which there is work, the machine's price an hour p. Whoever must answer at the busiest hour pays for the "
    "quiet ones too, hence 40 %."
)


def _row(name: str, rate: float, price: float) -> tuple[str, ...]:
    costs = [per_million(rate, price, busy) for busy in BUSY]
    return name, f"{rate:.1f}", f"{price:.2f}", *map(_dollars, costs)


def _closed(moderated: float | None) -> Table:
    rows = []
    for one in LIST_PRICES:
        price = "not found" if one.per_million is None else _dollars(one.per_million)
        times = f"{one.per_million / moderated:.0f}" if one.per_million and moderated else ""
        read = f"{one.source}, {one.read}" if one.read else one.source
        rows.append((one.service, price, times, one.what, read, "yes" if one.verified else "no"))
    header = ("closed service", "$ a million", f"times the cheapest `moderate`, {BUSY[-1]:.0%} busy", "for that")
    return Table((*header, "read in", "the seller's words"), tuple(rows))


def _dollars(value: float) -> str:
    return "free" if value == 0 else f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
