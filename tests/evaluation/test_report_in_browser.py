"""The report in Chromium: nothing to scroll sideways, nothing in the console, thumbnails blurred until asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from gateway.evaluation.report import ReportOptions, write_report
from tests.support.browser import Page, browser
from tests.support.judged_sets import image, made_set

WIDTHS = (390, 1400)
LONG = "x" * 300

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    shown = folder / "missed.png"
    Image.new("RGB", (300, 200), "red").save(shown)
    rows = [
        image(500, ["gore"], {"gore": 0.01, "nudity": 0.0}, source=str(shown)),
        image(501, ["gore"], {"gore": 0.01, "nudity": 0.0}, source=LONG, slices={"hand": LONG}),
    ]
    judged = made_set(150)
    judged = replace(
        judged, images=(*judged.images, *rows), failed=(replace(rows[1], sha256=None, error="image_corrupt"),)
    )
    write_report(judged, folder, ReportOptions(traffic_per_day=1000, price_per_hour=1.0, thumbnails=True))
    return folder / "report.html"


def opened(page: Page, address: str, width: int, scheme: str) -> None:
    page.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    page.send("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
    page.send(
        "Page.addScriptToEvaluateOnNewDocument",
        source="window.wrong = []; for (const kind of ['error', 'securitypolicyviolation'])"
        " addEventListener(kind, event => wrong.push(`${kind} ${event.message || event.violatedDirective}`), true)",
    )
    page.open(address)


def test_the_page_fits_and_is_quiet(page_file: Path, tmp_path: Path) -> None:
    with browser(tmp_path) as page:
        page.send("Page.enable")
        for scheme in ("light", "dark"):
            for width in WIDTHS:
                opened(page, f"{page_file.as_uri()}?{scheme}{width}", width, scheme)
                assert page.run("document.documentElement.scrollWidth <= innerWidth"), (scheme, width)
                assert page.run("wrong") == []
                assert (
                    page.run("performance.getEntriesByType('resource').filter(e => !e.name.startsWith('data:')).length")
                    == 0
                )
                ink, card = page.run(
                    "['color', 'backgroundColor'].map(name => getComputedStyle(document.querySelector('.card'))[name])"
                )
                assert ink != card
                tick = page.run("getComputedStyle(document.querySelector('figure svg text')).fill")
                assert tick not in {card, "rgb(0, 0, 0)"}, "the figure follows the page's colors"


def test_a_thumbnail_is_blurred_until_the_space_bar(page_file: Path, tmp_path: Path) -> None:
    filtered = "getComputedStyle(document.querySelector('.mistakes img')).filter"
    with browser(tmp_path) as page:
        page.send("Page.enable")
        opened(page, page_file.as_uri(), WIDTHS[0], "light")
        assert "blur" in page.run(filtered)
        page.run("document.querySelector('.mistakes input').focus()")
        for kind in ("keyDown", "keyUp"):
            page.send("Input.dispatchKeyEvent", type=kind, key=" ", code="Space", text=" ", windowsVirtualKeyCode=32)
        assert page.run(filtered) == "none"


def test_it_prints(page_file: Path, tmp_path: Path) -> None:
    with browser(tmp_path) as page:
        page.send("Page.enable")
        opened(page, page_file.as_uri(), WIDTHS[1], "dark")
        page.send("Emulation.setEmulatedMedia", media="print")
        assert page.run("getComputedStyle(document.querySelector('.card')).backgroundColor") == "rgb(255, 255, 255)"
        assert page.run("getComputedStyle(document.querySelector('nav')).display") == "none"
        assert len(page.send("Page.printToPDF")["data"]) > 10_000
