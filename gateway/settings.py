"""All settings of the gateway, read from environment variables named like the fields in capitals.

What is no variable may be a file in /run/secrets named like the field, so that secrets stay out of the environment.
Only ``app.py``, ``parts.py`` and ``__main__.py`` read settings; every stage gets its own limits as a value.
"""

from __future__ import annotations

import os
from ipaddress import ip_address
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from gateway.console_settings import ConsoleSettings
from gateway.fetching.fetcher import USER_AGENT
from gateway.setting_types import Hosts, NameServers, Origins, OutboundProxy, Words, is_host
from gateway.trace_settings import TraceSettings
from gateway.triton_settings import TritonSettings

MIB = 1 << 20
_MEMORY = ("decode_memory_mib", "view_memory_mib", "upload_room_mib", "review_image_memory_mib")
LOOPBACK = frozenset({"localhost", "127.0.0.0/8", "::1"})
HEADER_VALUE = r"^[!-~]([ -~]{0,510}[!-~])?$"  # ASCII of RFC 9110 section 5.5


class Settings(ConsoleSettings, TraceSettings, TritonSettings):
    """The gateway's configuration; every default is safe for a laptop and for the internet's uploads."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, env_ignore_empty=True, validate_default=False)

    gateway_host: str = Field("127.0.0.1", description="Address to listen on.")
    gateway_port: int = Field(8000, ge=1, le=65535, description="Port to listen on.")
    gateway_replicas: int = Field(
        1,
        ge=1,
        le=64,
        description="Gateways that share this machine and its Tritons. Each takes its part of DECODE_WORKERS, "
        "DECODE_MEMORY_MIB, VIEW_MEMORY_MIB, UPLOAD_ROOM_MIB, REVIEW_IMAGE_MEMORY_MIB, MAX_BYTES_IN_FLIGHT, "
        "FETCH_CONCURRENCY and of the inferences that the bundle allows each Triton at a time; every other limit is "
        "each one's own.",
    )
    gateway_allow_open: bool = Field(
        default=False,
        description="Listen beyond loopback although no API keys exist. Only behind something that authenticates.",
    )
    allowed_hosts: Hosts = Field(
        frozenset(),
        description="Hosts that requests may be addressed to, comma-separated, without ports: names, *.names, "
        "addresses, networks; beside them loopback's. Others get 421. Empty: any host, or on loopback without keys "
        "only loopback's.",
    )
    cors_allowed_origins: Origins = Field(
        frozenset(),
        description="Origins, comma-separated, whose pages may send every request from a browser and read the answers "
        "(CORS), such as https://console.example.org; of others but the gateway's own, all but GET gets 403.",
    )
    gateway_api_keys: str = Field(
        "", description="API keys, hashed: name:sha256:roles[:rate], comma-separated; `clip-gateway keys new`."
    )
    gateway_api_keys_file: Path | None = Field(
        None, description="A file with more of them, one a line; read again every two seconds."
    )
    rate_limit_storage_url: str = Field(
        "",
        description="redis://… counts rates for all gateways together (extra redis); empty: each by itself, so that a "
        "key has its rate in each.",
    )
    model_repository: Path = Field(
        Path("model_repository"),
        description="The bundle that Triton serves: the manifest and the tokenizer are read here.",
    )
    data_dir: Path = Field(Path("data"), description="Where state is kept; the default database is a file in it.")
    database_url: str = Field(
        "", description="postgresql://… for many gateways; empty means SQLite, gateway.sqlite in DATA_DIR."
    )
    store_timeout_s: float = Field(5.0, gt=0, description="How long one use of the database may take.")
    log_format: Literal["json", "console"] = Field("console", description="Form of log lines on standard output.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severity that is logged."
    )

    request_timeout_s: float = Field(10.0, gt=0, le=600, description="Deadline of a request, runs through to Triton.")
    save_timeout_s: float = Field(
        120.0,
        gt=0,
        le=3600,
        description="Deadline of saving a classifier or policy and of a dry run: the time for all their text vectors.",
    )
    drain_timeout_s: int = Field(
        30, ge=0, le=600, description="On SIGTERM, how long accepted requests may take to end."
    )
    shutdown_delay_s: float = Field(
        1.0,
        ge=0,
        le=60,
        description="On SIGTERM, how long /readyz says 503 while requests are still taken: above the interval at which "
        "a load balancer asks.",
    )
    max_connections: int = Field(2048, ge=1, le=65535, description="Connections at a time; one more gets 503.")
    header_timeout_s: float = Field(10.0, gt=0, le=600, description="How long a client may take to send its headers.")
    body_timeout_s: float = Field(30.0, gt=0, le=600, description="How long a client may take to send its body.")
    write_timeout_s: float = Field(
        30.0,
        gt=0,
        le=600,
        description="How long a client may take to read 64 KiB of its answer, or what is left of it; then the "
        "connection is closed.",
    )
    max_body_bytes: int = Field(64 * MIB, ge=1024, description="Bytes of a request body.")
    max_json_bytes: int = Field(
        MIB, ge=1024, description="Bytes of a JSON body, or of a form's fields, without its images."
    )
    max_requests_in_flight: int = Field(256, ge=1, description="Requests worked on at a time; one more gets 503.")
    max_bytes_in_flight: int = Field(
        512 * MIB,
        ge=MIB,
        description="Body bytes held at a time, JSON counted three times; one more gets 503.",
    )
    upload_room_mib: int = Field(
        16,
        ge=1,
        description="Bodies being read or waiting to be decoded, MiB; further ones wait unread. A client that sends "
        "less than 4 MiB a second is read beside them.",
    )
    upload_wait_s: float = Field(
        10.0, ge=0, le=600, description="How long an upload may wait for its turn to be read; then it gets 503."
    )

    max_images: int = Field(32, ge=1, le=1024, description="Images in a request.")
    max_inferences: int = Field(128, ge=1, le=4096, description="Views of a request's images and frames, encoded.")
    heatmap_grid: int = Field(
        6,
        ge=2,
        le=24,
        description="Patches along each side of a heat map, each an inference; those of a request's images together "
        "are MAX_INFERENCES at most.",
    )
    max_labels: int = Field(1000, ge=2, description="Labels in a request.")
    max_templates: int = Field(100, ge=1, description="Prompt templates in a request.")
    max_new_prompts: int = Field(2000, ge=1, description="Prompts of a request whose vectors are not cached yet.")
    max_saved_prompts: int = Field(
        10_000, ge=1, description="Likewise of a classifier that is saved: labels times templates."
    )
    max_label_chars: int = Field(1000, ge=1, description="Characters of a label or template, before tokenizing.")
    text_cache_mib: int = Field(64, ge=1, description="Memory for text vectors, MiB.")

    max_image_bytes: int = Field(10 * MIB, ge=1024, description="Bytes of one image.")
    max_image_pixels: int = Field(50_000_000, ge=1024, description="Pixels of one image or frame.")
    max_image_side_px: int = Field(10_000, ge=64, description="Longest side of an image.")
    min_image_side_px: int = Field(
        0, ge=0, description="Shortest side of an image; 0 means 32 for the demo model and 50 for any other."
    )
    max_image_frames: int = Field(500, ge=1, description="Frames in a file.")
    sampled_frames: int = Field(16, ge=1, le=60, description="Frames of an animation that are looked at.")
    sampling_secret: str = Field(
        "",
        repr=False,
        description="Secret that the choice of frames is derived from, so that nobody can foresee it. Empty: made once "
        "and kept in the database, for all gateways on it.",
    )
    heic: bool = Field(default=False, description="Accept HEIC, phones' images; needs the extra heic.")
    decode_timeout_s: float = Field(
        5.0,
        gt=0,
        description="Processor time for decoding one image. A decoder that has not answered a second after as much "
        "time by the clock is ended: 422 if it hung, 503 if the machine was too busy to let it work.",
    )
    decode_isolation: bool = Field(
        default=True,
        description="Decode in processes of their own, so that an image that crashes its decoder fails alone; "
        "false: in threads, without AVIF and HEIC.",
    )
    decode_workers: int = Field(
        0, ge=0, le=256, description="Images decoded at a time, each in a process or thread; 0 means one a core."
    )
    decode_memory_mib: int = Field(
        1024, ge=64, description="Memory of images being decoded at a time, their files included, MiB."
    )

    view_memory_mib: int = Field(256, ge=16, description="Memory of views on their way to the model at a time, MiB.")

    fetch_timeout_s: float = Field(5.0, gt=0, description="Time for fetching one URL, redirects included.")
    fetch_dns_timeout_s: float = Field(2.0, gt=0, description="Time for one name resolution.")
    fetch_max_redirects: int = Field(3, ge=0, le=10, description="Redirects followed; every hop is judged anew.")
    fetch_concurrency: int = Field(64, ge=1, description="Images of URLs at a time, fetched and not yet decoded.")
    fetch_header_timeout_s: float = Field(
        3.0, gt=0, description="Time of one hop for connecting, TLS and the end of the headers."
    )
    fetch_allowed_hosts: Hosts = Field(
        frozenset(),
        description="The only hosts that URLs and redirects may name, comma-separated: names, *.names, addresses, "
        "networks. Empty: any. It restricts alone; private addresses stay forbidden.",
    )
    fetch_forbidden_hosts: Hosts = Field(
        frozenset(),
        description="Hosts never fetched from though public, written alike: the gateway's own names and addresses. "
        "This machine's addresses and the hosts of Triton, database and proxy are forbidden without it.",
    )
    fetch_dns_servers: NameServers = Field(
        (),
        description="Name servers for fetching, comma-separated, each with or without :port, the first asked first. "
        "Empty: those of the system. A public one knows no internal names.",
    )
    fetch_proxy: OutboundProxy = Field(
        None,
        repr=False,
        description="Outbound proxy for fetching, http://[user:password@]host:port, used by CONNECT. Proxies named in "
        "the environment as HTTP_PROXY and the like are ignored.",
    )
    fetch_proxy_resolves: bool = Field(
        default=False,
        description="Hand names to the proxy unresolved, where the gateway has no DNS. The proxy must then refuse "
        "private addresses: the gateway sees none.",
    )
    fetch_user_agent: str = Field(
        USER_AGENT, pattern=HEADER_VALUE, description="User-Agent of fetching. Some hosts want a contact address in it."
    )
    fetch_accept: str = Field(
        "",
        pattern=rf"{HEADER_VALUE}|^$",
        description="Accept of fetching. Empty: image/avif,image/webp,image/*,*/*;q=0.8, without AVIF where it is not "
        "decoded.",
    )
    fetch_test_allowed_hosts: Words = Field(
        frozenset(),
        description="For tests alone: host:port pairs, comma-separated, that may be fetched although they are not "
        "public. The log warns when it is set.",
    )

    decision_log: bool = Field(
        default=True, description="Keep a row for every decision; never the image, see REVIEW_IMAGES."
    )
    decision_log_required: bool = Field(
        default=False,
        description="A decision that cannot be logged is not given: 503. Otherwise it is, with a warning and no id.",
    )
    decision_spool_mib: int = Field(
        64,
        ge=0,
        le=65_536,
        description="Decisions that the database does not take wait in DATA_DIR/spool, MiB at most, and are written "
        "when it does; they count as logged. 0: they are not kept.",
    )
    decision_vectors: bool = Field(
        default=False,
        description="Keep the image's vectors with its decision, which makes dry runs over them possible.",
    )
    decision_retention_days: int = Field(90, ge=0, le=36_500, description="Days a decision is kept; 0 means for ever.")
    idempotency_retention_hours: int = Field(
        24,
        ge=1,
        le=720,
        description="Hours in which a request repeated under its Idempotency-Key gets the same answer.",
    )
    max_training_examples: int = Field(10_000, ge=20, le=1_000_000, description="Examples that a head is trained on.")
    training_timeout_s: float = Field(
        60.0, gt=0, le=3600, description="How long training a head may take beyond the vectors of its examples."
    )
    training_memory_mib: int = Field(2048, ge=256, description="Memory of a process that trains, MiB.")
    training_processes: int = Field(
        1, ge=1, le=16, description="Heads trained at a time; a further training waits for its turn."
    )
    perceptual_hash: bool = Field(
        default=True, description="Compute PDQ hashes where the extra pdq is installed; lists of kind pdq need them."
    )
    moderations_text: Literal["refuse", "ignore"] = Field(
        "refuse", description="/v1/moderations: text gets 400, or is read past beside an image."
    )
    moderations_review_flags: bool = Field(
        default=True, description="/v1/moderations: review sets flagged too; false: block alone."
    )
    moderations_max_images: int = Field(
        10, ge=1, description="/v1/moderations: images in a request; 1 is as strict as OpenAI's."
    )

    readiness_window_s: float = Field(
        15.0, gt=0, description="How recent the last good inference must be for /readyz to answer 200."
    )

    def part(self) -> Settings:
        """Return what is left to one of ``gateway_replicas``: of what protects the machine, a part, at least one."""
        part = {
            name: max(1, int(getattr(self, name)) // self.gateway_replicas) for name in (*_MEMORY, "fetch_concurrency")
        }
        part["decode_workers"] = max(1, self.effective_decode_workers // self.gateway_replicas)
        largest = min(self.max_bytes_in_flight, 3 * self.max_body_bytes)  # JSON is counted three times
        part["max_bytes_in_flight"] = max(largest, self.max_bytes_in_flight // self.gateway_replicas)
        return self.model_copy(update=part)

    @property
    def has_keys(self) -> bool:
        """Whether clients need an API key."""
        return bool(self.gateway_api_keys or self.gateway_api_keys_file)

    @property
    def is_on_loopback(self) -> bool:
        """Whether the gateway can be reached from this machine alone."""
        try:
            return self.gateway_host == "localhost" or ip_address(self.gateway_host).is_loopback
        except ValueError:
            return False

    @property
    def served_hosts(self) -> frozenset[str]:
        """Hosts that a request may name as the gateway's; none: any. Without keys on loopback, DNS rebinding is met."""
        checked = self.allowed_hosts or (self.is_on_loopback and not self.has_keys)
        return self.allowed_hosts | LOOPBACK if checked else frozenset()

    @property
    def effective_database_url(self) -> str:
        """The database that is used."""
        return self.database_url or f"sqlite:///{(self.data_dir / 'gateway.sqlite').absolute()}"

    @property
    def own_hosts(self) -> frozenset[str]:
        """The hosts that this gateway is made of, as the settings name them."""
        databases = urlsplit(self.effective_database_url).hostname or ""
        tritons = (end.host for end in self.triton_endpoints)
        found = {self.gateway_host, *tritons, *databases.split(",")}  # PostgreSQL: a,b
        if self.fetch_proxy is not None:
            found.add(self.fetch_proxy.host)
        return frozenset(filter(is_host, found))

    @property
    def effective_decode_workers(self) -> int:
        """Number of decoding processes or threads, at least 1."""
        return self.decode_workers or len(os.sched_getaffinity(0))
