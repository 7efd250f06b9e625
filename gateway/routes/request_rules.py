"""What every request has to keep to, whatever it asks: judged by its head, before its key and before its body."""

from __future__ import annotations

import re
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import Scope

from gateway.errors import HttpMalformed
from gateway.routes.body import declared_bytes

# uri-host [":" port] of RFC 9110, 7.2; an http address has a host, so that an empty one is refused too.
HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._~%!$&'()*+,;=-]{1,255})(:[0-9]{0,5})?")


@dataclass(frozen=True, slots=True)
class RequestRules:
    """The rules.

    Attributes:
        max_body_bytes: that a request may announce, also one whose body nobody reads.
    """

    max_body_bytes: int

    def check(self, scope: Scope, headers: Headers) -> None:
        """Let a request pass, or not.

        Raises:
            HttpMalformed: it does not name its host once (RFC 9112, 3.2), or its length is no number.
            PayloadTooLarge: it announces too long a body.
        """
        hosts = headers.getlist("host")
        if len(hosts) > 1 or not all(map(HOST.fullmatch, hosts)) or not (hosts or scope["http_version"] == "1.0"):
            raise HttpMalformed("A request names its host once, as host or host:port.")
        declared_bytes(headers, self.max_body_bytes)
