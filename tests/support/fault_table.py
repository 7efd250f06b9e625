"""The list of faults: each test that stages one says what it sent, what is allowed, and what it saw.

``pytest --fault-table=FILE`` (with the sign: a word of its own that is a file is taken for tests to run) writes what
was seen as a Markdown table; ``make faults`` runs the tests that stage faults and nothing else, and fails if a number
is missing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

NUMBERS = (*range(1, 106), 107, *range(110, 121))


class Answer(Protocol):
    """A response of any HTTP client."""

    @property
    def status_code(self) -> int: ...
    @property
    def text(self) -> str: ...


@dataclass(frozen=True)
class Staged:
    """One staged fault."""

    number: int
    what: str
    expected: str
    seen: str


def outcome(answer: Answer) -> str:
    """Return an answer as the table shows it: ``200``, or its status and its problem's code: ``422 image_corrupt``."""
    code = re.search(r'"code"\s*:\s*"([a-z_]+)"', answer.text) if answer.status_code >= 400 else None
    return f"{answer.status_code} {code[1]}" if code else str(answer.status_code)


class FaultLog:
    """Holds what the tests of this run staged."""

    def __init__(self) -> None:
        self.staged: list[Staged] = []

    def expect(self, number: int, what: str, seen: Answer | str, *allowed: str) -> None:
        """Record a fault and assert that the service met it as it must.

        Args:
            number: in the list of faults.
            what: the input or the fault, in a few words.
            seen: the answer, or a phrase of yours such as ``closed after 10 s``.
            allowed: what it may be, as ``outcome`` writes it.

        Raises:
            AssertionError: it is none of them.
        """
        assert number in NUMBERS, number
        was = seen if isinstance(seen, str) else outcome(seen)
        self.staged.append(Staged(number, what, " or ".join(allowed), was))
        detail = "" if isinstance(seen, str) else seen.text[:400]
        assert was in allowed, f"fault {number}, {what}: {was}, not {' or '.join(allowed)} {detail}"

    @property
    def missing(self) -> list[int]:
        """Numbers that no test of this run staged."""
        return sorted(set(NUMBERS) - {one.number for one in self.staged})

    def table(self) -> str:
        """Return all that was staged as a Markdown table, by number; equal rows stand once."""
        rows = sorted({(one.number, one.what, one.expected, one.seen) for one in self.staged})
        lines = ["| # | input or fault | must get | got |", "|---|---|---|---|"]
        lines += ["| " + " | ".join(str(c).replace("|", "\\|").replace("\n", " ") for c in row) + " |" for row in rows]
        return "\n".join(lines) + "\n"


LOG = pytest.StashKey[FaultLog]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fault-table", type=Path, default=None, help="write what every staged fault got to this file")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[LOG] = FaultLog()
    config.addinivalue_line("markers", "fault: stages a fault of the list; added to every test that asks for `faults`")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "faults" in getattr(item, "fixturenames", ()):
            item.add_marker("fault")


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what a worker process of pytest-xdist has staged."""
    log = node.config.stash[LOG]
    log.staged += [Staged(*row) for row in getattr(node, "workeroutput", {}).get("staged", [])]


def pytest_sessionfinish(session: pytest.Session) -> None:
    path: Path | None = session.config.getoption("--fault-table")
    log = session.config.stash[LOG]
    handed_on: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if handed_on is not None:
        handed_on["staged"] = [(one.number, one.what, one.expected, one.seen) for one in log.staged]
        return
    if path is None or session.config.option.collectonly:
        return
    path.write_text(
        "# What each fault gets\n\nWritten by `make faults`, from the tests that stage them; not by hand.\n\n"
        + log.table()
    )
    if log.missing:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.getoption("--fault-table") is not None and config.stash[LOG].missing:
        terminalreporter.write_line(f"no test staged the faults {config.stash[LOG].missing}", red=True)


@pytest.fixture(scope="session")
def faults(pytestconfig: pytest.Config) -> FaultLog:
    """Where tests record the faults that they stage."""
    return pytestconfig.stash[LOG]
