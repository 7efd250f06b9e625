"""A name server on loopback for one name, as Docker has one for a service: its addresses change while it runs."""

from __future__ import annotations

import socket
import threading
from types import TracebackType
from typing import Self

import dns.flags
import dns.message
import dns.rdatatype
import dns.rrset


class ServiceName:
    """Answers questions for A records; others get an empty answer.

    Attributes:
        addresses: of the name; set anew at any time.
    """

    def __init__(self, name: str, addresses: list[str]) -> None:
        self.addresses = addresses
        self._name = f"{name}."
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def address(self) -> str:
        """Host and port."""
        host, port = self._socket.getsockname()
        return f"{host}:{port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.sendto(b"", self._socket.getsockname())  # wakes the thread up, and ends it
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while data := self._socket.recvfrom(4096):
            if not data[0]:
                return
            self._socket.sendto(self._answer(data[0]), data[1])

    def _answer(self, data: bytes) -> bytes:
        answer = dns.message.make_response(dns.message.from_wire(data))
        (question,) = answer.question
        if question.rdtype == dns.rdatatype.A and question.name.to_text() == self._name:
            answer.answer.append(dns.rrset.from_text(question.name, 1, "IN", "A", *self.addresses))
        return answer.to_wire()
