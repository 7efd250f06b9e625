"""Instances and threads by wish: the configs are written anew, the models are left as they are."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from gateway.inference.bundle import Manifest, file_sha256, read_manifest
from scripts.export.__main__ import main
from scripts.export.lock import exclusive
from scripts.export.order import read_order
from scripts.export.record import Measured, write_record
from scripts.export.resizing import resize
from scripts.export.sizing import Sizing, Wish
from scripts.serve import StackFailed, read_stack
from tests.support.fake_encoder import write_bundle

MEASURED = Measured(Sizing(4, 1, 16, 128, 50.0, 800), Sizing(2, 1, 64, 1000, 500.0, 150))
MODELS = ("clip_image", "clip_text")


def config(repository: Path, model: str) -> tuple[int, int]:
    """Return instances and threads, as Triton reads them."""
    text = (repository / model / "config.pbtxt").read_text()
    threads = re.search(r'"INTRA_OP_THREAD_COUNT"\s+value\s*{\s*string_value: "(\d+)"', text)
    count = re.search(r"instance_group\s*{\s*count: (\d+)", text)
    assert threads
    assert count
    return int(count[1]), int(threads[1])


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """What an export of the demo model leaves, with files that are no models."""
    manifest: Manifest = write_bundle(tmp_path)
    names = [f"{model}/{file}" for model in MODELS for file in ("1/model.pt", "config.pbtxt")]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    checksums = {name: file_sha256(tmp_path / name) for name in names}
    (tmp_path / "manifest.json").write_text(dataclasses.replace(manifest, checksums=checksums).to_json())
    request = read_order("demo", "fp32", "cpu").request()
    assert request
    write_record(tmp_path, request, MEASURED, Wish())
    resize(tmp_path, request, MEASURED, Wish())
    return tmp_path


def test_a_wish_rewrites_the_configs_alone(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--model=demo", "--device=cpu", f"--repository={repository}"]
    assert [config(repository, model) for model in MODELS] == [(4, 1), (2, 1)]
    kept = {path: path.stat().st_mtime_ns for path in repository.glob("*/1/model.pt")}
    assert main([*words, "--instances=2", "--threads=3"]) == 0
    assert [config(repository, model) for model in MODELS] == [(2, 3), (2, 3)]
    assert main([*words, "--text-instances=1"]) == 0
    assert [config(repository, model) for model in MODELS] == [(4, 1), (1, 1)]
    assert main(words) == 0  # back to what was measured
    assert [config(repository, model) for model in MODELS] == [(4, 1), (2, 1)]
    assert main(words) == 0
    assert "already" in capsys.readouterr().out.splitlines()[-1]
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    checksums = read_manifest(repository).checksums
    assert checksums == {name: file_sha256(repository / name) for name in checksums}


def test_a_bundle_that_is_served_keeps_its_configs(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with exclusive(repository):
        assert main(["--model=demo", "--device=cpu", f"--repository={repository}", "--instances=3"]) == 1
    assert "is in use" in capsys.readouterr().err
    assert config(repository, "clip_image") == (4, 1)


def test_a_stack_reads_the_wish_from_its_environment() -> None:
    assert read_stack({"INSTANCES": "2", "THREADS": "4"}).wish == Wish(2, 0, 4)
    with pytest.raises(StackFailed, match="INSTANCES=many"):
        read_stack({"INSTANCES": "many"})


@pytest.mark.parametrize("wrong", ["-1", "257", "two"])
def test_a_count_has_bounds(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([f"--instances={wrong}"])
    assert "no number from 0 to 256" in capsys.readouterr().err
