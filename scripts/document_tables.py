"""Write the documentation's tables of settings and errors from the code: ``python -m scripts.document_tables``."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.errors import error_classes
from gateway.settings import Settings

DOCS = Path(__file__).parent.parent / "docs"
# The load tests' variables stand in a table of the same head.
SETTINGS = re.compile(r"\| variable \| default \| meaning \|\n\|---\|---\|---\|\n\| `GATEWAY_HOST` (\|.*\n)+")
ERRORS = re.compile(r"(\| status \| codes \|\n\|---\|---\|\n)(?:\|.*\n|ERRORS\n)+")


def settings_table() -> str:
    """Return one Markdown row a setting, from the fields themselves."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "" if field.default in (frozenset(), (), None, "") else str(field.default)
        shown = default.lower() if isinstance(field.default, bool) else default
        rows.append(f"| `{name.upper()}` | {f'`{shown}`' if shown else ''} | {field.description} |")
    return "\n".join(rows) + "\n"


def error_rows() -> str:
    """Return one Markdown row a status, naming its codes."""
    by_status: dict[int, set[str]] = {}
    for error in error_classes():
        by_status.setdefault(error.status, set()).add(f"`{error.code}`")
    return "".join(f"| {status} | {', '.join(sorted(codes))} |\n" for status, codes in sorted(by_status.items()))


def with_settings(text: str) -> str:
    """Return a page with its table of settings as the code has it."""
    return SETTINGS.sub(lambda _: settings_table(), text, count=1)


def with_errors(text: str) -> str:
    """Return a page with its table of errors as the code has it."""
    return ERRORS.sub(lambda found: found[1] + error_rows(), text, count=1)


def main() -> None:
    """Replace both tables in place."""
    for name, write in (("configuration.md", with_settings), ("errors.md", with_errors)):
        page = DOCS / name
        page.write_text(write(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
