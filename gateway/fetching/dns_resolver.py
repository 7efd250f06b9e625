"""A host's name → its addresses, asked of DNS alone, once, and cancellable at any moment.

``getaddrinfo`` is not used: a call of it cannot be ended, so that a few names with dead name servers keep all its
threads busy, and it asks more than DNS (``/etc/hosts``, search domains, mDNS), which is how names come to mean
something of the own network. Nothing is cached: the name server does that, and what is not kept cannot grow.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, Protocol, Self

import dns.asyncresolver
import dns.exception
import dns.message
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.resolver

RESOLV_CONF = Path("/etc/resolv.conf")
DNS_PORT = 53
_UDP_BYTES = 1232  # what DNS software agreed on as the largest answer that is not fragmented ("DNS flag day 2020")
MAX_ANSWER_BYTES = 4096
"""Of one answer: about 250 IPv4 addresses. Reading one of 64 kB keeps the event loop busy for a tenth of a second."""
_TRIES = 2
_KINDS = (dns.rdatatype.A, dns.rdatatype.AAAA)


class Resolver(Protocol):
    """Looks names up; tests bring their own."""

    async def resolve(self, host: str) -> Sequence[str]:
        """Return all addresses of a name, in the order in which they are to be tried, as text.

        Raises:
            TimeoutError: no answer in time.
            OSError: there is no such name, or it has no address.
        """
        ...


class NameServer(dns.nameserver.Do53Nameserver):
    """A DNS server by address and port. Its answers over TCP have a cap; over UDP the size we announce is one."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the server that ``1.2.3.4``, ``1.2.3.4:53``, ``2001:db8::1`` or ``[2001:db8::1]:53`` names.

        Raises:
            ValueError: it is none of these.
        """
        if text.startswith("[") != ("]" in text):
            raise ValueError(f"“{text}” is no address")
        address, _, port = text.partition("]") if text.startswith("[") else (text, "", "")
        if not port and text.count(":") == 1:
            address, _, port = text.partition(":")
        number = int(port.removeprefix(":") or DNS_PORT)
        if not 0 < number < 1 << 16:
            raise ValueError(f"“{text}” names no port from 1 to 65535")
        return cls(str(ip_address(address.removeprefix("["))), number)

    async def async_query(
        self,
        request: dns.message.QueryMessage,
        timeout: float,  # noqa: ASYNC109 - dnspython's
        source: str | None,
        source_port: int,
        max_size: bool,  # noqa: FBT001 - dnspython's: ask by TCP
        *args: Any,  # noqa: ANN401
        **options: Any,  # noqa: ANN401
    ) -> dns.message.Message:
        """Ask; see dnspython.

        Raises:
            dns.exception.FormError: the answer is longer than MAX_ANSWER_BYTES, or another question's.
        """
        if not max_size:
            return await super().async_query(request, timeout, source, source_port, max_size, *args, **options)
        try:
            async with asyncio.timeout(timeout):
                answer = dns.message.from_wire(await self._over_tcp(request.to_wire()))
        except TimeoutError:
            raise dns.exception.Timeout from None
        if not request.is_response(answer):
            raise dns.exception.FormError
        return answer

    async def _over_tcp(self, question: bytes) -> bytes:
        """RFC 1035 section 4.2.2: two bytes of length, then the message, both ways."""
        reader, writer = await asyncio.open_connection(self.address, self.port)
        try:
            writer.write(len(question).to_bytes(2, "big") + question)
            length = int.from_bytes(await reader.readexactly(2), "big")
            if length > MAX_ANSWER_BYTES:
                raise dns.exception.FormError
            return await reader.readexactly(length)
        finally:
            writer.close()


@dataclass(frozen=True, slots=True)
class DnsResolver:
    """Asks DNS for a name's IPv4 and IPv6 addresses.

    Attributes:
        servers: to ask; empty means those of the system, as they stand then.
        timeout_s: for one name.
    """

    servers: Sequence[NameServer] = ()
    timeout_s: float = 2.0

    async def resolve(self, host: str) -> Sequence[str]:
        """Return all addresses of a name, IPv4 and IPv6 in turn; see :class:`Resolver`."""
        servers = self.servers or system_servers()
        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers = list(servers)
        resolver.lifetime = self.timeout_s
        resolver.timeout = self.timeout_s / max(_TRIES, len(servers))
        resolver.use_edns(0, 0, _UDP_BYTES)
        name = dns.name.from_text(host)  # absolute: no search domain is tried
        asked = [asyncio.create_task(_ask(resolver, name, kind)) for kind in _KINDS]
        try:
            done, late = await asyncio.wait(asked, timeout=self.timeout_s)
            found = [task.result() for task in asked if task in done and task.exception() is None]
            late |= {task for task in done if isinstance(task.exception(), TimeoutError)}
        finally:
            for task in asked:
                task.cancel()
        addresses = [address for address in chain(*zip_longest(*found)) if address is not None]
        if not addresses:
            raise TimeoutError if late else OSError("no such name")
        return addresses


def system_servers() -> list[NameServer]:
    """Return the servers that ``/etc/resolv.conf`` names now, or where it names none the one on this machine."""
    try:
        return [NameServer(str(server), DNS_PORT) for server in dns.resolver.Resolver(str(RESOLV_CONF)).nameservers]
    except (dns.exception.DNSException, OSError, ValueError):
        return [NameServer("127.0.0.1", DNS_PORT)]


async def _ask(resolver: dns.asyncresolver.Resolver, name: dns.name.Name, kind: dns.rdatatype.RdataType) -> list[str]:
    try:
        answer = await resolver.resolve(name, kind, search=False, raise_on_no_answer=False)
    except dns.exception.Timeout:
        raise TimeoutError from None
    except dns.exception.DNSException as fault:
        raise OSError("no answer") from fault
    return [] if answer.rrset is None else [record.to_text() for record in answer.rrset]
