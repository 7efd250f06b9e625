"""What the audit keeps, as values: who changed what. No SQL here, no HTTP here."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Actor:
    """Who changes something: the name of an API key, or of a part of the gateway, and the request it came with."""

    name: str
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class AuditRow:
    """Who changed what: one row a change of a classifier, policy or list, and of what is known about decisions.

    Attributes:
        at: UTC.
        actor: name of the API key; ``anonymous`` where none was used, ``seed`` for what comes with the program.
        request_id: of the request, or None.
        action: save, activate, delete, put, add_entries, remove_entries, feedback, forget.
        kind: classifier, policy, list, decision (``name`` is its id) or external_id (``name`` is its SHA-256, as it is
            to be forgotten).
        name: of the thing.
        version: its number, or None.
        detail: counts and the like, JSON values.
        number: grows from row to row.
    """

    at: datetime
    actor: str
    action: str
    kind: str
    name: str
    version: int | None
    request_id: str | None
    detail: dict[str, Any] = field(default_factory=dict)
    number: int = 0


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which rows of the audit to read; None means any. ``since`` is inclusive, ``until`` exclusive."""

    since: datetime | None = None
    until: datetime | None = None
    actor: str | None = None
    action: str | None = None
    kind: str | None = None
    name: str | None = None


ANY_CHANGE = AuditFilter()
