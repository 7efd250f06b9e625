"""The parts of review that settings alone describe."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from gateway.hash_matching.matcher import HashMatcher
from gateway.limits.memory_budget import MemoryBudget
from gateway.observability.metrics import Metrics
from gateway.review.images import ImageRules, ReviewImages
from gateway.review.services import ReviewServices
from gateway.review.similar import SimilarDecisions
from gateway.review.still_errors import ReviewImagesInvalid
from gateway.settings import MIB, Settings
from gateway.store.database import Database
from gateway.store.review.cases import Cases, ClaimRules
from gateway.store.review.first_vectors import FirstVectors
from gateway.store.review.images import ImageRows
from gateway.store.review.legal_holds import LegalHolds
from gateway.store.review.verdicts import Verdicts

MakeReviewImages = Callable[[Database, Callable[[], HashMatcher], Metrics], ReviewImages | None]


def review_images(settings: Settings) -> MakeReviewImages:
    """Return what makes the part that keeps stills; it gives None where none are kept.

    Raises:
        ReviewImagesInvalid: they are to be kept, and cannot be with these settings.
    """
    if settings.review_images == "none":
        return lambda *_: None
    if not settings.decision_log:
        raise ReviewImagesInvalid("REVIEW_IMAGES keeps pictures of logged decisions: set DECISION_LOG=true")
    try:
        from gateway.review.sealing import Sealer  # noqa: PLC0415 - of an extra
        from gateway.review.still_store import open_store  # noqa: PLC0415
    except ImportError as fault:
        raise ReviewImagesInvalid(
            "REVIEW_IMAGES needs the optional extra review: install it (pip install '.[review]') or set "
            "REVIEW_IMAGES=none"
        ) from fault
    folder = (settings.data_dir / "review-images").absolute().as_uri()
    place = folder if settings.review_images == "folder" else settings.review_images
    credentials = {
        "access_key_id": settings.aws_access_key_id,
        "secret_access_key": settings.aws_secret_access_key,
        "endpoint": settings.aws_endpoint_url,
        "region": settings.aws_region,
    }
    sealer = Sealer(settings.review_image_key)
    given = {key: text for key, text in credentials.items() if text}
    store = open_store(place, settings.review_image_timeout_s, given)
    rules = ImageRules(
        settings.review_image_side_px,
        settings.review_image_stills,
        timedelta(days=settings.review_image_days),
        settings.review_image_timeout_s,
    )
    room = MemoryBudget(settings.review_image_memory_mib * MIB)
    return lambda database, lists, metrics: ReviewImages(
        ImageRows(database), store, sealer, rules, lists, room, metrics.observe_review_image
    )


def review_services(settings: Settings, database: Database, dim: int, *, tell: bool = False) -> ReviewServices:
    """Return what the routes of review work with.

    Args:
        settings: of the gateway.
        database: of the cases.
        dim: of a vector.
        tell: whether webhooks are told of verdicts.
    """
    rules = ClaimRules(settings.review_lease_s, settings.review_skip_s, settings.review_claims)
    return ReviewServices(
        Cases(database, rules),
        Verdicts(database, tell=tell, lease_s=settings.review_lease_s, undo_s=settings.review_undo_s),
        LegalHolds(database),
        SimilarDecisions(FirstVectors(database), dim, settings.similar_decisions),
        settings.review_image_url,
        settings.review_withheld_procedure,
    )
