"""The console in a real Chromium, against the real stack."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Dialog, Page, expect, sync_playwright

from scripts.serve import TOUR
from tests.conftest import ROOT, Stack
from tests.support.gateway_processes import more_gateways
from tests.support.review_console import Desk, Reviewer, desk_of
from tests.support.webhook_receiver import SECRET

PATIENCE_MS = 30_000  # of what a busy machine takes for one step
AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
SERIOUS = ("serious", "critical")


@pytest.fixture(scope="session")
def console(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a gateway with a log of its own, as `make serve` starts it; nobody takes its webhooks."""
    webhooks = {"WEBHOOK_URL": "http://127.0.0.1:9/discard", "WEBHOOK_SECRET": SECRET, "WEBHOOK_ATTEMPTS": "1"}
    with more_gateways(stack, 1, tmp_path_factory.mktemp("console"), **TOUR, **webhooks) as (url,):
        yield url


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium; skips where it is absent."""
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no Chromium: the console is checked where it is installed")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser, console: str) -> Iterator[Page]:
    """A fresh page; fails when it broke the content policy, threw, or opened a dialog of a script."""
    context = chromium.new_context(base_url=console, accept_downloads=True, viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    opened.set_default_timeout(PATIENCE_MS)
    faults: list[str] = []
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on("console", lambda said: faults.append(said.text) if "Content Security Policy" in said.text else None)

    def refuse(dialog: Dialog) -> None:
        faults.append(dialog.message)
        dialog.dismiss()

    opened.on("dialog", refuse)
    yield opened
    context.close()
    assert faults == []


def accessible(page: Page) -> None:
    """Check that axe finds nothing serious in what is shown."""
    if not AXE.exists():
        pytest.skip("axe-core is not installed (npm ci)")
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa', 'wcag22aa', 'best-practice']})")
    faults = [
        (one["id"], [node["target"] for node in one["nodes"]])
        for one in found["violations"]
        if one["impact"] in SERIOUS
    ]
    assert faults == []


@pytest.fixture(scope="session")
def running_desk(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A gateway for reviewers."""
    with desk_of(stack, tmp_path_factory.mktemp("desk")) as made:
        yield made


@pytest.fixture
def desk(running_desk: Desk) -> Desk:
    """That gateway, with nothing waiting."""
    running_desk.empty()
    return running_desk


@pytest.fixture
def reviewer(chromium: Browser, desk: Desk) -> Iterator[Callable[..., Reviewer]]:
    """Seats a person at the review view; at the end no page has thrown, nor violated its Content-Security-Policy."""
    seated: list[Reviewer] = []

    def seat(name: str, **options: object) -> Reviewer:
        context = chromium.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})  # type: ignore[arg-type]
        seated.append(Reviewer(context, desk, name))
        return seated[-1]

    yield seat
    complaints = [complaint for one in seated for complaint in one.complaints]
    for one in seated:
        one.context.close()
    assert complaints == []
