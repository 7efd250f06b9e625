"""What the models of requests have in common."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

NULL = {"type": "null"}
SAID_OF_A_FIELD = {"title", "description", "default", "examples"}  # of a JSON schema


class RequestModel(BaseModel):
    """A part of a request. ``null`` is the same as absence: many clients write every field that they know."""

    model_config = ConfigDict(frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
        if isinstance(value, dict) and None in value.values():
            return {name: given for name, given in value.items() if given is not None or name not in cls.model_fields}
        return value

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Return the model's JSON schema, whose fields may be null where they may be absent."""
        schema = handler.resolve_ref_schema(handler(core_schema))
        for name, field in schema.get("properties", {}).items():
            choices = field.get("anyOf", [{key: field[key] for key in field.keys() - SAID_OF_A_FIELD}])
            if name not in schema.get("required", []) and NULL not in choices:
                said = {key: field[key] for key in field.keys() & SAID_OF_A_FIELD}
                schema["properties"][name] = {**said, "anyOf": [*choices, NULL]}
        return schema


class StrictModel(RequestModel):
    """One whose unknown fields are refused, so that a typing error is not read past."""

    model_config = ConfigDict(extra="forbid")
