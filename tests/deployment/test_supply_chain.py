"""The locked requirements agree with pyproject.toml, constraints.txt and what is installed; secrets come from files."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from gateway.settings import Settings
from scripts import audit, lock
from tests.conftest import ROOT, free_ports
from tests.support.fake_encoder import write_bundle

HINT = "run: make lock"
EXTRAS = ("evaluate.txt", "heic.txt", "oidc.txt", "pdq.txt", "redis.txt", "review.txt", "traces.txt")
FILES = ("gateway.txt", *EXTRAS, "build.txt", "compile.txt", "tools.txt")
TEXTS = {file: (lock.FOLDER / file).read_text(encoding="utf-8") for file in FILES}
PINS = {
    file: {name: Requirement(entry.split("\\\n")[0]) for name, entry in lock.entries(text).items()}
    for file, text in TEXTS.items()
}
CONSTRAINTS = {
    lock.normalised(line.split("==")[0]): line.split("==")[1]
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
}


def pinned(requirement: Requirement) -> str:
    (clause,) = requirement.specifier
    assert clause.operator == "=="
    return clause.version


def test_the_files_are_those_that_are_written() -> None:
    assert set(lock.wanted()) == set(FILES) == {path.name for path in lock.FOLDER.iterdir()}


@pytest.mark.parametrize("file", FILES)
def test_every_package_is_exact_and_hashed_and_no_index_is_named(file: str) -> None:
    for name, entry in lock.entries(TEXTS[file]).items():
        assert re.findall(r"--hash=sha256:[0-9a-f]{64}(?= |$)", entry, re.MULTILINE), name
        assert pinned(PINS[file][name])
    assert "://" not in TEXTS[file]
    assert "index" not in TEXTS[file]
    lines = len([line for line in TEXTS[file].splitlines() if not line.startswith((" ", "#"))])
    assert lines == len(PINS[file]), "a line that is no pin"


@pytest.mark.parametrize("file", FILES)
def test_the_versions_are_those_of_constraints_and_meet_pyproject(file: str) -> None:
    for name, requirement in PINS[file].items():
        if name in CONSTRAINTS or file != "tools.txt":
            assert CONSTRAINTS.get(name) == pinned(requirement), f"{name}: {HINT}"
    beside = PINS["gateway.txt"] if file in EXTRAS else {}
    for line in lock.wanted()[file]:
        wanted = Requirement(line)
        found = (beside | PINS[file]).get(lock.normalised(wanted.name))
        assert found is not None, f"{wanted.name}: {HINT}"
        assert pinned(found) in wanted.specifier, f"{wanted.name}: {HINT}"


def test_what_the_gateway_needs_is_locked_to_the_last_package() -> None:
    """Followed through what is installed here: a package that no lock holds would end an installation by hash."""
    for wanted, locked in (
        ("gateway.txt", PINS["gateway.txt"]),
        *((file, PINS["gateway.txt"] | PINS[file]) for file in EXTRAS),
    ):
        open_ends = [Requirement(line) for line in lock.wanted()[wanted]]
        seen: set[str] = set()
        while open_ends:
            requirement = open_ends.pop()
            name = lock.normalised(requirement.name)
            assert name in locked, f"{name}: {HINT}"
            key = f"{name}[{','.join(sorted(requirement.extras))}]"
            if key in seen:
                continue
            seen.add(key)
            try:
                needs = requires(name) or []
            except PackageNotFoundError:
                continue
            for line in needs:
                need = Requirement(line)
                extras = requirement.extras or {""}
                if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in extras):
                    open_ends.append(need)


def test_nothing_that_depends_on_the_machine_is_locked() -> None:
    assert not {"torch", "transformers", "nvidia-pytriton"} & {name for pins in PINS.values() for name in pins}
    assert not any(name.startswith("nvidia") for pins in PINS.values() for name in pins)


def test_the_image_installs_by_hash_and_never_builds_a_dependency() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    installs = re.findall(r"\bpip (?:--python \S+ )?install\b[^&\n]*", dockerfile)
    assert len(installs) == 7
    for command in installs:
        by_hash = "--require-hashes --only-binary :all:" in " ".join(command.split())
        own_wheel = bool(re.search(r"--no-deps --no-index /(dist|pdq)/\*\.whl", command))
        torch = "[export,openvino]" in command and "--constraint constraints.txt" in command
        triton = command.endswith("--constraint constraints.txt --no-deps --target /opt/venv/triton nvidia-pytriton")
        assert by_hash or own_wheel or torch or triton, command
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert {"heic", "redis"} <= set(extras)


def test_uvs_environment_is_the_one_that_is_supported() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["tool"]["uv"]["environments"] == ["sys_platform == 'linux'"]
    assert lock.PYTHON in SpecifierSet(project["project"]["requires-python"])


def report(*dependencies: Mapping[str, object]) -> str:
    return json.dumps({"dependencies": list(dependencies), "fixes": []})


GOOD = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "b", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"], "aliases": ["GHSA-1"]}]}
SKIPPED = {"name": "c", "skip_reason": "Dependency not found"}


@pytest.mark.parametrize(
    ("says", "code", "words"),
    [
        (report(GOOD), 0, "nothing is known"),
        (report(GOOD, BAD), 1, "b 1: CVE-1 GHSA-1, fixed in 2"),
        (report(GOOD, SKIPPED), 2, "1 NOT AUDITED"),
        (report(BAD, SKIPPED), 1, "CVE-1"),
        ("", 2, "cannot be reached"),
    ],
)
def test_an_audit_that_looked_nothing_up_does_not_pass(
    says: str, code: int, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stand-in for pip-audit, which itself ends with 0 where it could look nothing up."""
    program = tmp_path / "pip-audit"
    program.write_text(f"#!{sys.executable}\nimport sys\nsys.stdout.write({says!r})\n", encoding="utf-8")
    program.chmod(0o755)
    assert audit.main(["--pip-audit", str(program)]) == code
    assert words in capsys.readouterr().out


def test_a_setting_can_come_from_a_file_and_a_variable_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "database_url").write_text("postgresql://u:p@h/n\n", encoding="utf-8")
    assert Settings(_secrets_dir=tmp_path).database_url == "postgresql://u:p@h/n"
    monkeypatch.setenv("DATABASE_URL", "postgresql://other")
    assert Settings(_secrets_dir=tmp_path).database_url == "postgresql://other"


@pytest.mark.parametrize(
    "wrong",
    [
        {"GATEWAY_PORT": "Zwiebelkuchen", "FETCH_PROXY": "http://user:Zwiebelkuchen@proxy:port"},
        {"DATABASE_URL": "postgresql://user:Zwiebelkuchen@host:port/name"},
    ],
)
def test_a_setting_that_is_wrong_is_named_without_its_value(wrong: dict[str, str], tmp_path: Path) -> None:
    write_bundle(tmp_path)
    run = subprocess.run(
        [sys.executable, "-m", "gateway"],
        cwd=ROOT,
        env={"MODEL_REPOSITORY": str(tmp_path), "GATEWAY_PORT": str(free_ports(1)[0]), **wrong},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    said = run.stderr + run.stdout
    assert run.returncode != 0
    assert all(f"{name} is not valid" in said or f"{name} cannot be used" in said for name in wrong)
    assert "Zwiebelkuchen" not in said
