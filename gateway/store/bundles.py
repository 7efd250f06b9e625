"""The bundles that a database has seen, and what is in force for another one than is served."""

from __future__ import annotations

from sqlalchemy import select, union

from gateway.store.database import Repository, Transaction, reads
from gateway.store.schema import activations, versions
from gateway.store.versions import Versions

SHORTEST = 6  # digits that stand for a whole id


class Bundles(Repository):
    """The bundles for which anything was ever saved or activated."""

    @reads
    async def matching(self, tx: Transaction, given: str) -> list[str]:
        """Return the ids that a text stands for: an id itself, or all that begin with it, if it is 6 digits or more."""
        ids = union(select(activations.c.bundle_id), select(versions.c.bundle_id))
        known = {str(row.bundle_id) for row in await tx.execute(ids) if row.bundle_id is not None}
        if given in known:
            return [given]
        return sorted(each for each in known if len(given) >= SHORTEST and each.startswith(given))

    def versions(self, bundle_id: str) -> Versions:
        """Return classifiers and policies as a gateway with that bundle sees them; of its label vectors nothing."""
        return Versions(self._database, bundle_id, text_checksum="")
