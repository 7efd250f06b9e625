"""What a reviewer sees of a case: hidden until asked for, nothing that is withheld, and text as text."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.console.conftest import accessible
from tests.support.review_console import BAR, Desk, Reviewer, animation
from tests.support.waiting import until

Seat = Callable[..., Reviewer]
pytestmark = pytest.mark.heavy

HOSTILE = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
FILTER = "getComputedStyle(document.querySelector('.still img')).filter"


def test_a_picture_is_blurred_and_grey_until_it_is_asked_for(desk: Desk, reviewer: Seat) -> None:
    desk.fill(["hidden"])
    ann = reviewer("ann", reduced_motion="reduce")
    ann.open()
    ann.page.locator(".still img").wait_for()
    assert "blur" in ann.page.evaluate(FILTER)
    assert "grayscale" in ann.page.evaluate(FILTER)
    for key in ("v", "Space"):
        ann.page.locator("#review-case").focus()
        ann.page.keyboard.down(key)
        expect(ann.page.locator(".still.is-open")).to_have_count(1)
        assert ann.page.evaluate(FILTER) == "none"
        ann.page.keyboard.up(key)
        expect(ann.page.locator(".still.is-open")).to_have_count(0)
    assert ann.page.locator(".still rect").count() > 0, "evidence is drawn where it was seen"
    ann.page.get_by_role("button", name="Settings").click()
    ann.page.get_by_label("Blur pictures until I ask").uncheck()
    ann.press("Escape")
    assert "blur(0px)" in ann.page.evaluate(FILTER)
    ann.page.reload()
    ann.page.locator(".still img").wait_for()
    assert "blur(0px)" in ann.page.evaluate(FILTER), "each reviewer's own setting is kept"


def test_each_view_is_one_row_of_the_audit(desk: Desk, reviewer: Seat) -> None:
    (case_id,) = desk.fill(["seen"])
    ann = reviewer("ann")
    ann.open()
    ann.page.locator(".still img").wait_for()
    rows = [row for row in desk.ask("GET", "/v1/audit?limit=100")["data"] if row["action"] == "view"]
    assert [row["name"] for row in rows if row["name"] == case_id] == [case_id]


def test_an_animation_is_stills_that_arrow_keys_step_through(desk: Desk, reviewer: Seat) -> None:
    desk.fill(["moving"], animation())
    ann = reviewer("ann")
    ann.open()
    ann.see_text("Still 1 of 3")
    first = ann.page.locator(".still img").get_attribute("src")
    ann.press("ArrowRight")
    ann.see_text("Still 2 of 3")
    expect(ann.page.locator(".still img")).not_to_have_attribute("src", str(first))
    ann.press("ArrowLeft")
    expect(ann.page.locator(".still img")).to_have_attribute("src", str(first))


def test_an_appeal_shows_what_was_said_before_first(desk: Desk, reviewer: Seat) -> None:
    (case_id,) = desk.fill(["appealed"])
    desk.ask(
        "POST", f"/v1/decisions/{case_id}/feedback", {"decision": "block", "note": "looks bad", "reviewer": "cleo"}
    )
    desk.ask("POST", f"/v1/reviews/{case_id}/appeal", {"note": "It is my own drawing.", "by": "customer 7"})
    ann = reviewer("ann")
    ann.open()
    ann.see("appealed")
    history = ann.page.locator(".case-facts section").first
    for text in ("looks bad", "cleo", "It is my own drawing.", "customer 7"):
        expect(history).to_contain_text(text)
    ann.press("a")
    ann.see_text("The queue is empty")
    until(lambda: len(desk.verdicts(case_id)) == 3, "the verdict did not arrive", 60)
    assert desk.verdicts(case_id)[1:] == [("appeal", None), ("verdict", "allow")]


def test_withheld_shows_the_procedure_and_nothing_else(desk: Desk, reviewer: Seat) -> None:
    (case_id,) = desk.fill(["illegal"])
    desk.ask("PUT", "/v1/lists/known", {"action": "block", "kind": "sha256", "withhold": True})
    sha256 = desk.decision(case_id)["image"]["sha256"]
    desk.ask("POST", "/v1/lists/known/entries", {"entries": [sha256]})
    try:
        ann = reviewer("ann")
        asked: list[str] = []
        ann.page.on("request", lambda request: asked.append(request.url))
        ann.open()
        ann.see_text("This picture is withheld")
        ann.see_text("Call the duty officer.")
        ann.press("v")
        assert ann.page.locator(".still img, .still rect").count() == 0
        assert not any("/v1/" in url and url.split("?")[0].endswith(("/image", "/similar")) for url in asked)
    finally:
        desk.ask("DELETE", "/v1/lists/known")


def test_a_picture_that_is_gone_leaves_the_rest(desk: Desk, reviewer: Seat) -> None:
    (case_id,) = desk.fill(["vanished"])
    for file in (desk.folder / "review-images").rglob("*"):
        if file.is_file():
            file.unlink()
    ann = reviewer("ann")
    ann.open()
    ann.see_text("The picture is gone")
    ann.press("b")
    ann.see_text("The queue is empty")
    until(lambda: desk.verdicts(case_id) == [("verdict", "block")], "the verdict did not arrive", 60)


def test_hostile_texts_are_text(desk: Desk, reviewer: Seat) -> None:
    label = HOSTILE[:60]
    labels = [{"label": label, "prompts": ["a red circle"]}]
    desk.ask("PUT", "/v1/classifiers/hostile", {"mode": "independent", "labels": labels})
    rule = {"category": "marked", "classifier": "hostile", "labels": [label], "review_at": 0.0}
    desk.ask("PUT", "/v1/policies/hostile", {"rules": [rule], "views": "full"})
    (case_id,) = desk.fill([HOSTILE], policy="hostile")
    desk.ask("POST", f"/v1/reviews/{case_id}/appeal", {"note": HOSTILE, "by": "<i>mallory</i>"})
    ann = reviewer("ann")
    ann.open()
    ann.see(HOSTILE)
    ann.see_text("<i>mallory</i>")
    ann.see_text(label)
    assert ann.page.locator("main img:not(.still img), main script, main i:not([class])").count() == 0
    assert ann.page.evaluate("window.hacked") is None


def test_axe_finds_nothing_serious(desk: Desk, reviewer: Seat) -> None:
    (case_id, _) = desk.fill(["axe", "next"])
    desk.ask("POST", f"/v1/reviews/{case_id}/appeal", {"note": "Look again.", "by": "somebody"})
    ann = reviewer("ann", reduced_motion="reduce")
    ann.open()
    ann.page.locator(".still img").wait_for()
    for scheme in ("light", "dark"):
        ann.page.emulate_media(color_scheme=scheme)
        accessible(ann.page)
    ann.page.set_viewport_size({"width": 390, "height": 844})
    accessible(ann.page)


def test_the_buttons_stay_where_they_are(desk: Desk, reviewer: Seat) -> None:
    desk.fill(["still one"])
    desk.fill(["moving one"], animation())
    desk.fill(["x" * 120])
    ann = reviewer("ann")
    ann.open()
    places = []
    for _ in range(3):
        ann.page.locator(".still img").wait_for()
        places.append((ann.page.locator(f"{BAR} .block").bounding_box(), ann.page.locator(".still").bounding_box()))
        name = ann.case
        if len(places) < 3:
            ann.press("b")
            ann.see_another(name)
    assert places[0] == places[1] == places[2]
