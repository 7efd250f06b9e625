"""Where the measured service times lie."""

from __future__ import annotations

from pathlib import Path

MEASURED = Path(__file__).with_name("measured.json")
