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

from collections.abc import Iterator
from dataclasses import dataclass

import structlog
from pydantic import ValidationError

from gateway.errors import ModelUnavailable, RequestError
from gateway.moderation.builtin_scenarios import SETS, BuiltinScenario, fingerprint, former, set_for, shipped
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


@dataclass(frozen=True, slots=True)
class ResourceState:
    """A resource as it stands: the version in force, else the foreign one; the newest, which a write must name."""

    active: Version | None
    latest: Version | None
    deleted: bool


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
    wanted = shipped(chosen)
    ours = known_fingerprints(saver)
    log = structlog.get_logger("seeding")
    changed = False
    for name, classifier in wanted.classifiers.items():
        if await _settle(saver, "classifier", name, classifier, ours):
            log.info("scenario saved", kind="classifier", name=name, set=chosen)
            changed = True
    policies_changed = False
    for name, policy in wanted.policies.items():
        if await _settle(saver, "policy", name, policy, ours):
            log.info("scenario saved", kind="policy", name=name, set=chosen)
            policies_changed = True
    if changed or policies_changed:
        await saver.catalog.refresh()
    return changed or policies_changed


def known_fingerprints(saver: Saver) -> frozenset[str]:
    """Return the fingerprints of every body that this program ships or once shipped, in normal form."""
    return frozenset(fingerprint(body) for name in SETS for body in _bodies(shipped(name), saver)) | former()


def _bodies(found: BuiltinScenario, saver: Saver) -> Iterator[Classifier | Policy]:
    yield from (saver.normal(body) for body in found.classifiers.values())
    yield from found.policies.values()


async def _settle(saver: Saver, kind: Kind, name: str, body: Classifier | Policy, ours: frozenset[str]) -> bool:
    """Bring one resource to where it should be; return whether something was written."""
    for _ in range(ATTEMPTS):
        standing = await _standing(saver, kind, name)
        if not await _due(saver, standing, body, ours):
            return False
        if kind == "policy":
            await saver.catalog.refresh()  # so that it pins what was just saved, here or by another gateway
        try:
            latest = standing.latest
            unchanged = Precondition(frozenset({latest.etag})) if latest else Precondition(none_match=ANY)
            saved = await saver.save(name, body, activate=True, actor=ACTOR, precondition=unchanged)
        except (StaleWrite, PinMissing):
            continue
        except RequestError as error:  # words or labels that do not fit: what was there stays
            structlog.get_logger("seeding").error("scenario not saved", kind=kind, name=name, detail=error.detail)
            return False
        return saved.new or standing.latest is not None  # then the latest was activated
    return False


async def _standing(saver: Saver, kind: Kind, name: str) -> ResourceState:
    versions = await saver.versions.history(kind, name)
    active = next((version for version in versions if version.active or version.foreign), None)
    if versions:
        return ResourceState(active, versions[0], deleted=False)
    return ResourceState(None, None, deleted=await saver.versions.was_deleted(kind, name))


async def _due(saver: Saver, standing: ResourceState, body: Classifier | Policy, ours: frozenset[str]) -> bool:
    """Return whether the shipped body is to be saved over what stands."""
    version = standing.active
    if version is None:
        return standing.latest is None and not standing.deleted  # drafts alone are somebody's work
    print_ = _fingerprint(version)
    if print_ not in ours:
        return False
    if isinstance(body, Classifier):
        return version.foreign or print_ != fingerprint(saver.normal(body))
    if not await _pins_ours(saver, body, ours):
        return False
    current = print_ == fingerprint(body) and version.bundle_id == saver.manifest.bundle_id
    return not (current and await _pins_current(saver, version))


async def _pins_ours(saver: Saver, policy: Policy, ours: frozenset[str]) -> bool:
    """Return whether all classifiers in force that a policy names are unedited.

    A policy that would come to rest on a classifier that somebody has edited is that somebody's to save.
    """
    for name in _names(policy):
        version = (await _standing(saver, "classifier", name)).active
        if version is None or _fingerprint(version) not in ours:
            return False
    return True


async def _pins_current(saver: Saver, version: Version) -> bool:
    """Return whether a policy pins the classifier versions in force."""
    for name, number in version.pins.items():
        active = (await _standing(saver, "classifier", name)).active
        if active is None or active.number != number:
            return False
    return True


def _names(policy: Policy) -> list[str]:
    references = [rule.classifier for rule in policy.rules] + list(policy.attributes)
    return list(dict.fromkeys(split_reference(reference)[0] for reference in references))


def _fingerprint(version: Version) -> str | None:
    """Return the fingerprint of a stored body in the form that this program writes, or None if it cannot be read."""
    try:
        model = Classifier if version.kind == "classifier" else Policy
        return fingerprint(model.model_validate(version.body))
    except ValidationError:
        return None
