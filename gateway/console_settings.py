"""The settings of review, its console, webhooks and jobs; ``settings.py`` has the others."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings

from gateway.review.image_url import ImageUrl


class ConsoleSettings(BaseSettings):
    """What people who review and tune work with."""

    console: bool = Field(default=True, description="Serve /console, the pages for people, and let people sign in.")
    session_hours: float = Field(8.0, gt=0, le=168, description="Hours after which a person has to sign in again.")
    session_idle_minutes: float = Field(
        60.0, ge=5, le=1440, description="Minutes without a request after which a person has to sign in again."
    )
    sign_ins_per_minute: int = Field(
        20, ge=1, le=10_000, description="Attempts to sign in of one client address; one more gets 429."
    )
    oidc_issuer: str = Field(
        "",
        pattern=r"^(https://.+|http://(localhost|127\.0\.0\.1|\[::1\])(:[0-9]+)?(/.*)?)?$",
        description="Identity provider (OpenID Connect) at which people may sign in to the console, as its tokens name "
        "it; needs the extra oidc and API keys. Empty: by API key alone.",
    )
    oidc_client_id: str = Field("", description="Of this gateway at the identity provider.")
    oidc_client_secret: str = Field("", repr=False, description="Likewise; empty: a public client.")
    oidc_redirect_url: str = Field(
        "",
        pattern=r"^(https?://[^/?#]+/v1/session/oidc/callback)?$",
        description="Address that the provider sends browsers back to: the console's, with /v1/session/oidc/callback.",
    )
    oidc_roles_claim: str = Field("groups", description="Claim of the ID token that names a person's groups.")
    oidc_roles: str = Field(
        "", description="Roles of each group, comma-separated: moderators=review+read,trust=review+read+manage."
    )
    oidc_scope: str = Field("openid profile email", description="Scopes that are asked for.")
    oidc_timeout_s: float = Field(5.0, gt=0, le=60, description="How long the provider may take in one step.")

    review_lease_s: float = Field(
        300.0, ge=1, le=86_400, description="How long a claimed case is kept for its reviewer, unless extended, s."
    )
    review_skip_s: float = Field(
        900.0, ge=0, le=604_800, description="How long a skipped case is not offered to its reviewer again, s."
    )
    review_claims: int = Field(3, ge=1, le=100, description="Cases that one reviewer may hold at a time.")
    review_undo_s: float = Field(600.0, ge=0, le=86_400, description="How long a verdict can be taken back, s.")
    review_image_url: ImageUrl = Field(
        "",
        description="Where reviewers see the picture: http(s)://… or a path on this gateway, with {external_id}, "
        "{decision_id} and {sha256} filled in. Empty: nowhere.",
    )
    review_withheld_procedure: str = Field(
        "",
        max_length=4000,
        description="What a reviewer reads of a case whose picture is on a list marked `withhold`: what to do.",
    )
    similar_decisions: int = Field(
        20_000, ge=1, le=1_000_000, description="How many of the newest decisions are searched for similar ones."
    )

    review_images: str = Field(
        "none",
        pattern=r"^(none|folder|file:///.+|s3://[^/]+(/.*)?)$",
        description="Where stills of decisions that wait for review are kept, encrypted: none; folder, which is "
        "review-images in DATA_DIR; file:///path; s3://bucket/prefix. Needs REVIEW_IMAGE_KEY and DECISION_LOG.",
    )
    review_image_key: str = Field(
        "",
        repr=False,
        description="Key of the stills: base64 of 32 random bytes. Of several with commas the first "
        "encrypts, and all decrypt.",
    )
    review_image_side_px: int = Field(1024, ge=256, le=2048, description="Longest side of a still.")
    review_image_stills: int = Field(4, ge=1, le=16, description="Stills of a decision at most.")
    review_image_days: int = Field(
        7, ge=0, le=3650, description="Days that stills are kept after the reviewer's verdict."
    )
    review_image_timeout_s: float = Field(
        2.0, gt=0, le=60, description="How long one use of the store of stills may take; then there is none."
    )
    review_image_memory_mib: int = Field(
        64, ge=1, description="Memory of stills on their way to the store, MiB; what finds no room is not kept."
    )
    aws_access_key_id: str = Field("", repr=False, description="Of s3://; empty: as the AWS variables or the role say.")
    aws_secret_access_key: str = Field("", repr=False, description="Likewise.")
    aws_endpoint_url: str = Field("", description="Of s3:// that is not Amazon's; https, or http within one's network.")
    aws_region: str = Field("", description="Of s3://.")
    max_labelled_sets: int = Field(50, ge=1, le=10_000, description="Labelled sets that are kept.")
    max_labelled_images: int = Field(
        10_000, ge=1, le=1_000_000, description="Images of a labelled set, and reviewed decisions of an evaluation."
    )
    jobs_at_a_time: int = Field(1, ge=1, le=16, description="Jobs that one gateway does side by side.")
    max_open_jobs: int = Field(100, ge=1, le=10_000, description="Jobs that wait or run, on all gateways together.")
    job_lease_s: float = Field(
        15.0, ge=1, le=3600, description="After so long without a sign of life a job is another gateway's."
    )
    job_timeout_s: float = Field(900.0, gt=0, le=86_400, description="How long one attempt at a job may take.")
    job_memory_mib: int = Field(2048, ge=16, description="Memory of the process that makes a job's report, MiB.")
    job_files_mib: int = Field(64, ge=1, le=1024, description="Files that a job keeps, MiB.")
    job_retention_days: int = Field(
        30, ge=0, le=36_500, description="Days a job that ended is kept with its files; 0 means for ever."
    )

    webhook_url: str = Field(
        "",
        pattern=r"^(https?://[^\s/@?#]+(/[^\s#]*)?)?$",
        description="Where verdicts of reviewers, appeals and undos are sent, http(s)://…; private addresses too. "
        "Empty: nowhere.",
    )
    webhook_secret: str = Field(
        "",
        repr=False,
        description="Signs what is sent: whsec_ and the base64 of 24 to 64 random bytes. Of several with commas each "
        "signs, so that they can be changed.",
    )
    webhook_attempts: int = Field(
        12, ge=1, le=30, description="Attempts until an event is dead; 12 take about a day, with growing pauses."
    )
    webhook_timeout_s: float = Field(10.0, gt=0, le=120, description="How long one attempt may take, s.")
    webhook_concurrency: int = Field(4, ge=1, le=64, description="Attempts at a time, of each gateway.")
    webhook_retention_days: int = Field(
        30, ge=1, le=3650, description="Days that delivered and dead events are listed, from when they were made."
    )
