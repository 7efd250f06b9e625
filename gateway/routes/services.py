"""What the routes work with, made once by ``app.py``."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.bundle import Manifest
from gateway.catalogue import Catalogue
from gateway.decision_log import DecisionLog
from gateway.known_watch import KnownWatch
from gateway.labels import LabelRules
from gateway.limits import Admission
from gateway.moderation import Moderator
from gateway.pipeline import Pipeline
from gateway.readiness import Readiness
from gateway.routes.body import BodyRules
from gateway.saving import Saver
from gateway.store.audit import Audit
from gateway.store.decisions import Decisions
from gateway.store.lists import Lists
from gateway.store.versions import Versions
from gateway.telemetry import Metrics
from gateway.text_vectors import TextVectors


@dataclass(frozen=True, slots=True)
class ModerationsRules:
    """Of /v1/moderations: whether review flags too, whether text is read past, how many pictures a request may have."""

    review_flags: bool
    ignore_text: bool
    max_images: int


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of a running gateway; seconds for ``request_timeout_s``."""

    manifest: Manifest
    pipeline: Pipeline
    text: TextVectors
    readiness: Readiness
    admission: Admission
    metrics: Metrics
    body_rules: BodyRules
    label_rules: LabelRules
    request_timeout_s: float
    saver: Saver
    versions: Versions
    decisions: Decisions
    lists: Lists
    audit: Audit
    catalogue: Catalogue
    moderator: Moderator
    known: KnownWatch
    decision_log: DecisionLog
    moderations: ModerationsRules
