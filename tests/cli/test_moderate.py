"""`clip-gateway moderate` and `classify` against the real stack: folders, URLs, resume, formats and exit codes."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from gateway.cli import judging
from gateway.cli.connection import Connection
from gateway.cli.judging import Query, judge
from gateway.cli.main import cli
from gateway.cli.sources import Source
from scripts.demo.world import draw, scenario_scene
from tests.conftest import Stack, free_ports, stop
from tests.support.drawings import encoded, shape
from tests.support.fake_encoder import write_bundle
from tests.support.waiting import until

pytestmark = pytest.mark.heavy

DECIDED, BLOCKED, USAGE, UNDECIDED, BOTH = 0, 1, 2, 3, 4
COMMAND = Path(sys.executable).with_name("clip-gateway")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three clean drawings, one deeper and one without a suffix, and a text."""
    made = tmp_path / "images"
    (made / "deeper").mkdir(parents=True)
    (made / "a.png").write_bytes(encoded(shape("a blue square")))
    (made / "deeper" / "b.jpg").write_bytes(encoded(shape("a green circle"), "JPEG", quality=92))
    (made / "upload-17").write_bytes(encoded(shape("a red circle"), "WEBP"))
    (made / "notes.txt").write_text("no image")
    return made


@pytest.fixture
def bloody(tmp_path: Path) -> Path:
    """Four drawings that the demo's policy blocks, nearly all."""
    made = tmp_path / "bloody"
    made.mkdir()
    rng = np.random.default_rng(11)
    for number in range(4):
        scene = scenario_scene("gore", rng, present=True)
        (made / f"{number}.png").write_bytes(encoded(draw(scene, (240, 240), rng)))
    return made


def run(stack: Stack, command: str, *words: Any) -> Result:
    return CliRunner().invoke(cli, [command, *map(str, words), "--address", stack.gateway_url])


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(errors="surrogateescape").splitlines()]


def test_a_folder_is_judged_by_content_and_what_is_left_out_is_said(stack: Stack, folder: Path, tmp_path: Path) -> None:
    (folder / "scan.tiff").write_bytes(b"II*\0" + bytes(60))
    out = tmp_path / "out.jsonl"
    ended = run(stack, "moderate", folder, "--out", out)
    assert ended.exit_code == UNDECIDED, "an image that the gateway does not take is no image that was passed over"
    found = {Path(line["source"]).name: line for line in lines(out)}
    assert set(found) == {"a.png", "b.jpg", "upload-17", "scan.tiff"}
    assert found["scan.tiff"]["error"]["code"] == "unsupported_image"
    assert found["upload-17"]["decision"] == "allow"
    assert "Skipped 1 that are no image by content or name:" in ended.stderr
    assert "notes.txt" in ended.stderr
    named = run(stack, "moderate", folder / "notes.txt", "--out", tmp_path / "named.jsonl")
    assert named.exit_code == UNDECIDED, "a file that is named itself is always asked about"


def test_a_run_is_gone_on_with(stack: Stack, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    assert run(stack, "moderate", folder, "--out", out).exit_code == DECIDED
    (folder / "c.png").write_bytes(b"broken")
    assert run(stack, "moderate", folder, "--out", out, "--resume").exit_code == UNDECIDED
    assert [Path(line["source"]).name for line in lines(out)[3:]] == ["c.png"]
    (folder / "c.png").write_bytes(encoded(shape("a red circle")))
    with out.open("a") as file:
        file.write('{"source": "cut sh')
    assert run(stack, "moderate", folder, "--out", out, "--resume").exit_code == DECIDED
    assert lines(out)[-1]["source"].endswith("c.png"), "what failed is asked again"


def test_exit_codes_tell_blocked_from_undecided_from_both(stack: Stack, bloody: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    assert run(stack, "moderate", bloody, "--out", out).exit_code == BLOCKED
    (bloody / "broken.png").write_bytes(b"broken")
    assert run(stack, "moderate", bloody, "--out", out).exit_code == BOTH
    assert run(stack, "moderate", bloody, "--fail-on", "never", "--out", out).exit_code == UNDECIDED
    (bloody / "broken.png").unlink()
    assert run(stack, "moderate", bloody, "--fail-on", "never", "--out", out).exit_code == DECIDED


def test_lines_hold_evidence_all_scores_and_the_external_id(stack: Stack, bloody: Path, tmp_path: Path) -> None:
    out, table = tmp_path / "out.jsonl", tmp_path / "out.csv"
    template = "archive/{folder}/{stem}"
    (bloody / "deeper").mkdir()
    (bloody / "0.png").rename(bloody / "deeper" / "0.png")
    assert run(stack, "moderate", bloody, "--out", out, "--external-id", template).exit_code == BLOCKED
    ids = {line["external_id"] for line in lines(out)}
    assert ids == {"archive/deeper/0", "archive//1", "archive//2", "archive//3"}
    logged = httpx2.get(f"{stack.gateway_url}/v1/decisions", params={"external_id": "archive/deeper/0"}).json()["data"]
    assert [entry["id"] for entry in logged] == [
        line["decision_id"] for line in lines(out) if line["external_id"] == "archive/deeper/0"
    ]
    assert run(stack, "moderate", bloody, "--out", table).exit_code == BLOCKED
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    blocked = [row for row in rows if row["decision"] == "block"]
    assert len(blocked) >= 3
    for row in blocked:
        assert set(json.loads(row["scores"])) == {"nudity", "gore", "offensive"}
        assert json.loads(row["evidence"])["gore"][0]["label"]
        assert row["external_id"] in {"deeper/0.png", "1.png", "2.png", "3.png"}


def test_a_name_that_is_no_text_can_be_an_external_id(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path = Path(os.fsdecode(os.fsencode(tmp_path / "in") + b"/\xff\n.png"))
    path.write_bytes(encoded(shape("a blue square")))
    for form in ("jsonl", "csv"):
        out = tmp_path / f"out.{form}"
        for more in ((), ("--resume",)):
            assert run(stack, "moderate", tmp_path / "in", "--out", out, *more).exit_code == DECIDED
        assert b"\xff" in out.read_bytes()
    assert lines(tmp_path / "out.jsonl")[0]["external_id"] == "\\xff\\n.png"


@pytest.mark.parametrize("template", ["{size}", "{name!r}", "{name:>20}", "{", "{0}", "{}"])
def test_templates_with_anything_else_are_wrong_usage(stack: Stack, folder: Path, template: str) -> None:
    assert run(stack, "moderate", folder, "--external-id", template).exit_code == USAGE


def test_a_resumed_run_counts_what_was_found_before(stack: Stack, folder: Path, tmp_path: Path) -> None:
    sources = [str(folder / name) for name in ("a.png", "deeper/b.jpg", "upload-17")]
    out = tmp_path / "out.jsonl"
    out.write_text("".join(json.dumps({"source": source, "decision": "block"}) + "\n" for source in sources))
    assert run(stack, "moderate", folder, "--out", out, "--resume").exit_code == BLOCKED, "nothing was left to ask"
    assert run(stack, "moderate", folder, "--out", out, "--resume", "--fail-on", "never").exit_code == DECIDED
    table = tmp_path / "out.csv"
    assert run(stack, "moderate", folder, "--out", table).exit_code == DECIDED
    table.write_bytes(table.read_bytes()[:-60])
    assert run(stack, "moderate", folder, "--out", table, "--resume").exit_code == DECIDED
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["source"] for row in rows) == sources, "a row that was cut short is asked for again"
    assert all(row["decision"] == "allow" and row["model"] for row in rows)


def test_people_read_text_and_scripts_read_json(stack: Stack, folder: Path) -> None:
    image = folder / "a.png"
    shown = run(stack, "moderate", image)
    assert shown.stdout.startswith(f"allow      {image}: ")
    words = ("-l", "a blue square", "-l", "a red circle")
    assert run(stack, "classify", image, *words).stdout.startswith(f"{image}: a blue square ")
    (line,) = [json.loads(line) for line in run(stack, "classify", image, *words, "--json").stdout.splitlines()]
    assert [score["label"] for score in line["scores"]] == ["a blue square", "a red circle"]
    best = run(stack, "classify", image, *words, "--json", "--top-k", 1, "--template", "a drawing of {}")
    assert len(json.loads(best.stdout)["scores"]) == 1
    saved = run(stack, "classify", image, "--classifier", "gore", "--json")
    assert json.loads(saved.stdout)["scores"]


def test_urls_from_a_file_fail_alone(stack: Stack, tmp_path: Path) -> None:
    urls = tmp_path / "urls.txt"
    urls.write_text("# mine\nhttp://127.0.0.1:1/a.png\n\nhttp://127.0.0.1:1/a.png\n")
    out = tmp_path / "out.jsonl"
    assert run(stack, "moderate", "--urls", urls, "--out", out).exit_code == UNDECIDED
    (line,) = lines(out)
    assert line["error"]["code"] == "source_url_forbidden"
    assert line["external_id"] == "a.png"


async def judged(path: Path, transport: httpx2.AsyncBaseTransport) -> list[judging.Line]:
    taken: list[judging.Line] = []
    asked = Query("/v1/moderate", {}, None, concurrency=1, timeout_s=1.0)
    await judge(Connection("http://elsewhere", None), asked, [Source(str(path), path.name)], taken.append, transport)
    return taken


async def test_what_is_no_gateway_is_a_failure_of_each_image(folder: Path) -> None:
    for said in ("<html>", "{}", '{"model": 1, "results": []}', "3"):
        transport = httpx2.MockTransport(lambda _, said=said: httpx2.Response(200, text=said))
        (line,) = await judged(folder / "a.png", transport)
        assert line["error"]["code"] in {"no_json", "no_gateway"}


async def test_a_broken_connection_is_tried_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "FIRST_PAUSE_S", 0.01)
    failures = [httpx2.RemoteProtocolError("closed"), httpx2.ReadTimeout("late")]

    def answer(_: httpx2.Request) -> httpx2.Response:
        if failures:
            raise failures.pop()
        return httpx2.Response(200, json={"model": {}, "results": [{"index": 0, "decision": "allow"}]})

    transport = httpx2.MockTransport(answer)
    assert (await judged(folder / "a.png", transport))[0]["decision"] == "allow"
    failures += [httpx2.ReadTimeout("late")] * 3
    assert (await judged(folder / "a.png", transport))[0]["error"]["code"] == "no_answer", "the run goes on"
    failures += [httpx2.ConnectError("refused")] * 3
    with pytest.raises(httpx2.ConnectError):
        await judged(folder / "a.png", transport)


def test_wrong_usage_and_an_absent_gateway(stack: Stack, folder: Path, tmp_path: Path) -> None:
    assert run(stack, "moderate", tmp_path / "absent").exit_code == USAGE
    away = CliRunner().invoke(cli, ["moderate", str(folder), "--address", "http://127.0.0.1:1"])
    assert (away.exit_code, "cannot be reached" in away.stderr) == (UNDECIDED, True)
    assert run(stack, "moderate", folder, "--out", folder / "a.png" / "out.jsonl").exit_code == USAGE
    foreign = tmp_path / "foreign"
    foreign.write_text("hello\n")
    for form in ("csv", "jsonl"):
        ended = run(stack, "moderate", folder, "--out", foreign, "--format", form, "--resume")
        assert ended.exit_code == USAGE
    assert foreign.read_text() == "hello\n"
    for words in ((), ("-l", "a", "--classifier", "gore"), ("-l", "a", "--policy", "default")):
        assert run(stack, "classify", folder, *words).exit_code == USAGE
    assert run(stack, "moderate", "--resume", folder).exit_code == USAGE
    assert CliRunner().invoke(cli, ["moderate", str(folder), "--address", "gateway:8000"]).exit_code == USAGE


def test_the_installed_command_knows_its_words(tmp_path: Path) -> None:
    def said(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([COMMAND, *words], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert said("ANYTHING").returncode == USAGE
    assert said().returncode == USAGE
    helped = said("--help")
    assert helped.returncode == 0
    for name in ("serve", "moderate", "classify", "policies", "library", "keys"):
        assert f"\n  {name} " in helped.stdout
        assert said(name, "--help").returncode == 0
    for shell in ("bash", "zsh", "fish"):
        assert "_CLIP_GATEWAY_COMPLETE" in said("completion", shell).stdout
    completed = subprocess.run(
        [COMMAND],
        env={
            **os.environ,
            "_CLIP_GATEWAY_COMPLETE": "bash_complete",
            "COMP_WORDS": "clip-gateway mod",
            "COMP_CWORD": "1",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert completed.stdout.split(",")[1].strip() == "moderate"


def test_the_installed_command_serves(tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundle")
    port, nobody = free_ports(2)
    settings = {"GATEWAY_PORT": str(port), "TRITON_GRPC_PORT": str(nobody), "SHUTDOWN_DELAY_S": "0"}
    folders = {"MODEL_REPOSITORY": str(tmp_path / "bundle"), "DATA_DIR": str(tmp_path / "data")}
    process = subprocess.Popen([COMMAND, "serve"], env={**os.environ, **settings, **folders})
    try:
        until(lambda: process.poll() is not None or answers(f"http://127.0.0.1:{port}/livez"))
        assert process.poll() is None
    finally:
        assert stop(process) == 0
    unusable = {**os.environ, **settings, "MODEL_REPOSITORY": str(tmp_path / "absent")}
    assert subprocess.run([COMMAND, "serve"], env=unusable, capture_output=True, check=False).returncode == USAGE


def answers(url: str) -> bool:
    try:
        return httpx2.get(url).status_code == 200
    except httpx2.TransportError:
        return False
