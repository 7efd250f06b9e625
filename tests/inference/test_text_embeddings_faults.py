"""Text vectors with little memory, for requests that come at the same moment or leave at the wrong one."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from gateway.errors import InvalidLabels, LabelTooLong, ModelUnavailable
from gateway.inference.prompts import LabelRequest, LabelRules, label_set
from gateway.inference.triton import Vectors
from gateway.limits.deadline import Deadline
from tests.inference.test_text_embeddings import MAX_NEW, Parts, soon
from tests.support.fake_encoder import FakeEncoder
from tests.support.waiting import UNTIL_S, eventually


class Stubborn(FakeEncoder):
    """Takes some turns of the loop to be cancelled, and then does as told."""

    def __init__(self) -> None:
        super().__init__()
        self.on_cancel: Callable[[], object] = lambda: None

    async def encode_texts(self, input_ids: npt.NDArray[np.int64], deadline: Deadline) -> Vectors:
        try:
            return await super().encode_texts(input_ids, deadline)
        except asyncio.CancelledError:
            for _ in range(20):
                await asyncio.sleep(0)
            self.on_cancel()
            raise


@pytest.fixture
def stubborn(tmp_path: Path) -> tuple[Parts, Stubborn]:
    encoder = Stubborn()
    encoder.delay_s = UNTIL_S
    return Parts(tmp_path, encoder=encoder), encoder


def numbered(count: int) -> list[str]:
    return [f"p{number:02}" for number in range(count)]


def words(first: int, labels: int, negatives: int = 0) -> LabelRequest:
    """A request of its own for each ``first``, of labels with one prompt each."""
    return LabelRequest(
        tuple(f"{first} {label}" for label in range(labels)),
        ("{}",),
        tuple(f"n{negative}" for negative in range(negatives)),
        "independent" if negatives else "softmax",
    )


@pytest.mark.parametrize(("labels", "negatives"), [(10, 0), (1, 80), (2, 80)])
async def test_matrices_are_kept_as_long_as_there_is_memory_for_them(
    tmp_path: Path, labels: int, negatives: int
) -> None:
    """One takes 2.6 KB and more: vectors of 32 bytes, and what Python's strings take."""
    parts = Parts(tmp_path, cache_bytes=8_000)
    requests = [words(number, labels, negatives) for number in range(4)]
    made = [await parts.text.matrix(request, soon()) for request in requests]
    assert await parts.text.matrix(requests[-1], soon()) is made[-1]
    assert await parts.text.matrix(requests[-2], soon()) is made[-2]
    assert await parts.text.matrix(requests[0], soon()) is not made[0]


@pytest.mark.parametrize(("labels", "negatives"), [(20, 0), (2, 95)])
async def test_a_matrix_that_takes_more_than_there_is_is_answered_all_the_same(
    tmp_path: Path, labels: int, negatives: int
) -> None:
    parts = Parts(tmp_path, cache_bytes=2_500)
    first = await parts.text.matrix(words(1, labels, negatives), soon())
    again = await parts.text.matrix(words(1, labels, negatives), soon())
    assert first is not again
    assert np.array_equal(first.vectors, again.vectors)


async def test_a_matrix_that_is_kept_counts_as_found(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    for _ in range(2):
        await parts.text.matrix(words(1, 5), soon())
    assert parts.lookups == [(0, 5), (5, 0)]


async def test_what_was_computed_is_answered_though_the_cache_holds_one_vector(tmp_path: Path) -> None:
    parts = Parts(tmp_path, cache_bytes=300)
    assert set(await parts.text.prompts(numbered(8), soon())) == set(numbered(8))
    assert parts.encoder.text_calls == [4, 4]


async def test_a_request_may_bring_so_many_new_prompts_and_a_saved_classifier_more(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    request = words(1, MAX_NEW + 1)
    says = (
        rf"^This request needs {MAX_NEW + 1} prompts \(labels times templates\) that are new to the service; at most "
        rf"{MAX_NEW} at a time are accepted\. Send fewer at first: they are kept\. "
        r"A saved classifier may have more than a request\.$"
    )
    with pytest.raises(InvalidLabels, match=says):
        await parts.text.matrix(request, soon())
    labels = label_set(request, LabelRules())
    with pytest.raises(InvalidLabels, match=says):
        await parts.text.assemble(labels, soon(), MAX_NEW)
    assert parts.encoder.text_calls == []
    assert len((await parts.text.assemble(labels, soon())).labels) == MAX_NEW + 1
    assert len((await parts.text.matrix(request, soon())).labels) == MAX_NEW + 1, "now it is known"


async def test_tokens_are_counted_with_start_and_end(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    assert await parts.text.count_tokens([]) == 0
    assert await parts.text.count_tokens(["cat", "horse"]) == 5 + 7
    with pytest.raises(LabelTooLong):
        await parts.text.count_tokens(["cat", "x" * 15])


@pytest.mark.parametrize(("prompts", "begun"), [(4, [4]), (8, [4, 4]), (12, [])])
async def test_up_to_two_inferences_pass_a_request_that_needs_many(
    tmp_path: Path, prompts: int, begun: list[int]
) -> None:
    parts = Parts(tmp_path)
    parts.encoder.delay_s = UNTIL_S
    many = asyncio.create_task(parts.text.prompts(numbered(80), soon()))
    await eventually(lambda: parts.encoder.text_calls == [4] * 4)
    other = asyncio.create_task(parts.text.prompts([f"q{number:02}" for number in range(prompts)], soon()))
    await eventually(lambda: parts.waiters("q00") == 1)
    for _ in range(20):
        await asyncio.sleep(0)
    assert parts.encoder.text_calls == [4] * 4 + begun
    parts.encoder.delay_s = 0
    assert len(await other) == prompts
    assert len(await many) == 80


async def test_two_requests_at_the_same_moment_share_what_is_common_and_begin_the_rest(tmp_path: Path) -> None:
    """Prompts stand by length, so that the common ones are the first inference of both."""
    parts = Parts(tmp_path)
    parts.encoder.delay_s = UNTIL_S
    longer = [f"longer {number}" for number in range(4)]
    asking = [asyncio.create_task(parts.text.prompts(wanted, soon())) for wanted in (numbered(4), numbered(4) + longer)]
    await eventually(lambda: parts.encoder.text_calls == [4, 4])
    parts.encoder.delay_s = 0
    assert [len(found) for found in await asyncio.gather(*asking)] == [4, 8]
    assert parts.encoder.text_calls == [4, 4]


async def test_one_who_joins_what_is_being_given_up_has_it_begun_anew(stubborn: tuple[Parts, Stubborn]) -> None:
    parts, encoder = stubborn
    starter = asyncio.create_task(parts.text.prompts(["cat"], soon()))
    await eventually(lambda: encoder.text_calls == [1])
    starter.cancel()
    await asyncio.wait([starter])
    joined = asyncio.create_task(parts.text.prompts(["cat"], soon()))
    await eventually(lambda: parts.waiters("cat") == 1)  # it waits for what has been cancelled
    encoder.delay_s = 0
    assert set(await joined) == {"cat"}
    assert encoder.text_calls == [1, 1]


async def test_one_who_leaves_as_what_it_joined_ends_has_left(stubborn: tuple[Parts, Stubborn]) -> None:
    parts, encoder = stubborn
    starter = asyncio.create_task(parts.text.prompts(["cat"], soon()))
    await eventually(lambda: encoder.text_calls == [1])
    starter.cancel()
    await asyncio.wait([starter])
    joined = asyncio.create_task(parts.text.prompts(["cat"], soon()))
    encoder.on_cancel = joined.cancel
    encoder.delay_s = 0
    await asyncio.wait([joined])
    assert joined.cancelled()
    assert encoder.text_calls == [1]


@pytest.mark.parametrize("fails", [False, True])
async def test_what_becomes_of_an_inference_that_all_have_left_is_nobodys_error(
    stubborn: tuple[Parts, Stubborn], *, fails: bool
) -> None:
    parts, encoder = stubborn
    said: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))

    def fail() -> None:
        raise ModelUnavailable("gone")

    if fails:
        encoder.on_cancel = fail
    starter = asyncio.create_task(parts.text.prompts(["cat"], soon()))
    await eventually(lambda: encoder.text_calls == [1])
    starter.cancel()
    await eventually(lambda: parts.waiters("cat") == 0 and encoder.cancelled == 1)
    for _ in range(40):
        await asyncio.sleep(0)
    gc.collect()
    assert said == []


async def test_a_model_that_leaves_a_row_out_is_an_error(tmp_path: Path) -> None:
    """The encoder refuses such an answer; were it to let one pass, no prompt may get another one's vector."""

    class Short(FakeEncoder):
        async def encode_texts(self, input_ids: npt.NDArray[np.int64], deadline: Deadline) -> Vectors:
            return (await super().encode_texts(input_ids, deadline))[1:]

    parts = Parts(tmp_path, encoder=Short())
    with pytest.raises(ValueError, match="shorter"):
        await parts.text.prompts(["cat", "dog"], soon())
