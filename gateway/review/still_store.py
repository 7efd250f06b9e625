"""Where stills lie, encrypted: a local folder or a bucket that speaks S3, by one library, each use with a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

from gateway.review.still_errors import ReviewImagesInvalid, StillStoreAway

MOST_BYTES: Final = 8 << 20
"""Of one object that is read: above any still, so that what somebody else put there is not taken into memory."""

_LISTED_AT_A_TIME: Final = 500
_RETRIES: Final = 2
_MOST_TEXT_CHARS: Final = 200


class StillStore:
    """Objects by name.

    Args:
        store: of obstore.
        timeout_s: of one use.
    """

    def __init__(self, store: LocalStore | S3Store, timeout_s: float) -> None:
        self._store = store
        self._timeout_s = timeout_s

    async def put(self, objects: Sequence[tuple[str, bytes]]) -> None:
        """Write objects side by side; what was there under their names is replaced.

        Raises:
            StillStoreAway: not all could be written in time.
        """
        with _named():
            async with asyncio.timeout(self._timeout_s), asyncio.TaskGroup() as writing:
                for name, data in objects:
                    writing.create_task(self._put(name, data))

    async def get(self, name: str) -> bytes | None:
        """Return an object; None if there is none.

        Raises:
            StillStoreAway: it could not be read in time.
        """
        try:
            with _named():
                async with asyncio.timeout(self._timeout_s):
                    found = await self._store.get_async(name)
                    return bytes(await found.bytes_async()) if found.meta["size"] <= MOST_BYTES else None
        except FileNotFoundError:
            return None

    async def delete(self, names: Sequence[str]) -> None:
        """Delete objects; those that are not there are passed over.

        Raises:
            StillStoreAway: not all could be deleted in time.
        """
        for name in names:
            with _named():
                try:
                    async with asyncio.timeout(self._timeout_s):
                        await self._store.delete_async(name)
                except FileNotFoundError:
                    continue

    async def listed(self, before: datetime) -> AsyncIterator[list[str]]:
        """Yield the names of all objects written before a time, some at a time.

        Raises:
            StillStoreAway: a part of them could not be listed in time.
        """
        stream = self._store.list(chunk_size=_LISTED_AT_A_TIME)
        while True:
            with _named():
                try:
                    async with asyncio.timeout(self._timeout_s):
                        found = await anext(stream)
                except StopAsyncIteration:
                    return
                except FileNotFoundError:
                    raise StillStoreAway("there is no such folder or bucket") from None
            yield [each["path"] for each in found if each["last_modified"] < before]

    async def _put(self, name: str, data: bytes) -> None:
        await self._store.put_async(name, data, use_multipart=False)


def open_store(place: str, timeout_s: float, credentials: dict[str, str]) -> StillStore:
    """Return the store that a setting names; nothing is connected yet, and a folder is made.

    Args:
        place: ``file:///path`` or ``s3://bucket/prefix``.
        timeout_s: of one use.
        credentials: of S3, by obstore's names; what is missing here is read from the AWS variables by the library.

    Raises:
        ReviewImagesInvalid: it cannot be used.
    """
    try:
        if place.startswith("file://"):
            folder = Path(unquote(urlsplit(place).path))
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return StillStore(LocalStore(folder), timeout_s)
        limit = timedelta(seconds=timeout_s)
        plain = credentials.get("endpoint", "").startswith("http://")
        made = S3Store.from_url(
            place,
            config=credentials,  # type: ignore[arg-type]  # a TypedDict of which these are some
            client_options={"timeout": limit, "connect_timeout": limit, "allow_http": plain},
            retry_config={"max_retries": _RETRIES, "retry_timeout": limit},
        )
        return StillStore(made, timeout_s)
    except (BaseError, OSError, ValueError) as fault:
        raise ReviewImagesInvalid(f"REVIEW_IMAGES={place} cannot be used: {fault}") from fault


@contextmanager
def _named() -> Iterator[None]:
    """Turn the library's failures and a passed deadline into ``StillStoreAway``."""
    try:
        yield
    except FileNotFoundError:
        raise
    except TimeoutError:
        raise StillStoreAway("it did not answer in time") from None
    except ExceptionGroup as faults:
        raise StillStoreAway(_text(faults.exceptions[0])) from faults
    except (BaseError, OSError, ValueError) as fault:
        raise StillStoreAway(_text(fault)) from fault


def _text(fault: Exception) -> str:
    return (str(fault).strip() or type(fault).__name__).splitlines()[0][:_MOST_TEXT_CHARS]
