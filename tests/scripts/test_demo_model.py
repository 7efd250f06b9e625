"""The committed weights: their form, their licence, and what they understand of new drawings, by two hands."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessor, CLIPModel

from scripts.demo import other_hand
from scripts.demo.evaluate import PROMPTS, TARGETS, auc, by_another_hand, held_out_faces, mixed_labels, scenario_auc
from scripts.demo.model import IMAGE_SIZE, MEAN, STD, WEIGHTS, Demo, encode_texts, preprocess
from scripts.demo.world import HELD_OUT_TEMPLATES, Item, Scene, draw

SEED = 77

pytestmark = [pytest.mark.heavy, pytest.mark.usefixtures("one_thread")]


@pytest.fixture(scope="module")
def demo() -> Demo:
    return Demo.load()


def test_the_folder_is_whole_and_small() -> None:
    names = {path.name for path in WEIGHTS.iterdir()}
    assert names >= {
        "README.md",
        "config.json",
        "merges.txt",
        "model.safetensors",
        "preprocessor_config.json",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.json",
        "vocabulary.json",
    }
    assert (WEIGHTS / "model.safetensors").stat().st_size <= 8_000_000


def test_the_card_names_the_licence_and_the_limits() -> None:
    card = (WEIGHTS / "README.md").read_text()
    assert "license: apache-2.0" in card
    assert "drawings only" in card


def test_the_vocabulary_lists_labels_and_prompts() -> None:
    known = json.loads((WEIGHTS / "vocabulary.json").read_text())
    assert {"a red circle", "a house", "a face with glasses", "a smiling face"} <= set(known["labels"])
    assert set(known["prompts"]) == set(PROMPTS)


def test_it_is_an_ordinary_clip(demo: Demo) -> None:
    config = demo.model.config
    assert isinstance(demo.model, CLIPModel)
    assert config.vision_config.hidden_act == config.text_config.hidden_act == "quick_gelu"
    assert config.vision_config.image_size == IMAGE_SIZE
    assert config.projection_dim == 128
    assert 1.0 < demo.scale <= 100.001
    assert all(parameter.dtype == torch.float32 for parameter in demo.model.parameters())


def test_padding_behind_the_end_changes_nothing(demo: Demo) -> None:
    ids = demo.tokenizer(["a red circle"], return_tensors="pt")["input_ids"]
    longer = demo.tokenizer(["a red circle"], return_tensors="pt", padding="max_length")["input_ids"]
    assert longer.shape == (1, 77)
    with torch.inference_mode():
        one, other = encode_texts(demo.model, ids), encode_texts(demo.model, longer)
    assert torch.allclose(one, other, atol=1e-6)


def test_vectors_are_those_of_the_whole_model(demo: Demo) -> None:
    picture = draw(Scene((Item("shape", "star", "blue"),), "plain", "white"), (96, 96), np.random.default_rng(1))
    processor = CLIPImageProcessor.from_pretrained(WEIGHTS)
    texts = ["a blue star", "a red circle"]
    ids = demo.tokenizer(texts, padding=True, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        pixels = processor(images=picture, return_tensors="pt")["pixel_values"]
        logits = demo.model(input_ids=ids, pixel_values=pixels).logits_per_image
    expected = logits.softmax(dim=-1).numpy()
    assert np.abs(demo.probabilities([picture], texts) - expected).max() < 0.02
    assert expected[0, 0] > 0.9


@pytest.mark.parametrize("size", [(72, 72), (144, 144), (288, 144), (144, 216), (100, 100)])
def test_preprocessing_is_that_of_transformers(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(2)
    picture = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    processor = CLIPImageProcessor.from_pretrained(WEIGHTS)
    theirs = np.asarray(processor(images=picture, return_tensors="np")["pixel_values"])[0].transpose(1, 2, 0)
    back = (theirs * np.array(STD) + np.array(MEAN)) * 255
    assert np.abs(back - preprocess(picture)).max() <= 1.01


@pytest.mark.parametrize(("labels", "target"), [(10, "top-1 of 10 labels"), (40, "top-1 of 40 labels")])
def test_new_pictures_among_mixed_labels(demo: Demo, labels: int, target: str) -> None:
    assert mixed_labels(demo, 400, labels, SEED) >= TARGETS[target]


@pytest.mark.parametrize("name", PROMPTS)
def test_scenarios_and_attributes_are_told_from_their_absence(demo: Demo, name: str) -> None:
    assert scenario_auc(demo, name, 150, SEED) >= TARGETS[f"AUC {name}"]


@pytest.mark.parametrize("labels", [10, 40])
def test_combinations_never_trained_on(demo: Demo, labels: int) -> None:
    share = mixed_labels(demo, 300, labels, SEED, combination=True)
    assert share >= TARGETS[f"unseen combinations, top-1 of {labels}"]


@pytest.mark.parametrize("labels", [10, 40])
def test_templates_never_trained_on(demo: Demo, labels: int) -> None:
    share = mixed_labels(demo, 200, labels, SEED, templates=HELD_OUT_TEMPLATES)
    assert share >= TARGETS[f"unseen templates, top-1 of {labels}"]


def test_faces_never_trained_on(demo: Demo) -> None:
    assert held_out_faces(demo, 60, SEED) >= 0.8


@pytest.mark.parametrize("name", other_hand.QUESTIONS)
def test_drawings_by_another_hand(demo: Demo, name: str) -> None:
    assert by_another_hand(demo, name, 150, SEED) >= TARGETS[f"other hand: {name}"]


def test_the_other_hand_shares_no_code_with_the_world() -> None:
    source = (WEIGHTS.parent / "other_hand.py").read_text()
    assert "import numpy" not in source
    assert "from scripts" not in source


def test_auc_counts_ties_half() -> None:
    assert auc(np.array([1.0, 2.0]), np.array([0.0, 1.5])) == 0.75
    assert auc(np.array([1.0]), np.array([1.0])) == 0.5
