"""Numbers: Prometheus metrics in a registry of their own.

Several processes keep theirs in files, which prometheus_client maps into memory; whichever is asked adds all of them
up. The files are named after a process's place, not its id: the one that takes the place of another counts on from
there, so that no counter of the gateway ever falls, and there are never more files than places.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

STAGES = ("intake", "decode", "views", "fingerprint", "text", "encode", "score")
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
FOLDER_PREFIX, LOCK_NAME = "clip-gateway-metrics-", "lock"
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@contextmanager
def metrics_folder() -> Iterator[Path]:
    """Yield a folder for the metrics of this gateway's processes; those of gateways that were killed are removed.

    Raises:
        OSError: none can be made where temporary files belong.
    """
    clear_leftovers()
    folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX))
    with (folder / "locking").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # for as long as one of the processes lives
        (folder / "locking").rename(folder / LOCK_NAME)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def clear_leftovers() -> None:
    """Remove the folders of gateways that run no more."""
    for lock in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*/{LOCK_NAME}"):
        with suppress(OSError), lock.open("rb") as held:  # another user's, or just being removed
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent, ignore_errors=True)


def keep_in(folder: Path, index: int) -> None:
    """Have every metric that this process makes from now on kept in a folder, for the place ``index``."""
    forget_gauges(folder, index)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)  # where the library reads it
    values.ValueClass = values.MultiProcessValue(lambda: index)  # type: ignore[no-untyped-call]


def forget_gauges(folder: Path, index: int) -> None:
    """Take out what holds only while a process lives: the one in this place has ended."""
    mark_process_dead(index, str(folder))  # type: ignore[no-untyped-call]


class Metrics:
    """Every metric of the gateway; one instance an application.

    Args:
        folder: where all processes of the gateway keep theirs, after ``keep_in``; None: this one is the gateway.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._registry = CollectorRegistry()
        registry = self._registry
        self.requests = Counter(
            "gateway_requests", "Requests answered.", ["method", "route", "status"], registry=registry
        )
        self.request_seconds = Histogram(
            "gateway_request_seconds", "Time from first byte to answer.", ["route"], buckets=SECONDS, registry=registry
        )
        self.stage_seconds = Histogram(
            "gateway_stage_seconds", "Time of one stage for one picture.", ["stage"], buckets=SECONDS, registry=registry
        )
        self.errors = Counter(
            "gateway_errors", "Errors by code, those of batch items too.", ["code"], registry=registry
        )
        self.images = Counter("gateway_images", "Pictures judged.", ["format"], registry=registry)
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
        self.in_flight = Gauge(
            "gateway_requests_in_flight",
            "Requests being worked on.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.ready = Gauge(
            "gateway_ready",
            "1 when the models answer, in every process.",
            registry=registry,
            multiprocess_mode="livemin",
        )
        self.process_starts = Counter(
            "gateway_process_starts", "Processes of the gateway that were started, again or not.", registry=registry
        )
        self.decode_workers_ended = Counter(
            "gateway_decode_workers_ended", "Decoding processes that ended, by reason.", ["reason"], registry=registry
        )
        self._requests: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}  # likewise
        self._stages = {stage: self.stage_seconds.labels(stage) for stage in STAGES}  # found once, not at every use

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
        """Count the seconds of each stage of one picture or request."""
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
        """Return all metrics, of all processes, in Prometheus' text format. Reads files where there are several."""
        if self._folder is None:
            return generate_latest(self._registry)
        registry = CollectorRegistry()
        MultiProcessCollector(registry, str(self._folder))  # type: ignore[no-untyped-call]
        return generate_latest(registry)
