"""``python -m gateway``: the server process; one of several where listeners are inherited (``scripts/serve.py``)."""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import resource
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

import uvicorn
from fastapi import FastAPI
from pydantic import ValidationError

from gateway.app import connection_protocol, create_app
from gateway.auth.api_keys import KeysInvalid
from gateway.auth.rate_limits import RateLimitStoreInvalid
from gateway.decoding.plugins import DecoderMissing
from gateway.inference.bundle import BundleError
from gateway.observability.log_format import configure_logging
from gateway.serving.server import DrainingServer, ReplicaServer
from gateway.settings import Settings
from gateway.store.migrate import check_database
from gateway.store.outages import DatabaseUnusable

SECRETS = Path("/run/secrets")  # where Docker and Kubernetes put them: one file a setting, named in lower case
M_MMAP_THRESHOLD = -3  # of glibc's malloc.h
LARGE_BLOCK_BYTES = 256 * 1024
KEEP_ALIVE_S = 75  # above the 60 s of common load balancers, so that they close first
READY_WITHIN_S = 60.0  # where listeners are inherited: then connections are taken although it is not ready, to say why


class CannotStart(Exception):
    """The gateway cannot be started as it is configured; the text is a sentence without its full stop."""


class MakeApp(Protocol):
    """Makes the application."""

    def __call__(self, settings: Settings, *, ready_within_s: float = 0.0) -> FastAPI:
        """Return it; arguments and errors as of ``create_app``."""


def main(make_app: MakeApp = create_app, arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop; return the exit code, 2 for a configuration that cannot work.

    Args:
        make_app: makes the application; tests put another internet into it.
        arguments: of the command line.
    """
    parser = argparse.ArgumentParser(prog="python -m gateway", description="Serve; every setting is a variable.")
    parser.add_argument(
        "--fd", type=int, action="append", default=[], help="an inherited listener, in place of host and port"
    )
    parser.add_argument("--check", action="store_true", help="look at the settings, but not at the bundle, and end")
    given = parser.parse_args(arguments)
    inherited = [socket.socket(fileno=number) for number in given.fd]
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
            "GATEWAY_API_KEYS or GATEWAY_API_KEYS_FILE (clip-gateway keys new), or GATEWAY_HOST=127.0.0.1, or "
            "GATEWAY_ALLOW_OPEN=true behind something that authenticates.\n"
        )
        return 2
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stopped)
    try:
        with refusals():
            asyncio.run(check_database(settings.effective_database_url, timeout_s=settings.store_timeout_s))
            if given.check:
                with suppress(BundleError):  # it is yet to be exported
                    make_app(settings)
                return 0
            app = make_app(settings, ready_within_s=READY_WITHIN_S if inherited else 0.0)
        return serve(settings, app, inherited)
    except CannotStart as reason:
        sys.stderr.write(f"gateway: {reason}.\n")
        return 2


def serve(settings: Settings, app: FastAPI, inherited: list[socket.socket]) -> int:
    """Run the server until told to stop; return the exit code.

    Args:
        settings: of this process.
        app: what it serves.
        inherited: listeners; empty: it makes its own.
    """
    allow_open_files()
    give_memory_back()
    config = uvicorn.Config(
        app,
        http=connection_protocol(settings),
        ws="none",
        host=settings.gateway_host,
        port=settings.gateway_port,
        log_config=None,  # its lines go through ours
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=settings.drain_timeout_s,
    )
    announce = app.state.draining.begin
    kind = ReplicaServer if inherited and settings.gateway_replicas > 1 else DrainingServer
    server = kind(config, settings.shutdown_delay_s, announce)
    server.run(inherited or None)
    return 0 if server.started else 3


@contextmanager
def refusals() -> Iterator[None]:
    """Say what is wrong with the settings or what they name.

    Raises:
        CannotStart: it cannot work.
    """
    try:
        yield
    except (BundleError, DecoderMissing) as error:
        raise CannotStart(str(error)) from None
    except KeysInvalid as error:
        raise CannotStart(f"GATEWAY_API_KEYS or GATEWAY_API_KEYS_FILE cannot be used: {error}") from None
    except RateLimitStoreInvalid as error:
        raise CannotStart(f"RATE_LIMIT_STORAGE_URL cannot be used: {error}") from None
    except DatabaseUnusable as error:
        raise CannotStart(f"DATABASE_URL cannot be used: {error}") from None
    except ValueError:  # a driver's, whose text may repeat the address and with it a password
        raise CannotStart("DATABASE_URL cannot be used: it is not a complete address") from None


def stopped(*_: object) -> None:
    """End well: for a signal that comes before the server listens to it, and for the one that it repeats at its end."""
    sys.exit(0)


def allow_open_files() -> None:
    """Raise the soft limit on open files to the hard one: each connection is one, and 1,024 is a common default."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def give_memory_back() -> None:
    """Let the C library map large blocks one by one, so that their memory goes back once they are freed.

    glibc raises its threshold to the largest block that was ever freed, up to 32 MiB; from then on images live in its
    arenas, full of holes: after three floods of 10 MB uploads 1.6 GiB stayed resident, with this 0.3 GiB.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return  # another C library
    mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES)


if __name__ == "__main__":
    sys.exit(main())
