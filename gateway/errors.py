"""Every error a client can see: one tree, one table.

Each class carries the HTTP status, the stable ``code`` and the ``title`` of its problem document (RFC 9457). ``detail``
says what was wrong with *this* input and what would be accepted; a library's own message never goes in.

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

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Internal error"

    def __init__(self, detail: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after_s = retry_after_s


class RequestError(GatewayError):
    """The request as a whole cannot be answered."""

    status = 422
    code = "invalid_request"
    title = "Invalid request"


class InvalidRequest(RequestError):
    """A field is missing, contradictory or out of range."""


class HttpMalformed(RequestError):
    """Not HTTP as RFC 9110 and RFC 9112 have it."""

    status, code, title = 400, "http_malformed", "Malformed HTTP request"


class HeadersTooLarge(RequestError):
    """The target and headers are over their cap."""

    status, code, title = 431, "headers_too_large", "Request headers too large"


class InvalidJson(RequestError):
    """The body is not JSON."""

    status, code, title = 400, "invalid_json", "Body is not valid JSON"


class MultipartMalformed(RequestError):
    """The body is not the multipart form it claims to be."""

    status, code, title = 400, "multipart_malformed", "Malformed multipart body"


class UnsupportedMediaType(RequestError):
    """The Content-Type is none of those accepted."""

    status, code, title = 415, "unsupported_media_type", "Unsupported media type"


class RequestTimeout(RequestError):
    """The client took too long to send its request."""

    status, code, title = 408, "request_timeout", "Request not sent in time"


class PayloadTooLarge(RequestError):
    """The body or one of its parts is over its cap."""

    status, code, title = 413, "payload_too_large", "Payload too large"


class InvalidLabels(RequestError):
    """The labels, templates or negatives cannot be used."""

    status, code, title = 422, "invalid_labels", "Invalid labels"


class LabelTooLong(RequestError):
    """A prompt has more tokens than the model's context."""

    status, code, title = 422, "label_too_long", "Label too long for the model"


class NotFound(RequestError):
    """No such route or resource."""

    status, code, title = 404, "not_found", "Not found"


class MethodNotAllowed(RequestError):
    """The route exists, but not with this method."""

    status, code, title = 405, "method_not_allowed", "Method not allowed"

    def __init__(self, detail: str, *, allow: str = "") -> None:
        super().__init__(detail)
        self.allow = allow


class Unauthorized(RequestError):
    """No API key, or none that is known; which of them is not told."""

    status, code, title = 401, "unauthorized", "API key missing or unknown"


class Forbidden(RequestError):
    """The API key has none of the roles that may do this."""

    status, code, title = 403, "forbidden", "Not allowed with this API key"


class CrossSiteRequest(RequestError):
    """A browser sent it for a page of another site."""

    status, code, title = 403, "cross_site_request", "Cross-site request refused"


class HostNotAllowed(RequestError):
    """The request is addressed to a host that is not this gateway's."""

    status, code, title = 421, "host_not_allowed", "Misdirected request"


class RateLimited(RequestError):
    """The API key is over its quota."""

    status, code, title = 429, "rate_limited", "Over the quota"


class TextNotSupported(RequestError):
    """Text where only images are moderated."""

    status, code, title = 400, "text_not_supported", "Text is not supported"


class PolicyModelMismatch(RequestError):
    """The policy was saved for another bundle than the one being served."""

    status, code, title = 409, "policy_model_mismatch", "Policy was saved for another model"


class ResourceInUse(RequestError):
    """A resource that others need cannot be deleted."""

    status, code, title = 409, "resource_in_use", "Resource in use"


class PreconditionFailed(RequestError):
    """``If-Match`` names something else than what is there, or ``If-None-Match`` what is."""

    status, code, title = 412, "precondition_failed", "Precondition failed"


class ImageError(GatewayError):
    """One image cannot be judged; its neighbours in a batch can."""

    status = 422
    code = "image_corrupt"
    title = "Image cannot be read"


class EmptyFile(ImageError):
    """Zero bytes."""

    status, code, title = 400, "empty_file", "Empty file"


class UnsupportedImage(ImageError):
    """Not one of the accepted formats, by content."""

    status, code, title = 415, "unsupported_image", "Unsupported image format"


class ImageTooLarge(ImageError):
    """More bytes than one image may have."""

    status, code, title = 413, "payload_too_large", "Image has too many bytes"


class ImageCorrupt(ImageError):
    """An accepted format whose content is broken or cut short."""

    status, code, title = 422, "image_corrupt", "Image is corrupt"


class ImageDimensions(ImageError):
    """A side is too short or too long."""

    status, code, title = 422, "image_dimensions", "Image dimensions out of range"


class ImageTooManyPixels(ImageError):
    """More pixels than are decoded."""

    status, code, title = 422, "image_too_many_pixels", "Image has too many pixels"


class ImageTooManyFrames(ImageError):
    """More frames than an animation may have."""

    status, code, title = 422, "image_too_many_frames", "Image has too many frames"


class ImageUndecodable(ImageError):
    """The decoder gave up without saying why, or took too long."""

    status, code, title = 422, "image_undecodable", "Image cannot be decoded"


class SourceError(GatewayError):
    """An image's URL could not be turned into bytes."""

    status = 422
    code = "source_unreachable"
    title = "Image URL cannot be fetched"


class SourceUrlForbidden(SourceError):
    """A URL that the gateway does not fetch; one message for all, so that it is no port scanner."""

    status, code, title = 422, "source_url_forbidden", "Image URL is not allowed"


class SourceRedirects(SourceError):
    """Too many redirects."""

    status, code, title = 422, "source_redirects", "Image URL redirects too often"


class SourceUnreachable(SourceError):
    """Name, connection, TLS or server error at the other end."""

    status, code, title = 422, "source_unreachable", "Image URL cannot be reached"


class SourceNotImage(SourceError):
    """The answer is no image."""

    status, code, title = 422, "source_not_image", "Image URL does not give an image"


class SourceTimeout(SourceError):
    """The other end took too long."""

    status, code, title = 422, "source_timeout", "Image URL took too long"


class SourceTooLarge(SourceError):
    """The answer is over the cap of one image."""

    status, code, title = 422, "source_too_large", "Image URL gives too many bytes"


class ServiceError(GatewayError):
    """The service, not the input, is at fault."""

    status = 503
    code = "model_unavailable"
    title = "Service unavailable"


class InternalError(ServiceError):
    """A bug of ours."""

    status, code, title = 500, "internal_error", "Internal error"


class ModelUnavailable(ServiceError):
    """Triton is down, restarting, or does not serve our bundle."""

    status, code, title = 503, "model_unavailable", "Model unavailable"


class Overloaded(ServiceError):
    """A queue is full: refused at once rather than made to wait."""

    status, code, title = 503, "overloaded", "Overloaded"


class DecodersUnavailable(ServiceError):
    """The processes that decode images cannot be started."""

    status, code, title = 503, "decoders_unavailable", "Decoders unavailable"


class DeadlineExceeded(ServiceError):
    """The request's deadline passed."""

    status, code, title = 504, "deadline_exceeded", "Deadline exceeded"


class ModelInvalidOutput(ServiceError):
    """The model answered NaN, or another shape or type than its manifest says."""

    status, code, title = 502, "model_invalid_output", "Model gave an invalid output"


class StorageUnavailable(ServiceError):
    """The store is away; saved policies still serve."""

    status, code, title = 503, "storage_unavailable", "Storage unavailable"


def error_classes(base: type[GatewayError] = GatewayError) -> Iterator[type[GatewayError]]:
    """Yield each error class that has no subclass of its own: the table behind the docs and the OpenAPI text."""
    for child in base.__subclasses__():
        if child.__subclasses__():
            yield from error_classes(child)
        else:
            yield child
