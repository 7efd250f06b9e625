"""What makes an image look like another one at the model's size: `python -m scripts.measure_scaling_attacks`.

The attack is that of Xiao et al. (2019) and Quiring et al. (2020): the least change of a picture, by least squares
along each axis, for which a given way of shrinking makes the target. Three ways are attacked with the gateway's own
kernels: the bicubic step alone, the mean of blocks before it, and libjpeg's decoding at a fraction of the size before
it; nearest neighbour stands beside them as what such attacks are made for.

Shrinking is a product with a matrix A of S rows and N columns along each axis. The largest singular values bound how
far a change of root mean square r moves the model's image: by gain x r at most, with gain = product of both axes'
largest singular values x sqrt(N / S). Nearest neighbour has N / S, which is why a few pixels suffice there.
"""

from __future__ import annotations

import argparse

import numpy as np
import numpy.typing as npt
from PIL import Image

from gateway.decoding.downscale import factor_for, jpeg_factor_for
from scripts.demo.measure_policy import scenes
from scripts.demo.model import IMAGE_SIZE
from scripts.demo.world import draw

Matrix = npt.NDArray[np.float64]
SIZES = ((1024, 1024), (1333, 1000), (3000, 4000))
SEED = 2_000_000
ROUNDS = 20


def kernel(length: int, factor: int, way: str, size_px: int = IMAGE_SIZE) -> Matrix:
    """Return what one axis of an image is multiplied with, [size_px, length].

    Args:
        length: pixels of the axis.
        factor: of the step before the bicubic one; 1 for none.
        way: ``bicubic``, ``mean``, ``jpeg`` or ``nearest``.
        size_px: of the model.
    """
    impulses = np.eye(length, dtype=np.float32)
    if way == "nearest":
        return np.asarray(Image.fromarray(impulses).resize((size_px, length), Image.Resampling.NEAREST), float).T
    if way == "jpeg" and factor > 1:
        impulses = (impulses.reshape(length, -1, 8) @ _fraction_of_block(8 // factor).T).reshape(length, -1)
    picture = Image.fromarray(np.ascontiguousarray(impulses, np.float32))
    if way == "mean" and factor > 1:
        picture = picture.reduce((factor, 1))
    box = (0, 0, length / (1 if way == "bicubic" else factor), length)
    return np.asarray(picture.resize((size_px, length), Image.Resampling.BICUBIC, box=box), float).T


def _fraction_of_block(count: int) -> npt.NDArray[np.float32]:
    """Return what libjpeg makes of 8 samples where it decodes ``count`` of them, [count, 8]: their low frequencies."""

    def cosines(points: int) -> Matrix:
        at, frequency = np.arange(points), np.arange(points)[:, None]
        basis = np.cos((2 * at + 1) * frequency * np.pi / (2 * points)) * np.sqrt(2 / points)
        basis[0] /= np.sqrt(2)
        return np.asarray(basis)

    made = cosines(count).T @ cosines(8)[:count] * np.sqrt(count / 8)
    return np.asarray(made, np.float32)


def gain(down: Matrix, across: Matrix) -> float:
    """Return by how much a change's root mean square may grow at most when it is shrunk."""
    largest = [np.linalg.norm(axis, 2) * np.sqrt(axis.shape[1] / axis.shape[0]) for axis in (down, across)]
    return float(np.prod(largest))


def attacked(picture: Matrix, target: Matrix, down: Matrix, across: Matrix, rounds: int = ROUNDS) -> Matrix:
    """Return the picture changed as little as it takes to become the target when it is shrunk, within 0 to 255.

    Args:
        picture: [height, width, 3].
        target: [S, S, 3].
        down: kernel of the rows.
        across: kernel of the columns.
        rounds: after each the samples are clipped, and what is missing is made up for in the next.
    """
    inverse_down, inverse_across = np.linalg.pinv(down), np.linalg.pinv(across)
    made = picture.copy()
    for _ in range(rounds):
        missing = target - np.einsum("sh,hwc,tw->stc", down, made, across, optimize=True)
        made += np.einsum("hs,stc,wt->hwc", inverse_down, missing, inverse_across, optimize=True)
        made = made.clip(0, 255)
    return np.rint(made)


def rms(difference: Matrix) -> float:
    """Return the root mean square."""
    return float(np.sqrt(np.mean(difference**2)))


def main() -> None:
    """Attack pairs of drawings, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=10)
    given = parser.parse_args()
    print(
        f"{'size':12} {'way':10} {'factor':>6} {'gain':>6}   levels changed in the picture for 100 at the model's size"
    )
    for width, height in SIZES:
        for way in ("nearest", "bicubic", "mean", "jpeg"):
            factors = {
                "mean": factor_for(width, height, IMAGE_SIZE),
                "jpeg": jpeg_factor_for(width, height, IMAGE_SIZE),
            }
            factor = factors.get(way, 1)
            if way == "jpeg" and (width % 8 or height % 8):
                continue
            down, across = kernel(height, factor, way), kernel(width, factor, way)
            changes = []
            drawn = iter(scenes(rng := np.random.default_rng(SEED), 2 * given.pairs))
            for _ in range(given.pairs if width * height < 2_000_000 else 1):
                source, other = (np.asarray(draw(next(drawn), (width, height), rng), float) for _ in range(2))
                seen, target = (
                    np.einsum("sh,hwc,tw->stc", down, one, across, optimize=True) for one in (source, other)
                )
                made = attacked(source, target, down, across)
                reached = np.einsum("sh,hwc,tw->stc", down, made, across, optimize=True)
                changes.append(100 * rms(made - source) / max(1e-9, rms(reached - seen)))
            print(
                f"{width}x{height:<6} {way:10} {factor:6} {gain(down, across):6.2f}   "
                f"{np.mean(changes):6.1f} ({np.min(changes):.1f} to {np.max(changes):.1f})",
                flush=True,
            )


if __name__ == "__main__":
    main()
