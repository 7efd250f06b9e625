"""The command line against the real stack: folders, URLs, resume, formats and exit codes."""

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

from scripts import moderate
from scripts.demo.world import draw, scenario_scene
from tests.conftest import ROOT, Stack
from tests.drawings import encoded, shape


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two clean drawings, one of them deeper, one broken file, and one that is no picture by its name."""
    made = tmp_path / "pictures"
    (made / "deeper").mkdir(parents=True)
    (made / "a.png").write_bytes(encoded(shape("a blue square")))
    (made / "deeper" / "b.jpg").write_bytes(encoded(shape("a green circle"), "JPEG", quality=92))
    (made / "notes.txt").write_text("no picture")
    return made


def run(stack: Stack, *words: Any) -> int:
    return moderate.main([str(word) for word in (*words, "--address", stack.gateway_url)])


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_folder_is_moderated_and_resumed(stack: Stack, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    assert run(stack, folder, "--out", out) == moderate.DONE
    assert {Path(line["source"]).name for line in lines(out)} == {"a.png", "b.jpg"}
    assert all(line["decision"] == "allow" and line["policy"]["name"] == "default" for line in lines(out))
    (folder / "c.png").write_bytes(b"broken")
    assert run(stack, folder, "--out", out, "--resume") == moderate.FAILED
    assert [Path(line["source"]).name for line in lines(out)[2:]] == ["c.png"]
    (folder / "c.png").write_bytes(encoded(shape("a red circle")))
    with out.open("a") as file:
        file.write('{"source": "cut sh')
    assert run(stack, folder, "--out", out, "--resume") == moderate.DONE
    assert json.loads(out.read_text().splitlines()[-1])["source"].endswith("c.png"), "what failed is asked again"


def test_what_is_blocked_sets_the_exit_code(stack: Stack, tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    for number in range(4):
        (tmp_path / f"{number}.png").write_bytes(
            encoded(draw(scenario_scene("gore", rng, present=True), (240, 240), rng))
        )
    out = tmp_path / "out.csv"
    assert run(stack, tmp_path, "--format", "csv", "--out", out) == moderate.FOUND
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    assert sum(row["decision"] == "block" for row in rows) >= 3
    assert run(stack, tmp_path, "--fail-on", "never", "--out", tmp_path / "again.jsonl") == moderate.DONE


def test_a_resumed_run_counts_what_was_found_before(stack: Stack, folder: Path, tmp_path: Path) -> None:
    sources = [str(folder / name) for name in ("a.png", "deeper/b.jpg")]
    out = tmp_path / "out.jsonl"
    out.write_text("".join(json.dumps({"source": source, "decision": "block"}) + "\n" for source in sources))
    assert run(stack, folder, "--out", out, "--resume") == moderate.FOUND, "nothing was left to ask, and yet"
    assert run(stack, folder, "--out", out, "--resume", "--fail-on", "never") == moderate.DONE
    table = tmp_path / "out.csv"
    assert run(stack, folder, "--format", "csv", "--out", table) == moderate.DONE
    whole = table.read_bytes()
    table.write_bytes(whole[:-60])
    assert run(stack, folder, "--format", "csv", "--out", table, "--resume") == moderate.DONE
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["source"] for row in rows) == sources, "a row that was cut short is asked for again"
    assert all(row["decision"] == "allow" and row["model"] for row in rows)


def test_names_that_are_no_text_are_written_as_they_are(stack: Stack, tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\n.png"))
    path.write_bytes(encoded(shape("a blue square")))
    for form in ("jsonl", "csv"):
        out = tmp_path / f"out.{form}"
        for more in ((), ("--resume",)):
            assert run(stack, path, "--out", out, "--format", form, *more) == moderate.DONE
        assert b"\xff" in out.read_bytes()


def test_classification_by_labels(stack: Stack, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    assert run(stack, folder / "a.png", "--labels", "a blue square", "a red circle", "--out", out) == moderate.DONE
    assert lines(out)[0]["scores"][0]["label"] == "a blue square"


def test_urls_from_a_file_fail_alone(stack: Stack, tmp_path: Path) -> None:
    urls = tmp_path / "urls.txt"
    urls.write_text("# mine\nhttp://127.0.0.1:1/a.png\n\nhttp://127.0.0.1:1/a.png\n")
    out = tmp_path / "out.jsonl"
    assert run(stack, "--urls", urls, "--out", out) == moderate.FAILED
    (line,) = lines(out)
    assert line["error"]["code"] == "source_url_forbidden"


async def test_what_is_no_gateway_is_a_failure_of_each_picture(folder: Path) -> None:
    job = moderate.Job("http://elsewhere", "/v1/moderate", {}, 1, 1.0, None)
    for said in ("<html>", "{}", '{"model": 1, "results": []}', "3"):
        transport = httpx2.MockTransport(lambda _, said=said: httpx2.Response(200, text=said))
        async with httpx2.AsyncClient(base_url=job.address, transport=transport) as client:
            line = await moderate.ask(client, job, str(folder / "a.png"))
        assert line["error"]["code"] in {"no_json", "no_gateway"}


async def test_a_broken_connection_is_tried_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moderate, "FIRST_PAUSE_S", 0.01)
    job = moderate.Job("http://elsewhere", "/v1/moderate", {}, 1, 1.0, None)
    failures = [httpx2.RemoteProtocolError("closed"), httpx2.ReadTimeout("late")]

    def answer(_: httpx2.Request) -> httpx2.Response:
        if failures:
            raise failures.pop()
        return httpx2.Response(200, json={"model": {}, "results": [{"index": 0, "decision": "allow"}]})

    async with httpx2.AsyncClient(base_url=job.address, transport=httpx2.MockTransport(answer)) as client:
        line = await moderate.ask(client, job, str(folder / "a.png"))
        assert line["decision"] == "allow"
        failures += [httpx2.ReadTimeout("late")] * 3
        line = await moderate.ask(client, job, str(folder / "a.png"))
        assert line["error"]["code"] == "no_answer", "one slow picture does not end the run"
        failures += [httpx2.ConnectError("refused")] * 3
        with pytest.raises(httpx2.ConnectError):
            await moderate.ask(client, job, str(folder / "a.png"))


def test_wrong_usage_and_an_absent_gateway(stack: Stack, folder: Path, tmp_path: Path) -> None:
    assert run(stack, tmp_path / "absent") == moderate.USAGE
    unreachable = ["--address", "http://127.0.0.1:1", "--out", str(tmp_path / "x")]
    assert moderate.main([str(folder), *unreachable]) == moderate.UNREACHABLE
    unwritable = folder / "a.png" / "out.jsonl"
    assert run(stack, folder, "--out", unwritable) == moderate.USAGE, "1 would say that something was found"
    foreign = tmp_path / "foreign"
    foreign.write_text("hello\n")
    for form in ("csv", "jsonl"):
        assert run(stack, folder, "--out", foreign, "--format", form, "--resume") == moderate.USAGE
    assert foreign.read_text() == "hello\n"
    for words in (("--labels", "a", "b", "--classifier", "gore"), ("--labels", "a", "b", "--policy", "default")):
        with pytest.raises(SystemExit) as refused:
            run(stack, folder, *words)
        assert refused.value.code == moderate.USAGE
    nothing = subprocess.run([sys.executable, "-m", "scripts.moderate"], cwd=ROOT, capture_output=True, check=False)
    assert nothing.returncode == moderate.USAGE
