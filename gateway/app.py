"""Wiring: settings → parts → application. The only module, beside ``__main__``, that reads settings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import Depends, FastAPI
from fastapi.telemetry import TelemetryConfig

from gateway.access_parts import access_services, check_oidc
from gateway.api import (
    carrying,
    classifiers_and_policies,
    classify,
    dry_run,
    embeddings,
    hash_lists,
    health,
    moderate,
    openai_moderations,
    rollouts,
)
from gateway.api.authorization import Authentication, authorize
from gateway.api.body.reader import BodyRules
from gateway.api.console import audit, jobs, labelled_sets, samples, session, session_oidc, status, webhooks
from gateway.api.console.pages import install_pages
from gateway.api.console.static import install_console
from gateway.api.dependencies import ModerationsRules, Services
from gateway.api.openapi import install_openapi
from gateway.api.problems import install_handlers
from gateway.api.request_context import RequestContext
from gateway.api.request_rules import RequestRules
from gateway.api.review import decisions, images, legal_holds, reviews, similar, statistics
from gateway.api.training import route as training
from gateway.auth.key_file import KeyFile
from gateway.auth.rate_limits import RateLimits
from gateway.decoding.plugins import accepted_formats
from gateway.fetching.host_patterns import HostPatterns
from gateway.fetching.image_source import ImageSource
from gateway.hash_matching.refresher import ListRefresher
from gateway.inference.bundle import TOKENIZER_NAME, Manifest, read_manifest
from gateway.inference.explanation import Explainer
from gateway.inference.prompts import LabelRules
from gateway.inference.text_embeddings import TextEmbeddings
from gateway.inference.tokenizer import Tokenizer
from gateway.job_parts import Parts, make_jobs
from gateway.limits.admission import Admission
from gateway.limits.memory_budget import Budgets, MemoryBudget
from gateway.moderation.catalog import Catalog
from gateway.moderation.decision_log import DecisionLog
from gateway.moderation.idempotency import Idempotency
from gateway.moderation.moderator import LogRules, Moderator
from gateway.moderation.retention import watch_retention
from gateway.moderation.saving import Saver
from gateway.moderation.seeding import seed_alone
from gateway.observability.metrics import Metrics
from gateway.observability.tracing import Tracing
from gateway.parts import (
    MakeFetcher,
    MakeServer,
    admission_limits,
    build_labels,
    decision_spool,
    decode_limits,
    idempotency_rules,
    load_balancer,
    preparer,
    public_fetcher,
    request_tracing,
    text_limits,
    triton_server,
    triton_tls,
)
from gateway.pipeline import Pipeline
from gateway.readiness import Readiness
from gateway.review.queue_watch import watch_queue
from gateway.review_parts import MakeReviewImages, MakeWebhooks, review_images, review_services, webhook_delivery
from gateway.serving.http_protocol import ConnectionLimits, protocol_with
from gateway.settings import MIB, Settings
from gateway.store.audit import Audit
from gateway.store.bundles import Bundles
from gateway.store.decisions import Decisions
from gateway.store.idempotency import IdempotencyKeys
from gateway.store.installation import Installation
from gateway.store.leases import Leases
from gateway.store.lists import Lists
from gateway.store.migrate import late_database
from gateway.store.review.outbox import Outbox
from gateway.store.review.statistics import Statistics
from gateway.store.rollouts import Rollouts
from gateway.store.versions import Versions
from gateway.training.trainer import Trainer, TrainingLimits

VERSION = "0.1.0"
DESCRIPTION = """Zero-shot classification of images with CLIP in NVIDIA Triton.

Every error is `application/problem+json` with a stable `code`; every answer names the model that gave it.
"""
RESOURCES = (
    *(classify, embeddings, moderate, openai_moderations, dry_run),
    *(classifiers_and_policies, carrying, rollouts, hash_lists),
    # The statistics before a decision, whose route takes any name.
    *(statistics, decisions, similar, reviews, images, legal_holds, audit, health, status, training, samples),
    *(labelled_sets, jobs, webhooks),
)
SESSIONS = (session, session_oidc)
# The framework's own spans, metrics and logs have paths, queries and texts of exceptions; it makes them where
# FASTAPI_OTEL_AUTO_CONFIGURE is set, or the process has a provider for all its libraries.
NO_TELEMETRY: TelemetryConfig = {"auto_configure": False, "tracing": False, "metrics": False, "logs": False}


def create_app(
    settings: Settings | None = None,
    make_server: MakeServer = triton_server,
    make_fetcher: MakeFetcher = public_fetcher,
    ready_within_s: float = 0.0,
) -> FastAPI:
    """Return the application.

    Args:
        settings: read from the environment when None.
        make_server: the seam to the models, called within the loop with the address of each Triton; tests put another
            one here and patch nothing.
        make_fetcher: likewise the seam to the internet.
        ready_within_s: how long to wait until it is ready before it takes requests; 0 where no other replica answers.

    Raises:
        BundleError: the bundle is absent or inconsistent.
        DecoderMissing: HEIC is switched on, and its extra is not installed or decoders are not isolated.
        KeysInvalid, RateLimitStoreInvalid: the settings of API keys or of their rates cannot be used.
        OidcInvalid, ReviewImagesInvalid, WebhooksInvalid: likewise those of signing in, of stills for review, and of
            webhooks.
        TracesUnavailable, TritonTlsInvalid: likewise those of traces, whose extra may be missing, and of TLS to Triton.
    """
    settings = (settings or Settings()).part()
    accepted_formats(heic=settings.heic, isolated=settings.decode_isolation)
    metrics = Metrics()
    keys = KeyFile(settings.gateway_api_keys, settings.gateway_api_keys_file)
    rate_limits = RateLimits(settings.rate_limit_storage_url)
    draining = asyncio.Event()
    make_images, make_webhooks = review_images(settings), webhook_delivery(settings)
    check_oidc(settings)
    triton_tls(settings)
    tracing = request_tracing(settings, VERSION)
    manifest = read_manifest(settings.model_repository)  # checked last: `--check` comes before an export
    metrics.show_build(version=VERSION, **build_labels(manifest))
    checks = RequestChecks(keys, rate_limits, tracing, draining, ready_within_s)
    app = FastAPI(
        title="CLIP moderation gateway",
        version=VERSION,
        description=DESCRIPTION,
        lifespan=lambda _: lifespan(
            settings, manifest, metrics, make_server, make_fetcher, checks, make_images, make_webhooks
        ),
        dependencies=[Depends(authorize)],
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        redirect_slashes=False,  # it would send clients to whatever host they named
        telemetry=NO_TELEMETRY,
    )
    app.state.draining = draining
    for resource in RESOURCES + (SESSIONS if settings.console else ()):
        app.include_router(resource.router)
    app.webhooks.include_router(webhooks.events)
    install_handlers(app, metrics)
    app.add_middleware(Authentication, keys=keys, rate_limits=rate_limits, metrics=metrics, console=settings.console)
    hosts = HostPatterns.parse(settings.served_hosts)
    rules = RequestRules(settings.max_body_bytes, hosts, settings.cors_allowed_origins)
    app.add_middleware(RequestContext, rules=rules, metrics=metrics, tracing=tracing)
    install_pages(app, demo=manifest.model.demo, console=settings.console)
    if settings.console:
        install_console(app, settings.review_image_url)
    install_openapi(app)
    return app


def connection_protocol(settings: Settings) -> type[asyncio.Protocol]:
    """Return what uvicorn is to read connections with."""
    return protocol_with(
        ConnectionLimits(settings.max_connections, settings.header_timeout_s, settings.write_timeout_s)
    )


@dataclass(frozen=True, slots=True)
class RequestChecks:
    """What the middleware asks before a request is handled; made before the application starts."""

    keys: KeyFile
    rate_limits: RateLimits
    tracing: Tracing
    draining: asyncio.Event
    ready_within_s: float


@asynccontextmanager
async def lifespan(
    settings: Settings,
    manifest: Manifest,
    metrics: Metrics,
    make_server: MakeServer,
    make_fetcher: MakeFetcher,
    checks: RequestChecks,
    make_images: MakeReviewImages,
    make_webhooks: MakeWebhooks,
) -> AsyncIterator[dict[str, Any]]:
    """Make the parts, keep their watches running, and take all of it down again."""
    tokenizer = Tokenizer(settings.model_repository / TOKENIZER_NAME, manifest.text)
    encoder = load_balancer(settings, manifest, metrics, make_server)
    rules = LabelRules(settings.max_labels, settings.max_templates, settings.max_label_chars)
    text = TextEmbeddings(tokenizer, encoder, text_limits(settings, manifest), rules, metrics.observe_lookup)
    threads = ThreadPoolExecutor(settings.effective_decode_workers, thread_name_prefix="decode")
    database = late_database(
        settings.effective_database_url,
        timeout_s=settings.store_timeout_s,
        observe_failure=lambda cause: metrics.store_failures.labels(cause).inc(),
    )
    versions = Versions(database, manifest.bundle_id, manifest.text_checksum)
    stored, hashes, leases = Decisions(database), Lists(database), Leases(database)
    installation = Installation(database, settings.sampling_secret)
    catalog = Catalog(versions, text, manifest, rules)
    saver = Saver(versions, catalog, text, manifest, rules, settings.save_timeout_s)
    list_refresher = ListRefresher(hashes)
    spool = decision_spool(settings, metrics)
    decision_log = DecisionLog(stored, lambda: catalog.store_lost, spool, metrics.decisions_not_logged.inc)
    decoders = preparer(settings, threads, metrics)
    kept_images = make_images(database, lambda: list_refresher.current, metrics)
    review = review_services(settings, database, manifest.embedding_dim)
    kept = decision_log if settings.decision_log else None
    readiness = Readiness(encoder, catalog, list_refresher, kept, database.failures, decoders, checks.draining)
    metrics.watch_degraded(
        store=lambda: readiness.store_lost,
        decision_log=lambda: readiness.decisions_lost,
        tritons=lambda: readiness.tritons_lost,
    )
    metrics.watch_policies(lambda: len(catalog.not_applicable))
    access = access_services(settings, checks.keys, checks.rate_limits, database, readiness, metrics)
    keys, outbox = IdempotencyKeys(database), Outbox(database)
    job_parts = make_jobs(settings, database, manifest, Parts(catalog, versions, stored, metrics))
    expiries = [job_parts.expire, access.sessions.expire, *([kept_images.sweep] if kept_images else [])]
    delivery = make_webhooks(outbox, metrics)
    watched = (encoder, list_refresher, decision_log, checks.keys, access.presence, job_parts.worker)
    watching = [
        *(part.watch() for part in watched),
        *([delivery.watch()] if delivery else []),
        watch_retention(stored, settings.decision_retention_days, leases, keys, *expiries),
        watch_queue(review.cases, metrics),
        catalog.watch(installation.load, lambda: seed_alone(saver, leases)),
    ]
    watches = [asyncio.create_task(each) for each in watching]
    try:
        fetcher = make_fetcher(settings)
        pipeline = Pipeline(
            ImageSource(fetcher.fetch, fetcher.room, settings.max_image_bytes),
            encoder,
            Explainer(encoder, threads, settings.heatmap_grid),
            manifest,
            decode_limits(settings, manifest),
            settings.max_inferences,
            threads,
            decoders,
            installation.seed,
            Budgets(
                MemoryBudget(settings.view_memory_mib * MIB),
                MemoryBudget(settings.decode_memory_mib * MIB),
                asyncio.Semaphore(settings.effective_decode_workers),
            ),
            metrics,
        )
        log_rules = LogRules(settings.decision_log, settings.decision_vectors, settings.decision_log_required)
        services = Services(
            manifest=manifest,
            pipeline=pipeline,
            text=text,
            readiness=readiness,
            admission=Admission(admission_limits(settings), metrics.in_flight.set),
            metrics=metrics,
            body_rules=BodyRules(
                settings.max_body_bytes, settings.max_json_bytes, settings.max_images, settings.body_timeout_s
            ),
            label_rules=rules,
            request_timeout_s=settings.request_timeout_s,
            saver=saver,
            versions=versions,
            bundles=Bundles(database),
            rollouts=Rollouts(database, manifest.bundle_id),
            decisions=stored,
            lists=hashes,
            audit=Audit(database),
            catalog=catalog,
            moderator=Moderator(
                pipeline,
                list_refresher,
                decision_log,
                log_rules,
                manifest.bundle_id,
                manifest.logit_scale,
                metrics,
                kept_images,
            ),
            review_images=kept_images,
            access=access,
            review=review,
            outbox=outbox,
            list_refresher=list_refresher,
            decision_log=decision_log,
            idempotency=Idempotency(keys, decision_log, idempotency_rules(settings)),
            moderations=ModerationsRules(
                settings.moderations_review_flags,
                settings.moderations_text == "ignore",
                settings.moderations_max_images,
            ),
            trainer=Trainer(
                TrainingLimits(
                    settings.max_training_examples,
                    settings.training_timeout_s,
                    settings.training_memory_mib * MIB,
                    settings.training_processes,
                )
            ),
            statistics=Statistics(database),
            jobs=job_parts.services,
        )
        await readiness.wait(checks.ready_within_s)
        yield {"services": services}
    finally:
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)
        await decoders.close()
        threads.shutdown(wait=False, cancel_futures=True)
        await access.presence.leave()
        await database.close()
        if spool is not None:
            await spool.close()
        await checks.rate_limits.close()
        await encoder.close()
        await checks.tracing.close()
