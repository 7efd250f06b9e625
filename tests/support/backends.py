"""What stands behind a gateway, under a test's control: a real Triton with bad pictures, the line to it, the gateway.

Triton is the launcher's own, with its models loaded and unloaded by request. Single-coloured pictures make it
misbehave: the TorchScript answers what cannot be right, the backend takes its time.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import psutil
import tokenizers
import torch

from gateway.inference.bundle import IMAGE_MODEL, TEXT_MODEL
from scripts.triton import leftovers
from scripts.triton.server import Settings, command, environment
from scripts.triton.wheel import find_server, lay_out_backends
from tests.conftest import ROOT
from tests.support.misbehaving_models import BAD_WORD, HELD, HELD_AT_MOST_S, SLEEPY, SLOW, BadImage, BadText, Doubled
from tests.support.waiting import until

QUEUE = 8


class Behind:
    """A Triton that can be killed, frozen, and have its models taken away.

    Args:
        bundle: the good one.
        folder: for the copy of it and whatever runs here.
        ports: for HTTP, gRPC and metrics.
    """

    def __init__(self, bundle: Path, folder: Path, ports: list[int]) -> None:
        self.repository = folder / "models"
        shutil.copytree(bundle, self.repository, ignore=shutil.ignore_patterns(".lock"))
        self._good = self._tricked()
        http, grpc, metrics = ports
        self.settings = Settings(self.repository, folder / "triton", http, grpc, metrics)
        self.settings.data_dir.mkdir()
        self._log = folder / "triton.log"
        self._notes = folder / "notes"
        self._notes.mkdir()
        self._process: subprocess.Popen[bytes] | None = None
        server = find_server()
        backends = lay_out_backends(server, folder)
        with (backends / "pytorch" / "model.py").open("a") as backend:
            notes = {"folder": str(self._notes), "slow": SLOW, "held": HELD, "held_at_most_s": HELD_AT_MOST_S}
            backend.write(SLEEPY.format(**notes))
        words = [word for word in command(server, backends, self.settings) if "model-control-mode" not in word]
        self._command = [*words, "--model-control-mode=explicit", "--load-model=*"]
        self._environment = environment(server)

    def start(self) -> None:
        """Start it, unless it runs, and wait until it is ready."""
        if self._process is None:
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    self._command, env=self._environment, stdout=log, stderr=log, start_new_session=True
                )
        until(self.is_ready, lambda: self._log.read_text(errors="replace")[-3000:])

    def is_ready(self) -> bool:
        """Return whether all models are loaded."""
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text(errors="replace")[-3000:]
        try:
            return httpx2.get(f"{self.url}/v2/health/ready", timeout=2).status_code == httpx2.codes.OK
        except httpx2.TransportError:
            return False

    @property
    def url(self) -> str:
        """Of Triton's HTTP endpoint."""
        return f"http://127.0.0.1:{self.settings.http_port}"

    def kill(self) -> None:
        """End it as the kernel would for want of memory: at once, with all it has started."""
        if self._process is not None:
            leftovers.kill(self._process, self.settings.prefix)
            self._process = None
        for note in self._notes.iterdir():
            note.unlink()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within, inferences of the colour HELD do not end."""
        mark = self._notes / "held"
        mark.touch()
        try:
            yield
        finally:
            mark.unlink()

    def begun(self) -> int:
        """Return how many inferences that take their time have been begun."""
        return self._noted("begun")

    def idle(self) -> bool:
        """Return whether all of them have ended."""
        return self._noted("begun") == self._noted("ended")

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Within, it neither answers nor hangs up."""
        assert self._process is not None
        server = psutil.Process(self._process.pid)
        processes = [server, *server.children(recursive=True)]
        for process in processes:
            process.suspend()
        try:
            yield
        finally:
            # The models' processes first: the server looks for their sign of life, every 0.3 s, and gives up on those
            # that gave none while all of them slept.
            for process in reversed(processes):
                if process is server:
                    time.sleep(1)
                process.resume()

    def stub(self) -> int:
        """Return the process of an instance of a model."""
        assert self._process is not None
        return next(pid for pid in leftovers.processes(self.settings.prefix) if pid != self._process.pid)

    def unload(self, model: str = IMAGE_MODEL) -> None:
        """Take a model away, and wait until it is gone."""
        httpx2.post(f"{self.url}/v2/repository/models/{model}/unload", json={}, timeout=30).raise_for_status()
        until(lambda: httpx2.get(f"{self.url}/v2/models/{model}/ready", timeout=5).status_code >= 400)

    def load(self, model: str = IMAGE_MODEL) -> None:
        """Load a model as it lies in the repository."""
        httpx2.post(f"{self.url}/v2/repository/models/{model}/load", json={}, timeout=120).raise_for_status()

    @contextmanager
    def doubled(self) -> Iterator[None]:
        """Within, an image model of another type is served."""
        config = self.repository / IMAGE_MODEL / "config.pbtxt"
        usual = config.read_text()
        self._write(IMAGE_MODEL, Doubled(self._good))
        config.write_text(usual.replace("TYPE_FP32", "TYPE_FP64"))
        self.load()
        try:
            yield
        finally:
            self._write(IMAGE_MODEL, BadImage(self._good))
            config.write_text(usual)
            self.load()

    def _noted(self, what: str) -> int:
        try:
            return len((self._notes / what).read_text().splitlines())
        except FileNotFoundError:
            return 0

    def _tricked(self) -> Any:
        def good(model: str) -> Any:
            config = self.repository / model / "config.pbtxt"
            said = r'(key: "inferences_at_most"\s+value \{\s+string_value: )"\d+"'
            text, found = re.subn(said, rf'\1"{QUEUE}"', config.read_text())
            assert found == 1
            text = re.sub(r"(?<=count: )\d+", "2", text, count=1)  # one may sleep while the other works
            config.write_text(text[: text.index("model_warmup")] + 'backend: "pytorch"\n')  # quicker to load
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                return torch.jit.load(str(self.repository / model / "1" / "model.pt"))  # type: ignore[no-untyped-call]

        tokenizer = tokenizers.Tokenizer.from_file(str(self.repository / "tokenizer.json"))
        token = tokenizer.encode(f"a {BAD_WORD}", add_special_tokens=False).ids[-1]
        image = good(IMAGE_MODEL)
        self._write(TEXT_MODEL, BadText(good(TEXT_MODEL), token))
        self._write(IMAGE_MODEL, BadImage(image))
        return image

    def _write(self, model: str, module: torch.nn.Module) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.jit.script(module).save(str(self.repository / model / "1" / "model.pt"))  # type: ignore[no-untyped-call]


class Gateway:
    """A gateway process of one's own.

    Args:
        folder: for its log and its data.
        port: where it listens.
        settings: more of its environment.
    """

    def __init__(self, folder: Path, port: int, **settings: str) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.port = port
        self.data_dir = Path(settings.get("DATA_DIR", str(folder / "data")))
        self.log = folder / f"gateway-{port}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gateway"],
                cwd=ROOT,
                env={
                    **os.environ,
                    "GATEWAY_PORT": str(port),
                    "DATA_DIR": str(self.data_dir),
                    "SHUTDOWN_DELAY_S": "0",
                    **settings,
                },
                stdout=log,
                stderr=log,
            )

    def get(self, path: str) -> httpx2.Response:
        """Ask, on a connection of its own."""
        return httpx2.get(f"{self.url}{path}", timeout=10)

    def status(self, path: str = "/readyz") -> int:
        """Return the status of a path, 0 while nobody listens."""
        try:
            return self.get(path).status_code
        except httpx2.TransportError:
            return 0

    def readiness(self) -> dict[str, Any]:
        """Return what /readyz says."""
        return json.loads(self.get("/readyz").content)  # type: ignore[no-any-return]

    def wait(self, status: int = 200, path: str = "/readyz") -> None:
        """Wait until a path has a status."""
        until(lambda: self.status(path) == status, self.tail)

    def tail(self) -> str:
        """Return the end of its log."""
        return self.log.read_text(errors="replace")[-3000:]

    def stop(self) -> int:
        """Stop it as an init system would; return its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
