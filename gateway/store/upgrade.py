"""Alembic, which runs migrations. Loaded when there is one to run: it takes 7 MB that are never given back."""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection

from gateway.store.records import DatabaseUnusable


def upgrade(connection: Connection) -> None:
    """Run what is missing, in the connection's transaction.

    Raises:
        DatabaseUnusable: the tables are those of a newer gateway.
    """
    config = Config()
    config.set_main_option("script_location", "gateway.store:migrations")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise DatabaseUnusable("this gateway does not know the database's tables; a newer one does") from error
