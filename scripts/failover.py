"""``python -m scripts.failover``: what do clients notice when one of several Tritons dies, freezes or is swapped?

Starts Tritons on loopback addresses (127.0.0.1, .2, .3 and so on, one port) behind one name of a hosts file of their
own, which takes root (``unshare --mount``), and a gateway on that name. Clients ask for the vector of one picture, one
request after another. Each stage prints what they got, the longest time without any good answer, the slowest good
answer, and how many inferences each Triton made since the stage began or it was started. ``--checkout`` runs the
gateway of another checkout, to compare. The exit status is 1 if any answer was another bundle's.
"""

from __future__ import annotations

import argparse
import base64
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import numpy as np

from scripts.bench.machine import machine
from scripts.bench.pictures import photographs
from scripts.triton.staged import StagedTriton, another_bundle

NAME = "tritons.test"
SIZE = (160, 120)
SAME = 0.999  # cosine: batches of another size differ in the seventh digit
START_S = 180.0


@dataclass(slots=True)
class Seen:
    """What clients got in one stage.

    Attributes:
        answers: by status and code; ``wrong`` are good answers of another bundle.
        good_at_s: when each good answer came, monotonic.
        slowest_s: of the good ones.
    """

    answers: Counter[str] = field(default_factory=Counter)
    good_at_s: list[float] = field(default_factory=list)
    slowest_s: float = 0.0

    def longest_gap_s(self, start_s: float, end_s: float) -> float:
        """Return the longest time in which no good answer came."""
        at = [start_s, *sorted(self.good_at_s), end_s]
        return max(after - before for before, after in itertools.pairwise(at))


class Clients:
    """Threads that ask for the vector of one picture, over and over.

    Args:
        url: of the gateway.
        count: of them.
    """

    def __init__(self, url: str, count: int) -> None:
        picture = base64.b64encode(photographs(1, SIZE)[0]).decode()
        self._url, self._body = url, {"input": [{"image": {"base64": picture}}]}
        self._over = threading.Event()
        self._lock = threading.Lock()
        self.seen = Seen()
        with httpx2.Client(base_url=url, timeout=30) as client:
            self._right = self._vector(client.post("/v1/embeddings", json=self._body))
        self._threads = [threading.Thread(target=self._ask) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def begin(self) -> None:
        """Count from here on."""
        with self._lock:
            self.seen = Seen()

    def answers(self) -> Counter[str]:
        """Return how many answers of which kind there were since ``begin``."""
        with self._lock:
            return self.seen.answers.copy()

    def end(self) -> None:
        """Let the last requests end."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    @staticmethod
    def _vector(answer: httpx2.Response) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        return np.asarray(answer.raise_for_status().json()["data"][0]["embedding"], np.float32)

    def _ask(self) -> None:
        with httpx2.Client(base_url=self._url, timeout=30) as client:
            while not self._over.is_set():
                sent_s = time.monotonic()
                answer = client.post("/v1/embeddings", json=self._body)
                now_s = time.monotonic()
                good = answer.status_code == httpx2.codes.OK
                right = good and float(self._vector(answer) @ self._right) > SAME
                kind = "200" if right else "wrong" if good else f"{answer.status_code} {answer.json()['code']}"
                with self._lock:
                    self.seen.answers[kind] += 1
                    if right:
                        self.seen.good_at_s.append(now_s)
                        self.seen.slowest_s = max(self.seen.slowest_s, now_s - sent_s)
                if not good:
                    time.sleep(0.05)


@contextmanager
def running_gateway(checkout: Path, folder: Path, port: int, **settings: str) -> Iterator[str]:
    """Start a gateway that finds ``NAME`` in the folder's file ``hosts``; yield its address once it is ready."""
    own = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', str(folder / "hosts")]
    url = f"http://127.0.0.1:{port}"
    with (folder / f"gateway-{port}.log").open("wb") as log:
        process = subprocess.Popen(
            [*own, sys.executable, "-m", "gateway"],
            cwd=checkout,
            env={**os.environ, "GATEWAY_PORT": str(port), "DATA_DIR": str(folder / f"data-{port}"), **settings},
            stdout=log,
            stderr=log,
        )
    try:
        wait_for(lambda: status_of(url) == httpx2.codes.OK)
        yield url
    finally:
        process.terminate()
        process.wait(60)


def status_of(url: str) -> int:
    """Return the status of ``/readyz``, 0 while nobody listens."""
    with suppress(httpx2.TransportError):
        return httpx2.get(f"{url}/readyz", timeout=5).status_code
    return 0


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until something is true.

    Raises:
        TimeoutError: it was not within ``START_S``.
    """
    end = time.monotonic() + START_S
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("waited in vain; the logs are in the folder")
        time.sleep(0.05)


def write_hosts(folder: Path, tritons: list[StagedTriton]) -> None:
    """Write the hosts file: the name leads to each of the Tritons. In place, since it is mounted."""
    lines = ["127.0.0.1 localhost", *(f"{triton.host} {NAME}" for triton in tritons)]
    (folder / "hosts").write_text("\n".join(lines) + "\n")


@dataclass(slots=True)
class Stages:
    """What is done to the Tritons; the one that is busiest is struck, since a spare one's loss proves nothing.

    Attributes:
        tritons: all of them.
        other: another bundle.
        bad_s: how long each bad time lasts, seconds.
        struck: the busiest of the stage before.
    """

    tritons: list[StagedTriton]
    other: Path
    bad_s: float
    struck: StagedTriton

    def calm(self) -> None:
        """Do nothing."""
        time.sleep(self.bad_s)

    def one_is_killed(self) -> None:
        """Kill one, and start it again later."""
        self.struck.kill()
        self.calm()
        self.struck.start().wait_ready()

    def one_freezes(self) -> None:
        """Stop one, and let it go on later."""
        self.struck.signal(signal.SIGSTOP)
        self.calm()
        self.struck.signal(signal.SIGCONT)

    def all_but_one_freeze(self) -> None:
        """Stop all but the last, or but the first where the last is the busiest."""
        spared = self.tritons[0] if self.struck is self.tritons[-1] else self.tritons[-1]
        for triton in self.tritons:
            if triton is not spared:
                triton.signal(signal.SIGSTOP)
        self.calm()
        for triton in self.tritons:
            triton.signal(signal.SIGCONT)

    def one_is_swapped(self) -> None:
        """Start one with another bundle at its address, and later with its own."""
        ours = self.struck.repository
        self.struck.kill()
        self.struck.start(self.other).wait_ready()
        self.calm()
        self.struck.kill()
        self.struck.start(ours).wait_ready()

    def all_are_updated(self) -> None:
        """Let one after the other drain and start anew, as an orchestrator that waits for readiness does."""
        for triton in self.tritons:
            triton.terminate()
            triton.start().wait_ready()
            time.sleep(1)


def main() -> int:
    """Read the command line, stage all, and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tritons", type=int, default=3)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each calm or bad time")
    parser.add_argument("--repository", type=Path, default=Path("model_repository"), help="the bundle")
    parser.add_argument("--checkout", type=Path, default=Path(), help="whose gateway runs")
    parser.add_argument("--port", type=int, default=19010, help="of Triton; the next three are taken too")
    given = parser.parse_args()
    print(machine(), flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # nothing is left running
    wrong = 0
    with ExitStack() as exits:
        folder = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="failover-")))
        other = another_bundle(given.repository, folder / "another")
        ours = folder / "ours"
        shutil.copytree(given.repository, ours, ignore=shutil.ignore_patterns(".lock"))
        tritons, ports = [], range(given.port, given.port + 3)
        for number in range(given.tritons):
            triton = StagedTriton(f"127.0.0.{number + 1}", ports, folder / f"triton-{number}", ours)
            exits.callback(triton.kill)
            tritons.append(triton.start())
        for triton in tritons:
            triton.wait_ready()
        write_hosts(folder, tritons)
        settings = {"TRITON_HOST": NAME, "TRITON_GRPC_PORT": str(ports[1]), "MODEL_REPOSITORY": str(ours)}
        url = exits.enter_context(running_gateway(given.checkout.resolve(), folder, given.port + 3, **settings))
        time.sleep(1)
        clients = Clients(url, given.clients)
        exits.callback(clients.end)
        does = Stages(tritons, other, given.seconds, tritons[0])
        for act in (
            *(does.calm, does.one_is_killed, does.one_freezes, does.all_but_one_freeze),
            *(does.one_is_swapped, does.all_are_updated),
        ):
            before = [triton.inferences() for triton in tritons]
            clients.begin()
            start_s = time.monotonic()
            act()
            time.sleep(2)
            seen, end_s = clients.seen, time.monotonic()
            now = [triton.inferences() for triton in tritons]
            made = [count - had if count >= had else count for count, had in zip(now, before, strict=True)]
            does.struck = tritons[int(np.argmax(made))]
            wrong += seen.answers["wrong"]
            print(
                f"{act.__name__}: {end_s - start_s:.0f} s, {dict(seen.answers.most_common())}, longest without a good "
                f"answer {seen.longest_gap_s(start_s, end_s):.2f} s, slowest {seen.slowest_s:.2f} s, inferences {made}",
                flush=True,
            )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
