"""The path of every image: read bytes → read header → decode and cut views → look up hashes → encode.

``Pipeline._run_steps`` is that path. ``Pipeline._outcome`` wraps it with times, counts and errors: the failure of an
image is a value (``ImageOutcome``) and leaves the other images of the request alone. ``moderation/moderator.py`` puts
policies on top, and ``api/`` turns both into HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import Executor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

import numpy as np
import structlog

from gateway.decoding.decoder import QUICK_BYTES, DecodeLimits, inspect, is_inspected_quickly, sha256_of
from gateway.decoding.headers.header import ImageHeader
from gateway.decoding.occlusion import HeatMap
from gateway.decoding.preprocess import Job, PreprocessedImage, Preprocessor
from gateway.decoding.views import ViewRule, most_views
from gateway.errors import DeadlineExceeded, GatewayError, InternalError, InvalidRequest, Overloaded, StorageUnavailable
from gateway.fetching.image_source import ImageRequest, ImageSource, Source
from gateway.hash_matching.matcher import Match
from gateway.inference.bundle import Manifest
from gateway.inference.explanation import MAP_ROWS, Explain, Explainer
from gateway.inference.heads import Head
from gateway.inference.scoring import Scores, TextMatrix, score
from gateway.inference.triton import Encoder, Vectors
from gateway.limits.deadline import Deadline
from gateway.limits.gather import all_of
from gateway.limits.inference_budget import InferenceBudget, Need
from gateway.limits.memory_budget import Allowance, Budgets
from gateway.observability.metrics import Metrics
from gateway.observability.stage_timer import StageTimer
from gateway.observability.tracing import span
from gateway.store.outages import StoreUnavailable

BUSY_RETRY_AFTER_S = 2
PARTLY_ANALYZED, SHORT, NO_MAP = "frames_sampled", "max_inferences_reached", "heatmap_unavailable"
COLORS, VIEW_BYTES = 3, 12  # a pixel, four times: the array, the request, the request as bytes, gRPC's own buffers

HashLookup = Callable[[PreprocessedImage], tuple[Match, ...]]
"""Returns the entries of hash lists that an image matches."""


@dataclass(frozen=True, slots=True)
class ImageOutcome:
    """One image's vectors or matches, or its error.

    Attributes:
        index: position in the request.
        id: the client's own.
        prepared: the image without its pixels; None with an error.
        vectors: [V, D], one a place; None with an error or a match.
        matches: entries of hash lists; where there are any, the model was not asked.
        short: fewer frames than ``SAMPLED_FRAMES`` were looked at, since the request has no more inferences.
        heat: which part of the image drove its score; None where nobody asked, and where there is none.
        heat_failed: it was asked for and could not be made.
        stills_dropped: stills were asked for, and there was no room for them.
        error: what went wrong.
        elapsed_s: seconds by stage.
    """

    index: int
    id: str | None
    elapsed_s: dict[str, float]
    prepared: PreprocessedImage | None = None
    vectors: Vectors | None = None
    matches: tuple[Match, ...] = ()
    short: bool = False
    heat: HeatMap | None = None
    heat_failed: bool = False
    stills_dropped: bool = False
    error: GatewayError | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """Codes of what was not looked at."""
        partly = self.prepared is not None and self.prepared.info.frames_analyzed < self.prepared.info.frames
        return (PARTLY_ANALYZED,) * partly + (SHORT,) * self.short + (NO_MAP,) * self.heat_failed


@dataclass(frozen=True, slots=True)
class Stills:
    """Stills that are asked for: their longest side, and what takes the room to keep them behind the steps."""

    side_px: int
    room: Allowance


@dataclass(frozen=True, slots=True)
class _Options:
    """Of every image of a request: its views, those ``beside`` the request's, the inferences, what is looked up."""

    rules: frozenset[ViewRule]
    beside: frozenset[ViewRule]
    budget: InferenceBudget
    hash_lookup: HashLookup | None
    explain: Explain | None
    deciding: bool
    stills: Stills | None


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Runs images through the steps.

    Attributes:
        source: gets an image's bytes.
        encoder: pixels → vectors.
        explainer: makes heat maps.
        manifest: the numbers of the model.
        limits: caps of one image.
        max_inferences: cap on views times frames of one request, and on the inferences of its heat maps.
        threads: for slow headers, the SHA-256 of large files, and hash lookups.
        preprocessor: bytes → views, in processes or threads.
        seed_of: gives the seed of what is drawn about a file, under the installation's secret.
        budgets: memory that images may take.
        metrics: where times and counts go.
    """

    source: ImageSource
    encoder: Encoder
    explainer: Explainer
    manifest: Manifest
    limits: DecodeLimits
    max_inferences: int
    threads: Executor
    preprocessor: Preprocessor
    seed_of: Callable[[str], Awaitable[int]]
    budgets: Budgets
    metrics: Metrics

    async def run(
        self,
        images: Sequence[ImageRequest],
        rules: frozenset[ViewRule],
        deadline: Deadline,
        hash_lookup: HashLookup | None = None,
        *,
        explain: Explain | None = None,
        beside: frozenset[ViewRule] = frozenset(),
        deciding: bool = False,
        stills: Stills | None = None,
    ) -> list[ImageOutcome]:
        """Run all images side by side.

        Args:
            images: the images.
            rules: which views are cut; a view that two rules share is cut once.
            deadline: of the whole request.
            hash_lookup: runs in a thread before the model is asked; an image that it matches gets no vectors.
            explain: says what a heat map is made of, once an image has its vectors. A failure of the map leaves the
                image's outcome as it is.
            beside: views that the client did not ask for: cut too, not counted in its inferences.
            deciding: decode every pixel, as viewers do, look at transparent images on white and on black, and compute
                perceptual hashes where they are installed.
            stills: make them of what is looked at; not of what is on a hash list.

        Raises:
            InvalidRequest: the heat maps need more inferences than a request has.
        """
        needed = len(images) * self.explainer.inferences
        if explain is not None and needed > self.max_inferences:
            raise InvalidRequest(
                f"The heat maps of {len(images)} images need {needed} inferences and a request has "
                f"{self.max_inferences}: send fewer images at a time."
            )
        budget = InferenceBudget(self.max_inferences, len(images))
        options = _Options(rules, beside, budget, hash_lookup, explain, deciding, stills)
        return await all_of(self._outcome(index, image, options, deadline) for index, image in enumerate(images))

    async def _run_steps(
        self, index: int, image: ImageRequest, options: _Options, deadline: Deadline, timer: StageTimer
    ) -> ImageOutcome:
        """Take one image through all steps.

        The file counts as an upload until its turn to be decoded, then as memory of decoding. The memory of its views
        is held until the model has answered, that of a heat map with it. Every image takes them in this order, so that
        no two can wait for each other.
        """
        async with AsyncExitStack() as view_memory:
            async with overloaded_after(deadline), AsyncExitStack() as decoding:
                async with self.source.room(image.source):
                    data = await self._read_bytes(image.source, timer)
                    header, digest = await self._read_header(data, timer)
                    frames = min(header.frames, self.limits.sampled_frames)
                    grounds = 2 if options.deciding and header.transparent else 1
                    need = Need(grounds * most_views(options.rules, header.width, header.height), frames)
                    granted = await options.budget.frames(index, need)
                    job = await self._decode_job(data, header, options, granted, digest)
                    held = self._view_bytes(job, explained=options.explain is not None)
                    await view_memory.enter_async_context(self.budgets.views.hold(held, deadline))
                    await decoding.enter_async_context(self.budgets.decode.hold(job.decode_bytes + len(data), deadline))
                    await decoding.enter_async_context(self.budgets.turns)
                prepared = await self.preprocessor.prepare(job, timer)
                if digest is not None:
                    prepared = replace(prepared, info=replace(prepared.info, sha256=await digest))
                del data, job  # the file: the model may take long
            async with deadline.enforced():
                matches = await self._look_up_hashes(prepared, options.hash_lookup)
                vectors = None if matches else await self._encode(prepared, deadline, timer)
            heat = None
            if explained := options.explain is not None and vectors is not None:
                with timer.stage("heatmap"):
                    heat = await self.explainer.heat_map(options.explain, prepared, vectors, deadline)
        kept = () if matches else prepared.stills
        dropped = options.stills is not None and not options.stills.room(sum(2 * len(still.jpeg) for still in kept))
        prepared = replace(prepared, pixels=prepared.pixels[:0].copy(), stills=() if dropped else kept)
        return ImageOutcome(
            index,
            image.id,
            timer.elapsed_s,
            prepared,
            vectors,
            matches,
            short=granted < frames,
            heat=heat,
            heat_failed=explained and heat is None,
            stills_dropped=dropped,
        )

    async def _outcome(self, index: int, image: ImageRequest, options: _Options, deadline: Deadline) -> ImageOutcome:
        """Run the steps of one image; count it, or return its error."""
        timer = StageTimer()
        try:
            with span("image", {"clip.image": index}):
                outcome = await self._run_steps(index, image, options, deadline, timer)
        except GatewayError as error:
            return ImageOutcome(index, image.id, timer.elapsed_s, error=error)
        except Exception:  # noqa: BLE001 - a bug that one image triggers must not fail the others
            structlog.get_logger("pipeline").exception("unexpected failure", index=index)
            bug = InternalError("The service failed on this image; nothing was decided.")
            return ImageOutcome(index, image.id, timer.elapsed_s, error=bug)
        finally:
            options.budget.leave(index)
        self.metrics.observe_stages(timer.elapsed_s)
        if outcome.prepared is not None:
            info = outcome.prepared.info
            self.metrics.observe_image(info.format, info.width, info.height)
        return outcome

    async def _read_bytes(self, source: Source, timer: StageTimer) -> bytes:
        with timer.stage("intake"):
            return await self.source.read(source)

    async def _read_header(self, data: bytes, timer: StageTimer) -> tuple[ImageHeader, asyncio.Future[str] | None]:
        """Return the header, and of a large file or an animation its SHA-256 to come, computed in a thread meanwhile.

        Another file is hashed with its decoding: a thread would take longer. Headers are read in this process, since
        memory can be granted only once the size of the image is known.
        """
        with timer.stage("decode"):
            if is_inspected_quickly(data):
                return inspect(data, self.limits), None
            loop = asyncio.get_running_loop()
            reading = loop.run_in_executor(self.threads, inspect, data, self.limits)
            digest = loop.run_in_executor(self.threads, sha256_of, data) if len(data) > QUICK_BYTES else None
            header = await reading
            if header.frames > 1 and digest is None:
                digest = loop.run_in_executor(self.threads, sha256_of, data)
            return header, digest

    async def _decode_job(
        self, data: bytes, header: ImageHeader, options: _Options, frames: int, digest: asyncio.Future[str] | None
    ) -> Job:
        return Job(
            data=data,
            header=header,
            limits=replace(self.limits, sampled_frames=frames),
            rules=options.rules | options.beside,
            size_px=self.manifest.image.size_px,
            resize_px=self.manifest.image.resize_px,
            seed=await self._seed(await digest) if header.frames > 1 and digest is not None else 0,
            whole=options.deciding,
            fingerprint=options.deciding and self.preprocessor.fingerprints,
            hashed=digest is None,
            both_grounds=options.deciding and header.transparent,
            still_side_px=options.stills.side_px if options.stills is not None else 0,
        )

    async def _seed(self, digest: str) -> int:
        try:
            return await self.seed_of(digest)
        except StoreUnavailable:
            raise StorageUnavailable(
                "The store cannot be reached and frames cannot be chosen without it; nothing was decided.",
                retry_after_s=BUSY_RETRY_AFTER_S,
            ) from None

    def _view_bytes(self, job: Job, *, explained: bool) -> int:
        """Return the most bytes that an image's views can take: while they are encoded, or beside those of a map."""
        views = most_views(job.rules, job.header.width, job.header.height) * (1 + job.both_grounds)
        rows = views * job.limits.sampled_frames
        if explained:
            rows = max(rows, MAP_ROWS + rows * COLORS // VIEW_BYTES + 1)
        return rows * job.size_px**2 * VIEW_BYTES + 2 * job.still_bytes  # as they were read, and each by itself

    async def _look_up_hashes(self, prepared: PreprocessedImage, hash_lookup: HashLookup | None) -> tuple[Match, ...]:
        if hash_lookup is None:
            return ()
        return await asyncio.get_running_loop().run_in_executor(self.threads, hash_lookup, prepared)

    async def _encode(self, prepared: PreprocessedImage, deadline: Deadline, timer: StageTimer) -> Vectors:
        with timer.stage("encode"):
            return await self.encoder.encode_images(prepared.pixels, deadline)

    def score(self, outcome: ImageOutcome, text: TextMatrix | Head) -> Scores | None:
        """Return what an image's vectors say about the labels of a text or a head; None where there are none."""
        if outcome.vectors is None:
            return None
        timer = StageTimer()
        with timer.stage("score"):
            scores = score(outcome.vectors, text, self.manifest.logit_scale)
        self.metrics.observe_stages(timer.elapsed_s)
        outcome.elapsed_s["score"] = outcome.elapsed_s.get("score", 0.0) + timer.elapsed_s["score"]
        return scores

    async def embed_image(self, image: ImageRequest, deadline: Deadline) -> Vectors:
        """Return the vector [D] of an image's centre view (of an animation: the mean over its frames, unit length).

        Raises:
            GatewayError: the image or the service failed.
        """
        (outcome,) = await self.run([image], frozenset({"center"}), deadline)
        if outcome.vectors is None:
            raise outcome.error or InternalError("The service failed on this image.")
        mean = outcome.vectors.mean(axis=0)
        return np.asarray(mean / np.linalg.norm(mean), np.float32)


@asynccontextmanager
async def overloaded_after(deadline: Deadline) -> AsyncIterator[None]:
    """End what runs inside at the deadline, and say that the service is busy.

    Fetching and decoding have their own, shorter limits: what takes longer waits for other requests.

    Raises:
        Overloaded: the deadline passed.
    """
    try:
        async with deadline.enforced():
            yield
    except DeadlineExceeded:
        raise Overloaded(
            "The service is busy with other images; nothing was decided.", retry_after_s=BUSY_RETRY_AFTER_S
        ) from None
