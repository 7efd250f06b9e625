"""How long the stages of one image or one request took: for metrics, answers and traces."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from gateway.observability.tracing import show_past, span


class StageTimer:
    """Seconds by stage; a stage entered twice (one frame after another) adds up. Each entry is a span of its own."""

    def __init__(self) -> None:
        self.elapsed_s: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what runs inside ``with`` under the stage's name."""
        start = time.perf_counter()
        try:
            with span(name):
                yield
        finally:
            self._sum(name, time.perf_counter() - start)

    def add(self, elapsed_s: Mapping[str, float]) -> None:
        """Add what was timed elsewhere and has just ended, in another process say."""
        for name, seconds in elapsed_s.items():
            self._sum(name, seconds)
        show_past(elapsed_s)

    def _sum(self, name: str, seconds: float) -> None:
        self.elapsed_s[name] = self.elapsed_s.get(name, 0.0) + seconds
