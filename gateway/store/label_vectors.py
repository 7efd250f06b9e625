"""Label vectors of saved classifiers, kept with the version that they belong to and by what computed them."""

from __future__ import annotations

from sqlalchemy import ColumnElement, and_, delete, insert, select

from gateway.store import audit
from gateway.store.database import Database, Repository, Transaction, reads, writes
from gateway.store.schema import label_vectors, versions


class LabelVectors(Repository):
    """Label vectors as bytes, which callers interpret and check; they are deleted with their version.

    Args:
        database: where they are kept.
        text_checksum: of the text tower and tokenizer that vectors are read and kept for; others' are not seen.
    """

    def __init__(self, database: Database, text_checksum: str) -> None:
        super().__init__(database)
        self._text_checksum = text_checksum

    @reads
    async def read(self, tx: Transaction, name: str, number: int) -> bytes | None:
        """Return what is kept for a classifier's version; None if nothing is."""
        return await self._kept(tx, name, number)

    @writes
    async def keep(self, tx: Transaction, name: str, number: int, data: bytes, *, seen: bytes | None) -> bytes:
        """Keep vectors in the place of those that were ``seen`` there; return those that are kept now.

        They are another gateway's where that was faster: so all serve the same to the last digit.
        """
        await audit.lock_revision(tx)  # so that the version is not deleted meanwhile
        kept = await self._kept(tx, name, number)
        if kept is not None and kept != seen:
            return kept
        its = (versions.c.kind == "classifier", versions.c.name == name, versions.c.number == number)
        if (await tx.execute(select(versions.c.number).where(*its))).one_or_none() is not None:
            await tx.execute(delete(label_vectors).where(self._is(name, number)))
            await self.add(tx, name, number, data)
        return data

    async def add(self, tx: Transaction, name: str, number: int, data: bytes) -> None:
        """Keep the vectors of a version that is made in the same transaction."""
        key = {"kind": "classifier", "name": name, "number": number, "text_checksum": self._text_checksum}
        await tx.execute(insert(label_vectors).values(**key, data=data))

    async def _kept(self, tx: Transaction, name: str, number: int) -> bytes | None:
        kept = select(label_vectors.c.data).where(self._is(name, number))
        return (await tx.execute(kept)).scalar_one_or_none()

    def _is(self, name: str, number: int) -> ColumnElement[bool]:
        key = label_vectors.c
        return and_(key.name == name, key.number == number, key.text_checksum == self._text_checksum)
