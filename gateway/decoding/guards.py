"""Around a call of a decoder: a limit of time at each read, and errors of ours in place of its exceptions."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager

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


class TimedReader(io.BytesIO):
    """The file as the decoders read it, mostly 64 KiB at a time: each read looks at the clock.

    Args:
        data: the file.
        deadline: asked at each read.
    """

    def __init__(self, data: bytes, deadline: DecodeDeadline) -> None:
        super().__init__(data)
        self._deadline = deadline

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next bytes, unless time is up."""
        self._deadline.check()
        return super().read(size)


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
