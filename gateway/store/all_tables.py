"""All tables: what is imported here is made in an empty database, and compared with the migrated ones by a test."""

from __future__ import annotations

import gateway.store.access.tables
import gateway.store.jobs.tables
import gateway.store.review.tables  # noqa: F401 - they put their tables into the one metadata
from gateway.store.schema import metadata as metadata  # noqa: PLC0414 - passed on
