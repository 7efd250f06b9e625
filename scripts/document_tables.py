"""Write the documentation's tables from the code and the scenarios: ``python -m scripts.document_tables``."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.console_settings import ConsoleSettings
from gateway.errors import error_classes
from gateway.moderation.builtin_scenarios import shipped
from gateway.moderation.classifiers import Classifier
from gateway.settings import Settings
from gateway.trace_settings import TraceSettings
from gateway.triton_settings import TritonSettings

DOCS = Path(__file__).parent.parent / "docs"
# The load tests' variables stand in a table of the same head.
SETTINGS = re.compile(r"\| variable \| default \| meaning \|\n\|---\|---\|---\|\n\| `GATEWAY_HOST` (\|.*\n)+")
ERRORS = re.compile(r"(\| status \| codes \|\n\|---\|---\|\n)(?:\|.*\n|ERRORS\n)+")
SCENARIOS = re.compile(r"(\| scenario \| what it looks for \| suggested \|\n\|---\|---\|---\|\n)(?:\|.*\n)*")
LABELS = re.compile(r"(\| label \| counts \| prompts \|\n\|---\|---\|---\|\n)(?:\|.*\n)*")


def settings_table() -> str:
    """Return one Markdown row a setting, from the fields themselves."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    # A base's fields come first; the page begins with the gateway's own.
    bases = ConsoleSettings.model_fields | TraceSettings.model_fields | TritonSettings.model_fields
    fields = sorted(Settings.model_fields.items(), key=lambda item: item[0] in bases)
    for name, field in fields:
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


def scenarios() -> dict[str, tuple[Classifier, frozenset[str]]]:
    """Return each scenario for CLIPs of photographs with the labels that its suggested rule counts, by name."""
    found: dict[str, tuple[Classifier, frozenset[str]]] = {}
    for made, policy in ((shipped("clip"), "default"), (shipped("library"), "library")):
        counted = {rule.classifier: frozenset(rule.labels) for rule in made.policies[policy].rules}
        found |= {name: (body, counted.get(name, frozenset())) for name, body in made.classifiers.items()}
    return found


def scenario_rows() -> str:
    """Return one Markdown row a scenario, with a link to its model card."""
    rows = []
    for name, (body, counted) in sorted(scenarios().items()):
        suggested = "review from 0.5" if counted else "informs only"
        rows.append(f"| [`{name}`]({name}.md) | {body.description.split('. ')[0]} | {suggested} |\n")
    return "".join(rows)


def label_rows(name: str) -> str:
    """Return one Markdown row a label of a scenario: whether the suggested rule counts it, and its prompts."""
    body, counted = scenarios()[name]
    return "".join(
        f"| {entry.label} | {'yes' if entry.label in counted else ''} | {'; '.join(entry.prompts)} |\n"
        for entry in body.labels
    )


def with_settings(text: str) -> str:
    """Return a page with its table of settings as the code has it."""
    return SETTINGS.sub(lambda _: settings_table(), text, count=1)


def with_errors(text: str) -> str:
    """Return a page with its table of errors as the code has it."""
    return ERRORS.sub(lambda found: found[1] + error_rows(), text, count=1)


def with_scenarios(text: str) -> str:
    """Return a page with its table of scenarios as their files have it."""
    return SCENARIOS.sub(lambda found: found[1] + scenario_rows(), text, count=1)


def with_labels(text: str, name: str) -> str:
    """Return a scenario's model card with its table of labels as the scenario's file has it."""
    return LABELS.sub(lambda found: found[1] + label_rows(name), text, count=1)


def main() -> None:
    """Replace every table in place."""
    written = [("configuration.md", with_settings), ("errors.md", with_errors), ("scenarios/index.md", with_scenarios)]
    for name, write in written:
        page = DOCS / name
        page.write_text(write(page.read_text(encoding="utf-8")), encoding="utf-8")
    for name in scenarios():
        page = DOCS / "scenarios" / f"{name}.md"
        page.write_text(with_labels(page.read_text(encoding="utf-8"), name), encoding="utf-8")


if __name__ == "__main__":
    main()
