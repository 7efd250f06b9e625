"""CLIP's own tokenizer, made of OpenAI's merges."""

from __future__ import annotations

import gzip
from pathlib import Path

from gateway.inference.bundle import TextTransform, file_sha256
from gateway.inference.tokenizer import Tokenizer


def real_tokenizer(golden: Path, folder: Path) -> Tokenizer:
    """CLIP's tokenizer.json, made by transformers from OpenAI's merges as a hub's CLIP has it."""
    from transformers import CLIPTokenizerFast
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    lines = gzip.decompress((golden / "bpe_simple_vocab_16e6.txt.gz").read_bytes()).decode().split("\n")
    merges = [tuple(line.split()) for line in lines[1 : 49_152 - 256 - 2 + 1]]
    symbols = list(bytes_to_unicode().values())
    tokens = [*symbols, *(symbol + "</w>" for symbol in symbols), *("".join(pair) for pair in merges)]
    vocabulary = {token: number for number, token in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}
    fast = CLIPTokenizerFast(vocab=vocabulary, merges=merges)
    path = folder / "tokenizer.json"
    fast.backend_tokenizer.save(str(path))
    transform = TextTransform(77, (8, 16, 32, 77), 49406, 49407, 49407, file_sha256(path))
    return Tokenizer(path, transform)
