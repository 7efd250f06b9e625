"""Whether the extra ``evaluate`` is installed; loads none of it."""

from __future__ import annotations

import importlib.util


def is_installed() -> bool:
    """Return whether what draws reports and chooses thresholds is there."""
    return all(importlib.util.find_spec(name) is not None for name in ("jinja2", "mapie", "matplotlib"))
