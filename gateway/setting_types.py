"""What a setting's text may be: lists of words, hosts, origins, name servers, endpoints; a proxy."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator
from pydantic_settings import NoDecode

from gateway.fetching.dns_resolver import NameServer
from gateway.fetching.host_patterns import HostPatterns
from gateway.fetching.transport import Proxy
from gateway.inference.addresses import Endpoint

ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?")  # RFC 6454, 6.2


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _name_servers(text: str) -> tuple[NameServer, ...]:
    return tuple(NameServer.parse(part) for part in _split(text))


def _endpoints(text: str) -> tuple[Endpoint, ...]:
    return tuple(dict.fromkeys(Endpoint.parse(part) for part in _split(text)))


def _check_hosts(value: frozenset[str]) -> frozenset[str]:
    HostPatterns.parse(value)
    return value


def _check_origins(value: frozenset[str]) -> frozenset[str]:
    for origin in value:
        if not ORIGIN.fullmatch(origin):
            raise ValueError(f"“{origin}” is no origin as browsers write it: scheme://host or scheme://host:port")
    return value


Words = Annotated[frozenset[str], NoDecode, BeforeValidator(_split)]
Hosts = Annotated[Words, AfterValidator(_check_hosts)]
Origins = Annotated[Words, AfterValidator(_check_origins)]
NameServers = Annotated[tuple[NameServer, ...], NoDecode, BeforeValidator(_name_servers)]
Endpoints = Annotated[tuple[Endpoint, ...], NoDecode, BeforeValidator(_endpoints)]
OutboundProxy = Annotated[Proxy | None, NoDecode, BeforeValidator(lambda text: Proxy.parse(text) if text else None)]


def is_host(text: str) -> bool:
    """Return whether a text is a host's name, address or pattern, and not such as the path of a socket."""
    try:
        return bool(HostPatterns.parse([text]))
    except ValueError:
        return False
