"""The whole way from a photograph's bytes to the model's input, against the reference's own tensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gateway.decoding.decoder import DecodeLimits, open_image
from gateway.decoding.views import cut_views

GOLDEN = Path(__file__).parents[3] / "shared" / "golden"
MEAN = np.array((0.48145466, 0.4578275, 0.40821073), np.float32)  # openai/CLIP, clip/clip.py, _transform
STD = np.array((0.26862954, 0.26130258, 0.27577711), np.float32)

pytestmark = pytest.mark.skipif(
    not (GOLDEN / "photos_vitb32.npz").is_file(), reason="the golden photographs (../shared/golden) are not here"
)


@pytest.mark.parametrize("index", range(7))
def test_pixels_are_those_of_the_reference(index: int) -> None:
    with np.load(GOLDEN / "photos_vitb32.npz") as golden:
        name, expected = str(golden["names"][index]), golden["pixel_values"][index]
    data = (GOLDEN / "photos" / name).read_bytes()
    with open_image(data, DecodeLimits(), seed=0) as image:
        (frame,) = image.frames()
        (view,) = cut_views(frame.rgb, "center", size_px=224, resize_px=224)
    normalised = (view.pixels.astype(np.float32) / np.float32(255) - MEAN) / STD
    assert np.abs(normalised.transpose(2, 0, 1) - expected).max() == 0.0
