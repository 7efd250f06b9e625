"""Stores for tests, what to put in them, and other processes that use them too."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from gateway.store.audit import Actor, Audit
from gateway.store.database import Database
from gateway.store.decisions import DecisionRecord, Decisions
from gateway.store.lists import Lists
from gateway.store.migrate import open_database
from gateway.store.review.cases import Cases, ClaimRules
from gateway.store.review.legal_holds import LegalHolds
from gateway.store.review.verdicts import Verdicts
from gateway.store.versions import Saved, Versions

TIMEOUT_S = 10.0
BUNDLE_ID = "bundle"
CLAIM_RULES = ClaimRules(lease_s=300, skip_s=900, claims=3)
ROOT = Path(__file__).parents[2]

LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN " + sys.argv[2])
print("held", flush=True)
sys.stdin.readline()
connection.execute("ROLLBACK")
connection.close()
"""

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Store:
    """A database and what is kept in it, as a gateway with the bundle ``BUNDLE_ID`` sees it."""

    database: Database
    versions: Versions
    decisions: Decisions
    lists: Lists
    audit: Audit
    cases: Cases
    verdicts: Verdicts
    legal_holds: LegalHolds

    def seen_by(self, bundle_id: str, text_checksum: str = "text") -> Versions:
        """Return the versions as a gateway with another bundle sees them."""
        return Versions(self.database, bundle_id, text_checksum)


@asynccontextmanager
async def opened(database_url: str, timeout_s: float = TIMEOUT_S, pool_size: int = 5) -> AsyncIterator[Store]:
    """Open a store and close it in the end."""
    made = await open_database(database_url, timeout_s=timeout_s, pool_size=pool_size)
    parts = (Cases(made, CLAIM_RULES), Verdicts(made), LegalHolds(made))
    try:
        yield Store(made, Versions(made, BUNDLE_ID, "text"), Decisions(made), Lists(made), Audit(made), *parts)
    finally:
        await made.close()


async def save(store: Store | Versions, name: str, body: dict[str, Any], **changed: Any) -> Saved:
    """Save a classifier, activated, unless ``changed`` says otherwise."""
    versions = store.versions if isinstance(store, Store) else store
    given: dict[str, Any] = {
        "kind": "classifier",
        "pins": {},
        "activate": True,
        "actor": Actor("me"),
    }
    return await versions.save(name=name, body=body, **{**given, **changed})


def decision(number: int, **changed: Any) -> DecisionRecord:
    """Return a decision; those with higher numbers are later."""
    given: dict[str, Any] = {
        "id": f"{number:032x}",
        "at": NOON + timedelta(seconds=number),
        "request_id": f"request-{number}",
        "external_id": None,
        "image_sha256": f"{number:064x}",
        "image_pdq": None,
        "policy": "default",
        "policy_version": 1,
        "bundle_id": "bundle",
        "decision": "allow",
        "outcome": changed.get("decision", "allow"),
        "categories": {"gore": 0.25, "nudity": 0.5},
        "detail": {"categories": [], "warnings": []},
    }
    return DecisionRecord(**{**given, **changed})


def fired(**decisions: str) -> dict[str, Any]:
    """Return a detail in which categories decided: ``fired(gore="block")``."""
    return {"categories": [{"category": name, "score": 0.9, "decision": said} for name, said in decisions.items()]}


def another_process(program: str, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    """Start Python on a program given as text, as another gateway would be."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", program, *arguments],
        cwd=ROOT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        **options,
    )


@contextmanager
def locked(path: Path, how: str = "IMMEDIATE") -> Iterator[None]:
    """Within, another process writes to SQLite's file and does not finish; ``EXCLUSIVE``: lets nobody read either."""
    process = another_process(LOCK, str(path), how)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    try:
        yield
    finally:
        process.communicate("go\n", 20)
        assert process.returncode == 0
