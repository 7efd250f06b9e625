"""The process that makes the report of a job: rows of judged images in, report, drafts and result out.

Started as ``python -m gateway.evaluation.job PARENT_PID MEMORY_BYTES CPU_S FILE_BYTES FOLDER``; the module
``gateway.jobs.report_folder`` names what is in the folder. What the images do not allow is a result too (``refused``);
whatever else goes wrong ends the process with an exit code and a traceback.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gateway.jobs.report_folder import BEFORE, JUDGED, ORDER, OUT, RESULT, ROWS
from gateway.training.confined_process import confine

NICE = 10


def main() -> None:
    """Make one report, confined."""
    parent, memory, cpu_s, file_bytes, folder = sys.argv[1:]
    confine(parent, memory, cpu_s, file_bytes=int(file_bytes), nice=NICE)
    place = Path(folder)
    try:
        result = made(place, json.loads((place / ORDER).read_bytes()))
    except ValueError as fault:
        if not is_ours(fault):
            raise
        result = {"refused": str(fault)}
    (place / RESULT).write_text(json.dumps(result, allow_nan=False), encoding="utf-8")


def made(folder: Path, order: Mapping[str, Any]) -> dict[str, Any]:
    """Make the report in the folder, and return what the job's result says.

    Raises:
        ValueError: a step cannot work with these images; the text is for people.
    """
    # These load numpy and what judges under the limits.
    from gateway.evaluation.collect import write  # noqa: PLC0415
    from gateway.evaluation.judged import Run, judged_of, judged_set  # noqa: PLC0415
    from gateway.evaluation.reviews.reviewed import reviewed_set  # noqa: PLC0415
    from gateway.evaluation.steps import Evaluation, Steps, fit, reported, sections_of  # noqa: PLC0415

    run = Run(**order["run"])
    with gzip.open(folder / ROWS, "rt", encoding="utf-8") as lines:
        if order["source"] == "set":
            done = Evaluation(judged_set(run, [judged_of(line) for line in lines]))
        else:
            reviews = reviewed_set(lines, run)
            if not reviews.decisions:
                why = ", ".join(f"{count} {reason}" for reason, count in reviews.skipped.items())
                raise ValueError(f"No reviewed decision of the policy can be used{f': {why}' if why else ''}")
            done = Evaluation(reviews.judged, sections_of(reviews), reviews=reviews)
    out = folder / OUT
    out.mkdir()
    judged = done.judged
    write(out / JUDGED, run, [replace(image, views={}) for image in (*judged.images, *judged.failed)])
    before = folder / BEFORE
    steps = Steps(**order["steps"], compare=before if before.is_dir() else None)
    fit(done, steps)
    report = reported(done, out, steps)
    told = {name: report[name] for name in ("pictures", "judged", "failed", "part", "categories", "decisions")}
    drafts = {"draft": done.draft(), "classifiers": done.classifiers}
    return {**told, **drafts, "promises": done.promises, "missing": done.missing}


def is_ours(fault: ValueError) -> bool:
    """Return whether the gateway's own code raised it: what a library says is no text for people."""
    trace = fault.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith(("gateway.", "__main__"))


if __name__ == "__main__":
    main()
