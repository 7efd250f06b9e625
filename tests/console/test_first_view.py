"""The page names every module of its first view, so that the browser fetches all of them at once."""

from __future__ import annotations

import re
from pathlib import Path

from tests.conftest import ROOT

CONSOLE = ROOT / "gateway" / "console"
IMPORT = re.compile(r'^(?:import|export) [^;]*?from "(\.[^"]+)"', re.MULTILINE)


def test_the_page_preloads_what_try_imports() -> None:
    listed = re.findall(r'rel="modulepreload" href="/console/([^"]+)"', (CONSOLE / "index.html").read_text())
    imported: set[Path] = set()
    left = [CONSOLE / "app.js", CONSOLE / "views" / "try.js"]
    while left:
        module = left.pop().resolve()
        if module not in imported:
            imported.add(module)
            left += [module.parent / name for name in IMPORT.findall(module.read_text())]
    assert sorted(["app.js", *listed]) == sorted(str(module.relative_to(CONSOLE)) for module in imported)
