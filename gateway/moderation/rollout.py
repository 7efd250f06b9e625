"""Which policies judge a request's images: the one that decides, by image, and a shadow beside it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from gateway.decoding.views import ViewRule
from gateway.moderation.binding import BoundPolicy

_PLACE_BYTES = 6  # 48 bits: a float holds each of them exactly


@dataclass(frozen=True, slots=True)
class Rollout:
    """What runs beside a policy's active version: a shadow, and a candidate that decides about a share of images."""

    shadow: BoundPolicy | None = None
    candidate: BoundPolicy | None = None
    share: float = 0.0


@dataclass(frozen=True, slots=True)
class Judges:
    """The policies of a request.

    Attributes:
        policy: decides.
        shadow: that the request names; goes before that of the rollout.
        rollout: of the policy, where the request names no version.
    """

    policy: BoundPolicy
    shadow: BoundPolicy | None = None
    rollout: Rollout = field(default_factory=Rollout)

    @property
    def views(self) -> frozenset[ViewRule]:
        """The views of what the request names."""
        return frozenset(policy.views for policy in (self.policy, self.shadow) if policy is not None)

    @property
    def views_beside(self) -> frozenset[ViewRule]:
        """The views of the rollout: no client's request is refused for them, nor analyzed in fewer frames."""
        policies = (self.shadow_in_force, self.rollout.candidate)
        return frozenset(policy.views for policy in policies if policy is not None) - self.views

    @property
    def shadow_in_force(self) -> BoundPolicy | None:
        """The policy that is evaluated and never decides."""
        return self.shadow or self.rollout.shadow

    @property
    def may_decide(self) -> tuple[BoundPolicy, ...]:
        """The policies of which one decides about a file."""
        candidate = self.rollout.candidate
        return (self.policy,) if candidate is None else (self.policy, candidate)

    def deciding(self, image_sha256: str) -> BoundPolicy:
        """Return the policy that decides about a file: always the same one for the same file and rollout."""
        candidate = self.rollout.candidate
        if candidate is not None and place(self.policy.name, image_sha256) < self.rollout.share:
            return candidate
        return self.policy


def place(policy: str, image_sha256: str) -> float:
    """Return a number 0 <= n < 1, the same for the same file and policy, evenly spread over files.

    A larger share holds all files of a smaller one. By the policy's name, so that it is not the same files of each.
    """
    digest = hashlib.sha256(f"{policy}:{image_sha256}".encode()).digest()
    return int.from_bytes(digest[:_PLACE_BYTES], "big") / (1 << 8 * _PLACE_BYTES)
