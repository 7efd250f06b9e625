"""POST /v1/embeddings: OpenAI's shape, for texts and images."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import orjson
from fastapi import APIRouter
from fastapi.responses import Response
from starlette.requests import Request

from gateway.api.body.images import check_count, image_request
from gateway.api.body.reader import read_json
from gateway.api.body.validation import validated
from gateway.api.dependencies import Services, ServicesDep
from gateway.api.disconnect import unless_client_leaves
from gateway.api.openapi import EXAMPLE_IMAGE, request_body
from gateway.api.schemas.requests import EmbeddingInput, EmbeddingsBody
from gateway.api.schemas.responses import EmbeddingsResponse
from gateway.errors import InvalidRequest
from gateway.fetching.image_source import ImageRequest
from gateway.inference.prompts import LabelRules, check_words
from gateway.inference.scoring import Floats
from gateway.limits.admission import Reservation
from gateway.limits.deadline import Deadline
from gateway.limits.gather import all_of

router = APIRouter()


@router.post(
    "/v1/embeddings",
    summary="Vectors of texts and images",
    response_model=EmbeddingsResponse,
    openapi_extra=request_body(EmbeddingsBody, {"input": ["a red circle", {"image": EXAMPLE_IMAGE}]}),
    tags=["images"],
)
async def embeddings(request: Request, services: ServicesDep) -> Response:
    """Return one unit vector an input, in its order; texts and images share one space.

    A text is embedded as it is, without a template. If one input fails the whole request fails, as OpenAI's does.
    """
    with services.admission.request() as reservation:
        body = await read_json(request, services.body_rules, reservation)
        fields = validated(EmbeddingsBody, body)
        inputs = [fields.input] if isinstance(fields.input, str) else fields.input
        body.clear()
        texts, images = texts_and_images(inputs, services, reservation)
        request.state.images = len(images)
        deadline = Deadline.after(services.request_timeout_s)
        vectors = await unless_client_leaves(request, embed(texts, images, services, deadline))
        tokens = await services.text.count_tokens(list(texts.values())) if texts else 0
        answer = {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": encoded(vectors[index], fields.encoding_format)}
                for index in range(len(vectors))
            ],
            "model": services.manifest.model.id,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
        return Response(orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")


def texts_and_images(
    inputs: list[str | EmbeddingInput] | list[str], services: Services, reservation: Reservation
) -> tuple[dict[int, str], dict[int, ImageRequest]]:
    """Return texts and images by their position in the input, which is emptied: images are not held twice.

    Raises:
        InvalidRequest: nothing, or more than a request may hold.
        InvalidLabels: a text that is blank, too long or unprintable.
    """
    texts: dict[int, str] = {}
    images: dict[int, ImageRequest] = {}
    for index, item in enumerate(inputs):
        if isinstance(item, str):
            texts[index] = item
        elif item.text is not None:
            texts[index] = item.text
        elif item.image is not None:
            images[index] = image_request(item.image, reservation)
    if not inputs:
        raise InvalidRequest("Field “input” needs at least one text or image.")
    check_count(images, services.body_rules.max_images)
    rules: LabelRules = services.label_rules
    if len(texts) > rules.max_labels:
        raise InvalidRequest(f"{len(texts)} texts given; at most {rules.max_labels} are accepted.")
    check_words(list(texts.values()), "text", rules)
    inputs.clear()
    return texts, images


async def embed(
    texts: dict[int, str], images: dict[int, ImageRequest], services: Services, deadline: Deadline
) -> dict[int, Floats]:
    """Return every input's vector by position.

    Raises:
        GatewayError: the first failure of any input.
    """

    async def of_texts() -> dict[int, Floats]:
        found = await services.text.prompts(texts.values(), deadline, services.text.limits.max_new_prompts)
        return {index: found[text] for index, text in texts.items()}

    async def of_image(index: int, image: ImageRequest) -> dict[int, Floats]:
        return {index: await services.pipeline.embed_image(image, deadline)}

    made: dict[int, Floats] = {}
    for part in await all_of([of_texts(), *(of_image(index, image) for index, image in images.items())]):
        made |= part
    return made


def encoded(vector: Floats, encoding_format: str) -> Any:  # noqa: ANN401 - an array or a string, both for JSON
    """Return the vector as JSON numbers or as base64 of little-endian float32."""
    if encoding_format == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return np.ascontiguousarray(vector)
