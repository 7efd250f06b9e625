"""Text vectors: computed once, joined, bounded, kept, cancelled when nobody waits."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from gateway.errors import DeadlineExceeded, InvalidLabels, LabelTooLong, ModelUnavailable
from gateway.inference.prompts import LabelRequest, LabelRules
from gateway.inference.text_embeddings import TextEmbeddings, TextLimits
from gateway.inference.tokenizer import Tokenizer
from gateway.inference.triton import Vectors
from gateway.limits.deadline import Deadline
from tests.support.fake_encoder import FakeEncoder, write_bundle
from tests.support.waiting import UNTIL_S, eventually

MAX_NEW = 100


class Parts:
    """A text side on a fake encoder, and what it looked up."""

    def __init__(self, folder: Path, cache_bytes: int = 1 << 20, encoder: FakeEncoder | None = None) -> None:
        manifest = write_bundle(folder)
        self.encoder = encoder or FakeEncoder()
        self.lookups: list[tuple[int, int]] = []
        self.text = TextEmbeddings(
            Tokenizer(folder / "tokenizer.json", manifest.text),
            self.encoder,
            TextLimits(cache_bytes, MAX_NEW, 200, manifest.text_max_batch),
            LabelRules(),
            lambda hits, misses: self.lookups.append((hits, misses)),
        )

    def waiters(self, prompt: str) -> int:
        """Return how many requests wait for the inference of a prompt."""
        inference = self.text._pending.get(prompt)
        return inference.waiters if inference else 0


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return Parts(tmp_path)


def soon() -> Deadline:
    return Deadline.after(UNTIL_S)


async def test_known_prompts_cost_no_inference(parts: Parts) -> None:
    first = await parts.text.prompts(["cat", "dog"], soon())
    again = await parts.text.prompts(["dog", "cat"], soon())
    assert parts.encoder.text_calls == [2]
    assert np.array_equal(first["cat"], again["cat"])
    assert parts.lookups == [(0, 2), (2, 0)]


async def test_concurrent_misses_are_joined(parts: Parts) -> None:
    parts.encoder.delay_s = 0.05
    answers = await asyncio.gather(*(parts.text.prompts(["cat", "dog"], soon()) for _ in range(20)))
    assert parts.encoder.text_calls == [2]
    assert all(np.array_equal(answer["dog"], answers[0]["dog"]) for answer in answers)


async def test_the_last_who_leaves_cancels_the_inference(parts: Parts) -> None:
    parts.encoder.delay_s = UNTIL_S
    waiting = [asyncio.create_task(parts.text.prompts(["cat"], soon())) for _ in range(2)]
    await eventually(lambda: parts.waiters("cat") == 2)
    waiting[0].cancel()
    await asyncio.gather(waiting[0], return_exceptions=True)
    assert parts.encoder.cancelled == 0
    waiting[1].cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await eventually(lambda: parts.encoder.cancelled == 1)


async def test_one_who_joins_is_not_hurt_by_the_starter_leaving(parts: Parts) -> None:
    parts.encoder.delay_s = UNTIL_S
    starter = asyncio.create_task(parts.text.prompts(["cat"], soon()))
    await eventually(lambda: parts.waiters("cat") == 1)
    joined = asyncio.create_task(parts.text.prompts(["cat", "dog"], soon()))
    await eventually(lambda: parts.waiters("cat") == 2)
    starter.cancel()
    parts.encoder.delay_s = 0
    assert set(await joined) == {"cat", "dog"}


async def test_one_with_more_time_outlives_the_deadline_of_the_starter(parts: Parts) -> None:
    parts.encoder.delay_s = UNTIL_S
    starter = asyncio.create_task(parts.text.prompts(["cat"], Deadline.after(0.3)))
    await eventually(lambda: starter.done() or parts.waiters("cat") == 1)
    joined = asyncio.create_task(parts.text.prompts(["cat"], soon()))
    await eventually(lambda: starter.done() or parts.waiters("cat") == 2)
    with pytest.raises(DeadlineExceeded):
        await starter
    parts.encoder.delay_s = 0
    assert "cat" in await joined


async def test_finished_vectors_are_kept_when_the_request_runs_out_of_time(tmp_path: Path) -> None:
    class Stalling(FakeEncoder):
        """Answers once, and then nothing for as long as it stalls."""

        stalls = True

        async def encode_texts(self, input_ids: npt.NDArray[np.int64], deadline: Deadline) -> Vectors:
            if self.stalls and self.text_calls:
                await asyncio.sleep(deadline.remaining_s())
            return await super().encode_texts(input_ids, deadline)

    parts = Parts(tmp_path, encoder=(encoder := Stalling()))
    prompts = [f"p{number:02}" for number in range(60)]  # 15 inferences, 4 at a time
    with pytest.raises(DeadlineExceeded):
        await parts.text.prompts(prompts, Deadline.after(0.5))
    encoder.stalls = False
    parts.lookups.clear()
    await parts.text.prompts(prompts, soon())
    assert parts.lookups == [(4, 56)]


async def test_a_failure_reaches_all_who_wait_and_is_not_cached(parts: Parts) -> None:
    parts.encoder.delay_s = 0.02
    parts.encoder.failure = ModelUnavailable("gone")
    failed = await asyncio.gather(*(parts.text.prompts(["cat"], soon()) for _ in range(3)), return_exceptions=True)
    assert all(isinstance(error, ModelUnavailable) for error in failed)
    parts.encoder.failure = None
    assert "cat" in await parts.text.prompts(["cat"], soon())


async def test_too_many_new_prompts_are_refused_but_known_ones_do_not_count(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    await parts.text.prompts(["a", "b", "c"], soon(), 3)
    await parts.text.prompts(["a", "b", "c", "d", "e"], soon(), 3)
    with pytest.raises(InvalidLabels, match="new to the service"):
        await parts.text.prompts(["1", "2", "3", "4"], soon(), 3)
    await parts.text.prompts(["1", "2", "3", "4"], soon())


async def test_a_request_with_few_new_prompts_does_not_wait_for_one_with_many(parts: Parts) -> None:
    parts.encoder.delay_s = UNTIL_S
    many = asyncio.create_task(parts.text.prompts([f"p{number:02}" for number in range(80)], soon()))
    await eventually(lambda: parts.encoder.text_calls == [4] * 4)  # 20 inferences have begun, all but 4 of them wait
    few = asyncio.create_task(parts.text.prompts(["cat", "dog"], soon()))
    await eventually(lambda: parts.encoder.text_calls == [4] * 4 + [2])
    parts.encoder.delay_s = 0
    assert len(await few) == 2
    assert len(await many) == 80


async def test_a_label_over_the_context_is_an_error(parts: Parts) -> None:
    with pytest.raises(LabelTooLong, match="15 tokens"):
        await parts.text.prompts(["fits", "x" * 15], soon())
    assert parts.encoder.text_calls == []


async def test_the_cache_is_bounded_and_a_small_one_still_answers(tmp_path: Path) -> None:
    parts = Parts(tmp_path, cache_bytes=1000)
    prompts = [f"p{number}" for number in range(20)]
    assert set(await parts.text.prompts(prompts, soon())) == set(prompts)
    await parts.text.prompts(prompts, soon())
    assert sum(misses for _, misses in parts.lookups) > 20


async def test_templates_are_averaged_in_embedding_space(parts: Parts) -> None:
    request = LabelRequest(("cat", "dog"), ("a {}", "my {}"), (), "softmax")
    matrix = await parts.text.matrix(request, soon())
    single = await parts.text.prompts(["a cat", "my cat"], soon())
    mean = (single["a cat"] + single["my cat"]) / 2
    assert np.allclose(matrix.vectors[0], mean / np.linalg.norm(mean), atol=1e-6)
    repeated = await parts.text.matrix(LabelRequest(("cat", "my cat"), ("a {}", "my {}"), (), "softmax"), soon())
    assert np.allclose(repeated.vectors[0], matrix.vectors[0], atol=1e-6)
    calls = len(parts.encoder.text_calls)
    assert await parts.text.matrix(request, soon()) is matrix
    assert len(parts.encoder.text_calls) == calls
