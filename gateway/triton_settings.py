"""The settings of the Tritons; ``settings.py`` has the others."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings

from gateway.inference.addresses import Endpoint
from gateway.setting_types import Endpoints


class TritonSettings(BaseSettings):
    """Where the Tritons are, and how connections to them are encrypted."""

    triton_host: str = Field(
        "127.0.0.1",
        description="Host of Triton's gRPC endpoint; where a name has several addresses, each is a Triton of its own.",
    )
    triton_grpc_port: int = Field(8101, ge=1, le=65535, description="Port of Triton's gRPC endpoint.")
    triton_addresses: Endpoints = Field(
        (),
        description="Tritons that share the load, comma-separated: host:port or [IPv6]:port, in place of TRITON_HOST "
        "and TRITON_GRPC_PORT.",
    )
    triton_resolve_s: float = Field(
        5.0, ge=0.1, le=3600, description="How often the names of Tritons are looked up again, s."
    )
    triton_tls: bool = Field(default=False, description="Encrypt connections to Triton.")
    triton_ca_file: Path | None = Field(
        None, description="Certificates (PEM) that Triton's is checked against; empty: public authorities."
    )
    triton_cert_file: Path | None = Field(
        None, description="Certificate (PEM) that the gateway shows to Triton (mutual TLS)."
    )
    triton_key_file: Path | None = Field(None, description="Its private key (PEM), without a passphrase.")
    triton_server_name: str = Field(
        "", description="Name that Triton's certificate is for; empty: the host by which these settings name it."
    )

    @property
    def triton_endpoints(self) -> tuple[Endpoint, ...]:
        """Host and port of each Triton's gRPC endpoint; a name may stand for several."""
        return self.triton_addresses or (Endpoint(self.triton_host, self.triton_grpc_port),)
