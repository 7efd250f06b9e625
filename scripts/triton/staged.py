"""A Triton that is made to fail: killed, frozen, drained, or started anew with another bundle at the same address."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import httpx2

from gateway.inference.bundle import IMAGE_MODEL, MANIFEST_NAME, TEXT_MODEL
from scripts.triton import leftovers
from scripts.triton.server import LOOPBACK, Settings, command, end_with_parent, environment
from scripts.triton.wheel import find_server, lay_out_backends

BUNDLE_ID = re.compile(r'(?<=key: "bundle_id")(\s+value \{\s+string_value: ")[0-9a-f]+')
READY_WITHIN_S = 180.0
SUCCESSES = re.compile(rf'^nv_inference_request_success{{model="{IMAGE_MODEL}",.*}} (\S+)$', re.MULTILINE)


class StagedTriton:
    """One tritonserver on a loopback address, which may share its ports with others on other ones.

    Args:
        host: such as 127.0.0.2.
        ports: for HTTP, gRPC and metrics.
        folder: for its log and backends.
        repository: the bundle that it serves.
        options: more words of its command line.

    Attributes:
        host: see there.
        repository: the bundle that it was started with last.
    """

    def __init__(
        self, host: str, ports: Sequence[int], folder: Path, repository: Path, options: tuple[str, ...] = ()
    ) -> None:
        self.host = host
        self.repository = repository
        self._http_port, self._grpc_port, self._metrics_port = ports
        self._folder = folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir()
        self._server = find_server()
        self._backends = lay_out_backends(self._server, folder)

    @property
    def address(self) -> str:
        """``host:port`` of its gRPC endpoint."""
        return f"{self.host}:{self._grpc_port}"

    def start(self, repository: Path | None = None) -> StagedTriton:
        """Start it, with another bundle where one is given."""
        self.repository = repository or self.repository
        settings = self._settings
        words = command(self._server, self._backends, settings)
        words = [word.replace(f"-address={LOOPBACK}", f"-address={self.host}") for word in words]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*words, *self._options],
                env=environment(self._server),
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=end_with_parent(),  # noqa: PLW1509 - one system call
            )
        return self

    def wait_ready(self) -> None:
        """Wait until it is ready.

        Raises:
            RuntimeError: it ended, or took too long; the text is the end of its log.
        """
        end = time.monotonic() + READY_WITHIN_S
        while True:
            with contextlib.suppress(httpx2.TransportError):
                if httpx2.get(f"http://{self.host}:{self._http_port}/v2/health/ready", timeout=2).is_success:
                    return
            if self._process is None or self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError((self._folder / "log").read_text(errors="replace")[-3000:])
            time.sleep(0.05)

    def inferences(self) -> int:
        """Return how many inferences of images it has made since it was started; 0 where it does not answer."""
        with contextlib.suppress(httpx2.TransportError):
            shown = httpx2.get(f"http://{self.host}:{self._metrics_port}/metrics", timeout=2).text
            return sum(int(float(count)) for count in SUCCESSES.findall(shown))
        return 0

    def signal(self, number: int) -> None:
        """Send the server itself a signal, as a frozen or stopped container's would get."""
        assert self._process is not None  # noqa: S101 - it was started
        os.kill(self._process.pid, number)

    def terminate(self) -> None:
        """Let it drain and end."""
        self.signal(signal.SIGTERM)
        assert self._process is not None  # noqa: S101 - it was started
        self._process.wait(60)
        self.kill()

    def kill(self) -> None:
        """End it as the kernel would for want of memory, with all it has started."""
        if self._process is not None:
            leftovers.kill(self._process, self._settings.prefix)
            self._process = None

    @property
    def _settings(self) -> Settings:
        return Settings(self.repository, self._folder, self._http_port, self._grpc_port, self._metrics_port)


def another_bundle(repository: Path, into: Path) -> Path:
    """Write a bundle with other vectors and another id; return its folder."""
    import torch

    shutil.copytree(repository, into, ignore=shutil.ignore_patterns(".lock"))
    for model in (IMAGE_MODEL, TEXT_MODEL):
        config = into / model / "config.pbtxt"
        config.write_text(BUNDLE_ID.sub(r"\g<1>0123", config.read_text()))
    (into / MANIFEST_NAME).unlink()  # no gateway is started on it
    (file,) = (into / IMAGE_MODEL).glob("*/model.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        good = torch.jit.load(str(file))  # type: ignore[no-untyped-call]

        class Rolled(torch.nn.Module):
            """The image model with its vectors' values in other places."""

            def __init__(self) -> None:
                super().__init__()
                self.good = good

            def forward(self, pixels: torch.Tensor) -> torch.Tensor:
                """Return unit vectors that are not the bundle's."""
                out: torch.Tensor = self.good(pixels)
                return out.roll(1, dims=1)

        torch.jit.script(Rolled()).save(str(file))  # type: ignore[no-untyped-call]
    return into
