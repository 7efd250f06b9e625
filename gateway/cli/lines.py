"""The lines that commands write: text to read, JSON Lines, CSV; and an output that is gone on with."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, TextIO

from gateway.cli.judging import Line

Form = Literal["text", "jsonl", "csv"]
COLUMNS = (
    *("source", "external_id", "decision", "top", "score", "scores", "evidence"),
    *("image_sha256", "decision_id", "policy", "model", "error", "detail"),
)


class OutputUnusable(Exception):
    """The output cannot be gone on with; the text is for people."""


def row(line: Line) -> dict[str, Any]:
    """Return a line's columns for CSV; ``scores`` and ``evidence`` are JSON."""
    judged = line.get("categories") or line.get("scores") or []
    best = judged[0] if judged else {}
    scores = {entry.get("category", entry.get("label")): entry.get("score") for entry in judged}
    evidence = {entry["category"]: entry["evidence"] for entry in judged if entry.get("evidence")}
    error, policy = line.get("error") or {}, line.get("policy")
    return {
        "source": line["source"],
        "external_id": line.get("external_id", ""),
        "decision": line.get("decision", ""),
        "top": best.get("category", best.get("label", "")),
        "score": best.get("score", ""),
        "scores": json.dumps(scores, ensure_ascii=False) if scores else "",
        "evidence": json.dumps(evidence, ensure_ascii=False) if evidence else "",
        "image_sha256": (line.get("image") or {}).get("sha256", ""),
        "decision_id": line.get("decision_id", ""),
        "policy": f"{policy['name']}@{policy['version']}" if policy else "",
        "model": (line.get("model") or {}).get("id", ""),
        "error": error.get("code", ""),
        "detail": error.get("detail", ""),
    }


def text_of(line: Line) -> str:
    """Return a line for people: decision or best label, its score, the source; or why there is none."""
    error = line.get("error")
    if error:
        return f"{'undecided':<10} {line['source']}: {error.get('detail')} ({error.get('code')})"
    judged = line.get("categories") or line.get("scores") or []
    shown = ", ".join(f"{entry.get('category', entry.get('label'))} {entry['score']:.3f}" for entry in judged[:3])
    return f"{line['decision']:<10} {line['source']}: {shown}" if "decision" in line else f"{line['source']}: {shown}"


def write_line(line: Line, form: Form, file: TextIO) -> None:
    """Write one line and let it reach the disk: what is written counts as done."""
    if form == "csv":
        csv.DictWriter(file, COLUMNS).writerow(row(line))
    else:
        file.write((text_of(line) if form == "text" else json.dumps(line, ensure_ascii=False)) + "\n")
    file.flush()


def decided_before(out: Path, form: Form) -> dict[str, str]:
    """Return the sources that an output already holds an answer for, with their decisions; "" where it holds none.

    A last line that an interruption cut short is taken away first.

    Raises:
        OutputUnusable: the output is not of that form.
    """
    if not out.exists():
        return {}
    with out.open("r+b") as file:
        content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        text = whole.decode("utf-8", "surrogateescape")
        lines: list[Any] = []
        if form == "csv":
            rows = csv.DictReader(io.StringIO(text, newline=""))
            if content and tuple(rows.fieldnames or ()) != COLUMNS:
                raise OutputUnusable(f"{out} is no CSV of this program")
            lines = list(rows)
        else:
            for entry in text.split("\n"):
                with suppress(ValueError):
                    lines.append(json.loads(entry))
            lines = [line for line in lines if isinstance(line, dict) and isinstance(line.get("source"), str)]
            if content and not lines:
                raise OutputUnusable(f"{out} holds no lines of this program")
        file.truncate(len(whole))
    return {line["source"]: line.get("decision") or "" for line in lines if not line.get("error")}


@contextmanager
def opened_output(out: Path | None, form: Form, *, append: bool) -> Iterator[TextIO]:
    """Open the output, a CSV with its head; names that are no UTF-8 are written as the bytes they are.

    Args:
        out: None for standard output.
        form: of the lines.
        append: go on behind what is there.

    Raises:
        OSError: it cannot be written.
    """
    with ExitStack() as exits:
        if out is None:
            file = exits.enter_context(_standard_output())
        else:
            out.parent.mkdir(parents=True, exist_ok=True)
            mode: Literal["a", "w"] = "a" if append else "w"
            file = exits.enter_context(out.open(mode, encoding="utf-8", errors="surrogateescape", newline=""))
        if form == "csv" and not (out and out.stat().st_size):
            csv.DictWriter(file, COLUMNS).writeheader()
        yield file


@contextmanager
def _standard_output() -> Iterator[TextIO]:
    file = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8", errors="surrogateescape", newline="")
    try:
        yield file
    finally:
        file.detach()  # standard output stays open
