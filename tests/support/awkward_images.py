"""Awkward pictures, made in code: each function says what is wrong with its result."""

from __future__ import annotations

import base64
import gzip
import io
import struct
import zipfile
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]


def noise(width: int = 64, height: int = 48, *, channels: int = 3, seed: int = 7) -> Pixels:
    """Return uint8 [height, width, channels], every value equally likely."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def encode(picture: Image.Image, kind: str, **options: Any) -> bytes:
    """Return the bytes of a picture saved by Pillow."""
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def plain(kind: str, width: int = 64, height: int = 48, **options: Any) -> bytes:
    """Return a valid picture with nothing wrong."""
    return encode(Image.fromarray(noise(width, height)), kind, **options)


def animation(kind: str, frames: int = 6, *, size: tuple[int, int] = (64, 48), duration_ms: int = 100) -> bytes:
    """Return an animation whose frame k is all (40 k, 0, 200)."""
    pictures = [Image.new("RGB", size, (40 * k % 256, 0, 200)) for k in range(frames)]
    lossless = {"lossless": True} if kind == "WEBP" else {"quality": 100} if kind == "AVIF" else {}
    return encode(
        pictures[0], kind, save_all=True, append_images=pictures[1:], duration=duration_ms, loop=0, **lossless
    )


def exif(orientation: int) -> bytes:
    """Return an EXIF block that holds an orientation and nothing else."""
    return b"Exif\0\0II*\0" + struct.pack("<LHHHLHHL", 8, 1, 0x0112, 3, 1, orientation, 0, 0)


def looping_exif() -> bytes:
    """Return an EXIF block whose first directory points at itself as the next one."""
    return b"Exif\0\0II*\0" + struct.pack("<LHHHLLL", 8, 1, 0x8769, 4, 1, 8, 8)


# --- PNG -------------------------------------------------------------------------------------------------------------


def chunk(kind: bytes, body: bytes = b"") -> bytes:
    """Return one PNG chunk."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def ihdr(width: int, height: int, *, depth: int = 8, colour: int = 2) -> bytes:
    """Return a PNG header chunk."""
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))


def png(width: int, height: int, raw: bytes, *chunks: bytes, depth: int = 8, colour: int = 2) -> bytes:
    """Return a PNG of unfiltered rows (each with its leading zero byte), with more chunks before the data."""
    head = b"\x89PNG\r\n\x1a\n" + ihdr(width, height, depth=depth, colour=colour)
    return head + b"".join(chunks) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND")


def rows(samples: npt.NDArray[Any]) -> bytes:
    """Return unfiltered PNG rows of samples [height, width, ...]; 16-bit samples become big-endian."""
    wide = samples.astype(samples.dtype.newbyteorder(">"))
    return b"".join(b"\0" + row.tobytes() for row in wide)


def png_with(*chunks: bytes) -> bytes:
    """Return a valid small PNG with more chunks before its data."""
    return png(64, 48, rows(noise()), *chunks)


def one_bit_png(width: int, height: int) -> bytes:
    """Return a PNG of one bit a pixel, all black: a few KB for a huge picture."""
    return png(width, height, bytes((1 + (width + 7) // 8) * height), depth=1, colour=0)


def apng(announced: int, held: int) -> bytes:
    """Return an animated PNG that announces one number of frames and holds another."""
    data = chunk(b"IDAT", zlib.compress(rows(noise())))
    control = struct.pack(">IIIIHHBB", 64, 48, 0, 0, 1, 10, 0, 0)
    body, sequence = b"", 0
    for index in range(held):
        body += chunk(b"fcTL", struct.pack(">I", sequence) + control)
        sequence += 1
        if index == 0:
            body += data
        else:
            body += chunk(b"fdAT", struct.pack(">I", sequence) + zlib.compress(rows(noise(seed=index))))
            sequence += 1
    start = b"\x89PNG\r\n\x1a\n" + ihdr(64, 48) + chunk(b"acTL", struct.pack(">II", announced, 0))
    return start + (body if held else data) + chunk(b"IEND")


# --- JPEG ------------------------------------------------------------------------------------------------------------


def jpeg_sized(width: int, height: int, **options: Any) -> bytes:
    """Return a JPEG whose frame header claims another size than its data has."""
    data = bytearray(plain("JPEG", **options))
    at = next(k for k in range(len(data)) if data[k] == 0xFF and data[k + 1] in {0xC0, 0xC2})
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def segment(marker: int, body: bytes) -> bytes:
    """Return one JPEG segment."""
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


def jpeg_with(*segments: bytes, data: bytes | None = None) -> bytes:
    """Return a JPEG with more segments right behind its start."""
    data = data or plain("JPEG")
    return data[:2] + b"".join(segments) + data[2:]


def scan_bomb(scans: int) -> bytes:
    """Return a progressive JPEG whose last scan comes again and again."""
    data = plain("JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * scans + b"\xff\xd9"


def mpo() -> bytes:
    """Return a multi-picture file: two JPEGs, the first red, the second blue."""
    second = Image.new("RGB", (64, 48), (0, 0, 255))
    return encode(Image.new("RGB", (64, 48), (255, 0, 0)), "MPO", save_all=True, append_images=[second])


# --- GIF -------------------------------------------------------------------------------------------------------------


def gif(frames: int, width: int, height: int, *, box: tuple[int, int, int, int] = (0, 0, 1, 1)) -> bytes:
    """Return a GIF of single-pixel frames on a canvas of any size, 23 bytes a frame."""
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    frame = b"!\xf9\x04\x00\x0a\x00\x00\x00" + b"," + struct.pack("<HHHHB", *box, 0) + b"\x02\x02\x44\x01\x00"
    return head + frame * frames + b";"


# --- WebP ------------------------------------------------------------------------------------------------------------


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    """Return a WebP of the given chunks."""
    body = b"WEBP" + b"".join(
        kind + struct.pack("<I", len(data)) + data + (b"\0" if len(data) & 1 else b"") for kind, data in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


def vp8l(width: int, height: int) -> bytes:
    """Return a lossless WebP of one colour: five bits of code for any size."""
    bits = (width - 1) | (height - 1) << 14
    return riff((b"VP8L", b"\x2f" + struct.pack("<I", bits) + b"\x88\x88\x08\x00"))


def vp8x(width: int, height: int) -> bytes:
    """Return a WebP whose extended header claims a canvas, around a small picture."""
    inner = plain("WEBP")
    kind, length = inner[12:16], struct.unpack("<I", inner[16:20])[0]
    canvas = b"\0\0\0\0" + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return riff((b"VP8X", canvas), (kind, inner[20 : 20 + length]))


# --- AVIF ------------------------------------------------------------------------------------------------------------


def avif_that_says(width: int, height: int, data: bytes) -> bytes:
    """Return an AVIF whose container states another size than its bitstream."""
    at = data.index(b"ispe") + 8
    return data[:at] + struct.pack(">II", width, height) + data[at + 8 :]


_RED_268_MEGAPIXELS = (
    "c-muNU{FXasVqn=%S>Yc0uY^>nP!-qnV9D5Xy^nKdYzkElE?r7iWw<6MNl?FL1uCZ0~+8f$SlbPvlxL`E;A=T8N_h`@fjhajKT~IJbQs"
    "`jm*rvG`LzRASaax%1bOWFm%q($p_n&m03_!0HnP$3zGAJv`A)gK`O*L2PkF`D9EhH1TmO7I5>b5Phy#&bE7;DNJuz2Kc^@!Ii~_>GA{"
    "#L15ijjvmh7dC!oVv7@3+`fSQixrX-dKF>rCqf3N@l|L-CuDP9hv)shmzf)5{-mt6KW*th}cw)3Ynk5Bo^x>eTM>6^*p_$41|V%m>bX8"
    "vXP5wPgkw0R6Y&N5wpon21MKW=1|b6}dQ_s+T1Hr|p)eU~ZSvzo9r`kBIB?$gPy*8AU8`~7j{vqLU#OgrxsTgBvwaa~KQon#b$Ao=_$m"
    "uQDZ+r`@&Z#~-ExMcsw=o?>T_61}JTq)w$Fqh_8>1?dz>Y%YqH#g_Trt`TE{`|hpb;_##*4}Vlu|Dg2HBp`Q>%5Ak1ZFq(Z##1=o^$fL"
    "zz$2VHS>>_9}>6`Zy~j{CZ=K3l2J=WEg7|B)RIw4MlBh&WYm&TOGYiBp(XUN0|3)RUIh"
)


def avif_of_268_megapixels() -> bytes:
    """Return an AVIF of 16384 x 16384 in 3,536 bytes, all red: as large as dav1d takes them."""
    return zlib.decompress(base64.b85decode(_RED_268_MEGAPIXELS))


# --- other formats ---------------------------------------------------------------------------------------------------


def other_formats() -> dict[str, bytes]:
    """Return files of formats that are not accepted, by name."""
    svg = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'
    lol = b'<!DOCTYPE l [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]><svg>&b;&b;&b;</svg>'
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("a.png", plain("PNG"))
    return {
        "svg": svg,
        "svgz": gzip.compress(svg),
        "entity bomb": lol,
        "pdf": encode(Image.fromarray(noise()), "PDF"),
        "eps": encode(Image.fromarray(noise()), "EPS"),
        "html": b"<!doctype html><html><body>hello</body></html>",
        "zip": zipped.getvalue(),
        "tiff": plain("TIFF"),
        "psd": b"8BPS\0\x01" + bytes(6) + struct.pack(">HIIHH", 3, 48, 64, 8, 3) + bytes(64),
        "ico": plain("ICO"),
        "jp2": plain("JPEG2000"),
        "bmp": plain("BMP"),
        "fits": b"SIMPLE  =                    T" + bytes(2850),
        "heic": struct.pack(">I", 24) + b"ftypheic\0\0\0\0mif1heic" + bytes(200),
        "heic behind mif1": struct.pack(">I", 24) + b"ftypmif1\0\0\0\0mif1heic" + bytes(200),
        "mp4": struct.pack(">I", 24) + b"ftypisom\0\0\0\0isomavc1" + bytes(200),
        "gzipped png": gzip.compress(plain("PNG")),
        "random": bytes(noise(50, 20)),
        "zeros": bytes(2000),
        "text": b"this is not a picture " * 20,
        "one byte": b"\xff",
        "riff wave": b"RIFF\x24\0\0\0WAVEfmt " + bytes(30),
    }
