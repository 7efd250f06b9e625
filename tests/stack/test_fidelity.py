"""Two implementations, one picture: transformers' eager CLIPModel against the whole REST path.

The eager model is fed the gateway's own cropped RGB picture through plain mean and std, since transformers' processor
rounds the crop's margin differently from the reference. Its scores are computed here from its vectors, by themselves.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import torch
from PIL import Image

from gateway.decoding.views import ViewRule, cut_views
from gateway.inference.bundle import Manifest, read_manifest
from tests.conftest import ROOT, Stack
from tests.support.drawings import LABELS, encoded, shape

SIZES = [(240, 240), (301, 200), (200, 333), (640, 481), (97, 64), (900, 200)]
TOLERANCE = 1e-3
WEIGHTS = ROOT / "scripts" / "demo" / "weights"


class Eager:
    """The demo CLIP as transformers runs it."""

    def __init__(self, manifest: Manifest, folder: Path) -> None:
        from transformers import AutoTokenizer, CLIPModel

        self.model = CLIPModel.from_pretrained(folder).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.manifest = manifest

    @torch.no_grad()
    def images(self, squares: list[np.ndarray]) -> np.ndarray:
        mean, std = (np.array(values, np.float32) for values in (self.manifest.image.mean, self.manifest.image.std))
        pixels = np.stack([(square.astype(np.float32) / 255 - mean) / std for square in squares]).transpose(0, 3, 1, 2)
        vision = self.model.vision_model(pixel_values=torch.from_numpy(np.ascontiguousarray(pixels)))
        return self._unit(self.model.visual_projection(vision.pooler_output))

    @torch.no_grad()
    def texts(self, prompts: list[str]) -> np.ndarray:
        ids = self.tokenizer(prompts, padding=True, return_tensors="pt")
        text = self.model.text_model(input_ids=ids.input_ids, attention_mask=ids.attention_mask)
        return self._unit(self.model.text_projection(text.pooler_output))

    def scale(self) -> float:
        return float(self.model.logit_scale.exp().detach())

    @staticmethod
    def _unit(vectors: torch.Tensor) -> np.ndarray:
        return np.asarray((vectors / vectors.norm(dim=-1, keepdim=True)).numpy())


@pytest.fixture(scope="module")
def eager(stack: Stack) -> Eager:
    return Eager(read_manifest(stack.model_repository), WEIGHTS)


def picture_of(size: tuple[int, int]) -> Image.Image:
    """A drawing with noise: hard edges, gradients and texture, so that every resampling rule would show."""
    rng = np.random.default_rng(size[0] * 1000 + size[1])
    drawn = np.asarray(shape(LABELS[sum(size) % len(LABELS)], size)).astype(np.float32)
    ramp = np.linspace(-30, 30, size[0], dtype=np.float32)[None, :, None]
    return Image.fromarray(np.clip(drawn + ramp + rng.normal(0, 12, drawn.shape), 0, 255).astype(np.uint8))


def expected(
    eager: Eager, squares: list[np.ndarray], labels: list[str], templates: list[str], negatives: list[str] | None
) -> np.ndarray:
    """The mean score of each label over the squares, by the definitions of both modes."""
    images = eager.images(squares)
    vectors = []
    for label in labels:
        mean = eager.texts([template.replace("{}", label) for template in templates]).mean(axis=0)
        vectors.append(mean / np.linalg.norm(mean))
    logits = eager.scale() * images @ np.stack(vectors).T
    if negatives is None:
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray((powers / powers.sum(axis=1, keepdims=True)).mean(axis=0))
    against = eager.scale() * images @ eager.texts(negatives).T
    columns = []
    for column in logits.T:
        both = np.concatenate([column[:, None], against], axis=1)
        powers = np.exp(both - both.max(axis=1, keepdims=True))
        columns.append((powers[:, 0] / powers.sum(axis=1)).mean())
    return np.array(columns)


@pytest.mark.parametrize("mode", ["softmax", "independent"])
@pytest.mark.parametrize("rule", ["center", "full", "tiles"])
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_scores_are_those_of_the_eager_model(
    client: httpx2.Client, eager: Eager, size: tuple[int, int], rule: ViewRule, mode: str
) -> None:
    picture = picture_of(size)
    labels, templates, negatives = list(LABELS[:6]), ["a drawing of {}", "a photo of {}"], ["a house", "a drawing"]
    fields: dict[str, Any] = {"labels": labels, "templates": templates, "views": rule, "mode": mode}
    if mode == "independent":
        fields["negatives"] = negatives
    images = [{"base64": base64.b64encode(encoded(picture)).decode()}]
    answer = client.post("/v1/classify", json={"images": images, **fields, "include": ["similarity", "views"]})
    assert answer.status_code == 200, answer.text
    result = answer.json()["results"][0]
    found = {score["label"]: score["score"] for score in result["scores"]}
    transform = eager.manifest.image
    views = cut_views(picture, rule, size_px=transform.size_px, resize_px=transform.resize_px)
    assert [view["view"] for view in result["views"]] == [view.name for view in views]
    squares = [view.pixels for view in views]
    wanted = expected(eager, squares, labels, templates, negatives if mode == "independent" else None)
    assert np.allclose([found[label] for label in labels], wanted, atol=TOLERANCE)


def test_embeddings_are_those_of_the_eager_model(client: httpx2.Client, eager: Eager) -> None:
    picture = picture_of((333, 222))
    transform = eager.manifest.image
    square = cut_views(picture, "center", size_px=transform.size_px, resize_px=transform.resize_px)[0].pixels
    text = "a photo of a red circle"
    image = {"image": {"base64": base64.b64encode(encoded(picture)).decode()}}
    data = client.post("/v1/embeddings", json={"input": [text, image]}).json()["data"]
    assert np.allclose(data[0]["embedding"], eager.texts([text])[0], atol=TOLERANCE)
    assert np.allclose(data[1]["embedding"], eager.images([square])[0], atol=TOLERANCE)
