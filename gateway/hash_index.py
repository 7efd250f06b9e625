"""Indexes over hashes of 256 bits: which of a million is this one, or is nearest to it?

Both are immutable once built, so that any number of threads may ask. Hashes stand in columns of 64-bit words, first
word first: 32 MB for 1,000,000. Sorting and gathering are done by numpy, which lets other threads run meanwhile; hex is
read in portions, for the same reason.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]
Rows = npt.NDArray[np.uint32]
HASH_BYTES: Final = 32
HEX_DIGITS: Final = 2 * HASH_BYTES
MAX_DISTANCE: Final = 127
"""Bits. Two unrelated hashes differ in 128 of 256 on average, so that 128 or more would match any picture."""

_WORDS: Final = 4
_BANDS: Final = 16
_BAND_VALUES: Final = 1 << 16
_PORTION: Final = 16_384
_BLOCK: Final = 65_536
_BANDED_FROM: Final = 65_536
"""Hashes; a scan of fewer takes under 0.2 ms, and the bands' table of starts would take 4 MB."""

_DENSE_SHARE: Final = 8
_SCAN_SHARE: Final = 16
"""A candidate costs about 30 ns to compare and a scanned hash 2 ns (scripts/bench_known.py)."""

_HEX: Final = re.compile(f"[0-9a-fA-F]{{{HEX_DIGITS}}}")


def words_of(hashes: Iterable[str] | npt.NDArray[np.uint8]) -> Words:
    """Return hashes as uint64 [N, 4], the first word the most significant.

    Args:
        hashes: 64 hexadecimal digits each, or uint8 [N, 32].

    Raises:
        ValueError: another length, shape or type, or no hexadecimal digits.
    """
    if isinstance(hashes, np.ndarray):
        if hashes.dtype != np.uint8 or hashes.ndim != 2 or hashes.shape[1] != HASH_BYTES:  # noqa: PLR2004
            raise ValueError(f"hashes must be uint8 [N, {HASH_BYTES}], not {hashes.dtype} {list(hashes.shape)}")
        return np.ascontiguousarray(hashes).view(">u8").astype(np.uint64)
    return np.concatenate([np.empty((0, _WORDS), dtype=np.uint64), *_portions(hashes)])


def _portions(hashes: Iterable[str]) -> Iterator[Words]:
    left = iter(hashes)
    while portion := list(islice(left, _PORTION)):
        for one in portion:
            if not _HEX.fullmatch(one):
                raise ValueError(f"{one[:80]!r} is not a hash of {HEX_DIGITS} hexadecimal digits")
        octets = np.frombuffer(bytes.fromhex("".join(portion)), dtype=">u8")
        yield octets.astype(np.uint64).reshape(-1, _WORDS)


class HashIndex(ABC):
    """N hashes that can be asked for one."""

    def __init__(self, columns: Words) -> None:
        """Hold hashes as [4, N]."""
        self._columns = columns

    @abstractmethod
    def nearest(self, wanted: Words, max_distance: int) -> tuple[int, str] | None:
        """Return distance in bits and lower-case hex of the nearest hash, the first added of equally near ones.

        Args:
            wanted: [4], see :func:`words_of`.
            max_distance: bits, 0..``MAX_DISTANCE``; an exact index looks for 0 whatever is asked.
        """

    def words(self) -> Words:
        """Return the hashes, [N, 4], as a copy."""
        return np.ascontiguousarray(self._columns.T)

    def __len__(self) -> int:
        return int(self._columns.shape[1])

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the arrays hold."""
        return int(self._columns.nbytes)

    def _hex(self, row: int) -> str:
        return self._columns[:, row].astype(">u8").tobytes().hex()


class ExactIndex(HashIndex):
    """Finds equal hashes only: sorted by the first word, found by bisection."""

    def __init__(self, hashes: Words) -> None:
        """Sort [N, 4] hashes: about 0.1 s for 1,000,000."""
        order = np.argsort(hashes[:, 0])
        super().__init__(np.stack([word[order] for word in hashes.T]))

    def nearest(self, wanted: Words, max_distance: int = 0) -> tuple[int, str] | None:  # noqa: ARG002
        """Return (0, hex) if the hash is there."""
        first = self._columns[0]
        start = int(np.searchsorted(first, wanted[:1], side="left")[0])
        end = int(np.searchsorted(first, wanted[:1], side="right")[0])
        rows = np.flatnonzero((self._columns[1:, start:end] == wanted[1:, None]).all(axis=0))
        return (0, self._hex(start + int(rows[0]))) if rows.size else None


class NearIndex(HashIndex):
    """Finds the nearest hash by Hamming distance.

    Multi-index hashing (Norouzi, Punjani and Fleet, "Fast Search in Hamming Space with Multi-Index Hashing", CVPR 2012;
    also in ThreatExchange's pdq/cpp/index/mih.h): of the 16 bands of 16 bits at least one differs by at most
    ``max_distance // 16`` bits, so that the hashes which have, in some band, one of the few values that near are all
    that need comparing. Up to 31 bits these are 16 x 17 values and some 4,000 of 1,000,000 hashes; up to 47 bits
    16 x 137 values and some 33,000. Beyond, for short lists, and where too many hashes share a band's value (a
    comparison there costs some 20 times as much), all hashes are scanned instead.
    """

    def __init__(self, hashes: Words) -> None:
        """Index [N, 4] hashes: about 0.5 s for 1,000,000, and 68 MB beside the hashes' own 32."""
        super().__init__(np.ascontiguousarray(hashes.T))
        self._bands = _Bands(self._columns) if len(self) >= _BANDED_FROM else None

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the arrays hold."""
        return super().nbytes + (0 if self._bands is None else self._bands.nbytes)

    def nearest(self, wanted: Words, max_distance: int) -> tuple[int, str] | None:
        """Return distance and hex of the nearest hash within ``max_distance`` bits."""
        rows = None if self._bands is None else self._bands.candidates(wanted, max_distance)
        found = self._scan(wanted, max_distance) if rows is None else self._nearest_of(rows, wanted, max_distance)
        return None if found is None else (found[0], self._hex(found[1]))

    def _scan(self, wanted: Words, max_distance: int) -> tuple[int, int] | None:
        found = None
        for start in range(0, len(self), _BLOCK):
            nearer = self._nearest_of(slice(start, start + _BLOCK), wanted, max_distance)
            if nearer is not None:
                found, max_distance = nearer, nearer[0] - 1
            if max_distance < 0:
                break
        return found

    def _nearest_of(self, rows: Rows | slice, wanted: Words, max_distance: int) -> tuple[int, int] | None:
        """Return distance and row of the nearest of some hashes; half of the bits rule out almost all of them."""
        half = self._differing(rows, wanted, 0)
        half += self._differing(rows, wanted, 1)  # at most 128: fits uint8
        near = np.flatnonzero(half <= max_distance)
        if not near.size:
            return None
        if near.size > half.size // _DENSE_SHARE:  # reading on in order beats picking
            near, near_rows = np.arange(half.size), rows
        else:
            near_rows = near + rows.start if isinstance(rows, slice) else rows[near]
        distances = half[near].astype(np.uint16)
        distances += self._differing(near_rows, wanted, 2)
        distances += self._differing(near_rows, wanted, 3)
        least = int(distances.min())
        if least > max_distance:
            return None
        if isinstance(near_rows, slice):
            return least, near_rows.start + int(distances.argmin())
        return least, int(near_rows[distances == least].min())

    def _differing(self, rows: Rows | slice, wanted: Words, word: int) -> npt.NDArray[np.uint8]:
        """Return in how many bits one word of some hashes differs."""
        bits: npt.NDArray[np.uint8] = np.bitwise_count(self._columns[word][rows] ^ wanted[word])
        return bits


class _Bands:
    """Which hashes have which value in each band of 16 bits."""

    def __init__(self, columns: Words) -> None:
        count = columns.shape[1]
        self._rows = np.empty(_BANDS * count, dtype=np.uint32)  # of each band in turn, rows in the order of values
        self._starts = np.zeros((_BANDS, _BAND_VALUES + 1), dtype=np.uint32)  # of each value, within its band's rows
        for band in range(_BANDS):
            column, part = divmod(band, _BANDS // _WORDS)
            values = np.ascontiguousarray(columns[column].view(np.uint16)[part :: _BANDS // _WORDS])
            self._rows[band * count : (band + 1) * count] = np.argsort(values, kind="stable")  # a radix sort
            self._starts[band, 1:] = np.cumsum(np.bincount(values, minlength=_BAND_VALUES))
        self._count = count
        self._most = count // _SCAN_SHARE
        bits = [1 << bit for bit in range(16)]
        pairs = [one | other for one in bits for other in bits if one < other]
        self._flips = np.array([0, *bits, *pairs], dtype=np.intp)
        self._flips_of_radius = (1, 1 + len(bits), 1 + len(bits) + len(pairs))

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the arrays hold."""
        return int(self._rows.nbytes + self._starts.nbytes)

    def candidates(self, wanted: Words, max_distance: int) -> Rows | None:
        """Return the rows of all hashes that can be within a distance, some twice; None if a scan is cheaper."""
        radius = max_distance // _BANDS
        if radius >= len(self._flips_of_radius):
            return None
        values = wanted.view(np.uint16).astype(np.intp)[:, None] ^ self._flips[: self._flips_of_radius[radius]]
        band = np.arange(_BANDS)[:, None]
        starts = self._starts[band, values].astype(np.int64)
        counts = (self._starts[band, values + 1] - starts).ravel()
        starts = (starts + band * self._count).ravel()
        ends = np.cumsum(counts)
        total = int(ends[-1])
        if total > self._most:
            return None
        # The k-th of all candidates is entry k - (candidates before its group) + (start of its group).
        rows: Rows = self._rows[np.arange(total) + np.repeat(starts - (ends - counts), counts)]
        return rows
