"""POST /v1/moderations: OpenAI's contract, for its SDKs with another base_url. Errors have OpenAI's shape here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel, Field, field_validator
from starlette.requests import Request

from gateway.api.authorization import key_name
from gateway.api.body.images import check_count
from gateway.api.body.reader import read_json
from gateway.api.body.repeats import IdempotencyKeyDep, answered_before, attempt_of
from gateway.api.body.validation import validated
from gateway.api.dependencies import Services, ServicesDep
from gateway.api.disconnect import unless_client_leaves
from gateway.api.openapi import EXAMPLE_PNG, request_body
from gateway.api.problems import OPENAI_PATH
from gateway.errors import InvalidRequest, NotFound, TextNotSupported
from gateway.fetching.image_source import ImageRequest, source_of_url
from gateway.limits.admission import Reservation
from gateway.limits.deadline import Deadline
from gateway.moderation.classifiers import split_reference
from gateway.moderation.moderator import Answering, Moderated, RequestOrigin
from gateway.moderation.policy import OPENAI_CATEGORIES, STRICTNESS
from gateway.moderation.request_model import RequestModel
from gateway.moderation.verdicts import Verdict

DEFAULT_POLICY = "default"
SHOWN_CHARS = 80
OPENAI_MODELS = "omni-moderation", "text-moderation"

router = APIRouter(tags=["openai"])


class ImageUrl(RequestModel):
    """Where an image is: an http, https or data: URL."""

    url: str


class ImagePart(RequestModel):
    """An image of the input."""

    type: Literal["image_url"]
    image_url: ImageUrl


class TextPart(RequestModel):
    """A text of the input: not read here."""

    type: Literal["text"]
    text: str


Part = Annotated[ImagePart | TextPart, Field(discriminator="type")]


class ModerationsBody(RequestModel):
    """A request in OpenAI's form."""

    input: list[Part] = Field(description="Parts; a string, or a list of strings, is text.")
    model: str | None = Field(None, description="May name a policy, name or name@version; `default` otherwise.")

    @field_validator("input", mode="before")
    @classmethod
    def _texts(cls, value: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
        if isinstance(value, list):
            return [{"type": "text", "text": entry} if isinstance(entry, str) else entry for entry in value]
        return [{"type": "text", "text": value}] if isinstance(value, str) else value


class ModerationsResult(BaseModel):
    """One result for all parts of the input."""

    flagged: bool
    categories: dict[str, bool]
    category_scores: dict[str, float]
    category_applied_input_types: dict[str, list[str]]


class ModerationsResponse(BaseModel):
    """An answer in OpenAI's form; ``model`` is the policy (several, by comma) and the bundle that decided."""

    id: str
    model: str
    results: list[ModerationsResult]


@router.post(
    OPENAI_PATH,
    summary="OpenAI-compatible moderation",
    response_model=ModerationsResponse,
    openapi_extra=request_body(
        ModerationsBody,
        {"input": [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{EXAMPLE_PNG}"}}]},
    ),
)
async def moderations(request: Request, services: ServicesDep, key: IdempotencyKeyDep) -> Response:
    """Decide about the images of the input by a policy, in OpenAI's shape; text is refused, never passed as clean."""
    with services.admission.request() as reservation:
        body = await read_json(request, services.body_rules, reservation)
        fields = validated(ModerationsBody, body)
        body.clear()
        images = images_of(fields, services, reservation)
        request.state.images = len(images)
        async with attempt_of(request, services, key, fields, images) as attempt:
            if attempt.answer is not None:
                return answered_before(attempt.answer)
            deadline = Deadline.after(services.request_timeout_s)
            judges = await services.catalog.judges(policy_reference(fields.model), None, deadline)

            def answer_of(moderated: list[Moderated]) -> bytes:
                verdicts = verdicts_of(moderated)
                answer = {
                    "id": f"modr-{request.state.request_id}",
                    "model": f"{deciding(verdicts)}:{services.manifest.bundle_id}",
                    "results": [result(verdicts, review_flags=services.moderations.review_flags)],
                }
                return orjson.dumps(answer)

            origin = RequestOrigin(None, request.state.request_id, key_name(request))
            answering = Answering(attempt, answer_of)
            running = services.moderator.moderate(images, judges, origin, deadline, answering)
            moderated = await unless_client_leaves(request, running)
            return Response(attempt.answer or answer_of(moderated), media_type="application/json")


def policy_reference(model: str | None) -> str:
    """Return the policy that the field ``model`` names: the default one where it names a model of OpenAI's.

    Raises:
        NotFound: it is no reference, so there is no such policy.
    """
    if not model or model.startswith(OPENAI_MODELS):
        return DEFAULT_POLICY
    try:
        split_reference(model)
    except InvalidRequest:
        raise NotFound(f"There is no policy “{model[:SHOWN_CHARS]}”.") from None
    return model


def images_of(fields: ModerationsBody, services: Services, reservation: Reservation) -> list[ImageRequest]:
    """Return the images of the input, which is emptied: they are not held twice.

    Raises:
        TextNotSupported: there is text, and it is not to be ignored.
        InvalidRequest: no image, or more than allowed.
    """
    found = [part for part in fields.input if isinstance(part, ImagePart)]
    if len(found) < len(fields.input) and not (services.moderations.ignore_text and found):
        raise TextNotSupported(
            "Text is not moderated here, and unread text must not pass as clean; send image_url parts."
        )
    if not found:
        raise InvalidRequest("The input has no image_url part.")
    check_count(found, services.moderations.max_images)
    fields.input.clear()
    return [ImageRequest(source_of_url(part.image_url.url, reservation)) for part in found]


def verdicts_of(moderated: Sequence[Moderated]) -> list[Verdict]:
    """Return the verdicts of all images.

    Raises:
        GatewayError: one failed, and so the whole input: the result speaks for all of it.
    """
    for item in moderated:
        if item.outcome.error is not None:
            raise item.outcome.error
    return [item.verdict for item in moderated if item.verdict is not None]


def deciding(verdicts: Sequence[Verdict]) -> str:
    """Return the policy versions that decided, ``name@version``: several where a rollout gives images to another."""
    return ",".join(sorted({verdict.policy.key for verdict in verdicts}))


def result(verdicts: Sequence[Verdict], *, review_flags: bool) -> dict[str, Any]:
    """Return one result for all images: every category of OpenAI's, the highest score of those mapped onto it."""
    least = STRICTNESS["review"] if review_flags else STRICTNESS["block"]
    flagged = any(STRICTNESS[verdict.judged] >= least for verdict in verdicts)  # an audit flags nothing
    categories = dict.fromkeys(OPENAI_CATEGORIES, False)
    scores = dict.fromkeys(OPENAI_CATEGORIES, 0.0)
    applied: dict[str, list[str]] = {name: [] for name in OPENAI_CATEGORIES}
    for verdict in verdicts:
        mapping = verdict.policy.openai_categories
        for names in mapping.values():
            for name in names:
                applied[name] = ["image"]
        for category in verdict.categories:
            for name in mapping.get(category.category, ()):
                scores[name] = max(scores[name], category.score)
                categories[name] |= STRICTNESS[category.decision] >= least
    return {
        "flagged": flagged,
        "categories": categories,
        "category_scores": scores,
        "category_applied_input_types": applied,
    }
