"""Prometheus metrics, in a registry of their own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

STAGES = ("intake", "decode", "views", "fingerprint", "text", "encode", "score")
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
MEGAPIXELS = (0.25, 1.0, 4.0, 16.0)
NEAR_THRESHOLD = 0.05
MOST_NAMES, OTHER = 200, "other"  # policies, their categories, lists; what is beyond is counted together
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Every metric of the gateway; one instance an application."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        counter, gauge = partial(Counter, registry=self._registry), partial(Gauge, registry=self._registry)
        seconds = partial(Histogram, registry=self._registry, buckets=SECONDS)
        rows = partial(Histogram, registry=self._registry, buckets=BATCHES)
        self.requests = counter("gateway_requests", "Requests answered.", ["method", "route", "status"])
        self.request_seconds = seconds("gateway_request_seconds", "Time from first byte to answer.", ["route"])
        self.stage_seconds = seconds("gateway_stage_seconds", "Time of one stage for one image.", ["stage"])
        self.errors = counter("gateway_errors", "Errors by code, those of batch items too.", ["code"])
        self.inference_rows = rows(
            "gateway_inference_batch_size", "Rows of one inference sent to Triton, which batches further.", ["model"]
        )
        self.text_lookups = counter("gateway_text_cache_lookups", "Look-ups of text vectors.", ["outcome"])
        self.sign_ins = counter("gateway_sign_ins", "Attempts to sign in to the console, by outcome.", ["outcome"])
        self.in_flight = gauge("gateway_requests_in_flight", "Requests being worked on.")
        self.ready = gauge("gateway_ready", "1 when the models answer.")
        self._build = gauge(
            "gateway_build_info",
            "1: the gateway's version, and the bundle that it was started with.",
            ["version", "bundle_id", "model", "precision", "device", "target"],
        )
        self._triton_up = gauge("gateway_triton_up", "1 while a Triton is asked for inferences.", ["address"])
        self._triton_under_way = gauge(
            "gateway_triton_inferences_under_way", "Inferences that a Triton works on.", ["address", "model"]
        )
        self._triton_failures = counter(
            "gateway_triton_failures", "Inferences that a Triton refused or left unanswered.", ["address"]
        )
        self.triton_retries = counter("gateway_triton_retries", "Inferences asked a second time after such a failure.")
        self._decode_memory = gauge(
            "gateway_decode_workers_memory_bytes",
            "Resident memory of the decoding processes; pages that they share count in each.",
        )
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
        self.images = counter("gateway_images", "Images judged, by format and size.", ["format", "megapixels"])
        self._decisions = counter("gateway_decisions", "Decisions about images.", ["policy", "decision"])
        names = ["policy", "category"]
        self._audited = counter(
            "gateway_audited", "Images that a policy allows and that were sent to review for its audit.", ["policy"]
        )
        self._categories = counter(
            "gateway_category_decisions", "What each category of a decision came to.", [*names, "decision"]
        )
        self._near_threshold = counter(
            "gateway_category_scores_near_threshold",
            f"Categories whose score is within {NEAR_THRESHOLD:g} of a threshold.",
            names,
        )
        self._list_matches = counter("gateway_list_matches", "Images on a hash list.", ["list"])
        self._review_cases = gauge("gateway_review_cases", "Cases that wait for a person, by state.", ["state"])
        self._review_oldest = gauge(
            "gateway_review_oldest_seconds", "Age of the case that was opened first and is not decided; 0 without one."
        )
        self._reviews = counter(
            "gateway_review_verdicts",
            "Verdicts of reviewers, by why the case waited (feedback: none did), and whether they agree with the "
            "policy, or of appeals and second opinions with the verdict before.",
            ["reason", "agreement"],
        )
        self.decisions_not_logged = counter(
            "gateway_decisions_not_logged", "Decisions that should have been logged and were not."
        )
        self._decisions_spooled = gauge(
            "gateway_decisions_spooled",
            "Decisions on this machine's disk that wait for the database, of all replicas that share its folder.",
        )
        self._review_images = counter(
            "gateway_review_images",
            "Decisions for review by what became of their stills: kept, failed, no_room, deleted.",
            ["result"],
        )
        self.store_failures = counter("gateway_store_failures", "Failed uses of the database, by cause.", ["cause"])
        self._jobs = gauge("gateway_jobs", "Jobs of all gateways on the store, by state.", ["state"])
        self._degraded = gauge(
            "gateway_degraded",
            "1 while requests are answered without a part: the store, the decision log, or some Tritons.",
            ["part"],
        )
        self._not_applicable = gauge(
            "gateway_policies_not_applicable",
            "Policies and classifiers in force, here or for another bundle, that cannot be applied with this one.",
        )
        self.webhook_attempts = counter("gateway_webhook_attempts", "Webhook attempts, by outcome.", ["outcome"])
        self._webhook_events = gauge("gateway_webhook_events", "Webhook events that are undelivered.", ["state"])
        self._webhook_oldest = gauge("gateway_webhook_oldest_waiting_seconds", "Age of the oldest waiting event.")
        self._names: defaultdict[str, set[tuple[str, ...]]] = defaultdict(set)  # of each kind, those seen

    def watch_decoders(self, memory_bytes: Callable[[], int]) -> None:
        """Ask this at each scrape for the memory of the decoding processes."""
        self._decode_memory.set_function(memory_bytes)

    def watch_degraded(self, **parts: Callable[[], bool]) -> None:
        """Ask these at each scrape whether a part is lost."""
        for name, lost in parts.items():
            self._degraded.labels(name).set_function(lost)

    def show_build(self, **labels: str) -> None:
        """Show the gateway's version and its bundle: what ``gateway_build_info`` is labelled with."""
        self._build.labels(**labels).set(1)

    def watch_triton(self, address: str, is_up: Callable[[], bool], under_way: Mapping[str, int]) -> None:
        """Ask these of a Triton at each scrape; ``under_way`` has its inferences by model."""
        self._triton_up.labels(address).set_function(is_up)
        for model in under_way:
            self._triton_under_way.labels(address, model).set_function(partial(under_way.__getitem__, model))
        self._triton_failures.labels(address)  # shown before the first one

    def observe_triton_failure(self, address: str) -> None:
        """Count one inference that a Triton refused or left unanswered."""
        self._triton_failures.labels(address).inc()

    def forget_triton(self, address: str) -> None:
        """Show no more of a Triton that is no longer named."""
        for metric in (self._triton_up, self._triton_failures, self._triton_under_way):
            metric.remove_by_labels({"address": address})

    def watch_spool(self, waiting: Callable[[], int]) -> None:
        """Ask at each scrape how many decisions wait on disk."""
        self._decisions_spooled.set_function(waiting)

    def watch_policies(self, not_applicable: Callable[[], int]) -> None:
        """Ask this at each scrape how many policies and classifiers cannot be applied."""
        self._not_applicable.set_function(not_applicable)

    def set_jobs(self, counts: Mapping[Any, int]) -> None:
        """Tell how many jobs there are in each state."""
        for state, count in counts.items():
            self._jobs.labels(state).set(count)

    def show_webhooks(self, waiting: int, dead: int, oldest_s: float) -> None:
        """Show how many events wait and are dead, and since when the oldest waits, 0 if none does."""
        self._webhook_events.labels("waiting").set(waiting)
        self._webhook_events.labels("dead").set(dead)
        self._webhook_oldest.set(oldest_s)

    def observe_image(self, format_name: str, width: int, height: int) -> None:
        """Count one image that was judged; its sides are in pixels."""
        pixels = width * height
        size = next((f"<={most:g}" for most in MEGAPIXELS if pixels <= most * 1e6), f">{MEGAPIXELS[-1]:g}")
        self.images.labels(format_name, size).inc()

    def observe_decision(self, policy: str, decision: str) -> None:
        """Count one decision that a policy came to."""
        self._decisions.labels(*self._known("policy", policy), decision).inc()

    def observe_audit(self, policy: str) -> None:
        """Count one image that a policy allows and that was sent to review for its audit."""
        self._audited.labels(*self._known("policy", policy)).inc()

    def observe_category(
        self, policy: str, category: str, decision: str, score: float, thresholds: Iterable[float | None]
    ) -> None:
        """Count what one category of a decision came to, and whether its score, 0 to 1, was close to a threshold."""
        names = self._known("category", policy, category)
        self._categories.labels(*names, decision).inc()
        near = self._near_threshold.labels(*names)  # exists from the first score on, so that a share can be told
        if any(at is not None and abs(score - at) <= NEAR_THRESHOLD for at in thresholds):
            near.inc()

    def observe_review_image(self, result: str) -> None:
        """Count what became of the stills of one decision."""
        self._review_images.labels(result).inc()

    def set_queue(self, waiting: int, claimed: int, oldest_s: float) -> None:
        """Say how many cases wait and are claimed, and the age of the oldest in seconds."""
        self._review_cases.labels("waiting").set(waiting)
        self._review_cases.labels("claimed").set(claimed)
        self._review_oldest.set(oldest_s)

    def observe_review(self, reason: str, agreement: str) -> None:
        """Count one verdict of a reviewer; both are of few kinds."""
        self._reviews.labels(reason, agreement).inc()

    def observe_list_match(self, name: str) -> None:
        """Count one image that is on a list."""
        self._list_matches.labels(*self._known("list", name)).inc()

    def _known(self, kind: str, *names: str) -> tuple[str, ...]:
        """Return names as labels' values, past ``MOST_NAMES`` of a kind ``other``: a client may save endless ones."""
        seen = self._names[kind]
        if names not in seen and len(seen) >= MOST_NAMES:
            return (OTHER,) * len(names)
        seen.add(names)
        return names

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
        difference = "same" if not stricter else "stricter" if stricter > 0 else "milder"
        self._shadow.labels(*self._known("policy", policy), difference).inc()

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
