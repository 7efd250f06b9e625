"""An encoder without a model, for faults that a real server cannot be made to show on demand."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tokenizers
from tokenizers import models, pre_tokenizers, processors

from gateway.errors import DeadlineExceeded, GatewayError, Overloaded
from gateway.inference.bundle import ImageTransform, Manifest, ModelIdentity, TextTransform, file_sha256
from gateway.inference.triton import Vectors
from gateway.limits.deadline import Deadline

DIM = 8
BUNDLE_ID = "feedfacecafebeef"
PROBE_GREY = 128
BOS_ID, EOS_ID = 200, 201
LOOK_S = 0.02


def unit_rows(rows: npt.NDArray[np.generic]) -> Vectors:
    """Return a unit vector [DIM] a row, made from the row's bytes: equal rows, equal vectors."""
    made = []
    for row in rows:
        seed = int.from_bytes(hashlib.sha256(np.ascontiguousarray(row).tobytes()).digest()[:8], "big")
        made.append(np.random.default_rng(seed).standard_normal(DIM))
    vectors = np.array(made, np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


class FakeEncoder:
    """Deterministic vectors, a settable delay, and a settable failure.

    Attributes:
        delay_s: of every answer; set lower, it is over sooner for those that wait already.
        image_calls: what requests asked; the gateway's own probes, which are all grey or without a word, come when
            they like and are counted in ``probes``.
        text_calls: likewise, of each call the number of rows.
    """

    def __init__(self) -> None:
        self.delay_s = 0.0
        self.failure: GatewayError | None = None
        self.bundle_id = BUNDLE_ID
        self.image_calls = 0
        self.probes = 0
        self.text_calls: list[int] = []
        self.cancelled = 0
        self.under_way: dict[str, int] = {}

    async def encode_images(self, pixels: npt.NDArray[np.uint8], deadline: Deadline) -> Vectors:
        if (pixels == PROBE_GREY).all():
            self.probes += 1
        else:
            self.image_calls += 1
        await self._act()
        return unit_rows(pixels)

    async def encode_texts(self, input_ids: npt.NDArray[np.int64], deadline: Deadline) -> Vectors:
        if np.isin(input_ids, (BOS_ID, EOS_ID)).all():
            self.probes += 1
        else:
            self.text_calls.append(len(input_ids))
        await self._act()
        return unit_rows(input_ids)

    async def served_parameters(self, deadline: Deadline) -> Mapping[str, Mapping[str, str]]:
        with contextlib.suppress(DeadlineExceeded, Overloaded):  # those are of an inference: others can be asked for
            await self._act()
        return {name: {"bundle_id": self.bundle_id} for name in ("clip_image", "clip_text")}

    async def close(self) -> None:
        return None

    async def _act(self) -> None:
        loop = asyncio.get_running_loop()
        begin_s = loop.time()
        try:
            await asyncio.sleep(0)
            while (left_s := begin_s + self.delay_s - loop.time()) > 0:  # noqa: ASYNC110 - a test may change it from another thread
                await asyncio.sleep(min(left_s, LOOK_S))
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.failure is not None:
            raise self.failure


def write_bundle(folder: Path, *, context_length: int = 16) -> Manifest:
    """Write a tokenizer (one id a character) and a manifest into the folder; return the manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {chr(code): code for code in range(32, 127)} | {"<start>": BOS_ID, "<end>": EOS_ID, "<unk>": 202}
    tokenizer = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", BOS_ID), ("<end>", EOS_ID)]
    )
    path = folder / "tokenizer.json"
    tokenizer.save(str(path))
    manifest = Manifest(
        bundle_id=BUNDLE_ID,
        model=ModelIdentity("fake", "0", demo=True, random=False),
        precision="fp32",
        device="cpu",
        embedding_dim=DIM,
        logit_scale=5.0,  # low, so that no score of random vectors is exactly 0 or 1
        image=ImageTransform(32, 32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        text=TextTransform(context_length, (8, context_length), BOS_ID, EOS_ID, EOS_ID, file_sha256(path)),
        image_max_batch=4,
        text_max_batch=4,
        templates=("{}",),
        negatives=("other",),
        parity={},
        checksums={},
        exported_with={},
    )
    (folder / "manifest.json").write_text(manifest.to_json())
    return manifest
