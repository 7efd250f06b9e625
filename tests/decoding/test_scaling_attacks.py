"""Images made to look harmless at the model's size: what shrinking gives away, and what a JPEG's decoder did."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from gateway.decoding.decoder import DecodeLimits, inspect
from gateway.decoding.downscale import Scale, averaged, resized
from gateway.decoding.preprocess import Job, prepare
from gateway.observability.stage_timer import StageTimer
from scripts.measure_scaling_attacks import Matrix, attacked, gain, kernel, rms
from tests.support.coefficient_jpeg import hidden, unclipped_jpeg
from tests.support.drawings import encoded, shape
from tests.support.in_process_app import Web
from tests.support.saved_policies import moderate

pytest_plugins = ["tests.support.saved_policies_fixtures"]

SIZE_PX = 72


@pytest.mark.parametrize("side", [100, 300, 1001, 1024, 1440])
def test_no_change_of_an_image_grows_when_it_is_shrunk(side: int) -> None:
    """The gateway's shrinking is A X B with A = B here; of the identity it makes A times its transpose.

    Its largest eigenvalue times N / S is how far the root mean square of a change can grow, of nearest neighbour N / S.
    """
    impulses, whole = Image.fromarray(np.eye(side, dtype=np.float32)), Scale(side, side)
    for picture, scale in ((impulses, whole), averaged(impulses, whole, SIZE_PX)):
        product = np.asarray(resized(picture, scale, (0, 0, side, side), (SIZE_PX, SIZE_PX)), float)
        assert np.linalg.eigvalsh((product + product.T) / 2)[-1] * side / SIZE_PX < 1.1


@pytest.mark.parametrize(("way", "factor"), [("bicubic", 1), ("mean", 4), ("jpeg", 4)])
def test_an_attack_has_to_change_the_image_as_much_as_what_the_model_sees(way: str, factor: int) -> None:
    """Least squares find the smallest change there is; the same attack on nearest neighbour is all but invisible."""
    side = 576
    source, other = (np.asarray(shape(name, (side, side)), float) for name in ("a red star", "a blue square"))
    needed = {}
    for attack in (way, "nearest"):
        axis = kernel(side, factor, attack)
        seen, target = (np.einsum("sh,hwc,tw->stc", axis, one, axis, optimize=True) for one in (source, other))
        made = attacked(source, target, axis, axis, rounds=5)
        reached = np.einsum("sh,hwc,tw->stc", axis, made, axis, optimize=True)
        assert rms(reached - target) < 0.1 * rms(seen - target), "the attack arrives"
        needed[attack] = rms(made - source) / rms(reached - seen)
        assert needed[attack] >= 0.99 / gain(axis, axis)
    assert needed[way] > 0.9
    assert needed["nearest"] < 0.2


def two_faced(side: int, dots: int) -> bytes:
    """Return a JPEG that shows a star, and a square to who decodes it at a fraction of its size."""
    shown = np.asarray(shape("a red star", (side, side)).convert("L"))
    other = np.asarray(shape("a blue square", (side // 8, side // 8), "#404040").convert("L"), float)
    return unclipped_jpeg(hidden(shown, other, dots))


@pytest.fixture(scope="module")
def crafted() -> bytes:
    return two_faced(1088, 2)


def views_of(data: bytes, *, whole: bool) -> Matrix:
    limits = DecodeLimits()
    job = Job(data, inspect(data, limits), limits, frozenset({"full"}), SIZE_PX, SIZE_PX, 0, whole)
    return np.asarray(prepare(job, StageTimer(), None).pixels[0], float)


def test_a_jpeg_can_show_another_image_to_who_decodes_a_fraction_of_it(crafted: bytes) -> None:
    """Its samples lie far outside 0 to 255: viewers clip them, a decoder of a quarter never sees them."""
    with Image.open(io.BytesIO(crafted)) as image:
        viewed = views_of(encoded(image.convert("RGB")), whole=True)
    assert np.abs(views_of(crafted, whole=True) - viewed).mean() < 1
    assert np.abs(views_of(crafted, whole=False) - viewed).mean() > 50, "or the attack no longer works"


@pytest.mark.parametrize("web", [{"perceptual_hash": False}], indirect=True)
def test_what_decides_is_what_viewers_show(made: Web, crafted: bytes) -> None:
    """By the categories' scores: the encoder gives equal vectors to equal pixels, and unlike ones to all others."""
    with Image.open(io.BytesIO(crafted)) as image:
        viewed = encoded(image.convert("RGB"))
    results = moderate(made, crafted, viewed).json()["results"]
    assert results[0]["image"]["format"] == "jpeg"
    assert results[0]["categories"] == results[1]["categories"]
