"""The one error of the export that a person is meant to read."""

from __future__ import annotations


class ExportRefused(Exception):
    """The export cannot go on; the text is one sentence saying what is wrong and what to do."""
