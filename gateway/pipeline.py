"""The request path: intake → decode → views → encode → score, for every picture by itself.

What a request asks is a value (``Question``), what a picture got is a value (``Judgement``); a failed picture is a
judgement with an error and never with scores. The web layer turns both into HTTP.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import structlog

from gateway.concurrency import all_of
from gateway.deadline import Deadline
from gateway.decode import DecodeLimits, ImageInfo, inspect, open_image
from gateway.encoder import Encoder, Vectors
from gateway.errors import GatewayError, InternalError, InvalidRequest
from gateway.image_header import ImageHeader
from gateway.intake import ImageRequest, Intake
from gateway.labels import LabelRequest
from gateway.limits import MemoryBudget
from gateway.scoring import Scores, TextMatrix, score
from gateway.telemetry import Metrics, Stopwatch
from gateway.text_vectors import TextVectors
from gateway.views import ViewRule, cut_views

MOST_VIEWS = {"center": 1, "full": 1, "tiles": 6}  # full and at most 5 squares
FEWEST_FRAMES = 3  # first, last and one between: less of an animation is not called looked at


@dataclass(frozen=True, slots=True)
class PipelineLimits:
    """Caps of the request path.

    Attributes:
        decode: caps of one picture.
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
class Question:
    """What to ask about each picture."""

    labels: LabelRequest
    views: ViewRule


@dataclass(frozen=True, slots=True)
class ViewPlace:
    """Where a row of pixels was cut: view name, box in pixels of the upright picture, time of the frame."""

    name: str
    box: tuple[int, int, int, int]
    frame_ms: int | None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A picture ready for the model: uint8 pixels [V, S, S, 3] and where each row comes from."""

    info: ImageInfo
    places: tuple[ViewPlace, ...]
    pixels: npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the model says about one picture, before anybody decides."""

    info: ImageInfo
    places: tuple[ViewPlace, ...]
    vectors: Vectors
    scores: Scores


@dataclass(frozen=True, slots=True)
class Judgement:
    """One picture's outcome: evidence or error, never both."""

    index: int
    id: str | None
    evidence: Evidence | None
    error: GatewayError | None
    elapsed_s: dict[str, float]


class Pipeline:
    """Runs requests; holds no state of its own but its parts.

    Args:
        intake: source → bytes.
        encoder: pixels → vectors.
        text: words → matrix.
        limits: caps and the model's numbers.
        decoders: threads that decode and resize.
        memory: budget of pictures being decoded.
        metrics: where times and counts go.
    """

    def __init__(
        self,
        intake: Intake,
        encoder: Encoder,
        text: TextVectors,
        limits: PipelineLimits,
        decoders: Executor,
        memory: MemoryBudget,
        metrics: Metrics,
    ) -> None:
        self._intake = intake
        self._encoder = encoder
        self._text = text
        self._limits = limits
        self._decoders = decoders
        self._memory = memory
        self._metrics = metrics
        self._log = structlog.get_logger("pipeline")

    async def classify(
        self, images: Sequence[ImageRequest], question: Question, deadline: Deadline
    ) -> tuple[TextMatrix, list[Judgement], float]:
        """Judge every picture; returns the text side, one judgement a picture in order, and the text side's seconds.

        Raises:
            RequestError: the question itself cannot be asked.
            ServiceError: the text vectors could not be computed.
        """
        frames = self._frames_each(len(images), question.views)
        watch = Stopwatch()
        with watch.stage("text"):
            text = await self._text.matrix(question.labels, deadline)
        watch.report(self._metrics)
        judged = await all_of(
            self._judge(index, image, question.views, frames, text, deadline) for index, image in enumerate(images)
        )
        return text, judged, watch.elapsed_s["text"]

    async def embed_image(self, image: ImageRequest, deadline: Deadline) -> Vectors:
        """Return the vector [D] of a picture's centre view (of an animation: the mean over its frames, unit length).

        Raises:
            GatewayError: the picture or the service failed.
        """
        watch = Stopwatch()
        async with deadline.enforced():
            prepared = await self._prepare(image, "center", self._limits.decode.sampled_frames, watch, deadline)
            with watch.stage("encode"):
                vectors = await self._encoder.encode_images(prepared.pixels, deadline)
        watch.report(self._metrics)
        mean = vectors.mean(axis=0)
        return np.asarray(mean / np.linalg.norm(mean), np.float32)

    async def _judge(
        self, index: int, image: ImageRequest, rule: ViewRule, frames: int, text: TextMatrix, deadline: Deadline
    ) -> Judgement:
        """Take one picture all the way; its failure stays its own."""
        watch = Stopwatch()
        try:
            async with deadline.enforced():
                prepared = await self._prepare(image, rule, frames, watch, deadline)
                with watch.stage("encode"):
                    vectors = await self._encoder.encode_images(prepared.pixels, deadline)
            with watch.stage("score"):
                scores = score(vectors, text, self._limits.logit_scale)
        except GatewayError as error:
            return Judgement(index, image.id, None, error, watch.elapsed_s)
        except Exception:  # noqa: BLE001 - a bug that one picture brings out must not take its neighbours along
            self._log.exception("unexpected failure", index=index)
            bug = InternalError("The service failed on this image; nothing was decided.")
            return Judgement(index, image.id, None, bug, watch.elapsed_s)
        watch.report(self._metrics)
        self._metrics.images.labels(prepared.info.format).inc()
        evidence = Evidence(prepared.info, prepared.places, vectors, scores)
        return Judgement(index, image.id, evidence, None, watch.elapsed_s)

    async def _prepare(
        self, image: ImageRequest, rule: ViewRule, frames: int, watch: Stopwatch, deadline: Deadline
    ) -> Prepared:
        """Intake, decode and views; what computes runs in the decoders' threads, within the memory budget."""
        loop = asyncio.get_running_loop()
        with watch.stage("intake"):
            data = await self._intake.read(image.source)
        with watch.stage("decode"):
            header = await loop.run_in_executor(self._decoders, inspect, data, self._limits.decode)
        async with self._memory.hold(header.decode_bytes, deadline):
            return await loop.run_in_executor(self._decoders, self._cut, data, header, rule, frames, watch)

    def _cut(self, data: bytes, header: ImageHeader, rule: ViewRule, frames: int, watch: Stopwatch) -> Prepared:
        """Decode frame by frame and cut each into views; one frame is in memory at a time."""
        size_px, resize_px = self._limits.image_size_px, self._limits.image_resize_px
        places: list[ViewPlace] = []
        pixels: list[npt.NDArray[np.uint8]] = []
        limits = replace(self._limits.decode, sampled_frames=frames)
        with watch.stage("decode"):
            picture = open_image(data, limits, seed=secrets.randbits(32), header=header)
        with picture:
            if picture.info.frames_analyzed < min(picture.info.frames, FEWEST_FRAMES):
                raise InvalidRequest(
                    "An animation needs several inferences and this request has too many images for that; send it "
                    "with fewer others."
                )
            remaining = picture.frames()
            while True:
                with watch.stage("decode"):
                    frame = next(remaining, None)
                if frame is None:
                    break
                with watch.stage("views"):
                    for view in cut_views(frame.rgb, rule, size_px=size_px, resize_px=resize_px):
                        places.append(ViewPlace(view.name, view.box, frame.time_ms))
                        pixels.append(view.pixels)
            return Prepared(picture.info, tuple(places), np.stack(pixels))

    def _frames_each(self, images: int, rule: ViewRule) -> int:
        """Return how many frames of each picture are looked at.

        Raises:
            InvalidRequest: even one frame a picture could be too many inferences.
        """
        each = self._limits.max_inferences // (images * MOST_VIEWS[rule])
        if each < 1:
            raise InvalidRequest(
                f"Views “{rule}” may need {MOST_VIEWS[rule]} inferences an image and a request has "
                f"{self._limits.max_inferences}: send at most {self._limits.max_inferences // MOST_VIEWS[rule]} images."
            )
        return min(each, self._limits.decode.sampled_frames)
