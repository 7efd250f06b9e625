"""The state of the gateway in the console."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Page, expect

from tests.console.conftest import PATIENCE_MS, accessible
from tests.support.drawings import encoded, shape
from tests.support.review_console import Reviewer
from tests.support.waiting import until

pytestmark = pytest.mark.heavy


def test_what_runs_is_shown_and_refreshing_leaves_focus_and_scroll(page: Page) -> None:
    page.goto("/console#/status")
    expect(page.get_by_role("heading", name="Everything works")).to_be_visible()
    for heading in ("Latency by stage", "Model", "Errors", "Audit"):
        expect(page.get_by_role("heading", name=heading)).to_be_visible()
    accessible(page)
    refresh = page.get_by_role("button", name="Refresh")
    refresh.focus()
    page.evaluate("scrollTo(0, 200)")
    before = page.evaluate("scrollY")
    shown = page.locator(".view-head p").first.inner_text()
    expect(page.locator(".view-head p").first).not_to_have_text(shown)
    expect(refresh).to_be_focused()
    assert page.evaluate("scrollY") == before


def test_of_what_the_store_counts_it_says_that_nobody_knows_while_the_store_is_away(page: Page, console: str) -> None:
    status: dict[str, Any] = httpx2.get(f"{console}/v1/status").json()
    said = "Decisions are not being logged: the database takes no writes."
    lost = status | {
        "reviews": None,
        "webhooks": None,
        "jobs": None,
        "degraded": [said],
        "failing": ["inference"],
        "ready": False,
        "tritons": [
            {"address": "10.0.0.1:8001", "up": True, "reason": None},
            {"address": "10.0.0.2:8001", "up": False, "reason": "The model server does not answer"},
        ],
    }
    page.route("**/v1/status", lambda route: route.fulfill(json=lost))
    page.goto("/console#/status")
    expect(page.get_by_role("heading", name="Not ready")).to_be_visible()
    expect(page.get_by_text(said)).to_be_visible()
    expect(page.get_by_text("Look whether Triton runs")).to_be_visible()
    expect(page.get_by_text("not known")).to_have_count(3)
    expect(page.get_by_role("row", name="10.0.0.2:8001 not ready The model server does not answer")).to_be_visible()


def test_a_dead_event_of_the_webhook_is_tried_again(page: Page, console: str) -> None:
    with httpx2.Client(base_url=console, timeout=60) as client:
        answer = client.post("/v1/moderate", files={"file": ("a.png", encoded(shape("a green star")))})
        decision = answer.json()["results"][0]["decision_id"]
        assert client.post(f"/v1/decisions/{decision}/feedback", json={"decision": "block"}).status_code == 201

        def dead() -> list[dict[str, Any]]:
            rows = client.get("/v1/webhooks/deliveries?state=dead&limit=500").json()["data"]
            return [row for row in rows if row["decision_id"] == decision]

        until(lambda: len(dead()) == 1)
        page.goto("/console#/status")
        row = page.get_by_role("row").filter(has_text=decision[:8])
        with page.expect_response("**/retry") as answered:
            row.get_by_role("button", name="Retry").click()
        assert answered.value.status == 202
        expect(page.get_by_text("It is tried again.")).to_be_visible()


def test_a_session_is_revoked_and_its_page_asks_for_a_key(reviewer: Callable[..., Reviewer]) -> None:
    chief, ann = reviewer("chief"), reviewer("ann")
    ann.open()
    ann.see_text("The queue is empty")
    chief.sign_in()
    chief.page.goto(f"{chief.desk.url}/console#/status")
    chief.page.get_by_role("row").filter(has_text="ann").get_by_role("button", name="Revoke").first.click()
    chief.page.get_by_role("dialog", name="End this session?").get_by_role("button", name="Revoke").click()
    expect(chief.page.get_by_text("The session is ended.")).to_be_visible()
    ann.page.reload()
    expect(ann.page.get_by_role("heading", name="Sign in")).to_be_visible(timeout=PATIENCE_MS)
