"""Which pictures are never shown: those on a hash list that is marked ``withhold``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from gateway.decoding.pdq import MIN_QUALITY
from gateway.hash_matching.matcher import HashMatcher
from gateway.store.decisions import DecisionRecord

LIST_PREFIX = "list:"  # of the categories under which a decision names the lists that made it


async def withheld(matcher: HashMatcher, records: Sequence[DecisionRecord]) -> Mapping[str, str]:
    """Return of each decision that is withheld, by its id, the list: one that knows its image now, or that made it."""
    lists = frozenset(made.name for made in matcher.lists if made.withhold)
    return await asyncio.to_thread(_withheld, matcher, lists, records) if lists else {}


def _withheld(matcher: HashMatcher, lists: frozenset[str], records: Sequence[DecisionRecord]) -> dict[str, str]:
    found = {}
    for record in records:
        matched = [
            f"{LIST_PREFIX}{match.list}" for match in matcher.match(record.image_sha256, record.image_pdq, MIN_QUALITY)
        ]
        named = [entry["category"] for entry in record.detail.get("categories", ())]
        names = [name.removeprefix(LIST_PREFIX) for name in (*matched, *named) if name.startswith(LIST_PREFIX)]
        known = next((name for name in names if name in lists), None)
        if known is not None:
            found[record.id] = known
    return found
