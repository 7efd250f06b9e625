"""A multipart body (RFC 7578, RFC 2046) → its fields and files, read as it arrives and kept in memory under the caps.

Read here rather than by python-multipart, of which only the reading of parameters is used: it calls back
seven times a part, and a thousand labels of a form took it longer than their picture took to decode. What is accepted
is what it accepts, but for line ends within header values. Nothing depends on how a body is cut into chunks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from python_multipart.multipart import parse_options_header

from gateway.errors import InvalidRequest, MultipartMalformed

MAX_PARTS = 1000
MAX_BOUNDARY_BYTES = 256
MAX_PREAMBLE_BYTES = 64 * 1024
MAX_HEADERS = 8  # of a part, and bytes of one
MAX_HEADER_BYTES = 4224
MAX_HEAD_BYTES = MAX_HEADERS * (MAX_HEADER_BYTES + 2)
MAX_PADDING_BYTES = 256  # behind a boundary

# token ":" value, RFC 9110, 5.1 and 5.6.2; a value's bytes mean nothing here.
_HEADER: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ ]*([^\r\n]*)")
_PADDING: Final = re.compile(rb"[ \t]*")
_MALFORMED: Final = "The body is no valid multipart/form-data of its boundary."


@dataclass(frozen=True, slots=True)
class Part:
    """One part; ``is_file`` tells a file from a field: it was sent with a name of its own, which is not used."""

    name: str
    is_file: bool
    content: bytes


class MultipartReader:
    """Feed it the body's chunks, then ask for the parts.

    Args:
        boundary: from the Content-Type header.

    Raises:
        MultipartMalformed: no boundary or one over 256 bytes.
    """

    def __init__(self, boundary: bytes | None) -> None:
        if not boundary:
            raise MultipartMalformed("The Content-Type has no boundary; multipart/form-data needs one.")
        if len(boundary) > MAX_BOUNDARY_BYTES:
            raise MultipartMalformed(f"The boundary is over {MAX_BOUNDARY_BYTES} bytes.")
        self._delimiter = b"\r\n--" + boundary
        self._parts: list[Part] = []
        self._heads: dict[bytes, tuple[str, bool]] = {}  # as read before: the parts of a list have one
        self._part: tuple[str, bool] = ("", False)
        self._unread = bytearray()
        self._at = 0  # in what is unread: where the next head or the present content begins
        self._searched = 0  # up to there nothing ends it
        self._skipped = 0  # line ends before the first boundary
        self._begun = 0
        self._next = self._first_boundary

    def feed(self, chunk: bytes) -> None:
        """Read one chunk.

        Raises:
            MultipartMalformed: not the form it claims to be.
            InvalidRequest: too many parts.
        """
        if self._ended:
            return  # an epilogue is allowed and means nothing
        self._unread += chunk
        while self._next():
            pass
        if self._at:
            del self._unread[: self._at]
            self._searched = max(0, self._searched - self._at)
            self._at = 0

    def parts(self) -> list[Part]:
        """Return the parts once the body has ended.

        Raises:
            MultipartMalformed: the body stopped before its closing boundary.
        """
        if not self._ended:
            raise MultipartMalformed("The body ends before its closing boundary; it seems cut short.")
        return self._parts

    @property
    def _ended(self) -> bool:
        return self._next == self._end

    def _first_boundary(self) -> bool:
        """Pass over line ends and the first boundary; what comes before it is no preamble that anybody sends."""
        begin = len(self._unread) - len(self._unread.lstrip(b"\r\n"))
        self._skipped += begin
        if self._skipped > MAX_PREAMBLE_BYTES:
            raise MultipartMalformed(f"No part begins within the first {MAX_PREAMBLE_BYTES} bytes.")
        del self._unread[:begin]
        first = self._delimiter[2:]
        if not self._unread.startswith(first[: len(self._unread)]):
            raise MultipartMalformed(_MALFORMED)
        if len(self._unread) < len(first):
            return False
        follows = bytes(self._unread[len(first) : len(first) + 2])
        if len(follows) == 2:  # noqa: PLR2004 - a line end or two hyphens
            return self._boundary(follows, len(first) + 2)
        if follows not in {b"", b"\r", b"-"}:
            raise MultipartMalformed(_MALFORMED)
        return False

    def _boundary(self, follows: bytes, end: int) -> bool:
        """Go on behind a boundary and what follows it; return whether there is more to read."""
        self._at = self._searched = end
        if follows == b"\r\n":
            self._begun += 1
            if self._begun > MAX_PARTS:
                raise InvalidRequest(f"More than {MAX_PARTS} parts; put long lists into one “options” field as JSON.")
            self._next = self._head
            return True
        if follows != b"--":
            raise MultipartMalformed(_MALFORMED)
        self._next = self._end
        self._unread.clear()
        self._at = self._searched = 0
        return False

    def _head(self) -> bool:
        """Read a part's headers."""
        unread, at = self._unread, self._at
        if unread.startswith(b"\r\n", at):
            raise MultipartMalformed("A part has no Content-Disposition of form-data with a name.")
        end = unread.find(b"\r\n\r\n", max(at, self._searched - 3))
        if (end if end >= 0 else len(unread)) - at > MAX_HEAD_BYTES:
            raise MultipartMalformed(_MALFORMED)
        if end < 0:
            self._searched = len(unread)
            return False
        head = bytes(unread[at:end])
        known = self._heads.get(head)
        if known is None:
            known = self._heads[head] = read_head(head)
        self._part = known
        self._at = self._searched = end + 4
        self._next = self._content
        return True

    def _content(self) -> bool:
        """Read a part's content up to the boundary behind it."""
        unread, delimiter = self._unread, self._delimiter
        end = unread.find(delimiter, self._searched)
        if end < 0:
            self._searched = max(self._searched, len(unread) - len(delimiter) + 1)
            return False
        self._searched = end
        behind = end + len(delimiter)
        follows = bytes(unread[behind : behind + 2])
        if follows in {b"\r\n", b"--"}:
            return self._whole(end, follows, behind + 2)
        if follows in {b"", b"\r", b"-"}:
            return False
        if follows[:1] not in {b" ", b"\t"}:
            self._searched = behind  # a line of the content that begins like the boundary
            return True
        # RFC 2046, 5.1.1: "transport padding".
        found = _PADDING.match(unread, behind)
        padded = found.end() if found else behind
        if padded - behind > MAX_PADDING_BYTES:
            raise MultipartMalformed(_MALFORMED)
        follows = bytes(unread[padded : padded + 2])
        if follows in {b"", b"\r"}:
            return False
        if follows != b"\r\n":
            raise MultipartMalformed(_MALFORMED)
        return self._whole(end, follows, padded + 2)

    def _whole(self, end: int, follows: bytes, behind: int) -> bool:
        """Keep a part whose content is whole."""
        name, is_file = self._part
        with memoryview(self._unread) as unread:
            self._parts.append(Part(name, is_file, bytes(unread[self._at : end])))
        return self._boundary(follows, behind)

    def _end(self) -> bool:
        """Read no more."""
        return False


def read_head(head: bytes) -> tuple[str, bool]:
    """Return a part's name, and whether it is a file, from its headers.

    Raises:
        MultipartMalformed: they are no headers, or too many, or do not name the part.
    """
    disposition = b""
    lines = head.split(b"\r\n")
    if len(lines) > MAX_HEADERS:
        raise MultipartMalformed(_MALFORMED)
    for line in lines:
        found = _HEADER.fullmatch(line)
        if found is None or len(line) > MAX_HEADER_BYTES:
            raise MultipartMalformed(_MALFORMED)
        if found[1].lower() == b"content-disposition":
            disposition = found[2]
    return read_disposition(disposition)


def read_disposition(value: bytes) -> tuple[str, bool]:
    """Return a part's name, and whether it is a file, from its Content-Disposition.

    Raises:
        MultipartMalformed: it is not of form-data, or has no name.
    """
    kind, options = parse_options_header(value)
    name = options.get(b"name")
    if kind != b"form-data" or name is None:
        raise MultipartMalformed("A part has no Content-Disposition of form-data with a name.")
    return name.decode("utf-8", "replace"), b"filename" in options or b"filename*" in options
