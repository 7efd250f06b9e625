"""The decoding processes, seen from inside: ``python -m gateway.decoding.workers.worker``.

The process that is started this way decodes nothing. It loads the libraries once, and on each request forks a worker
that shares their memory with it: that takes some milliseconds, so that an image that kills its worker costs little.
A worker confines itself, then takes one job after another from its socket. What comes in is the gateway's and is
unpickled; what goes out is JSON and raw bytes, since whatever an image has taken over must not own the gateway.

What is said: the gateway sends ``JOB_HEAD``, an order (``messages.py``) and the image's bytes. The worker
answers ``ANSWER_HEAD``, facts as JSON, and pixels.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import struct
import sys
import traceback
from dataclasses import asdict, fields
from operator import attrgetter
from typing import Any, Final, NoReturn, cast

from PIL import AvifImagePlugin

from gateway.decoding.decoder import ImageInfo
from gateway.decoding.headers.header import UNPROVEN
from gateway.decoding.pdq import PerceptualHasher, load_hasher
from gateway.decoding.preprocess import Preprocess, PreprocessedImage
from gateway.decoding.views import Place
from gateway.decoding.workers.late_imports import LateImports, load_libraries
from gateway.decoding.workers.messages import job_of
from gateway.decoding.workers.sandbox import Sandbox, address_space, allow_memory
from gateway.errors import GatewayError, ImageUndecodable
from gateway.observability.stage_timer import StageTimer
from gateway.observability.tracebacks import trace

READY: Final = b"R"
READY_WITH_LANDLOCK: Final = b"L"
JOB_HEAD: Final = struct.Struct(">II")
"""Bytes of the order, bytes of the image."""
ANSWER_HEAD: Final = struct.Struct(">II")
"""Bytes of the facts, bytes of the pixels."""

_MEMORY_SLACK: Final = 128 << 20
"""Beside the estimate of an image, or twice that: the views of all frames, and what the allocator keeps."""
_MOST_TRACE_CHARS: Final = 4000
_INFO_NAMES: Final = tuple(field.name for field in fields(ImageInfo))
_INFO_VALUES: Final = attrgetter(*_INFO_NAMES)
_PLACE_NAMES: Final = tuple(field.name for field in fields(Place))
_PLACE_VALUES: Final = attrgetter(*_PLACE_NAMES)


def load_stage(name: str) -> Preprocess:
    """Return what ``module:function`` names."""
    module, _, function = name.partition(":")
    return cast("Preprocess", getattr(importlib.import_module(module), function))


def decode_alone(*, heic: bool) -> None:
    """Keep decoders from starting threads.

    There is a process a core, and where the user is not root a confined process can start no thread.
    """
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    if heic:
        setattr(importlib.import_module("pillow_heif.options"), "DECODE_THREADS", 1)  # noqa: B010 - of an optional module


def main() -> int:
    """Fork workers until the gateway has gone; return the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--stage", required=True)
    parser.add_argument("--most-memory", type=int, required=True)
    parser.add_argument("--heic", action="store_true")
    parser.add_argument("--fingerprint", action="store_true")
    given = parser.parse_args()
    # A stop is the gateway's to order: it drains first, and these processes end with it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_IGN)
    control = socket.socket(fileno=0)
    load_libraries(heic=given.heic)
    decode_alone(heic=given.heic)
    stage = load_stage(given.stage)
    hasher = load_hasher() if given.fingerprint else None
    confinement = Sandbox(most_memory=given.most_memory, threads=given.heic)
    gc.collect()
    gc.freeze()  # so that the collector does not touch, and so copy, pages that are shared
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not message:
            return 0
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
    try:
        handle = os.pidfd_open(child)
    except ProcessLookupError:
        control.send(b"!")
        return
    socket.send_fds(control, [str(child).encode()], [handle])
    os.close(handle)


def _become_worker(
    confinement: Sandbox, connection: socket.socket, stage: Preprocess, hasher: PerceptualHasher | None
) -> NoReturn:
    code = 1
    try:
        floor = address_space()
        confined, landlocked = confinement.enter(connection)
        imports = LateImports()
        confined.sendall(READY_WITH_LANDLOCK if landlocked else READY)
        while work(confined, floor, stage, hasher, imports):
            pass
        code = 0
    except Exception:  # noqa: BLE001 - told to the gateway's log as long as it is not confined
        traceback.print_exc()
    finally:
        os._exit(code)


def work(
    connection: socket.socket, floor: int, stage: Preprocess, hasher: PerceptualHasher | None, imports: LateImports
) -> bool:
    """Do one job; return False when the gateway has gone.

    Args:
        connection: to the gateway.
        floor: bytes of address space of a worker at rest.
        stage: what is done with a job.
        hasher: handed to the stage.
        imports: those refused since the process is confined.
    """
    head = _receive(connection, JOB_HEAD.size)
    if head is None:
        return False
    order_bytes, data_bytes = JOB_HEAD.unpack(head)
    order, data = _receive(connection, order_bytes), _receive(connection, data_bytes)
    if order is None or data is None:
        return False
    job = job_of(order, data)
    del data
    # What the boxes of an AVIF or HEIC say of its bitstream may be a lie: it gets what was granted and no more.
    granted = job.decode_bytes if job.header.format in UNPROVEN else 2 * job.decode_bytes
    allow_memory(floor + granted + _MEMORY_SLACK)
    timer = StageTimer()
    pixels = memoryview(b"")
    try:
        prepared = stage(job, timer, hasher)
        facts = facts_of(prepared)
        pixels = prepared.pixels.data.cast("B")
    except GatewayError as error:
        facts = {"error": {"kind": type(error).__name__, "detail": error.detail}}
    except MemoryError:
        facts = {"error": {"kind": ImageUndecodable.__name__, "detail": "Decoding the image took too much memory."}}
    except Exception as bug:  # noqa: BLE001 - a bug of ours: the gateway logs it
        facts = {"error": {"kind": "", "detail": trace(bug)[-_MOST_TRACE_CHARS:]}}
    if late := imports.taken():
        facts, pixels = {"error": {"kind": "", "detail": f"LateImport of {late}"}}, memoryview(b"")
    written = json.dumps({**facts, "elapsed_s": timer.elapsed_s}).encode()
    _send(connection, ANSWER_HEAD.pack(len(written), pixels.nbytes) + written, pixels)
    return True


def facts_of(prepared: PreprocessedImage) -> dict[str, Any]:
    """Return all of a prepared image but its pixels."""
    return {
        "info": dict(zip(_INFO_NAMES, _INFO_VALUES(prepared.info), strict=True)),
        "places": [dict(zip(_PLACE_NAMES, _PLACE_VALUES(place), strict=True)) for place in prepared.places],
        "fingerprints": [asdict(found) for found in prepared.fingerprints],
    }


def _send(connection: socket.socket, head: bytes, pixels: memoryview) -> None:
    """Send both, in one write where the gateway's socket holds it, so that it is woken once."""
    sent = connection.sendmsg([head, pixels])
    if sent < len(head):
        connection.sendall(head[sent:])
    connection.sendall(pixels[max(0, sent - len(head)) :])


def _receive(connection: socket.socket, count: int) -> bytes | None:
    """Return exactly so many bytes, or None at the end."""
    parts, missing = [], count
    while missing:
        part = connection.recv(missing, socket.MSG_WAITALL)
        if not part:
            return None
        parts.append(part)
        missing -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


if __name__ == "__main__":
    with contextlib.suppress(ConnectionError):  # the gateway has gone
        sys.exit(main())
