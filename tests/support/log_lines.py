"""What is logged while a test runs."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, NoReturn

import structlog

from gateway.observability.log_format import StdoutLogger


@contextmanager
def collected() -> Iterator[list[dict[str, Any]]]:
    """Collect lines with their level and logger, whichever lines the settings of the log let through."""
    lines: list[dict[str, Any]] = []

    def keep(_: Any, __: str, line: MutableMapping[str, Any]) -> NoReturn:
        lines.append(dict(line))
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.stdlib.add_logger_name, keep],
        wrapper_class=structlog.make_filtering_bound_logger(0),
        logger_factory=StdoutLogger,
        cache_logger_on_first_use=False,
    )
    try:
        yield lines
    finally:
        structlog.configure(**before)
