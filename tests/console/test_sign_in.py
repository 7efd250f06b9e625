"""Who uses the console: a key becomes a session, and a session shows what its roles may see."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.console.conftest import accessible
from tests.support.review_console import Desk, Reviewer

Seat = Callable[..., Reviewer]
pytestmark = pytest.mark.heavy


def signed_in_by_form(page: Page, key: str, name: str = "") -> None:
    """Fill the form in and send it."""
    page.get_by_label("API key").fill(key)
    page.get_by_label("Your name").fill(name)
    page.get_by_role("button", name="Sign in", exact=True).click()


def test_a_key_signs_in_renames_and_signs_out(desk: Desk, reviewer: Seat) -> None:
    ann = reviewer("ann")
    page = ann.page
    page.goto(f"{desk.url}/console/")
    heading = page.get_by_role("heading", name="Sign in")
    expect(heading).to_be_visible()
    signed_in_by_form(page, "clipmod_" + "0" * 43)
    expect(page.get_by_role("alert")).to_have_text("This key is not known.")
    accessible(page)
    signed_in_by_form(page, desk.keys["ann"], "Ann A.")
    expect(page.get_by_role("heading", name="Review", level=1)).to_be_visible()
    (cookie,) = ann.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    assert desk.keys["ann"] not in page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])")
    page.get_by_role("button", name="Account:").click()
    page.locator(".menu").get_by_label("Your name").fill("Ann B.")
    page.get_by_role("button", name="Save name").click()
    expect(page.locator(".account-name")).to_have_text("Ann B.")
    page.reload()
    expect(page.locator(".account-name")).to_have_text("Ann B.")
    page.get_by_role("button", name="Account:").click()
    page.get_by_role("button", name="Sign out").click()
    expect(heading).to_be_visible()
    ann.context.add_cookies([{"name": cookie["name"], "value": cookie["value"], "url": desk.url}])
    page.reload()
    expect(heading).to_be_visible()  # the session itself is over, not only the cookie


def test_the_role_review_alone_sees_its_own_views(desk: Desk, reviewer: Seat) -> None:
    page = reviewer("rita").page
    page.goto(f"{desk.url}/console/")
    signed_in_by_form(page, desk.keys["rita"])
    expect(page.get_by_role("heading", name="Review", level=1)).to_be_visible()
    expect(page.get_by_role("navigation").get_by_role("link")).to_have_text(["Review", "Status"])
    page.goto(f"{desk.url}/console/#/decisions")
    expect(page.locator("main")).to_have_text(re.compile("Your key has no role for this: it needs read"))
