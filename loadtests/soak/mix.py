"""What the soak test sends: prebuilt requests of many kinds, what each must get, and in which order they come.

Everything follows from one seed. Sizes run from 64 px to a camera's 12 megapixels, and the large ones are rare, as they
are in life and since they cost the most.
"""

from __future__ import annotations

import base64
import io
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from PIL import Image

from loadtests.pictures import Drawing, Picture, draw

Leaving = Literal["never", "uploading", "waiting", "reading"]

LABELS = ("a red circle", "a blue square", "a green star", "an empty picture")
BOUNDARY = b"soak-6f1c2d9e"
SMALL = (
    Drawing("small.jpg", 64, 64, "image/jpeg"),
    Drawing("small.png", 64, 96, "image/png"),
    Drawing("small.webp", 128, 64, "image/webp"),
    Drawing("small.avif", 160, 120, "image/avif"),
    Drawing("middle.avif", 640, 480, "image/avif"),
)
NEW_WORDS = 200  # requests with labels that were never sent before come from this many


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of request.

    Attributes:
        name: shown in the report.
        weight: how often it comes, beside the others.
        head: the request line and headers, complete.
        body: what follows.
        expected: the answer it must get, such as ``200`` or ``422 image_corrupt``.
        items: of a 200, the error code of each item, None for one that must succeed; empty: not looked at.
        leaving: whether and when the client goes before it has its answer.
    """

    name: str
    weight: float
    head: bytes
    body: bytes
    expected: str
    items: tuple[str | None, ...] = ()
    leaving: Leaving = "never"


def request(method: str, path: str, body: bytes = b"", kind: str = "application/json", length: int = -1) -> bytes:
    """Return a request's head; ``length`` announces another body than there is."""
    announced = f"Content-Type: {kind}\r\nContent-Length: {len(body) if length < 0 else length}\r\n"
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{announced if body or length >= 0 else ''}\r\n".encode()


def form(files: Sequence[bytes], fields: Sequence[tuple[str, str]]) -> bytes:
    """Return a multipart body."""
    parts = [f'name="{name}"\r\n\r\n{value}'.encode() for name, value in fields]
    parts += [b'name="file"; filename="a"\r\nContent-Type: image/x\r\n\r\n' + data for data in files]
    opening = b"--" + BOUNDARY + b"\r\nContent-Disposition: form-data; "
    return b"".join(opening + part + b"\r\n" for part in parts) + b"--" + BOUNDARY + b"--\r\n"


FORM = f"multipart/form-data; boundary={BOUNDARY.decode()}"


def upload(path: str, files: Sequence[bytes], fields: Sequence[tuple[str, str]] = ()) -> tuple[bytes, bytes]:
    """Return head and body of an upload."""
    body = form(files, fields)
    return request("POST", path, body, FORM), body


def posted(path: str, value: object) -> tuple[bytes, bytes]:
    """Return head and body of a JSON request."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return request("POST", path, body), body


def in_base64(data: bytes) -> str:
    """Return bytes as base64 text."""
    return base64.b64encode(data).decode()


def animation(frames: int = 12) -> bytes:
    """Return an animated GIF of 200 x 150."""
    pictures = [Image.new("RGB", (200, 150), (20 * index, 80, 250 - 20 * index)) for index in range(frames)]
    buffer = io.BytesIO()
    pictures[0].save(buffer, "GIF", save_all=True, append_images=pictures[1:], duration=80, loop=0)
    return buffer.getvalue()


WORDS = [("labels", label) for label in LABELS]


def good(pictures: Sequence[Picture], picture_url: str | None) -> Iterator[Case]:
    """Yield requests that must succeed."""
    data = {picture.drawing.file: picture.data for picture in pictures}
    data |= {drawing.file: draw(drawing, seed=index) for index, drawing in enumerate(SMALL)}
    data["animation.gif"] = animation()
    for name, bytes_ in data.items():
        side = max((d.width for d in (*SMALL, *(p.drawing for p in pictures)) if d.file == name), default=200)
        weight = 6.0 if side <= 400 else 2.0 if side <= 1280 else 0.5
        one = (None,)
        yield Case(f"classify {name}", weight, *upload("/v1/classify", [bytes_], WORDS), "200", one)
        yield Case(f"moderate {name}", weight / 2, *upload("/v1/moderate", [bytes_]), "200", one)
        body = {"images": [{"base64": in_base64(bytes_)}], "labels": LABELS, "views": "tiles"}
        yield Case(f"classify {name} in JSON, tiles", weight / 3, *posted("/v1/classify", body), "200", one)
    small = [data[name] for name in ("small.jpg", "small.png", "small.webp", "small.avif", "thumbnail.jpg")]
    yield Case("batch of 5", 4, *upload("/v1/classify", small, WORDS), "200", (None,) * 5)
    yield Case("batch of 3, moderated", 2, *upload("/v1/moderate", small[:3]), "200", (None,) * 3)
    mixed = [small[0], small[1][:300], b"no picture", small[2]]
    items = (None, "image_corrupt", "unsupported_image", None)
    yield Case("batch with two bad ones", 4, *upload("/v1/moderate", mixed), "200", items)
    texts = ["a drawing of a red circle", "a blue square", {"image": {"base64": in_base64(small[0])}}]
    yield Case("embeddings", 4, *posted("/v1/embeddings", {"input": texts}), "200")
    uri = f"data:image/png;base64,{in_base64(small[1])}"
    openai = {"input": [{"type": "image_url", "image_url": {"url": uri}}]}
    yield Case("moderations", 4, *posted("/v1/moderations", openai), "200")
    alone = {"images": [{"base64": in_base64(small[0])}], "labels": LABELS, "mode": "independent"}
    yield Case("independent scores", 3, *posted("/v1/classify", alone), "200", (None,))
    for number in range(NEW_WORDS):
        fields = [("labels", f"a red circle number {number} of {index}") for index in range(5)]
        asked = upload("/v1/classify", [small[0]], fields)
        yield Case("words never sent before", 3 / NEW_WORDS, *asked, "200", (None,))
    if picture_url is not None:
        for name in ("thumbnail.jpg", "web.webp"):
            source = {"images": [{"url": f"{picture_url}/{name}"}], "labels": LABELS}
            yield Case(f"{name} by URL", 2, *posted("/v1/classify", source), "200", (None,))
    for path in ("/readyz", "/v1/models", "/v1/policies", "/v1/decisions?limit=5"):
        yield Case(f"GET {path}", 0.5, request("GET", path), b"", "200")
    yield Case("GET /metrics", 0.5, request("GET", "/metrics"), b"", "200")


def bad(pictures: Sequence[Picture], max_image_bytes: int, max_body_bytes: int) -> Iterator[Case]:
    """Yield requests that must be refused."""
    data = {picture.drawing.file: picture.data for picture in pictures}
    jpeg, png, webp = data["thumbnail.jpg"], data["avatar.png"], data["web.webp"]
    huge = bytearray(png)
    huge[16:24] = (60_000).to_bytes(4, "big") * 2
    files = {
        "JPEG cut": (jpeg[: len(jpeg) // 2], "422 image_corrupt"),
        "PNG cut": (png[: len(png) // 2], "422 image_corrupt"),
        "WebP cut": (webp[: len(webp) // 2], "422 image_corrupt"),
        "PNG whose header says otherwise": (bytes(huge), "422"),
        "text": (b"this is no picture" * 20, "415 unsupported_image"),
        "nothing": (b"", "400 empty_file"),
    }
    for name, (content, expected) in files.items():
        yield Case(name, 1.5, *upload("/v1/classify", [content], WORDS), expected)
        yield Case(f"{name}, moderated", 1, *upload("/v1/moderate", [content]), expected)
    heavy = jpeg + bytes(max_image_bytes)
    yield Case("too many bytes", 0.2, *upload("/v1/classify", [heavy], WORDS), "413 payload_too_large")
    begun = request("POST", "/v1/classify", b"", FORM, length=max_body_bytes + 1)
    yield Case("body too long", 1, begun, b"--" + BOUNDARY + b"\r\n", "413 payload_too_large")
    source = {"images": [{"base64": in_base64(jpeg)}]}
    words = {"labels": LABELS}
    requests: dict[str, tuple[object, str]] = {
        "bad JSON": (b'{"images": [', "400 invalid_json"),
        "deep JSON": (b'{"a":' * 5000, "400 invalid_json"),
        "unknown field": ({**source, **words, "x": 1}, "422 invalid_request"),
        "labels twice": ({**source, "labels": [LABELS[0]] * 2}, "422 invalid_labels"),
        "label too long": ({**source, "labels": [LABELS[0], "a red circle " * 60]}, "422"),
        "no picture": ({"images": [], **words}, "422 invalid_request"),
        "base64 of text": ({"images": [{"base64": "aGVsbG8="}], **words}, "415 unsupported_image"),
    }
    for url in ("http://169.254.169.254/a", "http://127.0.0.1:22/", "file:///etc/passwd", "http://u:p@[::1]/"):
        requests[f"forbidden {url}"] = ({"images": [{"url": url}], **words}, "422 source_url_forbidden")
    for name, (value, expected) in requests.items():
        yield Case(name, 1, *posted("/v1/classify", value), expected)
    yield Case("unknown policy", 1, *posted("/v1/moderate", {**source, "policy": "absent"}), "404 not_found")
    yield Case("text to moderate", 1, *posted("/v1/moderations", {"input": "hello"}), "400 text_not_supported")
    broken = b"--other\r\n\r\nx"
    yield Case("broken form", 1, request("POST", "/v1/classify", broken, FORM), broken, "400 multipart_malformed")
    plain = request("POST", "/v1/classify", b"hello", "text/plain")
    yield Case("wrong content type", 1, plain, b"hello", "415 unsupported_media_type")
    yield Case("unknown path", 1, request("GET", "/nowhere"), b"", "404 not_found")
    yield Case("wrong method", 1, request("GET", "/v1/classify"), b"", "405 method_not_allowed")


def leavers(pictures: Sequence[Picture]) -> Iterator[Case]:
    """Yield requests whose client goes before it has its answer."""
    data = {picture.drawing.file: picture.data for picture in pictures}
    for name in ("thumbnail.jpg", "web.webp", "tall.jpg", "camera.jpg"):
        weight = 0.2 if name == "camera.jpg" else 0.8
        for leaving in ("uploading", "waiting", "reading"):
            head, body = upload("/v1/moderate", [data[name]])
            yield Case(f"left while {leaving}, {name}", weight, head, body, "left", (), leaving)


def order(cases: Sequence[Case], count: int, seed: int) -> list[int]:
    """Return which case comes when: ``count`` indexes by weight, shuffled by the seed."""
    dice = random.Random(seed)
    return dice.choices(range(len(cases)), [case.weight for case in cases], k=count)
