"""The demo's vocabulary: every way to load it gives the same ids, and any text can be tokenized."""

import json

import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer, CLIPConfig, CLIPTokenizer, CLIPTokenizerFast

from scripts.demo.model import WEIGHTS
from scripts.demo.tokens import END, START, build_tokenizer, learn_merges
from scripts.demo.world import words

TEXTS = [
    "a red circle",
    "A Photo of a  RED\tcircle!",
    "",
    " ",
    "nudity",
    "a face without glasses, 42 times",
    "zebra crossing; qwxz",
    "it's the artist's",
    "naïve café Ünïcödé ß",
    "日本語 и русский",
    "😀👍🏽 <|endoftext|> x",
    "\x00\x7f control",
    "a " * 200,
]


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(WEIGHTS)


def test_every_way_to_load_it_agrees(tokenizer: CLIPTokenizer) -> None:
    bare = Tokenizer.from_file(str(WEIGHTS / "tokenizer.json"))
    others = [AutoTokenizer.from_pretrained(WEIGHTS), CLIPTokenizerFast.from_pretrained(WEIGHTS)]
    for text in TEXTS:
        ids = tokenizer(text)["input_ids"]
        assert bare.encode(text).ids == ids
        assert [other(text)["input_ids"] for other in others] == [ids, ids]


def test_it_is_what_the_list_of_words_builds(tokenizer: CLIPTokenizer) -> None:
    built = build_tokenizer(words())
    assert [built(text)["input_ids"] for text in TEXTS] == [tokenizer(text)["input_ids"] for text in TEXTS]


def test_vocab_and_merges_are_those_of_tokenizer_json() -> None:
    model = json.loads((WEIGHTS / "tokenizer.json").read_text())["model"]
    assert json.loads((WEIGHTS / "vocab.json").read_text()) == model["vocab"]
    merges = (WEIGHTS / "merges.txt").read_text().splitlines()[1:]
    assert merges == [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]


def test_every_word_of_the_world_is_one_token(tokenizer: CLIPTokenizer) -> None:
    assert {word: len(tokenizer(word)["input_ids"]) for word in words()} == dict.fromkeys(words(), 3)


def test_the_special_tokens_come_last_and_the_config_names_them(tokenizer: CLIPTokenizer) -> None:
    vocabulary = tokenizer.get_vocab()
    assert sorted(vocabulary.values()) == list(range(len(vocabulary)))
    assert [vocabulary[START], vocabulary[END]] == [len(vocabulary) - 2, len(vocabulary) - 1]
    text = CLIPConfig.from_pretrained(WEIGHTS).text_config
    assert (text.bos_token_id, text.eos_token_id, text.vocab_size) == (
        vocabulary[START],
        vocabulary[END],
        len(vocabulary),
    )
    assert text.max_position_embeddings == tokenizer.model_max_length == 77


def test_texts_are_framed_and_cut_to_the_context(tokenizer: CLIPTokenizer) -> None:
    vocabulary = tokenizer.get_vocab()
    for text in TEXTS:
        ids = tokenizer(text, truncation=True)["input_ids"]
        assert (ids[0], ids[-1]) == (vocabulary[START], vocabulary[END])
        assert len(ids) <= 77


def test_merges_join_whole_words_and_depend_on_nothing_but_the_words() -> None:
    merges = learn_merges(["ab", "abc", "ab"])
    assert merges == learn_merges(["abc", "ab"])
    assert {a + b for a, b in merges} >= {"ab</w>", "abc</w>"}
