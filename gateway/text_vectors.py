"""The text side: prompts → vectors, each computed once and kept in a bounded cache.

Concurrent misses of one prompt are joined: one inference serves all who wait for it. A vector that is finished is kept
even if the request that asked for it has run out of time; an inference that nobody waits for any more is cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from cachetools import LRUCache

from gateway.concurrency import all_of
from gateway.deadline import Deadline
from gateway.encoder import Encoder, Vectors
from gateway.errors import DeadlineExceeded, InvalidLabels
from gateway.labels import LabelRequest, LabelRules, LabelSet, label_set
from gateway.scoring import TextMatrix, mean_unit
from gateway.tokenizer import TokenBatch, Tokenizer


@dataclass(frozen=True, slots=True)
class TextLimits:
    """Caps of the text side.

    Attributes:
        cache_bytes: memory for single vectors, and as much again for assembled matrices.
        max_new_prompts: prompts of one request that are not cached yet.
        max_batch: rows of one text inference.
        concurrency: text inferences in flight at a time, so that a flood of new labels leaves room for pictures.
    """

    cache_bytes: int
    max_new_prompts: int
    max_batch: int
    concurrency: int = 4


@dataclass(slots=True, eq=False)
class _Inference:
    """One text inference under way and how many requests wait for it."""

    prompts: list[str]
    task: asyncio.Task[dict[str, Vectors]] | None = None
    waiters: int = 0


class TextVectors:
    """Vectors of prompts, and matrices of label sets, for one bundle.

    Args:
        tokenizer: the bundle's.
        encoder: where a miss is computed.
        limits: caps.
        rules: caps on words.
        observe_lookup: called with the numbers of hits and misses of each look-up of prompts.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        encoder: Encoder,
        limits: TextLimits,
        rules: LabelRules,
        observe_lookup: Callable[[int, int], None],
    ) -> None:
        self._tokenizer = tokenizer
        self._encoder = encoder
        self._limits = limits
        self._rules = rules
        self._observe_lookup = observe_lookup
        self._vectors: LRUCache[str, Vectors] = LRUCache(
            limits.cache_bytes, getsizeof=lambda vector: vector.nbytes + 200
        )
        self._matrices: LRUCache[LabelRequest, TextMatrix] = LRUCache(
            limits.cache_bytes,
            getsizeof=lambda matrix: matrix.vectors.nbytes + matrix.negatives.nbytes + 300 * len(matrix.labels),
        )
        self._pending: dict[str, _Inference] = {}
        self._slots = asyncio.Semaphore(limits.concurrency)

    async def matrix(self, request: LabelRequest, deadline: Deadline) -> TextMatrix:
        """Return the matrix of a client's words; of known words without any work that grows with their number.

        Raises:
            InvalidLabels: words that cannot be used.
            LabelTooLong: a prompt over the model's context.
            ServiceError: the vectors could not be computed in time.
        """
        found = self._matrices.get(request)
        if found is not None:
            self._observe_lookup(len(found.labels), 0)
            return found
        made = await self.assemble(label_set(request, self._rules), deadline)
        if made.vectors.nbytes + made.negatives.nbytes + 300 * len(made.labels) <= self._matrices.maxsize:
            self._matrices[request] = made
        return made

    async def assemble(self, labels: LabelSet, deadline: Deadline) -> TextMatrix:
        """Return the matrix of a label set.

        Raises:
            LabelTooLong: a prompt over the model's context.
            ServiceError: the vectors could not be computed in time.
        """
        independent = labels.mode == "independent"
        groups = list(dict.fromkeys(entry.negatives for entry in labels.labels)) if independent else []
        wanted = [prompt for entry in labels.labels for prompt in entry.prompts]
        wanted += [prompt for group in groups for prompt in group]
        vectors = await self.prompts(wanted, deadline)
        rows = [mean_unit(np.stack([vectors[prompt] for prompt in entry.prompts])) for entry in labels.labels]
        negatives = [vectors[prompt] for group in groups for prompt in group]
        starts = np.cumsum([0, *(len(group) for group in groups[:-1])]) if groups else np.zeros(0)
        where = {group: number for number, group in enumerate(groups)}
        return TextMatrix(
            mode=labels.mode,
            labels=tuple(entry.label for entry in labels.labels),
            vectors=np.stack(rows),
            negatives=np.stack(negatives) if negatives else np.zeros((0, rows[0].shape[0]), np.float32),
            group_starts=starts.astype(np.intp),
            group_of=np.array([where.get(entry.negatives, 0) for entry in labels.labels], np.intp),
        )

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Return each text's token ids, unpadded.

        Raises:
            LabelTooLong: a text over the model's context.
        """
        return self._tokenizer.ids(texts)

    async def prompts(self, wanted: Iterable[str], deadline: Deadline) -> dict[str, Vectors]:
        """Return the vector [D] of each distinct prompt.

        Raises:
            InvalidLabels: more new prompts than one request may bring.
            LabelTooLong: a prompt over the model's context.
            ServiceError: the vectors could not be computed in time.
        """
        distinct = list(dict.fromkeys(wanted))
        found = {prompt: self._vectors[prompt] for prompt in distinct if prompt in self._vectors}
        self._observe_lookup(len(found), len(distinct) - len(found))
        while missing := [prompt for prompt in distinct if prompt not in found]:
            new = [prompt for prompt in missing if prompt not in self._pending]
            if len(new) > self._limits.max_new_prompts:
                raise InvalidLabels(
                    f"This request needs {len(new)} prompts (labels times templates) that are new to the service; at "
                    f"most {self._limits.max_new_prompts} at a time are accepted. Send fewer at first: they are kept."
                )
            await self._start(new, deadline)
            inferences = {id(item): item for prompt in missing if (item := self._pending.get(prompt))}
            try:
                await all_of(self._wait(item, found, deadline) for item in inferences.values())
            except DeadlineExceeded:
                deadline.remaining_s()  # ours has passed: raises; the one we joined had less time: try again
            found |= {prompt: self._vectors[prompt] for prompt in missing if prompt in self._vectors}
        return found

    async def _start(self, new: list[str], deadline: Deadline) -> None:
        """Begin the inferences of prompts that nobody is computing yet."""
        if not new:
            return
        batches = await asyncio.to_thread(self._tokenizer.batches, new, self._limits.max_batch)
        for batch in batches:
            prompts = [new[position] for position in batch.positions]
            if all(prompt in self._pending or prompt in self._vectors for prompt in prompts):
                continue  # another request was faster while we tokenized
            inference = _Inference(prompts)
            for prompt in prompts:
                self._pending[prompt] = inference
            inference.task = asyncio.create_task(self._compute(inference, batch, deadline))
            inference.task.add_done_callback(_retrieve)

    async def _compute(self, inference: _Inference, batch: TokenBatch, deadline: Deadline) -> dict[str, Vectors]:
        try:
            async with deadline.enforced(), self._slots:
                rows = await self._encoder.encode_texts(batch.input_ids, deadline)
            # Rows of their own: a view would keep the whole batch alive.
            made = {prompt: row.copy() for prompt, row in zip(inference.prompts, rows, strict=True)}
            self._vectors.update(made)
            return made
        finally:
            for prompt in inference.prompts:
                if self._pending.get(prompt) is inference:
                    del self._pending[prompt]

    async def _wait(self, inference: _Inference, found: dict[str, Vectors], deadline: Deadline) -> None:
        """Wait for one inference; the last who stops waiting cancels it."""
        if inference.task is None:
            return
        inference.waiters += 1
        try:
            async with deadline.enforced():
                found |= await asyncio.shield(inference.task)
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is None or current.cancelling() or not inference.task.cancelled():
                raise
            # Those who started it left just as we joined: it is begun anew by the caller's loop.
        finally:
            inference.waiters -= 1
            if inference.waiters == 0 and not inference.task.done():
                inference.task.cancel()


def _retrieve(task: asyncio.Task[dict[str, Vectors]]) -> None:
    """Look at the outcome, so that a failure whose waiters have all left is not reported as forgotten."""
    if not task.cancelled():
        task.exception()
