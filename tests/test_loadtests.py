"""The load test: all kinds of users pass against a real stack, and nothing wrong passes."""

from __future__ import annotations

import copy
import csv
import http.server
import io
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image

from gateway.settings import Settings
from loadtests.answers import WrongAnswer, check_classification, check_scores
from loadtests.picture_server import serving
from loadtests.pictures import DRAWINGS, Drawing, Picture, draw, pictures_in
from loadtests.run import CLASSES, faults_of
from tests.conftest import ROOT, Stack

LABELS = ["a cat", "a dog"]
PICTURE = Picture(Drawing("x.jpg", 40, 30, "image/jpeg"), b"", "ab" * 32)


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
    done = run_loadtest(tmp_path, "--users", "4", "--run-time", "10s", **place_of(stack))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "using the stack" in done.stdout
    assert "without" not in done.stdout
    found = counts(tmp_path)
    for kind in CLASSES:
        assert sum(requests for name, (requests, _) in found.items() if name.startswith(kind)) > 0, kind
    assert sum(failures for _, failures in found.values()) == 0
    assert "<html" in (tmp_path / "reports" / "loadtest.html").read_text().lower()


@pytest.mark.timeout(300)
def test_without_a_stack_it_starts_one_and_stops_it(bundle: Path, stack: Stack, tmp_path: Path) -> None:
    place = {**place_of(stack), "GATEWAY_PORT": "9", "MODEL": "demo", "MODEL_REPOSITORY": str(bundle)}
    done = run_loadtest(tmp_path, "--users", "4", "--run-time", "3s", "--classes", "upload", "url", "grpc", **place)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "starting one" in done.stdout
    log = (tmp_path / "data" / "loadtest" / "serve.log").read_text()
    address = re.search(r"gateway +(http://\S+)", log)
    assert address is not None
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"{address[1]}/livez")


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
        done = run_loadtest(tmp_path, "--classes", "upload", "--users", "1", "--run-time", "2s", GATEWAY_PORT=port)
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


def test_the_pictures_are_what_they_say_and_stay_the_same(tmp_path: Path) -> None:
    pictures = pictures_in(tmp_path)
    assert {min(drawing.width, drawing.height) for drawing in DRAWINGS} >= {224, 3000}
    assert {drawing.mime for drawing in DRAWINGS} == {"image/jpeg", "image/png", "image/webp"}
    for number, picture in enumerate(pictures):
        with Image.open(io.BytesIO(picture.data)) as opened:
            assert opened.get_format_mimetype() == picture.drawing.mime
            assert opened.size == (picture.drawing.width, picture.drawing.height)
        assert len(picture.data) <= Settings.model_fields["max_image_bytes"].default
        assert draw(picture.drawing, seed=number) == picture.data
    assert pictures_in(tmp_path) == pictures


def test_the_pictures_are_served(tmp_path: Path) -> None:
    pictures = pictures_in(tmp_path)
    with serving("127.0.0.1", 0, pictures) as port:
        for picture in pictures:
            answer = httpx2.get(f"http://127.0.0.1:{port}/{picture.drawing.file}")
            assert answer.content == picture.data
            assert answer.headers["content-type"] == picture.drawing.mime
        assert httpx2.get(f"http://127.0.0.1:{port}/other").status_code == 404
