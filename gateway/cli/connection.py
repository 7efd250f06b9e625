"""Which gateway a command asks, and with which key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

import click

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Connection:
    """A gateway.

    Attributes:
        address: ``http://host:port``.
        key: API key, or None.
    """

    address: str
    key: str | None

    @property
    def headers(self) -> dict[str, str]:
        """Of every request."""
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}


def checked_address(_: click.Context, __: click.Parameter, value: str) -> str:
    """Return an address that a client can use."""
    try:
        parts = urlsplit(value)
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise click.BadParameter(f"{value} is no address; http://host:port is")
    return value.rstrip("/")


def connection_options(command: F) -> F:
    """Add --address and --key."""
    address = click.option(
        "--address",
        envvar="CLIP_GATEWAY_ADDRESS",
        default="http://127.0.0.1:8000",
        show_default=True,
        show_envvar=True,
        callback=checked_address,
        help="The gateway.",
    )
    key = click.option("--key", envvar="CLIP_API_KEY", show_envvar=True, help="API key.")
    return address(key(command))
