"""What requests about images may hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from gateway.decoding.views import ViewRule
from gateway.errors import InvalidRequest
from gateway.fetching.data_url import is_data_url
from gateway.fetching.image_source import ImageRequest
from gateway.inference.prompts import Mode
from gateway.moderation.classifiers import Reference
from gateway.moderation.request_model import RequestModel, StrictModel

Include = Literal["similarity", "embedding", "views", "heatmap"]
ModerateInclude = Literal["views", "embedding", "heatmap"]
HEATMAP_SAID = "heatmap: which part of the image drove the score, by HEATMAP_GRID squared more inferences an image."
ClientId = Annotated[str, Field(max_length=256, pattern=r"^[^\x00-\x1f\x7f]*$")]
VIEWS_SAID = (
    "views: for each view that the policy uses, every classifier's scores before calibration. "
    "embedding: the vector of each of these views. Neither takes a further inference, neither is logged."
)
MAX_URL_CHARS = 8192


def short_or_data(url: str) -> str:
    """Return a URL that is not too long; one that holds its image is as long as that.

    Raises:
        ValueError: it is too long.
    """
    if len(url) > MAX_URL_CHARS and not is_data_url(url):
        raise ValueError(f"takes at most {MAX_URL_CHARS} characters, unless it is a data: URL")
    return url


UrlText = Annotated[str, Field(min_length=1), AfterValidator(short_or_data)]


def no_boolean(value: object) -> object:
    """Return a value that is no boolean: pydantic would take true for 1.

    Raises:
        ValueError: it is one.
    """
    if isinstance(value, bool):
        raise ValueError("must be a whole number")  # noqa: TRY004 - what pydantic takes for an error
    return value


def as_list(value: object) -> object:
    """Return text as a list of it."""
    return [value] if isinstance(value, str) else value


WholeNumber = Annotated[int, BeforeValidator(no_boolean)]


class SourceIn(StrictModel):
    """Where an image comes from: exactly one of ``url`` and ``base64``."""

    url: UrlText | None = Field(None, description="An http or https URL on the public internet, or a data: URL.")
    base64: str | None = Field(None, description="The file in base64; a data: URL is accepted too.")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.url is None) == (self.base64 is None):
            raise ValueError("give exactly one of url and base64")
        return self


class ImageIn(SourceIn):
    """One image."""

    id: ClientId | None = Field(None, description="Yours; echoed back.")


class LoggedImageIn(ImageIn):
    """One image, with an id for the decision log."""

    external_id: ClientId | None = Field(None, description="Yours, of this image; kept in the decision log.")


class ImagesBody(StrictModel):
    """A JSON request about images."""

    images: list[ImageIn] = Field(min_length=1, description="The images.")


class ImagesForm(StrictModel):
    """A multipart request about images; lists by repeating a field."""

    file: list[Annotated[bytes, Field(json_schema_extra={"format": "binary"})]] = Field(
        default_factory=list, description="The images."
    )
    url: list[UrlText] = Field(default_factory=list, description="URLs of images.")
    id: list[ClientId] = Field(
        default_factory=list, description="Yours, one an image, those of files first; echoed back."
    )
    options: str | None = Field(None, description="The other fields as one JSON object.")

    def named(self, images: Sequence[ImageRequest]) -> list[ImageRequest]:
        """Return the form's images with their ids.

        Raises:
            InvalidRequest: there are not as many ids as images.
        """
        if not self.id:
            return list(images)
        if len(self.id) != len(images):
            raise InvalidRequest(f"Field “id” is given {len(self.id)} times for {len(images)} images; give one each.")
        return [replace(image, id=own) for image, own in zip(images, self.id, strict=True)]


class ClassifyFields(StrictModel):
    """What to ask about the images."""

    classifier: Reference | None = Field(None, description="A stored classifier, name or name@version.")
    labels: list[str] = Field(
        default_factory=list, description="What the image may show, in words.", examples=[["a cat", "a dog"]]
    )
    templates: list[str] | None = Field(
        None, description="Prompt templates with {} for the label, averaged; the bundle's own by default."
    )
    negatives: list[str] | None = Field(
        None, description="Independent mode: prompts each label is weighed against; the bundle's own by default."
    )
    mode: Mode = Field("softmax", description="softmax: scores sum to 1 over the labels. independent: each by itself.")
    top_k: WholeNumber | None = Field(None, ge=1, description="Only the best scores.")
    views: ViewRule = Field(
        "center", description="center: the reference's crop. full: everything. tiles: full and squares."
    )
    include: list[Include] = Field(default_factory=list, description=f"Extra parts of the answer. {HEATMAP_SAID}")
    heatmap_of: str | None = Field(None, description="The label that the heat map explains; the best one by default.")

    @model_validator(mode="after")
    def _labels_or_classifier(self) -> Self:
        given = {name for name in ("labels", "templates", "negatives", "mode") if name in self.model_fields_set}
        if self.classifier is not None and given:
            raise ValueError(f"a stored classifier brings its own {', '.join(sorted(given))}")
        return self


class ClassifyBody(ImagesBody, ClassifyFields):
    """A JSON request to classify images."""


class ClassifyForm(ImagesForm, ClassifyFields):
    """A multipart request to classify images; lists by repeating a field."""


class EmbeddingInput(StrictModel):
    """Something to embed: exactly one of ``text`` and ``image``."""

    text: str | None = None
    image: SourceIn | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.text is None) == (self.image is None):
            raise ValueError("give exactly one of text and image")
        return self


def as_inputs(value: object) -> object:
    """Return inputs as objects: a text, or each text of a list, as one of ``text``.

    Raises:
        ValueError: they are token ids.
    """
    entries = [value] if isinstance(value, str) else value
    if not isinstance(entries, list):
        return value
    for entry in entries:
        if isinstance(entry, int) or (isinstance(entry, list) and all(isinstance(token, int) for token in entry)):
            raise ValueError(
                "holds token ids, which mean something else to every model; send texts "
                "(with LangChain: check_embedding_ctx_length=False)"
            )
    return [{"text": entry} if isinstance(entry, str) else entry for entry in entries]


EmbeddingInputs = Annotated[
    list[EmbeddingInput], BeforeValidator(as_inputs, json_schema_input_type=str | list[str | EmbeddingInput])
]


class EmbeddingsBody(RequestModel):
    """A request for vectors; OpenAI's other fields (``model``, ``user``, …) are accepted and change nothing."""

    input: EmbeddingInputs = Field(description="Texts and images.")
    encoding_format: Literal["float", "base64"] = Field(
        "float", description="base64: little-endian float32, a third of the size."
    )


class ModerateFields(StrictModel):
    """What to decide by."""

    policy: Reference = Field("default", description="name or name@version.")
    shadow: Reference | None = Field(None, description="A second policy: evaluated and reported, never decisive.")
    include: list[ModerateInclude] = Field(
        default_factory=list, description=f"Extra parts of the answer. {VIEWS_SAID} {HEATMAP_SAID}"
    )
    heatmap_of: str | None = Field(
        None, description="The category that the heat map explains; the strictest one by default."
    )


class ModerateBody(ImagesBody, ModerateFields):
    """A JSON request to moderate images."""

    images: list[LoggedImageIn] = Field(min_length=1, description="The images.")  # type: ignore[assignment]
    external_id: ClientId | None = Field(
        None, description="Yours, of each image that has none of its own; kept in the decision log."
    )


class ModerateForm(ImagesForm, ModerateFields):
    """A multipart request to moderate images; lists by repeating a field."""

    external_id: Annotated[list[ClientId], BeforeValidator(as_list)] = Field(
        default_factory=list,
        description="Yours; kept in the decision log. Once for all images, or once an image, those of files first.",
    )

    def named(self, images: Sequence[ImageRequest]) -> list[ImageRequest]:
        """Return the form's images with their ids.

        Raises:
            InvalidRequest: there are not as many ids as images, nor one for all.
        """
        own = self.external_id * len(images) if len(self.external_id) == 1 else self.external_id
        if own and len(own) != len(images):
            raise InvalidRequest(
                f"Field “external_id” is given {len(own)} times for {len(images)} images; give one for all or one each."
            )
        named = super().named(images)
        return [replace(image, external_id=one) for image, one in zip(named, own, strict=True)] if own else named
