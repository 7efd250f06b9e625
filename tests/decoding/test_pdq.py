"""Perceptual hashes: the seam without the library, and the library itself where it is installed."""

from __future__ import annotations

import importlib
import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from gateway.decoding.pdq import HASH_BITS, MIN_QUALITY, PerceptualHash, PerceptualHasher, available, load_hasher

MATCHES = 31
"""Bits within which pictures count as the same: the default of a list."""

needs_library = pytest.mark.skipif(
    not available(), reason="pdqhash is not installed: it has no wheel for Linux, install the extra pdq with a compiler"
)


@pytest.fixture
def hasher() -> PerceptualHasher:
    found = load_hasher()
    assert found is not None
    return found


def scene(seed: int, size: tuple[int, int] = (640, 480)) -> Image.Image:
    """A picture with the spectrum of a photograph: much in the large, little in the small, in colour."""
    rng = np.random.default_rng(seed)
    width, height = size
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    falloff = 1 / np.maximum(np.hypot(rows, columns), 2 / max(size))
    planes = [np.fft.irfft2(np.fft.rfft2(rng.normal(size=(height, width))) * falloff, s=(height, width)) for _ in "ab"]
    planes = [(plane - plane.min()) / np.ptp(plane) * 255 for plane in planes]
    colours = np.stack([planes[0], 0.8 * planes[0] + 0.2 * planes[1], 0.6 * planes[0] + 0.4 * planes[1]], axis=2)
    return Image.fromarray(colours.astype(np.uint8))


def distance(one: PerceptualHash, other: PerceptualHash) -> int:
    return (int(one.hex, 16) ^ int(other.hex, 16)).bit_count()


def jpeg(picture: Image.Image, quality: int) -> Image.Image:
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=quality)
    return Image.open(out).convert("RGB")


@pytest.mark.parametrize("fault", [ImportError("no such module"), ValueError("numpy.dtype size changed")])
def test_without_the_library_there_is_no_hasher(monkeypatch: pytest.MonkeyPatch, fault: Exception) -> None:
    def refuse(name: str) -> None:
        assert name == "pdqhash"
        raise fault

    monkeypatch.setattr(importlib, "import_module", refuse)
    assert load_hasher() is None
    assert not available()


@needs_library
@pytest.mark.parametrize("size", [(640, 480), (2000, 300), (301, 517), (32, 32)])
def test_a_hash_has_256_bits_half_of_them_set(hasher: PerceptualHasher, size: tuple[int, int]) -> None:
    hashed = hasher(scene(1, size))
    assert len(hashed.hex) == HASH_BITS // 4
    assert hashed.hex == hashed.hex.lower()
    assert int(hashed.hex, 16).bit_count() == pytest.approx(
        HASH_BITS / 2, abs=4
    )  # each bit is a comparison with the median
    assert MIN_QUALITY <= hashed.quality <= 100


@needs_library
@pytest.mark.parametrize("seed", range(4))
def test_what_leaves_a_picture_the_same_leaves_its_hash_near(hasher: PerceptualHasher, seed: int) -> None:
    picture = scene(seed, (900, 600))
    original = hasher(picture)
    changed = {
        "half the size": picture.resize((450, 300)),
        "a third of the size": picture.resize((300, 200), Image.Resampling.LANCZOS),
        "twice the size": picture.resize((1800, 1200), Image.Resampling.BICUBIC),
        "JPEG 60": jpeg(picture, 60),
        "JPEG 20": jpeg(picture, 20),
        "brighter": ImageEnhance.Brightness(picture).enhance(1.2),
        "darker": ImageEnhance.Brightness(picture).enhance(0.6),
        "grey": picture.convert("L").convert("RGB"),
        "squeezed": picture.resize((600, 600)),
    }
    distances = {name: distance(original, hasher(other)) for name, other in changed.items()}
    assert max(distances.values()) <= MATCHES, distances


@needs_library
def test_another_picture_and_a_turned_one_are_far(hasher: PerceptualHasher) -> None:
    picture = scene(0)
    original = hasher(picture)
    others = [scene(1), picture.transpose(Image.Transpose.ROTATE_90), ImageOps.mirror(picture), ImageOps.flip(picture)]
    assert min(distance(original, hasher(other)) for other in others) > 2 * MATCHES


@needs_library
def test_a_plain_picture_has_no_quality(hasher: PerceptualHasher) -> None:
    assert hasher(Image.new("RGB", (300, 200), (200, 30, 30))).quality == 0


@needs_library
def test_bits_stand_in_the_order_of_threatexchange(hasher: PerceptualHasher) -> None:
    """python-threatexchange writes the library's vector as one binary number, first element first."""
    library = importlib.import_module("pdqhash")
    picture = scene(2, (400, 300))
    vector, quality = library.compute(np.array(picture))
    assert hasher(picture) == PerceptualHash(f"{int(''.join(map(str, vector)), 2):064x}", quality)


@needs_library
def test_shrinking_first_changes_few_bits(hasher: PerceptualHasher) -> None:
    library = importlib.import_module("pdqhash")
    for seed in range(3):
        picture = scene(seed, (1100, 1300))
        vector, quality = library.compute(np.array(picture))
        assert (
            distance(hasher(picture), PerceptualHash(np.packbits(vector.astype(np.uint8)).tobytes().hex(), quality))
            < 24
        )


@needs_library
def test_threads_may_share_a_hasher(hasher: PerceptualHasher) -> None:
    pictures = [scene(seed, (300, 200)) for seed in range(8)]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(hasher, pictures * 3)) == [hasher(picture) for picture in pictures] * 3
