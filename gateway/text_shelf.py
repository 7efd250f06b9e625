"""Vectors of prompts that the processes of a gateway leave for each other, in memory that all have inherited.

A place is found by a hash of the prompt, and holds one vector; a later one overwrites it. Nobody locks: what is read is
compared with a checksum of prompt and vector, so that a place that another process is just writing counts as empty.
"""

from __future__ import annotations

import hashlib
import mmap
import struct
from copy import copy
from typing import Final

import numpy as np
import numpy.typing as npt

_DIGEST: Final = 16
_LENGTH: Final = struct.Struct("<I")
_KEY_BYTES: Final = 32


class TextShelf:
    """Places for vectors of at most ``most_dim`` numbers; made before the processes are forked.

    Args:
        capacity: bytes; the kernel gives memory for those places alone that are used.
        most_dim: numbers of a vector; longer ones are not kept.

    Attributes:
        model: fingerprint of the model whose vectors are meant.
    """

    def __init__(self, capacity: int, most_dim: int) -> None:
        self._place_bytes = _KEY_BYTES + _DIGEST + _LENGTH.size + 4 * most_dim
        self._count = max(1, capacity // self._place_bytes)
        self._memory = mmap.mmap(-1, self._count * self._place_bytes)
        self.model = b""

    def of(self, model: str) -> TextShelf:
        """Return the same places for the vectors of one model: another's are never found."""
        shelf = copy(self)
        shelf.model = hashlib.blake2b(model.encode(), digest_size=_KEY_BYTES).digest()
        return shelf

    def get(self, prompt: str) -> npt.NDArray[np.float32] | None:
        """Return the vector that some process has left; None if there is none any more, or not yet."""
        key = self._key(prompt)
        start = self._start(key)
        place = self._memory[start : start + self._place_bytes]
        if place[:_KEY_BYTES] != key:
            return None
        digest, rest = place[_KEY_BYTES : _KEY_BYTES + _DIGEST], place[_KEY_BYTES + _DIGEST :]
        (length,) = _LENGTH.unpack_from(rest)
        data = rest[_LENGTH.size : _LENGTH.size + length]
        if len(data) != length or _digest(key, data) != digest:
            return None
        return np.frombuffer(data, np.float32)

    def put(self, prompt: str, vector: npt.NDArray[np.float32]) -> None:
        """Leave a vector for the others."""
        data = np.ascontiguousarray(vector, np.float32).tobytes()
        key = self._key(prompt)
        place = key + _digest(key, data) + _LENGTH.pack(len(data)) + data
        if len(place) <= self._place_bytes:
            start = self._start(key)
            self._memory[start : start + len(place)] = place

    def _key(self, prompt: str) -> bytes:
        words = prompt.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(words, digest_size=_KEY_BYTES, key=self.model).digest()

    def _start(self, key: bytes) -> int:
        return int.from_bytes(key[:8], "little") % self._count * self._place_bytes


def _digest(key: bytes, data: bytes) -> bytes:
    return hashlib.blake2b(data, key=key, digest_size=_DIGEST).digest()
