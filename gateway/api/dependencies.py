"""What the routes work with, made once by ``app.py``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from gateway.api.body.reader import BodyRules
from gateway.api.console.services import AccessServices
from gateway.hash_matching.refresher import ListRefresher
from gateway.inference.bundle import Manifest
from gateway.inference.prompts import LabelRules
from gateway.inference.text_embeddings import TextEmbeddings
from gateway.jobs.services import JobServices
from gateway.limits.admission import Admission
from gateway.moderation.catalog import Catalog
from gateway.moderation.decision_log import DecisionLog
from gateway.moderation.idempotency import Idempotency
from gateway.moderation.moderator import Moderator
from gateway.moderation.saving import Saver
from gateway.observability.metrics import Metrics
from gateway.pipeline import Pipeline
from gateway.readiness import Readiness
from gateway.review.images import ReviewImages
from gateway.review.services import ReviewServices
from gateway.store.audit import Audit
from gateway.store.bundles import Bundles
from gateway.store.decisions import Decisions
from gateway.store.lists import Lists
from gateway.store.review.outbox import Outbox
from gateway.store.review.statistics import Statistics
from gateway.store.rollouts import Rollouts
from gateway.store.versions import Versions
from gateway.training.trainer import Trainer


@dataclass(frozen=True, slots=True)
class ModerationsRules:
    """Of /v1/moderations: whether review flags too, whether text is read past, how many images a request may have."""

    review_flags: bool
    ignore_text: bool
    max_images: int


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of a running gateway; seconds for ``request_timeout_s``."""

    manifest: Manifest
    pipeline: Pipeline
    text: TextEmbeddings
    readiness: Readiness
    admission: Admission
    metrics: Metrics
    body_rules: BodyRules
    label_rules: LabelRules
    request_timeout_s: float
    saver: Saver
    versions: Versions
    bundles: Bundles
    rollouts: Rollouts
    decisions: Decisions
    lists: Lists
    audit: Audit
    catalog: Catalog
    moderator: Moderator
    list_refresher: ListRefresher
    decision_log: DecisionLog
    idempotency: Idempotency
    moderations: ModerationsRules
    trainer: Trainer
    review_images: ReviewImages | None
    review: ReviewServices
    statistics: Statistics
    jobs: JobServices
    outbox: Outbox
    access: AccessServices


async def services_of(request: Request) -> Services:
    """Return the parts of the gateway that serves a request; for ``Depends``."""
    services: Services = request.state.services
    return services


ServicesDep = Annotated[Services, Depends(services_of)]
