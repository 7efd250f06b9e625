"""Token ids against the reference's, padding, and refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tokenizers

from gateway.errors import LabelTooLong
from gateway.inference.bundle import BundleError
from gateway.inference.tokenizer import Tokenizer
from scripts.export.vocabulary import random_tokenizer
from scripts.export.words import WORDS
from tests.support.clip_tokenizer import real_tokenizer
from tests.support.fake_encoder import write_bundle


def test_ids_are_those_of_the_reference(golden: Path, tmp_path: Path) -> None:
    tokenizer = real_tokenizer(golden, tmp_path)
    expected = json.loads((golden / "tokens.json").read_text())
    assert len(expected) == 9
    assert dict(zip(expected, tokenizer.ids(list(expected)), strict=True)) == expected


def test_the_words_of_benchmarks_are_one_token_each_as_with_clips_own_vocabulary(golden: Path, tmp_path: Path) -> None:
    made = tokenizers.Tokenizer.from_buffer(random_tokenizer())
    assert {len(row) for row in real_tokenizer(golden, tmp_path).ids(WORDS)} == {3}
    assert {len(made.encode(word).ids) for word in WORDS} == {3}


def test_few_prompts_are_padded_to_the_shortest_bucket(tmp_path: Path) -> None:
    manifest = write_bundle(tmp_path, context_length=32)
    batches = Tokenizer(tmp_path / "tokenizer.json", manifest.text).batches(["ab", "x" * 20, "c", "d"], max_batch=4)
    assert [batch.input_ids.shape for batch in batches] == [(3, 8), (1, 32)]
    assert sorted(position for batch in batches for position in batch.positions) == list(range(4))
    assert batches[0].input_ids.dtype == np.int64
    assert batches[0].input_ids[2].tolist() == [200, ord("a"), ord("b"), 201, 201, 201, 201, 201]
    assert batches[0].positions[2] == 0


def test_many_prompts_are_padded_to_the_longest_of_their_inference_and_a_template_stays_together(
    tmp_path: Path,
) -> None:
    manifest = write_bundle(tmp_path, context_length=32)
    prompts = [f"{template}{label}" for label in "abcdefghij" for template in ("my ", "a ", "the very ")]
    batches = Tokenizer(tmp_path / "tokenizer.json", manifest.text).batches(prompts, max_batch=10)
    assert [batch.input_ids.shape for batch in batches] == [(10, 5), (10, 6), (10, 12)]
    for batch, template in zip(batches, ("a ", "my ", "the very "), strict=True):
        assert [prompts[position] for position in batch.positions] == [f"{template}{label}" for label in "abcdefghij"]


def test_a_few_prompts_join_longer_ones_where_that_costs_less_than_an_inference_of_their_own(tmp_path: Path) -> None:
    manifest = write_bundle(tmp_path)
    tokenizer = Tokenizer(tmp_path / "tokenizer.json", manifest.text)
    assert [batch.input_ids.shape for batch in tokenizer.batches(["ab", "c", "x" * 10], max_batch=16)] == [(3, 16)]
    shapes = [batch.input_ids.shape for batch in tokenizer.batches([*"abcdefg", "x" * 10], max_batch=16)]
    assert shapes == [(7, 8), (1, 16)]


def test_the_longest_prompt_fits_and_one_more_token_does_not(tmp_path: Path) -> None:
    manifest = write_bundle(tmp_path)
    tokenizer = Tokenizer(tmp_path / "tokenizer.json", manifest.text)
    assert len(tokenizer.ids(["x" * 14])[0]) == 16
    with pytest.raises(LabelTooLong, match="at most 14"):
        tokenizer.ids(["fits", "x" * 15])


def test_another_tokenizer_than_the_manifests_is_refused(tmp_path: Path) -> None:
    manifest = write_bundle(tmp_path)
    path = tmp_path / "tokenizer.json"
    path.write_text(path.read_text() + " ")
    with pytest.raises(BundleError, match="not the tokenizer"):
        Tokenizer(path, manifest.text)
