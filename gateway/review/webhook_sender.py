"""One attempt to deliver an event: signed by Standard Webhooks 1.0, over a connection of its own, within a deadline.

The address is the operator's, so private ones are allowed. A redirect is not followed and the answer's body is not
read: neither can make the gateway ask anything else, or keep it.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, Literal

import httpcore2
from standardwebhooks.webhooks import Webhook

PREFIX: Final = "whsec_"
SECRET_BYTES: Final = range(24, 65)  # Standard Webhooks 1.0, "Symmetric"
_MOST_DIGITS: Final = 9
_GONE: Final = 410

AttemptOutcome = Literal["delivered", "gone", "redirect", "refused", "failed", "timeout", "tls", "connection"]


class WebhooksInvalid(Exception):
    """Events cannot be sent with these settings; the text says which, and what to do."""


@dataclass(frozen=True, slots=True)
class DeliveryAttempt:
    """How an attempt ended.

    Attributes:
        outcome: ``gone`` 410, ``redirect`` 3xx, ``refused`` other 4xx, ``failed`` any other status; else what broke.
        error: for people; neither the address, nor the secret, nor what was sent or answered.
        retry_after_s: as the receiver asked, or None.
    """

    outcome: AttemptOutcome
    error: str = ""
    retry_after_s: float | None = None


class WebhookSender:
    """Sends events to one address.

    Args:
        url: http or https.
        secret: whsec_ and base64, several with commas: each signs.
        timeout_s: of an attempt, from the look-up of the name to the answer's headers.
        ssl_context: by default certificates are verified against the system's authorities.

    Raises:
        WebhooksInvalid: there is no secret, or one is something else.
    """

    def __init__(self, url: str, secret: str, timeout_s: float, ssl_context: ssl.SSLContext | None = None) -> None:
        self._url = httpcore2.URL(url)
        self._timeout_s = timeout_s
        self._ssl_context = ssl_context or httpcore2.default_ssl_context()
        self._signers = tuple(Webhook(key) for key in _keys(secret))

    async def send(self, message_id: str, body: str) -> DeliveryAttempt:
        """Make one attempt; never raises."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._post(message_id, body)
        except (TimeoutError, httpcore2.TimeoutException):
            return DeliveryAttempt("timeout", f"no answer within {self._timeout_s:g} s")
        except (httpcore2.NetworkError, httpcore2.ProtocolError, OSError, ValueError) as fault:
            if isinstance(fault, ssl.SSLError) or isinstance(fault.__context__, ssl.SSLError):
                return DeliveryAttempt(
                    "tls", "TLS failed: the certificate is not valid for the address, or no TLS is spoken"
                )
            return DeliveryAttempt("connection", f"the connection failed ({type(fault).__name__})")

    async def _post(self, message_id: str, body: str) -> DeliveryAttempt:
        now = datetime.now(UTC)
        signatures = " ".join(signer.sign(message_id, now, body) for signer in self._signers)
        content = body.encode()
        port = self._url.port or {b"http": 80, b"https": 443}[self._url.scheme]
        shown = b"" if self._url.port is None else b":%d" % port
        headers = [
            (b"Host", self._url.host + shown),
            (b"User-Agent", b"clip-moderation-gateway"),
            (b"Content-Type", b"application/json"),
            (b"Content-Length", b"%d" % len(content)),
            (b"Connection", b"close"),
            (b"webhook-id", message_id.encode()),
            (b"webhook-timestamp", b"%d" % int(now.timestamp())),
            (b"webhook-signature", signatures.encode()),
        ]
        request = httpcore2.Request("POST", self._url, headers=headers, content=content)
        async with httpcore2.AsyncHTTPConnection(self._url.origin, ssl_context=self._ssl_context) as connection:
            response = await connection.handle_async_request(request)
            return _attempt(response.status, {name.lower(): value for name, value in response.headers})


def _attempt(status: int, headers: dict[bytes, bytes]) -> DeliveryAttempt:
    if status // 100 == 2:  # noqa: PLR2004
        return DeliveryAttempt("delivered")
    kinds: dict[int, AttemptOutcome] = {3: "redirect", 4: "refused"}
    outcome: AttemptOutcome = "gone" if status == _GONE else kinds.get(status // 100, "failed")
    return DeliveryAttempt(
        outcome, f"status {status}", _seconds(headers.get(b"retry-after", b"").decode("latin-1").strip())
    )


def _seconds(text: str) -> float | None:
    """Return what ``Retry-After`` (RFC 9110, 10.2.3) asks for: seconds, or a date; None of anything else."""
    if text.isascii() and text.isdigit():
        return float(text[:_MOST_DIGITS])
    try:
        moment = parsedate_to_datetime(text)
        return (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    except (ValueError, OverflowError):  # what parses may still be of no year or zone that there is
        return None


def _keys(secret: str) -> list[bytes]:
    parts = [part.strip() for part in secret.split(",") if part.strip()]
    try:
        keys = [base64.b64decode(part.removeprefix(PREFIX), validate=True) for part in parts]
    except (binascii.Error, ValueError):
        keys = []
    if not keys or any(len(key) not in SECRET_BYTES for key in keys):
        raise WebhooksInvalid(
            "WEBHOOK_URL needs WEBHOOK_SECRET: whsec_ and the base64 of 24 to 64 random bytes "
            '(echo "whsec_$(openssl rand -base64 32)"), or several of them with commas'
        )
    return keys
