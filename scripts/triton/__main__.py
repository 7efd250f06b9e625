"""``python -m scripts.triton``: serve a model repository with a Triton on this machine, without the gateway."""

from __future__ import annotations

import sys

from scripts.serve import main

if __name__ == "__main__":
    sys.exit(main(["--no-gateway", *sys.argv[1:]]))
