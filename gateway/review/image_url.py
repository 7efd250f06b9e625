"""Where reviewers see a picture: a URL made by the operator's template."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import quote, urlsplit

from pydantic import AfterValidator

if TYPE_CHECKING:  # settings are read without a database
    from gateway.store.decisions import DecisionRecord

FIELDS: Final = frozenset({"external_id", "decision_id", "sha256"})
_FIELD: Final = re.compile(r"\{([^{}]*)\}")


def check_template(template: str) -> str:
    """Return a template if it can be used; empty: none.

    Raises:
        ValueError: it is neither an absolute http(s) URL nor a path on this gateway, or has a field in its host, or
            one that is not known.
    """
    if not template:
        return template
    parts = urlsplit(template)
    is_path = template.startswith("/") and not template.startswith(("//", "/\\"))
    if not is_path and (parts.scheme not in {"http", "https"} or not parts.hostname):
        raise ValueError("must be http://…, https://… or a path that begins with one /")
    if re.search(r"[\x00-\x20\x7f\\\"'<>]", template):
        raise ValueError("holds a character that no URL has")
    if "{" in parts.netloc:
        raise ValueError("must name its host without a field")
    if not set(_FIELD.findall(template)) <= FIELDS or re.search(r"[{}]", _FIELD.sub("", template)):
        raise ValueError(f"knows the fields {', '.join(f'{{{name}}}' for name in sorted(FIELDS))} only")
    return template


ImageUrl = Annotated[str, AfterValidator(check_template)]


def image_url(template: str, record: DecisionRecord) -> str | None:
    """Return where a decision's picture is; None without a template, or where it needs an id that is not there."""
    if not template or ("{external_id}" in template and not record.external_id):
        return None
    values = {"external_id": record.external_id or "", "decision_id": record.id, "sha256": record.image_sha256}
    return _FIELD.sub(lambda field: _quoted(values[field[1]]), template)


def _quoted(value: str) -> str:
    """Percent-encode a value as one segment; the dots of ``.`` and ``..`` too, which browsers would resolve."""
    quoted = quote(value, safe="")
    return quoted.replace(".", "%2E") if value.strip(".") == "" else quoted
