"""Every error a client can see: one tree, one table.

Each class carries the HTTP status, the stable ``code`` and the ``title`` of its problem document (RFC 9457); the four
below ``GatewayError`` are caught, never raised. ``detail`` says what was wrong with *this* input and what would be
accepted; a library's own message never goes in.

    GatewayError
    ├── RequestError          the request as a whole is at fault
    ├── ImageError            one image is at fault
    ├── SourceError           one image's URL is at fault
    └── ServiceError          the service is at fault: never a verdict, often worth a retry
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar


class GatewayError(Exception):
    """Base of all errors of the gateway.

    Args:
        detail: one or two sentences about this very input, safe to show to a client.
        retry_after_s: seconds after which a retry makes sense (``Retry-After``), or None.
    """

    status: ClassVar[int]
    code: ClassVar[str]
    title: ClassVar[str]

    def __init_subclass__(
        cls, *, status: int = 500, code: str = "internal_error", title: str = "Internal error"
    ) -> None:
        cls.status, cls.code, cls.title = status, code, title

    def __init__(self, detail: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after_s = retry_after_s


class RequestError(GatewayError):
    """The request as a whole cannot be answered."""


class InvalidRequest(RequestError, status=422, code="invalid_request", title="Invalid request"):
    """A field is missing, contradictory or out of range."""


class HttpMalformed(RequestError, status=400, code="http_malformed", title="Malformed HTTP request"):
    """Not HTTP as RFC 9110 and RFC 9112 have it."""


class HeadersTooLarge(RequestError, status=431, code="headers_too_large", title="Request headers too large"):
    """The target and headers are over their cap."""


class InvalidJson(RequestError, status=400, code="invalid_json", title="Body is not valid JSON"):
    """The body is not JSON."""


class MultipartMalformed(RequestError, status=400, code="multipart_malformed", title="Malformed multipart body"):
    """The body is not the multipart form it claims to be."""


class UnsupportedMediaType(RequestError, status=415, code="unsupported_media_type", title="Unsupported media type"):
    """The Content-Type or the Content-Encoding is none of those accepted."""

    def __init__(self, detail: str, *, accept_encoding: str = "") -> None:
        super().__init__(detail)
        self.accept_encoding = accept_encoding


class RequestTimeout(RequestError, status=408, code="request_timeout", title="Request not sent in time"):
    """The client took too long to send its request."""


class PayloadTooLarge(RequestError, status=413, code="payload_too_large", title="Payload too large"):
    """The body or one of its parts is over its cap."""


class InvalidLabels(RequestError, status=422, code="invalid_labels", title="Invalid labels"):
    """The labels, templates or negatives cannot be used."""


class LabelTooLong(RequestError, status=422, code="label_too_long", title="Label too long for the model"):
    """A prompt has more tokens than the model's context."""


class NotFound(RequestError, status=404, code="not_found", title="Not found"):
    """No such route or resource."""


class ImageGone(RequestError, status=404, code="image_gone", title="No image is kept"):
    """No still of this decision is kept: none ever was, it was deleted, it is withheld, or it cannot be read."""


class ReviewClaimLost(RequestError, status=409, code="claim_lost", title="Claim lost"):
    """Somebody else has the case by now, or it is decided."""


class VerdictNotUndoable(RequestError, status=409, code="not_undoable", title="Nothing to undo"):
    """The reviewer has no verdict on this decision that can still be taken back."""


class UnderLegalHold(RequestError, status=409, code="legal_hold", title="Under a legal hold"):
    """What was decided of an external id may not be deleted while the hold stands."""


class MethodNotAllowed(RequestError, status=405, code="method_not_allowed", title="Method not allowed"):
    """The route exists, but not with this method."""

    def __init__(self, detail: str, *, allow: str = "") -> None:
        super().__init__(detail)
        self.allow = allow


class Unauthorized(RequestError, status=401, code="unauthorized", title="API key missing or unknown"):
    """No API key, or none that is known; which of them is not told."""


class Forbidden(RequestError, status=403, code="forbidden", title="Not allowed with this API key"):
    """The API key has none of the roles that may do this."""


class SignInFailed(RequestError, status=401, code="sign_in_failed", title="Signing in failed"):
    """The identity provider's answer signs nobody in."""


class CrossSiteRequest(RequestError, status=403, code="cross_site_request", title="Cross-site request refused"):
    """A browser sent it for a page of another site."""


class HostNotAllowed(RequestError, status=421, code="host_not_allowed", title="Misdirected request"):
    """The request is addressed to a host that is not this gateway's."""


class RateLimited(RequestError, status=429, code="rate_limited", title="Over the quota"):
    """The API key is over its quota."""


class TextNotSupported(RequestError, status=400, code="text_not_supported", title="Text is not supported"):
    """Text where only images are moderated."""


class PolicyModelMismatch(
    RequestError, status=409, code="policy_model_mismatch", title="Policy was saved for another model"
):
    """The policy was saved for another bundle than the one being served."""


class HeadModelMismatch(RequestError, status=409, code="head_model_mismatch", title="Head belongs to another model"):
    """The head was made for the vectors of another model or bundle than the one being served."""


class ResourceInUse(RequestError, status=409, code="resource_in_use", title="Resource in use"):
    """A resource that others need cannot be deleted."""


class IdempotencyKeyInUse(RequestError, status=409, code="idempotency_key_in_use", title="Idempotency key in use"):
    """The first request with this idempotency key is still worked on."""


class IdempotencyKeyReused(
    RequestError, status=422, code="idempotency_key_reused", title="Idempotency key was used for another request"
):
    """The idempotency key was sent with a request that asks something else."""


class PreconditionFailed(RequestError, status=412, code="precondition_failed", title="Precondition failed"):
    """``If-Match`` names something else than what is there, or ``If-None-Match`` what is."""


class SetModelMismatch(
    RequestError, status=409, code="set_model_mismatch", title="Labelled set belongs to another model"
):
    """The vectors of the labelled set are of another bundle than the one being served."""


class JobTooLarge(RequestError, status=422, code="job_too_large", title="Job is too large"):
    """The job took more time, memory or space than it may."""


class ImageError(GatewayError):
    """One image cannot be judged; its neighbours in a batch can."""


class EmptyFile(ImageError, status=400, code="empty_file", title="Empty file"):
    """Zero bytes."""


class UnsupportedImage(ImageError, status=415, code="unsupported_image", title="Unsupported image format"):
    """Not one of the accepted formats, by content."""


class ImageTooLarge(ImageError, status=413, code="payload_too_large", title="Image has too many bytes"):
    """More bytes than one image may have."""


class ImageCorrupt(ImageError, status=422, code="image_corrupt", title="Image is corrupt"):
    """An accepted format whose content is broken or cut short."""


class ImageDimensions(ImageError, status=422, code="image_dimensions", title="Image dimensions out of range"):
    """A side is too short or too long."""


class ImageTooManyPixels(ImageError, status=422, code="image_too_many_pixels", title="Image has too many pixels"):
    """More pixels than are decoded."""


class ImageTooManyFrames(ImageError, status=422, code="image_too_many_frames", title="Image has too many frames"):
    """More frames than an animation may have."""


class ImageUndecodable(ImageError, status=422, code="image_undecodable", title="Image cannot be decoded"):
    """The decoder gave up without saying why, or took too long."""


class SourceError(GatewayError):
    """An image's URL could not be turned into bytes."""


class SourceUrlForbidden(SourceError, status=422, code="source_url_forbidden", title="Image URL is not allowed"):
    """A URL that the gateway does not fetch; one message for all, so that it is no port scanner."""


class SourceRedirects(SourceError, status=422, code="source_redirects", title="Image URL redirects too often"):
    """Too many redirects."""


class SourceUnreachable(SourceError, status=422, code="source_unreachable", title="Image URL cannot be reached"):
    """Name, connection, TLS or server error at the other end."""


class SourceNotImage(SourceError, status=422, code="source_not_image", title="Image URL does not give an image"):
    """The answer is no image."""


class SourceTimeout(SourceError, status=422, code="source_timeout", title="Image URL took too long"):
    """The other end took too long."""


class SourceTooLarge(SourceError, status=422, code="source_too_large", title="Image URL gives too many bytes"):
    """The answer is over the cap of one image."""


class ServiceError(GatewayError):
    """The service, not the input, is at fault."""


class InternalError(ServiceError, status=500, code="internal_error", title="Internal error"):
    """A bug of ours."""


class JobGivenUp(ServiceError, status=500, code="job_given_up", title="Job given up"):
    """The gateways that worked on the job ended, several times."""


class EvaluationNotInstalled(
    ServiceError, status=501, code="evaluation_not_installed", title="Evaluation is not installed"
):
    """The extra that draws reports and chooses thresholds is not installed in this gateway."""


class ModelUnavailable(ServiceError, status=503, code="model_unavailable", title="Model unavailable"):
    """Triton is down, restarting, or does not serve our bundle."""


class ProviderUnavailable(ServiceError, status=502, code="provider_unavailable", title="Identity provider unavailable"):
    """The identity provider does not answer, or not as one."""


class Overloaded(ServiceError, status=503, code="overloaded", title="Overloaded"):
    """A queue is full: refused at once rather than made to wait."""


class DecodersUnavailable(ServiceError, status=503, code="decoders_unavailable", title="Decoders unavailable"):
    """The processes that decode images cannot be started."""


class DeadlineExceeded(ServiceError, status=504, code="deadline_exceeded", title="Deadline exceeded"):
    """The request's deadline passed."""


class ModelInvalidOutput(ServiceError, status=502, code="model_invalid_output", title="Model gave an invalid output"):
    """The model answered NaN, or another shape or type than its manifest says."""


class StorageUnavailable(ServiceError, status=503, code="storage_unavailable", title="Storage unavailable"):
    """The store is away; saved policies still serve."""


def error_classes(base: type[GatewayError] = GatewayError) -> Iterator[type[GatewayError]]:
    """Yield each error class that has no subclass of its own: the table behind the docs and the OpenAPI text."""
    for child in base.__subclasses__():
        if child.__subclasses__():
            yield from error_classes(child)
        else:
            yield child
