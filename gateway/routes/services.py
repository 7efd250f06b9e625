"""What the routes work with, made once by ``app.py``."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.bundle import Manifest
from gateway.health import HealthGate
from gateway.labels import LabelRules
from gateway.limits import Admission
from gateway.pipeline import Pipeline
from gateway.routes.body import BodyRules
from gateway.telemetry import Metrics
from gateway.text_vectors import TextVectors


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of a running gateway; seconds for ``request_timeout_s``."""

    manifest: Manifest
    pipeline: Pipeline
    text: TextVectors
    health: HealthGate
    admission: Admission
    metrics: Metrics
    body_rules: BodyRules
    label_rules: LabelRules
    request_timeout_s: float
