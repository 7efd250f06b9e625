"""From a URL's text to addresses that may be connected to: the public internet, and nothing else.

The URL is read strictly, so that no two parsers can read it differently; its host is judged as text, then looked up,
then every address is judged.

``ipaddress.is_global`` alone is not enough: Python 3.11 says True for 64:ff9b::7f00:1, 2002:7f00:1::, ::127.0.0.1,
fec0::1, 224.0.0.1 and 168.63.129.16. So what it lacks of IANA's special-purpose registries is written out here, an IPv6
address is allowed only inside global unicast (2000::/3), and one that carries an IPv4 address is judged by that one as
well.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from gateway.fetching.browser_url import ascii_host, encoded_target, resolve
from gateway.fetching.host_patterns import HostPatterns

Address = IPv4Address | IPv6Address

_FORBIDDEN_V4 = tuple(
    IPv4Network(block)
    for block in (
        # IANA IPv4 Special-Purpose Address Registry, what is_global does not know or calls global
        "192.0.0.0/24",  # IETF protocol assignments
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT
        "192.88.99.0/24",  # deprecated 6to4 relay anycast
        "192.175.48.0/24",  # AS112
        "224.0.0.0/4",  # multicast (RFC 5771)
        # Public numbers behind which a cloud's machines find its metadata or its inner services, each in its own
        # documentation. Other clouds' lie in blocks that are not public: 169.254.0.0/16, 100.64.0.0/10, fc00::/7.
        "168.63.129.16/32",  # Azure: platform channel of virtual machines ("WireServer")
        "192.80.8.124/32",  # Equinix Metal, formerly Packet: metadata.packet.net, metadata.platformequinix.com
        "161.26.0.0/16",  # IBM Cloud: infrastructure services on its private network
        "166.8.0.0/14",  # IBM Cloud: service endpoints on its private network
    )
)

_GLOBAL_UNICAST_V6 = IPv6Network("2000::/3")  # the only range IANA has opened for global unicast

_NAT64_WELL_KNOWN = IPv6Network("64:ff9b::/96")  # RFC 6052
_FORBIDDEN_V6 = tuple(
    IPv6Network(block)
    for block in (
        # IANA IPv6 Special-Purpose Address Registry, inside 2000::/3
        "2001::/23",  # IETF protocol assignments: Teredo, benchmarking, AMT, ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: leads to the IPv4 address inside it
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
)
"""Outside 2000::/3, and so forbidden without being named: ::, ::1, IPv4-compatible and -mapped (the latter is judged
as IPv4 first), NAT64 64:ff9b::/96 and 64:ff9b:1::/48, discard-only 100::/64, SRv6 5f00::/16, unique local fc00::/7 with
the metadata of AWS, Google, Oracle and Scaleway, link-local fe80::/10, site-local fec0::/10, multicast ff00::/8."""

_ISATAP = frozenset({0x00005EFE, 0x02005EFE})  # RFC 5214 section 6.1: interface identifier ...:5efe:a.b.c.d

_FORBIDDEN_SUFFIXES = (
    # RFC 6761, 6762, 8375, 9476 and ICANN's reservation of .internal; the rest is common inside networks
    "localhost", "local", "internal", "intranet", "private", "corp", "home", "lan", "home.arpa", "localdomain",
    "test", "example", "invalid", "onion", "alt", "arpa", "in-addr.arpa", "ip6.arpa",
    # names that public DNS zones point at loopback or at any address asked for are met by the address check
)  # fmt: skip

_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")

_URL = re.compile(
    r"(?P<scheme>https?)://(?P<authority>[^/?#]+)(?P<path>/[^?#]*)?(?P<query>\?[^#]*)?(?:#.*)?",
    re.IGNORECASE | re.ASCII,
)
_AUTHORITY = re.compile(r"(?P<host>\[[0-9a-f:.]+\]|[^\[\]:@%]+)(?::(?P<port>[0-9]{1,5}))?", re.IGNORECASE | re.ASCII)
_NEVER = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udfff]|^\s|\s$")
"""Controls, backslashes, spaces at an end and lone surrogates: what parsers strip, swap or choke on."""
_DEFAULT_PORTS = {"http": 80, "https": 443}


def parse_host(host: str) -> Address | str | None:
    """Judge a URL's host as written, before any look-up.

    Args:
        host: without port; an IPv6 address still in its brackets.

    Returns:
        An address that may be connected to, a name to look up (ASCII, lower case, ``xn--`` for other scripts), or None
        when the host is forbidden: anything but names of two labels or more and canonical addresses. What is judged
        is what browsers make of the host: digits and dots of other scripts are ASCII ones by then. So no percent sign,
        no trailing dot, and no decimal, hexadecimal, octal or short form of an IPv4 address.
    """
    if host.startswith("["):
        if not host.endswith("]") or "%" in host:
            return None
        try:
            address: Address = IPv6Address(host[1:-1])
        except ValueError:
            return None
        return address if is_public(address) else None
    try:
        host = ascii_host(host)
    except ValueError:
        return None
    labels = host.split(".")
    if re.fullmatch(r"[0-9]+|0x[0-9a-f]*", labels[-1]):
        # WHATWG URL, "ends in a number": such a host is an IPv4 address or nothing.
        try:
            address = IPv4Address(host)  # strict: four decimal parts without leading zeros
        except ValueError:
            return None
        return address if is_public(address) else None
    plain = all(_LABEL.fullmatch(label) for label in labels)
    reserved = any(host == suffix or host.endswith(f".{suffix}") for suffix in _FORBIDDEN_SUFFIXES)
    # 253: RFC 1035 section 2.3.4. A name of one label is one of the own network.
    return host if plain and not reserved and len(labels) > 1 and len(host) <= 253 else None  # noqa: PLR2004


def parse_answer(text: str) -> Address | None:
    """Return an address that a resolver gave, or None when it is none or has a zone (``fe80::1%eth0``)."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return None if isinstance(address, IPv6Address) and address.scope_id else address


def is_public(address: Address) -> bool:
    """Say whether an address belongs to the public internet, whatever way it is wrapped."""
    if isinstance(address, IPv4Address):
        return address.is_global and not any(address in block for block in _FORBIDDEN_V4)
    if address.ipv4_mapped is not None:
        return is_public(address.ipv4_mapped)
    if address in _NAT64_WELL_KNOWN:
        # Allowed where the network translates: the IPv4 address is what it reaches.
        return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
    if address not in _GLOBAL_UNICAST_V6 or any(address in block for block in _FORBIDDEN_V6):
        return False
    return (int(address) >> 32) & 0xFFFFFFFF not in _ISATAP or is_public(IPv4Address(int(address) & 0xFFFFFFFF))


@dataclass(frozen=True, slots=True, kw_only=True)
class UrlRules:
    """Where a fetch may go.

    Attributes:
        ports: that URLs may name.
        max_url_chars: length of a URL.
        allowed_hosts: the only hosts that URLs may name, addresses as they are written; empty: any. It restricts: a
            host on it is judged like any other.
        forbidden_hosts: forbidden though public: the gateway's own names and addresses, and what stands behind it.
        allowed_test_hosts: ``host:port`` pairs exempt from the rules on names, addresses and ports, for tests. A pair
            opens that one port and no other, for URLs as for redirects.
    """

    ports: tuple[int, ...] = (80, 443)
    max_url_chars: int = 2048
    allowed_hosts: HostPatterns = HostPatterns()  # noqa: RUF009 - immutable
    forbidden_hosts: HostPatterns = HostPatterns()  # noqa: RUF009 - immutable
    allowed_test_hosts: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class SourceUrl:
    """A URL that passed.

    Attributes:
        scheme: ``http`` or ``https``.
        host: a name, which has to be looked up, in lower-case ASCII; or an address, IPv6 without brackets.
        port: 1 to 65535.
        path: path and query as sent on the request line, ASCII, starting with ``/``.
        exempt: named in ``allowed_test_hosts``.
    """

    scheme: str
    host: str
    port: int
    path: str
    exempt: bool

    @property
    def authority(self) -> str:
        """What ``Host`` says: with brackets, and with the port unless it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


def parse_url(url: str, rules: UrlRules) -> SourceUrl | None:
    """Return the parts of a URL, or None when it is forbidden by its text."""
    if len(url) > rules.max_url_chars or _NEVER.search(url):
        return None
    return _judged(url, rules)


def _judged(url: str, rules: UrlRules) -> SourceUrl | None:
    parts = _URL.fullmatch(url)
    authority = _AUTHORITY.fullmatch(parts["authority"]) if parts else None
    if parts is None or authority is None:
        return None  # other schemes, user names, characters that hosts do not have
    scheme, host = parts["scheme"].lower(), authority["host"]
    port = int(authority["port"] or _DEFAULT_PORTS[scheme])
    exempt = f"{host.lower()}:{port}" in rules.allowed_test_hosts
    if not exempt:
        judged = parse_host(host)
        if judged is None or port not in rules.ports or rules.forbidden_hosts.covers(judged):
            return None
        if rules.allowed_hosts and not rules.allowed_hosts.covers(judged):
            return None
        host = str(judged)
    target = encoded_target(parts["path"] or "/", parts["query"] or "")
    return SourceUrl(scheme, host.lower().strip("[]"), port, target, exempt)


def may_connect(address: Address, rules: UrlRules) -> bool:
    """Say whether an address that a name leads to may be connected to."""
    return is_public(address) and not rules.forbidden_hosts.covers(address)


def redirect_target(source: SourceUrl, location: str, rules: UrlRules) -> SourceUrl | None:
    """Return where a ``Location`` leads from ``source``, or None when it is forbidden: each hop is judged anew.

    Args:
        source: the URL that was answered.
        location: as browsers take it: with raw characters, relative, with backslashes. Bytes that are no UTF-8 are
            surrogates (``surrogateescape``).
        rules: where a fetch may go.
    """
    if len(location) > rules.max_url_chars:
        return None
    return _judged(resolve(f"{source.scheme}://{source.authority}{source.path}", location), rules)
