"""A job without its picture as bytes, for the way to a decoding process.

It is pickled, by the gateway and for its own processes: nothing is ever unpickled that comes from one. As plain tuples,
which takes a third of the time that pickling the dataclasses does; what all jobs of a gateway have in common is made
bytes, and read, once.
"""

from __future__ import annotations

import pickle
from dataclasses import fields
from functools import lru_cache
from operator import attrgetter
from typing import cast

from gateway.decoding.decoder import DecodeLimits
from gateway.decoding.headers.header import ImageHeader
from gateway.decoding.preprocess import Job

_HEADER_VALUES = attrgetter(*(field.name for field in fields(ImageHeader)))
_KINDS_OF_LIMITS = 64  # they differ in how many frames a request can afford


def order_of(job: Job) -> bytes:
    """Return all of a job but its picture."""
    return pickle.dumps(
        (
            _HEADER_VALUES(job.header),
            _written(job.limits),
            tuple(job.rules),
            job.size_px,
            job.resize_px,
            job.seed,
            job.fingerprint,
            job.hashed,
        )
    )


def job_of(order: bytes, data: bytes) -> Job:
    """Return the job that an order of the gateway describes, with its picture."""
    header, limits, rules, *others = pickle.loads(order)  # noqa: S301 - from the gateway; never the other way
    return Job(data, ImageHeader(*header), _read(limits), frozenset(rules), *others)


@lru_cache(_KINDS_OF_LIMITS)
def _written(limits: DecodeLimits) -> bytes:
    return pickle.dumps(limits)


@lru_cache(_KINDS_OF_LIMITS)
def _read(limits: bytes) -> DecodeLimits:
    return cast("DecodeLimits", pickle.loads(limits))  # noqa: S301 - likewise
