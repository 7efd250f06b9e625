"""The web layer on a fake encoder: faults of the service, bodies, errors of the framework, readiness."""

from __future__ import annotations

import asyncio
import base64
import gc
import hashlib
import io
import json
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from starlette.testclient import TestClient

from gateway.app import create_app
from gateway.decoding.decoder import QUICK_BYTES
from gateway.decoding.preprocess import Job, PreprocessedImage, prepare
from gateway.errors import DeadlineExceeded, GatewayError, ModelInvalidOutput, ModelUnavailable, Overloaded
from gateway.inference.triton import Vectors
from gateway.settings import Settings
from tests.support.awkward_images import plain
from tests.support.fake_encoder import BUNDLE_ID, FakeEncoder, write_bundle
from tests.support.in_process_app import Web, ask, b64, is_problem, png, wait_ready
from tests.support.waiting import UNTIL_S, until

pytest_plugins = ["tests.support.saved_policies_fixtures"]

HELD_BYTES = 10_000  # smaller ones are not looked at
LOOKS, LOOK_S = 100, 0.05


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        pytest.param(ModelUnavailable("down", retry_after_s=2), 503, id="92-triton-down"),
        pytest.param(DeadlineExceeded("late"), 504, id="94-slow"),
        pytest.param(ModelInvalidOutput("nan"), 502, id="95-invalid-output"),
        pytest.param(Overloaded("full", retry_after_s=1), 503, id="96-queue-full"),
    ],
)
def test_a_fault_of_the_service_has_its_status_and_never_a_verdict(
    web: Web, failure: GatewayError, status: int
) -> None:
    ask(web)  # the words are cached: the picture's inference is what fails
    web.encoder.failure = failure
    for pictures in ((png(),), (png(), png("blue"))):
        response = ask(web, *pictures)
        is_problem(response, status, failure.code)
        assert "scores" not in response.text
        if failure.retry_after_s:
            assert response.headers["retry-after"].isdecimal()


def test_a_browser_that_opens_the_address_gets_a_page_with_links(web: Web) -> None:
    page = web.client.get("/", headers={"Accept": "text/html"})
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    links = re.findall(r'href="([^"]+)"', page.text)
    assert links
    for link in links:
        assert web.client.get(f"/{link}").status_code == 200, link
    (style,) = re.findall(r"<style>(.*?)</style>", page.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in page.headers["content-security-policy"]
    assert (web.client.head("/").status_code, web.client.head("/").content) == (200, b"")


def test_probes_may_ask_for_the_head_alone(web: Web) -> None:
    for path in ("/livez", "/readyz"):
        asked, whole = web.client.head(path), web.client.get(path)
        assert (asked.status_code, asked.content) == (200, b"")
        assert asked.headers["content-length"] == whole.headers["content-length"]
    web.encoder.failure = ModelUnavailable("down")
    is_problem(ask(web), 503, "model_unavailable")
    assert web.client.head("/readyz").status_code == 503


def test_readiness_follows_the_encoder_and_recovers(web: Web) -> None:
    web.encoder.failure = ModelUnavailable("down")
    is_problem(ask(web), 503, "model_unavailable")
    response = web.client.get("/readyz")
    assert (response.status_code, response.json()["failing"]) == (503, ["inference"])
    assert web.client.get("/livez").status_code == 200
    calls = web.encoder.image_calls
    is_problem(ask(web), 503, "model_unavailable")
    assert web.encoder.image_calls == calls, "the gate is shut: no request tries by itself"
    web.encoder.failure = None
    wait_ready(web)
    assert ask(web).status_code == 200


def test_another_bundle_than_ours_is_never_ready(tmp_path: Path) -> None:
    write_bundle(tmp_path)
    encoder = FakeEncoder()
    encoder.bundle_id = "0000000000000000"
    with TestClient(
        create_app(
            Settings(model_repository=tmp_path, data_dir=tmp_path / "data", log_level="error"), lambda *_: encoder
        ),
        base_url="http://localhost",
    ) as client:
        until(lambda: "bundle" in client.get("/readyz").json()["failing"])
        assert client.get("/readyz").status_code == 503
        is_problem(ask(Web(client, encoder)), 503, "model_unavailable")
        assert encoder.image_calls == encoder.probes == 0


@pytest.mark.parametrize("web", [{"request_timeout_s": 0.2}], indirect=True)
def test_94_the_deadline_holds_and_cancels_the_inference(web: Web) -> None:
    until(lambda: ask(web).status_code == 200)
    web.encoder.delay_s = UNTIL_S
    start = time.monotonic()
    is_problem(ask(web), 504, "deadline_exceeded")
    assert time.monotonic() - start < UNTIL_S / 2
    assert web.encoder.cancelled >= 1


@pytest.mark.parametrize("web", [{"request_timeout_s": 0.5}], indirect=True)
def test_a_deadline_that_passes_before_the_model_is_asked_is_overload(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    until(lambda: ask(web).status_code == 200)  # the words are cached: nothing is left to wait for but the decoder
    calls = web.encoder.image_calls
    answered = threading.Event()

    def busy(*job: Any) -> PreprocessedImage:
        assert answered.wait(UNTIL_S)
        return prepare(*job)

    monkeypatch.setattr("gateway.decoding.workers.threads.prepare", busy)
    try:
        response = ask(web)
    finally:
        answered.set()
    is_problem(response, 503, "overloaded")
    assert int(response.headers["retry-after"]) >= 1
    assert web.encoder.image_calls == calls


@pytest.mark.parametrize("web", [{"max_requests_in_flight": 1}], indirect=True)
def test_96_one_request_over_the_limit_is_refused_at_once(web: Web) -> None:
    ask(web)
    calls = web.encoder.image_calls
    web.encoder.delay_s = UNTIL_S
    first = threading.Thread(target=ask, args=(web,))
    first.start()
    until(lambda: web.encoder.image_calls > calls)
    response = ask(web)
    web.encoder.delay_s = 0
    first.join()
    is_problem(response, 503, "overloaded")
    assert int(response.headers["retry-after"]) >= 1


def test_every_picture_is_named_by_the_digest_of_its_bytes(web: Web) -> None:
    """Large ones are hashed beside their decoding, small ones with it."""
    files = [plain("JPEG"), plain("JPEG", 1200, 900), plain("PNG"), plain("PNG", 400, 300)]
    assert [len(data) > QUICK_BYTES for data in files] == [False, True, False, True]
    broken = files[1][: QUICK_BYTES + 1]
    results = ask(web, files[0], broken, *files[1:]).json()["results"]
    assert results[1]["error"]["code"] == "image_corrupt"
    del results[1]
    assert [result["image"]["sha256"] for result in results] == [hashlib.sha256(data).hexdigest() for data in files]


def holders(digest: str) -> set[str]:
    """Return the types of all that holds a file of this SHA-256: objects, and coroutines by their local variables."""
    return {
        type(holder).__qualname__
        for holder in gc.get_objects()
        for held in gc.get_referents(holder)
        if type(held) is bytes and len(held) > HELD_BYTES and hashlib.sha256(held).hexdigest() == digest
    }


@pytest.mark.parametrize(
    "web",
    [pytest.param({"decode_isolation": isolated}, id=f"isolated-{isolated}") for isolated in (True, False)],
    indirect=True,
)
@pytest.mark.parametrize("size", [pytest.param((100, 80), id="small"), pytest.param((400, 300), id="large")])
def test_a_pictures_file_is_let_go_of_before_the_model_is_asked(
    web: Web, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    """The model may be busy for long, with as many pictures as requests are let in."""
    picture = plain("PNG", *size)
    assert len(picture) > HELD_BYTES
    assert (len(picture) > QUICK_BYTES) == (size == (400, 300))
    digest, image = hashlib.sha256(picture).hexdigest(), b64(picture)
    del picture
    kept: list[set[str]] = []
    during: list[set[str]] = []
    encode, take = web.encoder.encode_images, Job.__init__

    def seen(*job: Any, **fields: Any) -> None:
        take(*job, **fields)
        during.append(holders(digest))

    async def asked(*question: Any) -> Vectors:
        for _ in range(LOOKS):
            if not (found := holders(digest)):
                break
            await asyncio.sleep(LOOK_S)  # a thread of the decoders' may be putting it down
        kept.append(found)
        return await encode(*question)

    monkeypatch.setattr(web.encoder, "encode_images", asked)
    monkeypatch.setattr(Job, "__init__", seen)
    assert web.client.post("/v1/classify", json={"images": [image], "labels": ["cat", "dog"]}).status_code == 200
    assert "Job" in during[0], "what looks for holders finds none"
    assert kept[-1] == set()


def test_each_picture_fails_alone(web: Web) -> None:
    response = ask(web, png(), b"", b"no picture at all", png()[:60], png("blue"))
    assert response.status_code == 200
    results = response.json()["results"]
    assert [result["index"] for result in results] == [0, 1, 2, 3, 4]
    assert [result["error"] and result["error"]["code"] for result in results] == [
        None,
        "empty_file",
        "unsupported_image",
        "image_corrupt",
        None,
    ]
    assert all((result["scores"] is None) == (result["error"] is not None) for result in results)
    assert all(result["error"]["request_id"] == response.json()["request_id"] for result in results if result["error"])


def test_the_only_pictures_failure_is_the_response(web: Web) -> None:
    is_problem(ask(web, b"\x00" * 100), 415, "unsupported_image")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        pytest.param(b"[" * 100_000, 400, "invalid_json", id="79-nesting"),
        pytest.param(b'{"top_k": ' + b"1" * 5000 + b"}", 400, "invalid_json", id="79-long-int"),
        pytest.param(b'{"labels": ["\xff"]}', 400, "invalid_json", id="79-bad-utf-8"),
        pytest.param(b"{", 400, "invalid_json", id="79-cut"),
        pytest.param(b'{"labels": [], "labels": []}', 422, "invalid_request", id="80-duplicate-key"),
        pytest.param(b'{"top_k": NaN}', 422, "invalid_request", id="80-nan"),
        pytest.param(b"[]", 422, "invalid_request", id="no-object"),
        pytest.param(b'{"images": [], "labels": ["a", "b"]}', 422, "invalid_request", id="77-no-image"),
        pytest.param(b'{"label": ["a", "b"]}', 422, "invalid_request", id="unknown-field"),
        pytest.param(b'{"images": [{"url": "http://a", "base64": "aa"}]}', 422, "invalid_request", id="77-both"),
        pytest.param(b'{"images": [{"base64": "aa"}], "labels": ["a", "\\ud800"]}', 422, "invalid_labels", id="89"),
        pytest.param(b'{"images": [{"base64": "aa"}], "labels": [1, 2]}', 422, "invalid_labels", id="labels-type"),
        pytest.param(b'{"top_k": true, "images": [{"base64": "aa"}]}', 422, "invalid_request", id="true-is-no-number"),
        pytest.param(b'{"images": [{"base64": "%%"}], "labels": ["a", "b"]}', 422, "invalid_request", id="base64"),
        pytest.param(b'{"x": [' + b"1," * 600_000 + b"1]}", 413, "payload_too_large", id="structure-bomb"),
        pytest.param(b'{"labels": ["' + b"x" * (1 << 21) + b'"]}', 413, "payload_too_large", id="json-cap"),
    ],
)
def test_json_that_is_refused(web: Web, body: bytes, status: int, code: str) -> None:
    response = web.client.post("/v1/classify", content=body, headers={"content-type": "application/json"})
    is_problem(response, status, code)


def test_81_another_content_type(web: Web) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        response = web.client.post("/v1/classify", content=b"x", headers={"content-type": kind})
        is_problem(response, 415, "unsupported_media_type")
    is_problem(web.client.post("/v1/embeddings", files={"file": png()}), 415, "unsupported_media_type")


@pytest.mark.parametrize("web", [{"max_body_bytes": 100_000}], indirect=True)
def test_70_a_body_over_the_cap_is_refused_before_it_is_read(web: Web) -> None:
    headers = {"content-type": "application/json", "content-length": "100001"}
    is_problem(web.client.post("/v1/classify", content=b"x" * 100_001, headers=headers), 413, "payload_too_large")
    chunks_sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal chunks_sent
        for _ in range(1000):
            chunks_sent += 1
            yield b"x" * 1000

    response = web.client.post("/v1/classify", content=endless(), headers={"content-type": "application/json"})
    is_problem(response, 413, "payload_too_large")


def form(boundary: str, *parts: tuple[str, bytes]) -> bytes:
    lines = [f"--{boundary}\r\n{head}\r\n\r\n".encode() + content + b"\r\n" for head, content in parts]
    return b"".join(lines) + f"--{boundary}--\r\n".encode()


FIELD = 'Content-Disposition: form-data; name="{}"'
FILE = 'Content-Disposition: form-data; name="file"; filename="x.png"'


@pytest.mark.parametrize(
    ("content_type", "body", "status", "code"),
    [
        pytest.param("multipart/form-data", b"", 400, "multipart_malformed", id="72-no-boundary"),
        pytest.param(f"multipart/form-data; boundary={'b' * 257}", b"", 400, "multipart_malformed", id="73-boundary"),
        pytest.param(
            "multipart/form-data; boundary=b",
            form("b", (FILE + "\r\n" + "\r\n".join(f"X-{n}: y" for n in range(9)), b"x")),
            400,
            "multipart_malformed",
            id="74-nine-headers",
        ),
        pytest.param(
            "multipart/form-data; boundary=b", b"x" * 200_000, 400, "multipart_malformed", id="75-huge-preamble"
        ),
        pytest.param(
            "multipart/form-data; boundary=b",
            form("b", (FILE, png()))[:-20],
            400,
            "multipart_malformed",
            id="75-truncated",
        ),
        pytest.param(
            "multipart/form-data; boundary=b",
            form("b", *[(FIELD.format("labels"), b"x")] * 1001),
            422,
            "invalid_request",
            id="76-parts",
        ),
        pytest.param(
            "multipart/form-data; boundary=b",
            form("b", (FIELD.format("labels"), b"x"), (FIELD.format("labels"), b"y")),
            422,
            "invalid_request",
            id="77-no-file",
        ),
        pytest.param(
            "multipart/form-data; boundary=b",
            form("b", (FILE, png()), (FIELD.format("mode"), b"softmax"), (FIELD.format("mode"), b"softmax")),
            422,
            "invalid_request",
            id="single-field-twice",
        ),
        pytest.param(
            "multipart/form-data; boundary=b",
            form("b", (FILE.replace('"file"', '"image"'), png())),
            422,
            "invalid_request",
            id="file-under-another-name",
        ),
    ],
)
def test_multipart_that_is_refused(web: Web, content_type: str, body: bytes, status: int, code: str) -> None:
    is_problem(web.client.post("/v1/classify", content=body, headers={"content-type": content_type}), status, code)


def test_multipart_fields_and_options(web: Web) -> None:
    files: Any = [("file", ("../../etc/\x00passwd", png(), "text/html")), ("file", ("b", png("blue")))]
    direct = web.client.post("/v1/classify", files=files, data={"labels": ["cat", "dog"], "top_k": "1"})
    assert direct.status_code == 200, direct.text
    assert [len(result["scores"]) for result in direct.json()["results"]] == [1, 1]
    options = json.dumps({"labels": ["cat", "dog"], "top_k": 1})
    packed = web.client.post("/v1/classify", files=files, data={"options": options})
    assert [r["scores"] for r in packed.json()["results"]] == [r["scores"] for r in direct.json()["results"]]
    clash = web.client.post("/v1/classify", files=files, data={"options": options, "labels": ["cat"]})
    is_problem(clash, 422, "invalid_request")


def test_too_many_images_and_too_many_views(web: Web) -> None:
    is_problem(ask(web, *[png()] * 33), 422, "invalid_request")
    wide = io.BytesIO()
    Image.new("RGB", (320, 64)).save(wide, "PNG")
    results = ask(web, *[wide.getvalue()] * 32, views="tiles").json()["results"]
    assert {result["error"]["code"] for result in results} == {"invalid_request"}
    assert "send fewer at a time" in results[0]["error"]["detail"]
    assert not any(result["error"] for result in ask(web, *[wide.getvalue()] * 16, views="tiles").json()["results"])


def test_unknown_paths_and_methods_are_problems(web: Web) -> None:
    is_problem(web.client.get("/nothing"), 404, "not_found")
    response = web.client.get("/v1/classify")
    is_problem(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "POST"


def test_request_ids_are_taken_over_when_valid(web: Web) -> None:
    assert web.client.get("/livez", headers={"x-request-id": "abc-1.2_3"}).headers["x-request-id"] == "abc-1.2_3"
    for bad in ("x" * 129, "a b", "<script>"):
        assert web.client.get("/livez", headers={"x-request-id": bad}).headers["x-request-id"] != bad


def test_ids_are_echoed_and_models_named(web: Web) -> None:
    response = web.client.post(
        "/v1/classify",
        json={"images": [{**b64(png()), "id": "mine"}], "labels": ["cat", "dog"], "include": ["embedding"]},
    ).json()
    assert response["results"][0]["id"] == "mine"
    assert response["model"] == {"id": "fake", "bundle_id": BUNDLE_ID, "demo": True, "random": False}
    assert len(response["results"][0]["embedding"]) == 8
    assert set(response["timings_ms"]) == {"intake", "decode", "views", "text", "encode", "score", "total"}


def test_metrics_tell_requests_stages_batches_hits_and_errors(web: Web) -> None:
    ask(web)
    ask(web)
    ask(web, b"")
    text = web.client.get("/metrics").text
    assert 'gateway_requests_total{method="POST",route="/v1/classify",status="200"} 2.0' in text
    assert 'gateway_errors_total{code="empty_file"} 1.0' in text
    assert 'gateway_text_cache_lookups_total{outcome="hit"}' in text
    assert 'gateway_stage_seconds_count{stage="decode"} 2.0' in text


def test_the_openapi_text_names_bodies_errors_and_runnable_examples(web: Web) -> None:
    schema = web.client.get("/openapi.json").json()
    operation = schema["paths"]["/v1/classify"]["post"]
    assert set(operation["requestBody"]["content"]) == {"application/json", "multipart/form-data"}
    assert "ClassifyBody" in schema["components"]["schemas"]
    assert "`image_corrupt`" in operation["responses"]["422"]["description"]
    for path in ("/v1/classify", "/v1/embeddings"):
        example = schema["paths"][path]["post"]["requestBody"]["content"]["application/json"]["example"]
        assert web.client.post(path, json=example).status_code == 200
    references = set(json.dumps(schema).split('"#/components/schemas/')[1:])
    assert all(reference.split('"')[0] in schema["components"]["schemas"] for reference in references)
