"""What a request to train a head may hold, and what its answer looks like."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from gateway.api.schemas.requests import ClientId, SourceIn, WholeNumber, as_list
from gateway.api.schemas.stored_requests import Moment
from gateway.api.schemas.stored_responses import ResourceOut
from gateway.inference.heads import Output
from gateway.moderation.classifiers import Reference
from gateway.moderation.heads import Numbers
from gateway.moderation.request_model import StrictModel

MOST_LABELS = 50
DecisionId = Annotated[str, Field(min_length=1, max_length=64)]
Label = Annotated[str, Field(min_length=1, max_length=256)]


class TrainedLabel(StrictModel):
    """A label to learn; with prompts the head starts from what they mean."""

    label: Label
    prompts: list[str] = Field(default_factory=list, description="Texts that mean it; of every label, or of none.")


class ExampleIn(StrictModel):
    """An example: exactly one of ``image``, ``decision_id`` and ``embedding``."""

    labels: Annotated[list[Label], BeforeValidator(as_list)] | None = Field(
        None,
        description="Those that are true of it; a softmax has one. Of a decision a reviewer's verdict by default.",
    )
    image: SourceIn | None = None
    decision_id: DecisionId | None = Field(None, description="Of a logged decision whose vectors were kept.")
    embedding: Numbers | None = Field(
        None, max_length=1 << 16, description="Unit length: a list, or base64 of little-endian float32."
    )
    group: ClientId | None = Field(
        None, description="Examples of one group, such as one uploader, are never on both sides of a test."
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if sum(given is not None for given in (self.image, self.decision_id, self.embedding)) != 1:
            raise ValueError("give exactly one of image, decision_id and embedding")
        if self.labels is None and self.decision_id is None:
            raise ValueError("an image or embedding needs labels; an empty list where none is true")
        return self


class ReviewedDecisions(StrictModel):
    """Logged decisions with kept vectors that reviewers gave a verdict on: block is its categories, allow harmless."""

    since: Moment | None = None
    until: Moment | None = None
    policy: Reference | None = Field(None, description="name or name@version.")
    external_id: ClientId | None = None
    limit: WholeNumber = Field(1000, ge=1, le=1_000_000, description="The newest ones that are taken.")


class TrainBody(StrictModel):
    """What to learn, and from which examples."""

    labels: list[TrainedLabel] = Field(default_factory=list, max_length=MOST_LABELS)
    from_classifier: Reference | None = Field(
        None, description="Start from a saved classifier's labels and text vectors, instead of labels."
    )
    output: Output = Field(
        "sigmoid",
        description="sigmoid: each label by itself. softmax: exactly one is true. from_classifier brings its own.",
    )
    templates: list[str] = Field(default_factory=list, description="Of the prompts; the bundle's own by default.")
    negatives: list[str] = Field(
        default_factory=list, description="What sigmoid labels' prompts are weighed against; the bundle's by default."
    )
    harmless: Label | None = Field(
        None, description="The label of what reviewers allowed; without it none is true, which a softmax cannot have."
    )
    examples: list[ExampleIn] = Field(default_factory=list)
    decisions: ReviewedDecisions | None = None
    description: str = Field("", max_length=4000)
    seed: WholeNumber = Field(0, ge=0, le=2**31 - 1, description="Of the split into folds and of the resampling.")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if bool(self.labels) == (self.from_classifier is not None):
            raise ValueError("give exactly one of labels and from_classifier")
        if not self.examples and self.decisions is None:
            raise ValueError("give examples, decisions or both")
        if len({bool(entry.prompts) for entry in self.labels}) > 1:
            raise ValueError("give prompts for every label, or for none")
        given = self.model_fields_set & {"output", "templates", "negatives"}
        if self.from_classifier is not None and given:
            raise ValueError(f"from_classifier brings its own {', '.join(sorted(given))}")
        return self


class ExampleCounts(BaseModel):
    """How many examples were used, of how many groups, and of how many each label is true."""

    used: int
    groups: int
    by_label: dict[str, int]


class SkippedExample(BaseModel):
    """An example that could not be used: its position in ``examples`` or its decision, and why."""

    index: int | None
    decision_id: str | None
    reason: str


class TrainedOut(BaseModel):
    """What came of a training."""

    offered: bool
    reason: str | None
    classifier: ResourceOut | None
    examples: ExampleCounts
    skipped: list[SkippedExample]
    skipped_because: dict[str, int]
    figures: dict[str, Any] | None
    sha256: str
