"""A candidate version for a tenth of the traffic, through the real stack."""

from __future__ import annotations

import io
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image

from tests.stack.test_moderation import b64

IMAGES = 200
POLICY = "/v1/policies/rolled-out"
ROLLOUT = f"{POLICY}/rollout"


def small_image(number: int) -> bytes:
    out = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((64, 64)).save(out, "PNG")
    return out.getvalue()


def versions(client: httpx2.Client, pictures: list[bytes], at_once: int) -> tuple[list[int], list[str]]:
    """Return the version that decided about each picture, as the answer says, and the ids of the decisions."""
    found, ids = [], []
    for start in range(0, len(pictures), at_once):
        images = [b64(picture) for picture in pictures[start : start + at_once]]
        answer = client.post("/v1/moderate", json={"images": images, "policy": "rolled-out"})
        assert answer.status_code == 200, answer.text
        found += [result["policy"]["version"] for result in answer.json()["results"]]
        ids += [result["decision_id"] for result in answer.json()["results"]]
    return found, ids


@pytest.mark.heavy
def test_a_tenth_of_the_images_is_decided_by_the_candidate_and_always_the_same(client: httpx2.Client) -> None:
    """Of 200 images 20 on average, with a standard deviation of 4.2: these are fixed, and so is their place."""
    rules: list[dict[str, Any]] = client.get("/v1/policies/default").json()["rules"]
    body = {"rules": rules, "views": "full"}
    lenient = [{**rule, "review_at": 1.0, "block_at": None} for rule in rules]
    first = client.put(POLICY, json=body).json()["version"]
    second = client.put(f"{POLICY}?activate=false", json={**body, "rules": lenient}).json()["version"]
    pictures = [small_image(number) for number in range(IMAGES)]
    candidate = {"candidate": {"version": second, "share": 0.1}}
    assert client.put(ROLLOUT, json=candidate).status_code == 200
    before, ids = versions(client, pictures, 20)
    assert 10 <= before.count(second) <= 30
    assert before.count(first) == IMAGES - before.count(second)
    again, _ = versions(client, pictures[::-1], 7)
    assert again == before[::-1], "the same image, the same version, in whatever request it comes"
    rows = client.get(f"/v1/decisions?policy=rolled-out@{second}&limit=500").json()["data"]
    logged = {row["id"] for row in rows}
    assert logged & set(ids) == {made for made, version in zip(ids, before, strict=True) if version == second}
    assert client.delete(ROLLOUT).status_code == 204
    after, _ = versions(client, pictures, 20)
    assert after == [first] * IMAGES
