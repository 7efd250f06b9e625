"""Which words make a set of labels, at the very edge of each cap, and what a client is told of the others."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import InvalidLabels
from gateway.inference.prompts import LabelPrompts, LabelRequest, LabelRules, LabelSet, label_set

NOT_ACCEPTED = "; control characters, direction overrides and lone surrogates are not accepted."
RULES = LabelRules(max_labels=3, max_templates=2, max_chars=4)


def made(labels: tuple[str, ...] = ("a", "b"), **changes: Any) -> LabelSet:
    fields: dict[str, Any] = {"templates": ("{}",), "negatives": (), "mode": "softmax", **changes}
    return label_set(LabelRequest(labels, **fields), RULES)


def test_each_label_goes_into_each_template_and_keeps_its_negatives() -> None:
    assert made(("a", "b"), templates=("{}", "a {}"), negatives=("c", "d"), mode="independent") == LabelSet(
        "independent",
        (LabelPrompts("a", ("a", "a a"), ("c", "d")), LabelPrompts("b", ("b", "a b"), ("c", "d"))),
    )
    assert made() == LabelSet("softmax", (LabelPrompts("a", ("a",), ()), LabelPrompts("b", ("b",), ())))


def test_as_many_and_as_long_as_the_caps_allow() -> None:
    three = ("abcd", "b", "c")
    assert len(made(three, templates=("{} ab"[:4], "{}"), negatives=("efgh", "f", "g")).labels) == 3
    assert len(made(("a",), negatives=("b",), mode="independent").labels) == 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"labels": ()}, "0 label(s) given; mode “softmax” needs at least 2."),
        (
            {"labels": ("a",)},
            "1 label(s) given; mode “softmax” needs at least 2. To judge one label by itself use mode “independent”.",
        ),
        ({"labels": (), "mode": "independent"}, "0 label(s) given; mode “independent” needs at least 1."),
        ({"labels": ("a", "b", "c", "d")}, "4 labels given; at most 3 are accepted."),
        ({"templates": ("{}", "a{}", "b{}")}, "3 templates given; at most 2 are accepted."),
        ({"negatives": ("c", "d", "e", "f")}, "4 negatives given; at most 3 are accepted."),
        ({"labels": ("a", " \u3000")}, "The label at position 1 is blank."),
        ({"templates": ("{}", " ")}, "The template at position 1 is blank."),
        ({"negatives": ("",)}, "The negative at position 0 is blank."),
        ({"labels": ("a", "abcde")}, "The label at position 1 has 5 characters; at most 4 are accepted."),
        (
            {"templates": ()},
            "No template given; leave templates out for the model's own, or give “{}” for the bare label.",
        ),
        (
            {"mode": "independent"},
            "Mode “independent” needs a negative; leave negatives out for the model's own.",
        ),
        ({"templates": ("{}", "a")}, "Template 1 must hold {} exactly once, where the label goes."),
        ({"templates": ("{}{}",)}, "Template 0 must hold {} exactly once, where the label goes."),
        *(
            (
                {"labels": ("é", f"é{character}")},
                f"The label at position 1 holds U+{code}{NOT_ACCEPTED}",
            )
            for character, code in (
                ("\x07", "0007"),
                ("\x9f", "009F"),
                ("\ud800", "D800"),
                ("\u202a", "202A"),
                ("\u202e", "202E"),
                ("\u2066", "2066"),
                ("\u2069", "2069"),
            )
        ),
        (
            {"labels": ("a", "B  c", "b c")},
            "The labels at positions 1 and 2 are the same to the model; give each label once.",
        ),
    ],
)
def test_what_is_said_of_words_that_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidLabels) as caught:
        made(**given)
    assert caught.value.detail == said


def test_a_control_character_in_plain_text_is_found_behind_a_word_that_has_none() -> None:
    with pytest.raises(InvalidLabels, match="position 1 holds U\\+0007"):
        made(("a", "\x07"))


@pytest.mark.parametrize("mark", ["\u200e", "\u200f", "\u200d", "\u2065", "\u206a", "\u2029"])
def test_plain_direction_marks_and_joiners_are_taken(mark: str) -> None:
    assert made(("é", f"a{mark}b")).labels[1].prompts == (f"a{mark}b",)
