"""Write the README's tables of settings and errors from the code: ``python -m scripts.readme_settings``."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.errors import error_classes
from gateway.settings import configuration_table

README = Path(__file__).parent.parent / "README.md"
# The load tests' variables stand in a table of the same head.
SETTINGS = re.compile(r"\| variable \| default \| meaning \|\n\|---\|---\|---\|\n\| `GATEWAY_HOST` (\|.*\n)+")
ERRORS = re.compile(r"(\| status \| codes \|\n\|---\|---\|\n)(?:\|.*\n|ERRORS\n)+")


def error_rows() -> str:
    """Return one Markdown row a status, naming its codes."""
    by_status: dict[int, set[str]] = {}
    for error in error_classes():
        by_status.setdefault(error.status, set()).add(f"`{error.code}`")
    return "".join(f"| {status} | {', '.join(sorted(codes))} |\n" for status, codes in sorted(by_status.items()))


def written(text: str) -> str:
    """Return the README's text with both tables as the code has them."""
    text = SETTINGS.sub(lambda _: configuration_table() + "\n", text, count=1)
    return ERRORS.sub(lambda found: found[1] + error_rows(), text, count=1)


def main() -> None:
    """Replace the tables in place."""
    README.write_text(written(README.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
