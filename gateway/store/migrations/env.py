"""What Alembic runs: on the gateway's own connection at its start, or from the command line.

From the command line, in the repository's root: ``DATABASE_URL=… alembic upgrade head`` (or ``alembic -x url=… …``).
"""

from __future__ import annotations

import asyncio
import os

from alembic import context
from sqlalchemy import Connection, insert

from gateway.store.all_tables import metadata
from gateway.store.engines.opening import open_engine
from gateway.store.migrate import TIMEOUT_S, migration_lock
from gateway.store.schema import revisions


def apply(connection: Connection) -> None:
    """Run the missing migrations within the connection's transaction; an empty database gets the newest tables."""
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
    with context.begin_transaction():
        if not context.get_context().get_current_heads():
            metadata.create_all(connection, checkfirst=False)
            connection.execute(insert(revisions).values(id=1, value=0, lists=0))
            context.get_context().stamp(context.script, "head")
        context.run_migrations()


async def connect_and_apply(database_url: str) -> None:
    """Run the migrations on a connection of their own, one process at a time."""
    engine = await open_engine(database_url, timeout_s=TIMEOUT_S, connect_s=TIMEOUT_S, pool_size=1)
    try:
        async with migration_lock(engine) as connection:
            await connection.run_sync(apply)
    finally:
        await engine.dispose()


if (given := context.config.attributes.get("connection")) is not None:
    apply(given)
else:
    url = context.get_x_argument(as_dictionary=True).get("url") or os.environ.get("DATABASE_URL")
    if not url:
        raise SystemExit("say which database: DATABASE_URL=… or -x url=…")
    asyncio.run(connect_and_apply(str(url)))
