"""``python -m scripts.vendor_console``: copy the console's libraries from node_modules to gateway/console/vendor.

Their versions are those of package-lock.json; ``make vendor-console`` installs them first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

MODULES = Path("node_modules")
VENDOR = Path("gateway/console/vendor")

SOURCES: Mapping[str, str] = MappingProxyType(
    {
        "preact.js": "preact/dist/preact.mjs",
        "preact.LICENSE": "preact/LICENSE",
        "hooks.js": "preact/hooks/dist/hooks.mjs",
        "htm.js": "htm/dist/htm.mjs",
        "htm.LICENSE": "htm/LICENSE",
        "yaml.js": "js-yaml/dist/browser/js-yaml.esm.min.mjs",
        "yaml.LICENSE": "js-yaml/LICENSE",
    }
)
"""By the name in vendor/: the file in node_modules."""


def vendored(name: str) -> str:
    """Return what a file of SOURCES is to hold: no bare module name, which no browser resolves, and no source map."""
    text = (MODULES / SOURCES[name]).read_text()
    text = text.replace('from"preact"', 'from"./preact.js"')
    return re.sub(r"\n?//# sourceMappingURL=\S+\s*$", "\n", text)


def main() -> None:
    """Write all of SOURCES."""
    for name in SOURCES:
        (VENDOR / name).write_text(vendored(name))


if __name__ == "__main__":
    main()
