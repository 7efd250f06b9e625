"""What is asked and answered about labelled sets and jobs."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, PrivateAttr, model_validator

from gateway.api.body.validation import NAME_PATTERN
from gateway.api.openapi import EXAMPLE_PNG
from gateway.api.schemas.requests import ClientId, ImagesBody, ImagesForm, SourceIn, as_list
from gateway.api.schemas.stored_requests import Moment
from gateway.errors import InvalidRequest
from gateway.moderation.classifiers import Reference
from gateway.moderation.request_model import StrictModel
from gateway.store.jobs.labelled_sets import HARMLESS

MOST_LABELS, MOST_SLICES = 50, 20

Label = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$")]
SliceValue = Annotated[str, Field(max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$")]
Share = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]


def no_harmless(labels: list[str]) -> list[str]:
    """Return labels sorted, each once, and none of what is harmless.

    Raises:
        ValueError: it stands beside others.
    """
    found = sorted(set(labels))
    if HARMLESS in found and len(found) > 1:
        raise ValueError(f"“{HARMLESS}” stands beside another label")
    return [label for label in found if label != HARMLESS]


Labels = Annotated[list[Label], Field(max_length=MOST_LABELS), AfterValidator(no_harmless)]
Slices = Annotated[dict[Label, SliceValue], Field(max_length=MOST_SLICES)]


def from_json(value: object) -> object:
    """Return what texts of a form mean as JSON: one field, or one a file; one field may hold a list for each file.

    Raises:
        ValueError: one is no JSON.
    """
    entries = as_list(value)
    if not isinstance(entries, list):
        return value
    try:
        found = [json.loads(entry) if isinstance(entry, str) else entry for entry in entries]
    except (ValueError, RecursionError):
        raise ValueError("is no JSON") from None
    one = found[0] if len(found) == 1 else None
    return one if isinstance(one, list) and one and all(isinstance(entry, (list, dict)) for entry in one) else found


class LabelledSetIn(StrictModel):
    """What a labelled set is for."""

    description: str = Field("", max_length=4000)


class Said(StrictModel):
    """What is said to be true of an image."""

    labels: Labels = Field(description="Categories that are true of it; none: harmless.")
    group: ClientId | None = Field(None, description="Of images that belong together: one uploader, one video.")
    slices: Slices = Field(default_factory=dict, description="For figures by slice: column to value.")


class LabelledImageIn(SourceIn, Said):
    """An image with what is true of it."""


class LabelledImagesBody(ImagesBody):
    """Labelled images as JSON."""

    images: list[LabelledImageIn] = Field(min_length=1, description="The images.")  # type: ignore[assignment]
    _said: list[Said] = PrivateAttr(default_factory=list)

    @model_validator(mode="after")
    def _kept(self) -> Self:
        self._said = [Said(labels=one.labels, group=one.group, slices=one.slices) for one in self.images]
        return self

    def said(self, count: int) -> list[Said]:
        """Return what is said of each image, also when the images were handed over."""
        return self._said[:count]


class LabelledImagesForm(ImagesForm):
    """Labelled images as a form: ``labels``, ``group`` and ``slices`` once for all images or once an image."""

    labels: Annotated[
        list[Labels], BeforeValidator(from_json, json_schema_input_type=list[str]), Field(min_length=1)
    ] = Field(description='A JSON list: `["gore"]`, `[]` of what is harmless.', examples=[['["gore"]']])
    group: Annotated[list[ClientId], BeforeValidator(as_list)] = Field(
        default_factory=list, description="Of images that belong together."
    )
    slices: Annotated[list[Slices], BeforeValidator(from_json, json_schema_input_type=list[str])] = Field(
        default_factory=list, description="A JSON object: column to value.", examples=[['{"source": "web"}']]
    )

    def said(self, count: int) -> list[Said]:
        """Return what is said of each of so many images.

        Raises:
            InvalidRequest: a field is there neither once nor once an image.
        """
        labels = _each("labels", self.labels, count)
        groups: list[Any] = _each("group", self.group, count) if self.group else [None] * count
        slices: list[Any] = _each("slices", self.slices, count) if self.slices else [{} for _ in range(count)]
        given = zip(labels, groups, slices, strict=True)
        return [Said(labels=own, group=group or None, slices=values) for own, group, values in given]


def _each(name: str, given: list[Any], count: int) -> list[Any]:
    if len(given) not in {1, count}:
        raise InvalidRequest(
            f"Field “{name}” is given {len(given)} times for {count} images; give one for all or one each."
        )
    return given * count if len(given) == 1 else given


EXAMPLE_LABELLED: dict[str, Any] = {"images": [{"base64": EXAMPLE_PNG, "labels": ["gore"]}]}


class LabelledSetOut(BaseModel):
    """A labelled set; ``labels`` counts images by label, those without any as harmless."""

    name: str
    description: str
    created_at: str
    bundle_id: str | None
    served: bool
    images: int
    labels: dict[str, int]
    views: list[str]


class LabelledSetsOut(BaseModel):
    """All labelled sets."""

    data: list[LabelledSetOut]


class LabelledImageOut(BaseModel):
    """What became of an image: added, its labels updated, or a problem."""

    index: int
    sha256: str | None
    labels: list[str]
    outcome: Literal["added", "updated"] | None
    error: dict[str, Any] | None


class LabelledImagesOut(BaseModel):
    """A result for each image, and the set as it is now."""

    results: list[LabelledImageOut]
    set: LabelledSetOut


class ReviewedSource(StrictModel):
    """Decisions of the policy that reviewers gave a verdict on."""

    since: Moment | None = None
    until: Moment | None = None


class SourceOfImages(StrictModel):
    """Where labelled images come from: exactly one of both."""

    set: Annotated[str, Field(pattern=NAME_PATTERN)] | None = Field(None, description="A labelled set.")
    reviewed: ReviewedSource | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.set is None) == (self.reviewed is None):
            raise ValueError("give exactly one of set and reviewed")
        return self


class GoalsIn(StrictModel):
    """What thresholds are to keep; none: thresholds stay as they are."""

    block_fpr: Share | None = Field(None, description="Of harmless images, blocked at most.")
    review_share: Share | None = Field(None, description="Of all images, sent to review at most.")
    catch: Share | None = Field(None, description="Of each category's images, reviewed or blocked at least.")
    confidence: Share = Field(0.95, description="Of these promises.")
    prevalence: Annotated[
        dict[Label, Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]], Field(max_length=200)
    ] = Field(default_factory=dict, description="How common categories are in the traffic; for review_share of a set.")


class JobIn(StrictModel):
    """What is to be done."""

    kind: Literal["evaluate"] = "evaluate"
    policy: Reference = Field("default", description="name or name@version.")
    source: SourceOfImages
    goals: GoalsIn | None = None
    calibrate: bool = Field(default=False, description="Fit calibrations; of a labelled set.")
    compare_with: Annotated[str, Field(max_length=64)] | None = Field(None, description="Another job that is done.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.source.reviewed is not None and self.calibrate:
            raise ValueError("calibrate goes with a labelled set")
        return self


EXAMPLE_JOB: dict[str, Any] = {"kind": "evaluate", "policy": "default", "source": {"reviewed": {}}}


class JobProgress(BaseModel):
    """How far a job is: images, and the step it is at."""

    step: str | None
    done: int
    total: int


class JobFileOut(BaseModel):
    """A file of a job."""

    name: str
    bytes: int
    content_type: str


class JobOut(BaseModel):
    """A job; ``error`` is a problem document of one that failed."""

    id: str
    kind: str
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    request: dict[str, Any]
    progress: JobProgress
    created_at: str
    created_by: str | None
    started_at: str | None
    ended_at: str | None
    attempts: int
    error: dict[str, Any] | None
    result: dict[str, Any] | None
    files: list[JobFileOut]


class JobsOut(BaseModel):
    """A page of jobs, newest first."""

    data: list[JobOut]
    next_cursor: str | None
