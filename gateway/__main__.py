"""``python -m gateway``: the server process; one of several where listeners are inherited (``scripts/serve.py``)."""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import resource
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from pydantic import ValidationError

from gateway.access_parts import OidcInvalid
from gateway.app import connection_protocol, create_app
from gateway.auth.api_keys import KeysInvalid
from gateway.auth.rate_limits import RateLimitStoreInvalid
from gateway.decoding.plugins import DecoderMissing
from gateway.inference.bundle import BundleError
from gateway.memory_ceiling import warn_of_limit
from gateway.observability.log_format import configure_logging
from gateway.observability.trace_export import TracesUnavailable
from gateway.parts import MakeFetcher, TritonTlsInvalid, public_fetcher
from gateway.review.still_errors import ReviewImagesInvalid
from gateway.review.webhook_sender import WebhooksInvalid
from gateway.serving.server import DrainingServer, ReplicaServer
from gateway.settings import Settings
from gateway.store.migrate import check_database
from gateway.store.outages import DatabaseUnusable

SECRETS = Path("/run/secrets")  # where Docker and Kubernetes put them: one file a setting, named in lower case
M_MMAP_THRESHOLD = -3  # of glibc's malloc.h
LARGE_BLOCK_BYTES = 256 * 1024
KEEP_ALIVE_S = 75  # above the 60 s of common load balancers, so that they close first
READY_WITHIN_S = 60.0  # where listeners are inherited: then connections are taken although it is not ready, to say why


CANNOT_RUN = (
    *(DecoderMissing, OidcInvalid, ReviewImagesInvalid, TracesUnavailable, TritonTlsInvalid, WebhooksInvalid),
)
CANNOT_BE_USED = {
    KeysInvalid: "GATEWAY_API_KEYS or GATEWAY_API_KEYS_FILE",
    RateLimitStoreInvalid: "RATE_LIMIT_STORAGE_URL",
    DatabaseUnusable: "DATABASE_URL",
}


def main(make_fetcher: MakeFetcher = public_fetcher, arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop; return the exit code, 2 for a configuration that cannot work.

    Args:
        make_fetcher: as of ``create_app``; tests put another internet there.
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
            refuse(f"{name} is not valid: {part['msg']}")
        return 2
    configure_logging(settings.log_format, settings.log_level)
    if not (settings.has_keys or settings.gateway_allow_open or settings.is_on_loopback):
        return refuse(
            f"{settings.gateway_host} is reachable by others and no API keys are configured. Set "
            "GATEWAY_API_KEYS or GATEWAY_API_KEYS_FILE (clip-gateway keys new), or GATEWAY_HOST=127.0.0.1, or "
            "GATEWAY_ALLOW_OPEN=true behind something that authenticates"
        )
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stopped)
    try:
        asyncio.run(check_database(settings.effective_database_url, timeout_s=settings.store_timeout_s))
        try:
            app = create_app(settings, make_fetcher=make_fetcher, ready_within_s=READY_WITHIN_S if inherited else 0.0)
        except BundleError as error:
            return 0 if given.check else refuse(str(error))  # the bundle is yet to be exported
    except CANNOT_RUN as error:
        return refuse(str(error))
    except (KeysInvalid, RateLimitStoreInvalid, DatabaseUnusable) as error:
        return refuse(f"{CANNOT_BE_USED[type(error)]} cannot be used: {error}")
    except ValueError:  # a driver's, whose text may repeat the address and with it a password
        return refuse("DATABASE_URL cannot be used: it is not a complete address")
    return 0 if given.check else serve(settings, app, inherited)


def refuse(why: str) -> int:
    """Say on standard error why the gateway cannot start; return the exit code."""
    sys.stderr.write(f"gateway: {why}.\n")
    return 2


def serve(settings: Settings, app: FastAPI, inherited: list[socket.socket]) -> int:
    """Run the server until told to stop; return the exit code.

    Args:
        settings: of this process.
        app: what it serves.
        inherited: listeners; empty: it makes its own.
    """
    warn_of_limit(settings, settings.gateway_replicas if inherited else 1)
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
    kind = ReplicaServer if inherited and settings.gateway_replicas > 1 else DrainingServer
    server = kind(config, settings.shutdown_delay_s, app.state.draining.set)
    signal.signal(signal.SIGHUP, server.hang_up)
    server.run(inherited or None)
    return 0 if server.started else 3


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
