"""The text of a URL as browsers read it (WHATWG URL), for http and https.

It says what a text means, not what is allowed: ``ssrf.py`` judges the result. What is left out of the standard only
refuses more: percent signs in hosts, and IPv4 addresses in other forms than four decimal parts.
"""

from __future__ import annotations

import re
from urllib.parse import quote

import idna

_MAX_LABEL_CHARS = 63  # RFC 1035 section 2.3.4; an A-label is never shorter than its Unicode form
_A_LABEL = "xn--"
_PATH_SAFE = "!$%&'()*+,/:;=@[]|"
_QUERY_SAFE = "!$%&()*+,/:;=?@[\\]^`{|}"
"""Beside letters, digits and ``-._~``: printable ASCII outside the path and special-query percent-encode sets."""
_URL_START = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*:)?(?P<slashes>/*)", re.IGNORECASE | re.ASCII)
_BASE = re.compile(r"(?P<scheme>[a-z]+:)//(?P<authority>[^/]+)(?P<path>[^?]*)(?P<query>.*)")
_PARENTS = frozenset({"..", ".%2e", "%2e.", "%2e%2e"})
_SELVES = frozenset({".", "%2e"})


def ascii_host(host: str) -> str:
    """Return a host's name in lower-case ASCII: UTS-46, non-transitional, as browsers process names.

    Underscores and hyphens anywhere are kept: names on the internet have them. Labels of other scripts become
    ``xn--``, labels that begin so are checked: what they hide has to be a valid label in its mapped form.

    Raises:
        ValueError: characters that no name has, or an ``xn--`` that is none.
    """
    return ".".join(_ascii_label(label) for label in idna.uts46_remap(host, std3_rules=False).split("."))


def _ascii_label(label: str) -> str:
    if len(label) > _MAX_LABEL_CHARS:
        raise ValueError("a label of a host is too long")
    if label.startswith(_A_LABEL):
        shown = label.removeprefix(_A_LABEL).encode("ascii").decode("punycode")
        if shown.isascii() or idna.uts46_remap(shown, std3_rules=False) != shown:
            raise ValueError("what a host's punycode hides is no label")
        label = shown
    return label if label.isascii() else _A_LABEL + label.encode("punycode").decode("ascii")


def encoded_target(path: str, query: str) -> str:
    """Return path and query as sent on the request line: without dot segments, percent-encoded as browsers do.

    Args:
        path: starts with ``/``.
        query: empty, or starts with ``?``.
    """
    kept: list[str] = []
    segments = path.split("/")[1:]
    for number, segment in enumerate(segments, 1):
        parent, dots = segment.lower() in _PARENTS, segment.lower() in _PARENTS | _SELVES
        if parent and kept:
            kept.pop()
        if not dots:
            kept.append(segment)
        elif number == len(segments):
            kept.append("")
    return quote("/" + "/".join(kept), _PATH_SAFE, errors="surrogateescape") + quote(
        query, _QUERY_SAFE, errors="surrogateescape"
    )


def resolve(base: str, reference: str) -> str:
    """Return the URL that a reference means, without fragment; its dot segments and raw characters are still there.

    Args:
        base: http or https, with a path.
        reference: as a server wrote it.
    """
    text = re.sub(r"[\t\n\r]", "", reference.strip("".join(map(chr, range(0x21))))).partition("#")[0]
    path, mark, query = text.partition("?")
    path = path.replace("\\", "/")
    own, start = _BASE.match(base), _URL_START.match(path)
    assert own is not None and start is not None  # noqa: S101, PT018 - the one is ours, the other may be empty
    scheme, slashes, rest = start["scheme"] or own["scheme"], start["slashes"], path[start.end() :]
    if scheme.lower() != own["scheme"] or len(slashes) > 1:
        return f"{scheme}//{rest}{mark}{query}"
    here = f"{own['scheme']}//{own['authority']}"
    if slashes:
        return f"{here}/{rest}{mark}{query}"
    if not rest:
        return here + own["path"] + (mark + query if mark else own["query"])
    return f"{here}{own['path'].rpartition('/')[0]}/{rest}{mark}{query}"
