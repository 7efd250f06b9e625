"""Moderation through the real stack on the demo model, by REST only: the stand-in scenarios, edges, late frames."""

from __future__ import annotations

import base64
import io
from typing import Any

import httpx2
import numpy as np
import pytest
from openai import AsyncOpenAI, BadRequestError, OpenAI
from PIL import Image, ImageOps

from scripts.demo.world import ATTRIBUTES, SCENARIOS, draw, sample_scene, scenario_scene, truth
from tests.conftest import Stack
from tests.support.drawings import COLOURS, LABELS, encoded, shape

PICTURES = 100
SEED = 4_711_000


def b64(picture: bytes) -> dict[str, str]:
    return {"base64": base64.b64encode(picture).decode()}


def scenario(name: str, *, present: bool, rng: np.random.Generator, size: tuple[int, int] = (240, 240)) -> Image.Image:
    return draw(scenario_scene(name, rng, present=present), size, rng)


def moderate(client: httpx2.Client, pictures: list[bytes], at_once: int = 10, **fields: Any) -> list[dict[str, Any]]:
    results = []
    for start in range(0, len(pictures), at_once):
        body = {"images": [b64(picture) for picture in pictures[start : start + at_once]], **fields}
        answer = client.post("/v1/moderate", json=body)
        assert answer.status_code == 200, answer.text
        results += answer.json()["results"]
    return results


def evidence_of(result: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for category in result["categories"] for row in (category, *category["evidence"]) if "frame_ms" in row]


def test_the_default_policy_decides_fresh_drawings_correctly(client: httpx2.Client) -> None:
    """400 drawings: 100 of each deciding scenario, half offending, and 100 that are none of them."""
    rng = np.random.default_rng(SEED)
    pictures: list[bytes] = []
    expected: list[str] = []
    for name in SCENARIOS:
        for number in range(PICTURES):
            offending = number % 2 == 0
            pictures.append(encoded(scenario(name, present=offending, rng=rng)))
            expected.append("block" if offending else "allow")
    while len(pictures) < 4 * PICTURES:
        pictures.append(
            encoded(scenario(ATTRIBUTES[len(pictures) % len(ATTRIBUTES)], present=len(pictures) % 2 == 0, rng=rng))
        )
        expected.append("allow")
    decisions = [result["decision"] for result in moderate(client, pictures)]
    right = sum(decision == wanted for decision, wanted in zip(decisions, expected, strict=True))
    assert right >= 0.95 * len(expected), f"{right} of {len(expected)}"


@pytest.mark.parametrize("name", SCENARIOS)
def test_what_offends_at_the_edge_of_a_panorama_is_found(client: httpx2.Client, name: str) -> None:
    rng = np.random.default_rng(SEED + 1)
    found = []
    for number in range(10):
        wide = Image.new("RGB", (720, 240), "white")
        wide.paste(scenario(name, present=True, rng=rng), (0 if number % 2 else 480, 0))
        found.append(encoded(wide))
    results = moderate(client, found)
    blocked = [result for result in results if result["decision"] == "block"]
    assert len(blocked) >= 9
    assert any(result["categories"][0]["evidence"][0]["view"].startswith("tile") for result in blocked)


def test_what_offends_only_in_a_late_frame_is_found(client: httpx2.Client) -> None:
    """40 animations of 8 frames: 10 of each scenario that offend in one of the last two alone, and 10 harmless ones."""
    rng = np.random.default_rng(SEED + 2)
    pictures, expected = [], []
    for number in range(40):
        name = (*SCENARIOS, None)[number % 4]
        shapes = [shape("a blue square"), shape("a green circle"), shape("a red heart")]
        frames = [shapes[place * 3 // 8] for place in range(8)]
        if name is not None:
            frames[6 + number // 4 % 2] = scenario(name, present=True, rng=rng)
        pictures.append(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=80))
        expected.append("allow" if name is None else "block")
    results = moderate(client, pictures, at_once=1)
    right = sum(result["decision"] == wanted for result, wanted in zip(results, expected, strict=True))
    assert right >= 36, f"{right} of 40"
    seen_at = [
        evidence["frame_ms"]
        for result in results
        if result["decision"] == "block"
        for category in result["categories"]
        if category["decision"] == "block"
        for evidence in category["evidence"][:1]
    ]
    assert seen_at
    assert sum(time_ms in {480, 560} for time_ms in seen_at) >= 0.9 * len(seen_at)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF"])
def test_what_is_on_screen_for_most_of_the_time_decides_each_time(client: httpx2.Client, kind: str) -> None:
    """60 frames, the offending one on screen for 5.0 of 6.2 s; by their number it is looked at now and then."""
    rng = np.random.default_rng(SEED + 3)
    for number, name in enumerate(SCENARIOS):
        frames = [shape(LABELS[place % 16], (96, 96)) for place in range(60)]
        frames[20 + number] = scenario(name, present=True, rng=rng, size=(96, 96))
        durations = [20] * 60
        durations[20 + number] = 5000
        moving = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=durations, loop=0)
        results = moderate(client, [moving] * 2, at_once=1)
        assert [result["decision"] for result in results] == ["block"] * 2
        frames, again = ([row["frame_ms"] for row in evidence_of(result)] for result in results)
        assert frames == again, "the same file, the same frames"
        scores, again = ([row["score"] for row in evidence_of(result)] for result in results)
        assert scores == pytest.approx(again, abs=1e-5), "the same file, the same verdict; floats vary with the batch"
        assert results[0]["categories"][0]["evidence"][0]["frame_ms"] == 20 * (20 + number)
        assert "frames_sampled" in results[0]["warnings"]


@pytest.mark.parametrize(("kind", "upright"), [("PNG", False), ("JPEG", True), ("GIF", True), ("WEBP", False)])
def test_what_stands_between_bars_is_looked_at_without_them(client: httpx2.Client, kind: str, upright: bool) -> None:  # noqa: FBT001
    """A star between black bars that take 60 % of the image, still or moving, lying or upright."""
    picture = shape("a yellow star", (240, 240), "#1f4fd6")
    whole = Image.new("RGB", (240, 600) if upright else (600, 240), "black")
    whole.paste(picture, (0, 180) if upright else (180, 0))
    moving = {"save_all": True, "append_images": [ImageOps.mirror(whole)]} if kind in {"GIF", "WEBP"} else {}
    answer = client.post(
        "/v1/classify",
        files={"file": encoded(whole, kind, **moving)},
        data={"labels": ["a yellow star", "an empty picture", "a red circle"], "views": "full", "include": ["views"]},
    )
    views = answer.json()["results"][0]["views"]
    content = [view for view in views if view["view"] == "content"]
    assert len(content) == len(views) / 2 == (2 if moving else 1)
    for view in content:
        assert view["scores"][0]["label"] == "a yellow star"
        expected = (0, 180, 240, 420) if upright else (180, 0, 420, 240)
        assert view["box"] == pytest.approx(expected, abs=10)


def colours(number: int, size: tuple[int, int], frames: int) -> bytes:
    """Return an animation of so many frames, none like another."""
    made = [Image.new("RGB", size, (8 * place, 9 * number, 255 - 8 * place)) for place in range(frames)]
    return encoded(made[0], "GIF", save_all=True, append_images=made[1:], duration=100)


def test_a_request_has_inferences_by_what_its_files_are(client: httpx2.Client) -> None:
    """An animation of 16:9 has 5 views a frame, of which 16 and those of the stills beside it fit into 128."""
    stills = [encoded(shape(label, (160, 90))) for label in LABELS[:3]]
    results = moderate(client, [*stills, colours(0, (160, 90), 30)])
    assert [result["image"]["frames_analyzed"] for result in results] == [1, 1, 1, 16]
    assert results[3]["warnings"] == ["frames_sampled"]


def test_what_a_short_request_did_not_look_at_is_said_and_may_be_reviewed(client: httpx2.Client) -> None:
    body = client.get("/v1/policies/default").json()
    policy = {name: body[name] for name in ("rules", "views")}
    saved = client.put("/v1/policies/wary", json={**policy, "review_on": ["max_inferences_reached"]})
    assert saved.status_code in {200, 201}, saved.text
    assert saved.json()["review_on"] == ["max_inferences_reached"]
    moving = [colours(number, (160, 90), 30) for number in range(4)]
    (alone,) = moderate(client, moving[:1], policy="wary")
    assert (alone["decision"], alone["warnings"]) == ("allow", ["frames_sampled"])
    together = moderate(client, moving, policy="wary", shadow="default")
    assert [result["image"]["frames_analyzed"] for result in together] == [7, 6, 6, 6]
    assert {result["decision"] for result in together} == {"review"}
    assert {result["shadow"]["decision"] for result in together} == {"allow"}
    assert together[0]["warnings"] == ["frames_sampled", "max_inferences_reached"]
    logged = client.get(f"/v1/decisions/{together[0]['decision_id']}").json()
    assert (logged["decision"], logged["warnings"]) == ("review", ["frames_sampled", "max_inferences_reached"])
    candidate = {**policy, "review_on": ["frames_sampled"]}
    dry = client.post("/v1/policies/default/dry-run", json={"policy": candidate, "images": [b64(moving[0])]}).json()
    assert dry["counts"] == [{"before": "allow", "after": "review", "count": 1}]
    crowd = client.post("/v1/moderate", json={"images": [b64(picture) for picture in moving * 3]}).json()["results"]
    assert {result["error"]["code"] for result in crowd} == {"invalid_request"}


def test_a_new_scenario_works_on_the_next_request(client: httpx2.Client) -> None:
    classifier = {
        "mode": "softmax",
        "labels": [
            {"label": "star", "prompts": [f"a {colour} star" for colour in COLOURS]},
            {"label": "other", "prompts": [label for label in LABELS if "star" not in label]},
        ],
        "templates": ["a drawing of {}"],
    }
    assert client.put("/v1/classifiers/stars", json=classifier).status_code in {200, 201}
    rule = {"category": "stars", "classifier": "stars", "labels": ["star"], "review_at": 0.5, "block_at": 0.8}
    saved = client.put("/v1/policies/no-stars", json={"rules": [rule], "views": "full"})
    assert saved.status_code in {200, 201}, saved.text
    pictures = [encoded(shape(label)) for label in ("a red star", "a blue star", "a blue square", "a red circle")]
    decisions = [result["decision"] for result in moderate(client, pictures, policy="no-stars")]
    assert decisions == ["block", "block", "allow", "allow"]


def test_attributes_inform_and_never_decide(client: httpx2.Client) -> None:
    body = client.get("/v1/policies/default").json()
    policy = {name: body[name] for name in ("rules", "views", "openai_categories")}
    assert "facial_attributes" not in body["classifiers"]
    saved = client.put("/v1/policies/with-attributes", json={**policy, "attributes": ["facial_attributes"]})
    assert saved.status_code in {200, 201}, saved.text
    rng = np.random.default_rng(SEED + 3)
    face = encoded(scenario("glasses", present=True, rng=rng))
    (result,) = moderate(client, [face], policy="with-attributes")
    assert result["decision"] == "allow"
    assert result["attributes"]["facial_attributes"]["scores"]
    assert {category["category"] for category in result["categories"]}.isdisjoint({"facial_attributes"})


def test_every_answer_names_model_policy_and_version(client: httpx2.Client) -> None:
    answer = client.post("/v1/moderate", json={"images": [b64(encoded(shape("a red circle")))]}).json()
    assert answer["model"]["demo"] is True
    policy = answer["results"][0]["policy"]
    assert policy["name"] == "default"
    assert policy["version"] >= 1
    assert set(policy["classifiers"]) == {"nudity", "gore", "offensive"}


def data_uri(picture: Image.Image) -> str:
    out = io.BytesIO()
    picture.save(out, "PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def part(picture: Image.Image) -> Any:
    return {"type": "image_url", "image_url": {"url": data_uri(picture)}}


def test_the_openai_package_runs_unchanged(stack: Stack) -> None:
    rng = np.random.default_rng(SEED + 4)
    client = OpenAI(base_url=f"{stack.gateway_url}/v1", api_key="none")
    flagged = 0
    for _ in range(5):
        picture = part(scenario("gore", present=True, rng=rng))
        answer = client.moderations.create(model="omni-moderation-latest", input=[picture])
        flagged += answer.results[0].flagged and answer.results[0].categories.violence_graphic
    assert flagged >= 4
    clean = client.moderations.create(input=[part(shape("a blue square")), part(shape("a green circle"))])
    assert clean.results[0].flagged is False
    assert clean.results[0].category_scores.violence_graphic < 0.5
    with pytest.raises(BadRequestError) as refused:
        client.moderations.create(input="some text")
    assert refused.value.code == "text_not_supported"
    vectors = client.embeddings.create(model="demo", input=["a red circle", "a blue square"])
    assert len(vectors.data) == 2
    assert np.isclose(np.linalg.norm(vectors.data[0].embedding), 1, atol=1e-4)


async def test_the_openai_package_runs_unchanged_asynchronously(stack: Stack) -> None:
    async with AsyncOpenAI(base_url=f"{stack.gateway_url}/v1", api_key="none") as client:
        answer = await client.moderations.create(model="default", input=[part(shape("a blue square"))])
        assert answer.results[0].flagged is False
        vectors = await client.embeddings.create(model="demo", input="a red circle")
        assert len(vectors.data) == 1


def test_harmless_scenes_of_the_whole_world_are_seldom_blocked(client: httpx2.Client) -> None:
    rng = np.random.default_rng(SEED + 5)
    pictures: list[bytes] = []
    while len(pictures) < 60:
        scene = sample_scene(rng)
        if "safe" in truth(scene).true:
            pictures.append(encoded(draw(scene, (240, 240), rng)))
    decisions = [result["decision"] for result in moderate(client, pictures)]
    assert decisions.count("block") <= 3, decisions
