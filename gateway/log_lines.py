"""Log lines on standard output, and what may never stand in one.

A line carries what we put into it by name: the event, the request's id, route templates, statuses, times, counts. It
never carries pictures, words of users (labels, prompts, external ids), a URL, a query or a header, so that the log may
be kept and shared where those may not. Library messages and exception texts can hold all of these (a URL that failed, a
statement's parameters, a picture's bytes in a repr), hence: of an exception its type and where it passed are logged,
never its text; of a library's own line the constant part alone.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Literal, TextIO

import structlog
from structlog.types import EventDict, WrappedLogger

FRAMES = 20  # innermost places of one exception that are kept
CHAIN = 5  # exceptions behind one another that are kept
TEXT_CHARS = 200
WITHHELD = "text withheld"
OURS = f"{Path(__file__).resolve().parents[1]}/"
ROOTS = ("site-packages", f"lib/python3.{sys.version_info.minor}")
TRACE_LINE = re.compile(r'^\s*File "(?P<file>[^"\n]+)", line (?P<line>\d+), in (?P<name>\S+)$', re.MULTILINE)
TRACE_END = re.compile(r"^(?P<type>[A-Za-z_][\w.]*)(?::|$)", re.MULTILINE)


class Lines(structlog.WriteLogger):
    """Writes lines to standard output; ``name`` says which part of the gateway speaks."""

    def __init__(self, name: str = "gateway") -> None:
        super().__init__(sys.stdout)
        self.name = name


class FromLibraries(logging.Handler):
    """Hands what libraries log through the standard library to structlog, as far as it is safe."""

    def emit(self, record: logging.LogRecord) -> None:
        """Take one line."""
        fields = {"exc_info": record.exc_info} if record.exc_info else {}
        place = f"{record.module}:{record.lineno}"
        structlog.get_logger(record.name).log(record.levelno, safe_text(record), place=place, **fields)


def configure_logging(form: Literal["json", "console"], level: str) -> None:
    """Set up structlog, and route through it what libraries log and warn of.

    Args:
        form: ``json`` for machines, one object a line; ``console`` for people.
        level: least severity, lower case. Libraries speak from ``warning`` on.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    renderer = structlog.processors.JSONRenderer() if form == "json" else structlog.dev.ConsoleRenderer(colors=False)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            exceptions_without_texts,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=Lines,
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=max(number, logging.WARNING), handlers=[FromLibraries()], force=True)
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


def trace(error: BaseException) -> str:
    """Return an exception's type, where it passed, and the same of what caused it; the innermost place last."""
    parts = []
    for number, link in enumerate(chain(error)):
        places = "".join(f"\n  {place}" for place in passed(link.__traceback__))
        code = f" errno {link.errno}" if isinstance(link, OSError) and link.errno is not None else ""
        inner = ""
        if isinstance(link, BaseExceptionGroup):
            inner = f" of {', '.join(sorted({named(each) for each in link.exceptions})[:CHAIN])}"
        parts.append(f"{'caused by ' if number else ''}{named(link)}{code}{inner}{places}")
    return "\n".join(parts)


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and what is behind it, as Python would show it, at most CHAIN of them."""
    link: BaseException | None = error
    for _ in range(CHAIN):
        if link is None:
            return
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def named(error: BaseException) -> str:
    """Return an exception's type with its module."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def passed(steps: TracebackType | None) -> list[str]:
    """Return the innermost places of a traceback: file, line and function, no source text and no values."""
    frames = list(traceback.walk_tb(steps))[-FRAMES:]
    return [f"{short(frame.f_code.co_filename)}:{line} {frame.f_code.co_name}" for frame, line in frames]


def short(file: str) -> str:
    """Return a file's path from the package on: where it is installed says nothing about the fault."""
    if file.startswith(OURS):
        return file.removeprefix(OURS)
    path = file
    for root in ROOTS:
        path = path.rpartition(f"/{root}/")[2]
    return path if path != file else "/".join(Path(file).parts[-2:])


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
