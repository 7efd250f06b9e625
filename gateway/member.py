"""One process among those of a gateway: its part of what the settings allow, and what all of them count together.

A limit on what is refused at once (requests, bytes, connections, inferences) is compared with the sum over all
processes: each adds to its own cell of memory that they have inherited from the process that started them, and reads
the others'. Nothing is locked, so two that look at the same moment may both let one more in. What is waited for (memory
for decoding) is divided beforehand instead, as a place that is given up in one process would wake nobody in another.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.text_shelf import TextShelf

ROWS: Final = ("requests", "body_bytes", "connections", "taken", "unready", "image_inferences", "text_inferences")
_CELL_BYTES: Final = 8


class Tally:
    """A number that is the sum of what each process says of itself.

    Args:
        cells: one a process, 64-bit integers.
        index: the cell that is ours to write.
    """

    def __init__(self, cells: memoryview, index: int) -> None:
        self._cells = cells
        self._index = index

    @property
    def own(self) -> int:
        """This process's part."""
        return self.of(self._index)

    def of(self, index: int) -> int:
        """Return a process's part."""
        value: int = self._cells[index]
        return value

    def add(self, change: int) -> None:
        """Change this process's part."""
        self._cells[self._index] += change

    def set(self, value: int) -> None:
        """Say what this process's part is."""
        self._cells[self._index] = value

    def total(self) -> int:
        """Return the sum over all processes."""
        return sum(self._cells)


class Tallies:
    """The numbers of all processes, one row a number; made before the processes are forked.

    Args:
        count: processes.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._cells = memoryview(mmap.mmap(-1, len(ROWS) * count * _CELL_BYTES)).cast("q")

    def row(self, name: str, index: int) -> Tally:
        """Return one number, as the process ``index`` sees it."""
        start = ROWS.index(name) * self._count
        return Tally(self._cells[start : start + self._count], index)

    def forget(self, index: int) -> None:
        """Take out what a process has said: it has ended."""
        for name in ROWS:
            self.row(name, index).set(0)


@dataclass(frozen=True, slots=True)
class Member:
    """What one process knows of its place.

    Attributes:
        index: from 0.
        count: processes of this gateway.
        requests: worked on.
        body_bytes: held for them.
        connections: open.
        taken: of connections that were handed over by the supervisor, since the process started.
        unready: 1 while this process cannot answer requests: from the gateway's start until it can, and later while it
            takes them nevertheless.
        image_inferences: under way in the image model.
        text_inferences: likewise in the text model.
        metrics_folder: where all processes keep their metrics; None in a gateway of one, which has them in memory.
        shelf: where they leave texts' vectors for each other; likewise.
    """

    index: int
    count: int
    requests: Tally
    body_bytes: Tally
    connections: Tally
    taken: Tally
    unready: Tally
    image_inferences: Tally
    text_inferences: Tally
    metrics_folder: Path | None = None
    shelf: TextShelf | None = None

    @property
    def first(self) -> bool:
        """Whether this is the process for work that is done once for all."""
        return self.index == 0

    def shelf_of(self, model: str) -> TextShelf | None:
        """Return the shelf for vectors of one model."""
        return None if self.shelf is None else self.shelf.of(model)

    def share(self, total: int) -> int:
        """Return this process's part of ``total`` things, at least one."""
        return max(1, total // self.count + (self.index < total % self.count))


def member(
    tallies: Tallies, index: int, count: int, metrics_folder: Path | None, shelf: TextShelf | None = None
) -> Member:
    """Return the place of one process."""
    rows = {name: tallies.row(name, index) for name in ROWS}
    return Member(index, count, metrics_folder=metrics_folder, shelf=shelf, **rows)


def alone() -> Member:
    """Return the place of a process that is the whole gateway."""
    return member(Tallies(1), 0, 1, None)
