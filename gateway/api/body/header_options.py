"""A header's value and its options, as in ``form-data; name="file"``, the way that clients write them.

Neither of the libraries at hand reads all of them: multipart ends a value at the first character of no token, so that
the boundary ``----=_Part_1`` of Java's mail is ``----``, and the standard library's reading is that of mail.
"""

from __future__ import annotations

import re
from typing import Final

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


def read_options(header: str) -> tuple[str, dict[str, str]]:
    """Return what stands before the first semicolon, in lower case, and the options by name, in lower case too.

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
