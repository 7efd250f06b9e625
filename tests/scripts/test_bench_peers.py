"""What the comparison with other software is made of: pinned environments, and services that import nothing of ours."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from scripts.bench import __main__ as bench
from scripts.bench import gpu
from scripts.bench.peer_setup import SERVICES, version
from scripts.bench.plan import Plan

REQUIREMENTS = sorted((SERVICES / "requirements").glob("*.txt"))


@pytest.mark.parametrize("path", REQUIREMENTS, ids=lambda path: path.stem)
def test_every_peer_is_pinned(path: Path) -> None:
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line) for line in lines)
    assert version(path.stem, "torch") == "2.13.0"
    assert not any(line.startswith("torchvision") for line in lines)


def test_peers_import_nothing_of_this_project() -> None:
    for path in SERVICES.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.split(".")[0] in {"gateway", "scripts", "loadtests", "tests"} for name in names), path


def test_peers_are_measured_when_they_are_asked_for() -> None:
    assert "peers" not in bench.sections_of((), device="auto", peers=False)
    assert "peers" in bench.sections_of((), device="auto", peers=True)
    assert bench.sections_of(("peers",), device="auto", peers=False) == ("peers",)


def test_with_a_gpu_asked_for_what_is_measured_is_the_gpu() -> None:
    assert bench.sections_of((), device="cuda", peers=False) == ("gpu", "cost")


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="there is a GPU")
def test_without_a_gpu_the_section_says_so() -> None:
    section = gpu.measure(Plan("demo", "fp16", "cuda", 1.0, 1, 1, peers=False, price_per_hour=1.0))
    assert {(target.measured, target.met) for target in section.targets} == {("not measured: no CUDA device", None)}
