"""The tokenizer of a bundle: one ``tokenizer.json``, and the ids a client must know."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from gateway.inference.bundle import TextTransform
from scripts.export.architectures import VOCABULARY_SIZE
from scripts.export.refusal import ExportRefused
from scripts.export.words import WORDS

BUCKETS = (8, 16, 32)
LEGACY_EOS = 2


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A tokenizer as it is written into the bundle.

    Attributes:
        json: the bytes of ``tokenizer.json``.
        transform: ids and lengths.
    """

    json: bytes
    transform: TextTransform

    def padded(self, texts: list[str], length: int) -> list[list[int]]:
        """Return the ids of ``texts``, each padded to ``length``; a text that is longer is left out."""
        tokenizer = Tokenizer.from_buffer(self.json)
        ids = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
        return [row + [self.transform.pad_id] * (length - len(row)) for row in ids if len(row) <= length]


def folder_tokenizer(folder: Path) -> bytes:
    """Return the bytes of a folder's ``tokenizer.json``, or build them from ``vocab.json`` and ``merges.txt``.

    Raises:
        ExportRefused: neither is there.
    """
    path = folder / "tokenizer.json"
    if path.is_file():
        return path.read_bytes()
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        from transformers import CLIPTokenizer

        built: str = CLIPTokenizer.from_pretrained(folder).backend_tokenizer.to_str()
        return built.encode()
    raise ExportRefused(
        "the model has no tokenizer.json (nor vocab.json with merges.txt): add the tokenizer of the model it was "
        "trained from"
    )


def random_tokenizer() -> bytes:
    """Build a tokenizer with CLIP's rules and 49,408 ids, without its vocabulary file.

    It cuts words as CLIP does. The few hundred words of ``scripts.export.words`` are one token each, as they are in
    CLIP's own vocabulary; any other word falls back on parts of those and on bytes, so that a text of other words has
    more tokens than with CLIP. Ids 0-511 are the bytes (within and at the end of a word), then what the words are
    merged from, then filler that nothing is encoded as; 49406 and 49407 start and end a text.
    """
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    alphabet = sorted(ByteLevel.alphabet())
    tokens = [*alphabet, *(letter + "</w>" for letter in alphabet)]
    merges = merges_of(WORDS)
    tokens = list(dict.fromkeys([*tokens, *("".join(pair) for pair in merges)]))
    tokens += [f"<|filler_{index}|>" for index in range(len(tokens), VOCABULARY_SIZE - 2)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    built: str = CLIPTokenizer(vocab=vocabulary, merges=merges).backend_tokenizer.to_str()
    return built.encode()


def merges_of(words: Sequence[str]) -> list[tuple[str, str]]:
    """Return the merges of byte-pair encoding (Sennrich et al., 2016) that make each word one token, in their order.

    The library's trainer breaks ties by chance, and a bundle's id names its tokenizer; here ties go by the alphabet.
    """
    rows = [[*word[:-1], word[-1] + "</w>"] for word in words]
    merges = []
    while counts := Counter(pair for row in rows for pair in itertools.pairwise(row)):
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append(best)
        for row in rows:
            at = 0
            while at < len(row) - 1:
                if (row[at], row[at + 1]) == best:
                    row[at : at + 2] = ["".join(best)]
                at += 1
    return merges


def read_vocabulary(raw: bytes, *, context_length: int, vocab_size: int, config_eos_id: int) -> Vocabulary:
    """Check a tokenizer against the text tower and find the ids it starts and ends a text with.

    Args:
        raw: bytes of a ``tokenizer.json``.
        context_length: positions of the text tower.
        vocab_size: rows of its token embedding.
        config_eos_id: the end token according to the model's config. Old CLIP configs say 2, with which transformers
            reads the position of the largest id; the two are the same where the end token has the largest id.

    Raises:
        ExportRefused: the tokenizer does not belong to this text tower, or does not frame a text as CLIP's does.
    """
    try:
        tokenizer = Tokenizer.from_buffer(raw)
    except Exception as error:  # noqa: BLE001 - the library raises bare Exception
        raise ExportRefused(f"tokenizer.json cannot be read ({error}): fetch the model again") from None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    empty = tokenizer.encode("").ids
    if (
        len(empty) != 2
        or empty[0] == empty[1]
        or tokenizer.encode("a").ids[:: len(tokenizer.encode("a").ids) - 1] != empty
    ):
        raise ExportRefused(
            "tokenizer.json does not put a start and an end token around a text: take the one of the model it was "
            "trained from"
        )
    bos_id, eos_id = empty
    largest = max(tokenizer.get_vocab(with_added_tokens=True).values())
    if largest >= vocab_size:
        raise ExportRefused(
            f"tokenizer.json has the id {largest} but the text tower knows {vocab_size} tokens: they belong to "
            "different models"
        )
    read_at = largest if config_eos_id == LEGACY_EOS else config_eos_id
    if read_at != eos_id:
        raise ExportRefused(
            f"tokenizer.json ends a text with id {eos_id}, but the model reads its text vector at id {read_at}: "
            "they belong to different models"
        )
    buckets = (*(length for length in BUCKETS if length < context_length), context_length)
    digest = hashlib.sha256(raw).hexdigest()
    return Vocabulary(raw, TextTransform(context_length, buckets, bos_id, eos_id, eos_id, digest))
