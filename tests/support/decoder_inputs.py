"""Whole pictures, one for each way that a decoder can go, by name; those of the fuzzing corpus are among them."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from tests.decoding.test_known_pixels import interlaced
from tests.support import awkward_images as make
from tests.support import icc_profiles as profiles
from tests.support.flat_jpeg import flat_jpeg
from tests.support.heic_files import heic

CORPUS = Path(__file__).parents[1] / "corpus"
Named = Iterator[tuple[str, bytes]]

ORIENTED = b"Exif\0\0MM\0*" + struct.pack(">LH", 8, 3)
ORIENTED += struct.pack(">HHLL", 0x010F, 2, 4, 0x61626300) + struct.pack(">HHLHH", 0x0112, 3, 1, 6, 0)
ORIENTED += struct.pack(">HHLLL", 0x8769, 4, 1, 8, 0)
"""EXIF with a text, an orientation and a directory that points back at the first one."""

EXIF = {
    **{f"orientation {turn}": make.exif(turn) for turn in range(1, 9)},
    "loop": make.looping_exif(),
    "more": ORIENTED,
    "cut": ORIENTED[:30],
    "nonsense": b"Exif\0\0" + bytes(make.noise(10, 10))[:200],
}


def icc_profiles() -> dict[str, bytes]:
    """Return ICC profiles, whole and broken."""
    made = {kind: ImageCms.ImageCmsProfile(ImageCms.createProfile(kind)).tobytes() for kind in ("sRGB", "LAB", "XYZ")}
    swapped = profiles.swapped_primaries()
    return {
        **made,
        "swapped": swapped,
        "inks": profiles.everything_grey(),
        "grey": swapped.replace(b"mntrRGB ", b"mntrGRAY").replace(b"gTRC", b"kTRC"),
        "cut": swapped[:200],
        "nonsense": bytes(make.noise(20, 20)),
    }


def whole() -> dict[str, bytes]:
    """Return all of them but HEIC."""
    return dict(itertools.chain(_saved(), _jpegs(), _pngs(), _moving(), _turned_avifs(), _kept()))


def _picture(mode: str) -> Image.Image:
    channels = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4, "YCbCr": 3}
    samples = make.noise(channels=channels.get(mode, 3))
    return Image.fromarray(samples.squeeze(), mode if mode in channels else "RGB").convert(mode)


def _saved() -> Named:
    """All modes, EXIF blocks and profiles that each format can be saved with."""
    modes = {
        "JPEG": ("L", "RGB", "CMYK", "YCbCr"),
        "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
        "GIF": ("1", "L", "P", "RGB", "RGBA"),
        "WEBP": ("L", "RGB", "RGBA"),
        "AVIF": ("L", "LA", "RGB", "RGBA"),
    }
    for kind, each in modes.items():
        for mode in each:
            yield f"{kind} {mode}", make.encode(_picture(mode), kind)
        if kind == "GIF":
            continue
        for name, block in EXIF.items():
            # Pillow parses what an AVIF is saved with.
            if kind != "AVIF" or name.startswith("orientation"):
                yield f"{kind} EXIF {name}", make.plain(kind, exif=block)
        for (name, profile), mode in itertools.product(icc_profiles().items(), each):
            yield f"{kind} {mode} ICC {name}", make.encode(_picture(mode), kind, icc_profile=profile)
    for mode, index in itertools.product(("P", "L"), (0, 3)):
        yield f"GIF {mode} clear {index}", make.encode(_picture(mode), "GIF", transparency=index)
    yield "WEBP lossless", make.plain("WEBP", lossless=True)
    yield "WEBP lossless alpha", make.encode(_picture("RGBA"), "WEBP", lossless=True)
    for kind in ("WEBP", "AVIF", "PNG"):
        yield f"{kind} XMP", make.plain(kind, xmp=b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a/></x:xmpmeta>')
    for subsampling in ("4:4:4", "4:2:2", "4:2:0", "4:0:0"):
        yield f"AVIF {subsampling}", make.plain("AVIF", subsampling=subsampling, range="limited")


def _jpegs() -> Named:
    for components, adobe in itertools.product((1, 3, 4), (None, 0, 1, 2)):
        data = flat_jpeg(make.noise(12, 8, channels=components), adobe=adobe)
        yield f"JPEG of {components}, Adobe {adobe}", data
        body = profiles.split_into_segments(profiles.everything_grey())
        yield f"JPEG of {components}, Adobe {adobe}, ICC", make.jpeg_with(make.segment(0xE2, body), data=data)
    for subsampling, progressive in itertools.product((0, 1, 2), (False, True)):
        options = {"subsampling": subsampling, "progressive": progressive}
        yield f"JPEG {options}", make.plain("JPEG", 200, 150, **options)
    yield "JPEG optimized", make.plain("JPEG", optimize=True)
    yield "JPEG with restarts", make.plain("JPEG", restart_marker_rows=1)
    yield "JPEG of 1500 x 1100", make.plain("JPEG", 1500, 1100, quality=30)
    yield "JPEG with a comment", make.plain("JPEG", comment=b"\xff\xfe\xe9")
    yield "JPEG without density", make.jpeg_with(make.segment(0xE1, ORIENTED), data=flat_jpeg(make.noise(8, 8)))
    yield (
        "JPEG with Photoshop's",
        make.jpeg_with(make.segment(0xED, b"Photoshop 3.0\0" + b"8BIM\x03\xed\0\0\0\0\0\x10")),
    )
    yield "MPO", make.mpo()


def _pngs() -> Named:
    for colour, channels in ((0, 1), (2, 3), (4, 2), (6, 4)):
        for depth in (8, 16):
            samples = make.noise(channels=channels).astype(f"u{depth // 8}") * (1 if depth == 8 else 257)
            yield f"PNG {colour} of {depth} bits", make.png(64, 48, make.rows(samples), depth=depth, colour=colour)
            if colour in {0, 2}:
                key = make.chunk(b"tRNS", struct.pack(f">{channels}H", *(int(v) for v in samples[3, 3])))
                yield (
                    f"PNG {colour} of {depth} bits, colour key",
                    make.png(64, 48, make.rows(samples), key, depth=depth, colour=colour),
                )
    palette = make.chunk(b"PLTE", bytes(make.noise(16, 1)))
    clear = make.chunk(b"tRNS", bytes(range(0, 256, 16)))
    for colour, depth in itertools.product((0, 3), (1, 2, 4)):
        raw = make.rows(make.noise(64 * depth // 8, 48, channels=1))
        chunks = (palette,) if colour else ()
        yield f"PNG {colour} of {depth} bits", make.png(64, 48, raw, *chunks, depth=depth, colour=colour)
        if colour:
            name = f"PNG {colour} of {depth} bits, see-through"
            yield name, make.png(64, 48, raw, *chunks, clear, depth=depth, colour=colour)
    yield "PNG interlaced", interlaced(make.noise())
    ancillary = {
        b"gAMA": struct.pack(">L", 45455),
        b"cHRM": struct.pack(">8L", *range(8)),
        b"pHYs": struct.pack(">LLB", 2835, 2835, 1),
        b"sRGB": b"\0",
        b"cICP": bytes((9, 16, 0, 1)),
        b"tEXt": b"Title\0\xe9\xff",
        b"zTXt": b"Title\0\0nonsense",
        b"iTXt": b"Title\0\0\0de\0\xff\xfe\0\xff",
        b"bKGD": bytes(6),
        b"tIME": bytes(7),
    }
    for kind, body in ancillary.items():
        yield f"PNG {kind.decode()}", make.png_with(make.chunk(kind, body))
        yield f"PNG short {kind.decode()}", make.png_with(make.chunk(kind, body[:1]))


def _moving() -> Named:
    for kind in ("PNG", "GIF", "WEBP", "AVIF"):
        yield f"{kind} moving", make.animation(kind, 5)
    frames = [_picture("RGBA"), *(Image.fromarray(make.noise(channels=4, seed=seed)) for seed in range(3))]
    for frame in frames[1:]:
        frame.putalpha(frame.getchannel("A").point(lambda alpha: 255 * (alpha > 127)))
    for kind, disposals in (("GIF", range(4)), ("PNG", range(3))):
        for disposal in disposals:
            name = f"{kind} moving, disposal {disposal}"
            yield (
                name,
                make.encode(
                    frames[0], kind, save_all=True, append_images=frames[1:], disposal=disposal, duration=50, loop=0
                ),
            )
    for blend in range(2):
        options: dict[str, Any] = {"blend": blend, "default_image": bool(blend)}
        yield (
            f"PNG moving, blend {blend}",
            make.encode(frames[0], "PNG", save_all=True, append_images=frames[1:], **options),
        )
    for kind in ("WEBP", "AVIF"):
        yield f"{kind} moving, see-through", make.encode(frames[0], kind, save_all=True, append_images=frames[1:])
    yield "GIF whose frames stick out", make.gif(3, 50, 50, box=(40, 40, 20, 20))


def avif_turned(irot: int | None, imir: int | None, samples: make.Pixels, *, exif: int | None = None) -> bytes:
    """Return an AVIF of samples as they are stored, with boxes that turn it (ISO/IEC 23008-12, 6.5.10 and 6.5.12).

    Args:
        irot: quarter turns to the left, or None for no such box.
        imir: 0 exchanges top and bottom, 1 left and right, or None for no such box.
        samples: uint8 [height, width, 3].
        exif: what an EXIF item says beside it.
    """
    # Pillow writes the boxes that an orientation needs. The EXIF item keeps a tag that nobody reads, renamed below.
    saved = Image.Exif()
    if exif:
        saved[0x0113] = exif
    saved[0x0112] = {(False, False): 1, (True, False): 3, (False, True): 2, (True, True): 5}[
        irot is not None, imir is not None
    ]
    options: dict[str, Any] = {"quality": 100, "subsampling": "4:4:4", "exif": saved}
    data = bytearray(make.encode(Image.fromarray(samples), "AVIF", **options))
    for kind, value in ((b"irot", irot), (b"imir", imir)):
        if value is not None:
            data[data.index(kind) + 4] = value
    unread, orientation = (struct.pack(">HHL", tag, 3, 1) for tag in (0x0113, 0x0112))
    return bytes(data).replace(unread, orientation)


def _turned_avifs() -> Named:
    for irot, imir in itertools.product((None, 0, 1, 2, 3), (None, 0, 1)):
        for exif in (None, 6):
            yield f"AVIF irot {irot} imir {imir} EXIF {exif}", avif_turned(irot, imir, make.noise(), exif=exif)


def _kept() -> Named:
    for folder in ("pictures", "avif", "found"):
        for path in sorted((CORPUS / folder).iterdir()):
            yield f"{folder}/{path.name}", path.read_bytes()


def heics(heif: Any) -> dict[str, bytes]:
    """Return HEICs of each kind, made by the library given."""
    made = {
        "RGB": make.noise(),
        "RGBA": make.noise(channels=4),
        "L": make.noise(channels=1)[..., 0],
        "LA": make.noise(channels=2),
        "RGB;16": make.noise().astype(np.uint16) << 8,
        "RGBA;16": make.noise(channels=4).astype(np.uint16) << 8,
        "L;16": make.noise(channels=1)[..., 0].astype(np.uint16) << 8,
    }
    found = {f"HEIC {mode}": heic(heif, samples, mode) for mode, samples in made.items()}
    found |= {f"HEIC EXIF {name}": heic(heif, make.noise(), exif=block) for name, block in EXIF.items()}
    found |= {f"HEIC ICC {name}": heic(heif, make.noise(), icc_profile=icc) for name, icc in icc_profiles().items()}
    found |= {f"HEIC {chroma}": heic(heif, make.noise(), chroma=chroma) for chroma in (420, 422)}
    found["HEIC XMP"] = heic(heif, make.noise(), xmp=b'<x tiff:Orientation="6"/>')
    found["HEIC grid"] = heic(heif, make.noise(300, 200), tile_size=128)
    return found
