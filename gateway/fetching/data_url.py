"""``data:`` URLs and base64 → bytes, as browsers read them (WHATWG Fetch, "data: URL processor"; Infra, base64)."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final
from urllib.parse import unquote_to_bytes

from gateway.errors import ImageTooLarge, InvalidRequest

_SCHEME: Final = re.compile(r"[\x00-\x20]*data:", re.IGNORECASE)
_BASE64: Final = re.compile(r"; *base64\s*", re.IGNORECASE)
_URL_SAFE: Final = {b"-": b"+", b"_": b"/"}  # base64url is taken too, which browsers do not
MOST_PADDING: Final = 2  # bytes that base64 text may stand for less than its length says
_BLANKS: Final = b" \t\n\f\r"


def is_data_url(text: str) -> bool:
    """Return whether a text is a ``data:`` URL, well-formed or not."""
    return _SCHEME.match(text) is not None


def read_data_url(url: str, max_bytes: int) -> bytes:
    """Return what a ``data:`` URL holds; its media type is not asked.

    Raises:
        ImageTooLarge: more bytes than that.
        InvalidRequest: it has no comma, or what it holds is not the base64 that it says it is.
    """
    scheme = _SCHEME.match(url)
    head, comma, body = url[scheme.end() if scheme else 0 :].partition("#")[0].partition(",")
    if not comma:
        raise InvalidRequest("A data: URL has a comma before its data: data:image/png;base64,… or data:image/png,…")
    for ignored in "\t\n\r":
        body = body.replace(ignored, "")
    data = unquote_to_bytes(body.rstrip(" ").encode("utf-8", "surrogatepass"))
    if _BASE64.fullmatch(head, head.rfind(";")):
        return read_base64(data, max_bytes)
    check_size(len(data), max_bytes)
    return data


def read_base64(text: str | bytes, max_bytes: int) -> bytes:
    """Return the bytes of base64 in either alphabet (RFC 4648), with or without padding; blanks are passed over.

    Raises:
        ImageTooLarge: more bytes than that; what must be more is not decoded.
        InvalidRequest: it is not base64.
    """
    try:
        data = (text.encode("ascii") if isinstance(text, str) else text).translate(None, _BLANKS)
        for safe, standard in _URL_SAFE.items():
            data = data.replace(safe, standard)
        if len(data) % 4:
            data += b"=" * (-len(data) % 4)
        check_size(len(data) * 3 // 4 - MOST_PADDING, max_bytes)
        data = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest("The base64 text of the image is not valid base64 (RFC 4648).") from None
    check_size(len(data), max_bytes)
    return data


def check_size(count: int, max_bytes: int) -> None:
    """Check the number of an image's bytes.

    Raises:
        ImageTooLarge: it is over the cap.
    """
    if count > max_bytes:
        raise ImageTooLarge(f"The image has about {count} bytes; at most {max_bytes} are accepted.")
