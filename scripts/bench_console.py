"""``python -m scripts.bench_console http://127.0.0.1:8000``: bytes of the console's first view, and when it works.

Chromium with its processor slowed down (CDP, ``Emulation.setCPUThrottlingRate``) and an empty cache opens Try; it is
usable when the button for files stands. Where ``npx`` can run it, Lighthouse says its interactive time too, with the
same slowdown and the network as it is.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess

from playwright.sync_api import Browser, sync_playwright

SLOWDOWN = 4
MAX_BYTES = 150_000
MAX_S = 1.0
LIGHTHOUSE = "lighthouse@12.2.3"  # the newest that runs on Node 20
LIGHTHOUSE_TIMEOUT_S = 300
FRAME_GAP = """() => new Promise((tell) => { let last = performance.now(), longest = 0, left = 240;
  const step = (now) => { longest = Math.max(longest, now - last); last = now;
    const box = document.querySelector('.virtual'); if (box) box.scrollTop += 900;
    if (--left) requestAnimationFrame(step); else tell(longest); };
  requestAnimationFrame(step); })"""


def first_view(browser: Browser, url: str) -> tuple[int, float]:
    """Return the bytes that were transferred, and after how many seconds the view could be used."""
    page = browser.new_context().new_page()
    devtools = page.context.new_cdp_session(page)
    devtools.send("Network.enable")
    devtools.send("Emulation.setCPUThrottlingRate", {"rate": SLOWDOWN})
    sizes: list[int] = []
    devtools.on("Network.loadingFinished", lambda event: sizes.append(int(event["encodedDataLength"])))
    page.goto(f"{url}/console#/try", wait_until="commit")
    page.locator(".drop-zone button").wait_for()
    seconds = float(page.evaluate("performance.now()")) / 1000
    page.wait_for_load_state("networkidle")
    page.context.close()
    return sum(sizes), seconds


def lighthouse(chromium: str, url: str) -> dict[str, float] | None:
    """Return Lighthouse's scores (0..1) and its interactive time in seconds; None where it does not run."""
    if (npx := shutil.which("npx")) is None:
        return None
    command = [npx, "--yes", LIGHTHOUSE, f"{url}/console#/try", "--output=json", "--quiet", "--preset=desktop"]
    command += ["--throttling-method=devtools", f"--throttling.cpuSlowdownMultiplier={SLOWDOWN}"]
    command += [
        f"--throttling.{name}=0" for name in ("requestLatencyMs", "downloadThroughputKbps", "uploadThroughputKbps")
    ]
    command += ["--chrome-flags=--headless=new --no-sandbox"]
    environment = {**os.environ, "CHROME_PATH": chromium}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, check=True, timeout=LIGHTHOUSE_TIMEOUT_S)
        report = json.loads(done.stdout)
    except (subprocess.SubprocessError, ValueError):
        return None
    found = {name: float(one["score"]) for name, one in report["categories"].items() if one["score"] is not None}
    return {**found, "interactive_s": float(report["audits"]["interactive"]["numericValue"]) / 1000}


def longest_frame(browser: Browser, url: str) -> float:
    """Return the longest time between two frames, in ms, while the decision log is scrolled; it is what is there."""
    page = browser.new_context().new_page()
    page.goto(f"{url}/console#/decisions")
    page.locator(".virtual-row").first.wait_for()
    gap = float(page.evaluate(FRAME_GAP))
    page.context.close()
    return gap


def main() -> None:
    """Measure, print JSON, and fail above MAX_BYTES or MAX_S.

    Raises:
        SystemExit: the first view is too large or too slow.
    """
    parser = argparse.ArgumentParser(prog="python -m scripts.bench_console", description=__doc__)
    parser.add_argument("url", nargs="?", default="http://127.0.0.1:8000")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--decisions", action="store_true", help="scroll the decision log too (fill it before)")
    given = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=given.chromium, args=["--no-sandbox"])
        runs = [first_view(browser, given.url) for _ in range(given.runs)]
        found: dict[str, float] = {
            "bytes": max(size for size, _ in runs),
            "usable_s": statistics.median(seconds for _, seconds in runs),
        }
        if given.decisions:
            found["longest_frame_ms"] = longest_frame(browser, given.url)
        browser.close()
    print(json.dumps({**found, "lighthouse": lighthouse(given.chromium, given.url)}))
    if found["bytes"] > MAX_BYTES or found["usable_s"] > MAX_S:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
