"""The store's exceptions, and what a driver's exception means to a caller of the store."""

from __future__ import annotations

import re
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import structlog
from sqlalchemy.exc import DBAPIError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from gateway.store.causes import Cause, cause_of

MAX_MESSAGE_CHARS = 200
REPEAT_S = 60.0

Access = Literal["read", "write"]
_CREDENTIALS = re.compile(r"://[^/\s]*@")  # of an address in a driver's text


class StoreUnavailable(Exception):
    """The database cannot be reached, is locked for too long, or is full. The store's only exception for outages.

    Args:
        text: the driver's first line, or ours.
        cause: its class.
    """

    def __init__(self, text: str, cause: Cause = "other") -> None:
        super().__init__(text)
        self.cause = cause


class OnlyReadable(StoreUnavailable):
    """SQLite's file can be read as it lies there, and nothing beside it can be written."""


class DatabaseUnusable(ValueError):
    """The database is not one that this gateway can use; the text says why, without the address.

    Args:
        text: the reason.
        cause: its class.
    """

    def __init__(self, text: str, cause: Cause = "other") -> None:
        super().__init__(text)
        self.cause = cause


class Failures:
    """What fails at present. The log has a line for a cause at once, and then one a minute while it lasts.

    Args:
        observe: told the cause of each failure.
    """

    def __init__(self, observe: Callable[[Cause], None]) -> None:
        self._observe = observe
        self._failing: dict[Access, StoreUnavailable] = {}
        self._said_at_s: dict[Cause, float] = {}
        self._log = structlog.get_logger("store")

    @property
    def cause(self) -> Cause | None:
        """The cause of the latest use of each kind, or None where both succeeded; that of reading goes first."""
        return next((self._failing[access].cause for access in ("read", "write") if access in self._failing), None)

    def note(self, access: Access, failure: StoreUnavailable) -> None:
        """Count a use of the database that failed."""
        self._observe(failure.cause)
        self._failing[access] = failure
        now = time.monotonic()
        if now - self._said_at_s.get(failure.cause, -REPEAT_S) >= REPEAT_S:
            self._said_at_s[failure.cause] = now
            self._log.warning("the database fails", cause=failure.cause, access=access, said=str(failure))

    def end(self, access: Access) -> None:
        """Take note of a use that succeeded; what can be written can be read."""
        self._failing.pop("read", None)
        if access == "write":
            self._failing.pop("write", None)


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
    # SQLAlchemy's wrapper of asyncpg's errors keeps them there, and a timeout the cancellation that it made.
    source = error if isinstance(error, TimeoutError) else error.__cause__ or error
    text = (str(source).strip() or type(source).__name__).splitlines()[0][:MAX_MESSAGE_CHARS]
    text = _CREDENTIALS.sub("://***@", text)
    unfit = str(getattr(source, "sqlstate", "") or "").startswith("22")  # SQLSTATE class 22: data exception
    if unfit or isinstance(source, (ValueError, TypeError, OverflowError)):
        return ValueError(text)
    return StoreUnavailable(text, cause_of(source))
