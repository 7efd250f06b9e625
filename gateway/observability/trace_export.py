"""Sends spans to a collector by OTLP over HTTP, in a thread of its own: no request waits for it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast
from uuid import uuid4

import structlog

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
    from opentelemetry.sdk.trace.sampling import Sampler

PATH: Final = "/v1/traces"  # of OTLP's endpoint
PARENT_BASED: Final = "parentbased_"


class TracesUnavailable(Exception):
    """Spans were asked for and cannot be sent; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Collector:
    """Where spans go, and which.

    Attributes:
        endpoint: URL, without the signal's path.
        headers: ``name=value``, comma-separated, values percent-encoded; they may be secret.
        sampler: name of OTEL_TRACES_SAMPLER.
        share: of traces, 0 to 1, where the sampler takes one.
        service: name of this service.
        version: of it.
    """

    endpoint: str
    headers: str
    sampler: str
    share: float
    service: str
    version: str


def trace_provider(collector: Collector) -> TracerProvider:
    """Return what sends the spans that it is given to a collector.

    The queue is bounded; what finds it full is dropped. Its size, delays, time-outs and certificates are the SDK's
    standard variables.

    Raises:
        TracesUnavailable: the extra is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - optional
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.util.re import parse_env_headers  # noqa: PLC0415
    except ImportError:
        raise TracesUnavailable(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set and the extra traces is not installed: pip install "
            "'clip-moderation-gateway[traces]', in Docker GATEWAY_EXTRAS=traces"
        ) from None
    ours = {"service.version": collector.version, "service.instance.id": str(uuid4())}
    resource = (
        Resource(ours).merge(OTELResourceDetector().detect()).merge(Resource({"service.name": collector.service}))
    )
    headers = parse_env_headers(collector.headers, liberal=True)
    exporter = OTLPSpanExporter(endpoint=collector.endpoint.rstrip("/") + PATH, headers=headers or None)
    provider = TracerProvider(sampler_of(collector.sampler, collector.share), resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(cast("SpanExporter", OnceLogged(exporter))))
    # Each attempt that fails and each span that is dropped would have a line; ``OnceLogged`` has one for all.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    return provider


def sampler_of(name: str, share: float) -> Sampler:
    """Return the sampler that a value of OTEL_TRACES_SAMPLER names."""
    from opentelemetry.sdk.trace import sampling  # noqa: PLC0415 - optional

    roots = {"always_on": sampling.ALWAYS_ON, "always_off": sampling.ALWAYS_OFF}
    root = roots.get(name.removeprefix(PARENT_BASED)) or sampling.TraceIdRatioBased(share)
    return sampling.ParentBased(root) if name.startswith(PARENT_BASED) else root


class OnceLogged:
    """A ``SpanExporter`` that logs when its exports begin to fail and when they succeed again.

    Args:
        exporter: that sends.
    """

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans; they are lost where that fails."""
        result = self._exporter.export(spans)
        failed = result.name != "SUCCESS"
        if failed != self._failing:
            self._failing = failed
            log = structlog.get_logger("traces")
            if failed:
                log.warning("traces cannot be sent to the collector; they are dropped until they can")
            else:
                log.info("traces are sent to the collector again")
        return result

    def shutdown(self) -> None:
        """Send nothing more."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """See ``SpanExporter.force_flush``."""
        return self._exporter.force_flush(timeout_millis)
