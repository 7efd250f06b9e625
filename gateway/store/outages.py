"""The store's exceptions, and what a driver's exception means to a caller of the store."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

MAX_MESSAGE_CHARS = 200


class StoreUnavailable(Exception):
    """The database cannot be reached, is locked for too long, or is full. The store's only exception for outages."""


class DatabaseUnusable(ValueError):
    """The database is not one that this gateway can use; the text says why, without the address."""


@contextmanager
def outages_named() -> Iterator[None]:
    """Turn whatever SQLAlchemy, the drivers and the operating system raise into the store's own exceptions.

    Raises:
        StoreUnavailable: the database is away, locked, full, read-only or broken.
        ValueError: the database cannot keep a value, whenever asked: the caller's fault.
    """
    try:
        yield
    except StatementError as error:
        raise _meaning(error.orig or error) from error
    except (sqlite3.Error, DBAPIError, PoolTimeoutError, TimeoutError, OSError, EOFError) as error:
        raise _meaning(error) from error
    except Exception as error:
        if isinstance(error, _postgresql_errors()):
            raise _meaning(error) from error
        raise


def _postgresql_errors() -> tuple[type[Exception], ...]:
    """Return the driver's exceptions, of a driver that is loaded: no other one raises any."""
    asyncpg = sys.modules.get("asyncpg")
    names = ("PostgresError", "InterfaceError", "InternalClientError")
    return tuple(getattr(asyncpg, name) for name in names) if asyncpg else ()


def _meaning(error: BaseException) -> Exception:
    source = error.__cause__ or error  # SQLAlchemy's wrapper of asyncpg's errors keeps them there
    text = (str(source).strip() or type(source).__name__).splitlines()[0][:MAX_MESSAGE_CHARS]
    unfit = str(getattr(source, "sqlstate", "") or "").startswith("22")  # SQLSTATE class 22: data exception
    if unfit or isinstance(source, (ValueError, TypeError, OverflowError)):
        return ValueError(text)
    return StoreUnavailable(text)
