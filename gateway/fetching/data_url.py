"""``data:`` URLs and base64 → bytes, as browsers read them (WHATWG Fetch, "data: URL processor"; Infra, base64)."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final
from urllib.parse import unquote_to_bytes

from gateway.errors import InvalidRequest

_SCHEME: Final = re.compile(r"[\x00-\x20]*data:", re.IGNORECASE)
_BASE64: Final = re.compile(r"; *base64\s*", re.IGNORECASE)
_STANDARD: Final = bytes.maketrans(b"-_", b"+/")  # base64url is taken too, which browsers do not
_BLANKS: Final = b" \t\n\f\r"


def is_data_url(text: str) -> bool:
    """Return whether a text is a ``data:`` URL, well-formed or not."""
    return _SCHEME.match(text) is not None


def read_data_url(url: str) -> bytes:
    """Return what a ``data:`` URL holds; its media type is not asked.

    Raises:
        InvalidRequest: it has no comma, or what it holds is not the base64 that it says it is.
    """
    scheme = _SCHEME.match(url)
    head, comma, body = url[scheme.end() if scheme else 0 :].partition("#")[0].partition(",")
    if not comma:
        raise InvalidRequest("A data: URL has a comma before its data: data:image/png;base64,… or data:image/png,…")
    for ignored in "\t\n\r":
        body = body.replace(ignored, "")
    data = unquote_to_bytes(body.rstrip(" "))
    return read_base64(data) if _BASE64.fullmatch(head, head.rfind(";")) else data


def read_base64(text: str | bytes) -> bytes:
    """Return the bytes of base64 in either alphabet (RFC 4648), with or without padding; blanks are passed over.

    Raises:
        InvalidRequest: it is not base64.
    """
    try:
        data = (text.encode("ascii") if isinstance(text, str) else text).translate(_STANDARD, _BLANKS)
        if len(data) % 4:
            data += b"=" * (-len(data) % 4)
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest("The base64 text of the image is not valid base64 (RFC 4648).") from None
