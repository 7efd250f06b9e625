"""A multipart body → its fields and files, read as it arrives and kept in memory under the caps of the request."""

from __future__ import annotations

from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from gateway.errors import InvalidRequest, MultipartMalformed

MAX_PARTS = 1000
MAX_BOUNDARY_BYTES = 256
MAX_PREAMBLE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Part:
    """One part; ``filename`` tells a file from a field and is not used for anything else."""

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
        self._parts: list[Part] = []
        self._header_name = bytearray()
        self._header_value = bytearray()
        self._headers: dict[bytes, bytes] = {}
        self._content = bytearray()
        self._fed = 0
        self._begun = 0
        self._ended = False
        self._dispositions: dict[bytes, tuple[str, bool]] = {}  # as read before: the parts of a list have one
        self._parser: MultipartParser | None = MultipartParser(
            boundary,
            {
                "on_part_begin": self._part_begin,
                "on_part_data": self._part_data,
                "on_part_end": self._part_end,
                "on_header_field": self._header_field,
                "on_header_value": self._header_value_data,
                "on_header_end": self._header_end,
                "on_end": self._end,
            },
        )

    def feed(self, chunk: bytes) -> None:
        """Read one chunk.

        Raises:
            MultipartMalformed: not the form it claims to be.
            InvalidRequest: too many parts.
        """
        if self._ended or self._parser is None:
            return  # an epilogue is allowed and means nothing
        self._fed += len(chunk)
        try:
            self._parser.write(chunk)
        except FormParserError:
            raise MultipartMalformed("The body is no valid multipart/form-data of its boundary.") from None
        if not self._begun and self._fed > MAX_PREAMBLE_BYTES:
            raise MultipartMalformed(f"No part begins within the first {MAX_PREAMBLE_BYTES} bytes.")

    def parts(self) -> list[Part]:
        """Return the parts once the body has ended.

        Raises:
            MultipartMalformed: the body stopped before its closing boundary.
        """
        if not self._ended:
            raise MultipartMalformed("The body ends before its closing boundary; it seems cut short.")
        return self._parts

    def close(self) -> None:
        """Let go of the parser, which points back here: else the pictures wait for a run of the garbage collector."""
        self._parser = None

    def _part_begin(self) -> None:
        self._begun += 1
        if self._begun > MAX_PARTS:
            raise InvalidRequest(f"More than {MAX_PARTS} parts; put long lists into one “options” field as JSON.")
        self._headers = {}
        self._content = bytearray()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _header_value_data(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _header_end(self) -> None:
        self._headers[bytes(self._header_name).lower()] = bytes(self._header_value)
        self._header_name.clear()
        self._header_value.clear()

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        self._content += memoryview(data)[start:end]

    def _part_end(self) -> None:
        disposition = self._headers.get(b"content-disposition", b"")
        known = self._dispositions.get(disposition)
        if known is None:
            known = self._dispositions[disposition] = read_disposition(disposition)
        name, is_file = known
        self._parts.append(Part(name, is_file, bytes(self._content)))
        self._content = bytearray()

    def _end(self) -> None:
        self._ended = True


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
