"""Messages between the gateway and a decoding worker: a job to the worker; facts, pixels and stills back.

A job is pickled, by the gateway and for its own workers; nothing that comes from a worker is ever unpickled. A hostile
image may have taken the worker over, so its whole answer is checked against the job before it is
used. What cannot be checked is whether the pixels are the image's: a worker that has been taken over can send others.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.decoding.decoder import ImageInfo
from gateway.decoding.downscale import Box
from gateway.decoding.pdq import PerceptualHash
from gateway.decoding.preprocess import Job, PreprocessedImage
from gateway.decoding.stills import Still, StillPlace, StillRefused, checked_still
from gateway.decoding.views import Place
from gateway.errors import GatewayError, ImageError, error_classes
from gateway.observability.stage_timer import StageTimer

FORK: Final = b"F"
READY: Final = struct.Struct(">B")
"""A worker's first byte: the ``Layers`` of its sandbox."""

HEAD: Final = struct.Struct(">II")
"""What each message begins with: bytes of the order or the facts, bytes of the image or the pixels and stills."""

MOST_FACTS_BYTES: Final = 1 << 18

_ERRORS: Final[dict[str, type[GatewayError]]] = {one.__name__: one for one in error_classes(ImageError)}
_BUG: Final = ""
Seconds = Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)]


class AnswerRefused(Exception):
    """The process said what it cannot honestly say."""


class DecoderBug(Exception):
    """The process met a bug of ours; the text is its trace."""


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class _Error(_Strict):
    kind: str
    detail: str = Field(max_length=8000)


class _Facts(_Strict):
    info: ImageInfo | None = None
    places: list[Place] = Field([], max_length=4096)
    fingerprints: list[PerceptualHash] = Field([], max_length=4096)
    stills: list[StillPlace] = Field([], max_length=4096)
    error: _Error | None = None
    elapsed_s: dict[Literal["decode", "views", "fingerprint"], Seconds]


def order_of(job: Job) -> bytes:
    """Return all of a job but its image."""
    return pickle.dumps(replace(job, data=b""))


def job_of(order: bytes, data: bytes) -> Job:
    """Return the job that an order of the gateway describes, with its image."""
    job: Job = pickle.loads(order)  # noqa: S301 - from the gateway; never the other way
    return replace(job, data=data)


def read_answer(job: Job, facts: bytes, pixels: bytes, timer: StageTimer) -> PreprocessedImage:
    """Return what a process made of a job.

    Args:
        job: what it was asked.
        facts: JSON, at most ``MOST_FACTS_BYTES``.
        pixels: what it sent behind them: those of the views, then the stills.
        timer: gets the time of each stage.

    Raises:
        ImageError: the process found it.
        AnswerRefused: the answer does not fit the job.
        DecoderBug: neither an answer nor an error of ours.
    """
    try:
        said = _Facts.model_validate_json(facts)
    except ValidationError:
        raise AnswerRefused("its facts are not of the form agreed on") from None
    timer.add(dict(said.elapsed_s.items()))
    if said.error is not None:
        raise _error(said.error)
    pixel_bytes = len(said.places) * job.size_px**2 * 3
    if said.info is None or not _fits(job, said.info, said, len(pixels) - pixel_bytes):
        raise AnswerRefused("its answer does not fit the image's header")
    return PreprocessedImage(
        said.info,
        tuple(said.places),
        np.frombuffer(pixels, np.uint8, pixel_bytes).reshape(-1, job.size_px, job.size_px, 3),
        tuple(said.fingerprints),
        tuple(_stills(job, said, pixels[pixel_bytes:])),
    )


def _stills(job: Job, said: _Facts, jpegs: bytes) -> Iterator[Still]:
    at = 0
    for place in said.stills:
        try:
            yield checked_still(jpegs[at : at + place.size], place, job.still_side_px)
        except StillRefused as why:
            raise AnswerRefused(str(why)) from None
        at += place.size


def _error(said: _Error) -> GatewayError:
    if said.kind == _BUG:
        raise DecoderBug(said.detail)
    known = _ERRORS.get(said.kind)
    if known is None or not said.detail.isprintable():
        raise AnswerRefused("its error is none that an image can have")
    return known(said.detail)


def _fits(job: Job, info: ImageInfo, said: _Facts, still_bytes: int) -> bool:
    header, rows = job.header, len(said.places)
    on_white = sum(place.background is None for place in said.places)
    return (
        info.format == header.format
        and bool(info.sha256) == job.hashed
        and sorted((info.width, info.height)) == sorted((header.width, header.height))
        and info.frames_analyzed <= min(info.frames, job.limits.sampled_frames)
        and info.frames <= header.frames
        and on_white >= info.frames_analyzed
        and (on_white == rows or job.both_grounds)
        and still_bytes == sum(still.size for still in said.stills)
        and len(said.stills) <= job.most_stills
        and still_bytes <= job.still_bytes
        and {still.frame_ms for still in said.stills} <= {place.frame_ms for place in said.places}
        and len(said.fingerprints) in {0, info.frames_analyzed}
        and all(_is_within(place.box, info) for place in said.places)
    )


def _is_within(box: Box, info: ImageInfo) -> bool:
    left, top, right, bottom = box
    return 0 <= left < right <= info.width and 0 <= top < bottom <= info.height
