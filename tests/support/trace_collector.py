"""A collector of traces: OTLP over HTTP, protobuf."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.http_servers import serving


@dataclass(frozen=True)
class Seen:
    """A span that was sent.

    Attributes:
        name: of it.
        trace, own, parent: ids in hexadecimal; the parent is empty where there is none.
        attributes: by name.
        seconds: it lasted.
        failed: its status is an error.
    """

    name: str
    trace: str
    own: str
    parent: str
    attributes: dict[str, Any]
    seconds: float
    failed: bool


class Collector:
    """What has been sent, and to which endpoint more may be."""

    def __init__(self) -> None:
        self.spans: list[Seen] = []
        self.headers: dict[str, str] = {}
        self.resource: dict[str, Any] = {}
        self.endpoint = ""

    def named(self, name: str) -> list[Seen]:
        return [span for span in self.spans if span.name == name]

    def take(self, body: bytes) -> None:
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resource = values_of(group.resource.attributes)
            for span in (span for scope in group.scope_spans for span in scope.spans):
                self.spans.append(
                    Seen(
                        span.name,
                        span.trace_id.hex(),
                        span.span_id.hex(),
                        span.parent_span_id.hex(),
                        values_of(span.attributes),
                        (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
                        span.status.code == span.status.STATUS_CODE_ERROR,
                    )
                )


def values_of(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


@contextmanager
def collecting() -> Iterator[Collector]:
    """Collect while inside."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.headers = {name.lower(): value for name, value in self.headers.items()}
            collector.take(gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as port:
        collector.endpoint = f"http://127.0.0.1:{port}"
        yield collector
