"""The gateways of ``make serve``: one or more on one port, each looked after, and replaced one by one without a loss.

The launcher binds the port, and every replica inherits the listener: a connection that nobody has accepted yet is lost
with no replica. It does not serve; should it die, the replicas are killed.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from scripts.triton.server import LOOPBACK, end_with_parent

BACKLOG = 2048
BACKOFF_FIRST_S, BACKOFF_MOST_S = 0.5, 30.0
STEADY_S = 60.0  # of a replica that has run this long the next failure starts the back-off anew
START_WITHIN_S = 180.0  # to its first answer: migrations, and the text vectors of what is saved
TAKE_OVER_WITHIN_S = 55.0  # later a gateway takes connections although it is not ready, which others are
PROBE_S, PROBE_FIRST_S = 1.0, 0.1  # between probes, and until it was ready once
PROBE_TIMEOUT_S = 5.0
MISSES = 3  # in a row: then it hangs
HUNG_S = 2.0  # between SIGTERM and SIGKILL of one that hangs
DRAIN_S, DELAY_S = 30.0, 1.0  # the gateway's own defaults
MARGIN_S = 5.0


class GatewayFailed(Exception):
    """No gateway can run; the text is one sentence saying what is wrong, ``code`` the exit code to end with."""

    def __init__(self, text: str, code: int = 1) -> None:
        super().__init__(text)
        self.code = code


class Replica:
    """One gateway process.

    Args:
        listeners: what it inherits.
        environment: its settings.
        probes: run the probes, each of which waits for an answer.

    Attributes:
        was_ready: it has been ready once.
        hung: it does not answer any more, or never began to.
    """

    def __init__(
        self, listeners: list[socket.socket], environment: Mapping[str, str], probes: ThreadPoolExecutor
    ) -> None:
        # One that is its own alone, even while another leaves its place.
        with socket.create_server((LOOPBACK, 0)) as own:
            inherited = [listener.fileno() for listener in (*listeners, own)]
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gateway", *(word for number in inherited for word in ("--fd", str(number)))],
                env=dict(environment),
                pass_fds=inherited,
                start_new_session=True,
                preexec_fn=end_with_parent(),  # noqa: PLW1509 - one system call
            )
            self._port = int(own.getsockname()[1])
        self._probes = probes
        self.pid = self._process.pid
        self.started_s = time.monotonic()
        self.was_ready = self.hung = False
        self._answered = False
        self._misses = 0
        self._asked: Future[int] | None = None
        self._due_s = 0.0
        self._kill_s = float("inf")

    def exit_code(self) -> int | None:
        """Return the exit code once it has ended; kill it where it was to end by now."""
        if time.monotonic() >= self._kill_s:
            self.kill()
        return self._process.poll()

    @property
    def late(self) -> bool:
        """Whether it is not ready yet, and should be."""
        return not self.was_ready and time.monotonic() - self.started_s > TAKE_OVER_WITHIN_S

    def probe(self) -> None:
        """Take the answer to the last probe, and send the next one when it is due."""
        now = time.monotonic()
        if self._asked is not None and self._asked.done():
            status, self._asked = self._asked.result(), None
            self._answered |= bool(status)
            self.was_ready |= status == http.HTTPStatus.OK
            self._misses = 0 if status else self._misses + 1
            self.hung = self._misses >= MISSES if self._answered else now - self.started_s > START_WITHIN_S
            self._due_s = now + (PROBE_S if self.was_ready else PROBE_FIRST_S)
        if self._asked is None and now >= self._due_s:
            self._asked = self._probes.submit(readyz, self._port)

    def end(self, within_s: float) -> None:
        """Tell it to end; ``exit_code`` kills it later where it does not."""
        self._process.terminate()
        self._kill_s = min(self._kill_s, time.monotonic() + within_s)

    def kill(self) -> None:
        """End it and whatever it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()


def readyz(port: int) -> int:
    """Return what a gateway on loopback says of itself as an HTTP status, 0 if it does not answer in time."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=PROBE_TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


@dataclass(slots=True)
class Place:
    """Where one of the replicas runs.

    Attributes:
        listener: on loopback, for metrics; the same for whichever replica runs here.
        replica: None between two.
        start_s: when to start the next one.
        failures: in a row.
        was_ready: one of them has been.
    """

    listener: socket.socket
    replica: Replica | None = None
    start_s: float = 0.0
    failures: int = 0
    was_ready: bool = False


class Replicas:
    """Runs so many gateways. Used from one thread: ``start``, ``poll`` now and then, ``stop``.

    Args:
        count: of them.
        address: host and port that they share.
        metrics_port: of the first one's own listener on loopback, the others' follow; 0: any that are free.
        environment: their settings.
        log: told what happens.
    """

    def __init__(
        self,
        count: int,
        address: tuple[str, int],
        metrics_port: int,
        environment: Mapping[str, str],
        log: Callable[[str], None],
    ) -> None:
        self._count = count
        self._address = address
        self._metrics_port = metrics_port
        self._environment = dict(environment)
        if count > 1:
            self._environment["GATEWAY_REPLICAS"] = str(count)
        self._log = log
        self._shared: list[socket.socket] = []
        self._places: list[Place] = []
        self._leaving: list[Replica] = []
        self._rolling: list[Place] = []
        self._successor: Replica | None = None
        self._probes = ThreadPoolExecutor(count + 1, thread_name_prefix="probe")

    @property
    def ready(self) -> bool:
        """Whether each of them has been ready."""
        return bool(self._places) and all(place.was_ready for place in self._places)

    @property
    def pids(self) -> list[int]:
        """The process ids of those that run, without those that are leaving."""
        return [place.replica.pid for place in self._places if place.replica]

    @property
    def metrics_ports(self) -> list[int]:
        """The ports on loopback on which each answers for itself."""
        return [place.listener.getsockname()[1] for place in self._places]

    def start(self) -> None:
        """Begin to listen; ``poll`` starts the processes.

        Raises:
            GatewayFailed: a port cannot be had.
        """
        host, port = self._address
        numbers = [self._metrics_port and self._metrics_port + index for index in range(self._count)]
        try:
            self._shared = listening(host, port)
            for port in numbers:
                self._places.append(Place(socket.create_server((LOOPBACK, port))))
        except OSError as error:
            raise GatewayFailed(
                f"port {port} cannot be listened on ({error.strerror or error}): give another"
            ) from None

    def poll(self) -> None:
        """Look after them: start what is due, replace what has died or hangs, go on with a rolling restart.

        Raises:
            GatewayFailed: the first one in a place ended with an error before it was ready, so another would too.
        """
        self._leaving = [replica for replica in self._leaving if replica.exit_code() is None]
        for place in self._places:
            if place.replica is None:
                if time.monotonic() >= place.start_s:
                    place.replica = self._started(place)
                continue
            place.replica.probe()
            place.was_ready |= place.replica.was_ready
            code = place.replica.exit_code()
            if code is not None or place.replica.hung:
                self._lost(place, place.replica, code)
        self._roll()

    def roll(self) -> None:
        """Replace them one by one: the next one leaves when the one in its place is ready and the last one has gone."""
        if not self._rolling:
            self._log("rolling restart")
            self._rolling = list(self._places)

    def stop(self, *, hurry: Callable[[], bool]) -> None:
        """Let them drain for as long as their settings say, then end them; at once when ``hurry`` says so."""
        running = [*self._leaving, *(place.replica for place in self._places if place.replica)]
        running += [self._successor] if self._successor else []
        for replica in running:
            replica.end(self._drain_s)
        for listener in (*self._shared, *(place.listener for place in self._places)):
            listener.close()  # the replicas' own copies accept for as long as they say
        while any([replica.exit_code() is None for replica in running]) and not hurry():  # noqa: C419 - each is looked at
            time.sleep(0.05)
        for replica in running:
            replica.kill()
        self._probes.shutdown(wait=False, cancel_futures=True)

    @property
    def _drain_s(self) -> float:
        """How long one may take to end: it has checked the two settings itself."""
        given = {"DRAIN_TIMEOUT_S": DRAIN_S, "SHUTDOWN_DELAY_S": DELAY_S}
        return MARGIN_S + sum(float(self._environment.get(name) or default) for name, default in given.items())

    def _started(self, place: Place) -> Replica:
        return Replica([*self._shared, place.listener], self._environment, self._probes)

    def _lost(self, place: Place, replica: Replica, code: int | None) -> None:
        """Make room for another one."""
        what = "does not answer" if code is None else f"ended with code {code}"
        if not place.was_ready and (code is None or code > 0):
            raise GatewayFailed(f"the gateway {what} before it was ready: its log above says why", code or 1)
        if code is None:
            replica.end(HUNG_S)
            self._leaving.append(replica)
        else:
            replica.kill()  # what it has left
        if time.monotonic() - replica.started_s > STEADY_S:
            place.failures = 0
        wait_s = min(BACKOFF_MOST_S, BACKOFF_FIRST_S * 2**place.failures)
        place.failures += 1
        place.replica, place.start_s = None, time.monotonic() + wait_s
        self._log(f"the gateway (process {replica.pid}) {what}: starting another in {wait_s:g} s")

    def _roll(self) -> None:
        if not self._rolling or self._leaving:
            return
        place, successor = self._rolling[0], self._successor
        if successor is None:
            self._successor = self._started(place)
            return
        successor.probe()
        if successor.was_ready:
            if place.replica is not None:
                place.replica.end(self._drain_s)
                self._leaving.append(place.replica)
            place.replica, self._successor = successor, None
            self._rolling.pop(0)
            self._log(f"process {successor.pid} has taken over" + ("" if self._rolling else ": all are replaced"))
        elif successor.exit_code() is not None or successor.hung or successor.late:
            successor.kill()
            self._successor = None
            self._rolling.clear()
            self._log("rolling restart given up: the new gateway did not become ready; the old ones go on")


def listening(host: str, port: int) -> list[socket.socket]:
    """Return sockets that listen on every address of a host.

    Raises:
        OSError: the host has none, or one of them cannot be had.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    addresses = dict.fromkeys((family, str(address[0])) for family, _, _, _, address in found)
    return [socket.create_server((ip, port), family=family, backlog=BACKLOG) for family, ip in addresses]
