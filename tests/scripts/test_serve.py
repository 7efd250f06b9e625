"""``python -m scripts.serve``: what it starts, what it refuses, and that it leaves nothing behind."""

from __future__ import annotations

import os
import platform
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.serve import read_stack
from scripts.triton import leftovers, wheel
from scripts.triton.failure import TritonFailed
from scripts.triton.ports import require_free
from tests.conftest import free_ports
from tests.support.tiny_clip import export, tiny_clip
from tests.support.waiting import UNTIL_S, until

pytestmark = pytest.mark.heavy

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served") / "model_repository"
    assert export(tiny_clip(folder.parent / "tiny-clip"), folder) == 0
    return folder


def serve(folder: Path, repository: Path, ports: list[int]) -> subprocess.Popen[str]:
    names = ("TRITON_HTTP_PORT", "TRITON_GRPC_PORT", "TRITON_METRICS_PORT")
    return subprocess.Popen(
        [sys.executable, "-m", "scripts.serve", "--no-gateway"],
        cwd=ROOT,
        env={
            **os.environ,
            **dict(zip(names, map(str, ports), strict=True)),
            "MODEL": str(repository.parent / "tiny-clip"),
            "DEVICE": "cpu",
            "MODEL_REPOSITORY": str(repository),
            "DATA_DIR": str(folder),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def read_until(process: subprocess.Popen[str], words: str) -> str:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if words in line:
            return "".join(lines)
    pytest.fail(f"ended without {words!r}:\n" + "".join(lines))


@pytest.mark.heavy
def test_serve_stops_clean_and_clears_what_a_killed_run_left(repository: Path, tmp_path: Path) -> None:
    ports, prefix = free_ports(3), leftovers.stack_prefix(tmp_path)
    first = serve(tmp_path, repository, ports)
    read_until(first, "ready; Ctrl-C")
    assert len(leftovers.processes(prefix)) >= 3
    end(first)
    second = serve(tmp_path, repository, ports)
    try:
        read_until(second, "ready; Ctrl-C")
        second.send_signal(signal.SIGTERM)
        assert second.wait(60) == 0
    finally:
        end(second)
    assert leftovers.processes(prefix) == []
    assert leftovers.regions(prefix) == []


def test_serve_stopped_while_loading_leaves_nothing(repository: Path, tmp_path: Path) -> None:
    process, prefix = serve(tmp_path, repository, free_ports(3)), leftovers.stack_prefix(tmp_path)
    try:
        read_until(process, "loading: clip_image")
        until(lambda: len(leftovers.processes(prefix)) >= 2)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        end(process)
    assert leftovers.processes(prefix) == []
    assert leftovers.regions(prefix) == []


def test_serve_says_in_one_sentence_which_port_is_taken(repository: Path, tmp_path: Path) -> None:
    ports = free_ports(3)
    with socket.create_server(("127.0.0.1", ports[1])):
        process = serve(tmp_path, repository, ports)
        output, _ = process.communicate(timeout=UNTIL_S)
    assert process.returncode == 1
    assert output.strip().splitlines()[-1].startswith(f"serve: port {ports[1]} on 127.0.0.1 cannot be used")
    assert "TRITON_GRPC_PORT" in output
    assert "Traceback" not in output


def test_ports_are_checked_for_sense() -> None:
    with pytest.raises(TritonFailed, match="both"):
        require_free({"A": ("127.0.0.1", 1234), "B": ("127.0.0.1", 1234)})
    with pytest.raises(TritonFailed, match="no port"):
        require_free({"A": ("127.0.0.1", 70_000)})


def test_the_environment_fills_in_the_defaults() -> None:
    stack = read_stack({"TRITON_GRPC_PORT": "9001", "MODEL": ""})
    assert (stack.model, stack.precision, stack.device) == ("demo", "fp32", "auto")
    assert (stack.triton.http_port, stack.triton.grpc_port, stack.gateway_port) == (8100, 9001, 8000)
    assert stack.environment["TRITON_GRPC_PORT"] == "9001"


def test_other_platforms_are_sent_to_compose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    with pytest.raises(TritonFailed, match="Docker Compose"):
        wheel.find_server()
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.31"))
    with pytest.raises(TritonFailed, match=r"glibc 2\.35 or newer, this system has glibc 2\.31"):
        wheel.find_server()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("GATEWAY_API_KEYS_FILE", "no-such-file"),
        ("DATABASE_URL", "mysql://127.0.0.1/moderation"),
        ("GATEWAY_HOST", "0.0.0.0"),  # noqa: S104 - refused
    ],
)
def test_wrong_settings_of_the_gateway_are_told_before_anything_is_exported(
    variable: str, value: str, repository: Path, tmp_path: Path
) -> None:
    names = ("GATEWAY_PORT", "TRITON_HTTP_PORT", "TRITON_GRPC_PORT", "TRITON_METRICS_PORT")
    done = subprocess.run(
        [sys.executable, "-m", "scripts.serve"],
        cwd=ROOT,
        env={
            **os.environ,
            **dict(zip(names, map(str, free_ports(4)), strict=True)),
            "MODEL": str(repository.parent / "tiny-clip"),
            "MODEL_REPOSITORY": str(tmp_path / "models"),
            "DATA_DIR": str(tmp_path / "data"),
            variable: value,
        },
        capture_output=True,
        text=True,
        timeout=UNTIL_S,
        check=False,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    told, last = done.stderr.strip().splitlines()
    assert told.startswith("gateway: ")
    assert variable in told or value in told
    assert last == "serve: the gateway cannot run with these settings: the line above says why"
    assert not (tmp_path / "models").exists()


def test_good_settings_pass_the_check_without_a_bundle(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "--check"],
        cwd=ROOT,
        env={**os.environ, "MODEL_REPOSITORY": str(tmp_path / "models"), "DATA_DIR": str(tmp_path / "data")},
        capture_output=True,
        text=True,
        timeout=UNTIL_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
