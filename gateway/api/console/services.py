"""What the routes of signing in and of the status work with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from gateway.api.console.live_sessions import LiveSessions
from gateway.api.console.presence import Presence
from gateway.auth.key_file import KeyFile
from gateway.store.access.activity import Activity

if TYPE_CHECKING:
    from gateway.api.console.oidc import OidcProvider  # of an extra


@dataclass(frozen=True, slots=True)
class Features:
    """What a page may offer, since this gateway has it."""

    review_images: Literal["none", "link", "store"]
    vectors: bool
    webhooks: bool
    jobs: bool
    log: bool


@dataclass(frozen=True, slots=True)
class AccessServices:
    """The parts of access.

    Attributes:
        keys: in force.
        sessions: of the console.
        activity: of all gateways on the database.
        presence: of this one.
        features: that it has.
        oidc: how people sign in without a key; None where it is not set up.
    """

    keys: KeyFile
    sessions: LiveSessions
    activity: Activity
    presence: Presence
    features: Features
    oidc: OidcProvider | None

    def note_use(self, name: str) -> None:
        """Note that a key, by its name, was used now."""
        self.presence.note_use(name)
