"""The scenario library: of the form the API takes, with the promises that its comments and model cards make."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from gateway.inference.prompts import LabelRules
from gateway.moderation.builtin_scenarios import SETS, shipped
from gateway.moderation.classifiers import Classifier
from tests.moderation.test_builtin_scenarios import MINORS, NEGATION, texts
from tests.support.clip_tokenizer import real_tokenizer

LIBRARY = shipped("library")
RULES = {rule.classifier: rule for rule in LIBRARY.policies["library"].rules}
FOLDER = files("gateway.moderation").joinpath("scenarios")
PEOPLE = re.compile(
    r"\b(men|man|women|woman|male|female|boy|girl|gay|lesbian|trans|(?:black|white) (?:person|people|face)|asian|"
    r"african|european|american|arab\w*|latin\w*|indian|roma|gypsy|jew|jews|jewish|muslim\w*|islam\w*|christian\w*|"
    r"hindu\w*|buddhist\w*|sikh\w*|immigrants?|refugees?|foreign\w*|disabled|elderly|homeless|poor|criminals?|"
    r"terrorists?|thugs?|addicts?|gangs?|suspects?)\b"
)
"""Who somebody is, or what kind of person: never what a rule counts."""


@pytest.fixture(params=list(LIBRARY.classifiers))
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def body(name: str) -> Classifier:
    return LIBRARY.classifiers[name]


def counted(name: str, body: Classifier) -> list[str]:
    """Every text of the labels that the suggested rule counts."""
    labels = RULES[name].labels if name in RULES else [entry.label for entry in body.labels]
    return [text for entry in body.labels if entry.label in labels for text in (entry.label, *entry.prompts)]


def test_each_has_a_rule_or_informs() -> None:
    policy = LIBRARY.policies["library"]
    assert set(RULES) | set(policy.attributes) == set(LIBRARY.classifiers)
    assert policy.attributes == ["crowds_and_protest"], "assembly is a right: it informs and decides nothing"
    assert len(policy.rules) == len(RULES)
    assert set(LIBRARY.policies) == {"library"}


def test_nothing_looks_for_minors() -> None:
    assert "minors_present" not in LIBRARY.classifiers
    assert not [
        text for name, body in LIBRARY.classifiers.items() for text in counted(name, body) if MINORS.search(text)
    ]
    for name in ("suggestive", "self_harm"):
        assert not [text for text in texts(LIBRARY.classifiers[name]) if MINORS.search(text)], name


def test_nothing_of_it_is_active_by_itself() -> None:
    assert "library" not in SETS
    seeded = {name for which in SETS for name in shipped(which).classifiers}
    assert not seeded & set(LIBRARY.classifiers)


def test_a_scenario_is_one_save_and_complete(name: str, body: Classifier) -> None:
    assert body.mode == "softmax", name
    assert body.description
    assert body.normal(("other {}",), ("other",)) == body, "with nothing left to the bundle's defaults"
    prompts = [text for entry in body.label_set(LabelRules()).labels for text in entry.prompts]
    assert len(set(prompts)) <= 2000, "one save must fit the cap on new prompts"
    assert all(entry.calibration is None for entry in body.labels), "nothing was measured"


def test_harmless_labels_outnumber_the_counted_two_to_one(name: str, body: Classifier) -> None:
    if name not in RULES:
        return  # nothing is counted
    rule = RULES[name]
    assert set(rule.labels) < {entry.label for entry in body.labels}
    assert len(rule.labels) * 3 <= len(body.labels), "no opinion must stay well below one half"
    assert (rule.aggregate, rule.review_at, rule.block_at) == ("sum", 0.5, None), "reasoned, not measured"


def test_no_prompt_stands_for_two_labels(body: Classifier) -> None:
    prompts = [prompt for entry in body.labels for prompt in entry.prompts]
    assert len(prompts) == len(set(prompts))


def test_nothing_is_negated(body: Classifier) -> None:
    assert not [text for text in texts(body) if NEGATION.search(text)]


def test_no_rule_counts_who_somebody_is(name: str, body: Classifier) -> None:
    assert not [text for text in counted(name, body) if PEOPLE.search(text)]


def test_the_reasons_stand_beside_the_words(name: str) -> None:
    text = FOLDER.joinpath("library", f"{name}.yaml").read_text(encoding="utf-8")
    head = text[: text.index("\nmode:")]
    assert text.startswith("# ")
    assert f"clip-gateway library add {name}" in head.replace("\n# ", " ")
    assert len(head.splitlines()) >= 8
    assert all(len(line) <= 120 for line in text.splitlines())


def test_every_prompt_fits_clips_context(golden: Path, tmp_path: Path) -> None:
    tokenizer = real_tokenizer(golden, tmp_path)
    for which in ("clip", "library"):
        for name, body in shipped(which).classifiers.items():
            made = body.label_set(LabelRules()).labels
            prompts = [text for entry in made for text in (*entry.prompts, *entry.negatives)]
            assert max(len(ids) for ids in tokenizer.ids(prompts)) <= 40, f"{name}: far below 77, as captions are"


def test_what_the_model_card_says_of_seven_photographs(golden: Path) -> None:
    labels, photographs = np.load(golden / "imagenet_labels_vitb32.npz"), np.load(golden / "photos_vitb32.npz")
    text = labels["text_embeds"] / np.linalg.norm(labels["text_embeds"], axis=1, keepdims=True)
    logits = 100 * photographs["image_embeds"] @ text.T
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    names = labels["names"].tolist()
    best = {names[row.argmax()]: round(float(row.max()), 2) for row in probabilities}
    assert set(best) >= {"Egyptian cat", "tabby", "pier", "street sign", "church"}
    assert {name: best[name] for name in ("coral reef", "seashore")} == {"coral reef": 0.13, "seashore": 0.09}
    weapons = [names.index(name) for name in ("assault rifle", "revolver", "rifle", "cannon", "missile")]
    assert probabilities[:, weapons].max() < 0.003
