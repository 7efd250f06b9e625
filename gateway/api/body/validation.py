"""What pydantic finds wrong with a request, in our own words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gateway.errors import GatewayError, InvalidLabels, InvalidRequest
from gateway.moderation.classifiers import NAME, REFERENCE_PATTERN

M = TypeVar("M", bound=BaseModel)

LABEL_FIELDS = frozenset({"labels", "templates", "negatives"})
SHOWN_ERRORS = 3
INTERNAL_STEPS = frozenset({"query", "path", "header", "body"})  # of FastAPI's own
NAME_PATTERN = f"^{NAME.pattern}$"
PATTERNS: Mapping[str, str] = {
    NAME_PATTERN: "must be 1 to 64 lower-case letters, digits, dots, dashes and underscores, first a letter or digit",
    REFERENCE_PATTERN: "must be a name in lower case, or name@version",
}
OTHER_PATTERN = "holds a character that is not accepted"
OTHER_FAULT = "has the wrong type or form"
NUMBER, WHOLE_NUMBER, OBJECT = "must be a number", "must be a whole number", "must be an object"
TIME = "must be a time as in 2026-01-31T12:00:00Z"
# By pydantic's type of the error; the braces hold what it says about it.
FAULTS: Mapping[str, str] = {
    "missing": "is required",
    "extra_forbidden": "is not a known field",
    "literal_error": "must be {expected}",
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be more than {gt}",
    "less_than_equal": "must be at most {le}",
    "too_short": "needs at least {min_length} item(s)",
    "too_long": "takes at most {max_length} item(s)",
    "string_too_long": "takes at most {max_length} characters",
    "string_too_short": "must not be empty",
    "string_type": "must be a string",
    "string_unicode": "must be valid Unicode without lone surrogates",
    "list_type": "must be a list",
    "int_parsing": WHOLE_NUMBER,
    "int_type": WHOLE_NUMBER,
    "float_parsing": NUMBER,
    "float_type": NUMBER,
    "finite_number": "must be a finite number",
    "bool_parsing": "must be true or false",
    "dict_type": OBJECT,
    "model_type": OBJECT,
    "model_attributes_type": OBJECT,
    "datetime_from_date_parsing": f"{TIME} (in a URL, + is written %2B)",
    "datetime_parsing": TIME,
    "union_tag_not_found": "needs a field {discriminator}",
    "union_tag_invalid": "must have {discriminator} {expected_tags}",
    "value_error": "{error}",
}


def validated(model: type[M], fields: dict[str, Any]) -> M:
    """Return the fields as a model.

    Raises:
        InvalidLabels: something about labels, templates or negatives.
        InvalidRequest: any other field.
    """
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise translated(error.errors(include_url=False, include_context=True)) from None


def translated(errors: Sequence[ErrorDetails]) -> GatewayError:
    """Return our error for those that pydantic found, in our own words."""
    sentences = [_sentence(error) for error in errors[:SHOWN_ERRORS]]
    if len(errors) > SHOWN_ERRORS:
        sentences.append(f"And {len(errors) - SHOWN_ERRORS} more.")
    kind = InvalidLabels if errors[0]["loc"] and errors[0]["loc"][0] in LABEL_FIELDS else InvalidRequest
    return kind(" ".join(sentences))


def _sentence(error: ErrorDetails) -> str:
    where = ".".join(str(step) for step in error["loc"] if step not in INTERNAL_STEPS)
    where = where.encode("ascii", "backslashreplace").decode()[:100] or "body"
    context: dict[str, Any] = error.get("ctx", {})
    if error["type"] == "string_pattern_mismatch":
        said = PATTERNS.get(context["pattern"], OTHER_PATTERN)
    else:
        said = FAULTS.get(error["type"], OTHER_FAULT).format(**context)
    return f"Field “{where}” {said}."
