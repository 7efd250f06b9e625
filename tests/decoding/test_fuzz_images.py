"""Damaged pictures, in process: whatever it is, frames of the size that was announced or an error of ours."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.decoding.decoder import LATEST_MS, DecodeLimits, inspect, open_image
from gateway.errors import GatewayError, ImageError
from scripts.fuzz import __main__ as command
from scripts.fuzz.judge import LABELS, Offence, outcomes
from scripts.fuzz.memory import MIB, Memory
from scripts.fuzz.mutate import mutated, mutation
from scripts.fuzz.pieces import joined, split
from scripts.fuzz.send import Run, Sender, Tally
from tests.conftest import Stack

CORPUS = Path(__file__).parents[1] / "corpus"
PICTURES = sorted((CORPUS / "pictures").iterdir())
EXPECTED = {
    "endless-frame.avif": "ok",
    "icc-curve.png": "ok",
    "no-timescale.avif": "image_undecodable",
    "overhanging-grid.avif": "ok",
    "pq.avif": "ok",
    "pq.png": "ok",
    "reserved-marker.jpg": "ok",
    "sdr-of-pq.png": "ok",
    "short-vp8x.webp": "image_corrupt",
    "white-scrawl.gif": "ok",
    "white-scrawl.png": "ok",
    "white-scrawl.webp": "ok",
}
FOUND = sorted((CORPUS / "found").iterdir())
SEEDS = [path.read_bytes() for path in PICTURES]
LIMITS = DecodeLimits(max_pixels=1_000_000, timeout_s=2, sampled_frames=4)
# The same examples in every run: what is new is looked for by `make fuzz`.
BOUNDED = settings(
    max_examples=600, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
damaged = st.randoms(use_true_random=False).map(lambda dice: mutated(dice.choice(SEEDS), SEEDS, dice))


def decoded(data: bytes) -> str:
    """Return ``ok`` or the error's code; assert that frames are what the header announced."""
    try:
        header = inspect(data, LIMITS)
        with open_image(data, LIMITS, seed=1, header=header) as image:
            frames = list(image.frames())
    except ImageError as fault:
        return fault.code
    assert header.pixels <= LIMITS.max_pixels
    assert 1 <= image.info.frames <= header.frames <= LIMITS.max_frames
    assert len(frames) == image.info.frames_analyzed
    for frame in frames:
        assert frame.rgb.mode == "RGB"
        assert frame.rgb.size == (image.info.width, image.info.height)
        assert frame.time_ms is None or 0 <= frame.time_ms <= LATEST_MS
    return "ok"


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.name)
def test_the_seeds_are_whole(path: Path) -> None:
    assert decoded(path.read_bytes()) == "ok"


@pytest.mark.parametrize("path", FOUND, ids=lambda path: path.name)
def test_what_was_found_once(path: Path, client: httpx2.Client) -> None:
    expected = EXPECTED[path.name]
    assert decoded(path.read_bytes()) == expected
    answer = client.post("/v1/classify", files={"file": path.read_bytes()}, data={"labels": LABELS})
    assert answer.json().get("code", "ok") == expected


def test_a_webp_header_that_is_too_short_is_refused_before_a_decoder_reads_past_it() -> None:
    with pytest.raises(GatewayError) as refused:
        inspect((CORPUS / "found" / "short-vp8x.webp").read_bytes(), LIMITS)
    assert refused.value.code == "image_corrupt"


@BOUNDED
@given(damaged)
def test_12_a_damaged_picture_is_decoded_or_refused(data: bytes) -> None:
    decoded(data)


@BOUNDED
@given(st.binary(max_size=400), st.sampled_from(SEEDS), st.integers(0, 64))
def test_12_anything_behind_a_signature_is_decoded_or_refused(data: bytes, seed: bytes, kept: int) -> None:
    decoded(seed[:kept] + data)


@BOUNDED
@given(damaged, st.binary(min_size=1, max_size=64))
def test_42_a_tail_changes_nothing(data: bytes, tail: bytes) -> None:
    if data[4:8] != b"ftyp" and decoded(data) == "ok":  # of boxes there may always be one more
        assert decoded(data + tail) == "ok"


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.name)
def test_pieces_make_the_file_again(path: Path) -> None:
    data = path.read_bytes()
    apart = split(data)
    assert apart is not None
    kind, pieces = apart
    assert len(pieces) > 1
    assert joined(kind, pieces, mend=False) == data
    assert joined(kind, pieces, mend=True) == data


def test_a_mutation_depends_on_its_number_alone() -> None:
    ahead = [mutation(SEEDS, 7, number) for number in range(200)]
    assert [mutation(SEEDS, 7, number) for number in reversed(range(200))] == ahead[::-1]
    assert len(set(ahead)) > 180
    assert mutation(SEEDS, 8, 0) != ahead[0]


def test_12_the_running_gateway_is_fuzzed(stack: Stack, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--url", stack.gateway_url, "--count", "600", "--seed", "12", "--out", str(tmp_path)]
    words += ["--growth-mib", "512"]  # so short a run is all warm-up
    assert command.main(words) == 0, capsys.readouterr().out
    said = capsys.readouterr().out
    assert "600 mutations" in said
    assert "422 image_corrupt" in said
    assert "memory of gateway" in said


def test_no_gateway_is_another_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--url", "http://127.0.0.1:9"]) == 2
    assert "no gateway" in capsys.readouterr().err


# --- what offends is found -------------------------------------------------------------------------------------------


def problem(status: int, code: str, detail: str = "Something.") -> dict[str, Any]:
    return {"type": "t", "title": "t", "status": status, "code": code, "detail": detail, "request_id": "r"}


def scored(index: int = 0, *values: float) -> dict[str, Any]:
    scores = [{"label": label, "score": value} for label, value in zip(LABELS, values or (0.25, 0.75), strict=True)]
    return {"index": index, "scores": scores, "error": None}


def failed(index: int, error: dict[str, Any]) -> dict[str, Any]:
    return {"index": index, "scores": None, "error": error}


def test_what_the_contract_allows() -> None:
    results = [scored(0), failed(1, problem(422, "image_corrupt")), failed(2, problem(415, "unsupported_image"))]
    assert outcomes(200, {"results": results}, 3) == ["200", "422 image_corrupt", "415 unsupported_image"]
    assert outcomes(400, problem(400, "empty_file"), 1) == ["400 empty_file"]


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (500, None),
        (500, problem(500, "internal_error")),
        (503, problem(503, "overloaded")),
        (422, problem(400, "image_corrupt")),
        (422, {"code": "image_corrupt"}),
        (422, problem(422, "image_corrupt", "OSError at 0x7f00aa.")),
        (422, problem(422, "image_corrupt", "See /usr/lib/x.")),
        (200, {"results": []}),
        (200, {"results": [failed(0, problem(500, "internal_error"))]}),
        (200, {"results": [failed(0, problem(504, "deadline_exceeded"))]}),
        (200, {"results": [scored(0) | {"error": problem(422, "image_corrupt")}]}),
        (200, {"results": [scored(0) | {"scores": None}]}),
        (200, {"results": [scored(0, 0.5, float("nan"))]}),
        (200, {"results": [scored(0, 0.9, 0.9)]}),
        (200, {"results": [scored(1)]}),
    ],
)
def test_what_it_does_not(status: int, answer: Any) -> None:
    with pytest.raises(Offence):
        outcomes(status, answer, 1)


def sent(answer: Callable[[httpx2.Request], httpx2.Response], folder: Path) -> Tally:
    async def go() -> Tally:
        async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer), base_url="http://a") as client:
            tally = Tally()
            await Sender(client, lambda number: b"picture %d." % number, folder).run(
                Run(0, 8, batch=4, concurrency=1, deadline_s=1, until_s=1e12), tally
            )
            return tally

    return asyncio.run(go())


def test_the_one_to_blame_is_found_and_kept(tmp_path: Path) -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        pictures = request.content.count(b"picture") // 2 or request.content.count(b'"base64"')
        if b"picture 6." in request.content:
            return httpx2.Response(500, json=problem(500, "internal_error"))
        return httpx2.Response(200, json={"results": [scored(number) for number in range(pictures)]})

    tally = sent(answer, tmp_path)
    assert list(tally.offenders) == [6]
    assert (tmp_path / "6.bin").read_bytes() == b"picture 6."
    assert '"number": 6' in (tmp_path / "offenders.jsonl").read_text()
    assert (tally.sent, tally.counts["200"]) == (8, 7)


def test_a_batch_that_offends_only_together_is_kept_whole(tmp_path: Path) -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.content.count(b'filename="') > 1 or request.content.count(b'"base64"') > 1:
            raise httpx2.ConnectError("gone")
        return httpx2.Response(200, json={"results": [scored()]})

    tally = sent(answer, tmp_path)
    assert list(tally.offenders) == list(range(8))
    assert all("together" in reason for reason in tally.offenders.values())


def test_growth_is_measured_behind_the_warm_up() -> None:
    memory = Memory(0, [100 * MIB] * 10 + [200 * MIB] * 80 + [290 * MIB] * 10)
    assert memory.first_and_last() == (200 * MIB, 290 * MIB)
    gone = Memory(2**22 + 1)
    assert gone.look() == 0
    assert gone.gone
