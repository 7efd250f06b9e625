"""Log lines on standard output, and what may never stand in one.

A line carries what we put into it by name: the event, the request's id, route templates, statuses, times, counts. It
never carries images, words of users (labels, prompts, external ids), a URL, a query or a header, so that the log may
be kept and shared where those may not. Library messages and exception texts can hold all of these (a URL that failed, a
statement's parameters, an image's bytes in a repr), hence: of an exception its type and where it passed are logged,
never its text; of a library's own line the constant part alone.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
import warnings
from typing import Literal, TextIO, cast

import structlog
from structlog.types import EventDict, WrappedLogger

from gateway.observability.tracebacks import FRAMES, short, trace

TEXT_CHARS = 200
WITHHELD = "text withheld"
TRACE_LINE = re.compile(r'^\s*File "(?P<file>[^"\n]+)", line (?P<line>\d+), in (?P<name>\S+)$', re.MULTILINE)
TRACE_END = re.compile(r"^(?P<type>[A-Za-z_][\w.]*)(?::|$)", re.MULTILINE)


class Unfailing:
    """A stream whose lines are lost where they cannot be written: a terminal that has closed fails no request."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        """Write, or lose it."""
        with contextlib.suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        """Flush, or wait for the next time."""
        with contextlib.suppress(OSError):
            self._stream.flush()


class StdoutLogger(structlog.WriteLogger):
    """Writes lines to standard output; ``name`` is the part of the gateway that logs."""

    def __init__(self, name: str = "gateway") -> None:
        super().__init__(cast("TextIO", Unfailing(sys.stdout)))
        self.name = name


class StructlogHandler(logging.Handler):
    """Passes what libraries log through the standard library to structlog, without what may be secret."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log one record of a library."""
        fields = {"exc_info": record.exc_info} if record.exc_info else {}
        place = f"{record.module}:{record.lineno}"
        structlog.get_logger(record.name).log(record.levelno, safe_text(record), place=place, **fields)


def configure_logging(form: Literal["json", "console"], level: str) -> None:
    """Set up structlog, and route through it what libraries log and warn of.

    Args:
        form: ``json`` for machines, one object a line; ``console`` for people.
        level: least severity, lower case. Libraries log from ``warning`` on.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    console = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            exceptions_without_texts,
            structlog.processors.JSONRenderer() if form == "json" else console,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=StdoutLogger,
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=max(number, logging.WARNING), handlers=[StructlogHandler()], force=True)
    warnings.showwarning = show_warning


def show_warning(
    message: Warning | str,  # noqa: ARG001 - it may quote a file's content
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,  # noqa: ARG001
    line: str | None = None,  # noqa: ARG001
) -> None:
    """Log a library's warning by its kind and place; the standard library's hook, hence the arguments."""
    structlog.get_logger("warnings").warning(category.__name__, place=f"{short(filename)}:{lineno}")


def exceptions_without_texts(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Replace ``exc_info`` by a trace without any exception's text; structlog's form of a processor."""
    found = event.pop("exc_info", None)
    if isinstance(found, tuple):
        found = found[1]
    elif found and not isinstance(found, BaseException):
        found = sys.exception()
    if isinstance(found, BaseException):
        event["exception"] = trace(found)
    return event


def safe_text(record: logging.LogRecord) -> str:
    """Return what can be shown of a library's line.

    The server's own lines are constant but for addresses and process ids; a traceback among them is taken apart. Of
    others the format string is shown without its arguments, and a line without arguments, which may have been put
    together beforehand, not at all (asyncio's: up to the first value).
    """
    if record.name.split(".")[0] == "uvicorn":
        text = record.getMessage()
        if text.startswith("Traceback"):
            places = [f"{short(found['file'])}:{found['line']} {found['name']}" for found in TRACE_LINE.finditer(text)]
            kinds = [found["type"] for found in TRACE_END.finditer(text) if found["type"] != "Traceback"]
            return "\n  ".join([kinds[-1] if kinds else "exception", *places[-FRAMES:]])
        return first_line(text)
    if record.args:
        return first_line(str(record.msg))
    if record.name == "asyncio":
        return first_line(re.split(r"[(<'\"{\[]", str(record.msg), maxsplit=1)[0])
    return WITHHELD


def first_line(text: str) -> str:
    """Return the first line, cut to TEXT_CHARS."""
    return text.split("\n", 1)[0][:TEXT_CHARS]
