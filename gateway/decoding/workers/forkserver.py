"""The gateway's side of the decoding processes: the one that forks, and a handle on each worker.

``multiprocessing`` would unpickle what a worker sends and hand it the gateway's environment; here a worker has neither.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.decoding.workers.messages import FORK, HEAD, MOST_FACTS_BYTES, READY
from gateway.decoding.workers.sandbox import Layers

START_TIMEOUT_S: Final = 30.0
"""For loading the libraries, which takes a quarter of a second, on a machine that is very busy."""

STAGE: Final = "gateway.decoding.preprocess:prepare"
_PASSED_ON: Final = ("LD_LIBRARY_PATH", "PYTHONHOME", "TZ")
_KEPT_BYTES: Final = 16 << 20
"""Of freed memory, that a worker keeps for its next image (mallopt(3)): each 4 KiB that the kernel has to give
again cost a page fault. With large images (12 megapixels) and common ones in turns, those were 1,656 and a tenth of a
common one's time.
"""
_LARGEST_KEPT_BYTES: Final = 32 << 20
"""Of one block that is kept like this; a larger one goes back at once. Some versions of glibc take no larger number."""
_PIECE_BYTES: Final = 1 << 17
"""Of an image, written at a time: what the socket does not take at once is copied."""
_READ_AHEAD_BYTES: Final = 1 << 20
_MOST_CODE_BYTES: Final = 8
_CODE: Final = Path(__file__).resolve().parents[3]


class WorkerNotStarted(Exception):
    """No decoding process could be started; the text says why, for the log."""


class WorkerLost(Exception):
    """The worker ended, or violated the protocol.

    Attributes:
        blamed: whether the image may be the cause: the worker had begun on it, and did not end with its parent.
    """

    def __init__(self, *, blamed: bool) -> None:
        super().__init__()
        self.blamed = blamed


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a process has come.

    Attributes:
        cpu_s: processor seconds it has used.
        runs: whether it runs or waits for a processor, rather than for anything else.
    """

    cpu_s: float
    runs: bool


def progress_of(pid: int) -> Progress | None:
    """Return what the kernel says of a process; None once it has gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # the name before it may hold anything
    ticks = int(fields[11]) + int(fields[12])  # utime and stime, proc(5)
    return Progress(ticks / os.sysconf("SC_CLK_TCK"), fields[0] == "R")


def resident_bytes(pid: int) -> int:
    """Return the memory of a process that is resident, 0 once it has gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


class Worker:
    """One decoding process.

    Args:
        pid: its process id, for the log and its progress.
        handle: descriptor of the process (``pidfd``): it can never mean another one.
        parent: the process that forked it, and with which it ends.
        connection: its socket.
        layers: what its kernel has of the sandbox.

    Attributes:
        gone: set once the process has ended.
        free: set while it has no job.
        served: images it was given.
        ending: why it ended, once it is known.
    """

    def __init__(
        self, pid: int, handle: int, parent: subprocess.Popen[bytes], connection: socket.socket, layers: Layers
    ) -> None:
        self.pid = pid
        self.layers = layers
        self.gone = asyncio.Event()
        self.free = asyncio.Event()
        self.free.set()
        self.served = 0
        self.ending: str | None = None
        self._handle = handle
        self._parent = parent
        self._connection = connection
        self._spoke = False

    async def watch(self) -> None:
        """Set ``gone`` when the process ends, and listen to what it says; called in the loop, once."""
        loop = asyncio.get_running_loop()

        def ended() -> None:
            loop.remove_reader(self._handle)
            self.gone.set()

        loop.add_reader(self._handle, ended)
        self._reader, self._writer = await asyncio.open_connection(sock=self._connection, limit=_READ_AHEAD_BYTES)
        self._writer.transport.set_write_buffer_limits(high=0)  # to drain is to wait until the socket has taken all
        self._listening = asyncio.create_task(self._listen())

    async def ask(self, order: bytes, data: bytes, most_pixel_bytes: int, timeout_s: float) -> tuple[bytes, bytes]:
        """Send a job; return its facts and pixels.

        Args:
            order: the job.
            data: the image.
            most_pixel_bytes: more is not read.
            timeout_s: for the answer.

        Raises:
            WorkerLost: it ended or violated the protocol.
            TimeoutError: there was no answer in time.
        """
        self._listening.cancel()
        await asyncio.wait([self._listening])
        if self._spoke:
            raise WorkerLost(blamed=False)
        self.served += 1
        sent = answering = False
        try:
            async with asyncio.timeout(timeout_s):
                self._writer.write(HEAD.pack(len(order), len(data)) + order)
                for start in range(0, len(data), _PIECE_BYTES):
                    self._writer.write(memoryview(data)[start : start + _PIECE_BYTES])
                    await self._writer.drain()
                sent = True
                facts_bytes, pixel_bytes = HEAD.unpack(await self._reader.readexactly(HEAD.size))
                answering = True
                if facts_bytes > MOST_FACTS_BYTES or pixel_bytes > most_pixel_bytes:
                    raise WorkerLost(blamed=True)
                answer = await self._reader.readexactly(facts_bytes), await self._reader.readexactly(pixel_bytes)
        except TimeoutError:
            raise
        except (asyncio.IncompleteReadError, OSError) as end:
            # The kernel says ECONNRESET where a process leaves behind what it has not read (unix(7)).
            begun = answering or (sent and isinstance(end, asyncio.IncompleteReadError))
            raise WorkerLost(blamed=begun and self._parent.poll() is None) from None
        self._listening = asyncio.create_task(self._listen())
        return answer

    def is_child_of(self, process: subprocess.Popen[bytes] | None) -> bool:
        """Return whether this process forked it."""
        return self._parent is process

    async def _listen(self) -> None:
        """End the process if it speaks without being asked."""
        with contextlib.suppress(OSError):
            await self._reader.read(1)
        self._spoke = True
        self.kill()

    def kill(self) -> None:
        """End the process at once."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, signal.SIGKILL)

    def close(self) -> None:
        """Let go of a process that has gone."""
        self._listening.cancel()
        self._writer.close()
        os.close(self._handle)


class ForkServer:
    """Starts workers; its own process loads the libraries once and decodes nothing.

    Its methods block: they belong in one thread.

    Args:
        most_memory: bytes that a worker's address space may grow by.
        heic: load that decoder too.
        fingerprint: load the perceptual hash, which is installed.
        stage: ``module:function`` that workers run; tests put one there that crashes.

    Attributes:
        fingerprint: as given.
    """

    def __init__(self, *, most_memory: int, heic: bool, fingerprint: bool, stage: str = STAGE) -> None:
        self._arguments = ["--stage", stage, "--most-memory", str(most_memory)]
        self._arguments += ["--heic"] * heic + ["--fingerprint"] * fingerprint
        self.fingerprint = fingerprint
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def fork(self) -> Worker:
        """Return a new worker, confined and waiting for a job.

        Raises:
            WorkerNotStarted: it could not be started in time.
        """
        try:
            if self._process is None or self._process.poll() is not None:
                self.close()
                self._launch()
            return self._fork()
        except (OSError, ValueError) as fault:
            self.close()
            raise WorkerNotStarted(f"{type(fault).__name__}: {fault}") from fault

    def cause(self, worker: Worker) -> str:
        """Return what a worker died of: a signal's name, or its exit code; "unknown" where its parent has gone too.

        Must be called for each that has gone, once: until then the kernel keeps its number.
        """
        try:
            if self._control is None or not worker.is_child_of(self._process):
                return "unknown"
            self._control.send(str(worker.pid).encode())
            code = int(self._control.recv(_MOST_CODE_BYTES))
            return signal.Signals(-code).name if code < 0 else f"exit {code}"
        except (OSError, ValueError):
            return "unknown"

    def kill(self) -> None:
        """End the process, and with it all workers; from any thread."""
        if self._process is not None:
            self._process.kill()

    def close(self) -> None:
        """End the process and wait until it has gone."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _launch(self) -> None:
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        # One thread each, also while numpy loads: a process with threads cannot be forked safely.
        environment |= {"PYTHONPATH": str(_CODE), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        environment |= {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": str(_LARGEST_KEPT_BYTES)}
        environment |= {"MALLOC_TRIM_THRESHOLD_": str(_KEPT_BYTES)}
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._control = ours
            ours.settimeout(START_TIMEOUT_S)
            # -P: nothing is imported from the working directory.
            command = [sys.executable, "-B", "-P", "-m", "gateway.decoding.workers.worker", *self._arguments]
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL, env=environment
            )

    def _fork(self) -> Worker:
        if self._control is None or self._process is None:
            raise ConnectionResetError
        with contextlib.ExitStack() as unless_started:
            ours, theirs = socket.socketpair()
            unless_started.callback(ours.close)
            with theirs:
                socket.send_fds(self._control, [FORK], [theirs.fileno()])
            message, handles, _, _ = socket.recv_fds(self._control, 32, 1, socket.MSG_CMSG_CLOEXEC)
            for handle in handles:
                unless_started.callback(os.close, handle)
            ours.settimeout(START_TIMEOUT_S)
            greeting = ours.recv(READY.size)
            if len(greeting) < READY.size:
                raise ConnectionResetError("the process ended while it started")
            (handle,) = handles
            unless_started.pop_all()
        return Worker(int(message), handle, self._process, ours, Layers(*READY.unpack(greeting)))
