"""The gRPC example client gives the gateway's scores, and says in one line what is wrong."""

from __future__ import annotations

import ast
import io
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image

from tests.conftest import Stack

ROOT = Path(__file__).resolve().parents[2]
LABELS = ["a red circle", "a blue square", "a green star", "an empty picture"]
NOBODY = "127.0.0.1:9"  # the discard port: nothing listens


def drawing(width: int, height: int) -> Image.Image:
    """A picture with structure everywhere, so that another crop or filter would show in the scores."""
    x, y = np.meshgrid(np.linspace(0, 9, width), np.linspace(0, 7, height))
    waves = np.stack([np.sin(x * y), np.cos(x + 2 * y), np.sin(3 * x - y)], axis=-1)
    return Image.fromarray(((waves + 1) * 127).astype(np.uint8))


def encoded(picture: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    return encoded(drawing(300, 121), "JPEG", quality=92, exif=exif)


def half_seen() -> Image.Image:
    picture = drawing(150, 170).convert("RGBA")
    picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    return picture


def grey_16() -> Image.Image:
    return Image.fromarray((np.arange(200 * 170, dtype=np.uint32).reshape(170, 200) * 65535 // 34000).astype(np.uint16))


PICTURES: dict[str, Callable[[], bytes]] = {
    "wide.jpg": lambda: encoded(drawing(641, 283), "JPEG", quality=90),
    "tall.png": lambda: encoded(drawing(101, 399), "PNG"),
    "square.webp": lambda: encoded(drawing(224, 224), "WEBP", lossless=True),
    "turned.jpg": turned,
    "alpha.png": lambda: encoded(half_seen(), "PNG"),
    "palette.gif": lambda: encoded(drawing(130, 90).quantize(64), "GIF"),
    "grey16.png": lambda: encoded(grey_16(), "PNG"),
    "cmyk.jpg": lambda: encoded(drawing(120, 90).convert("CMYK"), "JPEG"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("pictures")
    for name, make in PICTURES.items():
        (made / name).write_bytes(make())
    return made


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scripts.classify_grpc", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def ask(stack: Stack, *words: str | Path) -> subprocess.CompletedProcess[str]:
    place: list[str | Path] = [
        "--address",
        stack.triton_grpc_address,
        "--tokenizer",
        stack.model_repository / "tokenizer.json",
    ]
    return run(*words, *place, "--timeout", "60")


def gateway_scores(stack: Stack, file: Path, templates: Sequence[str]) -> dict[str, float]:
    fields = {"labels": LABELS, "templates": list(templates)}
    files = {"file": (file.name, file.read_bytes())}
    answer = httpx2.post(f"{stack.gateway_url}/v1/classify", data=fields, files=files, timeout=60)
    assert answer.status_code == 200, answer.text
    return {entry["label"]: entry["score"] for entry in answer.json()["results"][0]["scores"]}


@pytest.mark.parametrize("kind", [(), ("--async",)], ids=["plain", "asyncio"])
@pytest.mark.parametrize(
    "templates", [None, ["a drawing of {}", "{}", "a picture that shows {}"]], ids=["own", "given"]
)
def test_scores_are_the_gateways(
    stack: Stack, folder: Path, kind: tuple[str, ...], templates: list[str] | None
) -> None:
    files = [folder / name for name in PICTURES]
    words = ["--templates", *templates] if templates else []
    done = ask(stack, *files, "--labels", *LABELS, *words, "--json", *kind)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["picture"] for line in lines] == [str(file) for file in files]
    for file, line in zip(files, lines, strict=True):
        ours = {entry["label"]: entry["score"] for entry in line["scores"]}
        assert sum(ours.values()) == pytest.approx(1, abs=1e-6)
        assert [entry["score"] for entry in line["scores"]] == sorted(ours.values(), reverse=True)
        assert ours == pytest.approx(gateway_scores(stack, file, templates or []), abs=1e-4), file.name


@pytest.mark.parametrize("kind", [(), ("--async",)], ids=["plain", "asyncio"])
def test_more_than_one_batch(stack: Stack, folder: Path, kind: tuple[str, ...]) -> None:
    """Above max_batch_size Triton refuses: pictures and prompts have to be chunked, and stay in order."""
    files = [folder / name for name in PICTURES] * 17
    labels = [f"{count} {thing}" for count in ("no", "one", "two", "ten") for thing in "abcdefghijklmnopqrstuvwxyz"]
    done = ask(stack, *files, "--labels", *labels, "--templates", "{}", "a {}", "--json", *kind)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == len(files)
    assert {entry["label"] for entry in lines[0]["scores"]} == set(labels)
    for line, first in zip(lines, lines[: len(PICTURES)] * 17, strict=True):
        ours = {entry["label"]: entry["score"] for entry in line["scores"]}
        assert ours == pytest.approx({entry["label"]: entry["score"] for entry in first["scores"]}, abs=1e-4)


def test_prints_lines_for_people(stack: Stack, folder: Path) -> None:
    done = ask(stack, folder / "wide.jpg", "--labels", *LABELS)
    assert done.returncode == 0, done.stderr
    first, *rows = done.stdout.splitlines()
    assert first.endswith("wide.jpg")
    assert {row[10:] for row in rows} == set(LABELS)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--labels", "one"], "two or more labels"),
        (["--labels", "a", "a"], "all different"),
        (["--labels", "a", " "], "none blank"),
        (["--labels", "a", "b", "--templates", "no slot"], "exactly once"),
        (["--labels", "word " * 200, "b"], "tokens"),
    ],
)
def test_refuses_words_in_one_line(stack: Stack, folder: Path, words: list[str], says: str) -> None:
    done = ask(stack, folder / "wide.jpg", *words)
    assert done.returncode == 1
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("kind", [(), ("--async",)], ids=["plain", "asyncio"])
def test_refuses_files_in_one_line(stack: Stack, tmp_path: Path, folder: Path, kind: tuple[str, ...]) -> None:
    (tmp_path / "text.jpg").write_text("this is no picture")
    (tmp_path / "cut.jpg").write_bytes((folder / "wide.jpg").read_bytes()[:4000])
    for name in ("text.jpg", "cut.jpg", "absent.jpg"):
        done = ask(stack, tmp_path / name, "--labels", "a", "b", *kind)
        assert done.returncode == 1
        assert f"{name} cannot be read as a picture" in done.stderr
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("kind", [(), ("--async",)], ids=["plain", "asyncio"])
def test_another_tokenizer_is_refused(stack: Stack, tmp_path: Path, folder: Path, kind: tuple[str, ...]) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    for name, says in (("tokenizer.json", "not that of the model"), ("absent.json", "--tokenizer names")):
        place: list[str | Path] = ["--address", stack.triton_grpc_address, "--tokenizer", tmp_path / name]
        done = run(folder / "wide.jpg", "--labels", "a", "b", *place, *kind)
        assert done.returncode == 1
        assert says in done.stderr
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("kind", [(), ("--async",)], ids=["plain", "asyncio"])
def test_no_server_and_no_time(stack: Stack, folder: Path, kind: tuple[str, ...]) -> None:
    words: list[str | Path] = [folder / "wide.jpg", "--labels", "a", "b", *kind]
    absent = run(*words, "--address", NOBODY, "--timeout", "20")
    assert absent.returncode == 1
    assert absent.stderr == f"classify: no Triton answers at {NOBODY}\n"
    late = run(*words, "--address", stack.triton_grpc_address, "--timeout", "0.0001")
    assert late.returncode == 1
    assert late.stderr == "classify: no answer in time; --timeout gives more\n"


def test_stands_alone() -> None:
    """The file can be copied: it imports nothing of this project, and neither torch nor transformers."""
    tree = ast.parse((ROOT / "scripts" / "classify_grpc.py").read_text())
    imported = {
        alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    imported |= {(node.module or ".").split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported - sys.stdlib_module_names == {"grpc", "numpy", "PIL", "tokenizers", "tritonclient"}
