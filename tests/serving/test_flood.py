"""Fault 103: many large uploads at once get 200 or 503, every one can read its answer, and memory stays bounded.

`make flood` does the same with 1,000 uploads of 10 MB on a gateway as it is shipped.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx2
import pytest

from gateway.memory_ceiling import ceiling_mib
from gateway.settings import MIB
from scripts.flood import family, flood, listener, noise_png, resident_mib, settings_of
from tests.conftest import Stack
from tests.support.fault_table import FaultLog
from tests.support.gateway_processes import more_gateways
from tests.support.waiting import until

COUNT = 60
LIMITS = {
    "MAX_BYTES_IN_FLIGHT": str(64 * MIB),
    "UPLOAD_WAIT_S": "0.5",
    "DECODE_MEMORY_MIB": "128",
    "VIEW_MEMORY_MIB": "16",
    "FETCH_CONCURRENCY": "1",
    "DECODE_WORKERS": "2",
    "TEXT_CACHE_MIB": "16",
    "MAX_CONNECTIONS": "128",
    "LOG_LEVEL": "error",
}


@pytest.mark.heavy
def test_103_uploads_over_the_limits_are_refused_at_once_and_memory_stays_bounded(
    stack: Stack, tmp_path: Path, faults: FaultLog
) -> None:
    picture = noise_png(10.0)
    assert 9_900_000 < len(picture) < 10 * MIB
    with more_gateways(stack, 1, tmp_path, **LIMITS) as (address,):
        port = int(address.rsplit(":", 1)[1])
        process = listener(port)
        settings = settings_of(process)
        assert (settings.gateway_port, settings.max_bytes_in_flight) == (port, 64 * MIB)
        ceiling = ceiling_mib(settings)
        answers, memory, _ = asyncio.run(flood(("127.0.0.1", port), COUNT, picture, process))
        seen = "only 200 and 503, under the ceiling"
        if not set(answers) <= {"200", "503"} or memory.peak > ceiling:
            seen = f"{dict(answers)}, {memory.peak:.0f} of {ceiling:.0f} MiB"
        faults.expect(103, f"{COUNT} uploads of 10 MB at once", seen, "only 200 and 503, under the ceiling")
        assert answers["200"] > 0
        assert answers["503"] > 0
        assert sum(answers.values()) == COUNT
        metrics = httpx2.get(f"{address}/metrics").text
        assert "gateway_requests_in_flight 0.0" in metrics
        # What was refused was not read, what was read has been given back.
        until(
            lambda: resident_mib(family(process)) < memory.before + 200,
            lambda: f"{resident_mib(family(process)):.0f} MiB stay resident",
        )
