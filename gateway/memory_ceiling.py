"""How much memory a gateway takes at most, as its settings say, and how much its container gives it."""

from __future__ import annotations

from pathlib import Path

import structlog

from gateway.parts import MOST_BYTES_PER_PIXEL
from gateway.serving.unread_answers import UNSENT_BYTES
from gateway.settings import MIB, Settings

BASE_MIB = 384  # the interpreter with its libraries, threads and metrics, and what allocators do not give back
WORKER_MIB = 160  # a process that decodes, before it does
READ_MIB = 68 / 1024  # what came with a head, before its request is admitted or refused, and behind it
VIEW_MIB = 3 * 448**2 / MIB  # a square of the largest models, uint8
CONTROL_GROUPS, OWN_CONTROL_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def ceiling_mib(settings: Settings) -> float:
    """Return the memory in MiB that one of ``gateway_replicas`` stays under, whatever it is sent.

    docs/operations.md has the formula. An image, or the views of one, that alone needs more than a budget is let in
    alone, so that a budget counts as no less than the largest image. Processes that train or make a report are not in
    it: they have limits of their own, and are the first that the kernel ends.

    Args:
        settings: as configured, not yet divided among the replicas.
    """
    part = settings.part()
    largest_mib = part.max_image_pixels * MOST_BYTES_PER_PIXEL / MIB
    return (
        BASE_MIB
        + UNSENT_BYTES / MIB
        + part.text_cache_mib
        + part.max_bytes_in_flight / MIB
        + max(part.decode_memory_mib, largest_mib)
        + max(part.view_memory_mib, part.max_inferences * VIEW_MIB)
        + part.fetch_concurrency * part.max_image_bytes / MIB
        + part.effective_decode_workers * (WORKER_MIB + part.max_image_bytes / MIB)
        + part.max_connections * READ_MIB
        + (part.review_images != "none") * part.review_image_memory_mib
    )


def limit_mib(groups: Path = CONTROL_GROUPS, own: Path = OWN_CONTROL_GROUPS) -> float | None:
    """Return the memory in MiB that this process' control groups leave it; None where nothing limits it.

    Args:
        groups: where the hierarchies are mounted.
        own: a line ``number:controllers:path`` for each hierarchy, see cgroups(7).
    """
    found: list[str] = []
    for line in own.read_text(encoding="utf-8").splitlines() if own.exists() else ():
        _, controllers, path = line.split(":", 2)
        if controllers in {"", "memory"}:  # version 2, version 1
            root = groups / controllers
            name = "memory.limit_in_bytes" if controllers else "memory.max"
            inner = root / path.lstrip("/")
            # In a namespace of its own the path may name nothing; the root is then this container's.
            around = (folder / name for folder in (inner, *inner.parents) if folder.is_relative_to(root))
            found += [file.read_text(encoding="ascii").strip() for file in around if file.is_file()]
    return min((int(text) / MIB for text in found if text.isdecimal() and int(text) < 1 << 60), default=None)


def warn_of_limit(settings: Settings, replicas: int) -> None:
    """Log a warning if the container's limit is under what gateways in it may take.

    Args:
        settings: as configured.
        replicas: that run in this process' control group.
    """
    ceiling, limit = replicas * ceiling_mib(settings), limit_mib()
    if limit is not None and limit < ceiling:
        structlog.get_logger("app").warning(
            "the memory limit is under what the gateway may take: raise it, or lower MAX_BYTES_IN_FLIGHT, "
            "DECODE_MEMORY_MIB or MAX_IMAGE_PIXELS",
            limit_mib=round(limit),
            ceiling_mib=round(ceiling),
        )
