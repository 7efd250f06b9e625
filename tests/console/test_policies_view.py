"""Policies in the console: a threshold moved, previewed, saved, rolled back; and nobody's work overwritten."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Page, expect

from tests.console.conftest import accessible
from tests.support.drawings import encoded, shape

pytestmark = pytest.mark.heavy

HOSTILE = "<b onmouseover=alert(1)>hi</b>"
PICTURE = encoded(shape("a blue square"))


@pytest.fixture
def client(console: str) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=console, timeout=60) as made:
        yield made


@pytest.fixture
def policy(client: httpx2.Client, request: pytest.FixtureRequest) -> str:
    """A policy that blocks a blue square, and one decision of it in the log."""
    name: str = request.node.name.replace("test_", "").replace("_", "-")[:40]
    labels = [{"label": "a blue square"}, {"label": "a red circle"}]
    assert client.put("/v1/classifiers/squares", json={"labels": labels}).is_success
    rule = {"category": "squares", "classifier": "squares", "labels": ["a blue square"]}
    body = {"rules": [{**rule, "review_at": 0.3, "block_at": 0.5}], "views": "full", "description": HOSTILE}
    assert client.put(f"/v1/policies/{name}", json=body).status_code == 201
    assert decision(client, name) == "block"
    return name


def decision(client: httpx2.Client, policy: str) -> str:
    """What a policy decides about the picture."""
    answer = client.post("/v1/moderate", files={"file": ("a.png", PICTURE)}, data={"policy": policy})
    return str(answer.json()["results"][0]["decision"])


def never_block(page: Page) -> None:
    """Switch off both thresholds' reach: review and block from 1 on."""
    for name in ("Review from", "Block from"):
        field = page.get_by_role("spinbutton", name=f"squares: {name}")
        field.fill("1")
        field.press("Tab")


def test_a_threshold_is_moved_previewed_saved_and_rolled_back(page: Page, client: httpx2.Client, policy: str) -> None:
    page.goto(f"/console#/policies/{policy}")
    expect(page.get_by_text("Nothing would change")).to_be_visible()
    slider = page.get_by_role("slider", name="squares: Block from")
    slider.focus()
    slider.press("End")
    expect(page.locator("tr[data-decision=block] td").nth(1)).to_have_text("0")
    expect(page.get_by_text("1 would change")).to_be_visible()
    accessible(page)
    assert decision(client, policy) == "block"
    never_block(page)
    page.get_by_role("button", name="Put in force").click()
    expect(page.get_by_text("Version 2 in force")).to_be_visible()
    assert decision(client, policy) == "allow"

    page.get_by_role("button", name="Versions").click()
    expect(page.locator(".diff-new")).not_to_have_count(0)
    page.get_by_role("button", name="Version 1").click()
    page.get_by_role("button", name="Roll back to it").click()
    page.get_by_role("dialog").get_by_role("button", name="Put in force").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Version 1 in force")
    assert decision(client, policy) == "block"
    accessible(page)


def test_a_draft_is_tried_on_pictures_and_does_not_decide(page: Page, client: httpx2.Client, policy: str) -> None:
    page.goto(f"/console#/policies/{policy}")
    never_block(page)
    dropped = page.get_by_role("region", name="Try on pictures")
    dropped.locator("input[type=file]").set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": PICTURE})
    expect(dropped.get_by_text("1 would change")).to_be_visible()
    expect(dropped.locator("tr[data-decision=allow] strong")).to_have_text("1")
    page.get_by_role("button", name="Save draft").click()
    expect(page.get_by_text("Not in force")).to_be_visible()
    assert decision(client, policy) == "block"
    assert [one["version"] for one in client.get(f"/v1/policies/{policy}/versions").json()["data"]] in ([1, 2], [2, 1])


def test_what_somebody_saved_meanwhile_is_not_overwritten(page: Page, client: httpx2.Client, policy: str) -> None:
    page.goto(f"/console#/policies/{policy}")
    never_block(page)
    theirs = client.get(f"/v1/policies/{policy}").json()
    theirs["rules"][0]["block_at"] = 0.45
    client.put(f"/v1/policies/{policy}", json={key: theirs[key] for key in ("rules", "views")})
    page.get_by_role("button", name="Put in force").click()
    dialog = page.get_by_role("dialog", name="Somebody saved meanwhile")
    expect(dialog.locator(".diff-gone").filter(has_text="0.45")).to_be_visible()
    assert client.get(f"/v1/policies/{policy}").json()["rules"][0]["block_at"] == 0.45
    dialog.get_by_role("button", name="Save mine over it").click()
    expect(page.get_by_text("Version 3 in force")).to_be_visible()
    assert client.get(f"/v1/policies/{policy}").json()["rules"][0]["block_at"] == 1


def test_yaml_and_form_are_one_body_and_faults_stand_at_their_field(page: Page, policy: str) -> None:
    page.goto(f"/console#/policies/{policy}")
    page.get_by_role("button", name="YAML").click()
    field = page.get_by_label("The same as YAML")
    field.fill(field.input_value().replace("block_at: 0.5", "block_at: 0.2"))
    page.get_by_role("button", name="Form", exact=True).click()
    expect(page.get_by_role("spinbutton", name="squares: Block from")).to_have_value("0.2")
    expect(page.get_by_text("review_at must not be above block_at")).to_be_visible()
    expect(page.get_by_role("button", name="Put in force")).to_be_disabled()
    expect(page.get_by_label("Description")).to_have_value(HOSTILE)


def test_unsaved_changes_are_asked_about(page: Page, policy: str) -> None:
    page.goto(f"/console#/policies/{policy}")
    never_block(page)
    page.get_by_role("link", name="Status").click()
    dialog = page.get_by_role("dialog", name="Leave without saving?")
    expect(dialog).to_be_visible()
    dialog.get_by_role("button", name="Stay").click()
    expect(page.get_by_role("spinbutton", name="squares: Block from")).to_have_value("1")
    page.get_by_role("link", name="Status").click()
    dialog.get_by_role("button", name="Leave").click()
    page.wait_for_url("**/console#/status")


def test_a_classifier_in_use_is_not_deleted(page: Page, client: httpx2.Client, policy: str) -> None:
    page.goto("/console#/policies/classifiers/squares")
    page.get_by_role("button", name="Delete").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Delete").click()
    expect(dialog.get_by_role("alert")).to_contain_text(policy)
    assert client.get("/v1/classifiers/squares").status_code == 200


def test_a_shadow_is_set_and_ended(page: Page, client: httpx2.Client, policy: str) -> None:
    page.goto(f"/console#/policies/{policy}")
    page.get_by_role("button", name="Rollout").click()
    page.get_by_label("Shadow").fill("default")
    page.get_by_role("button", name="Set rollout").click()
    expect(page.get_by_role("button", name="End rollout")).to_be_visible()
    found: dict[str, Any] = client.get(f"/v1/policies/{policy}/rollout").json()
    assert found["shadow"] == "default"
    page.get_by_role("button", name="End rollout").click()
    expect(page.get_by_text("The active version decides alone.").first).to_be_visible()
    assert client.get(f"/v1/policies/{policy}/rollout").status_code == 404
