"""How smoothly the console lists 10,000 decisions: `python -m scripts.bench_console_log ADDRESS DATABASE_URL`.

Writes the decisions into the store of a running gateway, opens the log in Chromium and scrolls to its end. Prints how
many rows were seen, the longest frame, how many frames took more than 50 ms, and the longest task of the page's own
thread above 50 ms: on a busy machine a frame is late although the page did nothing. The gateway has no keys.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import uuid
from datetime import UTC, datetime, timedelta

from playwright.sync_api import sync_playwright

from gateway.store.decisions import DecisionRecord, Decisions
from gateway.store.migrate import open_database

ROWS, AT_ONCE, LIMIT_MS, TIMEOUT_S = 10_000, 500, 50, 30.0
POLICY = "bench-console"
# Scrolls by a page of the wheel at a time, a step a frame, and waits at the end for the next page of rows.
SCROLL = """async (rows) => {
  const box = document.querySelector(".virtual");
  const frames = [], tasks = [];
  const watch = new PerformanceObserver((list) => tasks.push(...list.getEntries().map((one) => one.duration)));
  watch.observe({type: "longtask"});
  let waited = 0, before = performance.now(), last = 0;
  while (last < rows && waited < 600) {
    box.scrollTop += 400;
    await new Promise(requestAnimationFrame);
    const now = performance.now();
    frames.push(now - before);
    before = now;
    const shown = [...box.querySelectorAll(".virtual-row")].at(-1);
    const place = Number(shown?.dataset.place ?? -1) + 1;
    waited = place > last ? 0 : waited + 1;
    last = Math.max(last, place);
  }
  frames.sort((one, other) => one - other);
  return {
    rows: last, frames: frames.length, longest_ms: frames.at(-1), p99_ms: frames[Math.floor(frames.length * 0.99)],
    over_50_ms: frames.filter((took) => took > 50).length, longest_task_ms: Math.max(0, ...tasks),
  };
}"""


async def fill(database_url: str) -> None:
    """Write the decisions, of a policy of their own, a second apart."""
    database = await open_database(database_url, timeout_s=TIMEOUT_S)
    try:
        log, end = Decisions(database), datetime.now(UTC)
        for start in range(0, ROWS, AT_ONCE):
            await log.append([made(number, end) for number in range(start, start + AT_ONCE)])
    finally:
        await database.close()


def made(number: int, end: datetime) -> DecisionRecord:
    """Return a decision as the log keeps it."""
    score = number % 1000 / 1000
    category = {"category": "gore", "score": score, "decision": "allow", "review_at": 0.9, "block_at": None}
    return DecisionRecord(
        id=uuid.uuid4().hex,
        at=end - timedelta(seconds=number),
        request_id=f"bench-{number}",
        external_id=f"picture-{number}",
        image_sha256=f"{number:064x}",
        image_pdq=None,
        policy=POLICY,
        policy_version=1,
        bundle_id="bench",
        decision="allow",
        outcome="allow",
        categories={"gore": score, "nudity": score / 2},
        detail={"policy": {"name": POLICY, "version": 1}, "categories": [{**category, "evidence": []}]},
    )


def main() -> None:
    """Fill the store, scroll, print the figures; fails where a frame took too long or rows are missing."""
    address, database_url = sys.argv[1:3]
    asyncio.run(fill(database_url))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(f"{address}/console#/decisions?policy={POLICY}")
        page.wait_for_selector(".virtual-row")
        found = page.evaluate(SCROLL, ROWS)
        browser.close()
    print(json.dumps(found))
    sys.exit(found["rows"] < ROWS or found["longest_ms"] > LIMIT_MS)


if __name__ == "__main__":
    main()
