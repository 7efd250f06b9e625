"""What routes ask of the store: its exceptions as errors that a client can read, and changes put in force at once."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import structlog
from fastapi import Depends
from starlette.requests import Request

from gateway.api.authorization import actor_of
from gateway.api.parameters import Name, precondition_of
from gateway.errors import InvalidRequest, PreconditionFailed, ResourceInUse, ServiceError, StorageUnavailable
from gateway.hash_matching.refresher import ListRefresher
from gateway.moderation.catalog import Catalog
from gateway.store.audit import Actor
from gateway.store.outages import StoreUnavailable
from gateway.store.preconditions import Precondition, StaleWrite
from gateway.store.versions import InUse, PinMissing

T = TypeVar("T")
NOT_KEPT = "A text of the request holds a character that cannot be kept."


@dataclass(frozen=True, slots=True)
class ResourceChange:
    """A change of a named resource that a request asks for: by whom, and what has to hold before."""

    name: str
    actor: Actor
    precondition: Precondition


async def change_of(
    request: Request, name: Name, precondition: Annotated[Precondition, Depends(precondition_of)]
) -> ResourceChange:
    """Return the change that a request asks for; for ``Depends``."""
    return ResourceChange(name, actor_of(request), precondition)


ChangeDep = Annotated[ResourceChange, Depends(change_of)]


async def stored(call: Coroutine[Any, Any, T], value_error: str = NOT_KEPT) -> T:
    """Return what a call of the store returns.

    Args:
        call: of a repository.
        value_error: what the client reads where the store raises ValueError.

    Raises:
        StorageUnavailable: the store is away.
        InvalidRequest: a value that the store does not take, such as text with a NUL.
    """
    try:
        return await call
    except ValueError:
        raise InvalidRequest(value_error) from None
    except StoreUnavailable:
        raise StorageUnavailable(
            "The store does not answer; a change may not have been kept. Try again later."
        ) from None


async def changed(
    change: ResourceChange, call: Coroutine[Any, Any, T], in_force: Catalog | ListRefresher, value_error: str = NOT_KEPT
) -> T:
    """Return what a change of a named resource returns, and put it in force here; other gateways follow within 2 s.

    Args:
        change: that is made.
        call: of a repository, or of what saves into one.
        in_force: what holds such resources in memory.
        value_error: as of ``stored``.

    Raises:
        PreconditionFailed: the precondition does not hold.
        ResourceInUse: policies in force use the classifier.
        InvalidRequest: classifiers that a policy needs were deleted; or as ``stored``.
        StorageUnavailable: the store is away.
    """
    try:
        result = await stored(call, value_error)
    except StaleWrite as stale:
        raise PreconditionFailed(_mismatch(change, stale.latest)) from None
    except PinMissing as gone:
        raise InvalidRequest(f"The policy needs {', '.join(gone.missing)}, which were deleted.") from None
    except InUse as use:
        users = ", ".join(use.users)
        raise ResourceInUse(f"“{change.name}” is used by the policies {users}; change or delete those first.") from None
    await put_in_force(in_force)
    return result


async def put_in_force(in_force: Catalog | ListRefresher) -> None:
    """Load what was just saved, if that can be done now; else the watch will."""
    try:
        await in_force.refresh()
    except (StoreUnavailable, ServiceError):
        structlog.get_logger("store").warning("saved, but not in force yet: the watch will load it")


def _mismatch(change: ResourceChange, latest: int | None) -> str:
    if change.precondition.none_match:
        return f"If-None-Match is given, and what it names is there: “{change.name}”."
    if latest is None:
        return f"If-Match is given, and there is nothing named “{change.name}” with this tag; read it again."
    return (
        f"If-Match does not name the latest version, which is {latest}, in force or a draft; "
        f"read ?version={latest} first."
    )
