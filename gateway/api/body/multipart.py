"""A multipart body (RFC 7578, RFC 2046) → its fields and files, read as it arrives and kept in memory."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from multipart import MultipartError, MultipartSegment, ParserError, ParserLimitReached, PushMultipartParser

from gateway.errors import InvalidRequest, MultipartMalformed, UnsupportedMediaType

MAX_PARTS = 1000
MAX_BOUNDARY_BYTES = 256
MAX_PREAMBLE_BYTES = 64 * 1024
MAX_HEADERS = 8  # of a part, and bytes of one
MAX_HEADER_BYTES = 4224
MAX_FOLDED_LINES = MAX_HEADERS * MAX_PARTS  # of a form: each is joined to all of its header that came before
SMALL_BYTES = 4096  # pieces of content under this are joined as they come: as an object each, two bytes hold forty
IDENTITIES = frozenset({"7bit", "8bit", "binary", ""})  # of Content-Transfer-Encoding
_MALFORMED: Final = "The body is no valid multipart/form-data of its boundary."
_OTHER_HEADER: Final = re.compile(
    rb"(?!content-(?:disposition|transfer-encoding)[ \t]*:)[!#$%&'*+.^_`|~0-9a-z-]+(?=[ \t]*:)", re.IGNORECASE
)
# RFC 9110, 5.6.6, but for three habits: a value without quotes may hold any character but a semicolon; a backslash
# before the closing quote may be the last character of a name in Shift-JIS, or of a path; quotes may be left open.
# A search for a closing quote ends at the next option's opening one at the latest, so that all takes linear time.
_OPTION: Final = re.compile(
    r""" ; [ \t]* ([^\s;="]++) [ \t]* = [ \t]*+ (?:
        " ((?:[^"\\]|\\.)*+) " (?= [ \t]*+ (?:;|\Z) )
        | " ([^"]*+) " (?= [ \t]*+ (?:;|\Z) )
        | ([^;]*+)
    ) """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Part:
    """One part; ``is_file`` tells a file from a field: it was sent with a name of its own, which is not used."""

    name: str
    is_file: bool
    content: bytes


class _Parser(PushMultipartParser):  # type: ignore[misc]  # it has no types
    """The library's parser, for which a part has no headers but what it is and its encoding (RFC 7578, 4.8 and 4.7).

    It would refuse a part over a wrong Content-Length, and has no option for that.
    """

    folded_lines = 0

    def _on_segment_headerline(self, line: bytes) -> None:
        if len(line) > MAX_HEADER_BYTES:
            raise ParserLimitReached
        if b"\n" in line:  # which the library finds in some chunks only
            raise ParserError
        if line.startswith((b" ", b"\t")):
            self.folded_lines += 1
            if self.folded_lines > MAX_FOLDED_LINES:
                raise ParserLimitReached
        elif other := _OTHER_HEADER.match(line):
            line = b"X" * other.end() + line[other.end() :]
        super()._on_segment_headerline(line)


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
            self._parser = _Parser(
                boundary,
                max_header_size=MAX_HEADER_BYTES + 1,  # with half of its line end, where a chunk ends there
                max_header_count=MAX_HEADERS,
                max_segment_count=MAX_PARTS,
                header_charset="latin-1",  # every byte is a character: a file's name may be in any charset
            )
        except MultipartError:
            raise MultipartMalformed("The boundary is none that RFC 2046 allows.") from None
        self._parts: list[Part] = []
        self._part = ("", False)  # the present one's name, and whether it is a file
        self._pieces: list[bytes | bytearray] = []  # of the present part's content
        self._first = b"--" + boundary
        self._before: bytearray | None = bytearray()  # what has come so far; None once the first boundary has
        self._skipped = 0

    def feed(self, chunk: bytes) -> None:
        """Read one chunk; behind the closing boundary anything is allowed and means nothing.

        Raises:
            MultipartMalformed: not the form it claims to be.
            InvalidRequest: too many parts.
            UnsupportedMediaType: a part in base64 or quoted-printable.
        """
        if self._before is not None:
            chunk = self._from_first_boundary(self._before, chunk)
        if not chunk:
            return
        try:
            for event in self._parser.parse(chunk):
                if event is None:
                    self._parts.append(Part(*self._part, b"".join(self._pieces)))
                    self._pieces = []
                elif isinstance(event, MultipartSegment):
                    self._part = _read_disposition(event.header("Content-Disposition", ""))
                    _check_encoding(event.header("Content-Transfer-Encoding", "binary"))
                else:
                    self._keep(event)
        except ParserLimitReached:
            if len(self._parts) >= MAX_PARTS:
                raise InvalidRequest(
                    f"More than {MAX_PARTS} parts; put long lists into one “options” field as JSON."
                ) from None
            raise MultipartMalformed(
                f"A part has over {MAX_HEADERS} headers, or one too long or too often folded."
            ) from None
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

    def _keep(self, piece: bytes) -> None:
        """Keep a piece of content: a large one, or the only one, as it is; small ones behind another in one block."""
        pieces = self._pieces
        if not pieces or len(piece) >= SMALL_BYTES:
            pieces.append(piece)
        elif isinstance(last := pieces[-1], bytearray):
            last += piece
        else:
            pieces.append(bytearray(piece))


def _read_disposition(value: str) -> tuple[str, bool]:
    """Return a part's name, and whether it is a file, from its Content-Disposition, a character a byte.

    Raises:
        MultipartMalformed: it is not of form-data, or has no name.
    """
    kind, options = read_options(value)
    name = options.get("name")
    if kind != "form-data" or name is None:
        raise MultipartMalformed("A part has no Content-Disposition of form-data with a name.")
    # filename*, filename*0 and the like are of RFC 2231 and RFC 5987; RFC 7578 forbids them, and they are sent.
    is_file = any(option.partition("*")[0] == "filename" for option in options)
    return name.encode("latin-1").decode("utf-8", "replace"), is_file


def _check_encoding(name: str) -> None:
    """Check that a part is sent as it is (RFC 7578, 4.7).

    Raises:
        UnsupportedMediaType: it is not.
    """
    if name.strip().lower() not in IDENTITIES:
        raise UnsupportedMediaType(
            "A part has a Content-Transfer-Encoding, which is not decoded; send its bytes as they are."
        )


def read_options(header: str) -> tuple[str, dict[str, str]]:
    """Return what stands before the first semicolon, in lower case, and the options by name, in lower case too.

    As clients write them, which no library at hand reads: multipart ends a value at the first character of no token, so
    that the boundary ``----=_Part_1`` of Java's mail is ``----``, and the standard library's reading is that of mail.
    Of an option that is given twice the first counts; one without ``=`` is none.
    """
    value, semicolon, _ = header.partition(";")
    options: dict[str, str] = {}
    for found in _OPTION.finditer(header, len(value)) if semicolon else ():
        name, escaped, quoted, bare = found.groups()
        if escaped is not None:
            read = _ESCAPED.sub(r"\1", escaped) if "\\" in escaped else escaped
        else:
            read = quoted if quoted is not None else bare.rstrip(" \t")
        options.setdefault(name.lower(), read)
    return value.strip().lower(), options
