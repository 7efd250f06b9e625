"""Where the Tritons are: names and ports of the settings, and the addresses that the names have now."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address

import structlog

RESOLVE_TIMEOUT_S = 2.0
MOST_ADDRESSES = 64  # of one name; those beyond are not used


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """A host, by name or address, and a port.

    Attributes:
        host: without the brackets of an IPv6 address.
        port: 1 to 65535.
    """

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """Return the endpoint that ``host:port`` or ``[IPv6]:port`` names.

        Raises:
            ValueError: it names none; the text says what is expected.
        """
        host, _, port = text.strip().rpartition(":")
        bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        plain = bare and not set(bare) & set("[]/ @") and (host != bare or ":" not in bare)
        if not plain or not port.isascii() or not port.isdecimal() or not 0 < int(port) < 1 << 16:
            raise ValueError(f"“{text.strip()}” is not host:port or [IPv6 address]:port")
        return cls(bare, int(port))

    @property
    def is_address(self) -> bool:
        """Whether the host is an address, which needs no look-up."""
        try:
            ip_address(self.host)
        except ValueError:
            return False
        return True

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """One Triton.

    Attributes:
        at: its IP address and port.
        name: the host that the settings name it by, which its certificate is for.
    """

    at: Endpoint
    name: str

    def __str__(self) -> str:
        return str(self.at)


class Addresses:
    """Looks names up as every program on this machine does: ``/etc/hosts``, Docker's name server, Kubernetes' too.

    A name that cannot be resolved keeps the addresses that it had: a name server that is away takes no Triton along.
    Of a name with addresses of both families the IPv4 ones count, since the same server stands behind both.

    Args:
        endpoints: of the settings.
    """

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        self._found = {end: [end.host] if end.is_address else [] for end in endpoints}
        self._names = [end for end in self._found if not end.is_address]
        self._pending: dict[Endpoint, asyncio.Future[list[str]]] = {}
        self._log = structlog.get_logger("tritons")

    async def resolve(self) -> frozenset[Address]:
        """Return all addresses; names are looked up side by side, for ``RESOLVE_TIMEOUT_S`` at most."""
        for end in self._names:
            if end not in self._pending:  # a look-up that hangs is not begun again beside itself
                self._pending[end] = look_up(end)
        if self._pending:
            await asyncio.wait(self._pending.values(), timeout=RESOLVE_TIMEOUT_S)
        for end in [end for end, pending in self._pending.items() if pending.done()]:
            try:
                self._found[end] = self._pending.pop(end).result()[:MOST_ADDRESSES]
            except OSError as error:
                self._log.warning("host of Triton not found", host=end.host, error=error.strerror)
        return frozenset(
            Address(Endpoint(ip, end.port), end.host) for end, found in self._found.items() for ip in found
        )


def look_up(end: Endpoint) -> asyncio.Future[list[str]]:
    """Return a future with the addresses of a name, sorted; a thread that hangs keeps no process from ending.

    The future fails with OSError where the name has none.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[list[str]] = loop.create_future()

    def settle(found: list[str] | OSError) -> None:
        if future.done():
            return
        if isinstance(found, OSError):
            future.set_exception(found)
        else:
            future.set_result(found)

    def ask() -> None:
        try:
            answers = socket.getaddrinfo(end.host, end.port, type=socket.SOCK_STREAM)
            v4, v6 = (
                sorted({str(answer[4][0]) for answer in answers if answer[0] is family})
                for family in (socket.AF_INET, socket.AF_INET6)
            )
            found: list[str] | OSError = v4 or v6
        except UnicodeError:  # a name that no name server can be asked for
            found = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        except OSError as error:
            found = error
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, found)

    threading.Thread(target=ask, name="resolve", daemon=True).start()
    return future
