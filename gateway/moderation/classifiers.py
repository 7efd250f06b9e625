"""Classifiers: named scenarios made of words. The wire form, what it must satisfy, and its normal form.

A saved classifier is kept in normal form: templates and negatives that were left out are filled in from the bundle, so
that what a version means does not change when a default does.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from gateway.errors import InvalidRequest
from gateway.inference.prompts import LabelPrompts, LabelRequest, LabelRules, LabelSet, Mode, check_words, label_set
from gateway.moderation.calibration import Calibration, GroupCalibrations, Temperature, check_groups
from gateway.moderation.request_model import StrictModel

NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
REFERENCE_PATTERN = r"^[a-z0-9][a-z0-9_.-]{0,63}(@[1-9][0-9]{0,8})?$"
Reference = Annotated[str, Field(pattern=REFERENCE_PATTERN)]


class ClassifierLabel(StrictModel):
    """One label: its prompts, what it must not be taken for, and its calibration (None: uncalibrated)."""

    label: str
    prompts: list[str] = Field(default_factory=list, description="Texts that mean it; the label itself by default.")
    negatives: list[str] = Field(default_factory=list, description="Independent mode: what it is weighed against.")
    calibration: Calibration | None = None


def as_labels(value: object) -> object:
    """Return a list with each plain string as a label without anything else."""
    return (
        [{"label": entry} if isinstance(entry, str) else entry for entry in value] if isinstance(value, list) else value
    )


class Classifier(StrictModel):
    """A scenario: softmax over its labels, or each label against its own negatives."""

    kind: Literal["labels"] = "labels"
    mode: Mode = "softmax"
    labels: Annotated[list[ClassifierLabel], BeforeValidator(as_labels)] = Field(min_length=1)
    templates: list[str] = Field(default_factory=list, description="The bundle's own by default.")
    description: str = Field("", max_length=4000)
    temperature: Temperature = None
    calibrations: GroupCalibrations = Field(default_factory=list)
    none_below: float | None = Field(
        None, ge=-1, le=1, strict=True, description="An image is none of the labels if its best similarity is lower."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Classifier:
        check_groups([entry.label for entry in self.labels], self.calibrations)
        return self

    def normal(self, templates: tuple[str, ...], negatives: tuple[str, ...]) -> Classifier:
        """Return the same with every default filled in from the bundle's templates and negatives."""
        labels = [
            entry.model_copy(
                update={
                    "prompts": entry.prompts or [entry.label],
                    "negatives": (entry.negatives or list(negatives)) if self.mode == "independent" else [],
                }
            )
            for entry in self.labels
        ]
        return self.model_copy(update={"labels": labels, "templates": self.templates or list(templates)})

    def label_set(self, rules: LabelRules) -> LabelSet:
        """Return the prompts of every label; of a classifier in normal form.

        Raises:
            InvalidLabels: words that cannot be used, too few labels, or a template without its slot.
        """
        names = tuple(entry.label for entry in self.labels)
        negatives = tuple(dict.fromkeys(text for entry in self.labels for text in entry.negatives))
        checked = label_set(LabelRequest(names, tuple(self.templates), negatives, self.mode), rules)
        made = []
        for entry, plain in zip(self.labels, checked.labels, strict=True):
            check_words(entry.prompts, f"prompt of “{entry.label}”", rules)
            slots = [template.replace("{}", prompt) for template in self.templates for prompt in entry.prompts]
            made.append(LabelPrompts(plain.label, tuple(dict.fromkeys(slots)), tuple(entry.negatives)))
        return LabelSet(self.mode, tuple(made))


def check_name(name: str) -> str:
    """Return a resource's name if it is one.

    Raises:
        InvalidRequest: it is not.
    """
    if not NAME.fullmatch(name):
        raise InvalidRequest(
            "A name has 1 to 64 lower-case letters, digits, dots, dashes and underscores, and begins with a letter or "
            "digit."
        )
    return name


def split_reference(reference: str) -> tuple[str, int | None]:
    """Return name and version of ``name`` or ``name@version``.

    Raises:
        InvalidRequest: it is neither.
    """
    name, at, number = reference.partition("@")
    if at and not (number.isascii() and number.isdigit() and 0 < int(number[:10]) < 10**9):
        raise InvalidRequest("A version is named as name@number, for example gore@3.")
    return check_name(name), int(number) if at else None
