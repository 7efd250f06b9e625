"""FAULTS 84-91: words that cannot be used are refused, all others are taken as they are."""

from __future__ import annotations

import pytest

from gateway.errors import InvalidLabels
from gateway.labels import LabelRequest, LabelRules, label_set

RULES = LabelRules(max_labels=1000, max_templates=3, max_chars=200)


def ask(
    *labels: str,
    templates: tuple[str, ...] = ("a photo of {}",),
    mode: str = "softmax",
    negatives: tuple[str, ...] = (),
) -> None:
    label_set(LabelRequest(labels, templates, negatives, mode), RULES)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param((), id="84-none"),
        pytest.param(("cat",), id="84-one-for-softmax"),
        pytest.param(tuple(map(str, range(10_000))), id="85-ten-thousand"),
        pytest.param(("cat", "  "), id="86-blank"),
        pytest.param(("cat", ""), id="86-empty"),
        pytest.param(("ﬁsh", "fish"), id="87-alike-after-nfkc"),
        pytest.param(("Cat", "cat"), id="87-alike-to-a-lower-casing-tokenizer"),
        pytest.param(("cat", "do\x00g"), id="88-nul"),
        pytest.param(("cat", "do\ng"), id="88-newline"),
        pytest.param(("cat", "do\x9fg"), id="88-c1"),
        pytest.param(("cat", "\u202egod"), id="88-bidi-override"),
        pytest.param(("cat", "\u2066dog"), id="88-bidi-isolate"),
        pytest.param(("cat", "\ud800"), id="89-lone-surrogate"),
        pytest.param(("cat", "x" * 201), id="too-many-characters"),
    ],
)
def test_labels_that_are_refused(labels: tuple[str, ...]) -> None:
    with pytest.raises(InvalidLabels) as caught:
        ask(*labels)
    caught.value.detail.encode()  # can be sent: no surrogate comes back


@pytest.mark.parametrize(
    "labels",
    [("👩‍🚀 an astronaut", "🏳️‍🌈"), ("قطة", "كلب"), ("naïve café", "猫")],
    ids=["91-emoji", "91-rtl", "91-other"],
)
def test_labels_that_are_taken(labels: tuple[str, ...]) -> None:
    ask(*labels)


def test_one_label_is_enough_for_independent_mode() -> None:
    ask("cat", mode="independent", negatives=("something else",))


@pytest.mark.parametrize("template", ["no slot", "{} twice {}", "", "{}\x00"])
def test_templates_that_are_refused(template: str) -> None:
    with pytest.raises(InvalidLabels):
        ask("cat", "dog", templates=(template,))


def test_independent_mode_needs_negatives() -> None:
    with pytest.raises(InvalidLabels, match="negative"):
        ask("cat", mode="independent", negatives=())


def test_no_templates_are_refused() -> None:
    with pytest.raises(InvalidLabels, match="template"):
        ask("cat", "dog", templates=())


def test_a_label_is_text_and_never_a_format_string() -> None:
    made = label_set(LabelRequest(("{0.__class__}", "{}"), ("a {}",), (), "softmax"), RULES)
    assert [entry.prompts for entry in made.labels] == [("a {0.__class__}",), ("a {}",)]
