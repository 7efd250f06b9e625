"""What a million pictures cost: arithmetic over what other sections measured, beside closed services' list prices.

Nothing is measured here. ``PRICE_PER_HOUR`` is what the machine costs; list prices stand with their source and date.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.views import tile_boxes
from scripts.bench.machine import cores, machine
from scripts.bench.pictures import COMMON_SIZE
from scripts.bench.plan import Plan
from scripts.bench.report import KEPT, Kept, Section, Table, Target, load

MILLION = 1_000_000
SECONDS_PER_HOUR = 3600
BUSY = (1.0, 0.4)
"""Shares of the hour in which there is work: all of it, which no service reaches, and a usual one."""

THROUGHPUT = {
    "REST, fp32": ("rest fp32", "peers rest this, fp32 64"),
    "REST, int8": ("rest int8", "peers rest this, int8 64"),
}
"""Rows and the figures they are taken from, in any section that was kept; the first that is there counts."""

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
    """Compute the table from what was kept on this machine."""
    kept = [one for path in sorted(KEPT.glob("*.json")) if (one := load(path.stem)) is not None]
    rates, sources = throughput(kept)
    if not rates:
        target = Target("a million pictures, REST", "its price", "REST was not measured on this machine", met=None)
        return Section("Cost", (target,), (_closed(None),), (FORMULA,))
    squares = 1 + len(tile_boxes(*COMMON_SIZE))
    prices = (plan.price_per_hour, 2 * plan.price_per_hour)
    rows = [_row(name, rate, price, squares) for name, rate in rates.items() for price in prices]
    rows += _gpu(kept, squares)
    moderated = min(per_million(rate, plan.price_per_hour, BUSY[-1]) * squares for rate in rates.values())
    header = ("", "pictures/s", "$ an hour", *(f"$ a million, {busy:.0%} busy" for busy in BUSY))
    from_where = (
        f"Throughput is that of this machine ({cores()} cores), from {', '.join(sorted(sources))}. "
        f"{DEFAULT_PRICE} The second price is for those whose vCPU is half a core, as on most x86 instances."
    )
    not_in = (
        f"`classify` looks at one square of a picture, `moderate` at {squares} of one of 4:3 (`views: tiles`): its "
        f"column is the one before it times {squares}, computed, not measured, and a little much: a picture is decoded "
        "once. In none of these: people, storage, and the traffic, which closed services add to as well."
    )
    table = Table((*header, f"`moderate`, {BUSY[-1]:.0%} busy"), tuple(rows))
    return Section("Cost", (), (table, _closed(moderated)), (FORMULA, from_where, not_in))


DEFAULT_PRICE = (
    "`PRICE_PER_HOUR` is by default 0.20, about what 4 vCPUs with 16 GiB cost on demand (AWS m7i.xlarge 0.2016, "
    "c7i.xlarge with 8 GiB 0.1785, us-east-1, as a public table of rates quoted AWS's page at the end of 2025)."
)
FORMULA = (
    "Dollars a million = 1,000,000 / (r x u x 3,600) x p: pictures a second at saturation r, the share u of the paid "
    "time in which there is work, the machine's price an hour p. Whoever must answer at the busiest hour pays for the "
    "quiet ones too, hence 40 %."
)


def _row(name: str, rate: float, price: float, squares: int) -> tuple[str, ...]:
    costs = [per_million(rate, price, busy) for busy in BUSY]
    return name, f"{rate:.1f}", f"{price:.2f}", *map(_dollars, costs), _dollars(costs[-1] * squares)


def throughput(kept: list[Kept]) -> tuple[dict[str, float], set[str]]:
    """Return pictures a second by row, and the titles of the sections they come from: of this machine alone."""
    found, sources = {}, set()
    for row, names in THROUGHPUT.items():
        for name in names:
            one = next((k for k in kept if name in k.section.figures and k.machine == machine()), None)
            if one is not None:
                found[row] = one.section.figures[name]
                sources.add(one.section.title)
                break
    return found, sources


def _gpu(kept: list[Kept], squares: int) -> list[tuple[str, ...]]:
    """Return the row of a GPU, where one was measured and its price was given."""
    figures: Mapping[str, float] = next((k.section.figures for k in kept if GPU_PRICE in k.section.figures), {})
    return [_row("REST, GPU, fp16", figures[GPU_FIGURE], figures[GPU_PRICE], squares)] if GPU_FIGURE in figures else []


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
