"""Faults 1 to 43 sent to the running stack, each alone as an upload and between two good pictures as base64."""

from __future__ import annotations

import base64
import time
from typing import Any

import httpx2
import numpy as np
import psutil
import pytest
from PIL import Image

from gateway.settings import Settings
from tests.conftest import Stack
from tests.support import awkward_images as make
from tests.support.drawings import encoded, shape
from tests.support.fault_table import FaultLog
from tests.support.hostile_images import MANY_FRAMES, MANY_PIXELS, OK, Hostile, hostile_pictures, late_frame
from tests.support.memory_usage import MIB, Peak, gateway_process

LABELS = ["a red circle", "a blue square"]
DEADLINE_S = Settings.model_fields["request_timeout_s"].default
# Decoded, the bombs take 240 MB to 17 GB.
HEADER_ROOM_BYTES = 128 * MIB
PROBLEM = {"type", "title", "status", "code", "detail", "request_id"}
GARBLED = ["200", "415 unsupported_image", *(f"422 image_{what}" for what in ("corrupt", "undecodable", "dimensions"))]
GARBLED += [MANY_PIXELS, MANY_FRAMES]


@pytest.fixture(scope="module")
def gateway(stack: Stack) -> psutil.Process:
    return gateway_process(stack)


@pytest.fixture(scope="module")
def good() -> bytes:
    return encoded(shape("a red circle"))


def upload(client: httpx2.Client, data: bytes, name: str = "a.png", kind: str = "image/png") -> httpx2.Response:
    fields = {"labels": LABELS, "views": "full", "include": ["embedding", "views"]}
    return client.post("/v1/classify", files={"file": (name, data, kind)}, data=fields)


def batch(client: httpx2.Client, *pictures: bytes) -> list[dict[str, Any]]:
    """Send pictures as base64 and return their results; the answer is 200 whatever they are."""
    images = [{"base64": base64.b64encode(data).decode()} for data in pictures]
    body = {"images": images, "labels": LABELS, "views": "full", "include": ["embedding"]}
    answer = client.post("/v1/classify", json=body)
    assert answer.status_code == 200, answer.text[:400]
    results: list[dict[str, Any]] = answer.json()["results"]
    assert [result["index"] for result in results] == list(range(len(pictures)))
    return results


def outcome_of(result: dict[str, Any]) -> str:
    """Say what a picture of a batch got, as the table does; scores and an error exclude each other."""
    error = result["error"]
    if error is None:
        is_complete(result)
        return OK
    assert set(error) == PROBLEM
    assert result["scores"] is None
    assert result["image"] is None
    return f"{error['status']} {error['code']}"


def is_complete(result: dict[str, Any]) -> None:
    assert result["error"] is None
    assert {score["label"] for score in result["scores"]} == set(LABELS)
    assert sum(score["score"] for score in result["scores"]) == pytest.approx(1, abs=1e-4)


def is_a_red_circle(result: dict[str, Any]) -> None:
    is_complete(result)
    assert result["scores"][0]["label"] == "a red circle"
    assert result["scores"][0]["score"] > 0.9


@pytest.mark.parametrize("hostile", hostile_pictures(), ids=lambda hostile: hostile.id)
def test_fault(hostile: Hostile, client: httpx2.Client, gateway: psutil.Process, good: bytes, faults: FaultLog) -> None:
    data = hostile.make()
    start_s = time.monotonic()
    with Peak(gateway) as memory:
        answer = upload(client, data)
    elapsed_s = time.monotonic() - start_s
    faults.expect(hostile.number, hostile.what, answer, *hostile.outcomes)
    assert elapsed_s < DEADLINE_S
    if answer.status_code == 200:
        is_complete(answer.json()["results"][0])
    else:
        assert answer.headers["content-type"] == "application/problem+json"
        assert set(answer.json()) == PROBLEM
        assert "scores" not in answer.text
    if hostile.outcomes[0] in {MANY_PIXELS, MANY_FRAMES}:  # by the header, before any decode
        assert elapsed_s < DEADLINE_S / 2
        assert memory.grown_bytes < HEADER_ROOM_BYTES

    first, between, last = batch(client, good, data, good)
    is_a_red_circle(first)
    is_a_red_circle(last)
    assert outcome_of(between) in hostile.outcomes
    if hostile.seen is not None:
        looks_like(client, answer.json()["results"][0], hostile.seen())


def looks_like(client: httpx2.Client, result: dict[str, Any], pixels: make.Pixels) -> None:
    """Assert that a result is that of a plain PNG of the given pixels."""
    (plain,) = batch(client, make.encode(Image.fromarray(pixels), "PNG"))
    assert (result["image"]["width"], result["image"]["height"]) == (pixels.shape[1], pixels.shape[0])
    assert np.allclose(result["embedding"], plain["embedding"], atol=1e-4)


def test_all_that_is_refused_in_one_batch_leaves_the_good_alone(client: httpx2.Client, good: bytes) -> None:
    refused = [one for one in hostile_pictures() if one.outcomes[0] != OK and one.number not in range(22, 26)]
    small = [(one, data) for one in refused if len(data := one.make()) < 100_000]
    assert len({one.number for one, _ in small}) > 25
    for start in range(0, len(small), 15):
        some = small[start : start + 15]
        pictures = [good]
        for _, data in some:
            pictures += [data, good]
        results = batch(client, *pictures)
        for result in results[::2]:
            is_a_red_circle(result)
        for (one, _), result in zip(some, results[1::2], strict=True):
            assert outcome_of(result) in one.outcomes, one.id


def test_what_cannot_be_read_is_never_decided(client: httpx2.Client, good: bytes) -> None:
    refused = {one.outcomes[0]: one for one in hostile_pictures() if one.outcomes[0] != OK}
    assert len(refused) == 7
    pictures = [good, *(one.make() for one in refused.values()), good]
    images = [{"base64": base64.b64encode(data).decode()} for data in pictures]
    answer = client.post("/v1/moderate", json={"images": images, "external_id": "hostile"})
    assert answer.status_code == 200
    first, *between, last = answer.json()["results"]
    for result in (first, last):
        assert result["decision"] in {"allow", "review", "block"}
        assert result["error"] is None
    for result, outcome in zip(between, refused, strict=True):
        assert f"{result['error']['status']} {result['error']['code']}" == outcome
        assert (result["decision"], result["decision_id"], result["categories"]) == (None, None, None)
    kept = client.get("/v1/decisions", params={"external_id": "hostile"}).json()["data"]
    assert {one["id"] for one in kept} == {first["decision_id"], last["decision_id"]}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "GIF"])
def test_12_random_byte_flips(kind: str, client: httpx2.Client, good: bytes, faults: FaultLog) -> None:
    dice = np.random.default_rng(12)
    whole = encoded(shape("a red circle", (64, 64)), kind)
    damaged = []
    for _ in range(30):
        data = bytearray(whole)
        for _ in range(dice.integers(1, 9)):
            data[dice.integers(len(data))] ^= 1 << dice.integers(8)
        damaged.append(bytes(data))
    first, *results, last = batch(client, good, *damaged, good)
    is_a_red_circle(first)
    is_a_red_circle(last)
    for result in results:
        assert outcome_of(result) in GARBLED
        faults.expect(12, f"random bits flipped in a {kind}", outcome_of(result)[:3], "200", "415", "422")


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF"])
def test_28_an_offending_frame_late_in_an_animation(kind: str, client: httpx2.Client, faults: FaultLog) -> None:
    data = late_frame(kind)
    looked_at = []
    for trailing in (b"", b"", b" "):
        answer = upload(client, data + trailing)
        faults.expect(28, f"animated {kind} of 40 frames, the last one offending", answer, OK)
        (result,) = answer.json()["results"]
        assert result["image"]["frames"] == 40
        assert 8 <= result["image"]["frames_analyzed"] <= 16  # of frames that are the same no more than drawn
        views = result["views"]
        assert (views[0]["frame_ms"], views[-1]["frame_ms"]) == (0, 3900)
        assert views[0]["scores"][0]["label"] == "a blue square"
        assert views[-1]["scores"][0]["label"] == "a red circle"
        looked_at.append([view["frame_ms"] for view in views])
    assert looked_at[0] == looked_at[1], "the same file is looked at alike"
    assert looked_at[1] != looked_at[2], "the frames between are not to be foreseen"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.gif", "image/gif"),
        ("a.txt", "text/plain"),
        ("a.exe", "application/octet-stream"),
        ("picture", "text/html"),
        ("../../a.svg", "image/svg+xml"),
    ],
)
def test_36_a_wrong_extension_or_type(
    name: str, kind: str, client: httpx2.Client, good: bytes, faults: FaultLog
) -> None:
    answer = upload(client, good, name, kind)
    faults.expect(36, f"a PNG named {name}, {kind}", answer, OK)
    assert answer.json()["results"][0]["image"]["format"] == "png"
    is_a_red_circle(answer.json()["results"][0])


def test_36_a_wrong_type_in_a_data_uri(client: httpx2.Client, good: bytes, faults: FaultLog) -> None:
    text = "data:image/gif;base64," + base64.b64encode(good).decode()
    answer = client.post("/v1/classify", json={"images": [{"base64": text}], "labels": LABELS})
    faults.expect(36, "a PNG in a data: URI of image/gif", answer, OK)
    is_a_red_circle(answer.json()["results"][0])


@pytest.mark.parametrize("name", ["a.html", "a.svg", "a.zip"])
def test_42_nothing_of_a_polyglot_is_served_back(name: str, client: httpx2.Client, faults: FaultLog) -> None:
    marker = b"<script>alert(42)</script>"
    good = encoded(shape("a red circle"), "JPEG")
    data = make.jpeg_with(make.segment(0xFE, marker), data=good) + marker
    for path, fields in (("/v1/classify", {"labels": LABELS}), ("/v1/moderate", {"external_id": "polyglot"})):
        answer = client.post(path, files={"file": (name, data, "text/html")}, data=fields)
        faults.expect(42, f"JPEG with HTML in it, named {name}, to {path}", answer, OK)
        assert answer.headers["content-type"] == "application/json"
        assert b"alert(42)" not in answer.content
        assert name not in answer.text
    decision = client.get(f"/v1/decisions/{answer.json()['results'][0]['decision_id']}")
    assert decision.status_code == 200
    assert b"alert(42)" not in decision.content
    assert base64.b64encode(marker)[:20] not in decision.content


def test_43_of_several_pictures_in_one_file_the_first_is_judged(client: httpx2.Client, faults: FaultLog) -> None:
    first, second = shape("a red circle"), shape("a blue square")
    answer = upload(client, make.encode(first, "MPO", save_all=True, append_images=[second]))
    faults.expect(43, "MPO of a red circle and a blue square", answer, OK)
    (result,) = answer.json()["results"]
    assert (result["image"]["format"], result["image"]["frames"]) == ("jpeg", 1)
    is_a_red_circle(result)
