"""The one error of the launcher that a person is meant to read."""

from __future__ import annotations


class TritonFailed(Exception):
    """Triton cannot be started; the text is one sentence saying what is wrong and what to do."""
