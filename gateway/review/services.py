"""What the routes of review work with."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.review.similar import SimilarDecisions
from gateway.store.review.cases import Cases
from gateway.store.review.legal_holds import LegalHolds
from gateway.store.review.verdicts import Verdicts


@dataclass(frozen=True, slots=True)
class ReviewServices:
    """The parts of review.

    Attributes:
        cases: the queue.
        verdicts: what reviewers decide.
        legal_holds: in force.
        similar: searches stored vectors.
        image_url: template of where reviewers see pictures; empty: nowhere.
        withheld_procedure: what a reviewer reads of a picture that is withheld.
    """

    cases: Cases
    verdicts: Verdicts
    legal_holds: LegalHolds
    similar: SimilarDecisions
    image_url: str
    withheld_procedure: str
