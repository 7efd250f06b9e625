"""What a step of the ramp measured, and the rule that ends it. Imports neither Locust nor anything of the stack."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KNEE = 0.95


@dataclass(frozen=True, slots=True)
class Rule:
    """How the ramp climbs and when it ends.

    Attributes:
        first: users of the first step.
        factor: by which their number grows from step to step.
        most: users of the last step that may be.
        step_s: seconds that are measured of a step.
        settle_s: seconds before them that are not: new users connect, and queues fill.
        growth: share by which a step must exceed the best before it to count as growth.
        patience: steps in a row without growth that end the ramp.
        most_refused: share of requests that the service may turn away (429, 503) before the ramp ends.
    """

    first: int = 1
    factor: float = 2.0
    most: int = 256
    step_s: float = 10.0
    settle_s: float = 2.0
    growth: float = 0.05
    patience: int = 2
    most_refused: float = 0.05

    def words(self) -> str:
        """Return it as one sentence."""
        return (
            f"Users at a time grow by a factor of {self.factor:g} from {self.first}, each step {self.settle_s:g} s to "
            f"settle and {self.step_s:g} s measured, until {self.patience} steps in a row bring less than "
            f"{self.growth:.0%} over the best before them, over {self.most_refused:.0%} of requests are refused, or "
            f"{self.most} users are reached."
        )

    def users(self, step: int) -> int:
        """Return the users of a step, counted from 0; rising by 1 at least."""
        users = self.first
        for _ in range(step):
            users = max(users + 1, math.ceil(users * self.factor))
        return min(users, self.most)


@dataclass(frozen=True, slots=True)
class Step:
    """One step.

    Attributes:
        users: at a time: what is offered, since each sends its next request when the last is answered.
        seconds: measured.
        answers: right ones.
        refused: requests turned away.
        wrong: wrong answers and broken connections.
        p50_ms: latency that half of the right answers stayed below, milliseconds.
        p95_ms: likewise 95 %.
        p99_ms: likewise 99 %.
        client_cores: processor time that Locust took, per second.
    """

    users: int
    seconds: float
    answers: int
    refused: int
    wrong: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    client_cores: float

    @property
    def rate(self) -> float:
        """Right answers a second."""
        return self.answers / self.seconds

    @property
    def refused_share(self) -> float:
        """Share of the requests that were turned away."""
        return self.refused / max(1, self.answers + self.refused + self.wrong)


def step_of(
    users: int, seconds: float, latencies_ms: Sequence[float], refused: int, wrong: int, client_s: float
) -> Step:
    """Return a step from what was counted in it."""
    ordered = sorted(latencies_ms)

    def below(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0

    return Step(users, seconds, len(ordered), refused, wrong, below(0.5), below(0.95), below(0.99), client_s / seconds)


def why_ended(steps: Sequence[Step], rule: Rule) -> str | None:
    """Return why the ramp ends after these steps; None while it goes on."""
    last = steps[-1]
    if last.refused_share > rule.most_refused:
        return f"{last.refused_share:.0%} of requests were refused"
    if not last.answers:
        return "no request was answered"
    best, idle = 0.0, 0
    for step in steps:
        idle = idle + 1 if step.rate < best * (1 + rule.growth) else 0
        best = max(best, step.rate)
    if idle >= rule.patience:
        return f"{idle} steps without growth"
    if last.users >= rule.most:
        users = "1 user" if rule.most == 1 else f"{rule.most} users"
        return f"{users}, the most allowed: {_trend(steps, rule)}"
    return None


def _trend(steps: Sequence[Step], rule: Rule) -> str:
    """Return what the last step says of throughput with more users; a change within ``growth`` may be chance."""
    *before, last = [step.rate for step in steps]
    best = max(before, default=0.0)
    if last >= best * (1 + rule.growth):
        return "throughput may still grow"
    return "throughput falls" if last < best * (1 - rule.growth) else "throughput no longer grows"


def saturation(steps: Sequence[Step]) -> Step | None:
    """Return the saturation point: the first step with 95 % of the highest throughput; more users mostly wait."""
    best = max((step.rate for step in steps), default=0.0)
    return next((step for step in steps if best and step.rate >= KNEE * best), None)


@dataclass(frozen=True, slots=True)
class Ramp:
    """One protocol's ramp.

    Attributes:
        kind: ``REST`` or ``gRPC``.
        request: what one request is, in words.
        steps: in the order they were taken.
        ended: why.
    """

    kind: str
    request: str
    steps: tuple[Step, ...]
    ended: str


def write(ramp: Ramp, path: Path) -> None:
    """Keep a ramp as JSON."""
    path.write_text(json.dumps(dataclasses.asdict(ramp), indent=1) + "\n", encoding="utf-8")


def read(path: Path) -> Ramp:
    """Return a ramp that was kept.

    Raises:
        OSError, ValueError: there is none.
    """
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return Ramp(kept["kind"], kept["request"], tuple(Step(**step) for step in kept["steps"]), kept["ended"])
