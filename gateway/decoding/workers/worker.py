"""The decoding processes: ``python -m gateway.decoding.workers.worker``.

The process that is started this way decodes nothing. It loads the libraries once, and on each request forks a worker
that shares their memory with it: that takes some milliseconds, so that an image that kills its worker costs little.
A worker confines itself, then takes one job after another from its socket. What comes in is the gateway's and is
unpickled; what goes out is JSON and raw bytes, since a worker that an image has taken over must not take
over the gateway.

The process that forks is told ``FORK``, with a socket, or the number of a worker that ended, and answers how it did.
The gateway sends a worker ``messages.HEAD``, an order and the image's bytes. The worker answers ``messages.HEAD``,
facts as JSON, pixels, and stills.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import os
import signal
import socket
import sys
import warnings
from io import BufferedRWPair
from pkgutil import resolve_name
from typing import Final, NoReturn

import orjson
from PIL import AvifImagePlugin

from gateway.decoding.headers.header import UNPROVEN
from gateway.decoding.pdq import PerceptualHasher, load_hasher
from gateway.decoding.preprocess import Preprocess
from gateway.decoding.workers.late_imports import LateImports, load_libraries
from gateway.decoding.workers.messages import FORK, HEAD, READY, job_of
from gateway.decoding.workers.sandbox import Sandbox, address_space, allow_memory
from gateway.errors import GatewayError, ImageUndecodable
from gateway.observability.stage_timer import StageTimer
from gateway.observability.tracebacks import trace

_MEMORY_SLACK: Final = 128 << 20
"""Beside the estimate of an image, or twice that: the views of all frames, and what the allocator keeps."""
_MOST_TRACE_CHARS: Final = 4000
_MOST_MESSAGE_BYTES: Final = 32


def decode_alone(*, heic: bool) -> None:
    """Keep decoders from starting threads.

    There is a process a core, and where the user is not root a confined process can start no thread.
    """
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    if heic:
        setattr(importlib.import_module("pillow_heif.options"), "DECODE_THREADS", 1)  # noqa: B010 - of an optional module


def open_no_source() -> None:
    """Keep Python from showing warnings and failed destructors, with a line of source that it reads from a file."""
    warnings.simplefilter("ignore")
    sys.unraisablehook = lambda _: None


def main() -> int:
    """Fork workers until the gateway has gone; return the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--stage", required=True)
    parser.add_argument("--most-memory", type=int, required=True)
    parser.add_argument("--heic", action="store_true")
    parser.add_argument("--fingerprint", action="store_true")
    given = parser.parse_args()
    # The gateway drains before it ends, and these processes end with it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    control = socket.socket(fileno=0)
    load_libraries(heic=given.heic)
    decode_alone(heic=given.heic)
    open_no_source()
    stage: Preprocess = resolve_name(given.stage)
    hasher = load_hasher() if given.fingerprint else None
    confinement = Sandbox(most_memory=given.most_memory, threads=given.heic)
    gc.collect()
    gc.freeze()  # so that the collector does not touch, and so copy, pages that are shared
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, _MOST_MESSAGE_BYTES, 1)
        if not message:
            return 0
        if message != FORK:
            _, status = os.waitpid(int(message), 0)
            control.send(str(os.waitstatus_to_exitcode(status)).encode())
            continue
        (descriptor,) = descriptors
        try:
            child = os.fork()
        except OSError:
            control.send(b"!")
            os.close(descriptor)
            continue
        if child == 0:
            _become_worker(confinement, socket.socket(fileno=descriptor), stage, hasher)
        os.close(descriptor)
        _tell(control, child)


def _tell(control: socket.socket, child: int) -> None:
    """Send the gateway the worker's process id, and a descriptor of it that no other process can come to have."""
    handle = os.pidfd_open(child)
    socket.send_fds(control, [str(child).encode()], [handle])
    os.close(handle)


def _become_worker(
    confinement: Sandbox, connection: socket.socket, stage: Preprocess, hasher: PerceptualHasher | None
) -> NoReturn:
    code = 1
    try:
        floor = address_space()
        confined, layers = confinement.enter(connection)
        imports = LateImports()
        confined.sendall(READY.pack(layers))
        gateway = confined.makefile("rwb")
        while work(gateway, floor, stage, hasher, imports):
            pass
        code = 0
    except Exception as bug:  # noqa: BLE001 - told to the gateway's log as long as it is not confined
        print(trace(bug), file=sys.stderr)  # noqa: T201
    finally:
        os._exit(code)


def work(
    gateway: BufferedRWPair, floor: int, stage: Preprocess, hasher: PerceptualHasher | None, imports: LateImports
) -> bool:
    """Do one job; return False when the gateway has gone.

    Args:
        gateway: what is read from it and written to it.
        floor: bytes of address space of a worker at rest.
        stage: what is done with a job.
        hasher: handed to the stage.
        imports: those refused since the process is confined.
    """
    head = gateway.read(HEAD.size)
    if len(head) < HEAD.size:
        return False
    order_bytes, data_bytes = HEAD.unpack(head)
    order, data = gateway.read(order_bytes), gateway.read(data_bytes)
    if len(data) < data_bytes:
        return False
    job = job_of(order, data)
    del data
    # What the boxes of an AVIF or HEIC say of its bitstream may be a lie: it gets what was granted and no more.
    granted = job.decode_bytes if job.header.format in UNPROVEN else 2 * job.decode_bytes
    allow_memory(floor + granted + _MEMORY_SLACK)
    timer = StageTimer()
    facts: dict[str, object]
    behind: list[memoryview | bytes] = []
    try:
        prepared = stage(job, timer, hasher)
        facts = {"info": prepared.info, "places": prepared.places, "fingerprints": prepared.fingerprints}
        facts["stills"] = [still.place for still in prepared.stills]
        behind = [prepared.pixels.data.cast("B"), *(still.jpeg for still in prepared.stills)]
    except GatewayError as error:
        facts = {"error": {"kind": type(error).__name__, "detail": error.detail}}
    except MemoryError:
        facts = {"error": {"kind": ImageUndecodable.__name__, "detail": "Decoding the image took too much memory."}}
    except Exception as bug:  # noqa: BLE001 - a bug of ours: the gateway logs it
        facts = {"error": {"kind": "", "detail": trace(bug)[-_MOST_TRACE_CHARS:]}}
    if late := imports.taken():
        facts, behind = {"error": {"kind": "", "detail": f"LateImport of {late}"}}, []
    written = orjson.dumps({**facts, "elapsed_s": timer.elapsed_s})
    gateway.write(HEAD.pack(len(written), sum(map(len, behind))) + written)
    gateway.writelines(behind)
    gateway.flush()
    return True


if __name__ == "__main__":
    with contextlib.suppress(ConnectionError):  # the gateway has gone
        sys.exit(main())
