"""The users of the load test; ``python -m loadtests.run`` gives Locust this file and everything it needs.

Every answer is checked, and a wrong one counts as a failure. Users do not pause: their number is the concurrency.
"""

# Locust is untyped here:
# mypy: disable-error-code="untyped-decorator, misc"

from __future__ import annotations

import base64
import random
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.experimental.gevent
import tritonclient.grpc as triton
from locust import HttpUser, User, constant, events, task
from tritonclient.utils import InferenceServerException

from loadtests.answers import WrongAnswer, check_classification, check_scores
from loadtests.pictures import SET_NAME, Picture, pictures_in
from loadtests.target import key_headers
from scripts.classify_grpc import MODELS, Job, Model, Refused, image_jobs, scores, square, text_jobs, token_ids

# gRPC's core must yield to gevent's loop, or one waiting call stops every user; before any channel exists.
grpc.experimental.gevent.init_gevent()

TIMEOUT_S = 30.0
BATCH = 4
LABEL_SETS = (
    ("a red circle", "a blue square"),
    ("a red circle", "a green square", "a yellow circle", "an empty picture"),
    ("red", "green", "blue", "yellow", "orange", "purple", "black", "white", "brown", "pink"),
)


@events.init_command_line_parser.add_listener
def add_options(parser: ArgumentParser) -> None:
    """Add this load test's own options to Locust's."""
    parser.add_argument("--pictures", default="data/cache", help="folder that keeps the picture set")
    parser.add_argument("--picture-url", default="http://127.0.0.1:8103", help="where the gateway finds the pictures")
    parser.add_argument("--grpc-address", default="127.0.0.1:8101", help="Triton's gRPC endpoint")
    parser.add_argument("--tokenizer", default="model_repository/tokenizer.json", help="of the served bundle")


class GatewayUser(HttpUser):
    """What the REST users share."""

    abstract = True
    wait_time = constant(0)

    def on_start(self) -> None:
        """Read the picture set."""
        self.pictures = pictures_in(Path(self.environment.parsed_options.pictures))
        self.dice = random.Random()
        self.client.headers.update(key_headers())

    def classify(self, name: str, pictures: Sequence[Picture], labels: Sequence[str], **request: Any) -> None:  # noqa: ANN401
        """Send one request to ``/v1/classify`` and check the answer."""
        with self.client.post("/v1/classify", name=name, catch_response=True, timeout=TIMEOUT_S, **request) as response:
            if response.status_code != 200:
                response.failure(
                    f"status {response.status_code}: {response.text[:200] if response.text else response.error}"
                )
                return
            try:
                check_classification(response.json(), pictures, labels)
            except (WrongAnswer, ValueError) as wrong:
                response.failure(str(wrong))


class UploadUser(GatewayUser):
    """Uploads one picture as multipart/form-data."""

    @task
    def upload(self) -> None:
        """Send any picture of the set."""
        picture, labels = self.dice.choice(self.pictures), self.dice.choice(LABEL_SETS)
        self.classify(
            f"upload {picture.drawing.file}", [picture], labels, data={"labels": labels}, files=parts([picture])
        )


class UrlUser(GatewayUser):
    """Names one picture by its URL."""

    @task
    def url(self) -> None:
        """Let the gateway fetch any picture of the set."""
        picture, labels = self.dice.choice(self.pictures), self.dice.choice(LABEL_SETS)
        source = {"url": f"{self.environment.parsed_options.picture_url}/{picture.drawing.file}"}
        self.classify("url", [picture], labels, json={"images": [source], "labels": labels})


class BatchUser(GatewayUser):
    """Sends several pictures at once."""

    @task
    def base64_in_json(self) -> None:
        """Send them as base64 in JSON."""
        pictures, labels = self.dice.sample(self.pictures, BATCH), self.dice.choice(LABEL_SETS)
        images = [{"base64": base64.b64encode(picture.data).decode()} for picture in pictures]
        self.classify(f"batch of {BATCH}, JSON", pictures, labels, json={"images": images, "labels": labels})

    @task
    def multipart(self) -> None:
        """Send them as file parts."""
        pictures, labels = self.dice.sample(self.pictures, BATCH), self.dice.choice(LABEL_SETS)
        self.classify(f"batch of {BATCH}, multipart", pictures, labels, data={"labels": labels}, files=parts(pictures))


def parts(pictures: Sequence[Picture]) -> list[tuple[str, tuple[str, bytes, str]]]:
    """Return pictures as requests' ``files``."""
    return [("file", (picture.drawing.file, picture.data, picture.drawing.mime)) for picture in pictures]


class TritonClient(triton.InferenceServerClient):
    """A client that is closed once, by whoever made it.

    Triton's own closes itself again when it is collected. gRPC under gevent counts closings, of closed channels too,
    and one that comes while the interpreter ends may wait for ever for a thread that has gone.
    """

    def __del__(self) -> None:
        """Leave it as it is."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the gRPC users send, made once: decoding in a user would stop all the others meanwhile."""

    model: Model
    images: tuple[Job, ...]
    texts: tuple[tuple[tuple[str, ...], tuple[Job, ...]], ...]


@events.init.add_listener
def prepare(environment: Any, **_: object) -> None:  # noqa: ANN401
    """Prepare what the gRPC users send, if there are any."""
    if not any(issubclass(kind, GrpcUser) for kind in environment.user_classes):
        return
    options = environment.parsed_options
    with TritonClient(options.grpc_address) as client:
        model = Model.of(*(client.get_model_config(name, client_timeout=TIMEOUT_S) for name in MODELS))
    folder = Path(options.pictures) / SET_NAME
    files = [folder / picture.drawing.file for picture in pictures_in(Path(options.pictures))]
    squares = [square(file, model.number("image_size_px"), model.number("resize_px")) for file in files]
    tokenizer_json = Path(options.tokenizer).read_bytes()
    environment.prepared = Prepared(
        model,
        tuple(job for pixels in (*([one] for one in squares), squares[:BATCH]) for job in image_jobs(pixels, model)),
        tuple((labels, tuple(text_jobs(token_ids(labels, tokenizer_json, model), model))) for labels in LABEL_SETS),
    )


class GrpcUser(User):
    """Talks to Triton directly; its latencies are those of one inference."""

    wait_time = constant(0)

    def on_start(self) -> None:
        """Open a channel of its own."""
        self.client = TritonClient(self.environment.parsed_options.grpc_address)
        self.dice = random.Random()

    def on_stop(self) -> None:
        """Close the channel."""
        self.client.close()

    @task
    def classify(self) -> None:
        """Send one label set and one batch of pictures."""
        prepared: Prepared = self.environment.prepared
        image, (labels, texts) = self.dice.choice(prepared.images), self.dice.choice(prepared.texts)
        jobs = (*texts, image)
        answers: list[Any] = []
        for job in jobs:
            start_s = time.perf_counter()
            error: Exception | None = None
            try:
                answers.append(self.client.infer(**job.arguments(time.monotonic() + TIMEOUT_S)))
            except (InferenceServerException, grpc.RpcError) as fault:
                error = fault
            elapsed_ms = (time.perf_counter() - start_s) * 1e3
            if error is None and job is image:
                error = fault_of(jobs, answers, labels, prepared.model)
            self.environment.events.request.fire(
                request_type="gRPC",
                name=f"grpc {job.model} of {len(job.rows)}",
                response_time=elapsed_ms,
                response_length=4 * len(job.rows) * prepared.model.number("embedding_dim"),
                exception=error,
                context={},
            )
            if error is not None:
                return


def fault_of(jobs: Sequence[Job], answers: Sequence[Any], labels: Sequence[str], model: Model) -> Exception | None:
    """Return what is wrong with Triton's answers, or None."""
    try:
        for row in scores(jobs, answers, len(labels), model):
            check_scores(dict(sorted(zip(labels, row.tolist(), strict=True), key=lambda pair: -pair[1])), labels)
    except (Refused, WrongAnswer, ValueError) as wrong:
        return wrong
    return None
