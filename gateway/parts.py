"""The parts of the application that settings alone describe."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from concurrent.futures import Executor
from datetime import timedelta

import httpcore2
import structlog

from gateway.decoding.decoder import DecodeLimits
from gateway.decoding.pdq import available, load_hasher
from gateway.decoding.plugins import accepted_formats
from gateway.decoding.preprocess import Preprocessor
from gateway.decoding.workers.forkserver import ForkServer
from gateway.decoding.workers.pool import DecodePool
from gateway.decoding.workers.threads import DecodeThreads
from gateway.fetching.dns_resolver import DnsResolver
from gateway.fetching.fetcher import Fetcher, FetchLimits
from gateway.fetching.host_patterns import HostPatterns
from gateway.inference.addresses import Address, Addresses
from gateway.inference.bundle import Manifest
from gateway.inference.connection import Tls
from gateway.inference.load_balancer import LoadBalancer
from gateway.inference.text_embeddings import TextLimits
from gateway.inference.triton import ModelServer, TritonEncoder
from gateway.limits.admission import AdmissionLimits
from gateway.moderation.idempotency import IdempotencyRules
from gateway.observability.metrics import Metrics
from gateway.observability.trace_export import Collector, trace_provider
from gateway.observability.tracing import Tracing
from gateway.settings import MIB, Settings
from gateway.store.spool import DecisionSpool

MOST_BYTES_PER_PIXEL = 32  # above every format's estimate
DEMO_MIN_SIDE_PX, MIN_SIDE_PX = 32, 50

MakeServer = Callable[[Settings, Manifest, Metrics, Address, Tls | None], ModelServer]
MakeFetcher = Callable[[Settings], Fetcher]


class TritonTlsInvalid(ValueError):
    """The settings of TLS to Triton cannot be used; the text says which, and no secret."""


def triton_server(
    settings: Settings, manifest: Manifest, metrics: Metrics, address: Address, tls: Tls | None = None
) -> ModelServer:
    """Return the encoder that asks the Triton at an address."""
    return TritonEncoder(address, manifest, metrics.observe_batch, settings.gateway_replicas, tls)


def triton_tls(settings: Settings) -> Tls | None:
    """Return how connections to Triton are encrypted; None: not at all.

    Raises:
        TritonTlsInvalid: a file cannot be read, is not what its name says, or does not go with the others.
    """
    certificate, key = settings.triton_cert_file, settings.triton_key_file
    if not settings.triton_tls:
        if settings.triton_ca_file or certificate or key or settings.triton_server_name:
            raise TritonTlsInvalid("TRITON_CA_FILE, TRITON_CERT_FILE and the like need TRITON_TLS=true")
        return None
    if (certificate is None) != (key is None):
        raise TritonTlsInvalid("TRITON_CERT_FILE and TRITON_KEY_FILE are given together, or neither")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if settings.triton_ca_file:
            context.load_verify_locations(settings.triton_ca_file)
    except (OSError, ssl.SSLError) as error:
        raise TritonTlsInvalid(f"TRITON_CA_FILE cannot be used: {_why(error)}") from None
    try:
        if certificate and key:
            context.load_cert_chain(certificate, key, password=lambda: "")  # asks nobody at the terminal
    except (OSError, ssl.SSLError) as error:
        raise TritonTlsInvalid(f"TRITON_CERT_FILE and TRITON_KEY_FILE cannot be used: {_why(error)}") from None
    authorities, chain, secret = (
        path.read_bytes() if path else None for path in (settings.triton_ca_file, certificate, key)
    )
    return Tls(authorities, chain, secret, settings.triton_server_name)


def _why(error: OSError) -> str:
    """Return what is wrong with a file of certificates."""
    if not isinstance(error, ssl.SSLError):
        return str(error.strerror)
    mismatch = error.reason == "KEY_VALUES_MISMATCH"
    return "the key is not the certificate's" if mismatch else "not in PEM form, or with a passphrase"


def request_tracing(settings: Settings, version: str) -> Tracing:
    """Return what traces requests; without an endpoint, none.

    Raises:
        TracesUnavailable: the extra traces is not installed.
    """
    if not settings.otel_exporter_otlp_endpoint:
        return Tracing()
    collector = Collector(
        settings.otel_exporter_otlp_endpoint,
        settings.otel_exporter_otlp_headers,
        settings.otel_traces_sampler,
        settings.otel_traces_sampler_arg,
        settings.otel_service_name,
        version,
    )
    return Tracing(trace_provider(collector))


def load_balancer(settings: Settings, manifest: Manifest, metrics: Metrics, make_server: MakeServer) -> LoadBalancer:
    """Return the encoder on all Tritons; called within the loop."""
    tls = triton_tls(settings)
    return LoadBalancer(
        Addresses(settings.triton_endpoints),
        settings.triton_resolve_s,
        lambda address: make_server(settings, manifest, metrics, address, tls),
        manifest,
        settings.readiness_window_s,
        metrics,
    )


def text_limits(settings: Settings, manifest: Manifest) -> TextLimits:
    """Return the caps of prompts and their vectors."""
    return TextLimits(
        settings.text_cache_mib * MIB, settings.max_new_prompts, settings.max_saved_prompts, manifest.text_max_batch
    )


def admission_limits(settings: Settings) -> AdmissionLimits:
    """Return the caps of requests that are worked on."""
    return AdmissionLimits(
        settings.max_requests_in_flight,
        settings.max_bytes_in_flight,
        settings.upload_room_mib * MIB,
        settings.upload_wait_s,
    )


def build_labels(manifest: Manifest) -> dict[str, str]:
    """Return what names a bundle in metrics."""
    model = {"bundle_id": manifest.bundle_id, "model": manifest.model.id}
    return {**model, "precision": manifest.precision, "device": manifest.device, "target": manifest.target}


def decode_limits(settings: Settings, manifest: Manifest) -> DecodeLimits:
    """Return the caps of one image for this bundle."""
    return DecodeLimits(
        max_bytes=settings.max_image_bytes,
        max_pixels=settings.max_image_pixels,
        max_side_px=settings.max_image_side_px,
        min_side_px=settings.min_image_side_px or (DEMO_MIN_SIDE_PX if manifest.model.demo else MIN_SIDE_PX),
        max_frames=settings.max_image_frames,
        sampled_frames=settings.sampled_frames,
        timeout_s=settings.decode_timeout_s,
        formats=accepted_formats(heic=settings.heic, isolated=settings.decode_isolation),
    )


def public_fetcher(settings: Settings, network: httpcore2.AsyncNetworkBackend | None = None) -> Fetcher:
    """Return the fetcher of images from the public internet; ``network`` is where tests put another one."""
    if settings.fetch_test_allowed_hosts:
        structlog.get_logger("app").warning(
            "FETCH_TEST_ALLOWED_HOSTS opens addresses that are not public to every client; it is for tests alone",
            hosts=sorted(settings.fetch_test_allowed_hosts),
        )
    resolver = DnsResolver(settings.fetch_dns_servers, settings.fetch_dns_timeout_s)
    return Fetcher(fetch_limits(settings), resolver=resolver, network=network)


def preparer(settings: Settings, threads: Executor, metrics: Metrics) -> Preprocessor:
    """Return what decodes images: processes, or threads where isolation is switched off."""
    if not settings.decode_isolation:
        return DecodeThreads(threads, load_hasher() if settings.perceptual_hash else None)
    # An image that needs more than the whole budget is let in alone, and the estimate may fall short of the truth.
    most_memory = 2 * max(settings.decode_memory_mib * MIB, settings.max_image_pixels * MOST_BYTES_PER_PIXEL)
    forker = ForkServer(
        most_memory=most_memory, heic=settings.heic, fingerprint=settings.perceptual_hash and available()
    )
    pool = DecodePool(
        settings.effective_decode_workers,
        forker,
        settings.max_inferences,
        lambda reason: metrics.decode_workers_ended.labels(reason).inc(),
    )
    metrics.watch_decoders(pool.memory_bytes)
    return pool


def fetch_limits(settings: Settings) -> FetchLimits:
    """Return the caps of URL fetching."""
    return FetchLimits(
        proxy=settings.fetch_proxy,
        proxy_resolves=settings.fetch_proxy_resolves,
        header_timeout_s=settings.fetch_header_timeout_s,
        allowed_hosts=HostPatterns.parse(settings.fetch_allowed_hosts),
        forbidden_hosts=HostPatterns.parse(settings.fetch_forbidden_hosts | settings.own_hosts),
        max_bytes=settings.max_image_bytes,
        timeout_s=settings.fetch_timeout_s,
        max_redirects=settings.fetch_max_redirects,
        max_concurrent=settings.fetch_concurrency,
        allowed_test_hosts=settings.fetch_test_allowed_hosts,
        user_agent=settings.fetch_user_agent,
        accept=settings.fetch_accept,
        formats=accepted_formats(heic=settings.heic, isolated=settings.decode_isolation),
    )


def decision_spool(settings: Settings, metrics: Metrics) -> DecisionSpool | None:
    """Return where decisions wait for the database; None where they do not."""
    if not (settings.decision_log and settings.decision_spool_mib):
        return None
    spool = DecisionSpool(settings.data_dir / "spool", settings.decision_spool_mib * MIB)
    metrics.watch_spool(lambda: spool.decisions)
    return spool


def idempotency_rules(settings: Settings) -> IdempotencyRules:
    """Return how long a repeated request is known; a claim outlives the request that has it."""
    return IdempotencyRules(
        settings.request_timeout_s + 2 * settings.store_timeout_s,
        timedelta(hours=settings.idempotency_retention_hours),
        settings.decision_log_required,
    )
