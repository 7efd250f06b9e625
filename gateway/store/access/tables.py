"""The tables of access: sessions, when keys were last used, which gateways run."""

from __future__ import annotations

from sqlalchemy import JSON, Boolean, Column, Index, LargeBinary, Table

from gateway.store.schema import CodePointText, UtcDateTime, metadata

# Who is signed in to the console. Of the cookie only its SHA-256 is kept; a session by an API key names that key by its
# own SHA-256, one by OpenID Connect has the roles that the provider's claims came to.
sessions = Table(
    "sessions",
    metadata,
    Column("id", CodePointText, primary_key=True),
    Column("token_sha256", LargeBinary, nullable=False),
    Column("key_sha256", LargeBinary),
    Column("issuer", CodePointText),
    Column("name", CodePointText, nullable=False),
    Column("roles", JSON, nullable=False),
    Column("reviewer", CodePointText),
    Column("secure", Boolean, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("seen_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
)
Index("sessions_by_token", sessions.c.token_sha256, unique=True)
Index("sessions_by_time", sessions.c.expires_at)

# By name: keys of one name are one client's.
key_uses = Table(
    "key_uses",
    metadata,
    Column("name", CodePointText, primary_key=True),
    Column("at", UtcDateTime, nullable=False),
)

# The gateways that run, each with the time at which it last said so.
replicas = Table(
    "replicas",
    metadata,
    Column("id", CodePointText, primary_key=True),
    Column("started_at", UtcDateTime, nullable=False),
    Column("seen_at", UtcDateTime, nullable=False),
    Column("ready", Boolean, nullable=False),
    Column("degraded", JSON, nullable=False),
)
