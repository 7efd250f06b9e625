"""Checks that ports are free before anything is started on them."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from scripts.triton.failure import TritonFailed


def require_free(ports: Mapping[str, tuple[str, int]]) -> None:
    """Check addresses by binding them for a moment.

    Args:
        ports: host and port by the name of the setting that gives it.

    Raises:
        TritonFailed: one is taken, given twice, or cannot be bound.
    """
    seen: dict[int, str] = {}
    for setting, (host, port) in ports.items():
        if not 1 <= port <= 65535:
            raise TritonFailed(f"{setting}={port} is no port: give a number from 1 to 65535")
        if port in seen:
            raise TritonFailed(f"{setting} and {seen[port]} are both {port}: give them different ports")
        seen[port] = setting
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # As servers do: a port that is only waiting out its last connections is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                raise TritonFailed(
                    f"port {port} on {host} cannot be used ({error.strerror}): stop what runs there, or set {setting} "
                    "to another port"
                ) from None
