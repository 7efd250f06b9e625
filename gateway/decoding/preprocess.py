"""An image's bytes to what the model reads: decode, views and fingerprint in one function, wherever it runs.

``prepare`` gives hostile bytes to C libraries. It runs in processes of its own (``pool.py``), or, with
``DECODE_ISOLATION=false``, in threads (``threads.py``): both are a :class:`Preprocessor`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from gateway.decoding.decoder import DecodeLimits, ImageInfo, open_image
from gateway.decoding.downscale import averaged, jpeg_factor_for
from gateway.decoding.headers.header import ImageHeader
from gateway.decoding.pdq import PerceptualHash, PerceptualHasher
from gateway.decoding.views import Place, View, ViewRule, cut_views
from gateway.observability.stage_timer import StageTimer


@dataclass(frozen=True, slots=True)
class Job:
    """One image to prepare.

    Attributes:
        data: the whole file.
        header: what ``decode.inspect`` said about it.
        limits: of decoding; ``sampled_frames`` is what this request can afford.
        rules: which views.
        size_px: side of the square the model reads.
        resize_px: what the short side is brought to before the centre crop.
        seed: of the choice of frames.
        whole: decode every pixel, which is what viewers show; otherwise large JPEGs come at a fraction of their size.
        fingerprint: hash the frames too, which needs all their pixels.
        hashed: hash the file too; otherwise ``ImageInfo.sha256`` is empty, and the caller fills it in.
    """

    data: bytes
    header: ImageHeader
    limits: DecodeLimits
    rules: frozenset[ViewRule]
    size_px: int
    resize_px: int
    seed: int
    whole: bool = False
    fingerprint: bool = False
    hashed: bool = True

    @property
    def jpeg_factor(self) -> int:
        """At what fraction of its size a JPEG is decoded: 1, 2, 4 or 8."""
        if self.header.format != "jpeg" or self.whole or self.fingerprint:
            return 1
        return jpeg_factor_for(self.header.width, self.header.height, self.resize_px)

    @property
    def decode_bytes(self) -> int:
        """Estimated peak memory in bytes of decoding and cutting one frame."""
        return self.header.decode_bytes(self.jpeg_factor)


@dataclass(frozen=True, slots=True)
class PreprocessedImage:
    """An image ready for the model: uint8 pixels [V, S, S, 3], where each row comes from, and frames' fingerprints."""

    info: ImageInfo
    places: tuple[Place, ...]
    pixels: npt.NDArray[np.uint8]
    fingerprints: tuple[PerceptualHash, ...]


@dataclass(frozen=True, slots=True)
class _FrameViews:
    """What is kept of a frame."""

    time_ms: int | None
    views: tuple[View, ...]
    fingerprint: PerceptualHash | None


Preprocess = Callable[[Job, StageTimer, PerceptualHasher | None], PreprocessedImage]
"""What a worker runs: :func:`prepare`, or a test's stand-in for it."""


class Preprocessor(Protocol):
    """Runs ``prepare`` off the event loop."""

    @property
    def available(self) -> bool:
        """Whether images can be prepared now."""
        ...

    @property
    def fingerprints(self) -> bool:
        """Whether frames can be hashed."""
        ...

    async def prepare(self, job: Job, timer: StageTimer) -> PreprocessedImage:
        """Return the image ready for the model; the timer gets the time of each stage.

        Raises:
            GatewayError: the image's fault, or the service's.
        """
        ...

    async def close(self) -> None:
        """Stop what runs."""
        ...


def prepare(job: Job, timer: StageTimer, fingerprint: PerceptualHasher | None) -> PreprocessedImage:
    """Decode frame by frame and cut each into views; one frame is in memory at a time.

    Args:
        job: the image.
        timer: gets the seconds of ``decode``, ``views`` and ``fingerprint``.
        fingerprint: perceptual hash of a frame, or None where none is installed.

    Raises:
        ImageError: the image cannot be decoded.
    """
    seen: dict[int, _FrameViews] = {}
    with timer.stage("decode"):
        image = open_image(
            job.data,
            job.limits,
            seed=job.seed,
            header=job.header,
            jpeg_factor=job.jpeg_factor,
            hashed=job.hashed,
        )
    with image:
        remaining = image.frames()
        while True:
            with timer.stage("decode"):
                frame = next(remaining, None)
            if frame is None:
                break
            if frame.instead_of is not None:
                del seen[frame.instead_of]
            with timer.stage("views"):
                rgb, scale = averaged(frame.rgb, frame.scale, job.resize_px)
                cut = {
                    view.name: view
                    for rule in sorted(job.rules)
                    for view in cut_views(rgb, rule, size_px=job.size_px, resize_px=job.resize_px, scale=scale)
                }
            hashed = None
            if fingerprint is not None and job.fingerprint:
                with timer.stage("fingerprint"):
                    hashed = fingerprint(frame.rgb)
            seen[frame.index] = _FrameViews(frame.time_ms, tuple(cut.values()), hashed)
    frames = [seen[index] for index in sorted(seen)]
    return PreprocessedImage(
        image.info,
        tuple(Place(view.name, view.box, frame.time_ms) for frame in frames for view in frame.views),
        np.stack([view.pixels for frame in frames for view in frame.views]),
        tuple(frame.fingerprint for frame in frames if frame.fingerprint is not None),
    )
