"""The application in process on a fake encoder, and what tests of the web layer ask of it."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

from PIL import Image
from starlette.testclient import TestClient

from tests.support.fake_encoder import FakeEncoder
from tests.support.waiting import until


@dataclass
class Web:
    """The application in process, and the encoder behind it."""

    client: TestClient
    encoder: FakeEncoder


def wait_ready(web: Web, status: int = 200) -> None:
    until(lambda: web.client.get("/readyz").status_code == status, lambda: f"/readyz never answered {status}")


def png(color: str = "red", size: int = 64, **save: Any) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (size, size), color).save(out, "PNG", **save)
    return out.getvalue()


def b64(data: bytes) -> dict[str, str]:
    return {"base64": base64.b64encode(data).decode()}


def ask(web: Web, *pictures: bytes, **fields: Any) -> Any:
    body = {"images": [b64(picture) for picture in pictures or (png(),)], "labels": ["cat", "dog"], **fields}
    return web.client.post("/v1/classify", json=body)


def is_problem(response: Any, status: int, code: str) -> None:
    assert (response.status_code, response.json().get("code")) == (status, code), response.text
    assert response.headers["content-type"] == "application/problem+json"
    members = {"type", "title", "status", "code", "detail", "request_id"}
    assert set(response.json()) - {"error"} == members  # OpenAI's clients read error
    assert response.json()["request_id"] == response.headers["x-request-id"]
