"""The load test: all kinds of users pass against a real stack, and nothing wrong passes."""

from __future__ import annotations

import copy
import csv
import http.server
import io
import itertools
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import httpx2
import pytest
from PIL import Image

from gateway.settings import Settings
from loadtests.answers import WrongAnswer, check_classification, check_scores
from loadtests.picture_server import serving
from loadtests.pictures import DRAWINGS, Drawing, Picture, draw, pictures_in
from loadtests.ramp.curve import svg
from loadtests.ramp.page import page
from loadtests.ramp.steps import Ramp, Rule, Step, read, saturation, why_ended
from loadtests.run import CLASSES, faults_of
from tests.conftest import ROOT, Stack

pytestmark = pytest.mark.heavy

LABELS = ["a cat", "a dog"]
PICTURE = Picture(Drawing("x.jpg", 40, 30, "image/jpeg"), b"", "ab" * 32)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The picture set, drawn once: that takes longer than most load here."""
    folder = tmp_path_factory.mktemp("pictures")
    pictures_in(folder)
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, drawn: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cache").symlink_to(drawn)


def run_loadtest(tmp_path: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "loadtests.run", "--reports", str(tmp_path / "reports"), *words],
        cwd=ROOT,
        env={**os.environ, "DATA_DIR": str(tmp_path / "data"), **environment},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def place_of(stack: Stack) -> dict[str, str]:
    return {
        "GATEWAY_HOST": "127.0.0.1",
        "GATEWAY_PORT": stack.gateway_url.rpartition(":")[2],
        "TRITON_GRPC_PORT": stack.triton_grpc_address.rpartition(":")[2],
        "MODEL_REPOSITORY": str(stack.model_repository),
        "PICTURE_PORT": str(stack.picture_port),
    }


def counts(tmp_path: Path) -> dict[str, tuple[int, int]]:
    with (tmp_path / "reports" / "loadtest_stats.csv").open(newline="") as file:
        return {row["Name"]: (int(row["Request Count"]), int(row["Failure Count"])) for row in csv.DictReader(file)}


@pytest.mark.timeout(300)
def test_all_users_pass_against_the_stack(stack: Stack, tmp_path: Path) -> None:
    done = run_loadtest(tmp_path, "--users", "8", "--spawn-rate", "8", "--run-time", "3s", **place_of(stack))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "using the stack" in done.stdout
    assert "without" not in done.stdout
    found = counts(tmp_path)
    for kind in CLASSES:
        assert sum(requests for name, (requests, _) in found.items() if name.startswith(kind)) > 0, kind
    assert sum(failures for _, failures in found.values()) == 0
    assert "<html" in (tmp_path / "reports" / "loadtest.html").read_text().lower()


def run_ramp(tmp_path: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    quick = ("--step", "1", "--settle", "0", "--reports", str(tmp_path / "reports"))
    return subprocess.run(
        [sys.executable, "-m", "loadtests.ramp", *quick, *words],
        cwd=ROOT,
        env={**os.environ, "DATA_DIR": str(tmp_path / "data"), **environment},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


@pytest.mark.timeout(300)
@pytest.mark.heavy
def test_the_ramp_starts_a_stack_draws_its_curve_and_stops_it(bundle: Path, stack: Stack, tmp_path: Path) -> None:
    place = {**place_of(stack), "GATEWAY_PORT": "9", "MODEL": "demo", "MODEL_REPOSITORY": str(bundle)}
    done = run_ramp(tmp_path, "--most-users", "2", **place)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "starting one" in done.stdout
    reports = tmp_path / "reports"
    for kind in ("rest", "grpc"):
        ramp = read(reports / f"loadtest-{kind}.json")
        assert [step.users for step in ramp.steps] == [1, 2]
        assert all(step.answers and not step.wrong for step in ramp.steps)
        assert all(0 < step.p50_ms <= step.p95_ms <= step.p99_ms for step in ramp.steps)
        assert "2 users" in ramp.ended
    ET.parse(reports / "loadtest.svg")  # noqa: S314 - our own
    page = (reports / "loadtest.html").read_text()
    assert page.count("<iframe srcdoc=") == 2  # Locust's own reports, within the one file
    assert "saturation: " in page
    log = (tmp_path / "data" / "loadtest" / "serve.log").read_text()
    address = re.search(r"gateway +(http://\S+)", log)
    assert address is not None
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"{address[1]}/livez")


@pytest.mark.heavy
def test_the_ramp_ends_where_requests_are_refused_and_fails_on_wrong_answers(tmp_path: Path) -> None:
    with fake_gateway(200, 503, dict) as port:
        done = run_ramp(tmp_path, LOADTEST_URL=f"http://127.0.0.1:{port}", TRITON_GRPC_PORT="9")
    assert "without gRPC" in done.stdout
    assert read(tmp_path / "reports" / "loadtest-rest.json").ended == "100% of requests were refused"
    assert done.returncode == 0
    with fake_gateway(200, 200, good) as port:
        done = run_ramp(tmp_path, "--protocols", "rest", LOADTEST_URL=f"http://127.0.0.1:{port}")
    assert done.returncode == 1
    assert "wrong answers" in done.stderr


def test_a_stack_that_is_named_and_does_not_answer_is_not_replaced_by_another(tmp_path: Path) -> None:
    done = run_ramp(tmp_path, LOADTEST_URL="http://127.0.0.1:9")
    assert done.returncode == 2
    assert "nothing answers" in done.stderr


def steps(*rates: float, refused: int = 0) -> list[Step]:
    rule = Rule()
    return [
        Step(rule.users(number), 10.0, int(10 * rate), refused, 0, 10.0, 20.0, 30.0, 0.1)
        for number, rate in enumerate(rates)
    ]


def test_the_ramp_climbs_until_throughput_no_longer_grows() -> None:
    rule = Rule()
    assert [rule.users(number) for number in range(10)] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 256]
    assert [Rule(factor=1.1).users(number) for number in range(4)] == [1, 2, 3, 4]
    assert why_ended(steps(10, 20, 30), rule) is None
    assert why_ended(steps(10, 20, 20.5), rule) is None  # one step without growth may be chance
    assert why_ended(steps(10, 20, 20.5, 20.9), rule) == "2 steps without growth"
    assert why_ended(steps(10, 20, 20.5, 25), rule) is None
    assert why_ended(steps(10, 20, refused=30), rule) == "13% of requests were refused"
    assert why_ended(steps(0), rule) == "no request was answered"


@pytest.mark.parametrize(
    ("last", "trend"),
    [
        pytest.param(90, "throughput may still grow", id="grows"),
        pytest.param(82, "throughput no longer grows", id="flat"),
        pytest.param(79, "throughput no longer grows", id="flat, a little less"),
        pytest.param(70, "throughput falls", id="falls"),
    ],
)
def test_a_ramp_of_all_users_says_where_throughput_goes(last: float, trend: str) -> None:
    rates = (10, 20, 30, 40, 50, 60, 70, 80, last)
    assert why_ended(steps(*rates), Rule()) == f"256 users, the most allowed: {trend}"
    assert why_ended(steps(10), Rule(most=1)) == "1 user, the most allowed: throughput may still grow"


def test_the_page_says_everything_once_and_no_words_of_the_curve_lie_on_others(tmp_path: Path) -> None:
    slow = tuple(replace(step, p50_ms=11_111.0, p95_ms=12_222.0, p99_ms=13_333.0) for step in steps(900, 1700, 1650))
    ramp = Ramp("REST", "an upload", slow, "2 steps without growth")
    written = page("a title", "a caption of the machine", [(ramp, tmp_path / "none")])
    for words in ("a caption of the machine", "2 steps without growth"):
        assert written.count(words) == 1
    drawn = ET.fromstring(svg([ramp], "a title", ""))  # noqa: S314 - our own
    places: dict[str, list[tuple[float, float]]] = {}
    for text in drawn.iter("{http://www.w3.org/2000/svg}text"):
        width, x = 7.5 * len(text.text or ""), float(text.attrib["x"])  # of a letter of 13 px, at most
        if "transform" not in text.attrib and text.attrib["text-anchor"] != "middle":
            start = x - width * (text.attrib["text-anchor"] == "end")
            places.setdefault(text.attrib["y"], []).append((start, start + width))
    for line in places.values():
        ordered = sorted(line)
        assert all(one[1] <= other[0] for one, other in itertools.pairwise(ordered))


def test_the_saturation_point_is_the_first_step_near_the_highest_throughput() -> None:
    found = saturation(steps(10, 20, 39, 40, 38))
    assert found is not None
    assert (found.users, found.rate) == (4, 39.0)
    assert saturation(steps(0, 0)) is None


@pytest.mark.parametrize("rates", [(10,), (0, 0), (0.4, 0.5), (900, 1700, 1650)])
def test_the_curve_stays_within_its_frame(rates: tuple[float, ...]) -> None:
    ramp = Ramp("REST", "an upload & more", tuple(steps(*rates)), "it ended")
    drawn = ET.fromstring(svg([ramp, ramp], "a title", "a caption"))  # noqa: S314 - our own
    width, height = (float(value) for value in drawn.attrib["viewBox"].split()[2:])
    for circle in drawn.iter("{http://www.w3.org/2000/svg}circle"):
        assert 0 <= float(circle.attrib["cx"]) <= width
        assert 0 <= float(circle.attrib["cy"]) <= height


@contextmanager
def fake_gateway(readiness: int, status: int, answer: Callable[[], Any]) -> Iterator[str]:
    """A gateway that says what it is told to; yields its port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.reply(readiness, {"failing": ["inference"]})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.reply(status, answer())

        def reply(self, code: int, body: Any) -> None:
            text = json.dumps(body).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield str(server.server_address[1])
        finally:
            server.shutdown()
            thread.join()


def test_wrong_answers_are_failures(tmp_path: Path) -> None:
    with fake_gateway(200, 200, good) as port:
        done = run_loadtest(tmp_path, "--classes", "upload", "--users", "1", "--run-time", "1s", GATEWAY_PORT=port)
    assert done.returncode == 1
    assert "failures" in done.stderr
    assert "FAILED" in done.stdout


def test_a_stack_that_is_not_ready_is_not_loaded(tmp_path: Path) -> None:
    with fake_gateway(503, 503, dict) as port:
        done = run_loadtest(tmp_path, GATEWAY_PORT=port)
    assert done.returncode == 2
    assert "not ready (inference)" in done.stderr


def test_a_gateway_that_may_not_fetch_from_us_is_named(tmp_path: Path) -> None:
    with fake_gateway(200, 422, lambda: {"code": "source_url_forbidden"}) as port:
        done = run_loadtest(tmp_path, "--classes", "url", GATEWAY_PORT=port)
    assert done.returncode == 2
    assert "FETCH_TEST_ALLOWED_HOSTS=127.0.0.1:" in done.stderr


def test_users_that_did_nothing_are_a_fault(tmp_path: Path) -> None:
    stats = tmp_path / "stats.csv"
    assert faults_of(stats, ["upload"]) == ["Locust wrote no figures"]
    stats.write_text("Type,Name,Request Count,Failure Count\nPOST,upload x,5,0\nPOST,url,3,2\n,Aggregated,8,2\n")
    assert faults_of(stats, ["upload"]) == ["url: 2 failures"]
    assert faults_of(stats, ["upload", "grpc"]) == ["url: 2 failures", "the grpc users made no request"]


def good() -> dict[str, Any]:
    return {
        "results": [
            {
                "index": 0,
                "error": None,
                "image": {"sha256": PICTURE.sha256, "width": 40, "height": 30},
                "scores": [{"label": "a dog", "score": 0.75}, {"label": "a cat", "score": 0.25}],
            }
        ]
    }


def test_a_right_answer_is_accepted() -> None:
    check_classification(good(), [PICTURE], LABELS)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda body: body.clear(),
        lambda body: body["results"].clear(),
        lambda body: body["results"].append(copy.deepcopy(body["results"][0])),
        lambda body: body["results"][0].update(error={"code": "overloaded"}),
        lambda body: body["results"][0].update(index=1),
        lambda body: body["results"][0].update(scores=None),
        lambda body: body["results"][0]["image"].update(sha256="00"),
        lambda body: body["results"][0]["image"].update(width=41),
        lambda body: body["results"][0]["scores"].pop(),
        lambda body: body["results"][0]["scores"].reverse(),
        lambda body: body["results"][0]["scores"][0].update(score=0.9),
        lambda body: body["results"][0]["scores"][0].update(score=float("nan")),
        lambda body: body["results"][0]["scores"][0].update(label="a bird"),
    ],
)
def test_a_wrong_answer_is_not(spoil: Callable[[dict[str, Any]], object]) -> None:
    body = good()
    spoil(body)
    with pytest.raises(WrongAnswer):
        check_classification(body, [PICTURE], LABELS)


def test_scores_outside_zero_to_one_are_no_probabilities() -> None:
    with pytest.raises(WrongAnswer):
        check_scores({"a cat": 1.5, "a dog": -0.5}, LABELS)


def test_the_pictures_are_what_they_say_and_stay_the_same(drawn: Path) -> None:
    pictures = pictures_in(drawn)
    assert {min(drawing.width, drawing.height) for drawing in DRAWINGS} >= {224, 3000}
    assert {drawing.mime for drawing in DRAWINGS} == {"image/jpeg", "image/png", "image/webp"}
    for number, picture in enumerate(pictures):
        with Image.open(io.BytesIO(picture.data)) as opened:
            assert opened.get_format_mimetype() == picture.drawing.mime
            assert opened.size == (picture.drawing.width, picture.drawing.height)
        assert len(picture.data) <= Settings.model_fields["max_image_bytes"].default
        assert draw(picture.drawing, seed=number) == picture.data
    assert pictures_in(drawn) == pictures


def test_the_pictures_are_served(drawn: Path) -> None:
    pictures = pictures_in(drawn)
    with serving("127.0.0.1", 0, pictures) as port:
        for picture in pictures:
            answer = httpx2.get(f"http://127.0.0.1:{port}/{picture.drawing.file}")
            assert answer.content == picture.data
            assert answer.headers["content-type"] == picture.drawing.mime
        assert httpx2.get(f"http://127.0.0.1:{port}/other").status_code == 404
