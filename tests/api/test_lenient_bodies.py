"""Bodies as clients write them: nulls, data: URLs of every kind, escapes, byte order marks, content codings."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from typing import Any, get_args
from urllib.parse import quote

import pytest
from pydantic import BaseModel

from gateway.api.openai_moderations import ModerationsBody
from gateway.api.schemas.requests import ClassifyBody, ClassifyForm, EmbeddingsBody, ModerateBody, ModerateForm
from gateway.api.schemas.stored_requests import Activation, DryRunBody, FeedbackIn, ListIn
from gateway.moderation.classifiers import Classifier
from gateway.moderation.heads import HeadClassifier
from gateway.moderation.policy import Policy
from tests.support.fault_table import FaultLog
from tests.support.in_process_app import Web, b64, is_problem, png
from tests.support.raw_http import field, form
from tests.support.saved_policies import ALWAYS, CLASSIFIER

pytest_plugins = ["tests.support.saved_policies_fixtures"]

MIB = 1 << 20
PICTURE = png()
TEXT = base64.b64encode(PICTURE).decode()
WORDS = ["cat", "dog"]
JSON = {"content-type": "application/json"}
BODIES: tuple[type[BaseModel], ...] = (
    *(ClassifyBody, ClassifyForm, ModerateBody, ModerateForm, EmbeddingsBody, ModerationsBody),
    *(Activation, DryRunBody, FeedbackIn, ListIn, Classifier, HeadClassifier, Policy),
)


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the models that a type names, and those of their fields."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for info in annotation.model_fields.values():
            yield from models_in(info.annotation)
    for part in get_args(annotation):
        yield from models_in(part)


def test_117_null_means_absence_in_every_model_of_a_request() -> None:
    found = {model for body in BODIES for model in models_in(body)}
    assert len(found) >= len(BODIES) + 6
    for model in found:
        for name, info in model.model_fields.items():
            if not info.is_required():
                nulls = {"type": "text", "text": "x", name: None}  # what else is missing is refused either way
                told = json.dumps(errors_of(model, nulls))
                assert told == json.dumps(errors_of(model, {key: nulls[key] for key in nulls if key != name})), name


def errors_of(model: type[BaseModel], given: dict[str, Any]) -> Any:
    try:
        return model.model_validate(given).model_dump(mode="json", exclude_unset=True)
    except ValueError as error:
        return re.sub(r"input_value=.*", "", str(error))


def test_117_null_in_optional_fields_of_each_route(made: Web, faults: FaultLog) -> None:
    image = {**b64(PICTURE), "url": None, "id": None}
    asked: dict[str, tuple[str, Any]] = {
        "/v1/classify": ("POST", {"images": [image], "labels": WORDS, "classifier": None, "top_k": None, "mode": None,
                                  "views": None, "include": None, "templates": None, "negatives": None}),
        "/v1/moderate": ("POST", {"images": [image], "policy": "strict", "shadow": None, "external_id": None}),
        "/v1/embeddings": ("POST", {"input": ["cat", {"text": None, "image": image | {"id": None}}],
                                    "encoding_format": None, "model": None, "dimensions": None, "user": None}),
        "/v1/moderations": ("POST", {"model": "strict", "input": [{"type": "image_url", "image_url": {
            "url": f"data:image/png;base64,{TEXT}", "detail": None}}]}),
        "/v1/classifiers/c": ("PUT", {**CLASSIFIER, "name": None, "kind": None, "mode": None, "templates": None,
                                      "description": None, "version": None}),
        "/v1/policies/p": ("PUT", {**ALWAYS, "views": None, "attributes": None, "openai_categories": None,
                                   "description": None}),
        "/v1/lists/l": ("PUT", {"action": "block", "kind": "pdq", "max_distance": None}),
        "/v1/policies/strict/dry-run": ("POST", {"policy": None, "version": 1, "images": None, "since": None,
                                                 "limit": None, "examples": None, "category": None}),
    }  # fmt: skip
    del asked["/v1/embeddings"][1]["input"][1]["image"]["id"]
    for path, (method, body) in asked.items():
        answer = made.client.request(method, path, json=body)
        assert answer.status_code in {200, 201}, answer.text
        faults.expect(117, f"null in optional fields of {path}", str(answer.status_code // 100), "2")
    (decision,) = made.client.get("/v1/decisions?limit=1").json()["data"]
    feedback = {"decision": "allow", "categories": None, "note": None}
    assert made.client.post(f"/v1/decisions/{decision['id']}/feedback", json=feedback).status_code == 201
    options = json.dumps({"top_k": None, "mode": None, "classifier": None, "url": None})
    sent: Any = [("file", PICTURE), ("labels", (None, "cat")), ("labels", (None, "dog")), ("options", (None, options))]
    assert made.client.post("/v1/classify", files=sent).status_code == 200


def test_117_null_in_a_required_or_an_unknown_field_is_refused(made: Web) -> None:
    for body, said in (
        ({"images": None, "labels": WORDS}, "“images” is required"),
        ({"images": [b64(PICTURE)], "labels": WORDS, "lables": None}, "“lables” is not a known field"),
        ({"images": [{"url": None, "base64": None}], "labels": WORDS}, "exactly one of url and base64"),
    ):
        answer = made.client.post("/v1/classify", json=body)
        is_problem(answer, 422, "invalid_request")
        assert said in answer.json()["detail"]


URL_SAFE = base64.urlsafe_b64encode(PICTURE).decode()
WRITTEN = {
    "plain base64": TEXT,
    "plain, unpadded": TEXT.rstrip("="),
    "plain, base64url": URL_SAFE,
    "plain, in lines": "\r\n".join(re.findall(".{1,76}", TEXT)),
    "as usual": f"data:image/png;base64,{TEXT}",
    "unpadded": f"data:image/png;base64,{TEXT.rstrip('=')}",
    "base64url": f"data:image/png;base64,{URL_SAFE}",
    "percent-encoded base64": f"data:image/png;base64,{quote(TEXT, safe='')}",
    "each byte percent-encoded": "data:image/png;base64," + "".join(f"%{ord(char):02x}" for char in TEXT),
    "parameters": f"data:image/png;charset=utf-8;name=a.png;base64,{TEXT}",
    "a blank before base64": f"data:image/png; base64,{TEXT}",
    "blanks behind base64": f"data:image/png;base64 ,{TEXT}",
    "no media type": f"data:;base64,{TEXT}",
    "upper case": f"DATA:IMAGE/PNG;BASE64,{TEXT}",
    "white space in it": f" data:image/png;base64,{TEXT[:40]}\n\t {TEXT[40:]} \r\n",
    "a fragment": f"data:image/png;base64,{TEXT}#top",
    "no base64": "data:image/png," + quote(PICTURE, safe=""),
    "no base64, every byte escaped": "data:image/png," + "".join(f"%{byte:02X}" for byte in PICTURE),
    "no base64, without a type": "data:," + quote(PICTURE, safe=""),
}


def test_118_images_in_base64_or_a_data_url_on_every_route(made: Web, faults: FaultLog) -> None:
    for what, text in WRITTEN.items():
        is_read(made, faults, what, text)


def is_read(made: Web, faults: FaultLog, what: str, text: str) -> None:
    names, post = ["base64"], made.client.post
    if text.strip()[:5].lower() == "data:":
        names.append("url")
        part = {"type": "image_url", "image_url": {"url": text}}
        assert post("/v1/moderations", json={"model": "strict", "input": [part]}).status_code == 200
        fields: Any = [("url", (None, text)), ("labels", (None, "cat")), ("labels", (None, "dog"))]
        faults.expect(118, f"{what}, in a form", post("/v1/classify", files=fields), "200")
    for name in names:
        images = {"images": [{name: text}]}
        answer = post("/v1/classify", json={**images, "labels": WORDS})
        faults.expect(118, f"{what}, as {name}", answer, "200")
        assert answer.json()["results"][0]["image"]["format"] == "png"
        assert post("/v1/moderate", json={**images, "policy": "strict"}).status_code == 200
        assert post("/v1/embeddings", json={"input": [{"image": {name: text}}]}).status_code == 200
        assert post("/v1/policies/strict/dry-run", json={**images, "version": 1}).json()["skipped"] == 0


NOT_READ = (
    *("data:image/png;base64", "data:", "data:image/png;base64,A", "data:image/png;base64,====", "A===", "%%", "Q=Q="),
    *("data:image/png;base64,QQ==QQ==", "QUJD\u00e9", "data:image/png;base64,\u00e9\u00e9\u00e9\u00e9", "Q\x00=="),
)


def test_118_what_is_neither_base64_nor_a_data_url(web: Web) -> None:
    for text in NOT_READ:
        answer = web.client.post("/v1/classify", json={"images": [{"base64": text}], "labels": WORDS})
        is_problem(answer, 422, "invalid_request")


def test_a_url_that_only_looks_like_one_is_fetched_and_refused(web: Web) -> None:
    for url in ("datas:image/png;base64,AAAA", "x-data:,A", "file:///data:,A"):
        answer = web.client.post("/v1/classify", json={"images": [{"url": url}], "labels": WORDS})
        is_problem(answer, 422, "source_url_forbidden")
    answer = web.client.post("/v1/classify", json={"images": [{"url": "http://a/" + "b" * 9000}], "labels": WORDS})
    is_problem(answer, 422, "invalid_request")


def noise(byte_count: int) -> bytes:
    """Return a PNG of about so many bytes: one with a tail, which no viewer reads."""
    return PICTURE + b"\xfb\xef\xbe\xff" * (byte_count // 4)


def test_an_image_in_json_counts_as_an_image_wherever_it_stands_and_however_it_is_escaped(made: Web) -> None:
    text = base64.b64encode(noise(3 * MIB)).decode()
    assert "/" in text
    assert "+" in text
    url = f"data:image/png;base64,{text}"
    part = {"type": "image_url", "image_url": {"url": url}}
    asked: dict[str, Any] = {
        "/v1/classify": {"images": [{"base64": text}, {"url": url}], "labels": WORDS},
        "/v1/moderate": {"images": [{"base64": url}, {"url": url}], "policy": "strict"},
        "/v1/moderations": {"input": [part, part], "model": "strict"},
        "/v1/embeddings": {"input": [{"image": {"url": url}}, {"image": {"base64": text}}]},
        "/v1/policies/strict/dry-run": {"images": [{"url": url}], "version": 1},
    }
    for path, body in asked.items():
        plain = json.dumps(body)
        for written in (plain, plain.replace("/", "\\/"), plain.replace("+", "\\u002B").replace("/", "\\u002f")):
            answer = made.client.post(path, content=written, headers=JSON)
            assert answer.status_code == 200, (path, answer.text)
    fields: Any = [("url", (None, url)), ("options", (None, json.dumps({"labels": WORDS})))]
    assert made.client.post("/v1/classify", files=fields).status_code == 200
    fields = {"options": (None, json.dumps({"labels": WORDS, "url": [url, url]}))}
    assert made.client.post("/v1/classify", files=fields).status_code == 200


def test_other_text_counts_as_json_on_every_route(made: Web) -> None:
    long = "x" * (2 * MIB)
    for path, body in {
        "/v1/classify": {"images": [b64(PICTURE)], "labels": ["a", long]},
        "/v1/moderate": {"images": [b64(PICTURE)], "external_id": long},
        "/v1/moderations": {"input": [{"type": "text", "text": long}]},
        "/v1/embeddings": {"input": [long], "url": "https://example.org/" + long},
        "/v1/policies/strict/dry-run": {"images": [{"url": long}], "version": 1},
    }.items():
        answer = made.client.post(path, json=body)
        assert answer.status_code == 413, (path, answer.text)
    for name, text in {"labels": long, "options": json.dumps({"other": long}), "other": long}.items():
        fields: Any = [("file", PICTURE), (name, (None, text))]
        is_problem(made.client.post("/v1/classify", files=fields), 413, "payload_too_large")


@pytest.mark.parametrize("web", [{"max_image_bytes": 100_000}], indirect=True)
def test_an_image_over_its_cap_is_one_however_it_is_sent(web: Web) -> None:
    text = base64.b64encode(noise(100_000)).decode()
    for image in ({"base64": text}, {"url": f"data:image/png;base64,{text}"}):
        answer = web.client.post("/v1/classify", json={"images": [image], "labels": WORDS})
        is_problem(answer, 413, "payload_too_large")
    fits = noise(100_000 - len(PICTURE) - 4)
    lines = "\r\n".join(re.findall(".{1,76}", base64.b64encode(fits).decode()))
    for text in (lines, "data:," + "".join(f"%{byte:02x}" for byte in fits)):
        answer = web.client.post("/v1/classify", json={"images": [{"base64": text}], "labels": WORDS})
        assert answer.status_code == 200, answer.text


def test_a_byte_order_mark_before_json_is_passed_over(made: Web) -> None:
    bom = b"\xef\xbb\xbf"
    for path, method, body in (
        ("/v1/classify", "POST", {"images": [b64(PICTURE)], "labels": WORDS}),
        ("/v1/lists/bom", "PUT", {"action": "block", "kind": "sha256"}),
        ("/v1/lists/bom/entries", "POST", {"entries": ["0" * 64]}),
        ("/v1/lists/bom/entries", "POST", ["1" * 64]),
    ):
        answer = made.client.request(method, path, content=bom + json.dumps(body).encode(), headers=JSON)
        assert answer.status_code in {200, 201}, answer.text
    is_problem(made.client.post("/v1/classify", content=bom * 2 + b"{}", headers=JSON), 400, "invalid_json")


def test_119_a_content_coding_is_told(made: Web, faults: FaultLog) -> None:
    for coding in ("gzip", "br", "deflate", "zstd", "GZip", "identity, gzip", "nonsense"):
        is_told(made, faults, coding)


def is_told(made: Web, faults: FaultLog, coding: str) -> None:
    headers = {**JSON, "content-encoding": coding}
    for method, path in (("POST", "/v1/classify"), ("PUT", "/v1/lists/l"), ("POST", "/v1/policies/strict/activate")):
        answer = made.client.request(method, path, content=b"{}", headers=headers)
        faults.expect(119, f"{coding} to {path}", answer, "415 unsupported_media_type")
        is_problem(answer, 415, "unsupported_media_type")
        assert "Content-Encoding" in answer.json()["detail"]
        assert answer.headers["accept-encoding"] == "identity"
    form_headers = {"content-type": "multipart/form-data; boundary=b", "content-encoding": coding}
    is_problem(made.client.post("/v1/classify", content=b"", headers=form_headers), 415, "unsupported_media_type")


def test_119_identity_is_no_coding(web: Web) -> None:
    body = json.dumps({"images": [b64(PICTURE)], "labels": WORDS})
    for coding in ("identity", "Identity", " identity "):
        headers = {**JSON, "content-encoding": coding}
        assert web.client.post("/v1/classify", content=body, headers=headers).status_code == 200


def test_120_a_part_in_a_transfer_encoding_is_told_and_identities_are_read(web: Web, faults: FaultLog) -> None:
    words = [(field("labels"), word.encode()) for word in WORDS]
    headers = {"content-type": "multipart/form-data; boundary=b"}
    for encoding, wanted in {
        **dict.fromkeys(("base64", "Base64 ", "quoted-printable", "x-uuencode"), "415 unsupported_media_type"),
        **dict.fromkeys(("binary", "8bit", "7BIT"), "200"),
    }.items():
        for lines in (
            f"{field('file', 'a.png')}\r\nContent-Transfer-Encoding: {encoding}",
            f"content-transfer-encoding:{encoding}\r\n{field('file', 'a.png')}",
        ):
            body = form("b", (lines, PICTURE), *words)
            answer = web.client.post("/v1/classify", content=body, headers=headers)
            faults.expect(120, f"a part in {encoding}", answer, wanted)
            if wanted != "200":
                assert "Content-Transfer-Encoding" in answer.json()["detail"]
