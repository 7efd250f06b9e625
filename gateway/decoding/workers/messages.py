"""What the gateway and a decoding worker say to each other: a job to the worker, facts and pixels back.

A job is pickled, by the gateway and for its own workers; nothing that comes from a worker is ever unpickled. A hostile
image may have taken the worker over, so every word of its answer is checked against the job before anything is made of
it. What cannot be checked is whether the pixels are the image's: who owns a decoder can make it see a meadow.
"""

from __future__ import annotations

import pickle
from dataclasses import fields
from operator import attrgetter
from typing import Annotated, Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.decoding.decoder import DecodeLimits, ImageInfo
from gateway.decoding.headers.header import ImageFormat, ImageHeader
from gateway.decoding.pdq import HASH_BITS, PerceptualHash
from gateway.decoding.preprocess import Job, PreprocessedImage
from gateway.decoding.views import Place
from gateway.errors import GatewayError, ImageError, InvalidRequest, error_classes

_HEADER_VALUES = attrgetter(*(field.name for field in fields(ImageHeader)))
_LIMIT_VALUES = attrgetter(*(field.name for field in fields(DecodeLimits)))

MOST_FACTS_BYTES: Final = 1 << 18

_ERRORS: Final[dict[str, type[GatewayError]]] = {
    one.__name__: one for one in (*error_classes(ImageError), InvalidRequest)
}
_BUG: Final = ""
Coordinate = Annotated[int, Field(ge=0, le=1 << 31)]
Count = Annotated[int, Field(ge=1, le=1 << 31)]
Seconds = Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)]


class AnswerRefused(Exception):
    """The process said what it cannot honestly say."""


class DecoderBug(Exception):
    """The process met a bug of ours; the text is its trace."""


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class _Info(_Strict):
    sha256: str = Field(pattern=r"^([0-9a-f]{64})?$")
    format: ImageFormat
    width: Count
    height: Count
    frames: Count
    frames_analyzed: Count


class _Place(_Strict):
    view: str = Field(pattern=r"^(center|full|tile [1-9])$")
    box: tuple[Coordinate, Coordinate, Coordinate, Coordinate]
    frame_ms: Coordinate | None
    background: Literal["black"] | None


class _Fingerprint(_Strict):
    hex: str = Field(pattern=rf"^[0-9a-f]{{{HASH_BITS // 4}}}$")
    quality: int = Field(ge=0, le=100)


class _Error(_Strict):
    kind: str
    detail: str = Field(max_length=8000)


class _Facts(_Strict):
    info: _Info | None = None
    places: list[_Place] = Field([], max_length=4096)
    fingerprints: list[_Fingerprint] = Field([], max_length=4096)
    error: _Error | None = None
    elapsed_s: dict[Literal["decode", "views", "fingerprint"], Seconds]


def order_of(job: Job) -> bytes:
    """Return all of a job but its image; plain tuples take a third of the time that pickled dataclasses do."""
    return pickle.dumps(
        (
            _HEADER_VALUES(job.header),
            _LIMIT_VALUES(job.limits),
            tuple(job.rules),
            job.size_px,
            job.resize_px,
            job.seed,
            job.fingerprint,
            job.hashed,
            job.both_grounds,
        )
    )


def job_of(order: bytes, data: bytes) -> Job:
    """Return the job that an order of the gateway describes, with its image."""
    header, limits, rules, *others = pickle.loads(order)  # noqa: S301 - from the gateway; never the other way
    return Job(data, ImageHeader(*header), DecodeLimits(*limits), frozenset(rules), *others)


def read_answer(job: Job, facts: bytes, pixels: bytes) -> tuple[PreprocessedImage | GatewayError, dict[str, float]]:
    """Return what a process made of a job, or its error, and the seconds of its stages.

    Args:
        job: what it was asked.
        facts: JSON, at most ``MOST_FACTS_BYTES``.
        pixels: what it sent behind them.

    Raises:
        AnswerRefused: it does not fit the job.
        DecoderBug: neither an answer nor an error of ours.
    """
    try:
        said = _Facts.model_validate_json(facts)
    except ValidationError:
        raise AnswerRefused("its facts are not of the form agreed on") from None
    elapsed_s: dict[str, float] = dict(said.elapsed_s.items())
    if said.error is not None:
        return _error(said.error), elapsed_s
    return _prepared(job, said, pixels), elapsed_s


def _error(said: _Error) -> GatewayError:
    if said.kind == _BUG:
        raise DecoderBug(said.detail)
    known = _ERRORS.get(said.kind)
    if known is None or not said.detail.isprintable():
        raise AnswerRefused("its error is none that an image can have")
    return known(said.detail)


def _prepared(job: Job, said: _Facts, pixels: bytes) -> PreprocessedImage:
    info, header, size = said.info, job.header, job.size_px
    if info is None:
        raise AnswerRefused("neither an answer nor an error")
    rows = len(said.places)
    fits = (
        info.format == header.format
        and bool(info.sha256) == job.hashed
        and sorted((info.width, info.height)) == sorted((header.width, header.height))
        and info.frames_analyzed <= min(info.frames, job.limits.sampled_frames)
        and info.frames <= header.frames
        and rows >= info.frames_analyzed
        and len(pixels) == rows * size * size * 3
        and len(said.fingerprints) in {0, info.frames_analyzed}
        and all(_is_within(place, info) for place in said.places)
    )
    if not fits:
        raise AnswerRefused("its answer does not fit the image's header")
    return PreprocessedImage(
        ImageInfo(info.sha256, info.format, info.width, info.height, info.frames, info.frames_analyzed),
        tuple(Place(place.view, place.box, place.frame_ms, place.background) for place in said.places),
        np.frombuffer(pixels, np.uint8).reshape(rows, size, size, 3),
        tuple(PerceptualHash(found.hex, found.quality) for found in said.fingerprints),
    )


def _is_within(place: _Place, info: _Info) -> bool:
    left, top, right, bottom = place.box
    return left < right <= info.width and top < bottom <= info.height
