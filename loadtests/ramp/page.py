"""Ramps as one page of HTML that needs nothing else: the picture, the figures, and Locust's own reports."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from loadtests.ramp.curve import svg
from loadtests.ramp.steps import Ramp, saturation

STYLE = """body{font:15px/1.5 Helvetica,Arial,sans-serif;max-width:1120px;margin:2em auto;padding:0 1em;color:#222}
svg{max-width:100%;height:auto}table{border-collapse:collapse;margin:1em 0}
td,th{padding:.25em .8em;text-align:right;border-bottom:1px solid #ddd}tr.knee{background:#fdecea}
iframe{width:100%;height:80vh;border:1px solid #ccc}"""
HEADS = ("users", "answers/s", "p50, ms", "p95, ms", "p99, ms", "refused", "wrong", "Locust, cores")


def page(title: str, caption: str, ramps: Sequence[tuple[Ramp, Path]]) -> str:
    """Return the page.

    Args:
        title: of it.
        caption: below the picture, as text that can be copied.
        ramps: each with the file of Locust's report.
    """
    picture = svg([ramp for ramp, _ in ramps], title, "")
    parts = [
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>',
        f"<body>{picture}<p>{escape(caption)}</p>",
    ]
    for ramp, report in ramps:
        parts += [f"<h2>{ramp.kind}</h2><p>{escape(ramp.request)}. Ended: {escape(ramp.ended)}.</p>", _table(ramp)]
        if report.is_file():
            own = escape(report.read_text(encoding="utf-8"), quote=True)
            parts.append(f'<details><summary>Locust\'s report</summary><iframe srcdoc="{own}"></iframe></details>')
    return "\n".join([*parts, "</body></html>\n"])


def _table(ramp: Ramp) -> str:
    knee = saturation(ramp.steps)
    rows = ["<tr>" + "".join(f"<th>{head}</th>" for head in HEADS) + "</tr>"]
    for step in ramp.steps:
        cells = (
            str(step.users),
            f"{step.rate:,.1f}",
            *(f"{value:,.1f}" for value in (step.p50_ms, step.p95_ms, step.p99_ms)),
            str(step.refused),
            str(step.wrong),
            f"{step.client_cores:.2f}",
        )
        mark = ' class="knee"' if step is knee else ""
        rows.append(f"<tr{mark}>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return f"<table>{''.join(rows)}</table>"
