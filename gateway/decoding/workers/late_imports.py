"""What decoders can need is loaded before they are confined, since a confined process can open no file.

Libraries import parts of themselves when an image first asks for them, and some go on without when that fails: pixels
would be other than outside the sandbox. So an import in a confined process is a bug of ours, and no image is judged
by what came of it: the gateway logs which modules were asked for, and answers as for any bug.
"""

from __future__ import annotations

import codecs
import importlib
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Final

from PIL import Image

from gateway.decoding.plugins import plugin_of

_MODULES: Final = (
    "PIL.ImageCms",  # colour profiles
    "PIL.TiffImagePlugin",  # EXIF, which is how Pillow says that an AVIF is turned
)

_ENCODINGS: Final = ("ascii", "latin-1", "utf-8", "utf-16", "cp1252")
"""Python loads each when it is first asked for."""

_MOST_NAMES: Final = 4


def load_libraries(*, heic: bool) -> None:
    """Load what would be loaded with the first image that asks for it.

    Args:
        heic: the decoder of HEIC too.
    """
    for encoding in _ENCODINGS:
        codecs.lookup(encoding)
    for module in _MODULES:
        importlib.import_module(module)
    Image.preinit()  # the plugins that writing an image asks for; nothing is opened by them
    if heic:
        plugin_of("heic")


class LateImports:
    """Refuses all imports of this process from now on, and remembers them; make it once it is confined.

    It stands before Python's own finders, which are asked for every module that is not loaded, so that it sees also
    those that a library tries and does without, and those that need no file.
    """

    def __init__(self) -> None:
        self._names: list[str] = []
        sys.meta_path.insert(0, self)

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None, /
    ) -> ModuleSpec | None:
        """Refuse a module, as Python's import asks for it."""
        del path, target
        self._names.append(name)
        raise ModuleNotFoundError(name=name)

    def taken(self) -> str:
        """Return the first few modules that were asked for since the last call; empty when there were none."""
        names, self._names = self._names, []
        return ", ".join(names[:_MOST_NAMES])
