"""How many calls may be made a second time: a share of all calls, so that retries never multiply an outage."""

from __future__ import annotations

SHARE = 0.1  # retries per call, over time
MOST_SAVED = 10.0  # retries at once after a quiet time: a few requests whose connection broke, not a whole queue


class RetryBudget:
    """Every call earns a tenth of a retry; a retry spends a whole one.

    Args:
        share: retries that a call earns.
        most_saved: retries that can be saved up, which is also what there is at the start.
    """

    def __init__(self, share: float = SHARE, most_saved: float = MOST_SAVED) -> None:
        self._share = share
        self._most_saved = most_saved
        self._saved = most_saved

    def earn(self) -> None:
        """Count a call."""
        self._saved = min(self._most_saved, self._saved + self._share)

    def spend(self) -> bool:
        """Take one retry; False if none is left."""
        if self._saved < 1:
            return False
        self._saved -= 1
        return True
