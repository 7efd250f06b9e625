"""Jobs and labelled sets as the routes use them."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.store.jobs.jobs import Jobs
from gateway.store.jobs.labelled_sets import LabelledSets


@dataclass(frozen=True, slots=True)
class JobServices:
    """Where jobs and sets are kept, and their caps: sets, images of a set, jobs that wait or run."""

    jobs: Jobs
    sets: LabelledSets
    max_sets: int
    max_images: int
    max_open: int
