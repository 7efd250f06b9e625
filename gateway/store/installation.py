"""What all gateways on a database share without being told: a secret that is made once and never shown."""

from __future__ import annotations

import hashlib
import hmac
import secrets

from sqlalchemy import select

from gateway.store.database import Database, Repository, Transaction, reads, writes
from gateway.store.schema import installation

SECRET_BYTES = 32


class Installation(Repository):
    """The secret of an installation, from the setting or from the database.

    Args:
        database: that the gateways share.
        secret: as set; empty: the database's.
    """

    def __init__(self, database: Database, secret: str = "") -> None:
        super().__init__(database)
        self._secret = secret.encode()

    async def seed(self, drawn: str) -> int:
        """Return the seed of what is drawn about an image, below 2**256: HMAC-SHA-256 under the secret.

        Args:
            drawn: the image's SHA-256, with the purpose before it where that is not the choice of frames.

        Raises:
            StoreUnavailable: the secret was never read, and the store is away.
        """
        await self.load()
        return int.from_bytes(hmac.digest(self._secret, drawn.encode(), hashlib.sha256))

    async def load(self) -> None:
        """Read the secret, or make it where there is none yet.

        Raises:
            StoreUnavailable: an outage.
        """
        if not self._secret:
            self._secret = await self._read() or await self._make()

    @reads
    async def _read(self, tx: Transaction) -> bytes | None:
        return (await tx.execute(select(installation.c.secret))).scalar_one_or_none()

    @writes
    async def _make(self, tx: Transaction) -> bytes:
        await tx.execute(tx.insert_new(installation).values(id=1, secret=secrets.token_bytes(SECRET_BYTES)))
        made: bytes = (await tx.execute(select(installation.c.secret))).scalar_one()
        return made
