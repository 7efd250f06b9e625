"""What the gateway and Triton hold: idle, under large uploads, over a long run, and how often weights are resident."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from gateway.settings import Settings
from loadtests.soak.curve import svg
from scripts.bench.memory_runs import IN_FLIGHT, LARGE_EVERY, LONG_IN_FLIGHT, SAMPLE_S, over_a_long_run, under_uploads
from scripts.bench.plan import Plan
from scripts.bench.report import KEPT, Section, Table, Target
from scripts.bench.resident import Held, Weights, modules

MB = 1_000_000
MOST_MB = 200
SAMPLES = 400
WARM_UP = 0.15
ONCE = 1.01  # the last page of a file is counted whole
FLAT = 0.05


def mb(count: float) -> str:
    """Return bytes in words."""
    return f"{count / MB:.0f} MB"


def measure(plan: Plan) -> Section:
    """Measure what is held idle, at the peak of large uploads, and over a long run."""
    large = under_uploads(plan)
    peak = max(large.most, key=lambda held: held.together)
    serving = max(held.own_rss for held in large.most)
    seen, statuses = over_a_long_run(plan)
    first, last = quarters([one for one in seen if one.answered >= WARM_UP * plan.requests])
    growth = last / first - 1
    write_curve(seen)
    loaded = modules()
    copies = sum(one.mapped for one in large.models) / sum(one.file for one in large.models)
    return Section(
        title="Memory",
        targets=(
            Target(
                f"all processes of the gateway, PSS at its peak with {IN_FLIGHT} uploads of "
                f"{large.picture / MB:.1f} MB in flight",
                f"under {MOST_MB} MB",
                mb(peak.together),
                peak.together < MOST_MB * MB,
            ),
            Target(
                "of these the process that serves, resident",
                f"under {MOST_MB} MB",
                mb(serving),
                serving < MOST_MB * MB,
            ),
            Target(
                f"the gateway's PSS over {plan.requests:,} requests, last quarter against first",
                f"grows by less than {FLAT:.0%}",
                f"{growth:+.1%}",
                growth < FLAT,
            ),
            Target("each model's weights in Triton", "once", f"{copies:.2f} times", copies <= ONCE if copies else None),
        ),
        tables=(
            gateway_table({"idle": large.idle, "peak": peak, "after it": large.after}),
            triton_table(large.models),
        ),
        notes=(
            (
                f"The peak is the highest of {plan.rounds} rounds "
                f"({', '.join(mb(held.together) for held in large.most)}), "
                f"sampled every {SAMPLE_S * 1e3:.0f} ms; {large.answered} uploads of 12 megapixels, each answered 200. "
                f"It stands with {large.processes - 2} decoders. PSS splits library pages with other programs that "
                f"have them open; with nobody to share with, {mb(large.alone)} more would be counted."
            ),
            (
                f"The long run: the demo model, {LONG_IN_FLIGHT} in flight, 640 x 480 pictures and one 4 MB upload in "
                f"{LARGE_EVERY}; medians of the first and the last quarter after {WARM_UP:.0%} of the requests are "
                f"{mb(first)} and {mb(last)}, the most {mb(max(one.together for one in seen))}; answers: "
                f"{dict(statuses)}. Curve: `reports/bench/memory.svg`."
            ),
            (
                f"What it is made of: a process that has loaded the gateway's modules and done nothing has "
                f"{mb(loaded['Anonymous'])} of its own and {mb(loaded['Rss'] - loaded['Anonymous'])} of library pages. "
                f"The rest of the idle figure is tokenizer, catalog, connections and decoders; the peak adds "
                f"{Settings.model_fields['upload_room_mib'].default} MiB of uploads being read or waiting to be "
                "decoded, twice each picture that is being decoded (the decoder's own, and the gateway's, for another "
                "try if the process that forks decoders dies), the squares on their way to the model, and 64 KiB of "
                "each upload that waits."
            ),
            (
                "Weights that an operator packs in a form of its own (int8, fp16) are memory of each instance, in the "
                "last column; so is PyTorch."
            ),
        ),
        figures={"peak_mb": peak.together / MB, "idle_mb": large.idle.together / MB, "growth": growth},
    )


def gateway_table(held: dict[str, Held]) -> Table:
    """Return what the gateway held at some moments."""
    rows = tuple((name, mb(one.own_rss), mb(one.own), mb(one.decoders), mb(one.together)) for name, one in held.items())
    return Table(("gateway", "RSS of the serving process", "its PSS", "PSS of the decoders", "PSS together"), rows)


def triton_table(models: Sequence[Weights]) -> Table:
    """Return what Triton held of each model."""
    rows = tuple(
        (one.model, mb(one.file), str(one.instances), mb(one.mapped), ", ".join(map(mb, one.anonymous)))
        for one in models
    )
    header = ("Triton", "weights' file", "instances", "of it resident, all together", "memory of each besides")
    return Table(header, rows)


def quarters(seen: Sequence[Held]) -> tuple[float, float]:
    """Return the medians of the first and the last quarter of what was held, bytes."""
    together = [one.together for one in seen]
    quarter = max(1, len(together) // 4)
    return statistics.median(together[:quarter]), statistics.median(together[-quarter:])


def write_curve(seen: Sequence[Held]) -> None:
    """Write memory over requests as a picture."""
    kept = seen[:: max(1, len(seen) // SAMPLES)]
    lines = {
        "all processes": [one.together / MB for one in kept],
        "serving process": [one.own / MB for one in kept],
        "decoders": [one.decoders / MB for one in kept],
    }
    KEPT.mkdir(parents=True, exist_ok=True)
    chart = svg(
        "Memory of the gateway", [float(one.answered) for one in kept], lines, x_name="requests", y_name="PSS, MB"
    )
    (KEPT / "memory.svg").write_text(chart, encoding="utf-8")
