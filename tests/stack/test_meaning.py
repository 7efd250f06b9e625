"""Through the whole real stack: the right label wins, whichever way the picture comes."""

from __future__ import annotations

import base64
import http.server
import threading
from collections.abc import Iterator
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image

from tests.conftest import Stack
from tests.support.drawings import LABELS, encoded, shape

TEMPLATE = ["a drawing of {}"]


def ask_json(client: httpx2.Client, images: list[dict[str, Any]], **fields: Any) -> Any:
    answer = client.post("/v1/classify", json={"images": images, "labels": list(LABELS), **fields})
    assert answer.status_code == 200, answer.text
    return answer.json()


def in_base64(picture: bytes) -> dict[str, str]:
    return {"base64": base64.b64encode(picture).decode()}


@pytest.fixture
def picture_server(stack: Stack) -> Iterator[str]:
    """A local server of drawings, on the port that the stack may fetch from."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            label = self.path.strip("/").replace("-", " ").removesuffix(".png")
            body = encoded(shape(label)) if label in LABELS else b""
            self.send_response(200 if body else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return None

    with http.server.ThreadingHTTPServer(("127.0.0.1", stack.picture_port), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{stack.picture_port}"
        finally:
            server.shutdown()


def test_the_right_label_wins_on_unseen_drawings(client: httpx2.Client) -> None:
    right = 0
    for start in range(0, len(LABELS), 8):
        chunk = LABELS[start : start + 8]
        answer = ask_json(client, [in_base64(encoded(shape(label))) for label in chunk])
        for label, result in zip(chunk, answer["results"], strict=True):
            assert sum(score["score"] for score in result["scores"]) == pytest.approx(1, abs=1e-4)
            scores = [score["score"] for score in result["scores"]]
            assert scores == sorted(scores, reverse=True)
            right += result["scores"][0]["label"] == label
    assert right >= 15, f"{right} of {len(LABELS)}"


def test_upload_base64_data_uri_and_url_give_the_same_answer(client: httpx2.Client, picture_server: str) -> None:
    picture = encoded(shape("a red circle"))
    text = base64.b64encode(picture).decode()
    results = [
        *ask_json(
            client,
            [
                {"base64": text},
                {"base64": f"data:image/png;base64,{text}"},
                {"url": f"{picture_server}/a-red-circle.png"},
            ],
        )["results"],
        client.post("/v1/classify", files={"file": picture}, data={"labels": list(LABELS)}).json()["results"][0],
    ]
    assert {result["image"]["sha256"] for result in results} == {results[0]["image"]["sha256"]}
    for result in results:
        assert result["scores"][0]["label"] == "a red circle"
        for score, first in zip(result["scores"], results[0]["scores"], strict=True):
            assert score["score"] == pytest.approx(first["score"], abs=1e-5)
    missing = client.post("/v1/classify", json={"images": [{"url": f"{picture_server}/x"}], "labels": ["a", "b"]})
    assert (missing.status_code, missing.json()["code"]) == (422, "source_not_image")


def test_urls_and_files_may_come_in_one_form(client: httpx2.Client, picture_server: str) -> None:
    answer = client.post(
        "/v1/classify",
        files=[("file", encoded(shape("a blue square")))],
        data={"labels": list(LABELS), "url": [f"{picture_server}/a-red-circle.png"]},
    ).json()
    assert [result["scores"][0]["label"] for result in answer["results"]] == ["a blue square", "a red circle"]


def test_a_private_address_is_not_fetched(client: httpx2.Client, stack: Stack) -> None:
    port = stack.gateway_url.rsplit(":", 1)[1]
    for url in (
        f"http://127.0.0.1:{port}/livez",
        "http://169.254.169.254/latest",
        "http://localhost/",
        "file:///etc/passwd",
    ):
        answer = client.post("/v1/classify", json={"images": [{"url": url}], "labels": ["a", "b"]})
        assert (answer.status_code, answer.json()["code"]) == (422, "source_url_forbidden"), url


def test_independent_scores_tell_present_from_absent(client: httpx2.Client) -> None:
    red = in_base64(encoded(shape("a red circle")))
    answer = ask_json(
        client, [red], labels=["a red circle"], mode="independent", negatives=["a blue square", "a green star"]
    )
    assert answer["results"][0]["scores"][0]["score"] > 0.8
    answer = ask_json(client, [red], labels=["a blue square"], mode="independent", negatives=["a red circle"])
    assert answer["results"][0]["scores"][0]["score"] < 0.2


def test_tiles_see_the_ends_that_the_centre_crop_is_blind_to(client: httpx2.Client) -> None:
    wide = Image.new("RGB", (720, 240), "white")
    wide.paste(shape("a red star", (240, 240)), (0, 0))
    picture = in_base64(encoded(wide))
    labels = ["a red star", "an empty picture", "a blue square"]
    centre = ask_json(client, [picture], labels=labels)["results"][0]
    tiles = ask_json(client, [picture], labels=labels, views="tiles", include=["views"])["results"][0]
    assert centre["scores"][0]["label"] != "a red star"
    by_view = {view["view"]: view for view in tiles["views"]}
    assert next(iter(by_view)) == "full"
    assert by_view["tile 1"]["box"] == [0, 0, 240, 240]
    assert by_view["tile 1"]["scores"][0]["label"] == "a red star"
    mean = np.mean([{s["label"]: s["score"] for s in view["scores"]}["a red star"] for view in tiles["views"]])
    assert {s["label"]: s["score"] for s in tiles["scores"]}["a red star"] == pytest.approx(mean, abs=1e-5)


def test_an_animation_is_looked_at_beyond_its_first_frame(client: httpx2.Client) -> None:
    frames = [shape("a blue square") for _ in range(30)]
    frames[-1] = shape("a red circle")
    gif = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=100)
    result = ask_json(client, [in_base64(gif)], include=["views"])["results"][0]
    assert result["image"]["frames"] >= 2
    assert result["image"]["frames_analyzed"] == len(result["views"])
    last = result["views"][-1]
    assert last["scores"][0]["label"] == "a red circle"
    assert last["frame_ms"] > 0


def test_embeddings_of_texts_and_pictures_share_one_space(client: httpx2.Client) -> None:
    wanted = ["a red circle", "a blue square", "a green star"]
    inputs: list[Any] = [f"a drawing of {label}" for label in wanted[:2]]
    inputs.append({"text": f"a drawing of {wanted[2]}"})
    inputs += [{"image": in_base64(encoded(shape(label)))} for label in wanted]
    answers = {}
    for form in ("float", "base64"):
        answer = client.post("/v1/embeddings", json={"input": inputs, "encoding_format": form, "model": "any"})
        assert answer.status_code == 200, answer.text
        rows = [item["embedding"] for item in answer.json()["data"]]
        if form == "base64":
            rows = [np.frombuffer(base64.b64decode(row), "<f4") for row in rows]
        answers[form] = np.array(rows, np.float32)
    vectors = answers["float"]
    assert np.allclose(vectors, answers["base64"], atol=1e-4)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)
    assert (vectors[3:] @ vectors[:3].T).argmax(axis=1).tolist() == [0, 1, 2]
    plain = client.post("/v1/embeddings", json={"input": "a red circle"}).json()
    assert len(plain["data"]) == 1


def test_a_failed_embedding_input_fails_the_request(client: httpx2.Client) -> None:
    answer = client.post("/v1/embeddings", json={"input": ["fine", {"image": in_base64(b"no picture")}]})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_image")
    answer = client.post("/v1/embeddings", json={"input": []})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


def test_a_label_over_the_context_is_an_error(client: httpx2.Client) -> None:
    picture = in_base64(encoded(shape("a red circle")))
    answer = client.post("/v1/classify", json={"images": [picture], "labels": ["a cat", "red " * 100]})
    assert (answer.status_code, answer.json()["code"]) == (422, "label_too_long")


def test_the_models_endpoint_says_that_this_is_the_demo(client: httpx2.Client, stack: Stack) -> None:
    from gateway.inference.bundle import read_manifest

    manifest = read_manifest(stack.model_repository)
    (model,) = client.get("/v1/models").json()["data"]
    assert (model["id"], model["demo"], model["random"]) == ("demo", True, False)
    assert model["bundle_id"] == manifest.bundle_id
    assert model["context_length"] == manifest.text.context_length


def test_docs_and_openapi_are_served(client: httpx2.Client) -> None:
    page = client.get("/docs").text
    assert "http://" not in page
    assert "https://" not in page
    for asset in ("swagger-ui-bundle.js", "swagger-ui.css"):
        assert asset in page
        assert client.get(f"/swagger/{asset}").status_code == 200
    assert client.get("/openapi.json").json()["info"]["title"] == "CLIP moderation gateway"
