"""How much is measured, and of what."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run of the benchmarks is asked for.

    Attributes:
        model: as ``MODEL`` of ``make serve``; random weights take the time that trained ones do.
        precision: ``fp32``, ``fp16`` or ``int8``.
        device: ``auto``, ``cpu`` or ``cuda``.
        seconds: of each single measurement.
        rounds: of all sides in turn; medians are taken over them.
        requests: of a long run, where one is made.
        peers: whether other software is measured too.
        price_per_hour: of this machine, US dollars, for the table of costs.
        checkout: another one of this project to compare with, for the section ``against``.
    """

    model: str
    precision: str
    device: str
    seconds: float
    rounds: int
    requests: int
    peers: bool
    price_per_hour: float
    checkout: Path | None = None

    def words(self) -> str:
        """Return it on one line."""
        return f"{self.model}, {self.precision}, {self.rounds} rounds of {self.seconds:g} s"
