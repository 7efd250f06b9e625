"""Bytes to images: every limit is judged from the header, then one frame at a time is decoded.

An image goes through ``inspect`` (by content only, no decoding, a few milliseconds) and ``open_image``. Pillow is
given the one plugin that the signature names, constructed directly: no other plugin is tried, no file name is looked
at, no process-wide setting of Pillow is changed (``LOAD_TRUNCATED_IMAGES`` stays False, and the limits here are
stricter than ``MAX_IMAGE_PIXELS``). Both functions are synchronous and safe to run in several worker threads.
A JPEG is decoded at a fraction of its size only where the caller asks (``downscale.py`` says when that is sound).

Neither function can stop a single call into a C library: who runs them in a process can (``pool.py``). What they
bound is its size (``max_pixels``), its number of passes (``jpeg.MAX_SCANS``) and, since decoders read through
``guards.TimedReader``, the time between two reads of 64 KiB.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Self

import numpy as np
from PIL import Image, ImageFile
from pydantic import Field

from gateway.decoding.downscale import Scale, scale_of
from gateway.decoding.frame_sampling import FrameSampler, Thumbnail
from gateway.decoding.guards import DecodeDeadline, TimedReader, decoder_faults
from gateway.decoding.headers.exif import read_orientation
from gateway.decoding.headers.header import (
    ALWAYS_ACCEPTED,
    Formats,
    ImageFormat,
    ImageHeader,
    accepted_words,
    shown_ms,
    sniff,
)
from gateway.decoding.headers.registry import read_header
from gateway.decoding.plugins import plugin_of
from gateway.decoding.png_pixels import has_deep_key, hide_colour, load_all_rows, scale_key
from gateway.decoding.to_rgb import Colour, to_rgb, turn_upright
from gateway.errors import (
    EmptyFile,
    ImageCorrupt,
    ImageDimensions,
    ImageTooLarge,
    ImageTooManyFrames,
    ImageTooManyPixels,
)

LATEST_MS = 2**31 - 1
"""24 days. A file may let one frame last for longer; what is later is said to be then."""

QUICK_BYTES = 256 * 1024
_GRID_PX, _GRID_CELLS = 64, 16

Count = Annotated[int, Field(ge=1, le=LATEST_MS)]

_DISAGREE = "The image's parts disagree about its size; save it again with a common program."


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """What one image may be; the defaults and where they come from stand in the documentation of limits.

    Attributes:
        max_bytes: size of the file.
        max_pixels: width x height of one frame.
        max_side_px: the longer side, in pixels.
        min_side_px: the shorter side, in pixels.
        max_frames: frames in the file.
        sampled_frames: frames decoded and judged at most.
        timeout_s: processor seconds for decoding all sampled frames.
        background: colour (red, green, blue) under transparent parts.
        formats: those accepted.
    """

    max_bytes: int = 10_000_000
    max_pixels: int = 50_000_000
    max_side_px: int = 10_000
    min_side_px: int = 32
    max_frames: int = 500
    sampled_frames: int = 16
    timeout_s: float = 8.0
    background: Colour = (255, 255, 255)
    formats: Formats = ALWAYS_ACCEPTED


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What is said about an image in an answer; ranges are checked where a worker says it.

    Attributes:
        sha256: hexadecimal digest of the file's bytes; empty where it was not asked for.
        format: by content.
        width: pixels, after the EXIF orientation.
        height: pixels, after the EXIF orientation.
        frames: images in the file.
        frames_analyzed: how many of them are looked at; known once all have been decoded.
    """

    sha256: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]
    format: ImageFormat
    width: Count
    height: Count
    frames: Count
    frames_analyzed: Count


@dataclass(frozen=True, slots=True)
class Frame:
    """One decoded image.

    Attributes:
        rgb: mode RGB, upright.
        scale: how the image, ``ImageInfo.width`` x ``ImageInfo.height``, lies in it: pixel by pixel unless it was
            decoded at a fraction of its size.
        time_ms: when an animation shows it, in milliseconds from its start, at most ``LATEST_MS``; None when the
            image is no animation.
        index: which of the file's frames it is.
        instead_of: the frame handed out before that it takes the place of, if any.
    """

    rgb: Image.Image
    scale: Scale
    time_ms: int | None
    index: int = 0
    instead_of: int | None = None


def inspect(data: bytes, limits: DecodeLimits) -> ImageHeader:
    """Judge an image by its header alone.

    Args:
        data: the whole file.
        limits: what is accepted.

    Raises:
        EmptyFile: zero bytes.
        ImageTooLarge: more bytes than ``max_bytes``.
        UnsupportedImage: by its signature none of the accepted formats.
        ImageCorrupt: cut short or broken in a way that shows without decoding.
        ImageTooManyPixels, ImageDimensions, ImageTooManyFrames: over a limit.
    """
    if not data:
        raise EmptyFile(f"The file has no bytes; send {accepted_words(limits.formats)}.")
    if len(data) > limits.max_bytes:
        raise ImageTooLarge(f"The file has {len(data):,} bytes; at most {limits.max_bytes:,} are accepted.")
    header = read_header(data, limits.formats, max_frames=limits.max_frames)
    width, height = header.width, header.height
    if header.pixels > limits.max_pixels:
        larger = ", parts that are not shown included" if header.pixels > width * height else ""
        raise ImageTooManyPixels(
            f"The image has {width} x {height} pixels, {header.pixels:,} in all{larger}; "
            f"at most {limits.max_pixels:,} are accepted."
        )
    if max(width, height) > limits.max_side_px or min(width, height) < limits.min_side_px:
        raise ImageDimensions(
            f"The image is {width} x {height} pixels; sides from {limits.min_side_px} to {limits.max_side_px} pixels "
            "are accepted."
        )
    if header.frames > limits.max_frames:
        raise ImageTooManyFrames(
            f"The animation has more than {limits.max_frames} frames; at most {limits.max_frames} are accepted."
        )
    return header


def is_inspected_quickly(data: bytes) -> bool:
    """Return whether ``inspect`` takes a fraction of a millisecond, and a few at worst: less than asking a thread.

    So it is with a JPEG of common size: its markers are found by a regular expression, and there may be only so many.
    """
    return len(data) <= QUICK_BYTES and sniff(data) == "jpeg"


@dataclass(slots=True)
class DecodedImage:
    """An opened image, decoded frame by frame; made by :func:`open_image`.

    Attributes:
        info: what is said about it.
        opened: Pillow's, not decoded yet.
        opened_again: the same, of a PNG whose transparent colour has 16 bits.
        orientation: EXIF's, that is still to be applied.
        factor: a JPEG is decoded at one of so many pixels, each way.
        durations_ms: of each frame.
        sampler: says which frames are handed out.
        background: colour under transparent parts.
        deadline: of decoding.
    """

    info: ImageInfo
    opened: ImageFile.ImageFile
    opened_again: ImageFile.ImageFile | None
    orientation: int
    factor: int
    durations_ms: tuple[int, ...]
    sampler: FrameSampler
    background: Colour
    deadline: DecodeDeadline

    @property
    def copies_frames(self) -> bool:
        """Whether a frame handed out is a copy.

        A still JPEG or PNG that is RGB already is handed out as it is. The others hold decoders, and an animation's
        next frame is drawn into the same pixels.
        """
        return self.info.frames > 1 or self.info.format not in {"jpeg", "png"}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Free the decoder; frames already handed out stay valid, and no more can be had."""
        if self.copies_frames:
            self.opened.close()

    def frames(self) -> Iterator[Frame]:
        """Decode all frames one by one, in order, and hand out those to be looked at; can be called once.

        Yields:
            Each of them; memory is that of one frame as long as the caller keeps no other.

        Raises:
            ImageCorrupt: broken data in any frame up to the last one looked at.
            ImageUndecodable: out of time, or the decoder gave up without a reason.
        """
        animated = self.info.frames > 1
        starts_ms = [0, *itertools.accumulate(self.durations_ms)]
        for index in range(self.sampler.last + 1):
            self.deadline.check()
            with decoder_faults():
                # Every frame up to the last sampled one is decoded, since each draws on those before it; one step at a
                # time, so that the deadline is checked between them.
                if index:
                    if self.info.format == "png":
                        self.opened.decoderconfig = ()  # else Pillow says once more that it is interlaced
                    self.opened.seek(index)
                if animated or self.info.format != "png":
                    self.opened.load()
                else:
                    load_all_rows(self.opened)
                if self.opened_again is not None:
                    hide_colour(self.opened, self.opened_again)
                wanted, instead_of = self.sampler.choose(index, self._thumbnail)
                if not wanted:
                    continue
                rgb = self._upright_rgb()
            scale = scale_of(rgb.size, (self.info.width, self.info.height), self.factor, self.orientation)
            self.info = replace(self.info, frames_analyzed=self.sampler.chosen)
            time_ms = min(starts_ms[index], LATEST_MS) if animated else None
            yield Frame(rgb=rgb, scale=scale, time_ms=time_ms, index=index, instead_of=instead_of)

    def _thumbnail(self) -> Thumbnail:
        """Return what the frame shows, made of some of its pixels: which ones, the seed says."""
        (width, height), (right, down) = self.opened.size, self.sampler.shift
        box = (right * width / _GRID_PX, down * height / _GRID_PX, width, height)
        grid = self.opened.resize((_GRID_PX, _GRID_PX), Image.Resampling.NEAREST, box=box)
        return np.asarray(to_rgb(grid, self.background).reduce(_GRID_PX // _GRID_CELLS), np.float32)

    def _upright_rgb(self) -> Image.Image:
        rgb = to_rgb(self.opened, self.background)
        if rgb is self.opened and self.copies_frames:
            rgb = self.opened.copy()
        rgb = turn_upright(rgb, self.orientation)
        size = (-(-self.info.width // self.factor), -(-self.info.height // self.factor))
        if rgb.size != size and self.info.format == "gif":  # later frames stick out of the canvas
            return rgb.crop((0, 0, *size))
        if rgb.size != size:  # libheif settles the size only while it decodes
            raise ImageCorrupt(_DISAGREE)
        return rgb


def sha256_of(data: bytes) -> str:
    """Return the hexadecimal digest of a file's bytes; other threads run meanwhile."""
    return hashlib.sha256(data).hexdigest()


def open_image(
    data: bytes,
    limits: DecodeLimits,
    *,
    seed: int,
    header: ImageHeader | None = None,
    jpeg_factor: int = 1,
    hashed: bool = True,
) -> DecodedImage:
    """Open an image for decoding; use the result as a context manager.

    Args:
        data: the whole file.
        limits: what is accepted; ``timeout_s`` starts to run here.
        seed: of the choice of frames, see ``frame_sampling.py``.
        header: what :func:`inspect` gave for the same ``data`` and ``limits``, to save reading it twice.
        jpeg_factor: 2, 4 or 8 decodes a JPEG at that fraction of its size, sides rounded up; others come whole.
        hashed: whether the file's digest is made.

    Raises:
        ImageError: as :func:`inspect`, or because the decoder refuses the file.
    """
    deadline = DecodeDeadline(limits.timeout_s)
    if header is None:
        header = inspect(data, limits)
    with decoder_faults():
        file, plugin = header.decodable(data), plugin_of(header.format)
        image = plugin(TimedReader(file, deadline))
        again = plugin(TimedReader(file, deadline)) if has_deep_key(image) else None
    # A GIF's own count would walk the whole file again, and a HEIC's counts images beside the one that it shows.
    frames = header.frames if header.format in {"gif", "heic"} else int(getattr(image, "n_frames", 1))
    if image.size != (header.width, header.height) or not 1 <= frames <= header.frames:
        image.close()
        raise ImageCorrupt(_DISAGREE)
    factor = 1
    if header.format == "png":
        scale_key(image)
    if header.format == "jpeg" and jpeg_factor > 1:
        image.draft(None, (header.width // jpeg_factor, header.height // jpeg_factor))
        factor = jpeg_factor
    if header.format == "avif":
        # AVIF turns images by its own properties, which libavif reports as an orientation.
        turned = read_orientation(image.info.get("exif", b"").removeprefix(b"Exif\0\0"))
        header = replace(header, orientation=turned)
    width, height = header.oriented_size
    durations_ms = (header.durations_ms + (shown_ms(0),) * frames)[:frames]
    sampler = FrameSampler(durations_ms, limits.sampled_frames, seed)
    info = ImageInfo(
        sha256=sha256_of(data) if hashed else "",
        format=header.format,
        width=width,
        height=height,
        frames=frames,
        frames_analyzed=0,
    )
    return DecodedImage(
        info, image, again, header.orientation, factor, durations_ms, sampler, limits.background, deadline
    )
