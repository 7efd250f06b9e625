"""How long the stages of one image or one request took."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


class StageTimer:
    """Seconds by stage; a stage entered twice (one frame after another) adds up."""

    def __init__(self) -> None:
        self.elapsed_s: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what runs inside ``with`` under the stage's name."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add({name: time.perf_counter() - start})

    def add(self, elapsed_s: Mapping[str, float]) -> None:
        """Add what was timed elsewhere, in another process say."""
        for name, seconds in elapsed_s.items():
            self.elapsed_s[name] = self.elapsed_s.get(name, 0.0) + seconds
