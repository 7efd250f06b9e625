"""How long the stages of one image or one request took."""

from __future__ import annotations

import time
from collections.abc import Mapping


class StageTimer:
    """Seconds by stage; a stage entered twice (one frame after another) adds up."""

    def __init__(self) -> None:
        self.elapsed_s: dict[str, float] = {}

    def stage(self, name: str) -> Stage:
        """Time what runs inside ``with`` under the stage's name."""
        return Stage(self, name)

    def add(self, elapsed_s: Mapping[str, float]) -> None:
        """Add what was timed elsewhere, in another process say."""
        for name, seconds in elapsed_s.items():
            self.elapsed_s[name] = self.elapsed_s.get(name, 0.0) + seconds


class Stage:
    """One stage being timed."""

    __slots__ = ("_name", "_start", "_timer")

    def __init__(self, timer: StageTimer, name: str) -> None:
        self._timer = timer
        self._name = name

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._timer.add({self._name: time.perf_counter() - self._start})
