"""Compares what is judged with what viewers show: ``python -m scripts.fuzz.pixels --count 500000``.

Each damaged picture goes through the gateway's own decoding (headers, pieces, decoder, RGB, orientation) and, as the
same bytes, through plain Pillow and libvips. Where two of them decode it, the first frame has to be the same: pixel by
pixel for Pillow, within a mean of 2 levels for libvips, which brings its own decoders. Exceptions stand in ``EXCUSED``.
What the gateway refuses though Pillow decodes it is counted by the error's code. Ends with 1 on any other difference,
or when a decoder dies. The same seed makes the same pictures; ``--first N --count 1`` makes one of them again.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import io
import os
import resource
import signal
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from gateway.decoding.decoder import DecodeLimits, inspect, open_image
from gateway.decoding.headers.header import ImageFormat, ImageHeader, sniff
from gateway.decoding.plugins import accepted_formats
from gateway.decoding.workers.worker import decode_alone
from gateway.errors import GatewayError
from scripts.fuzz.mutate import mutation
from scripts.fuzz.pieces import split
from scripts.fuzz.seeds import drawn, see_through
from scripts.fuzz.viewers import (
    MOST_PIXELS,
    Pixels,
    averaged,
    cut_to_first_frame,
    decoded_by_libvips,
    decoded_by_pillow,
    vips,
)

ROOT = Path(__file__).parents[2]
NEAR = 2.0
"""Mean difference in levels that another library's arithmetic may make."""
ONE_S = 10.0
"""For one picture, all three decoders together; then it is left out."""
MOST_BYTES = 4 << 30
AT_ONCE = 500


@dataclass(slots=True)
class Tally:
    """What came of some pictures.

    Attributes:
        counts: by (format of the seed, what happened).
        differences: number of the mutation, and what is wrong.
    """

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    differences: list[tuple[int, str]] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Add another tally to this one."""
        self.counts.update(other.counts)
        self.differences += other.differences


class OutOfTime(BaseException):
    """A picture took too long; no decoder's own handler may swallow it."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise ``OutOfTime`` in this process once the time is up."""

    def ring(*_: object) -> None:
        raise OutOfTime

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def seeds_by_format(folder: Path) -> dict[str, list[bytes]]:
    """Return whole pictures by format: those of a folder, and HEICs where their encoder is installed."""
    seeds: dict[str, list[bytes]] = {}
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        seeds.setdefault(str(sniff(data)), []).append(data)
    try:
        heif = importlib.import_module("pillow_heif")
    except ImportError:
        print("pillow-heif is not installed: no HEIC is compared")
        return seeds
    for picture, options in ((drawn(), {}), (see_through(), {}), (drawn(1), {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0"})):
        out = io.BytesIO()
        heif.from_pillow(picture).save(out, quality=60, **options)
        seeds.setdefault("heic", []).append(out.getvalue())
    return seeds


class Comparer:
    """Decodes in three ways.

    Args:
        seeds: whole pictures by format.
        seed: of the run.
    """

    def __init__(self, seeds: dict[str, list[bytes]], seed: int) -> None:
        self._seeds = seeds
        self._names = sorted(seeds)
        self._seed = seed
        self._limits = DecodeLimits(
            max_pixels=MOST_PIXELS,
            timeout_s=4,
            sampled_frames=2,
            formats=accepted_formats(heic="heic" in seeds, isolated=True),
        )
        self._vips = vips()
        if "heic" in seeds:
            importlib.import_module("pillow_heif").register_heif_opener()

    def picture(self, number: int) -> tuple[str, bytes]:
        """Return the format of a mutation's seed, and the mutation."""
        name = self._names[number % len(self._names)]
        return name, mutation(self._seeds[name], self._seed, number)

    def compare(self, numbers: range) -> Tally:
        """Compare these mutations."""
        tally = Tally()
        for number in numbers:
            name, data = self.picture(number)
            try:
                with within(ONE_S):
                    said = self._one(data)
            except OutOfTime:
                said = ["out of time"]
            tally.counts.update((name, what) for what in ["mutants", *said])
            tally.differences += [(number, f"{name}: {what}") for what in said if what.startswith("DIFFERS")]
        return tally

    def _one(self, data: bytes) -> list[str]:
        ours, code, header = self._ours(data)
        pillows = decoded_by_pillow(data, header)
        if ours is None or header is None:
            return [] if pillows is None else [f"refused, Pillow decodes: {code}"]
        said = ["decoded"] if pillows is None else ["decoded by Pillow too"]
        if pillows is not None:
            drawn = (ours, pillows)
            if header.format == "gif":
                drawn = (cut_to_first_frame(data, ours), cut_to_first_frame(data, pillows))
            if not np.array_equal(*drawn):
                said.append(_differs(data, header, "Pillow", *drawn))
        other = None if self._vips is None else decoded_by_libvips(self._vips, data, header)
        if other is not None:
            said.append("decoded by libvips too")
            if header.format == "gif":
                ours, other = (cut_to_first_frame(data, samples) for samples in (ours, other))
                if ours.shape == other.shape:  # libvips leaves black what broken data does not draw
                    ours = np.where((other == 0).all(-1, keepdims=True), 0, ours)
            elif header.format == "avif":
                ours, other = averaged(ours), averaged(other)
            if ours.shape != other.shape or np.abs(ours.astype(float) - other).mean() > NEAR:
                said.append(_differs(data, header, "libvips", ours, other))
        return said

    def _ours(self, data: bytes) -> tuple[Pixels | None, str, ImageHeader | None]:
        try:
            header = inspect(data, self._limits)
            with open_image(data, self._limits, seed=1, header=header, hashed=False) as image:
                frame = next(image.frames())
            rgb = frame.rgb if frame.conversion is None else frame.conversion(frame.rgb)
            return np.asarray(rgb), "", header
        except GatewayError as error:
            return None, error.code, None


def _differs(data: bytes, header: ImageHeader, who: str, ours: Pixels, other: npt.NDArray[Any]) -> str:
    """Say what differs, or why it may."""
    for excused, formats, reason, holds in EXCUSED:
        if who in excused and header.format in formats and holds(data, header):
            return f"excused, {who}: {reason}"
    if ours.shape != other.shape:
        return f"DIFFERS from {who}: {ours.shape[1]} x {ours.shape[0]}, {other.shape[1]} x {other.shape[0]}"
    return f"DIFFERS from {who} by a mean of {np.abs(ours.astype(int) - other).mean():.1f}"


def _drops(data: bytes, header: ImageHeader) -> bool:
    kept = header.decodable(data)
    return any(kept.count(kind) < data.count(kind) for kind in (b"tRNS", b"acTL", b"fcTL", b"fdAT", b"IDAT"))


def _leaves_its_table(data: bytes, _header: ImageHeader) -> bool:
    _, pieces = split(data) or ("gif", [])
    own = next((piece.data[9] for piece in pieces if piece.data.startswith(b",")), 0)
    flags = own if own & 0x80 else data[10]
    with Image.open(io.BytesIO(data), formats=["GIF"]) as picture:
        return not flags & 0x80 or bool(np.asarray(picture).max() >= 2 << (flags & 7))


def _says_monochrome(data: bytes, _header: ImageHeader) -> bool:
    at = data.find(b"av1C")  # AV1-ISOBMFF 2.3.3: bit 4 of the third byte
    return 0 <= at < len(data) - 6 and bool(data[at + 6] & 0x10)


EXCUSED: tuple[tuple[frozenset[str], frozenset[ImageFormat], str, Callable[[bytes, ImageHeader], bool]], ...] = (
    (
        frozenset({"Pillow"}),
        frozenset({"png"}),
        "it follows a tRNS, or chunks of an animation or of data, where libpng passes over them",
        _drops,
    ),
    (
        frozenset({"Pillow"}),
        frozenset({"png"}),
        "of a transparent colour of 16 bits it compares the high bytes",
        lambda data, _header: data[24:26] == b"\x10\2" and b"tRNS" in data,
    ),
    (
        frozenset({"libvips"}),
        frozenset({"gif"}),
        "a pixel's index is not in the colour table, and what that looks like is stated nowhere",
        _leaves_its_table,
    ),
    (
        frozenset({"libvips"}),
        frozenset({"jpeg", "png", "webp", "avif", "heic"}),
        "it leaves the colors as they are stored, and the image signals others than sRGB",
        lambda _data, header: header.color is not None,
    ),
    (
        frozenset({"libvips"}),
        frozenset({"avif"}),
        "the box av1C says monochrome of a bitstream in colour: libavif follows the box, libheif the bitstream",
        _says_monochrome,
    ),
)
"""(libraries, formats, why they may differ, when that is so)."""


@functools.cache
def comparer(corpus: Path, seed: int) -> Comparer:
    """Return this process's own."""
    warnings.simplefilter("ignore")
    os.environ |= {"VIPS_WARNING": "0", "VIPS_CONCURRENCY": "1"}
    seeds = seeds_by_format(corpus)
    decode_alone(heic="heic" in seeds)
    return Comparer(seeds, seed)


def compare(corpus: Path, seed: int, numbers: range) -> Tally:
    """Compare these mutations, in a process of a pool."""
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    return comparer(corpus, seed).compare(numbers)


def read_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m scripts.fuzz.pixels", description=__doc__)
    parser.add_argument("--count", type=int, default=500_000, help="mutations, the formats in turn")
    parser.add_argument("--seed", type=int, default=1, help="of the run: the same seed, the same mutations")
    parser.add_argument("--first", type=int, default=0, help="number of the first mutation")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="that decode at a time")
    parser.add_argument("--corpus", type=Path, default=ROOT / "tests" / "corpus" / "pictures", help="whole pictures")
    parser.add_argument("--out", type=Path, default=ROOT / "reports" / "pixels", help="where differing ones are kept")
    return parser.parse_args(arguments)


def run(given: argparse.Namespace) -> Tally:
    """Compare all mutations of a run.

    Raises:
        BrokenProcessPool: a decoder died.
    """
    tally, done, start_s = Tally(), 0, time.monotonic()
    end = given.first + given.count
    parts = [range(at, min(at + AT_ONCE, end)) for at in range(given.first, end, AT_ONCE)]
    with ProcessPoolExecutor(given.processes) as pool:
        waiting = {pool.submit(compare, given.corpus, given.seed, part): part for part in parts}
        for ready in as_completed(waiting):
            tally.add(ready.result())
            done += len(waiting[ready])
            if done % (20 * AT_ONCE) == 0:
                rate = done / (time.monotonic() - start_s)
                print(f"{done:,} compared, {rate:.0f}/s, {len(tally.differences)} differences", flush=True)
    return tally


def report(tally: Tally, given: argparse.Namespace, elapsed_s: float) -> int:
    """Print what came of a run, keep what differs, and return the exit code."""
    print(f"\n{given.count:,} mutations in {elapsed_s:.0f} s, seed {given.seed}")
    for (name, what), count in sorted(tally.counts.items(), key=lambda item: (item[0][0], -item[1])):
        print(f"{count:>9,}  {name}: {what}")
    for number, what in sorted(tally.differences):
        print(f"mutation {number}, {what}")
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / f"{number}.bin").write_bytes(comparer(given.corpus, given.seed).picture(number)[1])
    if vips() is None:
        print("pyvips is not installed: nothing was compared with libvips")
    return 1 if tally.differences else 0


def main(arguments: list[str] | None = None) -> int:
    """Run; return the exit code."""
    given = read_arguments(arguments)
    start_s = time.monotonic()
    try:
        tally = run(given)
    except BrokenProcessPool:
        print("a decoder died; --first and --count find the picture", file=sys.stderr)
        return 1
    return report(tally, given, time.monotonic() - start_s)


if __name__ == "__main__":
    sys.exit(main())
