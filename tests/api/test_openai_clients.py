"""OpenAI's package for Python on routes of its contract, errors in OpenAI's shape, and no validator's words in any."""

from __future__ import annotations

import base64
import itertools
import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import openai
import pytest
from openai.types import ModerationImageURLInputParam

from gateway.errors import ModelUnavailable
from tests.support.fake_encoder import DIM
from tests.support.in_process_app import Web, b64, png
from tests.support.saved_policies import ALWAYS, CLASSIFIER

pytest_plugins = ["tests.support.saved_policies_fixtures"]

INTERNALS = re.compile(
    r"function-(?:before|after|wrap|plain)|pydantic|\[type=|input_value|\b(?:union|list|dict|nullable|literal|tagged-union)\["
    r"|EmbeddingInput|SourceIn|ImagePart|TextPart|Body\b|validator|Traceback"
)


@pytest.fixture
def client(made: Web) -> openai.OpenAI:
    return openai.OpenAI(base_url="http://localhost/v1", api_key="none", http_client=made.client, max_retries=0)


def test_embeddings_by_the_package(client: openai.OpenAI) -> None:
    as_base64 = client.embeddings.create(model="any", input=["cat", "dog"])  # what the package asks for by itself
    as_floats = client.embeddings.create(model="any", input="cat", encoding_format="float")
    assert [len(entry.embedding) for entry in as_base64.data] == [DIM, DIM]
    assert np.allclose(as_base64.data[0].embedding, as_floats.data[0].embedding)
    nothing: Any = None
    assert client.embeddings.create(model="any", input="cat", encoding_format=nothing).data[0].index == 0


@pytest.mark.parametrize("ids", [[1, 2, 3], [[1, 2], [3]], 7, [True]])
def test_token_ids_get_a_sentence(client: openai.OpenAI, ids: Any) -> None:
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        client.embeddings.create(model="any", input=ids)
    assert refused.value.code == "invalid_request"
    said = "must be a list" if ids == 7 else "token ids"
    assert said in str(refused.value)


def test_errors_are_openais_on_every_route_that_its_clients_call(made: Web, client: openai.OpenAI) -> None:
    answers = {
        "/v1/embeddings": made.client.post("/v1/embeddings", json={"input": []}),
        "/v1/models/none": made.client.get("/v1/models/none"),
        "/v1/models": made.client.post("/v1/models"),
        "/v1/chat/completions": made.client.post("/v1/chat/completions", json={}),
    }
    for answer in answers.values():
        given = answer.json()
        assert answer.headers["content-type"] == "application/problem+json", "clients of the gateway's own read on"
        assert given["error"] == {
            "message": given["detail"],
            "type": "invalid_request_error",
            "param": "model" if answer.status_code == 404 else "input",
            "code": given["code"],
        }
    with pytest.raises(openai.NotFoundError) as missing:
        client.models.retrieve("none")
    assert missing.value.code == "not_found"
    assert [model.id for model in client.models.list()] == ["fake"]
    made.encoder.failure = ModelUnavailable("The model is away.")
    with pytest.raises(openai.InternalServerError) as away:
        client.embeddings.create(model="any", input="unseen")
    assert (away.value.status_code, away.value.code, away.value.type) == (503, "model_unavailable", "server_error")


def test_moderations_of_large_images_by_the_package(client: openai.OpenAI) -> None:
    url = "data:image/png;base64," + base64.b64encode(png() + bytes(2 << 20)).decode()
    part: ModerationImageURLInputParam = {"type": "image_url", "image_url": {"url": url}}
    answer = client.moderations.create(model="strict", input=[part])
    assert answer.results[0].flagged


def bodies() -> Iterator[tuple[str, str, Any]]:
    """Yield requests in which one value is replaced, wherever it stands, by each of many that do not belong there."""
    image = b64(png())
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + image["base64"]}}
    good: list[tuple[str, str, Any]] = [
        ("POST", "/v1/classify", {"images": [{**image, "id": "a"}], "labels": ["a", "b"], "top_k": 1, "include": []}),
        ("POST", "/v1/moderate", {"images": [image], "policy": "strict", "external_id": "a", "shadow": "strict"}),
        ("POST", "/v1/embeddings", {"input": ["cat", {"text": "a"}, {"image": image}], "encoding_format": "float"}),
        ("POST", "/v1/moderations", {"input": [part, {"type": "text", "text": "a"}], "model": "strict"}),
        ("PUT", "/v1/classifiers/c", {**CLASSIFIER, "templates": ["{}"]}),
        ("PUT", "/v1/policies/p", {**ALWAYS, "attributes": []}),
        ("PUT", "/v1/lists/l", {"action": "block", "kind": "pdq", "max_distance": 3}),
        ("POST", "/v1/lists/l/entries", {"entries": ["0" * 64]}),
        ("POST", "/v1/classifiers/scene/activate", {"version": 1}),
        ("POST", "/v1/policies/strict/dry-run", {"version": 1, "since": "2026-01-01T00:00:00Z", "limit": 3}),
        ("POST", "/v1/decisions/x/feedback", {"decision": "allow", "categories": ["a"], "note": ""}),
    ]
    wrong: tuple[Any, ...] = (
        None,
        True,
        7,
        -1.5,
        "",
        "\x00",
        [],
        [[]],
        [None],
        [7],
        {},
        {"text": 1, "image": 2, "type": "x"},
        "x" * 9000,
    )
    for method, path, body in good:
        for place, value in itertools.product(places_in(body), wrong):
            yield method, path, replaced(body, place, value)


def places_in(value: Any, *above: Any) -> Iterator[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, below in inner:
        yield (*above, step)
        yield from places_in(below, *above, step)


def replaced(body: Any, place: tuple[Any, ...], value: Any) -> Any:
    copy = json.loads(json.dumps(body))
    holder = copy
    for step in place[:-1]:
        holder = holder[step]
    holder[place[-1]] = value
    return copy


def test_no_answer_has_a_validators_words(made: Web) -> None:
    refused = 0
    for method, path, body in itertools.islice(bodies(), 0, None, 4):  # each place gets other ones: they are 13
        answer = made.client.request(method, path, json=body)
        assert answer.status_code < 500, (path, body, answer.text)
        if answer.status_code >= 400:
            refused += 1
            assert not INTERNALS.search(answer.text), (path, body, answer.text)
    assert refused > 100
    for query in ("limit=x", "since=x", "policy=@", "decision=x", "cursor=%00", "format=x", "category=" + "x" * 300):
        assert not INTERNALS.search(made.client.get(f"/v1/decisions?{query}").text), query
