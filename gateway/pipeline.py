"""The request path: intake → decode → views → encode → score, for every image by itself.

An image's result is a value (``ImageOutcome``): vectors or an error, never both. ``classify`` scores the vectors;
``moderator.py`` puts policies on top. The web layer turns both into HTTP.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import structlog

from gateway.decoding.decoder import QUICK_BYTES, DecodeLimits, inspect, is_inspected_quickly, sha256_of
from gateway.decoding.preprocess import Job, PreprocessedImage, Preprocessor
from gateway.decoding.views import ViewRule
from gateway.errors import DeadlineExceeded, GatewayError, InternalError, InvalidRequest, Overloaded
from gateway.fetching.image_source import ImageRequest, ImageSource
from gateway.hash_matching.matcher import Match
from gateway.inference.scoring import Scores, TextMatrix, score
from gateway.inference.triton import Encoder, Vectors
from gateway.limits.admission import Budgets
from gateway.limits.deadline import Deadline
from gateway.limits.gather import all_of
from gateway.observability.metrics import Metrics
from gateway.observability.stage_timer import StageTimer

MOST_VIEWS = {"center": 1, "full": 1, "tiles": 6}  # full and at most 5 squares
BUSY_RETRY_AFTER_S = 2
VIEW_BYTES = 12  # three bytes a pixel: in the array, the request, that as bytes, and gRPC's own buffers


@dataclass(frozen=True, slots=True)
class PipelineLimits:
    """Caps of the request path.

    Attributes:
        decode: caps of one image.
        max_inferences: views times frames of one request.
        image_size_px: side of the square the model reads.
        image_resize_px: what the short side is brought to before the centre crop.
        logit_scale: factor on the cosine similarity.
    """

    decode: DecodeLimits
    max_inferences: int
    image_size_px: int
    image_resize_px: int
    logit_scale: float


@dataclass(frozen=True, slots=True)
class ImageOutcome:
    """One image's outcome: what was seen, or the error.

    Attributes:
        index: position in the request.
        id: the client's own.
        prepared: the image, its pixels gone once the model has seen them; None with an error.
        vectors: [V, D], one a place; None with an error, and where the image was recognised.
        error: what went wrong.
        elapsed_s: seconds by stage.
        matches: what the image was recognised as; then the model was not asked.
    """

    index: int
    id: str | None
    prepared: PreprocessedImage | None
    vectors: Vectors | None
    error: GatewayError | None
    elapsed_s: dict[str, float]
    matches: tuple[Match, ...] = ()


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What is asked of every image of a request: views, frames of an animation at most, and whether to hash them."""

    rules: frozenset[ViewRule]
    frames: int
    fingerprint: bool


Recognise = Callable[[PreprocessedImage], tuple[Match, ...]]
"""Asked which known images an image is."""


def most_views(rules: frozenset[ViewRule]) -> int:
    """Return how many squares these rules may cut from a frame."""
    return sum(MOST_VIEWS[rule] for rule in rules - ({"full"} if "tiles" in rules else set()))


def too_busy() -> Overloaded:
    """Return the error of an image whose turn to be fetched, decoded and cut did not end in time.

    Fetching and decoding have their own, shorter limits: what took longer is other requests' work.
    """
    return Overloaded("The service is busy with other images; nothing was decided.", retry_after_s=BUSY_RETRY_AFTER_S)


class Pipeline:
    """Runs requests; holds no state of its own but its parts.

    Args:
        intake: source → bytes.
        encoder: pixels → vectors.
        limits: caps and the model's numbers.
        threads: where headers are read that are not read quickly, large files hashed, and known images recognised.
        preparer: bytes → squares, in processes or threads.
        budgets: memory that images may take.
        metrics: where times and counts go.
    """

    def __init__(
        self,
        intake: ImageSource,
        encoder: Encoder,
        limits: PipelineLimits,
        threads: Executor,
        preparer: Preprocessor,
        budgets: Budgets,
        metrics: Metrics,
    ) -> None:
        self._intake = intake
        self._encoder = encoder
        self._limits = limits
        self._threads = threads
        self._preparer = preparer
        self._budgets = budgets
        self._metrics = metrics
        self._log = structlog.get_logger("pipeline")

    async def look(
        self,
        images: Sequence[ImageRequest],
        rules: frozenset[ViewRule],
        deadline: Deadline,
        recognise: Recognise | None = None,
        *,
        fingerprint: bool = False,
    ) -> list[ImageOutcome]:
        """Take every image up to its vectors, side by side; each one's failure stays its own.

        Args:
            images: the images.
            rules: which views are cut; those that two rules share are cut once.
            deadline: of the whole request.
            recognise: asked before the model, in a thread; an image that it recognises gets no vectors.
            fingerprint: hash what is to be seen, where that can be done; it takes all pixels of a large image.

        Raises:
            InvalidRequest: more views than a request may have.
        """
        frames = self._frames_each(len(images), rules)
        wanted = _Wanted(rules, frames, fingerprint)
        return await all_of(self._look(index, image, wanted, deadline, recognise) for index, image in enumerate(images))

    def score(self, look: ImageOutcome, text: TextMatrix) -> Scores | None:
        """Return what a look's vectors say about the text's labels; None where there are none."""
        if look.vectors is None:
            return None
        timer = StageTimer()
        with timer.stage("score"):
            scores = score(look.vectors, text, self._limits.logit_scale)
        self._metrics.observe_stages(timer.elapsed_s)
        look.elapsed_s["score"] = look.elapsed_s.get("score", 0.0) + timer.elapsed_s["score"]
        return scores

    async def embed_image(self, image: ImageRequest, deadline: Deadline) -> Vectors:
        """Return the vector [D] of an image's centre view (of an animation: the mean over its frames, unit length).

        Raises:
            GatewayError: the image or the service failed.
        """
        (look,) = await self.look([image], frozenset({"center"}), deadline)
        if look.vectors is None:
            raise look.error or InternalError("The service failed on this image.")
        mean = look.vectors.mean(axis=0)
        return np.asarray(mean / np.linalg.norm(mean), np.float32)

    async def _look(
        self,
        index: int,
        image: ImageRequest,
        wanted: _Wanted,
        deadline: Deadline,
        recognise: Recognise | None,
    ) -> ImageOutcome:
        timer = StageTimer()
        vectors: Vectors | None = None
        prepared: PreprocessedImage | None = None
        matches: tuple[Match, ...] = ()
        view_bytes = 0
        try:
            async with deadline.enforced():
                async with self._intake.room(image.source):
                    job, digest = await self._opened(image, wanted, timer)
                    squares = most_views(wanted.rules) * min(job.header.frames, wanted.frames)
                    most_bytes = squares * job.size_px**2 * VIEW_BYTES
                    view_bytes = await self._budgets.views.take_by(deadline, most_bytes)  # kept until they are seen
                    async with self._budgets.decode.hold(job.decode_bytes, deadline):
                        taken = partial(self._intake.drop, image.source)
                        prepared = await self._preparer.prepare(job, timer, taken)
                    if digest is not None:
                        prepared = replace(prepared, info=replace(prepared.info, sha256=await digest))
                    del job  # and with it the file: the model may be busy for long
                if recognise is not None:
                    matches = await asyncio.get_running_loop().run_in_executor(self._threads, recognise, prepared)
                if not matches:
                    with timer.stage("encode"):
                        vectors = await self._encoder.encode_images(prepared.pixels, deadline)
                prepared = replace(prepared, pixels=prepared.pixels[:0].copy())  # seen: not kept for the answer
        except DeadlineExceeded as late:
            return ImageOutcome(index, image.id, None, None, late if prepared else too_busy(), timer.elapsed_s)
        except GatewayError as error:
            return ImageOutcome(index, image.id, None, None, error, timer.elapsed_s)
        except Exception:  # noqa: BLE001 - a bug that one image brings out must not take its neighbours along
            self._log.exception("unexpected failure", index=index)
            bug = InternalError("The service failed on this image; nothing was decided.")
            return ImageOutcome(index, image.id, None, None, bug, timer.elapsed_s)
        finally:
            self._budgets.views.give(view_bytes)
        self._metrics.observe_stages(timer.elapsed_s)
        self._metrics.images.labels(prepared.info.format).inc()
        return ImageOutcome(index, image.id, prepared, vectors, None, timer.elapsed_s, matches)

    async def _opened(
        self, image: ImageRequest, wanted: _Wanted, timer: StageTimer
    ) -> tuple[Job, asyncio.Future[str] | None]:
        """Return what is to be done with an image, once its header has been read, and its digest on the way.

        Of a large image that is: it is hashed in a thread while it is read and decoded. A small one is hashed with
        its decoding, and None is returned: to ask a thread would take longer.

        That is done in this process: the header has to be known before memory is granted, and its readers are bounded
        Python that call into no image library. What does runs where ``preparer`` puts it. Every image takes the
        memory budgets in the same order, so that no two can wait for each other.
        """
        with timer.stage("intake"):
            data = await self._intake.read(image.source)
        limits = self._limits.decode
        with timer.stage("decode"):
            digest = None
            if is_inspected_quickly(data):
                header = inspect(data, limits)
            else:
                loop = asyncio.get_running_loop()
                reading = loop.run_in_executor(self._threads, inspect, data, limits)
                if len(data) > QUICK_BYTES:
                    digest = loop.run_in_executor(self._threads, sha256_of, data)
                header = await reading
        job = Job(
            data=data,
            header=header,
            limits=limits if wanted.frames == limits.sampled_frames else replace(limits, sampled_frames=wanted.frames),
            rules=wanted.rules,
            size_px=self._limits.image_size_px,
            resize_px=self._limits.image_resize_px,
            seed=secrets.randbits(32),
            fingerprint=wanted.fingerprint and self._preparer.fingerprints,
            hashed=digest is None,
        )
        return job, digest

    def _frames_each(self, images: int, rules: frozenset[ViewRule]) -> int:
        """Return how many frames of each image are looked at.

        Raises:
            InvalidRequest: even one frame an image could be too many inferences.
        """
        views = most_views(rules)
        each = self._limits.max_inferences // (images * views)
        if each < 1:
            raise InvalidRequest(
                f"These views may need {views} inferences an image and a request has {self._limits.max_inferences}: "
                f"send at most {self._limits.max_inferences // views} images."
            )
        return min(each, self._limits.decode.sampled_frames)
