"""Words of a request → the prompts that stand for each label.

Rule for ``independent`` mode when a label brings no negatives of its own: it is weighed against the bundle's generic
negatives, prompts that say "something else". The "other" prompt is from LSeg (Li et al., ICLR 2022), the pairing of a
prompt with its opposite and the softmax over the pair from CLIP-IQA (Wang et al., AAAI 2023). A generic negative is
weak: a close negative of one's own ("a person in swimwear" against "a naked person") is always better.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gateway.errors import InvalidLabels

Mode = Literal["softmax", "independent"]

SLOT = "{}"
# Embedding, override and isolate controls (Unicode UAX #9): they let a label show as another. Plain direction marks and
# the joiners that emoji are made of stay allowed.
BIDI_CONTROLS = frozenset(map(chr, [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]))


@dataclass(frozen=True, slots=True)
class LabelRules:
    """Caps on what a request may name; characters are counted before tokenizing."""

    max_labels: int = 1000
    max_templates: int = 100
    max_chars: int = 1000


@dataclass(frozen=True, slots=True)
class LabelPrompts:
    """One label and the prompts whose mean vector stands for it; ``negatives`` are used in independent mode alone."""

    label: str
    prompts: tuple[str, ...]
    negatives: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LabelSet:
    """The labels of one question, in the order they were given."""

    mode: Mode
    labels: tuple[LabelPrompts, ...]


@dataclass(frozen=True, slots=True)
class LabelRequest:
    """Words as the client gave them; hashable, so that what was made of them can be cached."""

    labels: tuple[str, ...]
    templates: tuple[str, ...]
    negatives: tuple[str, ...]
    mode: Mode


def label_set(request: LabelRequest, rules: LabelRules) -> LabelSet:
    """Check the words and put each label into each template.

    Raises:
        InvalidLabels: none, too few for the mode, too many, blank, alike, unprintable, or a template without ``{}``.
    """
    count, least = len(request.labels), 2 if request.mode == "softmax" else 1
    if count < least:
        raise InvalidLabels(
            f"{count} label(s) given; mode “{request.mode}” needs at least {least}."
            + (" To judge one label by itself use mode “independent”." if count == 1 else "")
        )
    for words, kind, most in (
        (request.labels, "label", rules.max_labels),
        (request.templates, "template", rules.max_templates),
        (request.negatives, "negative", rules.max_labels),
    ):
        if len(words) > most:
            raise InvalidLabels(f"{len(words)} {kind}s given; at most {most} are accepted.")
        check_words(words, kind, rules)
    if not request.templates:
        raise InvalidLabels(
            "No template given; leave templates out for the model's own, or give “{}” for the bare label."
        )
    if request.mode == "independent" and not request.negatives:
        raise InvalidLabels("Mode “independent” needs a negative; leave negatives out for the model's own.")
    for position, template in enumerate(request.templates):
        if template.count(SLOT) != 1:
            raise InvalidLabels(f"Template {position} must hold {SLOT} exactly once, where the label goes.")
    _check_distinct(request.labels)
    return LabelSet(
        request.mode,
        tuple(
            LabelPrompts(
                label, tuple(template.replace(SLOT, label) for template in request.templates), request.negatives
            )
            for label in request.labels
        ),
    )


def check_words(words: Sequence[str], kind: str, rules: LabelRules) -> None:
    """Refuse words that no prompt can be made of; ``kind`` names them in the error.

    Raises:
        InvalidLabels: one is blank, too long, or holds control characters, direction overrides or lone surrogates.
    """
    for position, text in enumerate(words):
        if not text.strip():
            raise InvalidLabels(f"The {kind} at position {position} is blank.")
        if len(text) > rules.max_chars:
            raise InvalidLabels(
                f"The {kind} at position {position} has {len(text)} characters; at most {rules.max_chars} are accepted."
            )
        if text.isascii() and text.isprintable():
            continue
        for character in text:
            if unicodedata.category(character) in {"Cc", "Cs"} or character in BIDI_CONTROLS:
                raise InvalidLabels(
                    f"The {kind} at position {position} holds U+{ord(character):04X}; control characters, direction "
                    "overrides and lone surrogates are not accepted."
                )


def _check_distinct(labels: Sequence[str]) -> None:
    seen: dict[str, int] = {}
    for position, label in enumerate(labels):
        key = " ".join(unicodedata.normalize("NFKC", label).casefold().split())
        if key in seen:
            raise InvalidLabels(
                f"The labels at positions {seen[key]} and {position} are the same to the model; give each label once."
            )
        seen[key] = position
