"""Why a database fails, in a few classes: for the log, for ``/readyz`` and for a metric's label."""

from __future__ import annotations

import errno
import re
import socket
import sqlite3
from typing import Literal

from sqlalchemy.exc import TimeoutError as PoolTimeoutError

Cause = Literal[
    "refused",
    "unknown_host",
    "unreachable",
    "timeout",
    "authentication",
    "no_such_database",
    "permission",
    "disk_full",
    "read_only",
    "locked",
    "too_many_connections",
    "corrupt",
    "newer_schema",
    "pooler_unsupported",
    "other",
]
# What an operator reads beside it.
SENTENCES: dict[Cause, str] = {
    "refused": "The database refuses connections, or is not running.",
    "unknown_host": "The name of the database's host is not known.",
    "unreachable": "The database cannot be reached, or the connection to it was lost.",
    "timeout": "The database does not answer in time.",
    "authentication": "The database does not accept the user or the password.",
    "no_such_database": "The server has no database of this name.",
    "permission": "The database's user, or the process, may not do what it has to.",
    "disk_full": "The database's disk is full.",
    "read_only": "The database is read-only.",
    "locked": "Another process holds locks in the database.",
    "too_many_connections": "The database takes no more connections.",
    "corrupt": "The database's file is damaged, or its disk fails.",
    "newer_schema": "The database belongs to a newer gateway.",
    "pooler_unsupported": "The pooler before the database refuses what a gateway needs.",
    "other": "The database failed; the log has its words.",
}

# What PostgreSQL's SQLSTATE begins with (its manual, appendix A).
_SQLSTATES: dict[str, Cause] = {
    "25006": "read_only",
    "25P03": "timeout",  # idle in a transaction for too long
    "3D000": "no_such_database",
    "3F000": "permission",  # no schema that it may use
    "40001": "locked",
    "40P01": "locked",
    "42501": "permission",
    "53100": "disk_full",
    "53300": "too_many_connections",
    "55P03": "locked",
    "57014": "timeout",
    "57P": "refused",  # it starts, stops or recovers
    "08": "unreachable",
    "28": "authentication",
    "XX001": "corrupt",
    "XX002": "corrupt",
}
# What a pooler (pgbouncer) says in its own words, under the SQLSTATE of a protocol violation.
_POOLER: tuple[tuple[str, Cause], ...] = (
    ("pooling mode", "pooler_unsupported"),
    ("unsupported startup parameter", "pooler_unsupported"),
    ("no such database", "no_such_database"),
    ("no such user", "authentication"),
    ("auth", "authentication"),
    ("no more connections", "too_many_connections"),
    ("too many clients", "too_many_connections"),
    ("query_wait_timeout", "too_many_connections"),
    ("timeout", "timeout"),
    ("server", "refused"),  # it cannot reach the database, or has lost it
)
# The primary result codes of SQLite.
_SQLITE: dict[int, Cause] = {
    sqlite3.SQLITE_PERM: "permission",
    sqlite3.SQLITE_AUTH: "permission",
    sqlite3.SQLITE_CANTOPEN: "permission",
    sqlite3.SQLITE_BUSY: "locked",
    sqlite3.SQLITE_LOCKED: "locked",
    sqlite3.SQLITE_READONLY: "read_only",
    sqlite3.SQLITE_FULL: "disk_full",
    sqlite3.SQLITE_IOERR: "corrupt",
    sqlite3.SQLITE_CORRUPT: "corrupt",
    sqlite3.SQLITE_NOTADB: "corrupt",
}
_NO_ROOM_FOR_SHARED_MEMORY = sqlite3.SQLITE_IOERR_SHMSIZE
_ERRNO: dict[int, Cause] = {
    errno.ECONNREFUSED: "refused",
    errno.ENOENT: "refused",  # there is no such socket
    errno.ENOTDIR: "permission",
    errno.EEXIST: "permission",
    errno.EACCES: "permission",
    errno.EPERM: "permission",
    errno.ENOSPC: "disk_full",
    errno.EDQUOT: "disk_full",
    errno.EROFS: "read_only",
    errno.ETIMEDOUT: "timeout",
}
_ERRNO_IN_TEXT = re.compile(r"\[Errno (\d+)\]")  # of several addresses of a name asyncio tells the texts alone


def cause_of(error: BaseException) -> Cause:
    """Return the class of what a driver or the operating system raised."""
    code = getattr(error, "sqlite_errorcode", None)
    if isinstance(code, int):
        return "disk_full" if code == _NO_ROOM_FOR_SHARED_MEMORY else _SQLITE.get(code & 0xFF, "other")
    sqlstate = str(getattr(error, "sqlstate", None) or "")
    if sqlstate == "08P01":
        said = str(error).lower()
        return next((cause for words, cause in _POOLER if words in said), "other")
    if sqlstate:
        return next((cause for start, cause in _SQLSTATES.items() if sqlstate.startswith(start)), "other")
    if isinstance(error, socket.gaierror):
        return "unknown_host"
    if isinstance(error, (TimeoutError, PoolTimeoutError)):
        return "timeout"
    if isinstance(error, OSError):
        number = error.errno
        if number is None and (told := _ERRNO_IN_TEXT.search(str(error))):
            number = int(told[1])
        return _ERRNO.get(number or 0, "unreachable")
    if isinstance(error, EOFError) or type(error).__name__ in {"InterfaceError", "InternalClientError"}:
        return "unreachable"  # the driver's: the connection is closed
    return "other"
