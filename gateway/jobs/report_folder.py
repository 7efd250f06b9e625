"""The folder that a gateway and the process that makes a report share: names of the files in it."""

from __future__ import annotations

from typing import Final

CHILD: Final = "gateway.evaluation.job"
ORDER: Final = "order.json"
ROWS: Final = "rows.jsonl.gz"
BEFORE: Final = "before"
"""Folder of the judged images of another job, to compare with."""

RESULT: Final = "result.json"
OUT: Final = "out"
"""Folder of the report."""

JUDGED: Final = "judged.jsonl"
