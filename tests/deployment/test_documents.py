"""The documentation and the code say the same; every block of commands in it runs against the stack."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.errors import error_classes
from gateway.settings import Settings
from scripts.document_tables import scenarios, settings_table, with_errors, with_labels, with_scenarios, with_settings
from tests.conftest import ROOT, Stack
from tests.deployment.test_compose import documented

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in PAGES}
BLOCK = re.compile(r"(<!-- not run: [^>]+ -->\n)?```(bash|python)\n(.*?)```", re.DOTALL)
BLOCKS = [(page, *found) for page, text in TEXTS.items() for found in BLOCK.findall(text)]
RUN = [(page, language, code) for page, mark, language, code in BLOCKS if not mark]
ROOT_DOCUMENTS = ("ARCHITECTURE.md", "CHANGELOG.md", "MODEL_CARD.md", "SECURITY.md")
CARD_SECTIONS = [
    "Training data",
    "Policy and taxonomy",
    "Annotation methodology",
    "Performance benchmarks",
    "Bias and limitations",
    "Implementation guidance",
    "Links",
]
"""Those that a model card of ROOST's Coop must have (``REQUIRED_MODEL_CARD_SECTION_IDS``), in their order."""


def draws(page: str, code: str) -> bool:
    """Whether a block, or one before it on its page, draws images to evaluate or to learn from."""
    before = [other for where, _, other in RUN if where == page]
    return any("scripts.demo.labelled" in other for other in before[: before.index(code) + 1])


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_every_setting_is_documented_with_its_default() -> None:
    assert settings_table() in TEXTS["docs/configuration.md"], "run: python -m scripts.document_tables"
    assert all(field.description for field in Settings.model_fields.values())


def test_every_error_code_is_documented() -> None:
    missing = {error.code for error in error_classes() if f"`{error.code}`" not in TEXTS["docs/errors.md"]}
    assert missing == set()


def test_writing_the_tables_anew_changes_nothing() -> None:
    assert with_settings(TEXTS["docs/configuration.md"]) == TEXTS["docs/configuration.md"]
    assert with_errors(TEXTS["docs/errors.md"]) == TEXTS["docs/errors.md"]
    assert with_scenarios(TEXTS["docs/scenarios/index.md"]) == TEXTS["docs/scenarios/index.md"]


@pytest.mark.parametrize("name", scenarios())
def test_every_scenario_has_a_model_card_of_seven_sections_with_its_labels(name: str) -> None:
    text = TEXTS[f"docs/scenarios/{name}.md"]
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == CARD_SECTIONS
    assert all(part.strip() for part in re.split(r"^## .+$", text, flags=re.MULTILINE))
    assert text.count("\n| ") >= len(scenarios()[name][0].labels)
    assert with_labels(text, name) == text, "run: python -m scripts.document_tables"
    assert "Not measured on photographs" in text
    assert f"| [`{name}`]({name}.md) |" in TEXTS["docs/scenarios/index.md"]


def test_what_holds_for_all_scenarios_is_told_once_under_the_same_sections() -> None:
    text = TEXTS["docs/scenarios/index.md"]
    assert re.findall(r"^### (.+)$", text, re.MULTILINE) == CARD_SECTIONS
    cards = {path for path in TEXTS if path.startswith("docs/scenarios/")} - {"docs/scenarios/index.md"}
    assert cards == {f"docs/scenarios/{name}.md" for name in scenarios()}


def test_every_make_target_of_the_documents_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE))
    for name, text in (TEXTS | {name: text_of(name) for name in ROOT_DOCUMENTS}).items():
        named = set(re.findall(r"`make ([a-z-]+)", text)) | set(re.findall(r"^make ([a-z-]+)", text, re.MULTILINE))
        assert named <= targets, name


@pytest.mark.parametrize("document", [*TEXTS, "ARCHITECTURE.md", "MODEL_CARD.md", "SECURITY.md"])
def test_every_file_that_a_document_names_exists(document: str) -> None:
    for name in re.findall(r"`((?:gateway|scripts|loadtests|tests|docs)/[\w/.]+)`", text_of(document)):
        assert (ROOT / name).exists(), name


def test_every_function_that_the_architecture_names_exists() -> None:
    named = re.findall(r"`(gateway/[\w/]+\.py):([\w.]+)`", text_of("ARCHITECTURE.md"))
    assert len(named) >= 20, "the ten steps name their functions"
    missing = [f"{file}:{name}" for file, name in named if name not in definitions(text_of(file))]
    assert missing == []


def definitions(source: str) -> set[str]:
    """Names of a module's functions and classes, and of methods as Class.method."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    found = set()
    for node in ast.parse(source).body:
        if isinstance(node, kinds):
            found.add(node.name)
            if isinstance(node, ast.ClassDef):
                found |= {f"{node.name}.{member.name}" for member in node.body if isinstance(member, kinds)}
    return found


def test_links_of_the_readme_lead_somewhere() -> None:
    for link in re.findall(r"\]\(([^)#:]+)[^)]*\)", TEXTS["README.md"]):
        assert (ROOT / link).exists(), link


def test_the_readme_can_be_read_in_one_sitting() -> None:
    assert len(TEXTS["README.md"].splitlines()) <= 125


def test_security_is_a_page_and_names_settings_that_exist() -> None:
    text = text_of("SECURITY.md")
    assert len(text.splitlines()) <= 80
    named = {name.lower() for name in re.findall(r"`([A-Z]+_[A-Z_]+)(?:=\w+)?`", text)}
    assert named
    assert named <= {*Settings.model_fields, *(name.lower() for name in documented())}


def test_every_page_is_in_the_navigation_and_no_link_is_broken(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "site" / "index.html").is_file()


def test_some_blocks_run_and_those_that_do_not_say_why() -> None:
    assert len(RUN) >= 20
    assert all(re.search("hub|Docker|Kubernetes|session|sqlite3", mark) for _, mark, _, _ in BLOCKS if mark)


@pytest.mark.parametrize(
    ("page", "language", "code"),
    [
        pytest.param(
            *block,
            id=f"{block[0]}-{block[2].splitlines()[0][:40]}",
            marks=[pytest.mark.heavy] * draws(block[0], block[2]),
        )
        for block in RUN
    ],
)
def test_blocks_run(page: str, language: str, code: str, stack: Stack) -> None:
    """Each block runs as it stands in a plain shell, with the shared stack in place of the default addresses."""
    del page
    host, port = stack.triton_grpc_address.split(":")
    code = code.replace("http://127.0.0.1:8000", stack.gateway_url).replace("127.0.0.1:8101", f"{host}:{port}")
    environment = {**os.environ, "MODEL_REPOSITORY": str(stack.model_repository), "TRITON_GRPC_PORT": port}
    shell = ["bash", "-euo", "pipefail", "-c"]
    shutil.rmtree(ROOT / "reports" / "policies", ignore_errors=True)  # of a run before
    command = [*shell, code] if language == "bash" else [str(ROOT / ".venv" / "bin" / "python"), "-c", code]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr + run.stdout
    for expected in re.findall(r"^# → (.+)$", code, re.MULTILINE):
        assert expected in run.stdout, run.stdout
