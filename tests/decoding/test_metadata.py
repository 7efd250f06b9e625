"""Metadata that is broken, huge or unknown refuses no image and changes no pixel: the table in docs/formats.md."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Callable, Iterator

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from gateway.decoding.decoder import inspect
from tests.conftest import ROOT
from tests.decoding.test_viewers import BASELINE, FLAT, GREY, LIMITS, ROWS, code_of, gif_frame, interlaced, shown
from tests.support import awkward_images as make

JUNK = b"junk" * 9
INFLATES = b"k\0\0" + zlib.compress(bytes(3 << 20))
HUGE = bytes(3 << 19)  # 1.5 MiB
TIFF = b"II*\0" + struct.pack("<LHHHL4sL", 8, 1, 0x0131, 2, 4, b"abc\0", 0)  # the software's name and nothing else
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)
PICTURE = Image.fromarray(FLAT)
PLAIN_PNG = make.png(96, 64, ROWS)
PLAIN_WEBP = make.encode(PICTURE, "WEBP", lossless=True)
PLAIN_GIF = (
    b"GIF89a" + struct.pack("<HHBBB", 96, 64, 0x81, 0, 0) + bytes((0, 0, 0, 255, 255, 255, 128, 128, 128, 9, 9, 9))
)


def turn(kind: int, count: int = 1) -> bytes:
    """Return a TIFF block whose orientation 6 has this field type: 1 BYTE, 3 SHORT, 4 LONG."""
    return b"II*\0" + struct.pack("<LHHHLLL", 8, 1, 0x0112, kind, count, 6, 0)


def png_with(*kinds: bytes) -> Iterator[bytes]:
    for kind in kinds:
        whole = [make.chunk(kind, body) for body in (b"", b"\0", JUNK, INFLATES, HUGE)]
        for chunk in (*whole, whole[2][:-1] + b"?"):
            yield make.png(96, 64, ROWS, chunk, chunk)
            yield PLAIN_PNG[:-12] + chunk + PLAIN_PNG[-12:]


def png_exif() -> Iterator[bytes]:
    yield from png_with(b"eXIf")
    for tiff in (turn(4), turn(1), turn(3, 2), make.looping_exif()[6:]):
        yield make.png(96, 64, ROWS, make.chunk(b"eXIf", tiff))
    right = make.chunk(b"eXIf", turn(3))
    yield make.png(96, 64, ROWS, right[:-1] + bytes([right[-1] ^ 1]))


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def png_checksums() -> Iterator[bytes]:
    head, end = PLAIN_PNG[:33], make.chunk(b"IEND")
    packed = zlib.compress(ROWS)
    yield head + flipped(make.chunk(b"IDAT", packed)) + end
    yield head + make.chunk(b"IDAT", packed) + flipped(end)
    yield head + make.chunk(b"IDAT", flipped(packed)) + end
    yield head + make.chunk(b"IDAT", packed[:-4]) + end
    yield head + b"".join(make.chunk(b"IDAT", bytes([byte])) for byte in flipped(packed)) + end
    start = make.chunk(b"IHDR", struct.pack(">IIBBBBB", 96, 64, 8, 2, 0, 0, 1))
    yield head[:8] + start + make.chunk(b"IDAT", flipped(zlib.compress(interlaced(FLAT)))) + end


def jpeg_before() -> Iterator[bytes]:
    exif = b"Exif\0\0"
    for marker in (*range(0xE0, 0xF0), 0xFE):
        for body in (b"", JUNK, HUGE[:60_000]):
            yield make.jpeg_with(*[make.segment(marker, body)] * (30 if len(body) > 1000 else 1), data=BASELINE)
    for body in (exif + turn(4), exif + turn(1), exif + turn(3, 2), make.looping_exif(), exif + JUNK):
        yield make.jpeg_with(make.segment(0xE1, body), data=BASELINE)
    yield make.jpeg_with(make.segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP), data=BASELINE)


def jpeg_behind() -> Iterator[bytes]:
    for marker in (0xE0, 0xE1, 0xE2, 0xED, 0xFE):
        for body in (b"", JUNK, HUGE[:60_000], make.exif(6)):
            yield BASELINE[:-2] + make.segment(marker, body) * (30 if len(body) > 1000 else 1) + BASELINE[-2:]


def webp_with(flags: int, *chunks: tuple[bytes, bytes]) -> bytes:
    picture = PLAIN_WEBP[20 : 20 + struct.unpack_from("<I", PLAIN_WEBP, 16)[0]]
    head = bytes([flags, 0, 0, 0]) + (95).to_bytes(3, "little") + (63).to_bytes(3, "little")
    before = [chunk for chunk in chunks if chunk[0] == b"ICCP"]
    behind = [chunk for chunk in chunks if chunk[0] != b"ICCP"]
    return make.riff((b"VP8X", head), *before, (PLAIN_WEBP[12:16], picture), *behind)


def webp_parts() -> Iterator[bytes]:
    for flags, kind in ((0x20, b"ICCP"), (4, b"XMP "), (0, b"zzzz")):
        for body in (b"", JUNK, HUGE, XMP):
            yield webp_with(flags, (kind, body))
            yield webp_with(0, (kind, body))


def webp_exif() -> Iterator[bytes]:
    for body in (b"", JUNK, HUGE, turn(4), turn(1), turn(3, 2), make.looping_exif()[6:]):
        yield webp_with(8, (b"EXIF", body))
    yield webp_with(0, (b"EXIF", turn(3)))


def sub_blocks(body: bytes) -> bytes:
    return b"".join(bytes([len(body[at : at + 255])]) + body[at : at + 255] for at in range(0, len(body), 255)) + b"\0"


def gif_extensions() -> Iterator[bytes]:
    for body in (b"\1", JUNK, HUGE):
        for lead in (
            b"!\xfe",
            b"!\xff\x0bNETSCAPE2.0",
            b"!\xff\x0bICCRGBG1012",
            b"!\xff\x03abc",
            b"!\x01\x0c" + bytes(12),
        ):
            yield PLAIN_GIF + lead + sub_blocks(body) + gif_frame(GREY) + lead + sub_blocks(body) + b";"


def gif_screens() -> Iterator[bytes]:
    for size in ((0, 0), (0, 64), (96, 0), (40, 30), (1, 1)):
        screen = PLAIN_GIF[:6] + struct.pack("<HH", *size) + PLAIN_GIF[10:]
        yield screen + gif_frame(GREY) + b";"
    yield PLAIN_GIF + gif_frame(GREY) + gif_frame(GREY, (90, 60, 60, 40)) + b";"


def avif_parts() -> Iterator[bytes]:
    whole = make.encode(PICTURE, "AVIF", exif=TIFF)
    at = whole.rindex(b"II*\0")
    yield whole
    yield whole[: at + 8] + b"\xff\xff" + whole[at + 10 :]  # entries beyond the end
    yield whole[: at + 4] + b"\xff\xff\xff\x7f" + whole[at + 8 :]  # a directory there
    yield whole[: at + 10] + turn(3)[10:22] + whole[at + 22 :]  # a turn that no box announces
    for xmp in (XMP, JUNK, HUGE):
        yield make.encode(PICTURE, "AVIF", xmp=xmp)


def heic_parts() -> Iterator[bytes]:
    for exif, xmp in ((b"Exif\0\0" + TIFF, XMP), (JUNK, JUNK), (JUNK, HUGE), (HUGE, XMP)):
        # The library that writes it would turn the image by its XMP, so the turn is put in afterwards.
        yield heic(exif=exif, xmp=xmp.replace(b'"6"', b'"1"')).replace(b'Orientation="1"', b'Orientation="6"')


def heic(**metadata: bytes) -> bytes:
    out = io.BytesIO()
    pillow_heif.from_pillow(PICTURE).save(out, quality=90, **metadata)
    return out.getvalue()


TEXTS = (b"tEXt", b"zTXt", b"iTXt")
COLOURS = (b"iCCP", b"cICP", b"sRGB", b"gAMA", b"cHRM")
OTHERS = (b"pHYs", b"tIME", b"hIST", b"sPLT", b"zzZz")
CASES: dict[str, tuple[Callable[[], bytes], Callable[[], Iterator[bytes]]]] = {
    "PNG `tEXt`, `zTXt`, `iTXt`": (lambda: PLAIN_PNG, lambda: png_with(*TEXTS)),
    "PNG `pHYs`, `tIME`, `hIST`, `sPLT`, unknown ancillary": (lambda: PLAIN_PNG, lambda: png_with(*OTHERS)),
    "PNG `iCCP`, `cICP`, `sRGB`, `gAMA`, `cHRM`": (lambda: PLAIN_PNG, lambda: png_with(*COLOURS)),
    "PNG `eXIf` before the data": (lambda: PLAIN_PNG, png_exif),
    "PNG checksum of `IDAT`, of its zlib stream, of `IEND`": (lambda: PLAIN_PNG, png_checksums),
    "JPEG `APPn`, `COM` before the first scan": (lambda: BASELINE, jpeg_before),
    "JPEG `APPn`, `COM` behind it": (lambda: BASELINE, jpeg_behind),
    "WebP `ICCP`, `XMP`, unknown": (lambda: PLAIN_WEBP, webp_parts),
    "WebP `EXIF`": (lambda: PLAIN_WEBP, webp_exif),
    "GIF comment, application, plain text": (lambda: PLAIN_GIF + gif_frame(GREY) + b";", gif_extensions),
    "GIF logical screen of 0 x 0, or smaller than the first frame": (
        lambda: PLAIN_GIF + gif_frame(GREY) + b";",
        gif_screens,
    ),
    "AVIF `Exif`, XMP": (lambda: make.encode(PICTURE, "AVIF"), avif_parts),
    "HEIC `Exif`, XMP": (heic, heic_parts),
}


def test_each_row_of_the_table_is_tested() -> None:
    table = re.findall(
        r"^\| (PNG|JPEG|WebP|GIF|AVIF|HEIC) \| (.+?) \|", (ROOT / "docs/formats.md").read_text(), re.MULTILINE
    )
    assert [" ".join(row) for row in table] == list(CASES)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("row", CASES)
def test_22_what_is_broken_or_huge_beside_an_image_changes_no_pixel(row: str) -> None:
    plain, variants = CASES[row]
    whole = shown(plain())
    for number, data in enumerate(variants()):
        assert code_of(data) == "ok", number
        assert np.array_equal(shown(data), whole), number


def test_texts_reach_no_decoder_and_an_avif_reaches_it_whole() -> None:
    for data in (*png_with(*TEXTS, *OTHERS), *png_exif()):
        assert JUNK not in inspect(data, LIMITS).decodable(data)
    for data in jpeg_before():
        assert JUNK not in inspect(data, LIMITS).decodable(data)
    for data in (*webp_parts(), *gif_extensions(), *avif_parts()):
        assert inspect(data, LIMITS).decodable(data) == data


def test_what_the_page_names_as_refused_is() -> None:
    whole = make.encode(PICTURE, "AVIF", exif=TIFF)
    at = whole.rindex(b"II*\0")
    assert code_of(whole[:at] + b"JUNK" + whole[at + 4 :]) == "image_corrupt"
    packed = flipped(zlib.compress(ROWS)) + b"behind it"
    assert code_of(PLAIN_PNG[:33] + make.chunk(b"IDAT", packed) + make.chunk(b"IEND")) == "image_corrupt"
    assert code_of(PLAIN_GIF + b"!\xff\x0bNETSCAPE2.0\0" + gif_frame(GREY) + b";") == "image_corrupt"
    short = flipped(zlib.compress(ROWS[:-289]))
    assert code_of(PLAIN_PNG[:33] + make.chunk(b"IDAT", short) + make.chunk(b"IEND")) == "image_corrupt"
