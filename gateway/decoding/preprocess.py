"""An image's bytes to what the model reads: decode, views and fingerprint in one function, wherever it runs.

``prepare`` gives hostile bytes to C libraries. It runs in processes of its own (``pool.py``), or, with
``DECODE_ISOLATION=false``, in threads (``threads.py``): both are a :class:`Preprocessor`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from gateway.decoding.decoder import DecodeLimits, Frame, ImageInfo, open_image
from gateway.decoding.downscale import Scale, averaged, jpeg_factor_for
from gateway.decoding.headers.header import ImageHeader
from gateway.decoding.pdq import PerceptualHash, PerceptualHasher
from gateway.decoding.stills import Still, most_bytes, on_black, stills_of
from gateway.decoding.views import Place, ViewRule, cut_view, cut_views
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
        both_grounds: look at transparent images on black too.
        still_side_px: the longest side of the stills that are made of the frames; 0 for none.
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
    both_grounds: bool = False
    still_side_px: int = 0

    @property
    def jpeg_factor(self) -> int:
        """At what fraction of its size a JPEG is decoded: 1, 2, 4 or 8."""
        color = self.header.color
        whole = self.whole or self.fingerprint or (color is not None and color.kind == "any")
        if self.header.format != "jpeg" or whole:
            return 1
        return jpeg_factor_for(self.header.width, self.header.height, self.resize_px)

    @property
    def decode_bytes(self) -> int:
        """Estimated peak memory in bytes of decoding and cutting one frame."""
        return self.header.decode_bytes(self.jpeg_factor)

    @property
    def most_stills(self) -> int:
        """How many stills are made at most."""
        return self.limits.sampled_frames * (1 + self.both_grounds) if self.still_side_px else 0

    @property
    def still_bytes(self) -> int:
        """The most bytes that all stills together take."""
        return self.most_stills * most_bytes(self.header.pixels, self.still_side_px)


@dataclass(frozen=True, slots=True)
class PreprocessedImage:
    """An image ready for the model.

    Attributes:
        info: what is said about it.
        places: V, where each row of pixels comes from.
        pixels: uint8 [V, S, S, 3].
        fingerprints: of the frames.
        stills: of the frames, in order, where they were asked for.
    """

    info: ImageInfo
    places: tuple[Place, ...]
    pixels: npt.NDArray[np.uint8]
    fingerprints: tuple[PerceptualHash, ...]
    stills: tuple[Still, ...] = ()


@dataclass(frozen=True, slots=True)
class _FrameViews:
    """What is kept of a frame: where each view comes from with its pixels, the frame's hash, and its stills."""

    views: tuple[tuple[Place, npt.NDArray[np.uint8]], ...]
    fingerprint: PerceptualHash | None
    stills: tuple[Still, ...]


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
        timer: gets the seconds of ``decode``, ``views`` (with the stills) and ``fingerprint``.
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
                looked_at = tuple(_looked_at(frame, rgb, scale, job))
                background = job.limits.background if job.both_grounds else None
                side_px = job.still_side_px
                stills = tuple(stills_of(frame, rgb, side_px, background)) if side_px else ()
            hashed = None
            if fingerprint is not None and job.fingerprint:
                with timer.stage("fingerprint"):
                    hashed = fingerprint(frame.rgb)
            seen[frame.index] = _FrameViews(looked_at, hashed, stills)
    frames = [seen[index] for index in sorted(seen)]
    return PreprocessedImage(
        image.info,
        tuple(place for frame in frames for place, _ in frame.views),
        np.stack([pixels for frame in frames for _, pixels in frame.views]),
        tuple(frame.fingerprint for frame in frames if frame.fingerprint is not None),
        tuple(still for frame in frames for still in frame.stills),
    )


def _looked_at(frame: Frame, rgb: Image.Image, scale: Scale, job: Job) -> Iterator[tuple[Place, npt.NDArray[np.uint8]]]:
    """Yield where each view comes from and its pixels: all of them as they are shown on white, and those on black."""
    views = {
        view.name: view
        for rule in sorted(job.rules)
        for view in cut_views(rgb, rule, size_px=job.size_px, resize_px=job.resize_px, scale=scale)
    }
    for view in views.values():
        shown = view.pixels
        if frame.conversion is not None:
            shown = np.asarray(frame.conversion(Image.fromarray(shown)))
        yield Place(view.name, view.box, frame.time_ms), shown
    if frame.alpha is None or not job.both_grounds:
        return
    opaque, scale = averaged(frame.alpha, frame.scale, job.resize_px)
    for view in views.values():
        alpha = cut_view(opaque, view, size_px=job.size_px, resize_px=job.resize_px, scale=scale).pixels
        dark = on_black(view.pixels, alpha, job.limits.background)
        if dark is not None:
            yield Place(view.name, view.box, frame.time_ms, "black"), dark
