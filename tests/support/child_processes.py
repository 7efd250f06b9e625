"""Processes that this one's gateway started."""

from __future__ import annotations

import contextlib
import os

import psutil

from gateway.jobs.report_folder import CHILD


def reports_of(pid: int | None = None) -> list[psutil.Process]:
    """Return the processes that make reports for a gateway, this process by default."""
    found = []
    for child in psutil.Process(pid or os.getpid()).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if CHILD in child.cmdline():
                found.append(child)
    return found
