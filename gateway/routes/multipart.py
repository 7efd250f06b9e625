"""A multipart body (RFC 7578, RFC 2046) → its fields and files, read as it arrives and kept in memory."""

from __future__ import annotations

from dataclasses import dataclass

from multipart import MultipartError, MultipartSegment, ParserLimitReached, PushMultipartParser

from gateway.errors import InvalidRequest, MultipartMalformed

MAX_PARTS = 1000
MAX_BOUNDARY_BYTES = 256
MAX_PREAMBLE_BYTES = 64 * 1024
MAX_HEADERS = 8  # of a part, and bytes of one
MAX_HEADER_BYTES = 4224
_MALFORMED = "The body is no valid multipart/form-data of its boundary."


@dataclass(frozen=True, slots=True)
class Part:
    """One part; ``is_file`` tells a file from a field: it was sent with a name of its own, which is not used."""

    name: str
    is_file: bool
    content: bytes


class MultipartReader:
    """Feed it the body's chunks, then ask for the parts. Nothing depends on how a body is cut into chunks.

    Args:
        boundary: from the Content-Type header.

    Raises:
        MultipartMalformed: no boundary or one that none can be, or over 256 bytes.
    """

    def __init__(self, boundary: bytes | None) -> None:
        if not boundary:
            raise MultipartMalformed("The Content-Type has no boundary; multipart/form-data needs one.")
        if len(boundary) > MAX_BOUNDARY_BYTES:
            raise MultipartMalformed(f"The boundary is over {MAX_BOUNDARY_BYTES} bytes.")
        try:
            self._parser = PushMultipartParser(
                boundary, max_header_size=MAX_HEADER_BYTES, max_header_count=MAX_HEADERS, max_segment_count=MAX_PARTS
            )
        except MultipartError:
            raise MultipartMalformed("The boundary is none that RFC 2046 allows.") from None
        self._parts: list[Part] = []
        self._segment: MultipartSegment | None = None
        self._pieces: list[bytes] = []  # of the content of the present part
        self._first = b"--" + boundary
        self._before: bytearray | None = bytearray()  # what has come so far; None once the first boundary has
        self._skipped = 0

    def feed(self, chunk: bytes) -> None:
        """Read one chunk; behind the closing boundary anything is allowed and means nothing.

        Raises:
            MultipartMalformed: not the form it claims to be.
            InvalidRequest: too many parts.
        """
        if self._before is not None:
            chunk = self._from_first_boundary(self._before, chunk)
        if not chunk:
            return
        try:
            for event in self._parser.parse(chunk):
                if event is None:
                    self._end_part()
                elif isinstance(event, MultipartSegment):
                    self._segment = event
                else:
                    self._pieces.append(bytes(event))
        except ParserLimitReached:
            if len(self._parts) >= MAX_PARTS:
                raise InvalidRequest(
                    f"More than {MAX_PARTS} parts; put long lists into one “options” field as JSON."
                ) from None
            raise MultipartMalformed(f"A part has over {MAX_HEADERS} headers, or one too long.") from None
        except MultipartError:
            raise MultipartMalformed(_MALFORMED) from None

    def parts(self) -> list[Part]:
        """Return the parts once the body has ended.

        Raises:
            MultipartMalformed: the body stopped before its closing boundary.
        """
        try:
            self._parser.close()
        except MultipartError:
            raise MultipartMalformed("The body ends before its closing boundary; it seems cut short.") from None
        return self._parts

    def _from_first_boundary(self, before: bytearray, chunk: bytes) -> bytes:
        """Return what has come once the first boundary has; before it only line ends are a form's.

        A preamble is for readers of mail. The parser takes one, or does not, by how it is cut into chunks.
        """
        before += chunk
        begin = len(before) - len(before.lstrip(b"\r\n"))
        self._skipped += begin
        del before[:begin]
        if self._skipped > MAX_PREAMBLE_BYTES:
            raise MultipartMalformed(f"No part begins within the first {MAX_PREAMBLE_BYTES} bytes.")
        if not before.startswith(self._first[: len(before)]):
            raise MultipartMalformed(_MALFORMED)
        if len(before) < len(self._first):
            return b""
        self._before = None
        return bytes(before)

    def _end_part(self) -> None:
        segment = self._segment
        assert segment is not None  # noqa: S101 - the parser ends none that it has not begun
        disposition = segment.header("Content-Disposition", "")
        if not segment.name and "name=" not in disposition:
            raise MultipartMalformed("A part has no Content-Disposition of form-data with a name.")
        if any("\n" in value for _, value in segment.headerlist):  # which the parser finds in some chunks only
            raise MultipartMalformed(_MALFORMED)
        is_file = segment.filename is not None or "filename*" in disposition  # RFC 5987's form, which RFC 7578 forbids
        self._parts.append(Part(segment.name or "", is_file, b"".join(self._pieces)))
        self._pieces = []
