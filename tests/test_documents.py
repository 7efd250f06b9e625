"""README, ARCHITECTURE, CHANGELOG and the settings say the same; README's commands run against the stack."""

from __future__ import annotations

import os
import re
import subprocess

import pytest

from gateway.errors import error_classes
from gateway.settings import Settings, configuration_table
from scripts.readme_settings import written
from tests.conftest import ROOT, Stack
from tests.test_compose import documented

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"(<!-- not run: [^>]+ -->\n)?```(bash|python)\n(.*?)```", re.DOTALL)
BLOCKS = [(mark, language, code) for mark, language, code in BLOCK.findall(README)]
RUN = [(language, code) for mark, language, code in BLOCKS if not mark]


def test_every_setting_is_documented_with_its_default() -> None:
    assert configuration_table() in README, "run: python -m scripts.readme_settings"
    assert all(field.description for field in Settings.model_fields.values())


def test_writing_the_tables_anew_touches_no_other_table() -> None:
    assert written(README) == README


def test_every_error_code_is_documented() -> None:
    missing = {error.code for error in error_classes() if f"`{error.code}`" not in README}
    assert missing == set()


def test_every_make_target_of_the_documents_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for document in ("README.md", "ARCHITECTURE.md", "CHANGELOG.md", "SECURITY.md"):
        text = (ROOT / document).read_text(encoding="utf-8")
        named = set(re.findall(r"`make ([a-z-]+)", text)) | set(re.findall(r"^make ([a-z-]+)", text, re.MULTILINE))
        assert named <= targets, document


@pytest.mark.parametrize("document", ["ARCHITECTURE.md", "SECURITY.md"])
def test_every_file_that_a_document_names_exists(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    for name in re.findall(r"`((?:gateway|scripts|loadtests|tests)/[\w/.]+)`", text):
        assert (ROOT / name).exists(), name


def test_security_is_a_page_and_names_settings_that_exist() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 75
    named = {name.lower() for name in re.findall(r"`([A-Z]+_[A-Z_]+)(?:=\w+)?`", text)}
    assert named
    assert named <= {*Settings.model_fields, *(name.lower() for name in documented())}


def test_some_blocks_run_and_those_that_do_not_say_why() -> None:
    assert len(RUN) >= 6
    assert all("hub" in mark or "Docker" in mark or "session" in mark for mark, _, _ in BLOCKS if mark)


@pytest.mark.parametrize(("language", "code"), RUN, ids=lambda value: value.strip().splitlines()[0][:50])
def test_readme_blocks_run(language: str, code: str, stack: Stack) -> None:
    """Each block runs as it stands, with the addresses of the shared stack in place of the defaults."""
    host, port = stack.triton_grpc_address.split(":")
    code = code.replace("http://127.0.0.1:8000", stack.gateway_url).replace("127.0.0.1:8101", f"{host}:{port}")
    environment = {
        **os.environ,
        "PATH": f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}",
        "MODEL_REPOSITORY": str(stack.model_repository),
        "TRITON_GRPC_PORT": port,
    }
    command = ["bash", "-euo", "pipefail", "-c", code] if language == "bash" else ["python", "-c", code]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr + run.stdout
    for expected in re.findall(r"^# → (.+)$", code, re.MULTILINE):
        assert expected in run.stdout, run.stdout
