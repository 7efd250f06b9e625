"""What a release publishes: a wheel that works where nothing else of the repository is, and images by a workflow."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT
from tests.deployment.test_compose import stages

WORKFLOW = ROOT / ".github" / "workflows" / "release.yml"


def jobs() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]
    return found


def steps() -> list[dict[str, Any]]:
    return [step for job in jobs().values() for step in job["steps"]]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "source"  # the build leaves files beside what it builds
    shutil.copytree(ROOT / "gateway", copy / "gateway", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    subprocess.run([*build, str(folder), str(copy)], check=True, timeout=120)
    (made,) = folder.glob("*.whl")
    return made


@pytest.mark.heavy
def test_the_wheel_holds_every_file_of_the_gateway_and_nothing_else(wheel: Path) -> None:
    files = (path.relative_to(ROOT) for path in (ROOT / "gateway").rglob("*") if path.is_file())
    wanted = {str(path) for path in files if "__pycache__" not in path.parts}
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert packed == wanted


@pytest.mark.heavy
def test_its_installation_gives_the_command(wheel: Path, tmp_path: Path) -> None:
    """In an environment of its own; what the gateway depends on is that of the tests."""
    venv.create(tmp_path / "env", with_pip=False, symlinks=True)
    python = tmp_path / "env" / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, str(wheel)], check=True, timeout=120)
    (packages,) = (tmp_path / "env" / "lib").glob("python*/site-packages")
    (packages / "tests.pth").write_text(f"{Path(yaml.__file__).parent.parent}\n", encoding="utf-8")

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(words, cwd=tmp_path, env={}, capture_output=True, text=True, timeout=60, check=False)

    where = run(str(python), "-c", "import gateway; print(gateway.__file__)")
    assert Path(where.stdout.strip()).is_relative_to(packages), where.stderr
    command = str(tmp_path / "env" / "bin" / "clip-gateway")
    assert "serve" in run(command, "--help").stdout
    keys = run(command, "keys", "new", "--name", "ann", "--roles", "infer")
    assert keys.returncode == 0, keys.stderr
    assert re.search(r"ann:[0-9a-f]{64}:infer", keys.stdout)
    unserved = run(command, "serve")
    assert unserved.returncode != 0
    assert "model_repository" in unserved.stdout + unserved.stderr


def test_nothing_is_published_before_the_checks_have_passed() -> None:
    found = jobs()
    assert [step["run"] for step in found["check"]["steps"] if "run" in step][-1] == ".ci/run"
    assert all(job["needs"] == "check" for name, job in found.items() if name != "check")
    assert all(job["timeout-minutes"] for job in found.values())


def test_actions_are_pinned_by_commit_and_get_no_more_than_they_need() -> None:
    used = re.findall(r"uses: (\S+)", WORKFLOW.read_text(encoding="utf-8"))
    assert used
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", one) for one in used)
    assert yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["permissions"] == {}
    assert jobs()["check"]["permissions"] == {"contents": "read"}
    # What is expanded into a shell's text could be a command: values come by the environment.
    assert not any("${{" in step.get("run", "") for step in steps())


def test_every_image_of_the_dockerfile_is_built_with_its_bill_of_materials_and_signed_by_digest() -> None:
    job = jobs()["images"]
    ends = {name for name in stages() if f"--from={name}" not in (ROOT / "Dockerfile").read_text(encoding="utf-8")}
    assert set(job["strategy"]["matrix"]["target"]) == ends - {"python", "runtime", "build"}
    (build,) = (step for step in job["steps"] if step.get("id") == "build")
    assert build["with"]["sbom"] is True
    assert build["with"]["provenance"] == "mode=max"
    (sign,) = (step for step in job["steps"] if "cosign sign" in step.get("run", ""))
    assert sign["env"]["IMAGE"].endswith("@${{ steps.build.outputs.digest }}")


def test_the_commands_that_it_runs_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for step in steps():
        for target in re.findall(r"make ([a-z -]+)", step.get("run", "")):
            assert all(re.search(rf"^{name}:", makefile, re.MULTILINE) for name in target.split())
