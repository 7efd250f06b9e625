"""A moderator on the real steps of an image, in threads, and on a real SQLite store.

The encoder answers how red and how green an image is, so that scores can be computed by hand: of the policies that
``tests/moderation/test_verdicts.py`` makes gore is green, what is red is calm, and yellow is an even chance.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import tempfile
from concurrent.futures import Executor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from gateway.decoding.decoder import DecodeLimits
from gateway.decoding.pdq import PerceptualHash, PerceptualHasher
from gateway.decoding.workers.threads import DecodeThreads
from gateway.fetching.image_source import ImageRequest, ImageSource, Upload
from gateway.hash_matching.refresher import ListRefresher
from gateway.inference.explanation import Explainer
from gateway.inference.triton import Vectors
from gateway.limits.admission import Admission, AdmissionLimits, Reservation
from gateway.limits.deadline import Deadline
from gateway.limits.memory_budget import Budgets, MemoryBudget
from gateway.moderation.binding import BoundPolicy
from gateway.moderation.decision_log import DecisionLog
from gateway.moderation.explanation import explain_category
from gateway.moderation.moderator import LogRules, Moderated, Moderator, RequestOrigin
from gateway.moderation.rollout import Judges
from gateway.observability.metrics import Metrics
from gateway.pipeline import Pipeline
from gateway.store.audit import Actor
from gateway.store.decisions import DecisionFilter, DecisionRecord
from gateway.store.lists import HashList
from tests.moderation.test_verdicts import LN_3, bound
from tests.support.fake_encoder import FakeEncoder, write_bundle
from tests.support.stores import Store
from tests.support.waiting import UNTIL_S

RED, GREEN, YELLOW = (255, 0, 0), (0, 255, 0), (255, 255, 0)
SIDE_PX = 32
MIB = 1 << 20
MAP_GRID = 4
ORIGIN = RequestOrigin("user-1", "request-1", "key-1")
KEEP_ALL = LogRules(enabled=True, vectors=True, required=False)


def picture(*colors: tuple[int, int, int]) -> bytes:
    """Squares side by side."""
    made = Image.new("RGB", (SIDE_PX * len(colors), SIDE_PX))
    for number, color in enumerate(colors):
        made.paste(color, (SIDE_PX * number, 0, SIDE_PX * (number + 1), SIDE_PX))
    out = io.BytesIO()
    made.save(out, "PNG")
    return out.getvalue()


def animation(*colors: tuple[int, int, int]) -> bytes:
    frames = [Image.new("RGB", (SIDE_PX, SIDE_PX), color) for color in colors]
    out = io.BytesIO()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
    return out.getvalue()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class RedAndGreen(FakeEncoder):
    """Answers [red, green] of each view, unit length."""

    async def encode_images(self, pixels: npt.NDArray[np.uint8], deadline: Deadline) -> Vectors:
        await super().encode_images(pixels, deadline)
        rows = pixels.astype(np.float32).mean(axis=(1, 2))[:, :2]
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def by_color(rgb: Image.Image) -> PerceptualHash:
    """A stand-in for PDQ, whose library is optional: the first pixel's colour; green has most structure."""
    red, green, _ = rgb.getpixel((0, 0))  # type: ignore[misc]  # of mode RGB
    return PerceptualHash(f"{red:02x}{green:02x}" * 16, 60 + green // 10 - red // 10)


@dataclass
class Parts:
    """What a moderator is made of, and with."""

    store: Store
    lists: ListRefresher
    log: DecisionLog
    pipeline: Pipeline
    encoder: RedAndGreen
    store_lost: bool = False

    def moderator(self, rules: LogRules = KEEP_ALL) -> Moderator:
        return Moderator(self.pipeline, self.lists, self.log, rules, "bundle-1", LN_3, Metrics())

    async def moderate(
        self,
        *images: bytes,
        policy: BoundPolicy | None = None,
        shadow: BoundPolicy | None = None,
        rules: LogRules = KEEP_ALL,
        heatmap: bool = False,
        within_s: float = UNTIL_S,
    ) -> list[Moderated]:
        requests = []
        for number, data in enumerate(images):
            held = Reservation(Admission(AdmissionLimits(1, MIB, MIB, 0.0), lambda _: None))
            held.hold(len(data))
            requests.append(ImageRequest(Upload(data, held), f"image-{number}"))
        judges = Judges(policy or bound(views="center"), shadow)
        explain = explain_category(judges, LN_3, None) if heatmap else None
        deadline = Deadline.after(within_s)
        return await self.moderator(rules).moderate(requests, judges, ORIGIN, deadline, explain=explain)

    async def put_list(self, made: HashList, *hashes: str) -> None:
        await self.store.lists.put(made, actor=Actor("me"))
        await self.store.lists.add(made.name, hashes, actor=Actor("me"))
        await self.lists.refresh()

    async def rows(self) -> list[DecisionRecord]:
        """The log, oldest first."""
        page = await self.store.decisions.page(DecisionFilter(), cursor=None, limit=100)
        found = [await self.store.decisions.read(record.id) for record in page.records]
        return [row[0] for row in reversed(found) if row]


async def parts_on(store: Store, threads: Executor, hasher: PerceptualHasher | None, *, loaded: bool) -> Parts:
    """Make the parts; ``loaded``: with the lists read."""
    encoder = RedAndGreen()
    decode = replace(DecodeLimits(), sampled_frames=3)
    with tempfile.TemporaryDirectory() as folder:
        manifest = replace(write_bundle(Path(folder)), logit_scale=1.0)
    source = ImageSource(lambda _: pytest.fail("nothing is fetched"), nullcontext, MIB)
    budgets = Budgets(MemoryBudget(64 * MIB), MemoryBudget(64 * MIB), asyncio.Semaphore(2))
    decoders = DecodeThreads(threads, hasher)
    explainer = Explainer(encoder, threads, MAP_GRID)
    pipeline = Pipeline(
        source,
        encoder,
        explainer,
        manifest,
        decode,
        64,
        threads,
        decoders,
        lambda _: asyncio.sleep(0, 7),
        budgets,
        Metrics(),
    )
    lists = ListRefresher(store.lists)
    if loaded:
        await lists.refresh()
    parts = Parts(store, lists, DecisionLog(store.decisions, lambda: parts.store_lost), pipeline, encoder)
    return parts
