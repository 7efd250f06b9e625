"""``python -m gateway``: the server process."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import ipaddress
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI
from pydantic import ValidationError

from gateway.app import check_database, connection_protocol, create_app
from gateway.bundle import BundleError
from gateway.image_formats import DecoderMissing
from gateway.keys import KeysInvalid
from gateway.log_lines import configure_logging
from gateway.quotas import QuotaStoreInvalid
from gateway.settings import Settings
from gateway.store.records import DatabaseUnusable

SECRETS = Path("/run/secrets")  # where Docker and Kubernetes put them: one file a setting, named in lower case
M_MMAP_THRESHOLD = -3  # of glibc's malloc.h
LARGE_BLOCK_BYTES = 256 * 1024
KEEP_ALIVE_S = 75  # above the 60 s of common load balancers, so that they close first
POLL_S = 0.05


class DrainingServer(uvicorn.Server):
    """A server that says that it will end before it does, so that load balancers turn away first.

    On the first signal ``/readyz`` turns 503, and every answer closes its connection; for ``delay_s`` requests are
    still taken. Then nobody is let in any more, and what was accepted is finished. A second signal skips the delay.

    Args:
        config: as of uvicorn.
        delay_s: seconds between saying so and closing the door.
        announce: called at the first signal.
    """

    def __init__(self, config: uvicorn.Config, delay_s: float, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._delay_s = delay_s
        self._announce = announce
        self._signals = 0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal."""
        self._signals += 1
        self._announce()
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve; what is there by then stays for good, and the garbage collector need not look at it again."""
        await super().startup(sockets)
        gc.collect()
        gc.freeze()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Wait with the door open, then end as uvicorn does."""
        self.server_state.default_headers = [*self.server_state.default_headers, (b"connection", b"close")]
        end_s = time.monotonic() + self._delay_s
        while time.monotonic() < end_s and self._signals < 2:  # noqa: PLR2004, ASYNC110 - a second signal
            await asyncio.sleep(POLL_S)
        await super().shutdown(sockets)


def main(make_app: Callable[[Settings], FastAPI] = create_app) -> int:
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
    has_keys = bool(settings.gateway_api_keys or settings.gateway_api_keys_file)
    if not has_keys and not settings.gateway_allow_open and not is_loopback(settings.gateway_host):
        sys.stderr.write(
            f"gateway: {settings.gateway_host} is reachable by others and no API keys are configured. Set "
            "GATEWAY_API_KEYS or GATEWAY_API_KEYS_FILE (python -m scripts.keys new), or GATEWAY_HOST=127.0.0.1, or "
            "GATEWAY_ALLOW_OPEN=true behind something that authenticates.\n"
        )
        return 2
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stopped)
    try:
        app = make_app(settings)
        asyncio.run(check_database(settings))
    except (BundleError, DecoderMissing) as error:
        sys.stderr.write(f"gateway: {error}.\n")
        return 2
    except KeysInvalid as error:
        sys.stderr.write(f"gateway: GATEWAY_API_KEYS or GATEWAY_API_KEYS_FILE cannot be used: {error}.\n")
        return 2
    except QuotaStoreInvalid as error:
        sys.stderr.write(f"gateway: RATE_LIMIT_STORAGE_URL cannot be used: {error}.\n")
        return 2
    except DatabaseUnusable as error:
        sys.stderr.write(f"gateway: DATABASE_URL cannot be used: {error}.\n")
        return 2
    except ValueError:  # a driver's, whose text may repeat the address and with it a password
        sys.stderr.write("gateway: DATABASE_URL cannot be used: it is not a complete address.\n")
        return 2
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
    server = DrainingServer(config, settings.shutdown_delay_s, app.state.draining.begin)
    server.run()
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

    glibc raises its threshold to the largest block that was ever freed, up to 32 MiB; from then on pictures live in its
    arenas, full of holes: after three floods of 10 MB uploads 1.6 GiB stayed resident, with this 0.3 GiB.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return  # another C library
    mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES)


def is_loopback(host: str) -> bool:
    """Return whether a listening address can be reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


if __name__ == "__main__":
    sys.exit(main())
