"""The list's faults of pictures, 1 to 11, 13 to 43 and 107: what is sent, what it must get. Made only when asked for.

``test_decode_faults.py`` gives each to the decoder, ``test_faults_pictures.py`` to the running stack.
"""

from __future__ import annotations

import functools
import importlib
import io
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from tests.support import awkward_images as make
from tests.support import icc_profiles as profiles
from tests.support.awkward_images import Pixels
from tests.support.drawings import shape
from tests.support.flat_jpeg import blown_up, flat_jpeg

CORRUPT, UNSUPPORTED, DIMENSIONS = "422 image_corrupt", "415 unsupported_image", "422 image_dimensions"
MANY_PIXELS, MANY_FRAMES, UNDECODABLE = (
    "422 image_too_many_pixels",
    "422 image_too_many_frames",
    "422 image_undecodable",
)
OK = "200"

Make = Callable[[], bytes]


@dataclass(frozen=True)
class Hostile:
    """One input.

    Attributes:
        number: in the list of faults.
        what: the input, in a few words.
        make: its bytes.
        outcomes: as ``tests.support.fault_table.outcome`` writes them; the first is that of a machine that is not
            overloaded.
        seen: uint8 [height, width, 3] that an accepted one shows, or None where it is arbitrary.
        confined: it is stopped by the limits of a decoder's process alone.
    """

    number: int
    what: str
    make: Make
    outcomes: tuple[str, ...]
    seen: Callable[[], Pixels] | None = None
    confined: bool = False

    @property
    def id(self) -> str:
        """Begins with the number."""
        return f"{self.number}-{self.what}"


@functools.cache
def jpeg() -> bytes:
    return make.plain("JPEG")


@functools.cache
def png() -> bytes:
    return make.plain("PNG")


@functools.cache
def webp() -> bytes:
    return make.plain("WEBP")


@functools.cache
def avif() -> bytes:
    return make.plain("AVIF")


@functools.cache
def drawing() -> Pixels:
    """Uint8 [64, 96, 3]: a red star to the left, nothing to the right, so that every turn of it looks different."""
    canvas = Image.new("RGB", (96, 64), "white")
    canvas.paste(shape("a red star", (64, 64)))
    canvas.paste(shape("a blue triangle", (32, 32)), (64, 0))
    return np.asarray(canvas)


def cut(whole: Make, percent: int) -> Make:
    return lambda: whole()[: len(whole()) * percent // 100]


def upright(stored: Pixels, orientation: int) -> Pixels:
    """Return what EXIF says is seen: the names of row 0 and column 0 of the stored picture (CIPA DC-008, table 6)."""
    turns = {
        1: lambda p: p,
        2: lambda p: p[:, ::-1],
        3: lambda p: p[::-1, ::-1],
        4: lambda p: p[::-1],
        5: lambda p: p.transpose(1, 0, 2),
        6: lambda p: p[::-1].transpose(1, 0, 2),
        7: lambda p: p[::-1, ::-1].transpose(1, 0, 2),
        8: lambda p: p[:, ::-1].transpose(1, 0, 2),
    }
    result: Pixels = turns.get(orientation, turns[1])(stored)
    return result


def from_inks(inks: Pixels) -> Pixels:
    """Return uint8 [h, w, 3] of inks [h, w, 4], 255 the most: what each ink and black leave of the paper's white."""
    left = 255 - inks.astype(np.int64)
    return ((2 * left[..., :3] * left[..., 3:] + 255) // 510).astype(np.uint8)


def over_white(rgb: Pixels, alpha: Pixels) -> Pixels:
    weight = alpha.astype(np.int64)[..., None]
    return ((rgb.astype(np.int64) * weight + 255 * (255 - weight) + 127) // 255).astype(np.uint8)


# --- the inputs ------------------------------------------------------------------------------------------------------


def flipped_idat_checksum() -> bytes:
    whole = bytearray(png())
    whole[whole.rindex(b"IEND") - 5] ^= 1
    return bytes(whole)


def real_heic() -> bytes:
    """Return a HEIC that is one."""
    out = io.BytesIO()
    samples = make.noise()
    importlib.import_module("pillow_heif").encode("RGB", (64, 48), samples.tobytes(), out, quality=50)
    return out.getvalue()


def inks() -> Pixels:
    """Uint8 [8, 12, 4]: the drawing's colours, one a block, separated so that black is used too."""
    small = np.asarray(Image.fromarray(drawing()).resize((12, 8), Image.Resampling.BOX))
    black = np.full(small.shape[:2], 30, np.uint8)
    return np.dstack([255 - small, black])


def cmyk(*, adobe: bool, profile: bool) -> bytes:
    data = flat_jpeg(255 - inks(), adobe=0 if adobe else None)
    body = profiles.split_into_segments(profiles.everything_grey())
    return make.jpeg_with(make.segment(0xE2, body), data=data) if profile else data


def palette_png(*chunks: bytes) -> bytes:
    colours, index = palette()
    return make.png(96, 64, make.rows(index), make.chunk(b"PLTE", colours.tobytes()), *chunks, colour=3)


@functools.cache
def palette() -> tuple[Pixels, Pixels]:
    """The drawing's colours [256, 3], reduced to 3 bits a channel, and the index [64, 96] of each pixel's."""
    reduced = drawing() >> 5
    codes, index = np.unique(reduced.reshape(-1, 3), axis=0, return_inverse=True)
    colours = np.zeros((256, 3), np.uint8)
    colours[: len(codes)] = codes << 5
    return colours, index.reshape(64, 96).astype(np.uint8)


def grey() -> Pixels:
    """Uint8 [64, 96]: the drawing's green channel."""
    return drawing()[..., 1]


def three(samples: Pixels) -> Pixels:
    return np.repeat(samples[..., None], 3, axis=2)


def halves() -> Pixels:
    """Uint8 [64, 96]: see-through to the right."""
    return np.repeat(np.where(np.arange(96) < 64, 255, 0)[None], 64, axis=0).astype(np.uint8)


def grey_alpha() -> bytes:
    return make.png(96, 64, make.rows(np.dstack([grey(), halves()])), colour=4)


def one_bit() -> bytes:
    return make.png(96, 64, make.rows(np.packbits(grey() > 127, axis=1)), depth=1, colour=0)


def deep(samples: Pixels, colour: int) -> bytes:
    """Return a PNG of 16-bit samples whose high bytes are the given ones, and whose low bytes are noise."""
    low = np.random.default_rng(3).integers(0, 256, samples.shape, dtype=np.uint16)
    return make.png(96, 64, make.rows((samples.astype(np.uint16) << 8) | low), depth=16, colour=colour)


def hidden() -> bytes:
    """Return the drawing under alpha 0: nothing is to be seen of it."""
    return make.png(96, 64, make.rows(np.dstack([drawing(), np.zeros((64, 96), np.uint8)])), colour=6)


@functools.cache
def flat_drawing() -> Pixels:
    """Uint8 [8, 12, 3]: the drawing, one colour a block of a JPEG."""
    return np.asarray(Image.fromarray(drawing()).resize((12, 8), Image.Resampling.BOX))


def turned(orientation: int) -> bytes:
    block = make.segment(0xE1, make.exif(orientation))
    return make.jpeg_with(block, data=flat_jpeg(flat_drawing(), adobe=0))


def late_frame(kind: str, frames: int = 40) -> bytes:
    """Return an animation of a blue square whose last frame is a red circle."""
    pictures = []
    for number in range(frames):
        picture = shape("a blue square" if number < frames - 1 else "a red circle", (64, 64))
        picture.putpixel((4 + number, 2), (90, 90, 90))  # no two alike: an encoder would make one frame of them
        pictures.append(picture)
    options = {"lossless": True} if kind == "WEBP" else {"quality": 90, "speed": 10} if kind == "AVIF" else {}
    return make.encode(pictures[0], kind, save_all=True, append_images=pictures[1:], duration=100, loop=0, **options)


# --- the list --------------------------------------------------------------------------------------------------------


def _broken() -> Iterator[Hostile]:
    yield Hostile(1, "a file of no bytes", bytes, ("400 empty_file",))
    others = make.other_formats()
    for name in ("random", "zeros", "text", "one byte", "riff wave"):
        yield Hostile(2, name, functools.partial(others.__getitem__, name), (UNSUPPORTED,))
    yield Hostile(2, "one NUL", lambda: bytes(1), (UNSUPPORTED,))
    yield Hostile(3, "JPEG signature alone", lambda: b"\xff\xd8\xff", (CORRUPT,))
    yield Hostile(3, "PNG signature alone", lambda: b"\x89PNG\r\n\x1a\n", (CORRUPT,))
    yield Hostile(3, "GIF signature alone", lambda: b"GIF89a", (CORRUPT,))
    yield Hostile(3, "WebP signature alone", lambda: b"RIFF\x10\0\0\0WEBP", (CORRUPT,))
    yield Hostile(3, "AVIF signature alone", lambda: avif()[:32], (CORRUPT,))
    yield Hostile(4, "IHDR checksum flipped", lambda: png()[:29] + bytes((png()[29] ^ 1,)) + png()[30:], (CORRUPT,))
    for percent in (10, 25, 50, 75, 90, 99):
        yield Hostile(5, f"JPEG cut at {percent} %", cut(jpeg, percent), (CORRUPT,))
    for percent in (1, 10, 50, 90, 99):
        yield Hostile(6, f"PNG cut at {percent} %", cut(png, percent), (CORRUPT,))
    yield Hostile(6, "PNG without IEND", lambda: png()[:-12], (CORRUPT,))
    yield Hostile(7, "JPEG without EOI", lambda: jpeg()[:-2], (CORRUPT,))
    yield Hostile(8, "half a WebP", cut(webp, 50), (CORRUPT,))
    yield Hostile(8, "half an AVIF", cut(avif, 50), (CORRUPT,))
    yield Hostile(8, "AVIF cut at 99 %", cut(avif, 99), (CORRUPT,))
    yield Hostile(8, "GIF cut at 70 %", cut(lambda: make.animation("GIF"), 70), (CORRUPT,))
    yield Hostile(9, "PNG with too few rows", lambda: make.png(64, 48, make.rows(make.noise(64, 20))), (CORRUPT,))
    yield Hostile(10, "PNG of width 0", lambda: make.png(0, 48, b""), (CORRUPT,))
    yield Hostile(10, "JPEG of height 0", lambda: make.jpeg_sized(64, 0), (CORRUPT,))
    yield Hostile(10, "JPEG of width 0", lambda: make.jpeg_sized(0, 48), (CORRUPT,))
    yield Hostile(10, "GIF of width 0 whose frame has one pixel", lambda: make.gif(1, 0, 50), (DIMENSIONS,))
    yield Hostile(10, "GIF frame of width 0", lambda: make.gif(1, 50, 50, box=(0, 0, 0, 1)), (CORRUPT,))
    yield Hostile(11, "GIF of no frames", lambda: make.gif(0, 50, 50), (CORRUPT,))
    yield Hostile(11, "APNG of no frames", lambda: make.apng(0, 0), (CORRUPT,))
    yield Hostile(11, "APNG of fewer frames than announced", lambda: make.apng(3, 2), (CORRUPT,))
    yield Hostile(11, "APNG of more frames than announced", _apng_of_many, (CORRUPT,))
    yield Hostile(11, "WebP without a picture", make.riff, (CORRUPT,))
    yield Hostile(13, "1 x 1", lambda: make.plain("PNG", 1, 1), (DIMENSIONS,))
    yield Hostile(14, "1 x 65535", lambda: make.png(1, 65535, make.rows(make.noise(1, 9))), (DIMENSIONS,))


def _bombs() -> Iterator[Hostile]:
    yield Hostile(15, "IHDR of 65500 x 65500", lambda: make.png(65500, 65500, b""), (MANY_PIXELS,))
    yield Hostile(15, "IHDR of 2^31-1", lambda: make.png(2**31 - 1, 2**31 - 1, b""), (MANY_PIXELS,))
    yield Hostile(16, "SOF of 9000 x 9000", lambda: make.jpeg_sized(9000, 9000), (MANY_PIXELS,))
    yield Hostile(17, "1-bit PNG of 10000 x 17000", lambda: make.one_bit_png(10000, 17000), (MANY_PIXELS,))
    yield Hostile(18, "lossless WebP of 16383 x 8000 in 34 bytes", lambda: make.vp8l(16383, 8000), (MANY_PIXELS,))
    yield Hostile(19, "VP8X of 16383 x 16383", lambda: make.vp8x(16383, 16383), (MANY_PIXELS,))
    yield Hostile(
        19, "AVIF container of 64 x 64, bitstream of 16384 x 16384", _lying_avif, (UNDECODABLE,), confined=True
    )
    yield Hostile(19, "AVIF ispe of 16384 x 16384", lambda: make.avif_that_says(16384, 16384, avif()), (MANY_PIXELS,))
    yield Hostile(19, "AVIF container a little larger", lambda: make.avif_that_says(65, 48, avif()), (OK,))
    yield Hostile(19, "AVIF container a little smaller", lambda: make.avif_that_says(60, 40, avif()), (OK,))
    yield Hostile(20, "GIF screen of 65535 x 65535", lambda: make.gif(1, 65535, 65535), (MANY_PIXELS,))
    yield Hostile(
        20, "GIF frame of 65535 x 65535", lambda: make.gif(1, 50, 50, box=(0, 0, 65535, 65535)), (MANY_PIXELS,)
    )
    yield Hostile(
        21, "progressive JPEG of 81 megapixels", lambda: make.jpeg_sized(9000, 9000, progressive=True), (MANY_PIXELS,)
    )
    yield Hostile(22, "zTXt bomb", lambda: make.png_with(_inflating(b"zTXt", 50_000_000)), (OK,))
    yield Hostile(23, "iCCP bomb", lambda: make.png_with(_inflating(b"iCCP", 50_000_000)), (OK,))
    yield Hostile(23, "5,000 iCCP of a megabyte", lambda: make.png_with(_inflating(b"iCCP", 1_000_000) * 5000), (OK,))
    yield Hostile(23, "IDAT checksum flipped", flipped_idat_checksum, (OK, CORRUPT))
    slow = (UNDECODABLE,)  # an answer within the deadline is what the list asks for
    yield Hostile(24, "100,000 text chunks", lambda: make.png_with(make.chunk(b"tEXt", b"k\0v") * 100_000), (OK, *slow))
    yield Hostile(25, "100,000 empty IDATs", lambda: make.png_with(make.chunk(b"IDAT") * 100_000), (OK, *slow))
    yield Hostile(25, "300,000 chunks", lambda: make.png_with(make.chunk(b"tEXt") * 300_000), (CORRUPT,))
    yield Hostile(
        25, "5,000 EXIF segments", lambda: make.jpeg_with(make.segment(0xE1, b"Exif\0\0a") * 5000), (CORRUPT,)
    )
    yield Hostile(25, "200 scans", lambda: make.scan_bomb(200), (CORRUPT,))
    yield Hostile(
        25, "50,000 GIF comments", lambda: make.gif(1, 50, 50)[:-1] + b"!\xfe\x01a\0" * 50_000 + b";", (CORRUPT,)
    )
    yield Hostile(26, "GIF of 100,000 frames", lambda: make.gif(100_000, 100, 100), (MANY_FRAMES,))
    yield Hostile(27, "GIF of 5,000 frames, 4000 x 4000", lambda: make.gif(5000, 4000, 4000), (MANY_FRAMES,))
    yield Hostile(27, "GIF of 501 frames", lambda: make.gif(501, 40, 40), (MANY_FRAMES,))
    yield Hostile(27, "GIF of 500 frames", lambda: make.gif(500, 40, 40), (OK,))
    yield Hostile(27, "AVIF of 501 frames", lambda: make.animation("AVIF", 501, size=(32, 32)), (MANY_FRAMES,))
    yield Hostile(27, "WebP of 501 frames", lambda: make.animation("WEBP", 501, size=(32, 32)), (MANY_FRAMES,))
    yield Hostile(27, "APNG of 501 frames", lambda: make.apng(501, 501), (MANY_FRAMES,))


def _lying_avif() -> bytes:
    return make.avif_that_says(64, 64, make.avif_of_268_megapixels())


@functools.cache
def _apng_of_many() -> bytes:
    return make.apng(1, 400)


def _inflating(kind: bytes, size: int) -> bytes:
    return make.chunk(kind, b"k\0\0" + zlib.compress(bytes(size)))


def _colours() -> Iterator[Hostile]:
    def colours_of_inks() -> Pixels:
        return from_inks(blown_up(inks()))

    def light_grey() -> Pixels:
        return np.full_like(colours_of_inks(), 194)

    for adobe, marker in ((True, "Adobe's CMYK JPEG"), (False, "CMYK JPEG without Adobe's marker")):
        for profile, with_it in ((False, ""), (True, " with an ICC profile")):
            data = functools.partial(cmyk, adobe=adobe, profile=profile)
            yield Hostile(29, marker + with_it, data, (OK,), light_grey if profile else colours_of_inks)
    yield Hostile(30, "palette", palette_png, (OK,), lambda: palette()[0][palette()[1]])
    yield Hostile(30, "palette with tRNS", lambda: palette_png(make.chunk(b"tRNS", b"\0")), (OK,), _first_colour_clear)
    yield Hostile(30, "grey with alpha", grey_alpha, (OK,), lambda: over_white(three(grey()), halves()))
    yield Hostile(30, "1 bit", one_bit, (OK,), lambda: three(np.where(grey() > 127, 255, 0).astype(np.uint8)))
    yield Hostile(31, "16-bit grey", lambda: deep(grey(), 0), (OK,), lambda: three(grey()))
    yield Hostile(31, "16-bit RGB", lambda: deep(drawing(), 2), (OK,), drawing)
    yield Hostile(
        31,
        "16-bit grey with alpha",
        lambda: deep(np.dstack([grey(), halves()]), 4),
        (OK,),
        lambda: over_white(three(grey()), halves()),
    )
    yield Hostile(
        31,
        "16-bit RGBA",
        lambda: deep(np.dstack([drawing(), halves()]), 6),
        (OK,),
        lambda: over_white(drawing(), halves()),
    )
    yield Hostile(32, "a drawing under alpha 0", hidden, (OK,), lambda: np.full((64, 96, 3), 255, np.uint8))
    for orientation in range(11):
        yield Hostile(
            33,
            f"EXIF orientation {orientation}",
            functools.partial(turned, orientation),
            (OK,),
            functools.partial(lambda turn: upright(blown_up(flat_drawing()), turn), orientation),
        )


def _first_colour_clear() -> Pixels:
    colours, index = palette()
    return over_white(colours[index], np.where(index == 0, 0, 255).astype(np.uint8))


def _metadata() -> Iterator[Hostile]:
    flat = functools.partial(flat_jpeg, flat_drawing(), adobe=0)

    def jpeg_with(*segments: bytes) -> Make:
        return lambda: make.jpeg_with(*segments, data=flat())

    def seen() -> Pixels:
        return blown_up(flat_drawing())

    def drawn(**options: bytes) -> bytes:
        return make.encode(Image.fromarray(drawing()), "WEBP", lossless=True, **options)

    def drawn_png(*chunks: bytes) -> bytes:
        return make.png(96, 64, make.rows(drawing()), *chunks)

    garbage = make.segment(0xE1, b"Exif\0\0" + bytes(range(99)))
    far = make.segment(0xE1, b"Exif\0\0II*\0\xff\xff\xff\x7f")
    yield Hostile(34, "EXIF garbage", jpeg_with(garbage), (OK,), seen)
    loop = make.segment(0xE1, make.looping_exif())
    yield Hostile(34, "EXIF directory that is its own next one", jpeg_with(loop), (OK,), seen)
    yield Hostile(34, "EXIF directory beyond the end", jpeg_with(far), (OK,), seen)
    yield Hostile(34, "EXIF loop in an AVIF", lambda: make.plain("AVIF", exif=make.looping_exif()), (OK,))
    junk = make.segment(0xE2, profiles.split_into_segments(b"junk"))
    yield Hostile(35, "corrupt ICC in a JPEG", jpeg_with(junk), (OK,), seen)
    compressed_junk = make.chunk(b"iCCP", b"k\0\0" + zlib.compress(b"junk"))
    yield Hostile(35, "corrupt ICC in a PNG", lambda: drawn_png(compressed_junk), (OK,), drawing)
    yield Hostile(35, "corrupt ICC in a WebP", lambda: drawn(icc_profile=b"junk"), (OK,), drawing)
    real = make.segment(0xE2, profiles.split_into_segments(profiles.swapped_primaries()))
    yield Hostile(35, "an ICC profile that exchanges red and blue, JPEG", jpeg_with(real), (OK,))
    others = make.other_formats()
    for number, names in {
        37: ("svg", "svgz", "entity bomb"),
        38: ("pdf", "eps", "html", "zip"),
        39: ("tiff", "psd", "ico", "jp2", "fits", "bmp", "mp4"),
        40: ("heic", "heic behind mif1"),
        41: ("gzipped png",),
    }.items():
        for name in names:
            yield Hostile(number, name, functools.partial(others.__getitem__, name), (UNSUPPORTED,))
    yield Hostile(40, "a whole HEIC", real_heic, (UNSUPPORTED,))
    script = b"<html><script>alert(1)</script></html>"
    yield Hostile(42, "JPEG and ZIP in one", lambda: flat() + others["zip"], (OK,), seen)
    yield Hostile(42, "PNG and HTML in one", lambda: drawn_png() + script, (OK,), drawing)
    yield Hostile(42, "JPEG with a comment of HTML", jpeg_with(make.segment(0xFE, script)), (OK,), seen)
    # The cap of a file is 10 MiB, 10,485,760 bytes: there is room for a tail of 10 MB.
    yield Hostile(42, "JPEG with a tail of 10,000,000 bytes", lambda: flat() + bytes(10_000_000), (OK,), seen)
    yield Hostile(42, "WebP with a tail", lambda: drawn() + bytes(1000), (OK,), drawing)
    yield Hostile(42, "GIF with a tail", lambda: make.gif(1, 50, 50) + bytes(1000), (OK,))
    yield Hostile(43, "MPO: its first picture", make.mpo, (OK,), lambda: np.full((48, 64, 3), (254, 0, 0), np.uint8))


def _unseen() -> Iterator[Hostile]:
    def with_marker(*codes: int) -> Make:
        def made() -> bytes:
            data = make.encode(Image.fromarray(drawing()), "JPEG", quality=95, restart_marker_rows=1)
            at = data.index(b"\xff\xd0", data.index(b"\xff\xda"))
            return data[:at] + bytes(codes) + data[at:]

        return made

    def seen() -> Pixels:
        with Image.open(io.BytesIO(with_marker()())) as picture:
            return np.asarray(picture)

    yield Hostile(107, "reserved marker before a restart", with_marker(0xFF, 0x9F, 0, 2), (OK,), seen)
    yield Hostile(107, "TEM before a restart", with_marker(0xFF, 0x01), (OK,), seen)
    yield Hostile(107, "a second SOI before a restart", with_marker(0xFF, 0xD8), (CORRUPT,))
    yield Hostile(107, "JPG0 with a body before a restart", with_marker(0xFF, 0xF0, 0, 4, 1, 2), (CORRUPT,))


def hostile_pictures() -> tuple[Hostile, ...]:
    """Return all of them, by number; nothing large is made yet."""
    return (*_broken(), *_bombs(), *_colours(), *_metadata(), *_unseen())
