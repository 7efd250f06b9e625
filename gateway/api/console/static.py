"""The console's files: read once, compressed once, and sent to everybody. They hold nothing about anybody.

A browser asks each time whether what it has is still right (``no-cache`` and a tag of the content), so that no page of
an earlier release meets a newer gateway.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from urllib.parse import urlsplit

from fastapi import FastAPI
from fastapi.responses import Response
from starlette.requests import Request

from gateway.errors import NotFound

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".webp": "image/webp",
    ".LICENSE": "text/plain; charset=utf-8",
}
COMPRESSED = frozenset(TYPES) - {".webp"}
INDEX = "index.html"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:{images}; connect-src 'self'; "
    "font-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'"
)


@dataclass(frozen=True, slots=True)
class StaticFile:
    """One file as it is sent.

    Attributes:
        content: its bytes.
        compressed: the same by gzip; None where that is not shorter.
        media_type: of the content.
        etag: of the content, weak: it is the same for both forms.
    """

    content: bytes
    compressed: bytes | None
    media_type: str
    etag: str


def console_files() -> dict[str, StaticFile]:
    """Return the files of the installed package by their paths below ``/console/``; others than ``TYPES`` stay out."""
    return dict(_read(resources.files("gateway").joinpath("console"), ""))


def _read(folder: Traversable, prefix: str) -> Iterator[tuple[str, StaticFile]]:
    for entry in folder.iterdir():
        name, suffix = entry.name, f".{entry.name.rpartition('.')[2]}"
        if entry.is_dir():
            yield from _read(entry, f"{prefix}{name}/")
        elif suffix in TYPES:
            content = entry.read_bytes()
            packed = gzip.compress(content, mtime=0) if suffix in COMPRESSED else content
            etag = f'W/"{hashlib.sha256(content).hexdigest()[:32]}"'
            yield (
                f"{prefix}{name}",
                StaticFile(content, packed if len(packed) < len(content) else None, TYPES[suffix], etag),
            )


def install_console(app: FastAPI, image_url: str) -> None:
    """Serve the console at ``/console``, with a content policy that lets nothing run but its own files.

    Args:
        app: the application.
        image_url: template of addresses of pictures under review, or empty; pages may show pictures of its origin.
    """
    files = console_files()
    to = urlsplit(image_url)
    policy = POLICY.format(images=f" {to.scheme}://{to.netloc}" if to.netloc else "")

    async def answer(request: Request, path: str = "") -> Response:
        file = files.get(path or INDEX)
        if file is None:
            raise NotFound("The console has no such file.")
        headers = {"ETag": file.etag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
        headers |= {"Content-Security-Policy": policy, "Cross-Origin-Opener-Policy": "same-origin"}
        if file.etag in [tag.strip() for tag in request.headers.get("if-none-match", "").split(",")]:
            return Response(status_code=304, headers=headers)
        if file.compressed is not None and _takes_gzip(request.headers.get("accept-encoding", "")):
            return Response(file.compressed, headers=headers | {"Content-Encoding": "gzip"}, media_type=file.media_type)
        return Response(file.content, headers=headers, media_type=file.media_type)

    for route in ("/console", "/console/{path:path}"):
        app.add_api_route(route, answer, methods=["GET", "HEAD"], include_in_schema=False)


def _takes_gzip(accepted: str) -> bool:
    """Tell whether a client takes gzip (RFC 9110, 12.5.3)."""
    for coding in accepted.lower().split(","):
        name, _, weight = coding.partition(";")
        if name.strip() == "gzip":
            return weight.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return False
