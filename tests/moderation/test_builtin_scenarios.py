"""The shipped scenarios: of the form the API takes, and with the promises that their comments make."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from gateway.inference.prompts import LabelRules
from gateway.moderation.builtin_scenarios import SETS, SetName, fingerprint, former, shipped
from gateway.moderation.classifiers import Classifier
from gateway.moderation.policy import OPENAI_CATEGORIES

DECIDING = {"nudity", "gore", "offensive"}
NAMES = DECIDING | {"facial_attributes"}
FOLDER = files("gateway.moderation").joinpath("scenarios")
NEVER_IN_FACES = re.compile(
    r"\b(man|men|woman|women|male|female|gender|boy|girl|child|children|teenager|young|old|elderly|age|race|ethnic\w*|"
    r"black|white|asian|african|european|arab|latino|jewish|muslim|christian|gay|attractive|ugly|beautiful|disabled|"
    r"celebrity|politician|criminal|famous|name|headscarf|hijab|turban)\b"
)
MINORS = re.compile(r"\b(child|children|kid|kids|minor|minors|teen|teens|teenager|schoolgirl|schoolboy|underage)\b")
NEGATION = re.compile(r"\b(no|not|without|none|nobody|never)\b")


@pytest.fixture(params=SETS)
def which(request: pytest.FixtureRequest) -> SetName:
    name: SetName = request.param
    return name


def texts(body: Classifier) -> list[str]:
    return [text for entry in body.labels for text in (entry.label, *entry.prompts, *entry.negatives)]


def test_both_sets_hold_the_same_names(which: SetName) -> None:
    found = shipped(which)
    assert set(found.classifiers) == NAMES
    assert set(found.policies) == {"default"}


def test_every_classifier_is_complete_without_the_bundles_defaults(which: SetName) -> None:
    for name, body in shipped(which).classifiers.items():
        assert body.description, name
        assert body.normal(("other {}",), ("other",)) == body, name
        prompts = [text for entry in body.label_set(LabelRules()).labels for text in (*entry.prompts, *entry.negatives)]
        assert len(set(prompts)) <= 2000, "one save must fit the cap on new prompts"


def test_in_a_softmax_no_prompt_stands_for_two_labels(which: SetName) -> None:
    for name, body in shipped(which).classifiers.items():
        if body.mode == "softmax":
            prompts = [prompt for entry in body.labels for prompt in entry.prompts]
            assert len(prompts) == len(set(prompts)), name


def test_the_policy_names_labels_that_are_there(which: SetName) -> None:
    found = shipped(which)
    policy = found.policies["default"]
    assert [rule.category for rule in policy.rules] == [rule.classifier for rule in policy.rules]
    assert {rule.category for rule in policy.rules} == DECIDING
    assert policy.views == "tiles"
    for rule in policy.rules:
        assert set(rule.labels) < {entry.label for entry in found.classifiers[rule.classifier].labels}


def test_faces_inform_and_nothing_more(which: SetName) -> None:
    found = shipped(which)
    policy = found.policies["default"]
    assert policy.attributes == []
    assert all(rule.classifier != "facial_attributes" for rule in policy.rules)
    faces = found.classifiers["facial_attributes"]
    assert faces.mode == "independent", "a face may wear glasses and a hat"
    assert all(entry.negatives for entry in faces.labels), "negatives of its own for each"
    assert not [text for text in texts(faces) if NEVER_IN_FACES.search(text)]


def test_openai_s_categories_never_speak_of_minors(which: SetName) -> None:
    found = shipped(which)
    mapping = found.policies["default"].openai_categories
    assert mapping == {
        "nudity": ["sexual"],
        "gore": ["violence", "violence/graphic"],
        "offensive": ["hate", "harassment"],
    }
    assert {name for names in mapping.values() for name in names} < set(OPENAI_CATEGORIES)
    assert not [text for text in texts(found.classifiers["nudity"]) if MINORS.search(text)]


def test_a_real_clip_has_no_invented_threshold() -> None:
    found = shipped("clip")
    for rule in found.policies["default"].rules:
        assert (rule.review_at, rule.block_at) == (0.5, None)
        body = found.classifiers[rule.classifier]
        assert body.mode == "softmax"
        assert len(rule.labels) * 3 <= len(body.labels), "no opinion must stay well below one half"
    assert all(entry.calibration is None for body in found.classifiers.values() for entry in body.labels)


def test_a_real_clip_is_not_asked_to_understand_negation() -> None:
    for name, body in shipped("clip").classifiers.items():
        assert not [text for text in texts(body) if NEGATION.search(text)], name
        assert len(body.labels) >= 10, name


def test_the_demo_blocks_and_is_calibrated() -> None:
    found = shipped("demo")
    for rule in found.policies["default"].rules:
        assert rule.block_at is not None
        assert all(entry.calibration is not None for entry in found.classifiers[rule.classifier].labels)
    for body in found.classifiers.values():
        for entry in body.labels:
            assert entry.calibration is not None
            assert (entry.calibration.scale, entry.calibration.offset) == (1, 0)
            assert entry.calibration.source


def test_the_reasons_stand_beside_the_words(which: SetName) -> None:
    for name in (*NAMES, "policy-default"):
        text = FOLDER.joinpath(which, f"{name}.yaml").read_text(encoding="utf-8")
        assert text.startswith("# "), name
        assert all(len(line) <= 120 for line in text.splitlines()), name


def test_fingerprints_tell_bodies_apart() -> None:
    bodies = [body for name in SETS for body in shipped(name).classifiers.values()]
    assert len({fingerprint(body) for body in bodies}) == len(bodies)
    assert fingerprint(bodies[0]) == fingerprint(dict(reversed(bodies[0].model_dump(mode="json").items())))
    assert not former() & {fingerprint(body) for body in bodies}, "what is shipped is no former body"
