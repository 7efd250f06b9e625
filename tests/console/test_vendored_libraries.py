"""The console's libraries are those of package-lock.json."""

from __future__ import annotations

import pytest

from scripts.vendor_console import MODULES, SOURCES, VENDOR, vendored
from tests.conftest import ROOT


@pytest.mark.parametrize("name", SOURCES)
def test_a_vendored_file_is_the_locked_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    if not (MODULES / SOURCES[name]).exists():
        pytest.skip("node_modules is not installed (make lint-console)")
    assert (VENDOR / name).read_text().strip() == vendored(name).strip()
