"""The drawn world: the same seed draws the same, captions are true, and what is held out stays out of training."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from scripts.demo.world import (
    ATOMS,
    ATTRIBUTES,
    HELD_OUT_FACES,
    HELD_OUT_PAIRS,
    HELD_OUT_TEMPLATES,
    SCENARIOS,
    TEMPLATES,
    Item,
    Scene,
    caption,
    concepts,
    draw,
    label,
    sample_scene,
    scenario_scene,
    truth,
    words,
)


def scenes(count: int, seed: int, split: str = "train") -> Iterator[Scene]:
    rng = np.random.default_rng(seed)
    return (sample_scene(rng, split) for _ in range(count))


def held_out(scene: Scene) -> bool:
    pairs = {(item.colour, item.name) for item in scene.items} & HELD_OUT_PAIRS
    return bool(pairs) or any(item.traits in HELD_OUT_FACES for item in scene.items)


def test_the_same_seed_draws_the_same_picture_and_caption() -> None:
    for seed in range(30):
        twice = []
        for _ in range(2):
            rng = np.random.default_rng(seed)
            scene = sample_scene(rng)
            twice.append((scene, draw(scene, (120, 90), rng).tobytes(), caption(scene, rng)))
        assert twice[0] == twice[1]


@pytest.mark.parametrize("size", [(32, 32), (72, 72), (240, 240), (640, 480), (120, 300)])
def test_a_picture_has_the_size_asked_for(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    for scene in scenes(15, 4):
        picture = draw(scene, size, rng)
        assert (picture.size, picture.mode) == (size, "RGB")


def test_a_centre_crop_loses_nothing() -> None:
    rng = np.random.default_rng(5)
    for _ in range(60):
        scene = Scene((sample_item(rng),), "plain", "white")
        pixels = np.asarray(draw(scene, (300, 120), rng), dtype=np.int16)
        sides = np.concatenate([pixels[:, :80], pixels[:, -80:]], axis=1)
        assert np.abs(sides - np.median(sides, axis=(0, 1))).mean() < 25  # paper, grain and JPEG only


def sample_item(rng: np.random.Generator) -> Item:
    for _ in range(200):
        scene = sample_scene(rng)
        if len(scene.items) == 1 and scene.items[0].colour != "white":
            return scene.items[0]
    raise AssertionError("no scene with one item in 200")


def test_training_shows_nothing_that_is_held_out() -> None:
    assert not any(held_out(scene) for scene in scenes(6000, 1))
    assert all(held_out(scene) for scene in scenes(500, 2, "held_out"))


def test_scenario_scenes_are_not_held_out_either() -> None:
    rng = np.random.default_rng(8)
    for name in (*SCENARIOS, *ATTRIBUTES):
        for present in (True, False):
            assert not any(held_out(scenario_scene(name, rng, present=present)) for _ in range(100))


def test_about_one_pair_in_eleven_is_held_out_and_every_word_of_it_is_trained_elsewhere() -> None:
    colours, things = {colour for colour, _ in HELD_OUT_PAIRS}, [name for _, name in HELD_OUT_PAIRS]
    assert len(things) == len(set(things)) == 36
    assert len(colours) == 11


def test_held_out_templates_use_known_words_in_new_orders() -> None:
    assert not set(TEMPLATES) & set(HELD_OUT_TEMPLATES)
    known = {word.strip(":") for template in TEMPLATES for word in template.split()}
    assert {word for template in HELD_OUT_TEMPLATES for word in template.split()} <= known


def test_what_is_said_of_a_scene_is_true_of_it() -> None:
    for scene in itertools.chain(scenes(1500, 11), scenes(300, 12, "held_out")):
        facts = truth(scene)
        assert facts.true <= facts.possible <= set(ATOMS)
        said = concepts(scene)
        assert said
        for concept, weight in said:
            assert set(concept) <= facts.true
            assert weight > 0


def test_opposites_are_never_both_possible_of_one_face() -> None:
    rng = np.random.default_rng(13)
    for _ in range(200):
        possible = truth(scenario_scene("glasses", rng, present=bool(rng.random() < 0.5))).possible
        for name in ("glasses", "beard", "hat"):
            assert (f"+{name}" in possible) != (f"-{name}" in possible)
        assert len(possible & {"smile", "frown", "straight"}) == 1


@pytest.mark.parametrize(("name", "atom"), [("nudity", "bare"), ("gore", "gore"), ("offensive", "offence")])
def test_a_scenario_scene_shows_the_scenario_or_does_not(name: str, atom: str) -> None:
    rng = np.random.default_rng(21)
    for _ in range(200):
        assert atom in truth(scenario_scene(name, rng, present=True)).true
        absent = truth(scenario_scene(name, rng, present=False))
        assert atom not in absent.possible
        assert "safe" in absent.true or "bare" in absent.true or "gore" in absent.true


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_an_attribute_scene_is_one_face_with_or_without_it(name: str) -> None:
    rng = np.random.default_rng(22)
    for present in (True, False):
        for _ in range(50):
            (face,) = scenario_scene(name, rng, present=present).items
            assert face.kind == "face"
            assert (name in face.traits) == present


def test_labels_read_as_english() -> None:
    assert label("red:circle") == "a red circle"
    assert label("orange:umbrella") == "an orange umbrella"
    assert label("-glasses") == "a face without glasses"
    assert label("smile") == "a smiling face"
    assert all(label(atom) for atom in ATOMS)


def test_every_caption_word_is_in_the_list_of_words() -> None:
    known, rng = set(words()), np.random.default_rng(31)
    for scene in scenes(800, 32):
        text = caption(scene, rng).replace("'", " ").replace(":", " ")
        assert set(text.lower().split()) <= known


@pytest.mark.parametrize(
    "scene",
    [
        Scene((Item("shape", "blob", "red"),), "plain", "white"),
        Scene((Item("shape", "circle", "mauve"),), "plain", "white"),
        Scene((Item("shape", "circle"),), "plain", "white"),
        Scene((), "marble"),
        Scene((), "plain"),
        Scene((), "stripes", "red"),
        Scene((Item("shape", "circle", "red"),) * 4, "plain", "white"),
    ],
)
def test_unknown_things_are_refused(scene: Scene) -> None:
    with pytest.raises(ValueError, match=r"unknown|needs|at most"):
        draw(scene, (100, 100), np.random.default_rng(0))


def test_too_small_a_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 32"):
        draw(Scene((), "plain", "red"), (31, 100), np.random.default_rng(0))


def test_unknown_splits_and_scenarios_are_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="split"):
        sample_scene(rng, "test")
    with pytest.raises(ValueError, match="scenario"):
        scenario_scene("moustache", rng, present=True)


def test_a_red_circle_is_mostly_red_inside() -> None:
    rng = np.random.default_rng(41)
    reds = 0
    for _ in range(40):
        picture = draw(Scene((Item("shape", "circle", "red"),), "plain", "white"), (100, 100), rng)
        assert isinstance(picture, Image.Image)
        pixels = np.asarray(picture, dtype=np.int16)
        reds += bool(((pixels[..., 0] - pixels[..., 1]) > 100).mean() > 0.02)
    assert reds >= 38
