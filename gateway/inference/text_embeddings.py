"""The text side: prompts → vectors, each computed once and kept in a bounded cache.

Concurrent misses of one prompt are joined: one inference serves all who wait for it. A vector that is finished is kept
even if the request that asked for it has run out of time; an inference that nobody waits for any more is cancelled.
Requests with many new prompts take turns among themselves and leave room for those with few.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from cachetools import LRUCache

from gateway.errors import DeadlineExceeded, InvalidLabels
from gateway.inference.label_matrix import computed, prompts_of
from gateway.inference.prompts import LabelRequest, LabelRules, LabelSet, label_set
from gateway.inference.scoring import TextMatrix
from gateway.inference.tokenizer import TokenBatch, Tokenizer
from gateway.inference.triton import Encoder, Vectors
from gateway.limits.deadline import Deadline
from gateway.limits.gather import all_of


@dataclass(frozen=True, slots=True)
class TextLimits:
    """Caps of the text side.

    Attributes:
        cache_bytes: memory for single vectors, and as much again for assembled matrices.
        max_new_prompts: prompts of one request that are not cached yet.
        max_saved_prompts: likewise of one classifier that is saved.
        max_batch: rows of one text inference.
        concurrency: text inferences in flight at a time, so that a flood of new labels leaves room for images: so
            many of requests that need more than ``few``, and as many again of the others.
        few: inferences of a request that does not wait for larger ones.
    """

    cache_bytes: int
    max_new_prompts: int
    max_saved_prompts: int
    max_batch: int
    concurrency: int = 4
    few: int = 2


@dataclass(slots=True, eq=False)
class _Inference:
    """One text inference under way and how many requests wait for it."""

    prompts: list[str]
    slots: asyncio.Semaphore
    task: asyncio.Task[dict[str, Vectors]] | None = None
    waiters: int = 0


class TextEmbeddings:
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
        self.limits = limits
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
        self._slots_of_large = asyncio.Semaphore(limits.concurrency)

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
        # In a thread, since all that follows grows with the number of labels and templates.
        labels = await asyncio.to_thread(label_set, request, self._rules)
        made = await self.assemble(labels, deadline, self.limits.max_new_prompts)
        with suppress(ValueError):  # larger than the whole cache
            self._matrices[request] = made
        return made

    async def assemble(self, labels: LabelSet, deadline: Deadline, most_new: int | None = None) -> TextMatrix:
        """Return the matrix of a label set.

        Args:
            labels: checked words.
            deadline: for all of it.
            most_new: prompts that may be new to the service; None for what has been accepted before.

        Raises:
            InvalidLabels: more new prompts than that.
            LabelTooLong: a prompt over the model's context.
            ServiceError: the vectors could not be computed in time.
        """
        vectors = await self.prompts(prompts_of(labels), deadline, most_new)
        return await asyncio.to_thread(computed, labels, vectors)

    async def count_tokens(self, texts: Sequence[str]) -> int:
        """Return how many tokens the texts have together, start and end tokens included.

        Raises:
            LabelTooLong: a text over the model's context.
        """
        return sum(map(len, await asyncio.to_thread(self._tokenizer.ids, texts)))

    async def prompts(
        self, wanted: Iterable[str], deadline: Deadline, most_new: int | None = None
    ) -> dict[str, Vectors]:
        """Return the vector [D] of each distinct prompt.

        Args:
            wanted: the prompts, any number of times each.
            deadline: for all of them.
            most_new: as for ``assemble``.

        Raises:
            InvalidLabels: more new prompts than that.
            LabelTooLong: a prompt over the model's context.
            ServiceError: the vectors could not be computed in time.
        """
        distinct = list(dict.fromkeys(wanted))
        found = {prompt: self._vectors[prompt] for prompt in distinct if prompt in self._vectors}
        self._observe_lookup(len(found), len(distinct) - len(found))
        while missing := [prompt for prompt in distinct if prompt not in found]:
            new = [prompt for prompt in missing if prompt not in self._pending]
            if most_new is not None and len(new) > most_new:
                raise InvalidLabels(
                    f"This request needs {len(new)} prompts (labels times templates) that are new to the service; at "
                    f"most {most_new} at a time are accepted. Send fewer at first: they are kept. A saved classifier "
                    "may have more than a request."
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
        batches = await asyncio.to_thread(self._tokenizer.batches, new, self.limits.max_batch)
        slots = self._slots if len(batches) <= self.limits.few else self._slots_of_large
        for batch in batches:
            prompts = [new[position] for position in batch.positions]
            if all(prompt in self._pending or prompt in self._vectors for prompt in prompts):
                continue  # another request was faster while we tokenized
            inference = _Inference(prompts, slots)
            for prompt in prompts:
                self._pending[prompt] = inference
            inference.task = asyncio.create_task(self._compute(inference, batch, deadline))
            inference.task.add_done_callback(_retrieve)

    async def _compute(self, inference: _Inference, batch: TokenBatch, deadline: Deadline) -> dict[str, Vectors]:
        try:
            async with deadline.enforced(), inference.slots:
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
