"""Makes the whole inputs that fuzzing starts from: ``python -m scripts.fuzz.seeds tests/corpus``.

They are committed, so that a run can be repeated whatever version of Pillow is installed: a picture for each way in
which an accepted format stores one, 48 x 40 pixels, about a kilobyte each; and bodies of requests.
"""

from __future__ import annotations

import io
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms, ImageDraw, PngImagePlugin

SIZE = (48, 40)
BOUNDARY = b"seed-boundary"
EXIF = b"Exif\0\0II*\0" + struct.pack("<LHHHLHHL", 8, 1, 0x0112, 3, 1, 6, 0, 0)


def drawn(number: int = 0) -> Image.Image:
    """Return a small drawing; another one for each number."""
    picture = Image.new("RGB", SIZE, (230, 225, 210))
    pen = ImageDraw.Draw(picture)
    pen.ellipse((4 + 3 * number, 6, 28 + 3 * number, 30), fill=(200, 40, 30))
    pen.rectangle((26, 14, 44, 36), fill=(30, 60, 190))
    pen.line((0, 39, 47, number), fill=(20, 140, 60), width=2)
    return picture


def see_through() -> Image.Image:
    """Return the drawing with an alpha that grows from left to right."""
    alpha = Image.linear_gradient("L").rotate(90).resize(SIZE)
    picture = drawn().convert("RGBA")
    picture.putalpha(alpha)
    return picture


def saved(picture: Image.Image, kind: str, **options: Any) -> bytes:  # noqa: ANN401 - whatever Pillow takes
    """Return a picture's file."""
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def moving(kind: str, **options: Any) -> bytes:  # noqa: ANN401 - whatever Pillow takes
    """Return an animation of four frames."""
    frames = [drawn(number) for number in range(4)]
    return saved(frames[0], kind, save_all=True, append_images=frames[1:], duration=100, loop=0, **options)


def interlaced() -> bytes:
    """Return a PNG in Adam7's order (W3C PNG 8.1), which Pillow does not write: 16 bits, colour and alpha."""
    samples = np.asarray(see_through()).astype(">u2") * 257
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    rows = b"".join(b"\0" + row.tobytes() for x, y, right, down in passes for row in samples[y::down, x::right])
    whole = b"\x89PNG\r\n\x1a\n"
    for body in (
        b"IHDR" + struct.pack(">IIBBBBB", *SIZE, 16, 6, 0, 0, 1),
        b"IDAT" + zlib.compress(rows, 9),
        b"IEND",
    ):
        whole += struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return whole


def pictures() -> Iterator[tuple[str, bytes]]:
    """Yield file names and their bytes."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Title", "a drawing")
    texts.add_text("Comment", "of nothing " * 20, zip=True)
    texts.add_itxt("Description", "not much")
    yield "baseline.jpg", saved(drawn(), "JPEG", quality=70)
    yield "progressive.jpg", saved(drawn(), "JPEG", quality=70, progressive=True)
    yield "grey.jpg", saved(drawn().convert("L"), "JPEG", quality=70)
    yield "cmyk.jpg", saved(drawn().convert("CMYK"), "JPEG", quality=60)
    yield "metadata.jpg", saved(drawn(), "JPEG", quality=70, exif=EXIF, icc_profile=profile, comment=b"a drawing")
    yield "restarts.jpg", saved(drawn(), "JPEG", quality=70, restart_marker_blocks=2)
    yield "progressive-restarts.jpg", saved(drawn(), "JPEG", quality=70, progressive=True, restart_marker_blocks=2)
    yield "cmyk-restarts.jpg", saved(drawn().convert("CMYK"), "JPEG", quality=60, restart_marker_rows=1)
    yield "grey-restarts.jpg", saved(drawn().convert("L"), "JPEG", quality=70, restart_marker_rows=1)
    yield "two.jpg", saved(drawn(), "MPO", quality=60, save_all=True, append_images=[drawn(2)])
    yield "rgb.png", saved(drawn(), "PNG")
    yield "rgba.png", saved(see_through(), "PNG")
    yield "palette.png", saved(drawn().quantize(16), "PNG", transparency=b"\xff\x80\x00")
    yield "grey-alpha.png", saved(see_through().convert("LA"), "PNG")
    yield "sixteen.png", saved(drawn().convert("I;16"), "PNG")
    yield "one-bit.png", saved(drawn().convert("1"), "PNG")
    every = {"exif": EXIF, "icc_profile": profile, "pnginfo": texts, "transparency": (230, 225, 210)}
    yield "interlaced.png", interlaced()
    yield "metadata.png", saved(drawn(), "PNG", **every)
    yield "moving.png", moving("PNG")
    yield "still.gif", saved(drawn(), "GIF")
    yield "clear.gif", saved(drawn().quantize(16), "GIF", transparency=3)
    yield "moving.gif", moving("GIF", disposal=2)
    yield "lossy.webp", saved(drawn(), "WEBP", quality=60)
    yield "lossless.webp", saved(drawn(), "WEBP", lossless=True)
    yield "alpha.webp", saved(see_through(), "WEBP", quality=60)
    yield "metadata.webp", saved(drawn(), "WEBP", quality=60, exif=EXIF, icc_profile=profile, xmp=b"<x/>")
    yield "moving.webp", moving("WEBP", quality=60)
    yield "still.avif", saved(drawn(), "AVIF", quality=50)
    yield "alpha.avif", saved(see_through(), "AVIF", quality=50)
    yield "metadata.avif", saved(drawn(), "AVIF", quality=50, exif=EXIF, icc_profile=profile, xmp=b"<x/>")
    yield "moving.avif", moving("AVIF", quality=50)


def form(*parts: tuple[str, bytes]) -> bytes:
    """Return a multipart body of (headers, content) with the boundary of all bodies here."""
    whole = b"".join(b"--%s\r\n%s\r\n\r\n%s\r\n" % (BOUNDARY, head.encode(), content) for head, content in parts)
    return whole + b"--%s--\r\n" % BOUNDARY


def forms() -> Iterator[tuple[str, bytes]]:
    """Yield names and multipart bodies."""
    field = 'Content-Disposition: form-data; name="{}"'.format
    upload = 'Content-Disposition: form-data; name="file"; filename="{}"\r\nContent-Type: image/png'.format
    picture = b"\x89PNG\r\n\x1a\n and so on"
    words = ((field("labels"), b"a cat"), (field("labels"), "ein Hündchen".encode()))
    yield "browser", form(*words, (upload("cat.png"), picture), (upload("dog.png"), picture))
    yield "options", form((field("options"), b'{"labels": ["a", "b"], "top_k": 1}'), (upload("a.png"), picture))
    yield (
        "names",
        form((upload('a \\"cat\\".png'), picture), (upload("../../etc/passwd"), b""), (field("url"), b"http://a/")),
    )
    yield "extended-name", form((field("file") + "; filename*=UTF-8''%e2%82%ac.png", picture), *words)
    yield "almost-boundaries", form((upload("a"), b"\r\n--seed-boundar\r\n--seed-boundarX\r\n--\r\n-"), *words)
    yield "preamble", b"nothing\r\n" + form(*words)
    yield "epilogue", form(*words) + b"nothing either"
    yield (
        "headers",
        form(("X-A: 1\r\nx-b:2\r\n" + field("labels") + "\r\nContent-Transfer-Encoding: 8bit", b"a"), *words),
    )
    yield "empty", form()
    yield "cut", form(*words)[:-20]
    yield "no-name", form(("Content-Disposition: attachment", b"a"))
    yield "line-feeds", form(*words).replace(b"\r\n", b"\n")


def objects() -> Iterator[tuple[str, bytes]]:
    """Yield names and JSON bodies."""
    yield "plain", b'{"images": [{"base64": "iVBORw0KGgo=", "id": "mine"}], "labels": ["a cat", "a dog"], "top_k": 1}'
    yield "data-uri", b'{"images": [{"base64": "data:image/png;base64,iVBORw0KGgo="}], "labels": ["a", "b"]}'
    yield "url", b'{"images": [{"url": "https://example.org/a.png"}], "classifier": "gore@1", "views": "tiles"}'
    yield (
        "words",
        '{"images": [{"base64": ""}], "labels": ["\\u00e9", "\\ud83d\\ude00", "猫", ""], "mode": "softmax"}'.encode(),
    )
    yield "numbers", b'{"top_k": 1e400, "a": -0, "b": 0.1E-7, "c": [true, false, null], "d": {"e": {"f": {}}}}'
    yield "twice", b'{"labels": [], "labels": []}'
    yield "nan", b'{"top_k": NaN}'


def main(arguments: list[str]) -> int:
    """Write them into the folder given; return the exit code."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m scripts.fuzz.seeds FOLDER\n")
        return 2
    for kind, made in {"pictures": pictures, "forms": forms, "objects": objects}.items():
        folder = Path(arguments[0]) / kind
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in made():
            (folder / name).write_bytes(data)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
