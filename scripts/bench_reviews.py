"""The review queue under load: ``python -m scripts.bench_reviews``. Results: ``reports/reviews.json``.

Fills a database with cases that wait, starts a gateway on it, and lets reviewers work it off over HTTP at once: claim,
look for a moment, verdict. Some skip, some undo, some let their lease end, as people do. Prints how long "next case"
took and checks the end: every case is decided, and none has two verdicts that stand.

``--database postgresql://…`` takes an empty database there instead of SQLite; ``--waiting 100000 --verdicts 1000``
works off a part of a long queue. Needs no Triton: reviewing asks no model. The gateway is one process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import numpy as np

from gateway.store.decisions import DecisionRecord, Decisions
from gateway.store.migrate import open_database
from scripts.bench.machine import machine

ROOT = Path(__file__).parents[1]
ORDERS = ("oldest", "riskiest", "uncertain")
LOGGED_AT_ONCE = 500
START_S = 60.0
SKIPPED, UNDONE, LEFT = 0.02, 0.02, 0.01  # shares of the cases
LEASE_S = 5.0
TARGET_MS = 150.0


@dataclass
class Tally:
    """What the reviewers did, and how long "next case" took them."""

    claim_ms: list[float] = field(default_factory=list)
    verdict_ms: list[float] = field(default_factory=list)
    did: Counter[str] = field(default_factory=Counter)


def record(number: int, now: datetime, draw: random.Random) -> DecisionRecord:
    """Return a decision that waits for review."""
    score = round(draw.uniform(0.5, 0.95), 4)
    entry = {"category": "gore", "score": score, "decision": "review", "review_at": 0.5, "block_at": 0.95}
    return DecisionRecord(
        id=f"{number:032x}",
        at=now - timedelta(hours=1) + timedelta(milliseconds=number),
        request_id="bench",
        external_id=f"post-{number}",
        image_sha256=f"{number:064x}",
        image_pdq=None,
        policy=f"policy-{number % 4}",
        policy_version=1,
        bundle_id="bench",
        decision="review",
        outcome="review",
        categories={"gore": score},
        detail={"categories": [{**entry, "evidence": []}], "warnings": [], "key": "bench"},
    )


async def fill(database_url: str, waiting: int) -> None:
    """Log so many decisions that wait."""
    draw, now = random.Random(1), datetime.now(UTC)  # noqa: S311 - no secret
    database = await open_database(database_url, timeout_s=60)
    try:
        decisions = Decisions(database)
        for start in range(0, waiting, LOGGED_AT_ONCE):
            numbers = range(start, min(start + LOGGED_AT_ONCE, waiting))
            await decisions.append([record(number, now, draw) for number in numbers])
    finally:
        await database.close()


@asynccontextmanager
async def gateway(database_url: str, model_repository: Path, folder: Path) -> AsyncIterator[str]:
    """Start a gateway and stop it in the end; yield its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {
        "DATABASE_URL": database_url,
        "MODEL_REPOSITORY": str(model_repository),
        "DATA_DIR": str(folder),
        "GATEWAY_PORT": str(port),
        "LOG_LEVEL": "error",
        "REVIEW_LEASE_S": str(LEASE_S),
        "SHUTDOWN_DELAY_S": "0",
        "DECODE_ISOLATION": "false",
    }
    environment = {**os.environ, **settings}
    process = await asyncio.to_thread(subprocess.Popen, [sys.executable, "-m", "gateway"], cwd=ROOT, env=environment)
    address = f"http://127.0.0.1:{port}"
    try:
        async with httpx2.AsyncClient() as client:
            end = time.monotonic() + START_S
            while True:
                try:
                    if (await client.get(f"{address}/livez")).status_code == 200:
                        break
                except httpx2.TransportError:
                    if time.monotonic() > end or process.poll() is not None:
                        raise
                await asyncio.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(30)


async def review(address: str, number: int, tally: Tally, most: int, think_s: float) -> None:
    """Work as one reviewer until nothing waits, or ``most`` verdicts are given by all together."""
    draw, who = random.Random(number), f"reviewer-{number}"  # noqa: S311 - no secret
    order = ORDERS[number % len(ORDERS)]
    async with httpx2.AsyncClient(base_url=address, timeout=30) as client:
        while tally.did["verdict"] < most:
            begin = time.perf_counter()
            answer = await client.post("/v1/reviews/claim", json={"order": order, "reviewer": who})
            tally.claim_ms.append((time.perf_counter() - begin) * 1000)
            if answer.status_code == 204:
                counts = (await client.get("/v1/reviews?limit=1")).json()["counts"]
                if counts["waiting"] + counts["claimed"] == 0:
                    return
                await asyncio.sleep(0.2)  # what others hold may come back
                continue
            case = answer.raise_for_status().json()
            path, token = f"/v1/reviews/{case['id']}", case["claim"]["token"]
            await asyncio.sleep(think_s * draw.random())
            lot = draw.random()
            if lot < SKIPPED:
                await client.post(f"{path}/release", json={"claim": token, "skip": number % 2 == 0})
                tally.did["skip"] += 1
                continue
            if lot < SKIPPED + LEFT:
                tally.did["left"] += 1  # their lease ends
                continue
            body = {"claim": token, "decision": draw.choice(("allow", "block")), "reviewer": who}
            begin = time.perf_counter()
            given = await client.post(f"{path}/verdict", json=body)
            tally.verdict_ms.append((time.perf_counter() - begin) * 1000)
            if given.status_code == 409:
                tally.did["claim lost"] += 1
                continue
            given.raise_for_status()
            tally.did["verdict"] += 1
            if lot > 1 - UNDONE:
                back = (await client.post(f"{path}/undo", json={"reviewer": who})).raise_for_status().json()
                await client.post(f"{path}/verdict", json={**body, "claim": back["claim"]["token"]})
                tally.did["undo"] += 1


async def standing(address: str) -> tuple[Counter[int], int]:
    """Return how many decisions have so many verdicts that stand, and how many decisions still wait."""
    found: Counter[int] = Counter()
    async with httpx2.AsyncClient(base_url=address, timeout=60) as client:
        lines = (await client.get("/v1/decisions?format=jsonl&reviewed=true")).text.splitlines()
        for line in lines:
            said = json.loads(line)["feedback"]
            found[sum(row["kind"] == "verdict" and not row["undone"] for row in said)] += 1
        counts = (await client.get("/v1/reviews?limit=1")).json()["counts"]
    return found, counts["waiting"] + counts["claimed"]


def shares(values: list[float]) -> dict[str, float]:
    """Return quantiles of milliseconds."""
    return {f"p{share}": round(float(np.percentile(values, share)), 1) for share in (50, 95, 99)}


async def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Fill, work off, check; return the figures."""
    database_url = options.database or f"sqlite:///{folder}/gateway.sqlite"
    await fill(database_url, options.waiting)
    async with gateway(database_url, options.model_repository, folder) as address:
        tally = Tally()
        begin = time.monotonic()
        most = options.verdicts or options.waiting * 2
        await asyncio.gather(
            *(review(address, number, tally, most, options.think_s) for number in range(options.reviewers))
        )
        took_s = time.monotonic() - begin
        verdicts, left = await standing(address)
    return {
        "waiting": options.waiting,
        "reviewers": options.reviewers,
        "database": database_url.partition(":")[0],
        "seconds": round(took_s, 1),
        "did": dict(tally.did),
        "next_case_ms": shares(tally.claim_ms),
        "verdict_ms": shares(tally.verdict_ms),
        "decided_once": verdicts[1],
        "decided_twice": sum(count for times, count in verdicts.items() if times > 1),
        "lost": options.waiting - sum(verdicts.values()) - left,
        "left": left,
        "machine": machine(),
    }


def main() -> int:
    """Measure, print, and fail if a case was lost or decided twice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--waiting", type=int, default=1000)
    parser.add_argument("--reviewers", type=int, default=10)
    parser.add_argument("--verdicts", type=int, default=0, help="stop after so many; 0: when nothing waits")
    parser.add_argument("--think-s", type=float, default=0.1, help="the most that a reviewer looks at a case")
    parser.add_argument("--database", default="", help="an empty one; by default SQLite in a temporary folder")
    parser.add_argument("--model-repository", type=Path, default=ROOT / "model_repository")
    parser.add_argument("--out", type=Path, default=ROOT / "reports" / "reviews.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(measure(options, Path(folder)))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))
    p95 = found["next_case_ms"]["p95"]
    print(f"p95 of the next case: {p95} ms, {'within' if p95 < TARGET_MS else 'over'} {TARGET_MS:g} ms")
    return 1 if found["lost"] or found["decided_twice"] else 0


if __name__ == "__main__":
    sys.exit(main())
