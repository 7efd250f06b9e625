"""The decision log in the console: search, detail, export, verdicts."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.console.conftest import accessible
from tests.support.drawings import encoded, shape

pytestmark = pytest.mark.heavy

HOSTILE = "<img src=x onerror=alert(1)>\"'{{7*7}}"
FORMULA = "=1+2"
DRAWING = "face-ink-1"  # where REVIEW_IMAGE_URL of these tests finds a picture


@pytest.fixture(scope="module")
def decided(console: str) -> dict[str, str]:
    """Ids of decisions by their external id; one was judged by a person with a hostile note."""
    found = {}
    with httpx2.Client(base_url=console, timeout=60) as client:
        for number, external_id in enumerate(["plain", HOSTILE, FORMULA, "forget-me", DRAWING]):
            picture = encoded(shape("a red circle", (200 + number, 200)))
            answer = client.post("/v1/moderate", files={"file": ("a.png", picture)}, data={"external_id": external_id})
            found[external_id] = answer.json()["results"][0]["decision_id"]
        verdict = {"decision": "block", "note": HOSTILE, "reviewer": HOSTILE, "categories": ["gore"]}
        assert client.post(f"/v1/decisions/{found[HOSTILE]}/feedback", json=verdict).status_code == 201
    return found


@pytest.mark.usefixtures("decided")
def test_filters_find_and_stand_in_the_address(page: Page) -> None:
    page.goto("/console#/decisions")
    expect(page.locator(".virtual-row").first).to_be_visible()
    page.get_by_label("External id").fill("plain")
    page.get_by_label("External id").press("Enter")
    expect(page.locator(".virtual-row")).to_have_count(1)
    assert "external_id=plain" in page.url
    page.reload()
    expect(page.locator(".virtual-row")).to_have_count(1)
    page.get_by_role("button", name="Clear filters").click()
    page.get_by_role("combobox", name="Reviewed").select_option("true")
    expect(page.locator(".virtual-row")).to_have_count(1)
    expect(page.locator(".virtual-row")).to_contain_text(HOSTILE)
    accessible(page)


def test_a_decision_is_shown_whole_and_as_text(page: Page, decided: dict[str, str]) -> None:
    page.goto(f"/console#/decisions/{decided[HOSTILE]}")
    expect(page.get_by_role("heading", level=1)).to_contain_text(HOSTILE)
    expect(page.locator("blockquote")).to_have_text(HOSTILE)
    expect(page.locator(".history strong")).to_have_text(HOSTILE)
    for heading in ("Scores and evidence", "Facts", "Verdicts"):
        expect(page.get_by_role("heading", name=heading)).to_be_visible()
    expect(page.get_by_role("link", name="default@1")).to_have_attribute("href", "#/policies/default?version=1")
    assert page.locator("img[src=x]").count() == 0
    accessible(page)


def test_the_same_filters_are_exported(page: Page, decided: dict[str, str]) -> None:
    page.goto(f"/console#/decisions?external_id={FORMULA.replace('+', '%2B').replace('=', '%3D')}")
    expect(page.locator(".virtual-row")).to_have_count(1)
    with page.expect_download() as started:
        page.get_by_role("link", name="CSV").click()
    rows = list(csv.DictReader(io.StringIO(Path(started.value.path()).read_text())))
    assert [row["external_id"] for row in rows] == ["'" + FORMULA]
    assert rows[0]["id"] == decided[FORMULA]


def test_a_verdict_is_given_and_an_id_forgotten_only_when_typed_and_not_held(
    page: Page, console: str, decided: dict[str, str]
) -> None:
    one = decided["forget-me"]
    page.goto(f"/console#/decisions/{one}")
    dialog = asked(page, "Give verdict")
    dialog.get_by_label("Block").check()
    dialog.get_by_label("Note").fill("seen")
    dialog.get_by_role("button", name="Keep verdict").click()
    expect(page.locator(".history")).to_contain_text("seen")
    assert httpx2.get(f"{console}/v1/decisions/{one}").json()["outcome"] == "block"
    dialog = asked(page, "Legal hold")
    dialog.get_by_label("Reason").fill("a court asks")
    dialog.get_by_role("button", name="Legal hold").click()
    expect(page.get_by_text("The legal hold is set.")).to_be_visible()
    dialog = asked(page, "Forget")
    expect(dialog.get_by_role("button", name="Forget")).to_be_disabled()
    dialog.get_by_label("Type the external id").fill("forget-me")
    dialog.get_by_role("button", name="Forget").click()
    expect(dialog.get_by_role("alert")).to_contain_text("hold")
    dialog.get_by_role("button", name="Close").click()
    dialog = asked(page, "Legal hold")
    expect(dialog).to_contain_text("a court asks")
    dialog.get_by_role("button", name="Release hold").click()
    dialog = asked(page, "Forget")
    dialog.get_by_label("Type the external id").fill("forget-me")
    dialog.get_by_role("button", name="Forget").click()
    page.wait_for_url("**/console#/decisions")
    assert httpx2.get(f"{console}/v1/decisions/{one}").status_code == 404


def test_an_appeal_opens_a_case_and_its_picture_is_veiled_until_asked_for(
    page: Page, console: str, decided: dict[str, str]
) -> None:
    one = decided[DRAWING]
    page.goto(f"/console#/decisions/{one}")
    dialog = asked(page, "Appeal")
    dialog.get_by_label("Note").fill("It is only a face.")
    dialog.get_by_role("button", name="Appeal").click()
    expect(page.locator(".history")).to_contain_text("It is only a face.")
    assert httpx2.get(f"{console}/v1/reviews/{one}").json()["reason"] == "appeal"
    page.reload()
    picture = page.get_by_role("img", name="Picture of face-ink-1")
    expect(picture).to_have_css("filter", re.compile("blur"))
    page.get_by_role("button", name="Show picture").click()
    expect(picture).to_have_css("filter", "none")


def asked(page: Page, name: str) -> Locator:
    """Open a dialog of the detail."""
    page.get_by_role("button", name=name, exact=True).first.click()
    return page.get_by_role("dialog", name=name)


@pytest.mark.usefixtures("decided")
def test_agreement_is_a_chart_and_a_table(page: Page) -> None:
    page.goto("/console#/decisions?show=agreement")
    expect(page.get_by_role("img", name="Decisions as stacked bars")).to_be_visible()
    expect(page.get_by_role("columnheader", name="Overturned")).to_be_visible()
    accessible(page)
