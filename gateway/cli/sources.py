"""Which images a command line names: files, folders searched through, and URLs of a list.

In a folder a file is an image by its content or by its name: one without a suffix is judged, and so is a ``.tiff``,
which the gateway refuses in its answer. What is neither is skipped and reported. A file that is named itself is always
sent.
"""

from __future__ import annotations

import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from gateway.evaluation.image_files import is_image_file

PLACEHOLDERS = frozenset({"path", "name", "stem", "folder"})


@dataclass(frozen=True, slots=True)
class Source:
    """One image.

    Attributes:
        location: path or URL; tells sources apart.
        path: within the folder it was found in; the file's name for a named file, the URL's path for a URL.
    """

    location: str
    path: str

    @property
    def is_url(self) -> bool:
        """Whether the gateway fetches it."""
        return "://" in self.location


@dataclass(slots=True)
class Found:
    """What a command line names.

    Attributes:
        images: each once, folders in order.
        skipped: paths of files in folders that are no image.
    """

    images: list[Source] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


def find_sources(paths: Sequence[Path], url_list: Path | None) -> Found:
    """Look at every file and folder, and read the list of URLs.

    Args:
        paths: files and folders.
        url_list: a file with a URL a line; ``#`` begins a comment line.

    Raises:
        OSError: a path or the list is not there or cannot be read.
        UnicodeDecodeError: the list is no UTF-8.
    """
    found = Found()
    seen: set[str] = set()
    for source, is_image in _files(paths):
        if source.location in seen:
            continue
        seen.add(source.location)
        if is_image:
            found.images.append(source)
        else:
            found.skipped.append(source.location)
    for line in url_list.read_text(encoding="utf-8").splitlines() if url_list else ():
        url = line.strip()
        if url and not url.startswith("#") and url not in seen:
            seen.add(url)
            found.images.append(Source(url, unquote(urlsplit(url).path).lstrip("/") or url))
    return found


def _files(paths: Sequence[Path]) -> Iterator[tuple[Source, bool]]:
    for path in paths:
        if not path.is_dir():
            path.stat()
            yield Source(str(path), path.name), True
            continue
        for entry in sorted(path.rglob("*")):
            if entry.is_file():
                yield Source(str(entry), entry.relative_to(path).as_posix()), is_image_file(entry)


def check_template(template: str) -> str:
    """Return a template for external ids.

    Raises:
        ValueError: it is no format string, or holds another placeholder than ``PLACEHOLDERS``.
    """
    for _, name, form, conversion in string.Formatter().parse(template):
        if name is not None and (name not in PLACEHOLDERS or form or conversion):
            raise ValueError(f"{{{name}}} is none of {', '.join(f'{{{known}}}' for known in sorted(PLACEHOLDERS))}")
    return template


def external_id(template: str, source: Source) -> str:
    """Fill in a template; characters that are no printable text are written as escapes."""
    path = PurePosixPath(source.path)
    folder = "" if str(path.parent) == "." else str(path.parent)
    text = template.format(path=source.path, name=path.name, stem=path.stem, folder=folder)
    readable = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in readable)
