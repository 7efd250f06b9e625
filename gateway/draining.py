"""Whether the process is about to end: said by ``/readyz`` before anything is refused."""

from __future__ import annotations


class Draining:
    """Begins once, by the server on SIGTERM, and never ends."""

    def __init__(self) -> None:
        self.begun = False

    def begin(self) -> None:
        """Note that the process is about to end."""
        self.begun = True
