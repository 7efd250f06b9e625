"""The settings of traces, under OpenTelemetry's own names; ``settings.py`` has the others."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings


class TraceSettings(BaseSettings):
    """Where traces go, and which requests are traced."""

    otel_exporter_otlp_endpoint: str = Field(
        "",
        pattern=r"^(https?://[^\s?#]+)?$",
        description="Collector that traces are sent to by OTLP over HTTP, such as http://collector:4318; needs the "
        "extra traces. Empty: nothing is traced.",
    )
    otel_exporter_otlp_headers: str = Field(
        "", repr=False, description="Headers for it, name=value, comma-separated, percent-encoded."
    )
    otel_exporter_otlp_protocol: Literal["http/protobuf"] = Field(
        "http/protobuf", description="Of the collector; there is no other."
    )
    otel_traces_sampler: Literal[
        "always_on",
        "always_off",
        "traceidratio",
        "parentbased_always_on",
        "parentbased_always_off",
        "parentbased_traceidratio",
    ] = Field(
        "parentbased_always_on",
        description="Which requests are traced; parentbased_…: as the client's traceparent says, where it sends one.",
    )
    otel_traces_sampler_arg: float = Field(
        1.0, ge=0, le=1, description="Share of requests that are traced, with …traceidratio."
    )
    otel_service_name: str = Field("clip-gateway", min_length=1, description="Name of this service in its traces.")
