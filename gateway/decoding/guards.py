"""What stands between a decoder and the service: a clock that it looks at, and an end to its exceptions."""

from __future__ import annotations

import bisect
import io
import itertools
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from gateway.errors import GatewayError, ImageCorrupt, ImageUndecodable


def too_slow(timeout_s: float) -> ImageUndecodable:
    """Return the error of an image that took longer to decode than ``timeout_s`` seconds."""
    return ImageUndecodable(
        f"Decoding the image took longer than {timeout_s:g} seconds; send a smaller or simpler one."
    )


class DecodeDeadline:
    """An amount of work after which decoding gives up.

    It is counted in the processor time of the thread that made it, which has to be the one that decodes: that a busy
    machine lets a decoder wait is not the image's fault.

    Args:
        timeout_s: processor seconds from now.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._at_s = time.thread_time() + timeout_s

    def check(self) -> None:
        """Raise ``ImageUndecodable`` once the time is up."""
        if time.thread_time() > self._at_s:
            raise too_slow(self._timeout_s)


class TimedReader(io.RawIOBase):
    """The file as the decoders read it, mostly 64 KiB at a time: each read looks at the clock.

    Args:
        pieces: of the file, which are read as if they stood together.
        deadline: asked at each read.
    """

    def __init__(self, pieces: Sequence[memoryview], deadline: DecodeDeadline) -> None:
        super().__init__()
        self._pieces = pieces
        self._starts = [0, *itertools.accumulate(map(len, pieces))]
        self._at = 0
        self._deadline = deadline

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next bytes, unless time is up."""
        self._deadline.check()
        end = self._starts[-1] if size is None or size < 0 else min(self._at + size, self._starts[-1])
        parts, number = [], bisect.bisect_right(self._starts, self._at) - 1
        while self._at < end:
            start = self._starts[number]
            parts.append(self._pieces[number][self._at - start : end - start])
            self._at = min(end, self._starts[number + 1])
            number += 1
        return b"".join(parts)

    def readinto(self, buffer: Any, /) -> int:  # noqa: ANN401 - whatever can be written to
        """Read into what is given, unless time is up."""
        into = memoryview(buffer).cast("B")
        found = self.read(len(into))
        into[: len(found)] = found
        return len(found)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to a place; return it."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._starts[-1]}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        """Return the place."""
        return self._at

    def readable(self) -> bool:
        """Be read."""
        return True

    def seekable(self) -> bool:
        """Be read from any place."""
        return True


@contextmanager
def decoder_faults() -> Iterator[None]:
    """Turn whatever a decoder raises into an error of ours, without its message."""
    try:
        yield
    except GatewayError:
        raise
    except (OSError, EOFError, ValueError, SyntaxError, LookupError, TypeError) as fault:
        raise ImageCorrupt("The image's data is broken or cut short; send the complete file.") from fault
    except Exception as fault:  # struct.error, MemoryError, RecursionError, whatever a library thinks of
        raise ImageUndecodable("The image could not be decoded; save it again with a common program.") from fault
