"""FAULTS 84-91: words that cannot be used are refused, all others are taken as they are."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest

from gateway.errors import InvalidLabels
from gateway.inference.prompts import LabelRequest, LabelRules, label_set
from tests.support.drawings import encoded, shape
from tests.support.fault_table import FaultLog

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


@dataclass(frozen=True)
class Surface:
    """A route that takes words: how they are sent there."""

    name: str
    send: Callable[[httpx2.Client, list[Any]], httpx2.Response]


def post(client: httpx2.Client, path: str, body: dict[str, Any], method: str = "POST") -> httpx2.Response:
    """Send JSON with every character escaped, so that a lone surrogate can be sent at all."""
    content = json.dumps(body, ensure_ascii=True).encode()
    return client.request(method, path, content=content, headers={"content-type": "application/json"})


PICTURE = encoded(shape("a red circle"))
BASE64 = base64.b64encode(PICTURE).decode()
CLASSIFY = Surface(
    "/v1/classify",
    lambda client, words: post(client, "/v1/classify", {"images": [{"base64": BASE64}], "labels": words}),
)
OPTIONS = Surface(
    "/v1/classify, a form",
    lambda client, words: client.post(
        "/v1/classify", files={"file": PICTURE, "options": (None, json.dumps({"labels": words}))}
    ),
)
CLASSIFIER = Surface(
    "PUT /v1/classifiers", lambda client, words: post(client, "/v1/classifiers/words", {"labels": words}, "PUT")
)
PROMPTS = Surface(
    "PUT /v1/classifiers, prompts",
    lambda client, words: post(
        client, "/v1/classifiers/words", {"labels": [{"label": "a"}, {"label": "b", "prompts": words}]}, "PUT"
    ),
)
EMBEDDINGS = Surface("/v1/embeddings", lambda client, words: post(client, "/v1/embeddings", {"input": words}))
QUESTIONS = (CLASSIFY, OPTIONS, CLASSIFIER)
EVERYWHERE = (*QUESTIONS, PROMPTS, EMBEDDINGS)


@pytest.mark.parametrize(
    ("number", "what", "words", "surfaces"),
    [
        (84, "no labels", [], QUESTIONS),
        (85, "10,000 labels", [f"label {number}" for number in range(10_000)], QUESTIONS),
        (86, "an empty label", ["cat", ""], EVERYWHERE),
        (86, "a label of blanks", ["cat", " \u3000 "], EVERYWHERE),
        (87, "two labels alike after NFKC", ["\ufb01sh", "fish"], QUESTIONS),
        (87, "the same label twice", ["fish", "fish"], QUESTIONS),
        (88, "a control character", ["cat", "do\u0007g"], EVERYWHERE),
        (88, "NUL", ["cat", "do\x00g"], EVERYWHERE),
        (88, "a bidirectional override", ["cat", "\u202egod"], EVERYWHERE),
        (89, "a lone high surrogate", ["cat", "\ud800"], EVERYWHERE),
        (89, "a lone low surrogate within a word", ["cat", "do\udc00g"], EVERYWHERE),
    ],
)
def test_words_that_are_refused_everywhere(
    client: httpx2.Client, faults: FaultLog, number: int, what: str, words: list[str], surfaces: tuple[Surface, ...]
) -> None:
    for surface in surfaces:
        answer = surface.send(client, words)
        faults.expect(number, f"{what}: {surface.name}", answer, "422 invalid_labels")
        assert answer.headers["content-type"] == "application/problem+json"


def test_90_a_label_beyond_the_models_context(client: httpx2.Client, faults: FaultLog) -> None:
    long = "a red circle " * 70  # more tokens than any CLIP's 77, fewer characters than are accepted
    for surface in EVERYWHERE:
        answer = surface.send(client, ["cat", long])
        faults.expect(90, f"a label of 210 words: {surface.name}", answer, "422 label_too_long")


def test_91_all_other_words_are_taken_as_they_are(client: httpx2.Client, faults: FaultLog) -> None:
    words = ["👩‍🚀 an astronaut", "🏳️‍🌈", "قطة", "חתול", "猫", "naïve café"]
    for surface in EVERYWHERE:
        faults.expect(91, f"emoji, right to left: {surface.name}", surface.send(client, words), "200", "201")
    scores = CLASSIFY.send(client, words).json()["results"][0]["scores"]
    assert {score["label"] for score in scores} == set(words)


@pytest.mark.parametrize(
    ("path", "method", "body"),
    [
        ("/v1/classify", "POST", {"images": [{"base64": "aa", "id": "\ud800"}], "labels": ["a", "b"]}),
        ("/v1/classify", "POST", {"\ud800": 1}),
        ("/v1/classify", "POST", {"images": [{"url": "http://\ud800"}], "labels": ["a", "b"]}),
        ("/v1/classify", "POST", {"images": [{"base64": "\ud800"}], "labels": ["a", "b"]}),
        ("/v1/classify", "POST", {"images": [{"base64": "aa"}], "labels": ["a", "b"], "templates": ["\ud800 {}"]}),
        ("/v1/moderate", "POST", {"images": [{"base64": "aa"}], "external_id": "\ud800"}),
        ("/v1/moderate", "POST", {"images": [{"base64": "aa"}], "policy": "\ud800"}),
        ("/v1/moderations", "POST", {"input": "\ud800"}),
        ("/v1/moderations", "POST", {"input": [{"type": "image_url", "image_url": {"url": "\ud800"}}]}),
        ("/v1/moderations", "POST", {"input": [], "model": "\ud800"}),
        ("/v1/classifiers/x", "PUT", {"labels": ["a", "b"], "description": "\ud800"}),
        ("/v1/policies/x", "PUT", {"rules": [{"category": "\ud800", "classifier": "x", "labels": ["a"]}]}),
        ("/v1/policies/x", "PUT", {"rules": [], "openai_categories": {"\ud800": []}}),
        ("/v1/lists/x", "PUT", {"action": "\ud800", "kind": "sha256"}),
    ],
)
def test_89_no_lone_surrogate_is_echoed_as_a_500(
    client: httpx2.Client, faults: FaultLog, path: str, method: str, body: dict[str, Any]
) -> None:
    answer = post(client, path, body, method)
    field = next(name for name in json.dumps(body).replace("{", " ").split('"') if name.strip())
    faults.expect(
        89,
        f"a lone surrogate elsewhere: {method} {path}, {field}",
        str(answer.status_code // 100) + "xx",
        "4xx",
    )
    assert answer.json()
