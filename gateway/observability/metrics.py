"""Prometheus metrics, in a registry of their own."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

STAGES = ("intake", "decode", "views", "fingerprint", "text", "encode", "score")
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Every metric of the gateway; one instance an application."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        counter, gauge = partial(Counter, registry=self._registry), partial(Gauge, registry=self._registry)
        seconds = partial(Histogram, registry=self._registry, buckets=SECONDS)
        rows = partial(Histogram, registry=self._registry, buckets=BATCHES)
        self.requests = counter("gateway_requests", "Requests answered.", ["method", "route", "status"])
        self.request_seconds = seconds("gateway_request_seconds", "Time from first byte to answer.", ["route"])
        self.stage_seconds = seconds("gateway_stage_seconds", "Time of one stage for one image.", ["stage"])
        self.errors = counter("gateway_errors", "Errors by code, those of batch items too.", ["code"])
        self.images = counter("gateway_images", "Images judged.", ["format"])
        self.inference_rows = rows(
            "gateway_inference_batch_size", "Rows of one inference sent to Triton, which batches further.", ["model"]
        )
        self.text_lookups = counter("gateway_text_cache_lookups", "Look-ups of text vectors.", ["outcome"])
        self.in_flight = gauge("gateway_requests_in_flight", "Requests being worked on.")
        self.ready = gauge("gateway_ready", "1 when the models answer.")
        self.decode_workers_ended = counter(
            "gateway_decode_workers_ended", "Decoding processes that ended, by reason.", ["reason"]
        )
        self._shadow = counter(
            "gateway_shadow_decisions",
            "Images that a shadow policy judged too, by what it decided beside the policy: same, stricter or milder.",
            ["policy", "shadow"],
        )
        for stage in STAGES:  # those that have not run yet are shown too
            self.stage_seconds.labels(stage)

    def observe_request(self, method: str, route: str, status: int, elapsed_s: float) -> None:
        """Count one request and its seconds; method and route are of few kinds."""
        self.requests.labels(method, route, str(status)).inc()
        self.request_seconds.labels(route).observe(elapsed_s)

    def observe_stages(self, elapsed_s: Mapping[str, float]) -> None:
        """Count the seconds of each stage of one image or request."""
        for name, elapsed in elapsed_s.items():
            self.stage_seconds.labels(name).observe(elapsed)

    def observe_shadow(self, policy: str, stricter: int) -> None:
        """Count an image that a shadow judged too; ``stricter`` is above 0 where it was, below where it was milder."""
        self._shadow.labels(policy, "same" if not stricter else "stricter" if stricter > 0 else "milder").inc()

    def observe_batch(self, model: str, rows: int) -> None:
        """Count one inference of ``rows`` rows."""
        self.inference_rows.labels(model).observe(rows)

    def observe_lookup(self, hits: int, misses: int) -> None:
        """Count text vectors found and not found in the cache."""
        if hits:
            self.text_lookups.labels("hit").inc(hits)
        if misses:
            self.text_lookups.labels("miss").inc(misses)

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)
