"""What the models of requests have in common."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator


class RequestModel(BaseModel):
    """A part of a request. ``null`` is the same as absence: many clients write every field that they know."""

    model_config = ConfigDict(frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
        if isinstance(value, dict) and None in value.values():
            return {name: given for name, given in value.items() if given is not None or name not in cls.model_fields}
        return value


class StrictModel(RequestModel):
    """One whose unknown fields are refused, so that a typing error is not read past."""

    model_config = ConfigDict(extra="forbid")
