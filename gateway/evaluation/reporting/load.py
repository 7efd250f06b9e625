"""Load on reviewers, images a second, cost a million."""

from __future__ import annotations

from typing import Any

import numpy as np

from gateway.evaluation.intervals import Interval, share
from gateway.evaluation.judged import JudgedSet
from gateway.evaluation.metrics import group_numbers, offending
from gateway.evaluation.reporting.wording import NOTHING, TO, number, percent
from gateway.evaluation.reporting.wording import rate as stated
from gateway.evaluation.section import Section, Table

PREVALENCES = (0.0, 0.001, 0.01, 0.05)
"""Shares of offending images that the load is told for, where nobody stated one."""

HOUR_S, MILLION = 3600, 1_000_000


def section(
    judged: JudgedSet, traffic_per_day: int | None, price_per_hour: float | None, prevalence: float | None
) -> Section | None:
    """Return load and cost as a part of the report; None where neither a policy nor times are known.

    Args:
        judged: images that the figures are of.
        traffic_per_day: images a day; without it the load is told of 100,000.
        price_per_hour: of the machine, in any currency.
        prevalence: share of offending images in the traffic, 0 to 1.
    """
    paragraphs: list[str] = []
    tables: list[Table] = []
    values: dict[str, Any] = {}
    if judged.run.policy is not None and judged.images:
        traffic = traffic_per_day or 100_000
        rows = loads(judged, PREVALENCES if prevalence is None else (prevalence,))
        paragraphs.append(
            "How many images reach people depends on how common offending ones are in your traffic. This set cannot "
            "tell that: whoever collected it chose the mix."
            + ("" if prevalence is None else f" You stated {stated(prevalence)}.")
        )
        tables.append(
            Table(
                f"Images for reviewers at {number(traffic)} images a day",
                ["offending in the traffic", "sent to review", "a day", "95 % interval"],
                [
                    [
                        stated(rate),
                        percent(found.value),
                        NOTHING if found.value is None else number(round(found.value * traffic)),
                        _day(found, traffic),
                    ]
                    for rate, found in rows
                ],
            )
        )
        values["reviews_per_day"] = [
            {"prevalence": rate, "traffic": traffic, **scaled(found, traffic).json} for rate, found in rows
        ]
    times = np.array([entry.elapsed_ms for entry in judged.images if entry.elapsed_ms is not None], float)
    if len(times):
        speed = 1000 / float(times.mean())
        median, slow = np.quantile(times, [0.5, 0.95])
        shown = [number(round(float(value), 1)) for value in (times.mean(), median, slow)]
        words = (
            f"The gateway worked on an image for {shown[0]} ms on average (median {shown[1]}, 95th percentile "
            f"{shown[2]}), which is {number(round(speed, 1))} images a second one after another. "
            "That counts decoding, waiting and inference, and no network. "
            "Batches and several requests at a time give more images a second; a loaded machine less."
        )
        values |= {"images_per_second": speed, "mean_ms": float(times.mean()), "p95_ms": float(slow)}
        if price_per_hour is not None:
            cost = price_per_hour / HOUR_S / speed * MILLION
            words += (
                f" At {price_per_hour:g} an hour for a machine that does nothing else, a million images cost "
                f"{cost:,.2f}, one at a time: an upper bound."
            )
            values["cost_per_million"] = cost
        paragraphs.append(words)
    return Section("load", "Load on reviewers, speed and cost", paragraphs, tables, (), values) if paragraphs else None


def loads(judged: JudgedSet, prevalences: tuple[float, ...]) -> list[tuple[float, Interval]]:
    """Return each prevalence with the share of traffic that is sent to review.

    The interval's ends mix the ends of harmless and offending images, so that it is rather too wide than too narrow.
    With no image of a kind, everything between 0 and 1 is possible for it, and a mix with it has no value.
    """
    reviewed = np.array([entry.decision == "review" for entry in judged.images], bool)
    bad, groups = offending(judged), group_numbers(judged)
    sides = [share(reviewed[side], groups[side]) for side in (bad, ~bad)]
    known = [side if side.value is not None else Interval(None, 0.0, 1.0) for side in sides]
    found = []
    for prevalence in prevalences:
        parts = [(prevalence, known[0]), (1 - prevalence, known[1])]
        value, low, high = (
            sum(weight * (getattr(side, end) or 0.0) for weight, side in parts) for end in ("value", "low", "high")
        )
        told = all(side.value is not None for weight, side in parts if weight)
        found.append((prevalence, Interval(value if told else None, low, high)))
    return found


def scaled(interval: Interval, factor: float) -> Interval:
    """Return a share as a count of ``factor`` images."""
    return Interval(*(None if end is None else end * factor for end in (interval.value, interval.low, interval.high)))


def _day(interval: Interval, traffic: int) -> str:
    many = scaled(interval, traffic)
    return f"{number(round(many.low or 0))}{TO}{number(round(many.high or 0))}"
