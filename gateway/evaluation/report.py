"""A report of judged images: ``report.html``, which needs nothing beside it, ``report.json``, and a PNG a figure."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import jinja2
import numpy as np
from markupsafe import Markup

from gateway.evaluation.judged import JudgedSet, Part
from gateway.evaluation.metrics import (
    CLASSIFIER_DEFINITION,
    DEFINITION,
    CategoryFigures,
    category_figures,
    group_numbers,
    measures,
    offending,
    right,
    rules_of,
    scored,
    told,
)
from gateway.evaluation.reporting import closed_sets, load, plots, slices, summary
from gateway.evaluation.reporting.mistakes import worst
from gateway.evaluation.reporting.wording import NOTHING, decimal_range, percent_range, rate
from gateway.evaluation.section import Figure, Section, Table

MOST_DRAWN = 24  # categories that get a card with drawings; all are in the table and in report.json
EXAMPLES = 3  # of images that failed by a code
LEARNED = (
    "A classifier that was asked is a head, learned from images. The figures are of the test part, from which "
    "“evaluate --head” never learns; if the head learned from images of that part in another way, they are too good."
)
NUMERIC = re.compile(r"[▲▼<+ -]*(\d|$)")


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """What a report tells and shows.

    Attributes:
        traffic_per_day: images a day that the load on reviewers is told for.
        price_per_hour: of the machine, in any currency; without it no cost is told.
        prevalence: share of offending images in the traffic, 0 to 1; without it the load is told for several.
        thumbnails: whether small, blurred copies of the worst mistakes are in the page.
        part: which images the figures are of; ``auto`` is ``test`` where the policy says what it was tuned on, or
            a head was trained.
        caveats: sentences to be read before any figure.
    """

    traffic_per_day: int | None = None
    price_per_hour: float | None = None
    prevalence: float | None = None
    thumbnails: bool = False
    part: Part | Literal["all", "auto"] = "auto"
    caveats: Sequence[str] = ()


def write_report(
    judged: JudgedSet, out: Path, options: ReportOptions, sections: Sequence[Section] = ()
) -> dict[str, Any]:
    """Write a report and return what its ``report.json`` holds.

    Args:
        judged: all images that were judged, and those that failed.
        out: folder; made where it is missing.
        options: see there.
        sections: of other steps, drawn behind the categories.

    Raises:
        ValueError: two sections have one key, or one that the report itself uses.
        OSError: a file cannot be written.
    """
    part = options.part
    if part == "auto":
        part = "test" if (judged.run.policy_body or {}).get("tuned_on") or judged.run.learned else "all"
    chosen = judged if part == "all" else replace(judged.of(part), failed=judged.failed)
    figures = [category_figures(chosen, name) for name in scored(chosen)]
    cards = _cards(figures)
    sliced = slices.section(chosen) if chosen.images else None
    own = [
        closed_sets.section(chosen) if chosen.images else None,
        sliced,
        load.section(chosen, options.traffic_per_day, options.price_per_hour, options.prevalence),
        _failures(chosen),
    ]
    method = _method(judged, chosen, part)
    body = [*(entry for entry in own if entry is not None), *sections, method]
    values = _values(judged, chosen, part, figures)
    for section in body:
        if section.key in values:
            raise ValueError(f"two parts of the report are called {section.key}")
        values[section.key] = section.values
    title = f"How good is {summary.asked(judged)}?"
    page = {
        "title": title,
        "summary": [
            *options.caveats,
            *([LEARNED] if judged.run.learned and not judged.run.draft else []),
            *summary.sentences(chosen, figures, sliced.paragraphs[0] if sliced else ""),
        ],
        "overview": _overview(figures),
        "cards": cards,
        "mistakes": worst(chosen, figures, thumbnails=options.thumbnails),
        "sections": body[:-1],
        "method": method,
        "thumbnails": options.thumbnails,
    }
    write_page(out, "report", page, values, [figure for entry in [*cards, *body] for figure in entry.figures])
    return values


def write_page(
    out: Path, name: str, page: Mapping[str, Any], values: Mapping[str, Any], figures: Sequence[Figure]
) -> None:
    """Write a page by the template of its name, its JSON beside it, and a file a figure.

    Raises:
        OSError: a file cannot be written.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("gateway.evaluation.reporting"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["inline"] = lambda figure: Markup(plots.inline(figure))  # noqa: S704 -- drawn here
    environment.filters["numeric"] = numeric_columns
    out.mkdir(parents=True, exist_ok=True)
    html = environment.get_template(f"{name}.html").render(page)
    # A file's name may be no UTF-8; what JSON holds of it is then an escape, as it should be.
    (out / f"{name}.html").write_text(html, encoding="utf-8", errors="backslashreplace")
    told_as = json.dumps(values, ensure_ascii=False, indent=2, allow_nan=False)
    (out / f"{name}.json").write_text(told_as + "\n", encoding="utf-8", errors="backslashreplace")
    for figure in figures:
        kind, data = ("png", figure.png) if figure.png else ("svg", figure.svg.encode())
        (out / f"{figure.name}.{kind}").write_bytes(data)


def numeric_columns(table: Table) -> list[bool]:
    """Return which columns hold numbers, to be set to the right; the first names the row."""
    return [column > 0 and all(NUMERIC.match(row[column]) for row in table.rows) for column in range(len(table.head))]


def _values(judged: JudgedSet, chosen: JudgedSet, part: str, figures: Sequence[CategoryFigures]) -> dict[str, Any]:
    correct, groups = right(chosen) if chosen.images else None, group_numbers(chosen)
    return {
        "pictures": len(chosen.images),
        "failed": len(judged.failed),
        "judged": len(judged.images),
        "part": part,
        "categories": [entry.json for entry in figures],
        "decisions": {
            "right": int((correct.found & correct.among).sum()) if correct else 0,
            "of": int(correct.among.sum()) if correct else 0,
            "share": told(correct, groups).json if correct else None,
            "definition": CLASSIFIER_DEFINITION if judged.run.policy is None else DEFINITION,
        },
        "shares": {entry.key: told(entry, groups).json for entry in measures(chosen)} if chosen.images else {},
        "model": dict(judged.run.model),
        "policy": judged.run.policy and dict(judged.run.policy),
        "classifier": judged.run.classifier,
        "draft": judged.run.draft,
        "at": judged.run.at,
    }


def _cards(figures: Sequence[CategoryFigures]) -> list[Section]:
    drawn = sorted(figures, key=lambda entry: -entry.positives)[:MOST_DRAWN]
    return [_card(entry, number) for number, entry in enumerate(figures) if entry in drawn]


def _card(entry: CategoryFigures, number: int) -> Section:
    slug = re.sub(r"[^a-z0-9]+", "-", entry.category.lower()).strip("-")[:40]
    others = len(entry.truth) - entry.positives
    words = [f"{entry.positives:,} images of it, {others:,} that are not."]
    if entry.roc_auc.value is not None:
        words.append(
            f"Area under the ROC curve {decimal_range(entry.roc_auc)}: so likely does an image of it score above one "
            f"that is not. Average precision {decimal_range(entry.average_precision)}. Expected calibration error "
            f"{entry.reliability.error:.3f}."
        )
    tables = []
    points = [(name, point) for name, point in (("block", entry.block), ("review or block", entry.review)) if point]
    if points:
        tables.append(
            Table(
                "At the policy's thresholds, with 95 % intervals",
                ["decision", "threshold", "recall", "precision here", "F1", "false positives", "harmless images"],
                [
                    [
                        name,
                        f"{point.at:g}",
                        percent_range(point.recall),
                        percent_range(point.precision),
                        NOTHING if point.f1 is None else f"{point.f1:.3f}",
                        percent_range(point.false_positives),
                        percent_range(point.harmless),
                    ]
                    for name, point in points
                ],
            )
        )
    if entry.roc_auc.value is not None:
        tables.append(
            Table(
                "Recall at a false-positive rate, with the interval that the number of images allows",
                ["false-positive rate", "recall", "negatives needed", "here", "missing"],
                [
                    [
                        rate(need.rate),
                        percent_range(entry.recall_at[need.rate]),
                        f"{need.needed:,}",
                        f"{need.here:,}",
                        f"{need.missing:,}" if need.missing else "0",
                    ]
                    for need in entry.enough
                ],
            )
        )
    return Section(
        f"category-{number}", entry.category, words, tables, plots.category_drawings(entry, f"{number + 1}-{slug}")
    )


def _overview(figures: Sequence[CategoryFigures]) -> Table:
    return Table(
        "Categories at the policy's thresholds, with 95 % intervals",
        ["category", "images", "ROC AUC", "blocked", "blocked or reviewed", "harmless blocked or reviewed"],
        [
            [
                entry.category,
                f"{entry.positives:,}",
                decimal_range(entry.roc_auc),
                percent_range(entry.block.recall) if entry.block else NOTHING,
                percent_range(entry.review.recall) if entry.review else NOTHING,
                percent_range(entry.review.harmless) if entry.review else NOTHING,
            ]
            for entry in figures
        ],
    )


def _failures(judged: JudgedSet) -> Section | None:
    if not judged.failed:
        return None
    codes = Counter(entry.error or "" for entry in judged.failed)
    rows = []
    for code, count in codes.most_common():
        examples = [entry.image.source for entry in judged.failed if (entry.error or "") == code][:EXAMPLES]
        rows.append([code, f"{count:,}", ", ".join(examples)])
    return Section(
        "failures",
        "Images that could not be judged",
        ["They are in no figure of this report. A failure is no verdict: in service such an image is not allowed."],
        [Table("Failures by error code", ["code", "images", "for example"], rows)],
        values=dict(codes),
    )


def _method(judged: JudgedSet, chosen: JudgedSet, part: str) -> Section:
    run = judged.run
    policy = dict(run.policy or {})
    tuned = (run.policy_body or {}).get("tuned_on")
    rows = [
        ["model", _plain(run.model)],
        ["policy" if run.policy else "classifier", summary.asked(judged)],
        ["classifiers' versions", _plain(policy.get("classifiers")) if policy else str(run.classifier)],
        ["judged at", run.at],
        ["images", f"{len(judged.images):,} judged, {len(judged.failed):,} failed"],
        ["figures are of", _part(part, chosen, judged)],
        ["tuned on", _plain(tuned) if tuned else "nothing that the policy tells"],
        ["right", CLASSIFIER_DEFINITION if run.policy is None else DEFINITION],
        ["offending", f"{int(offending(chosen).sum()):,} images with a category of the policy among their labels"],
        ["draws", f"{len(np.unique(group_numbers(chosen))):,} groups of images; copies and one group's are one draw"],
        [
            "intervals",
            "95 %: Clopper-Pearson for shares, accelerated bootstrap over groups, stratified by truth, for areas",
        ],
    ]
    tables = [Table("What was asked, and how the figures came about", ["", ""], rows)]
    if rules_of(judged):
        tables.append(
            Table(
                "Thresholds of the policy",
                ["category", "classifier", "labels", "review from", "block from"],
                [
                    [
                        rule["category"],
                        str(rule.get("classifier", NOTHING)),
                        ", ".join(rule.get("labels", ())),
                        NOTHING if rule.get("review_at") is None else f"{rule['review_at']:g}",
                        NOTHING if rule.get("block_at") is None else f"{rule['block_at']:g}",
                    ]
                    for rule in rules_of(judged)
                ],
            )
        )
    return Section("method", "How it was measured", tables=tables, values={"tuned_on": tuned})


def _part(part: str, chosen: JudgedSet, judged: JudgedSet) -> str:
    if part == "all":
        return "all images"
    return (
        f"the {part} part, {len(chosen.images):,} of {len(judged.images):,} images, by hash of their group: images "
        f"that thresholds, calibration and heads were not tuned on"
    )


def _plain(value: Any) -> str:  # noqa: ANN401 -- what JSON holds
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(entry)}" for key, entry in value.items() if entry is not None)
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_plain, value))
    return str(value)
