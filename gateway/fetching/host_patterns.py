"""Lists of hosts as an operator writes them: names, ``*.names``, addresses and networks."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Self

_NAME = re.compile(r"(?:\*\.)?[a-z0-9_](?:[a-z0-9._-]{0,251}[a-z0-9_])?")


@dataclass(frozen=True, slots=True)
class HostPatterns:
    """The hosts that a list covers; an empty list covers none and is false.

    Attributes:
        names: host names, lower case.
        suffixes: of ``*.example.org`` the part ``.example.org``: every name below it, not the name itself.
        networks: single addresses too.
    """

    names: frozenset[str] = frozenset()
    suffixes: tuple[str, ...] = ()
    networks: tuple[IPv4Network | IPv6Network, ...] = ()

    @classmethod
    def parse(cls, entries: Iterable[str]) -> Self:
        """Return the rules that these entries make.

        Raises:
            ValueError: an entry is neither a name, a ``*.name``, an address nor a network; it is named.
        """
        names, suffixes, networks = set(), set(), []
        for entry in entries:
            text = entry.strip().lower().strip("[]")
            try:
                networks.append(ip_network(text))
                continue
            except ValueError:
                if not _NAME.fullmatch(text):
                    raise ValueError(
                        f"“{entry}” is no host name, *.name, address or network; ports and schemes do not belong here"
                    ) from None
            if text.startswith("*"):
                suffixes.add(text[1:])
            else:
                names.add(text)
        return cls(frozenset(names), tuple(sorted(suffixes)), tuple(networks))

    def covers(self, host: str | IPv4Address | IPv6Address) -> bool:
        """Say whether a host is on the list.

        Args:
            host: a name in lower case, or an address; an IPv6 address that maps an IPv4 one is taken as either.
        """
        if isinstance(host, str):
            return host in self.names or host.endswith(self.suffixes)
        mapped = host.ipv4_mapped if isinstance(host, IPv6Address) else None
        return any(host in network or (mapped is not None and mapped in network) for network in self.networks)

    def __bool__(self) -> bool:
        return bool(self.names or self.suffixes or self.networks)
