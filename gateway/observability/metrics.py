"""Numbers: Prometheus metrics in a registry of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

STAGES = ("intake", "decode", "views", "fingerprint", "text", "encode", "score")
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Every metric of the gateway; one instance an application."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        registry = self._registry
        self.requests = Counter(
            "gateway_requests", "Requests answered.", ["method", "route", "status"], registry=registry
        )
        self.request_seconds = Histogram(
            "gateway_request_seconds", "Time from first byte to answer.", ["route"], buckets=SECONDS, registry=registry
        )
        self.stage_seconds = Histogram(
            "gateway_stage_seconds", "Time of one stage for one image.", ["stage"], buckets=SECONDS, registry=registry
        )
        self.errors = Counter(
            "gateway_errors", "Errors by code, those of batch items too.", ["code"], registry=registry
        )
        self.images = Counter("gateway_images", "Images judged.", ["format"], registry=registry)
        self.inference_rows = Histogram(
            "gateway_inference_batch_size",
            "Rows of one inference sent to Triton, which batches further.",
            ["model"],
            buckets=BATCHES,
            registry=registry,
        )
        self.text_lookups = Counter(
            "gateway_text_cache_lookups", "Look-ups of text vectors.", ["outcome"], registry=registry
        )
        self.in_flight = Gauge("gateway_requests_in_flight", "Requests being worked on.", registry=registry)
        self.ready = Gauge("gateway_ready", "1 when the models answer.", registry=registry)
        self._degraded = Gauge(
            "gateway_degraded",
            "1 while requests are answered without a part: the store, or the decision log.",
            ["part"],
            registry=registry,
        )
        self.decode_workers_ended = Counter(
            "gateway_decode_workers_ended", "Decoding processes that ended, by reason.", ["reason"], registry=registry
        )
        self._requests: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}  # likewise
        self._stages = {stage: self.stage_seconds.labels(stage) for stage in STAGES}  # found once, not at every use

    def watch_degraded(self, **parts: Callable[[], bool]) -> None:
        """Ask these at each scrape whether a part is lost."""
        for name, lost in parts.items():
            self._degraded.labels(name).set_function(lost)

    def observe_request(self, method: str, route: str, status: int, elapsed_s: float) -> None:
        """Count one request and its seconds; method and route are of few kinds."""
        found = self._requests.get((method, route, status))
        if found is None:
            found = self.requests.labels(method, route, str(status)), self.request_seconds.labels(route)
            self._requests[method, route, status] = found
        count, seconds = found
        count.inc()
        seconds.observe(elapsed_s)

    def observe_stages(self, elapsed_s: Mapping[str, float]) -> None:
        """Count the seconds of each stage of one image or request."""
        for name, elapsed in elapsed_s.items():
            self._stages[name].observe(elapsed)

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
