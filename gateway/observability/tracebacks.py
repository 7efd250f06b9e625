"""An exception as it may be logged: its type and where it passed, never its text, which may hold what a client sent."""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

FRAMES = 20  # innermost places of one exception that are kept
CHAIN = 5  # exceptions behind one another that are kept
LINES = CHAIN * (FRAMES + 1)
OURS = f"{Path(__file__).resolve().parents[2]}/"
ROOTS = ("site-packages", f"lib/python3.{sys.version_info.minor}")
TRACE_LINE = re.compile(
    r"(caused by )?[\w.]{1,120}( errno \d{1,6})?( of [\w., ]{1,200})?|  [\w./<>-]{1,160}:\d{1,6} [\w<>]{1,80}", re.ASCII
)


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


def as_trace(text: str) -> str:
    """Return those lines of a text that ``trace`` could have written: who sent it is not trusted."""
    return "\n".join([line for line in text.split("\n") if TRACE_LINE.fullmatch(line)][:LINES])
