"""Puts the shipped scenarios into the store at start: those that fit the bundle, without touching what a team has made.

A resource is ours while the version in force, or else that of another bundle, has a body that this program ships or
once shipped; it is then brought up to date and activated for this bundle. What is in force for another bundle stays so:
gateways with two models may seed one database. Anything else was written by somebody and is left alone, also when it
does not fit the model: a policy for another bundle answers 409 until somebody looks at it and saves it again. What
somebody deleted stays deleted.

Several gateways may start at once: one of them does it, under a lease of the store. Should two do it nevertheless, each
save names the version that it replaces, so the second finds the work done.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog
from pydantic import ValidationError

from gateway.errors import ModelUnavailable, RequestError
from gateway.moderation.builtin_scenarios import SETS, fingerprint, former, set_for, shipped
from gateway.moderation.classifiers import Classifier, split_reference
from gateway.moderation.policy import Policy
from gateway.moderation.saving import Saver
from gateway.store.audit import Actor
from gateway.store.leases import Leases
from gateway.store.preconditions import ANY, Precondition, StaleWrite
from gateway.store.versions import Kind, PinMissing, Version

ACTOR = Actor("seed")
ATTEMPTS = 3  # another gateway, or a person, was faster: look again
LEASE_S = 30.0  # after one that died another goes on; after one that is merely slow, it repeats what that has to do
RETRY_AFTER_S = 2


async def seed_alone(saver: Saver, leases: Leases) -> bool:
    """Do as ``seed``, unless another gateway on the same store is doing so.

    Raises:
        ModelUnavailable: another is; call again later.
        StoreUnavailable, StorageUnavailable, ServiceError: as ``seed``.
    """
    if not await leases.take("seeding", LEASE_S):
        raise ModelUnavailable(
            "Another gateway is storing the scenarios; nothing was decided.", retry_after_s=RETRY_AFTER_S
        )
    try:
        return await seed(saver)
    finally:
        await leases.take("seeding", 0.0)


async def seed(saver: Saver) -> bool:
    """Save what is absent and bring up to date what is ours; return whether anything changed.

    May be called again at any time: where nothing is to be done, nothing is written. When something was, the catalog
    has been refreshed.

    Raises:
        StoreUnavailable, StorageUnavailable: the store is away; call again later.
        ServiceError: text vectors could not be computed; call again later.
    """
    chosen = set_for(saver.manifest)
    ours = former() | {fingerprint(_normal(saver, body)) for name in SETS for _, _, body in shipped(name).bodies()}
    log = structlog.get_logger("seeding")
    changed = False
    for kind, name, body in shipped(chosen).bodies():
        if await _save_if_due(saver, kind, name, body, ours):
            log.info("scenario saved", kind=kind, name=name, set=chosen)
            changed = True
    if changed:
        await saver.catalog.refresh()
    return changed


async def _save_if_due(saver: Saver, kind: Kind, name: str, body: Classifier | Policy, ours: frozenset[str]) -> bool:
    """Save one shipped body where that is due; return whether something was written."""
    for _ in range(ATTEMPTS):
        versions = await saver.versions.history(kind, name)
        if not versions and await saver.versions.was_deleted(kind, name):
            return False
        if versions and not await _outdated(saver, versions, body, ours):
            return False
        if kind == "policy":
            await saver.catalog.refresh()  # so that it pins what was just saved, here or by another gateway
        unchanged = Precondition(frozenset({versions[0].etag})) if versions else Precondition(none_match=ANY)
        try:
            await saver.save(name, body, activate=True, actor=ACTOR, precondition=unchanged)
        except (StaleWrite, PinMissing):
            continue
        except RequestError as error:  # words or labels that do not fit: what was there stays
            structlog.get_logger("seeding").error("scenario not saved", kind=kind, name=name, detail=error.detail)
            return False
        return True
    return False


async def _outdated(saver: Saver, versions: Sequence[Version], body: Classifier | Policy, ours: frozenset[str]) -> bool:
    """Return whether the version in force is ours and another than the shipped body makes now.

    Drafts alone are somebody's work. So is a policy that would be pinned to a classifier that somebody has edited.
    """
    version = _in_force(versions)
    print_ = _fingerprint(version)
    if version is None or print_ not in ours:
        return False
    same = print_ == fingerprint(_normal(saver, body))
    if isinstance(body, Classifier):
        return version.foreign or not same
    pinned = [_in_force(await saver.versions.history("classifier", name)) for name in _names(body)]
    if any(_fingerprint(classifier) not in ours for classifier in pinned):
        return False
    pins = {classifier.name: classifier.number for classifier in pinned if classifier}
    return not (same and version.bundle_id == saver.manifest.bundle_id and version.pins == pins)


def _in_force(versions: Sequence[Version]) -> Version | None:
    """Return the version in force for this bundle, else the foreign one."""
    return next((version for version in versions if version.active or version.foreign), None)


def _normal(saver: Saver, body: Classifier | Policy) -> Classifier | Policy:
    """Return a shipped body as it is saved."""
    return saver.normal(body) if isinstance(body, Classifier) else body


def _names(policy: Policy) -> list[str]:
    references = [rule.classifier for rule in policy.rules] + list(policy.attributes)
    return list(dict.fromkeys(split_reference(reference)[0] for reference in references))


def _fingerprint(version: Version | None) -> str | None:
    """Return the fingerprint of a stored body in the form that this program writes, None if there is none to read."""
    if version is None:
        return None
    model = Classifier if version.kind == "classifier" else Policy
    try:
        return fingerprint(model.model_validate(version.body))
    except ValidationError:
        return None
