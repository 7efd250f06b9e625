"""Finds the Triton server inside the ``nvidia-pytriton`` wheel and lays out its backends."""

from __future__ import annotations

import platform
import shutil
import sys
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path

from scripts.triton.failure import TritonFailed

FOLDER = "triton"
"""Of the environment, where make installs the wheel: beside the packages, whose versions are not the wheel's."""
GLIBC = (2, 35)
MACHINES = ("x86_64", "aarch64")
OWN_BACKENDS = Path(__file__).resolve().parent / "backend"
ELSEWHERE = "use Docker Compose instead (`docker compose up`)"


@dataclass(frozen=True, slots=True)
class Server:
    """Where the wheel's parts are.

    Attributes:
        binary: ``tritonserver``.
        libraries: folder of its shared libraries.
        python_backend: folder of Triton's Python backend.
        stub: the process that runs Python models, for this version of Python.
    """

    binary: Path
    libraries: Path
    python_backend: Path
    stub: Path


def find_server() -> Server:
    """Find the server of the wheel.

    Raises:
        TritonFailed: not on this platform, or the wheel is not installed.
    """
    check_platform()
    found = PathFinder.find_spec("pytriton", [str(Path(sys.prefix, FOLDER)), *sys.path])
    if found is None or found.origin is None:
        raise TritonFailed(
            "the Triton server is not installed: run `make serve`, or `pip install --no-deps nvidia-pytriton==0.7.0`"
        )
    package = Path(found.origin).parent
    root = package / "tritonserver"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    server = Server(
        binary=root / "bin" / "tritonserver",
        libraries=package.parent / "nvidia_pytriton.libs",
        python_backend=root / "backends" / "python",
        stub=root / "python_backend_stubs" / version / "triton_python_backend_stub",
    )
    if not server.stub.is_file():
        raise TritonFailed(f"the Triton wheel has no stub for Python {version}: use Python 3.11, or {ELSEWHERE}")
    if not server.binary.is_file():
        raise TritonFailed("the Triton wheel has no server inside: reinstall nvidia-pytriton==0.7.0")
    return server


def check_platform() -> None:
    """Refuse platforms that the wheel is not built for.

    Raises:
        TritonFailed: not Linux on x86_64 or arm64 with a recent glibc.
    """
    system, machine = platform.system(), platform.machine()
    if system != "Linux" or machine not in MACHINES:
        raise TritonFailed(
            f"Triton runs without a container on Linux x86_64 and arm64 only, not {system} {machine}: {ELSEWHERE}"
        )
    library, version = platform.libc_ver()
    parts = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if library != "glibc" or parts < GLIBC:
        raise TritonFailed(
            f"Triton needs glibc {GLIBC[0]}.{GLIBC[1]} or newer, this system has {library or 'another C library'} "
            f"{version}".rstrip()
            + f": {ELSEWHERE}"
        )


def lay_out_backends(server: Server, folder: Path) -> Path:
    """Make a backend directory for the server inside ``folder`` and return it.

    It holds Triton's Python backend with the stub of this Python, and the backends of ours. Files are small (about
    6 MB), so they are copied anew each time: nothing of an older version stays.
    """
    backends = folder / "backends"
    shutil.rmtree(backends, ignore_errors=True)
    ignored = shutil.ignore_patterns("__pycache__", "__init__.py")
    shutil.copytree(server.python_backend, backends / "python", ignore=ignored)
    shutil.copy2(server.stub, backends / "python" / server.stub.name)
    for own in OWN_BACKENDS.iterdir():
        if (own / "model.py").is_file():
            shutil.copytree(own, backends / own.name, ignore=ignored)
            shutil.copy2(OWN_BACKENDS / "rows.py", backends / own.name)
    return backends
