"""The state of the gateway in the console."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.console.conftest import accessible

pytestmark = pytest.mark.heavy


def test_what_runs_is_shown_and_read_without_a_pointer(page: Page) -> None:
    page.goto("/console#/status")
    expect(page.get_by_role("heading", name="Everything works")).to_be_visible()
    for heading in ("Latency by stage", "Model", "Errors", "Audit"):
        expect(page.get_by_role("heading", name=heading)).to_be_visible()
    accessible(page)


def test_refreshing_leaves_focus_and_scroll(page: Page) -> None:
    page.goto("/console#/status")
    button = page.get_by_role("button", name="Refresh")
    button.focus()
    page.mouse.wheel(0, 200)
    page.wait_for_timeout(300)
    before = page.evaluate("scrollY")
    with page.expect_response("**/v1/status"):
        pass
    page.wait_for_timeout(300)
    expect(button).to_be_focused()
    assert page.evaluate("scrollY") == before
