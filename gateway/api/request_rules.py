"""What every request has to keep to, whatever it asks: judged by its head, before its key and before its body.

A browser lets any page send requests to this machine and its network. A page of another site may not change anything
here (by the methods that RFC 9110 calls unsafe), and a name that its owner points at this machine (DNS rebinding) makes
no page ours. Pages of listed origins may send everything and read every answer, errors too (CORS, the Fetch standard);
Starlette's middleware for that would answer without request id and log, or not on what is rejected here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from types import MappingProxyType

from starlette.datastructures import Headers
from starlette.types import Scope

from gateway.api.body.reader import declared_bytes
from gateway.errors import CrossSiteRequest, HostNotAllowed, HttpMalformed
from gateway.fetching.host_patterns import HostPatterns

# uri-host [":" port] of RFC 9110, 7.2; an http address has a host, so that an empty one is refused too.
HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._~%!$&'()*+,;=-]{1,255})(:[0-9]{0,5})?")
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})  # RFC 9110, 9.2.1
OWN_PAGES = frozenset({"same-origin", "none"})  # of Sec-Fetch-Site; none: the person's own doing, no page's
DEFAULT_PORTS = {"http": ":80", "https": ":443"}
READABLE = b"ETag, Idempotent-Replayed, RateLimit, RateLimit-Policy, Retry-After, X-Request-ID"
# What an answer to a preflight says beside the origin. Keys travel in a header of the page's own, never as credentials.
PREFLIGHT: Mapping[str, str] = MappingProxyType(
    {
        "Access-Control-Allow-Methods": "DELETE, GET, HEAD, POST, PUT",
        "Access-Control-Allow-Headers": "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, "
        "X-Request-ID",
        "Access-Control-Max-Age": "600",  # seconds
    }
)
TARGET = "target"  # in the request's state: the raw target, where our own server reads it


@dataclass(frozen=True, slots=True)
class RequestRules:
    """Which requests are rejected by their head alone.

    Attributes:
        max_body_bytes: that a request may announce, also where its body is not read.
        allowed_hosts: that a request may name as its own; none: any.
        allowed_origins: of pages of other sites that may send unsafe methods and read answers, as browsers write them.
    """

    max_body_bytes: int
    allowed_hosts: HostPatterns
    allowed_origins: frozenset[str]

    def check(self, scope: Scope, headers: Headers) -> None:
        """Check the head of a request.

        Raises:
            HttpMalformed: it does not name its host once (RFC 9112, 3.2), its length is no number, or its body has
                another transfer coding than chunked.
            HostNotAllowed: it names one that is not this gateway's.
            CrossSiteRequest: a page of another site sent a method that changes something.
            PayloadTooLarge: it announces too long a body.
        """
        host = _host(scope, headers.getlist("host"))
        if host is not None and self.allowed_hosts and not self._is_allowed(host):
            raise HostNotAllowed("The request names a host that is not this gateway's; ALLOWED_HOSTS lists more.")
        if scope["method"] not in SAFE_METHODS and not self._is_from_here(host or "", headers):
            raise CrossSiteRequest(
                "A page of another site may not send this; CORS_ALLOWED_ORIGINS lists those that may."
            )
        codings = headers.getlist("transfer-encoding")
        if codings and [coding.strip(" \t").lower() for coding in codings] != ["chunked"]:
            raise HttpMalformed(
                "Of transfer codings only chunked is read; send Transfer-Encoding: chunked, or a length."
            )
        declared_bytes(headers, self.max_body_bytes)

    def is_preflight(self, method: str, headers: Headers) -> bool:
        """Tell whether a browser asks on behalf of a listed page what that may send (Fetch, CORS-preflight request)."""
        return (
            method == "OPTIONS"
            and "access-control-request-method" in headers
            and _origin(headers) in self.allowed_origins
        )

    def sharing_headers(self, headers: Headers) -> list[tuple[bytes, bytes]]:
        """Return what every answer says about pages of other origins; nothing while none is listed."""
        if not self.allowed_origins:
            return []
        shared, origin = [(b"vary", b"Origin")], _origin(headers)
        if origin is not None and origin in self.allowed_origins:
            shared.append((b"access-control-allow-origin", origin.encode()))
            shared.append((b"access-control-expose-headers", READABLE))
        return shared

    def _is_allowed(self, host: str) -> bool:
        name = _name(host)
        try:
            return self.allowed_hosts.covers(ip_address(name))
        except ValueError:
            return self.allowed_hosts.covers(name)

    def _is_from_here(self, host: str, headers: Headers) -> bool:
        """Tell whether no page of another site sent a request; what is no browser says nothing about that."""
        origin = _origin(headers)
        if origin in self.allowed_origins:
            return True
        if "sec-fetch-site" in headers:
            return ", ".join(headers.getlist("sec-fetch-site")) in OWN_PAGES
        return origin is None or _is_at(origin, host)


def is_own_page(method: str, headers: Headers) -> bool:
    """Tell whether a browser vouches that a page of this gateway, or the person, sent a request with a cookie.

    What changes something needs proof. What does not may come without, from browsers that send none to addresses
    without HTTPS; that of a page of another origin, listed or not, is refused too.
    """
    if "sec-fetch-site" in headers:
        site = ", ".join(headers.getlist("sec-fetch-site"))
        return site == "same-origin" or (site == "none" and method in SAFE_METHODS)
    origin = _origin(headers)
    return method in SAFE_METHODS if origin is None else _is_at(origin, headers.get("host", ""))


def is_secure_page(scheme: str, headers: Headers) -> bool:
    """Tell whether a browser sent a request over HTTPS, whatever a proxy made of it.

    Origins say so. Without one: browsers send Sec-Fetch-Site over HTTPS and to loopback alone (Fetch Metadata, 2).
    """
    origin = _origin(headers)
    if scheme == "https" or (origin or "").startswith("https://"):
        return True
    return origin is None and "sec-fetch-site" in headers and not _is_loopback(_name(headers.get("host", "")))


def _origin(headers: Headers) -> str | None:
    return ", ".join(headers.getlist("origin")) if "origin" in headers else None


def _name(host: str) -> str:
    """Return the name or address of a host without its port."""
    name = host.rpartition(":")[0] if ":" in host.rpartition("]")[2] else host
    return name.strip("[]").lower().removesuffix(".")


def _is_loopback(name: str) -> bool:
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")


def _host(scope: Scope, hosts: list[str]) -> str | None:
    """Return the host that a request names; None where an HTTP/1.0 client names none.

    Raises:
        HttpMalformed: it names none, several, or something else; or its target names another one.
    """
    if not hosts and scope["http_version"] == "1.0":
        return None
    if len(hosts) != 1 or not HOST.fullmatch(hosts[0]):
        raise HttpMalformed("A request names its host once, as host or host:port.")
    target: str = scope["state"].get(TARGET, b"/").decode("latin-1")
    if not target.startswith("/") and target != "*":  # http://host/path; servers differ in which host they believe
        scheme, _, rest = target.partition("://")
        if not _is_at(f"{scheme}://{re.split('[/?#]', rest)[0]}", hosts[0]):
            raise HttpMalformed("The request's target names another host than its Host header.")
    return hosts[0]


def _is_at(origin: str, host: str) -> bool:
    """Tell whether an origin is at this host and port; its scheme is not known behind a proxy with TLS."""
    scheme, _, authority = origin.lower().partition("://")
    port = DEFAULT_PORTS.get(scheme)
    return port is not None and bool(host) and authority.removesuffix(port) == host.lower().removesuffix(port)
