"""The path of every image: read bytes → read header → decode and cut views → look up hashes → encode.

``Pipeline._run_steps`` is that path. ``Pipeline._outcome`` wraps it with times, counts and errors: the failure of an
image is a value (``ImageOutcome``) and leaves the other images of the request alone. ``moderation/moderator.py`` puts
policies on top, and ``api/`` turns both into HTTP.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

import numpy as np
import structlog

from gateway.decoding.decoder import QUICK_BYTES, DecodeLimits, inspect, is_inspected_quickly, sha256_of
from gateway.decoding.headers.header import ImageHeader
from gateway.decoding.preprocess import Job, PreprocessedImage, Preprocessor
from gateway.decoding.views import ViewRule, count_views
from gateway.errors import DeadlineExceeded, GatewayError, InternalError, InvalidRequest, Overloaded
from gateway.fetching.image_source import ImageRequest, ImageSource, Source
from gateway.hash_matching.matcher import Match
from gateway.inference.bundle import Manifest
from gateway.inference.scoring import Scores, TextMatrix, score
from gateway.inference.triton import Encoder, Vectors
from gateway.limits.deadline import Deadline
from gateway.limits.gather import all_of
from gateway.limits.memory_budget import Budgets
from gateway.observability.metrics import Metrics
from gateway.observability.stage_timer import StageTimer

MOST_VIEWS = {"center": 1, "full": 1, "tiles": 6}  # full and at most 5 squares
BUSY_RETRY_AFTER_S = 2
VIEW_BYTES = 12  # three bytes a pixel, four times: the array, the request, the request as bytes, gRPC's own buffers

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
        error: what went wrong.
        elapsed_s: seconds by stage.
    """

    index: int
    id: str | None
    elapsed_s: dict[str, float]
    prepared: PreprocessedImage | None = None
    vectors: Vectors | None = None
    matches: tuple[Match, ...] = ()
    error: GatewayError | None = None


@dataclass(frozen=True, slots=True)
class _Options:
    """Of every image of a request.

    Attributes:
        rules: its views.
        inferences: views times frames that it may take.
        hash_lookup: asked before the model.
        fingerprint: compute perceptual hashes.
        both_grounds: look at transparent images on black too.
    """

    rules: frozenset[ViewRule]
    inferences: int
    hash_lookup: HashLookup | None
    fingerprint: bool
    both_grounds: bool


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Runs images through the steps.

    Attributes:
        source: gets an image's bytes.
        encoder: pixels → vectors.
        manifest: the numbers of the model.
        limits: caps of one image.
        max_inferences: cap on views times frames of one request.
        threads: for slow headers, the SHA-256 of large files, and hash lookups.
        preprocessor: bytes → views, in processes or threads.
        budgets: memory that images may take.
        metrics: where times and counts go.
    """

    source: ImageSource
    encoder: Encoder
    manifest: Manifest
    limits: DecodeLimits
    max_inferences: int
    threads: Executor
    preprocessor: Preprocessor
    budgets: Budgets
    metrics: Metrics

    async def run(
        self,
        images: Sequence[ImageRequest],
        rules: frozenset[ViewRule],
        deadline: Deadline,
        hash_lookup: HashLookup | None = None,
        *,
        fingerprint: bool = False,
        both_grounds: bool = False,
    ) -> list[ImageOutcome]:
        """Run all images side by side.

        Args:
            images: the images.
            rules: which views are cut; a view that two rules share is cut once.
            deadline: of the whole request.
            hash_lookup: runs in a thread before the model is asked; an image that it matches gets no vectors.
            fingerprint: compute perceptual hashes where they are installed; that decodes a large image in full size.
            both_grounds: look at transparent images on white and on black; otherwise on white.

        Raises:
            InvalidRequest: more views than a request may have.
        """
        options = _Options(rules, self._inferences_each(len(images), rules), hash_lookup, fingerprint, both_grounds)
        return await all_of(self._outcome(index, image, options, deadline) for index, image in enumerate(images))

    async def _run_steps(
        self, image: ImageRequest, options: _Options, deadline: Deadline, timer: StageTimer
    ) -> tuple[PreprocessedImage, tuple[Match, ...], Vectors | None]:
        """Take one image through all steps.

        The file counts as an upload until its turn to be decoded, then as memory of decoding. The memory of its views
        is held until the model has answered. Every image takes them in this order, so that no two can wait for each
        other.
        """
        async with AsyncExitStack() as view_memory:
            async with overloaded_after(deadline), AsyncExitStack() as decoding:
                async with self.source.room(image.source):
                    data = await self._read_bytes(image.source, timer)
                    header, digest = await self._read_header(data, timer)
                    job = self._decode_job(data, header, options, hashed=digest is None)
                    await view_memory.enter_async_context(self.budgets.views.hold(self._view_bytes(job), deadline))
                    needed = job.decode_bytes + len(data)
                    await decoding.enter_async_context(self.budgets.decode.hold(needed, deadline))
                    await decoding.enter_async_context(self.budgets.turns)
                prepared = await self.preprocessor.prepare(job, timer)
                if digest is not None:
                    prepared = replace(prepared, info=replace(prepared.info, sha256=await digest))
                del data, job  # the file: the model may take long
            async with deadline.enforced():
                matches = await self._look_up_hashes(prepared, options.hash_lookup)
                vectors = None if matches else await self._encode(prepared, deadline, timer)
        return replace(prepared, pixels=prepared.pixels[:0].copy()), matches, vectors

    async def _outcome(self, index: int, image: ImageRequest, options: _Options, deadline: Deadline) -> ImageOutcome:
        """Run the steps of one image; count it, or return its error."""
        timer = StageTimer()
        try:
            prepared, matches, vectors = await self._run_steps(image, options, deadline, timer)
        except GatewayError as error:
            return ImageOutcome(index, image.id, timer.elapsed_s, error=error)
        except Exception:  # noqa: BLE001 - a bug that one image triggers must not fail the others
            structlog.get_logger("pipeline").exception("unexpected failure", index=index)
            bug = InternalError("The service failed on this image; nothing was decided.")
            return ImageOutcome(index, image.id, timer.elapsed_s, error=bug)
        self.metrics.observe_stages(timer.elapsed_s)
        self.metrics.images.labels(prepared.info.format).inc()
        return ImageOutcome(index, image.id, timer.elapsed_s, prepared, vectors, matches)

    async def _read_bytes(self, source: Source, timer: StageTimer) -> bytes:
        with timer.stage("intake"):
            return await self.source.read(source)

    async def _read_header(self, data: bytes, timer: StageTimer) -> tuple[ImageHeader, asyncio.Future[str] | None]:
        """Return the header, and of a large file its SHA-256 to come, computed in a thread meanwhile.

        A small file is hashed with its decoding: a thread would take longer. Headers are read in this process, by
        Python that calls no image library: memory can be granted only once the size of the image is known.
        """
        with timer.stage("decode"):
            if is_inspected_quickly(data):
                return inspect(data, self.limits), None
            loop = asyncio.get_running_loop()
            header = loop.run_in_executor(self.threads, inspect, data, self.limits)
            large = len(data) > QUICK_BYTES
            digest = loop.run_in_executor(self.threads, sha256_of, data) if large else None
            return await header, digest

    def _decode_job(self, data: bytes, header: ImageHeader, options: _Options, *, hashed: bool) -> Job:
        both_grounds = options.both_grounds and header.transparent
        frames = frames_within(options.inferences, options.rules, header, both_grounds=both_grounds)
        return Job(
            data=data,
            header=header,
            limits=replace(self.limits, sampled_frames=min(frames, self.limits.sampled_frames)),
            rules=options.rules,
            size_px=self.manifest.image.size_px,
            resize_px=self.manifest.image.resize_px,
            seed=secrets.randbits(32),
            fingerprint=options.fingerprint and self.preprocessor.fingerprints,
            hashed=hashed,
            both_grounds=both_grounds,
        )

    def _view_bytes(self, job: Job) -> int:
        """Return the most bytes that an image's views can take."""
        frames = min(job.header.frames, job.limits.sampled_frames)
        return most_views(job.rules) * (1 + job.both_grounds) * frames * job.size_px**2 * VIEW_BYTES

    async def _look_up_hashes(self, prepared: PreprocessedImage, hash_lookup: HashLookup | None) -> tuple[Match, ...]:
        if hash_lookup is None:
            return ()
        return await asyncio.get_running_loop().run_in_executor(self.threads, hash_lookup, prepared)

    async def _encode(self, prepared: PreprocessedImage, deadline: Deadline, timer: StageTimer) -> Vectors:
        with timer.stage("encode"):
            return await self.encoder.encode_images(prepared.pixels, deadline)

    def score(self, outcome: ImageOutcome, text: TextMatrix) -> Scores | None:
        """Return what an image's vectors say about the text's labels; None where there are none."""
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

    def _inferences_each(self, images: int, rules: frozenset[ViewRule]) -> int:
        """Return how many views times frames of each image are analyzed at most.

        Raises:
            InvalidRequest: even one frame an image could be too many inferences.
        """
        views = most_views(rules)
        each = self.max_inferences // images
        if each < views:
            raise InvalidRequest(
                f"These views may need {views} inferences an image and a request has {self.max_inferences}: "
                f"send at most {self.max_inferences // views} images."
            )
        return each


def frames_within(inferences: int, rules: frozenset[ViewRule], header: ImageHeader, *, both_grounds: bool) -> int:
    """Return how many frames of an image are analyzed.

    Args:
        inferences: that the image may take.
        rules: which views are cut.
        header: of the image.
        both_grounds: each view is looked at twice.

    Raises:
        InvalidRequest: not even one.
    """
    if not both_grounds:
        return inferences // most_views(rules)
    views = sum(count_views(rule, header.width, header.height) for rule in distinct(rules))
    if inferences < 2 * views:
        raise InvalidRequest(
            f"An image with transparent parts is looked at on white and on black, which takes {2 * views} inferences, "
            f"and this request has {inferences} for each image; send it with fewer others."
        )
    return inferences // (2 * views)


def distinct(rules: frozenset[ViewRule]) -> frozenset[ViewRule]:
    """Return rules that cut no view twice: ``tiles`` has the one of ``full``."""
    return rules - ({"full"} if "tiles" in rules else set())


def most_views(rules: frozenset[ViewRule]) -> int:
    """Return how many squares these rules may cut from a frame."""
    return sum(MOST_VIEWS[rule] for rule in distinct(rules))


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
