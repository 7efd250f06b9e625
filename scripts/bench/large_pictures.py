"""Pictures of 12 megapixels, as cameras and painters make them, and ways to store them as JPEG."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from scripts.bench.report import ROOT

LARGE = (4000, 3000)
PHOTOGRAPHS = ROOT.parent / "shared" / "golden" / "photos"
DRAWINGS = 24


def photograph(size: tuple[int, int] = LARGE, seed: int = 1) -> Image.Image:
    """Return a picture with the spectrum of a photograph (amplitude falls as frequency to the 1.15) and fine grain."""
    rng = np.random.default_rng(seed)
    width, height = size
    down, across = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    falloff = 1 / np.maximum(np.hypot(down, across), 2 / max(size)) ** 1.15
    planes = []
    for _ in range(3):
        plane = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((height, width))) * falloff, s=(height, width))
        planes.append((plane - plane.mean()) / plane.std())
    light = 128 + 50 * planes[0] + rng.normal(0, 1.5, (height, width))
    blue, red = 20 * planes[1], 20 * planes[2]
    rgb = np.stack([light + 1.4 * red, light - 0.34 * blue - 0.71 * red, light + 1.77 * blue], axis=-1)
    return Image.fromarray(np.clip(rgb, 0, 255).astype(np.uint8))


def jpeg(picture: Image.Image, *, quality: int = 86, progressive: bool = False, full: bool = False) -> bytes:
    """Return a JPEG; ``full``: colour in every pixel (4:4:4)."""
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=quality, progressive=progressive, subsampling=0 if full else 2)
    return out.getvalue()


def rotated(data: bytes) -> bytes:
    """Return a JPEG that is to be turned by its EXIF orientation."""
    block = Image.Exif()
    block[0x0112] = 6
    body = block.tobytes()
    return data[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + data[2:]


def large_photographs() -> list[bytes]:
    """Return photographs at 12 megapixels: golden ones enlarged, with a camera's grain, and a mosaic in their own size.

    Where they are absent, pictures with the spectrum of photographs.
    """
    found = [Image.open(path).convert("RGB") for path in sorted(PHOTOGRAPHS.glob("*.jpg"))]
    if not found:
        return [jpeg(photograph(seed=seed), quality=90) for seed in range(4)]
    made = []
    for small in found:
        size = LARGE if small.width > small.height else LARGE[::-1]
        large = np.asarray(small.resize(size, Image.Resampling.LANCZOS)).astype(np.float32)
        large += np.random.default_rng(1).normal(0, 3, (*large.shape[:2], 1)).astype(np.float32)
        made.append(Image.fromarray(np.clip(large, 0, 255).astype(np.uint8)))
    mosaic = Image.new("RGB", LARGE)
    for number in range((LARGE[0] // 250) * (LARGE[1] // 250)):
        across, down = number % (LARGE[0] // 250), number // (LARGE[0] // 250)
        mosaic.paste(found[number % len(found)].crop((0, 0, 250, 250)), (250 * across, 250 * down))
    return [jpeg(one, quality=90) for one in (*made, mosaic)]


def large_drawings() -> list[bytes]:
    """Return drawings of the demo's scenarios at 12 megapixels."""
    from scripts.demo.measure_policy import scenes
    from scripts.demo.world import draw

    made = []
    for number, scene in enumerate(scenes(np.random.default_rng(5), DRAWINGS)):
        drawn = draw(scene, (640, 480), np.random.default_rng(number))
        made.append(jpeg(drawn.resize(LARGE, Image.Resampling.LANCZOS), quality=90))
    return made
