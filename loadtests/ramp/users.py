"""The ramp's users and its shape, for Locust; ``python -m loadtests.ramp`` gives it this file and all it needs.

A user sends its next request when the last is answered, so the number of users is what is in flight. Bodies are made
beforehand and the client is Locust's light one, since it shares the machine with what it loads.
"""

# Locust is untyped here:
# mypy: disable-error-code="untyped-decorator, misc"

from __future__ import annotations

import json
import random
import resource
import time
from argparse import ArgumentParser
from pathlib import Path

import grpc
import urllib3
from locust import LoadTestShape, constant, events, task
from locust.contrib.fasthttp import FastHttpUser
from tritonclient.utils import InferenceServerException

from loadtests.answers import WrongAnswer, check_classification
from loadtests.locustfile import LABEL_SETS, TIMEOUT_S, GrpcUser, Prepared, fault_of
from loadtests.pictures import pictures_in
from loadtests.ramp.steps import Ramp, Rule, Step, step_of, why_ended, write
from loadtests.target import key_headers

LABELS = LABEL_SETS[1]
REFUSALS = (429, 503)
QUEUE_FULL = "Exceeds maximum queue size"


class Refusal(Exception):
    """The service turned a request away, as it may when it is full."""


@events.init_command_line_parser.add_listener
def add_options(parser: ArgumentParser) -> None:
    """Add the ramp's own options to Locust's."""
    parser.add_argument("--rule", default="{}", help="the fields of a Rule, as JSON")
    parser.add_argument("--drawings", nargs="+", default=[], help="files of the picture set that are uploaded")
    parser.add_argument("--steps-file", help="where the steps are written")


class RestUser(FastHttpUser):
    """Uploads one picture as multipart/form-data, and checks the answer."""

    wait_time = constant(0)
    network_timeout = connection_timeout = TIMEOUT_S

    def on_start(self) -> None:
        """Make the bodies."""
        options = self.environment.parsed_options
        self.dice = random.Random()
        self.bodies = []
        for picture in pictures_in(Path(options.pictures)):
            if picture.drawing.file in options.drawings:
                file = (picture.drawing.file, picture.data, picture.drawing.mime)
                form = urllib3.encode_multipart_formdata([*(("labels", label) for label in LABELS), ("file", file)])
                self.bodies.append((picture, *form))

    @task
    def upload(self) -> None:
        """Send one picture."""
        picture, body, kind = self.dice.choice(self.bodies)
        headers = {"Content-Type": kind, **key_headers()}
        with self.client.post("/v1/classify", data=body, headers=headers, name="upload", catch_response=True) as answer:
            if answer.status_code in REFUSALS:
                answer.failure(Refusal(f"status {answer.status_code}"))
                return
            if answer.status_code != 200:
                answer.failure(f"status {answer.status_code}: {(answer.text or str(answer.error))[:200]}")
                return
            try:
                check_classification(answer.json(), [picture], LABELS)
            except (WrongAnswer, ValueError) as wrong:
                answer.failure(str(wrong))


class DirectUser(GrpcUser):
    """Sends one picture's pixels to Triton; the labels' vectors were asked for once, as the gateway keeps them."""

    def on_start(self) -> None:
        """Open a channel, and ask for the labels' vectors."""
        super().on_start()
        prepared: Prepared = self.environment.prepared
        self.singles = [job for job in prepared.images if len(job.rows) == 1]
        self.texts = next(jobs for labels, jobs in prepared.texts if labels == LABELS)
        self.vectors = [self.client.infer(**job.arguments(time.monotonic() + TIMEOUT_S)) for job in self.texts]

    @task
    def classify(self) -> None:
        """Send one picture."""
        prepared: Prepared = self.environment.prepared
        image = self.dice.choice(self.singles)
        start_s = time.perf_counter()
        error: Exception | None = None
        try:
            answer = self.client.infer(**image.arguments(time.monotonic() + TIMEOUT_S))
        except (InferenceServerException, grpc.RpcError) as fault:
            error = Refusal("queue full") if QUEUE_FULL in str(fault) else fault
        elapsed_ms = (time.perf_counter() - start_s) * 1e3
        if error is None:
            error = fault_of((*self.texts, image), (*self.vectors, answer), LABELS, prepared.model)
        self.environment.events.request.fire(
            request_type="gRPC",
            name="clip_image of 1",
            response_time=elapsed_ms,
            response_length=4 * prepared.model.number("embedding_dim"),
            exception=error,
            context={},
        )


class Climb(LoadTestShape):
    """Takes one step after the other, and ends the test when the rule says so."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[Step] = []
        self.ended: str | None = None
        self._rule: Rule | None = None
        self._begun_s = float("-inf")  # of the step that is under way
        self._measured_since_s: float | None = None
        self._client_s = 0.0
        self._latencies_ms: list[float] = []
        self._refused = self._wrong = 0
        events.request.add_listener(self._note)

    def tick(self) -> tuple[int, float] | None:
        """Return users and how many of them start in a second; None ends the test. Locust calls it every second."""
        now = time.perf_counter()
        assert self.runner is not None  # noqa: S101 - set by Locust before the first tick
        if self._rule is None:
            self._rule = Rule(**json.loads(self.runner.environment.parsed_options.rule))
            self._begun_s = now
        rule = self._rule
        users = rule.users(len(self.steps))
        if self.runner.user_count < users:
            self._begun_s = now  # they are still starting
        elif self._measured_since_s is None and now - self._begun_s >= rule.settle_s:
            self._latencies_ms, self._refused, self._wrong = [], 0, 0
            self._measured_since_s, self._client_s = now, processor_s()
        elif self._measured_since_s is not None and self._is_over(now - self._measured_since_s, rule):
            seconds = now - self._measured_since_s
            spent_s = processor_s() - self._client_s
            self.steps.append(step_of(users, seconds, self._latencies_ms, self._refused, self._wrong, spent_s))
            self.ended = why_ended(self.steps, rule)
            self._measured_since_s, self._begun_s = None, now
            tell(self.steps[-1])
            if self.ended is not None:
                self._keep()
                return None
            users = rule.users(len(self.steps))
        return users, users

    def _is_over(self, seconds: float, rule: Rule) -> bool:
        """Return whether a step has been measured for long enough; where all is slow, until something has come back."""
        ended = len(self._latencies_ms) + self._refused + self._wrong
        return seconds >= (rule.step_s if ended else rule.step_s + TIMEOUT_S)

    def _note(self, response_time: float, exception: Exception | None, **_: object) -> None:
        if exception is None:
            self._latencies_ms.append(response_time)
        elif isinstance(exception, Refusal):
            self._refused += 1
        else:
            self._wrong += 1

    def _keep(self) -> None:
        assert self.runner is not None  # noqa: S101 - as above
        environment = self.runner.environment
        direct = DirectUser in environment.user_classes
        drawings = ", ".join(environment.parsed_options.drawings)
        request = "one picture's pixels to clip_image" if direct else f"one upload to /v1/classify ({drawings})"
        ramp = Ramp("gRPC" if direct else "REST", request, tuple(self.steps), self.ended or "")
        write(ramp, Path(environment.parsed_options.steps_file))


def processor_s() -> float:
    """Return the processor time this process has taken, seconds."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def tell(step: Step) -> None:
    """Print one step."""
    print(
        f"loadtest: {step.users:4} users: {step.rate:7.1f} a second, p50 {step.p50_ms:.0f} ms, p95 {step.p95_ms:.0f} "
        f"ms, p99 {step.p99_ms:.0f} ms, refused {step.refused}, wrong {step.wrong}",
        flush=True,
    )
