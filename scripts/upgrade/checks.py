"""What is right of the answers that clients got while the model was changed, and the figures."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from scripts.upgrade.clients import OK, ClientAnswer
from scripts.upgrade.sides import got

QUANTILES = {"p50": 0.5, "p99": 0.99, "longest": 1.0}


@dataclass(frozen=True)
class UpgradeOutcome:
    """What came of it.

    Attributes:
        answers: of all clients.
        faults: what should not be, a line each.
        steps: seconds since the first request at which each step was done.
    """

    answers: list[ClientAnswer]
    faults: list[str]
    steps: Mapping[str, float]

    def lines(self) -> Iterator[str]:
        """Yield the figures."""
        first, last = self.answers[0].at_s, self.answers[-1].at_s
        times = sorted(answer.at_s for answer in self.answers)
        gap = max(after - before for before, after in itertools.pairwise(times))
        slowest = sorted(answer.elapsed_s for answer in self.answers)
        yield f"{len(self.answers):,} requests in {last - first:.0f} s: {dict(Counter(a.status for a in self.answers))}"
        yield f"by bundle: {dict(Counter(answer.bundle_id[:12] for answer in self.answers))}"
        yield f"longest time without an answer: {gap:.2f} s"
        shares = {name: slowest[int(share * (len(slowest) - 1))] for name, share in QUANTILES.items()}
        yield "latency " + ", ".join(f"{name} {seconds * 1e3:.0f} ms" for name, seconds in shares.items())
        yield "; ".join(f"{step} at {moment:.0f} s" for step, moment in self.steps.items())
        yield from self.faults or ["no fault"]


def faults(answers: list[ClientAnswer], in_force: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """Yield what is wrong with answers, given the policies in force for each bundle."""
    for answer in answers:
        if answer.status != OK or answer.said:
            yield f"status {answer.status}: {answer.said}"
        elif answer.version is not None:
            name, number = answer.version
            if in_force[answer.bundle_id].get(name) != number:
                yield f"bundle {answer.bundle_id} decided by {name}@{number}: in force is {in_force[answer.bundle_id]}"


def unlike_the_log(answers: list[ClientAnswer], url: str) -> Iterator[str]:
    """Yield where answers and the decision log differ."""
    logged, cursor = {}, None
    while True:
        page = got(f"{url}/v1/decisions", limit=500, **({"cursor": cursor} if cursor else {}))
        for row in page["data"]:
            version = (row["policy"]["name"], row["policy"]["version"])
            logged[row["id"]] = (row["decision"], row["bundle_id"], version)
        cursor = page["next_cursor"]
        if cursor is None:
            break
    told = {a.decision[0]: (a.decision[1], a.bundle_id, a.version) for a in answers if a.decision is not None}
    if told != logged:
        wrong = [one for one in told if logged.get(one) != told[one]]
        yield f"{len(told)} decisions answered, {len(logged)} logged, {len(wrong)} of the first not so: {wrong[:3]}"
