"""Prompts → token ids, with the bundle's own ``tokenizer.json`` and without transformers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tokenizers

from gateway.errors import LabelTooLong
from gateway.inference.bundle import TOKENIZER_NAME, BundleError, TextTransform, file_sha256

SHOWN_CHARS = 60
ALONE = 8
"""Rows from which an inference gains little by being batched with others: measured on a CPU with ViT-B/32 and 8 tokens,
1 row took as long as 4, and 8 rows had two thirds of the throughput of 64."""
INFERENCE_TOKENS = 48
"""What an inference costs before its first token, as a number of tokens: the weights are read once for all rows.
Measured likewise: 26 ms for one row, 3.7 ms for each of 64 rows of 8 tokens."""


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """Prompts of one padded length.

    Attributes:
        positions: where each row's prompt stood in what was given to ``batches``.
        input_ids: int64 [N, L], L at most the context length.
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
        """Tokenize, sort into the bundle's buckets, and cut into inferences.

        Within a bucket prompts stand by length, then by ids, so that those of one template come one behind the other:
        the model computes a beginning that all rows of an inference share only once. An inference of ``ALONE`` rows or
        more is padded to its longest prompt. A smaller one is padded to its bucket, since Triton batches requests of
        equal shape only; or it joins the next bucket, where that costs less than an inference of its own.

        Args:
            prompts: each becomes one row.
            max_batch: rows of an inference.

        Raises:
            LabelTooLong: as ``ids``.
        """
        rows = self.ids(prompts)
        by_bucket: dict[int, list[int]] = {}
        for position, row in enumerate(rows):
            bucket = next(bucket for bucket in self._transform.length_buckets if bucket >= len(row))
            by_bucket.setdefault(bucket, []).append(position)
        made: list[TokenBatch] = []
        carried: list[int] = []
        buckets = sorted(by_bucket)
        for bucket, after in zip(buckets, [*buckets[1:], None], strict=True):
            waiting = sorted(carried + by_bucket[bucket], key=lambda position: (len(rows[position]), rows[position]))
            carried = []
            for start in range(0, len(waiting), max_batch):
                chunk = waiting[start : start + max_batch]
                if after is not None and len(chunk) < max_batch and len(chunk) * (after - bucket) <= INFERENCE_TOKENS:
                    carried = chunk
                else:
                    made.append(self._batch(chunk, rows, bucket))
        return made

    def _batch(self, positions: Sequence[int], rows: Sequence[Sequence[int]], bucket: int) -> TokenBatch:
        length = max(len(rows[position]) for position in positions) if len(positions) >= ALONE else bucket
        input_ids = np.full((len(positions), length), self._transform.pad_id, dtype=np.int64)
        for line, position in enumerate(positions):
            input_ids[line, : len(rows[position])] = rows[position]
        return TokenBatch(tuple(positions), input_ids)
