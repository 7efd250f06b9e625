"""Where an image comes from → its bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from gateway.fetching.data_url import check_size, is_data_url, read_base64, read_data_url
from gateway.limits.admission import Reservation

LARGE_CHARS = 1 << 16
KEPT_JSON_WEIGHT = 2  # base64 text and the same without blanks, or the image


@dataclass(slots=True)
class Upload:
    """Bytes that came with the request, until they are done with.

    Attributes:
        data: emptied then.
        reservation: what they are counted in.
    """

    data: bytes
    reservation: Reservation

    def drop(self) -> None:
        """Let go of the bytes."""
        held, self.data = len(self.data), b""
        self.reservation.release(held)


@dataclass(slots=True)
class Base64:
    """Base64 text, or a ``data:`` URL, until it is done with.

    Attributes:
        text: emptied then.
        reservation: what it is counted in, KEPT_JSON_WEIGHT times; None where the request keeps the text to its end.
    """

    text: str
    reservation: Reservation | None

    def drop(self) -> None:
        """Let go of the text."""
        held, self.text = len(self.text), ""
        if self.reservation is not None:
            self.reservation.release(held * KEPT_JSON_WEIGHT)


@dataclass(frozen=True, slots=True)
class Url:
    """An http or https address to fetch from."""

    url: str


Source = Upload | Base64 | Url


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """One image of a request; both ids are the client's own: ``id`` is echoed, ``external_id`` is for the log."""

    source: Source
    id: str | None = None
    external_id: str | None = None


class ImageSource:
    """Gets the bytes of an image, whatever its source.

    Args:
        fetch: gives the bytes behind a URL, raises SourceError.
        fetch_room: a place among the images of URLs, which no body's bytes were counted for; raises Overloaded.
        max_image_bytes: cap on one image.
    """

    def __init__(
        self,
        fetch: Callable[[str], Awaitable[bytes]],
        fetch_room: Callable[[], AbstractAsyncContextManager[None]],
        max_image_bytes: int,
    ) -> None:
        self._fetch = fetch
        self._fetch_room = fetch_room
        self._max_image_bytes = max_image_bytes

    @asynccontextmanager
    async def room(self, source: Source) -> AsyncIterator[None]:
        """Hold the place that an image's bytes take, from before ``read`` until they count as memory of decoding.

        Raises:
            Overloaded: too many images of URLs are being worked on.
        """
        if isinstance(source, Url):
            async with self._fetch_room():
                yield
        else:
            try:
                yield
            finally:
                source.drop()

    async def read(self, source: Source) -> bytes:
        """Return the image's bytes.

        Raises:
            ImageTooLarge: more bytes than one image may have.
            InvalidRequest: text that is no base64.
            SourceError: the URL is forbidden or gave no image.
        """
        match source:
            case Upload(data):
                check_size(len(data), self._max_image_bytes)
                return data
            case Url(url):
                return await self._fetch(url)
            case Base64(text):
                if len(text) > LARGE_CHARS:
                    return await asyncio.to_thread(decoded, text, self._max_image_bytes)
                return decoded(text, self._max_image_bytes)


def decoded(text: str, max_bytes: int) -> bytes:
    """Return the bytes of a ``data:`` URL or of plain base64.

    Raises:
        ImageTooLarge: more bytes than that.
        InvalidRequest: it is neither.
    """
    return read_data_url(text, max_bytes) if is_data_url(text) else read_base64(text, max_bytes)


def source_of_url(url: str, reservation: Reservation | None) -> Base64 | Url:
    """Return the source that a URL stands for: a ``data:`` URL holds its image, any other one is fetched."""
    return Base64(url, reservation) if is_data_url(url) else Url(url)
