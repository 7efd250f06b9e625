"""Measures what reading an image's color signals does to the demo policy: `python -m scripts.demo.measure_color`.

The drawings of `measure_policy` are encoded anew in wider colors, as PNGs that say so (by cICP, or gAMA and cHRM), and
judged twice: converted to sRGB as the gateway does, and with their numbers taken for sRGB. Scores are compared with
those of the drawings themselves.
"""

from __future__ import annotations

import argparse
import io
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from PIL import Image

from gateway.decoding.color_spaces import CHROMATICITIES, SRGB_PRIMARIES, light_of, matrix_between
from gateway.decoding.decoder import DecodeLimits, inspect
from gateway.decoding.headers.color import PQ, SRGB
from gateway.decoding.preprocess import Job, prepare
from gateway.moderation.binding import BoundPolicy
from gateway.observability.stage_timer import StageTimer
from scripts.demo.measure_policy import MEASURING_SEED, Case, Seen, bound, judged, stills
from scripts.demo.model import IMAGE_SIZE, Demo

_ADOBE_RGB = (0.3127, 0.3290, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
_PROPHOTO = (0.3457, 0.3585, 0.7347, 0.2653, 0.1596, 0.8404, 0.0366, 0.0001)
_BEHIND_IHDR = 33


@dataclass(frozen=True)
class Encoding:
    """Chromaticities, the linear light of 256 levels, and the chunks that say so."""

    chromaticities: tuple[float, ...]
    light: npt.NDArray[np.float32]
    chunks: bytes


def chunk(kind: bytes, body: bytes) -> bytes:
    """Return a PNG's chunk."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def by_code_points(primaries: int, transfer: int) -> Encoding:
    """Return what ITU-T H.273's code points say."""
    light = light_of(transfer)
    if light is None:
        raise ValueError(transfer)
    return Encoding(CHROMATICITIES[primaries], light, chunk(b"cICP", bytes((primaries, transfer, 0, 1))))


def by_gamma(chromaticities: tuple[float, ...], gamma: float) -> Encoding:
    """Return a space of a plain power."""
    says = chunk(b"gAMA", struct.pack(">L", round(100_000 / gamma)))
    says += chunk(b"cHRM", struct.pack(">8L", *(round(100_000 * value) for value in chromaticities)))
    return Encoding(chromaticities, ((np.arange(256) / 255) ** gamma).astype(np.float32), says)


ENCODINGS = MappingProxyType(
    {
        "Display P3": by_code_points(12, SRGB),
        "Adobe RGB": by_gamma(_ADOBE_RGB, 2.2),
        "ProPhoto RGB": by_gamma(_PROPHOTO, 1.8),
        "BT.2020 PQ": by_code_points(9, PQ),
        "BT.2020 HLG": by_code_points(9, 18),
    }
)


def encoded(picture: Image.Image, how: Encoding | None) -> bytes:
    """Return a picture of sRGB as a PNG: as it is, or in another encoding."""
    if how is not None:
        table = light_of(SRGB)
        light = np.asarray(table)[np.asarray(picture)] @ matrix_between(SRGB_PRIMARIES, how.chromaticities).T
        if how is ENCODINGS["BT.2020 HLG"]:  # of the display to that of the scene (BT.2100 table 5), white at 203 cd/m²
            luminance = light @ (0.2627, 0.6780, 0.0593)
            light = light * 0.203 ** (1 / 1.2) * np.maximum(luminance, 1e-9)[..., None] ** (1 / 1.2 - 1)
        levels = np.interp(light, how.light, np.arange(256))
        picture = Image.fromarray(levels.round().astype(np.uint8))
    out = io.BytesIO()
    picture.save(out, "PNG")
    data = out.getvalue()
    return data if how is None else data[:_BEHIND_IHDR] + how.chunks + data[_BEHIND_IHDR:]


def looked_at(
    demo: Demo, policy: BoundPolicy, cases: Sequence[Case], how: Encoding | None, *, read: bool
) -> list[Seen]:
    """Return each case's views as the model sees them.

    Args:
        demo: the model.
        policy: its views are cut.
        cases: stills.
        how: they are encoded.
        read: what the PNG says about its colors.
    """
    limits, made = DecodeLimits(), []
    for case in cases:
        data = encoded(case.frames[0], how)
        header = inspect(data, limits)
        header = header if read else replace(header, color=None)
        job = Job(data, header, limits, frozenset({policy.views}), IMAGE_SIZE, IMAGE_SIZE, seed=1)
        made.append(prepare(job, StageTimer(), None))
    vectors = demo.images([Image.fromarray(pixels) for image in made for pixels in image.pixels])
    ends = np.cumsum([len(image.pixels) for image in made])
    return [
        Seen(case, vectors[end - len(image.pixels) : end], image.places)
        for case, image, end in zip(cases, made, ends, strict=True)
    ]


def figures(policy: BoundPolicy, seen: list[Seen], demo: Demo) -> tuple[float, float, npt.NDArray[np.float64]]:
    """Return the share of offending pictures that are blocked, of others that are allowed, and all scores [N, C]."""
    verdicts = judged(policy, seen, demo.scale)
    right = np.array([verdict.decision == entry.case.expected for verdict, entry in zip(verdicts, seen, strict=True)])
    offending = np.array([entry.case.expected == "block" for entry in seen])
    rows = [{found.category: found.score for found in verdict.categories} for verdict in verdicts]
    scores = np.array([[row[name] for name in sorted(row)] for row in rows])
    return float(right[offending].mean()), float(right[~offending].mean()), scores


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=400, help="drawings")
    count = parser.parse_args().count
    demo = Demo.load()
    policy = bound(demo)
    cases = list(stills(np.random.default_rng([MEASURING_SEED, 0]), count))
    blocked, allowed, plain = figures(policy, looked_at(demo, policy, cases, None, read=True), demo)
    print("encoded in     read  offending blocked  harmless allowed  scores differ by (mean, 95 %)")
    print(f"{'sRGB':<14} -     {blocked:17.1%}  {allowed:16.1%}")
    for name, how in ENCODINGS.items():
        for read in (True, False):
            blocked, allowed, scores = figures(policy, looked_at(demo, policy, cases, how, read=read), demo)
            differs = np.abs(scores - plain)
            spread = f"{differs.mean():.4f}, {np.quantile(differs, 0.95):.4f}"
            print(f"{name:<14} {'yes' if read else 'no':<5} {blocked:17.1%}  {allowed:16.1%}  {spread}")


if __name__ == "__main__":
    main()
