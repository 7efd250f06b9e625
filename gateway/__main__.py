"""``python -m gateway``: the server process, or several of them on one port."""

from __future__ import annotations

import asyncio
import ctypes
import resource
import signal
import socket
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import uvicorn
from fastapi import FastAPI
from pydantic import ValidationError

from gateway.app import check_database, connection_protocol, create_app
from gateway.bundle import BundleError, read_manifest
from gateway.image_formats import DecoderMissing
from gateway.keys import KeysInvalid
from gateway.log_lines import configure_logging
from gateway.member import Member, Tallies, member
from gateway.quotas import QuotaStoreInvalid
from gateway.reception import listening
from gateway.routes.server import DrainingServer, MemberServer
from gateway.settings import MIB, Settings
from gateway.store.records import DatabaseUnusable
from gateway.supervisor import Ending, Supervisor
from gateway.telemetry import forget_gauges, keep_in, metrics_folder
from gateway.text_shelf import TextShelf

SECRETS = Path("/run/secrets")  # where Docker and Kubernetes put them: one file a setting, named in lower case
M_MMAP_THRESHOLD = -3  # of glibc's malloc.h
LARGE_BLOCK_BYTES = 256 * 1024
KEEP_ALIVE_S = 75  # above the 60 s of common load balancers, so that they close first
BACKLOG = 2048  # uvicorn's own


class CannotStart(Exception):
    """The gateway cannot be started as it is configured; the text is a sentence without its full stop."""


class MakeApp(Protocol):
    """Makes the application."""

    def __call__(self, settings: Settings, *, place: Member | None = None) -> FastAPI:
        """Return it, for one process of several or for the only one; errors as of ``create_app``."""


def main(make_app: MakeApp = create_app) -> int:
    """Serve until told to stop; return the exit code, 2 for a configuration that cannot work.

    Args:
        make_app: makes the application; tests put another internet into it.
    """
    try:
        settings = Settings(_secrets_dir=SECRETS if SECRETS.is_dir() else None)
    except ValidationError as error:
        for part in error.errors(include_url=False):
            name = "_".join(str(step) for step in part["loc"]).upper()
            sys.stderr.write(f"gateway: {name} is not valid: {part['msg']}.\n")
        return 2
    configure_logging(settings.log_format, settings.log_level)
    if not (settings.has_keys or settings.gateway_allow_open or settings.is_on_loopback):
        sys.stderr.write(
            f"gateway: {settings.gateway_host} is reachable by others and no API keys are configured. Set "
            "GATEWAY_API_KEYS or GATEWAY_API_KEYS_FILE (python -m scripts.keys new), or GATEWAY_HOST=127.0.0.1, or "
            "GATEWAY_ALLOW_OPEN=true behind something that authenticates.\n"
        )
        return 2
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stopped)
    try:
        if settings.gateway_processes > 1:
            return supervise(settings, make_app)
        return serve(settings, check(settings, make_app))
    except CannotStart as reason:
        sys.stderr.write(f"gateway: {reason}.\n")
        return 2


def serve(settings: Settings, app: FastAPI, place: Member | None = None, channel: socket.socket | None = None) -> int:
    """Run the server until told to stop; return the exit code.

    Args:
        settings: of this process.
        app: what it serves.
        place: among several processes; None where it is the whole gateway.
        channel: where connections come from in that case.
    """
    allow_open_files()
    give_memory_back()
    config = uvicorn.Config(
        app,
        http=connection_protocol(settings, place),
        ws="none",
        host=settings.gateway_host,
        port=settings.gateway_port,
        log_config=None,  # its lines go through ours
        log_level="warning",
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=settings.drain_timeout_s,
    )
    announce = app.state.draining.begin
    server = DrainingServer(config, settings.shutdown_delay_s, announce)
    if place is not None and channel is not None:
        server = MemberServer(config, settings.shutdown_delay_s, announce, channel, place)
    server.run()
    return 0 if server.started else 3


def supervise(settings: Settings, make_app: MakeApp) -> int:
    """Run several server processes until told to stop; return the exit code.

    What could keep them from starting is found out before there are any, so that it is told once, and tables are
    brought up to date once.

    Raises:
        CannotStart: as ``check``; or the port is taken, or there is nowhere to keep metrics.
    """
    check(settings, make_app)
    count = settings.gateway_processes
    try:
        listeners = listening(settings.gateway_host, settings.gateway_port, BACKLOG)
    except OSError as error:
        where = f"{settings.gateway_host}:{settings.gateway_port}"
        raise CannotStart(f"it cannot listen on {where}: {error.strerror or error}") from None
    tallies = Tallies(count)
    shelf = TextShelf(settings.text_cache_mib * MIB, read_manifest(settings.model_repository).embedding_dim)
    with ExitStack() as held:
        try:
            folder = held.enter_context(metrics_folder())
        except OSError as error:
            raise CannotStart(f"metrics cannot be kept in the folder for temporary files: {error.strerror}") from None

        def run(place: Member, channel: socket.socket) -> int:
            keep_in(folder, place.index)
            part = settings.part_of(place)
            return serve(part, make_app(part, place=place), place, channel)

        def forget(index: int) -> None:
            tallies.forget(index)
            forget_gauges(folder, index)

        return Supervisor(
            [member(tallies, index, count, folder, shelf) for index in range(count)],
            listeners,
            run,
            forget,
            Ending(settings.shutdown_delay_s, settings.drain_timeout_s),
        ).run()


def check(settings: Settings, make_app: MakeApp) -> FastAPI:
    """Return the application, once what it needs has been looked at.

    Raises:
        CannotStart: the settings or what they name cannot work.
    """
    try:
        app = make_app(settings)
        asyncio.run(check_database(settings))
    except (BundleError, DecoderMissing) as error:
        raise CannotStart(str(error)) from None
    except KeysInvalid as error:
        raise CannotStart(f"GATEWAY_API_KEYS or GATEWAY_API_KEYS_FILE cannot be used: {error}") from None
    except QuotaStoreInvalid as error:
        raise CannotStart(f"RATE_LIMIT_STORAGE_URL cannot be used: {error}") from None
    except DatabaseUnusable as error:
        raise CannotStart(f"DATABASE_URL cannot be used: {error}") from None
    except ValueError:  # a driver's, whose text may repeat the address and with it a password
        raise CannotStart("DATABASE_URL cannot be used: it is not a complete address") from None
    return app


def stopped(*_: object) -> None:
    """End well: for a signal that comes before the server listens to it, and for the one that it repeats at its end."""
    sys.exit(0)


def allow_open_files() -> None:
    """Raise the soft limit on open files to the hard one: each connection is one, and 1,024 is a common default."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def give_memory_back() -> None:
    """Let the C library map large blocks one by one, so that their memory goes back once they are freed.

    glibc raises its threshold to the largest block that was ever freed, up to 32 MiB; from then on pictures live in its
    arenas, full of holes: after three floods of 10 MB uploads 1.6 GiB stayed resident, with this 0.3 GiB.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return  # another C library
    mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES)


if __name__ == "__main__":
    sys.exit(main())
