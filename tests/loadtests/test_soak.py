"""The soak test itself: requests get what they must, what is wrong is noticed, growth is seen, the curve is drawn."""

from __future__ import annotations

import csv
from pathlib import Path
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET

import pytest

from gateway.settings import Settings
from loadtests.pictures import pictures_in
from loadtests.soak import __main__ as soak
from loadtests.soak.client import judged
from loadtests.soak.curve import svg, ticks
from loadtests.soak.memory import Sample, growth
from loadtests.soak.mix import Case, bad, good, leavers, order
from tests.conftest import ROOT, Stack

CASE = Case("a batch", 1, b"", b"", "200", (None, "image_corrupt"))


@pytest.mark.heavy
def test_a_short_run_against_the_stack(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRITON_GRPC_PORT", stack.triton_grpc_address.split(":")[1])
    monkeypatch.setenv("DATA_DIR", str(ROOT / ".cache"))  # keeps the pictures from run to run
    # What 120 requests do to the memory of a stack that has just started says nothing: hence the bound.
    words = ["--url", stack.gateway_url, "--requests", "120", "--bound", "10", "--reports", str(tmp_path)]
    assert soak.main(words) == 0, capsys.readouterr().out
    said = capsys.readouterr().out
    assert "UNEXPECTED" not in said
    assert " 200\n" in said
    assert "  left\n" in said
    with (tmp_path / "soak.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert int(rows[-1]["requests"]) == 120
    assert all(float(row["gateway"]) > 20 and float(row["triton"]) > 20 and int(row["files"]) > 5 for row in rows)
    assert ET.parse(tmp_path / "soak.svg").getroot().tag.endswith("svg")  # noqa: S314 - written above


def test_nothing_to_test_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert soak.main(["--url", "http://127.0.0.1:9"]) == 2
    assert "nothing answers" in capsys.readouterr().err


def test_the_mix_holds_every_kind_in_an_order_that_follows_from_the_seed() -> None:
    pictures = pictures_in(ROOT / ".cache" / "cache")
    cases = [
        *good(pictures, "http://127.0.0.1:1"),
        *bad(pictures, soak.MAX_IMAGE_BYTES, soak.MAX_BODY_BYTES),
        *leavers(pictures),
    ]
    assert order(cases, 1000, seed=1) == order(cases, 1000, seed=1) != order(cases, 1000, seed=2)
    drawn = [cases[index] for index in order(cases, 20_000, seed=1)]
    assert {case.name for case in drawn} == {case.name for case in cases}
    assert {case.leaving for case in cases} == {"never", "uploading", "waiting", "reading"}
    shares = [sum(case.expected == "200" for case in drawn), sum(case.leaving != "never" for case in drawn)]
    assert 0.6 < shares[0] / len(drawn) < 0.85
    assert 0.02 < shares[1] / len(drawn) < 0.1
    formats = {picture.drawing.mime for picture in pictures} | {"image/gif", "image/avif"}
    assert formats == {"image/jpeg", "image/png", "image/webp", "image/gif", "image/avif"}
    assert max(picture.drawing.width * picture.drawing.height for picture in pictures) == 12_000_000


def test_the_caps_it_goes_over_are_the_gateways() -> None:
    fields = Settings.model_fields
    assert fields["max_image_bytes"].default == soak.MAX_IMAGE_BYTES
    assert fields["max_body_bytes"].default == soak.MAX_BODY_BYTES


@pytest.mark.parametrize(
    ("status", "body", "wrong"),
    [
        (200, b'{"results": [{"error": null}, {"error": {"code": "image_corrupt"}}]}', None),
        (200, b'{"results": [{"error": null}, {"error": null}]}', "items [None, None]"),
        (200, b'{"results": [{"error": null}]}', "items [None]"),
        (200, b"{", "the body is no JSON"),
        (503, b'{"code": "overloaded"}', None),
        (503, b'{"code": "model_unavailable"}', "expected 200"),
        (500, b'{"code": "internal_error"}', "expected 200"),
        (504, b'{"error": {"code": "deadline_exceeded"}}', "expected 200"),
        (422, b'{"code": "image_corrupt"}', "expected 200"),
    ],
)
def test_what_is_not_expected_is_noticed(status: int, body: bytes, wrong: str | None) -> None:
    assert judged(CASE, status, body).wrong == wrong


def samples(grows: float) -> list[Sample]:
    values = [100 + grows * index for index in range(100)]
    return [Sample(10 * (i + 1), i, value, 20, 4, 300, 30, 20) for i, value in enumerate(values)]


@pytest.mark.parametrize(("grows", "code", "said"), [(0.0, 0, "passed"), (0.5, 1, "GREW by more than 10%")])
def test_growth_over_the_bound_fails(
    grows: float, code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = soak.Record(samples=samples(grows), elapsed_s=10)
    assert soak.report(record, tmp_path, 0.1) == code
    assert said in capsys.readouterr().out


def test_growth_compares_the_quarters_after_the_warm_up() -> None:
    (both, own, triton, *_) = growth(samples(1.0), warm_up=0.2)
    assert (own.first, own.last, own.most) == (128.5, 189.5, 199)  # 81 samples from request 200 on, 20 a quarter
    assert (both.first, both.last) == (148.5, 209.5)
    assert triton.share == 0


def test_the_curve_is_drawn_to_scale() -> None:
    drawn = svg("a < b", [0, 50, 100], {"one": [0, 100, 200]}, x_name="requests", y_name="MiB")
    root = ET.fromstring(drawn)  # noqa: S314 - written above
    (line,) = [node for node in root.iter() if node.tag.endswith("polyline")]
    points = [tuple(map(float, point.split(","))) for point in str(line.get("points")).split()]
    assert points[1][0] - points[0][0] == pytest.approx(points[2][0] - points[1][0], abs=0.2)
    assert points[0][1] - points[1][1] == pytest.approx(points[1][1] - points[2][1], abs=0.2)
    assert points[0][1] > points[2][1]
    assert ticks(200) == [0, 50, 100, 150, 200]
    assert ticks(60_000) == [0, 20_000, 40_000, 60_000]
    assert urlsplit("http://www.w3.org/2000/svg").netloc in drawn
