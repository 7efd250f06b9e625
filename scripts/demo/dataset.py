"""Training pictures, drawn once by several processes into one array on disk, with what may be said of each."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from scripts.demo.model import IMAGE_SIZE, Pixels, preprocess
from scripts.demo.world import ATOMS
from scripts.demo.world.framing import framed, whole

SAID = 16
"""How many concepts are drawn by lot for each picture; captions take theirs from them."""

_CHUNK = 1000

Kind = Literal["whole", "framed"]
"""Pictures of one scene as it is, or framed in any way (scripts/demo/world/framing.py)."""


@dataclass(frozen=True)
class Pictures:
    """n training pictures.

    pixels: [n, IMAGE_SIZE, IMAGE_SIZE, 3] uint8. said: [n, SAID, 2] int16, concepts as two indices into ATOMS (the same
    index twice for a concept of one atom). possible: [n, ceil(len(ATOMS) / 8)] uint8, one bit an
    atom: what is not clearly false.
    """

    pixels: Pixels
    said: NDArray[np.int16]
    possible: NDArray[np.uint8]

    def allows(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return [len(rows), len(ATOMS)]: what is not clearly false of these pictures."""
        return np.unpackbits(self.possible[rows], axis=1, count=len(ATOMS)).astype(np.bool_)


def _draw_chunk(job: tuple[Kind, int, int, int]) -> tuple[int, Pixels, NDArray[np.int16], NDArray[np.uint8]]:
    kind, seed, start, stop = job
    index = {atom: k for k, atom in enumerate(ATOMS)}
    pixels = np.empty((stop - start, IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)
    said = np.empty((stop - start, SAID, 2), dtype=np.int16)
    possible = np.zeros((stop - start, len(ATOMS)), dtype=np.bool_)
    for row in range(stop - start):
        rng = np.random.default_rng([seed, start + row])
        shown = framed(rng) if kind == "framed" else whole(rng)
        pixels[row] = preprocess(shown.picture)
        options = shown.concepts
        weights = np.array([weight for _, weight in options])
        for k, choice in enumerate(rng.choice(len(options), SAID, p=weights / weights.sum())):
            concept = options[int(choice)][0]
            said[row, k] = (index[concept[0]], index[concept[-1]])
        possible[row, [index[atom] for atom in shown.possible]] = True
    return start, pixels, said, np.packbits(possible, axis=1)


def _fingerprint() -> str:
    """A name for the present state of the code that draws."""
    digest = hashlib.sha256()
    for path in [Path(__file__), *sorted((Path(__file__).parent / "world").glob("*.py"))]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def draw_pictures(kind: Kind, count: int, seed: int, cache: Path | None = None, workers: int | None = None) -> Pictures:
    """Return `count` training pictures, drawn anew or read from `cache` (a folder in the temporary one if None).

    Picture k depends on `seed` and k alone, not on the number of worker processes. A cache made by other code is not
    used.
    """
    cache = cache or Path(tempfile.gettempdir()) / "clip-demo-pictures"
    folder = cache / f"{_fingerprint()}-{kind}-{seed}-{count}"
    names = ("pixels", "said", "possible")
    if not (folder / "complete").exists():
        folder.mkdir(parents=True, exist_ok=True)
        open_ = np.lib.format.open_memmap
        pixels = open_(folder / "pixels.npy", "w+", np.uint8, (count, IMAGE_SIZE, IMAGE_SIZE, 3))
        said = open_(folder / "said.npy", "w+", np.int16, (count, SAID, 2))
        possible = open_(folder / "possible.npy", "w+", np.uint8, (count, (len(ATOMS) + 7) // 8))
        jobs = [(kind, seed, start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK)]
        with (
            multiprocessing.get_context("spawn").Pool(workers or os.cpu_count()) as pool,
            tqdm(total=count, desc="drawing", unit="picture") as bar,
        ):
            for start, drawn, spoken, open_to in pool.imap_unordered(_draw_chunk, jobs):
                rows = slice(start, start + len(drawn))
                pixels[rows], said[rows], possible[rows] = drawn, spoken, open_to
                bar.update(len(drawn))
        for array in (pixels, said, possible):
            array.flush()
        (folder / "complete").touch()
    loaded = [np.load(folder / f"{name}.npy", mmap_mode="r") for name in names]
    return Pictures(loaded[0], loaded[1], loaded[2])
