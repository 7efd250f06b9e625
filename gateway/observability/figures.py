"""Figures of the metrics for people: sums, counts by label, quantiles of stages, and rates over the last minute."""

from __future__ import annotations

import math
import time
from collections import defaultdict, deque
from dataclasses import dataclass

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.samples import Sample

from gateway.observability.metrics import Metrics

PROBES = frozenset({"/livez", "/readyz", "/metrics"})
WINDOW = 7  # totals kept, one taken every ten seconds: a minute


@dataclass(frozen=True, slots=True)
class Rates:
    """Per second over the last ``window_s`` seconds; health checks do not count."""

    requests_per_s: float
    images_per_s: float
    window_s: float


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Of one stage since the start: milliseconds, interpolated within the histogram's bucket; None if it never ran."""

    stage: str
    p50_ms: float | None
    p95_ms: float | None
    count: int


class RecentRates:
    """Remembers what had been answered, to tell how much was in the last minute.

    Args:
        metrics: of the gateway.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._totals: deque[tuple[float, float, float]] = deque([self._now()], maxlen=WINDOW)

    def remember(self) -> None:
        """Take the totals; called every ten seconds."""
        self._totals.append(self._now())

    def rates(self) -> Rates:
        """Return the rates since the oldest totals that are remembered."""
        (then, requests, images), (now, requests_now, images_now) = self._totals[0], self._now()
        window_s = max(now - then, 1e-3)
        return Rates((requests_now - requests) / window_s, (images_now - images) / window_s, window_s)

    def _now(self) -> tuple[float, float, float]:
        requests = sum(s.value for s in _samples(self._metrics.requests) if s.labels["route"] not in PROBES)
        return time.monotonic(), requests, sum(sample.value for sample in _samples(self._metrics.images))


def errors_by_code(metrics: Metrics) -> dict[str, int]:
    """Return how often each error was answered since the start, the most frequent first."""
    counts = {sample.labels["code"]: int(sample.value) for sample in _samples(metrics.errors)}
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def value_of(gauge: Gauge) -> int:
    """Return the value of a gauge without labels."""
    return int(next(iter(gauge.collect())).samples[0].value)


def stage_times(histogram: Histogram) -> list[StageTimes]:
    """Return the times of each stage."""
    buckets: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for sample in next(iter(histogram.collect())).samples:
        if sample.name.endswith("_bucket"):
            buckets[sample.labels["stage"]].append((float(sample.labels["le"]), sample.value))
    return [
        StageTimes(stage, quantile(counts, 0.5), quantile(counts, 0.95), int(counts[-1][1]))
        for stage, counts in buckets.items()
    ]


def quantile(buckets: list[tuple[float, float]], share: float) -> float | None:
    """Return a quantile of seconds in milliseconds, as Prometheus' ``histogram_quantile`` does; None of nothing.

    Args:
        buckets: upper bound in seconds and count up to it, ascending; the last bound is infinite.
        share: 0 to 1.
    """
    rank, below_s, before = buckets[-1][1] * share, 0.0, 0.0
    if not rank:
        return None
    for bound_s, count in buckets:
        if count >= rank:
            if math.isinf(bound_s):
                break
            return round((below_s + (bound_s - below_s) * (rank - before) / (count - before)) * 1e3, 3)
        below_s, before = bound_s, count
    return round(below_s * 1e3, 3)


def _samples(counter: Counter | MetricWrapperBase) -> list[Sample]:
    return [sample for sample in next(iter(counter.collect())).samples if sample.name.endswith("_total")]
