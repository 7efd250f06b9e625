"""Prompts → token ids, with the bundle's own ``tokenizer.json`` and without transformers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tokenizers

from gateway.bundle import TOKENIZER_NAME, BundleError, TextTransform, file_sha256
from gateway.errors import LabelTooLong

SHOWN_CHARS = 60


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """Prompts of one padded length.

    Attributes:
        positions: where each row's prompt stood in the input of ``encode``.
        input_ids: int64 [N, L], L one of the bundle's length buckets.
    """

    positions: tuple[int, ...]
    input_ids: npt.NDArray[np.int64]


class Tokenizer:
    """CLIP's byte-pair tokenizer as the bundle carries it.

    Args:
        path: ``tokenizer.json``.
        transform: the text part of the manifest.

    Raises:
        BundleError: the file is absent, unreadable or not the one the manifest names.
    """

    def __init__(self, path: Path, transform: TextTransform) -> None:
        if not path.is_file():
            raise BundleError(f"{TOKENIZER_NAME} is missing beside the manifest: export the model again")
        if file_sha256(path) != transform.tokenizer_sha256:
            raise BundleError(f"{path} is not the tokenizer that the manifest names: export the model again")
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception for a file it cannot parse
            raise BundleError(f"{path} is no tokenizer: export the model again") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._transform = transform

    def ids(self, prompts: Sequence[str]) -> list[list[int]]:
        """Return each prompt's token ids, start and end token included, unpadded.

        Raises:
            LabelTooLong: a prompt has more tokens than the context; it is never truncated in silence.
        """
        rows = [encoding.ids for encoding in self._tokenizer.encode_batch(list(prompts))]
        limit = self._transform.context_length
        for prompt, row in zip(prompts, rows, strict=True):
            if len(row) > limit:
                shown = prompt if len(prompt) <= SHOWN_CHARS else f"{prompt[:SHOWN_CHARS]}…"
                raise LabelTooLong(
                    f"“{shown}” has {len(row) - 2} tokens with its template; this model reads at most {limit - 2}."
                )
        return rows

    def batches(self, prompts: Sequence[str], max_batch: int) -> list[TokenBatch]:
        """Tokenize, pad each prompt to the shortest bucket that holds it, and group by length.

        Triton batches requests of equal shape only, hence few lengths (DESIGN: six lengths ran one by one).

        Raises:
            LabelTooLong: as ``ids``.
        """
        by_length: dict[int, list[int]] = {}
        rows = self.ids(prompts)
        for position, row in enumerate(rows):
            length = next(bucket for bucket in self._transform.length_buckets if bucket >= len(row))
            by_length.setdefault(length, []).append(position)
        batches = []
        for length, positions in sorted(by_length.items()):
            for start in range(0, len(positions), max_batch):
                chunk = positions[start : start + max_batch]
                input_ids = np.full((len(chunk), length), self._transform.pad_id, dtype=np.int64)
                for line, position in enumerate(chunk):
                    input_ids[line, : len(rows[position])] = rows[position]
                batches.append(TokenBatch(tuple(chunk), input_ids))
        return batches
