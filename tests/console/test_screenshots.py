"""Every view at three widths in light and dark: nothing scrolls sideways, and axe finds nothing serious.

The pictures lie in ``reports/console/`` for people to look at.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from gateway.auth.api_keys import ApiKey, digest_of, entry_of, new_key
from tests.conftest import ROOT, Stack
from tests.console.conftest import PATIENCE_MS, accessible
from tests.support.filled_console import DRAWINGS, Filled, filled_gateway
from tests.support.gateway_processes import more_gateways

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]  # one fixture waits for a job

SCREENS = ((390, 844), (1280, 800), (2560, 1440))
THEMES = ("light", "dark")
INTO = ROOT / "reports" / "console"
# View → its address after “#/”, and what stands on it once it is whole.
VIEWS = {
    "try": ("try", ".answer .evidence img"),
    "review": ("review", ".still img"),
    "review-empty": ("review", "text=appear here by themselves"),
    "decisions": ("decisions", ".virtual-row"),
    "decision": ("decisions/{decision}", ".evidence img >> visible=true"),
    "agreement": ("decisions?show=agreement", ".chart-line"),
    "policies": ("policies", ".rule-line"),
    "policy": ("policies/default", ".histogram rect"),
    "versions": ("policies/default", ".diff-new"),
    "evaluate": ("evaluate", "role=cell[name=drawings]"),
    "evaluation": ("evaluate/{job}", "role=heading[name=Figures]"),
    "status": ("status", "role=heading[name=Replicas]"),
}


@pytest.fixture(scope="module")
def filled(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    """A gateway on which there is something to see."""
    with filled_gateway(stack, tmp_path_factory.mktemp("filled")) as made:
        yield made


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_fits_and_is_accessible(chromium: Browser, filled: Filled, name: str) -> None:
    view, ready = VIEWS[name]
    with chromium.new_context(base_url=filled.url) as context:
        context.set_default_timeout(PATIENCE_MS)
        context.add_init_script("window === top && localStorage.setItem('console.reviewer', 'ann')")
        if name == "review-empty":
            context.add_init_script("""localStorage.setItem("console.review.filters", '{"policy": "nobody"}')""")
        page = context.new_page()
        faults = heard(page)
        page.goto(f"/console#/{view.format(decision=filled.decision, job=filled.job)}")
        act(page, name)
        page.locator(ready).first.wait_for()
        shoot(page, name)
        assert faults == []


def test_signing_in_fits_and_is_accessible(
    chromium: Browser, stack: Stack, tmp_path_factory: pytest.TempPathFactory
) -> None:
    keys = entry_of(ApiKey("ann", digest_of(new_key()), frozenset({"review"}), None))
    folder = tmp_path_factory.mktemp("keyed")
    with (
        more_gateways(stack, 1, folder, GATEWAY_API_KEYS=keys) as (url,),
        chromium.new_context(base_url=url) as context,
    ):
        page = context.new_page()
        page.goto("/console")
        page.locator(".signin").wait_for()
        shoot(page, "sign-in")


def act(page: Page, name: str) -> None:
    """Do what a view needs before there is something to see."""
    if name == "try":
        pictures = [DRAWINGS / f"{one}.webp" for one in ("splatter-ink-2", "face-paper-1", "scrawl-crayon-2")]
        page.locator("input[type=file]").set_input_files(pictures)
        expect(page.locator("article.answer[aria-busy=false]")).to_have_count(len(pictures), timeout=PATIENCE_MS)
    elif name == "decision":
        page.get_by_role("button", name="Show picture").click()
    elif name == "policy":
        page.get_by_role("slider", name="gore: Block from").fill("0.9")
    elif name == "versions":
        page.get_by_role("button", name="Versions").click()


def heard(page: Page) -> list[str]:
    """Return where what a page throws, and its violations of the content policy, will be."""
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: faults.append(said.text) if "Content Security Policy" in said.text else None)
    return faults


def shoot(page: Page, name: str) -> None:
    """Look at a view at each width in each theme."""
    INTO.mkdir(parents=True, exist_ok=True)
    for width, height in SCREENS:
        page.set_viewport_size({"width": width, "height": height})
        for theme in THEMES:
            page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
            page.screenshot(path=INTO / f"{name}-{width}-{theme}.png", full_page=True, animations="disabled")
            assert page.evaluate("scrollTo(999, 0), scrollX") == 0, f"{name} scrolls sideways at {width} px"
            accessible(page)
