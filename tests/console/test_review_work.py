"""The hands of reviewers: nobody shares a case, the keyboard is enough, and no verdict is lost or given twice."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from playwright.sync_api import Route, expect

from tests.support.review_console import BAR, PATIENCE_MS, Desk, Reviewer, drawing
from tests.support.waiting import UNTIL_S, until

Seat = Callable[..., Reviewer]
pytestmark = pytest.mark.heavy


def test_fifty_cases_by_keyboard_alone(desk: Desk, reviewer: Seat) -> None:
    names = [f"post-{number:02}" for number in range(50)]
    ids = desk.fill(names)
    ann = reviewer("ann")
    ann.open()
    seen = []
    for number in range(50):
        name = ann.case
        seen.append(name)
        ann.press("b" if number % 2 else "a")
        if number < 49:
            ann.see_another(name)
    ann.see_text("The queue is empty")
    until(lambda: all_told(desk, ids[-3:]) == 3, "the last verdicts did not arrive", 60)
    assert sorted(seen) == names
    decided = {name: "block" if number % 2 else "allow" for number, name in enumerate(seen)}
    for case_id, name in zip(ids, names, strict=True):
        assert desk.verdicts(case_id) == [("verdict", decided[name])], name
        assert desk.decision(case_id)["feedback"][0]["reviewer"] == "ann"


def test_two_reviewers_never_share_a_case(desk: Desk, reviewer: Seat) -> None:
    names = [f"shared-{number:02}" for number in range(10)]
    ids = desk.fill(names)
    ann, ben = reviewer("ann"), reviewer("ben")
    ann.open()
    ben.open()
    seen: dict[str, list[str]] = {"ann": [], "ben": []}
    for _ in range(4):
        for person in (ann, ben):
            name = person.case
            seen[person.name].append(name)
            person.press("a" if person is ann else "b")
            person.see_another(name)
    until(lambda: all_told(desk, ids) == 8, "not all verdicts arrived", 60)
    assert len({*seen["ann"], *seen["ben"]}) == 8
    said = {name: desk.verdicts(case_id) for case_id, name in zip(ids, names, strict=True)}
    assert all(said[name] == [("verdict", "allow")] for name in seen["ann"])
    assert all(said[name] == [("verdict", "block")] for name in seen["ben"])


def all_told(desk: Desk, ids: list[str]) -> int:
    return sum(len(desk.verdicts(case_id)) for case_id in ids)


def test_categories_reason_and_note_reach_the_log(desk: Desk, reviewer: Seat) -> None:
    (case_id,) = desk.fill(["noted"])
    ann = reviewer("ann")
    ann.open()
    ann.see("noted")
    chips = ann.page.locator(f"{BAR} .chip")
    first = chips.first.locator("span").inner_text()
    before = chips.first.get_attribute("aria-pressed")
    ann.press("1")
    expect(chips.first).not_to_have_attribute("aria-pressed", str(before))
    ann.press("n")
    ann.page.keyboard.type("a note with b and s in it")
    ann.press("Escape")
    ann.page.get_by_label("Reason").fill("Art or education")
    ann.press("Escape", "b")
    ann.see_text("The queue is empty")
    until(lambda: all_told(desk, [case_id]) == 1, "the verdict did not arrive", 60)
    (said,) = desk.decision(case_id)["feedback"]
    assert (said["decision"], said["note"], said["reason"]) == (
        "block",
        "a note with b and s in it",
        "Art or education",
    )
    assert first not in said["categories"]
    assert len(said["categories"]) == 3


def test_undo_brings_the_case_and_what_was_written_back(desk: Desk, reviewer: Seat) -> None:
    first, _ = desk.fill(["one", "two"])
    ann = reviewer("ann")
    ann.open()
    ann.see("one")
    ann.press("n")
    ann.page.keyboard.type("hasty")
    ann.press("Escape", "b")
    ann.see("two")
    ann.press("u")
    ann.see("one")
    expect(ann.page.locator("#review-note")).to_have_value("hasty")
    assert desk.decision(first)["outcome"] == "review"
    ann.press("a")
    ann.see("two")
    until(lambda: desk.decision(first)["outcome"] == "allow", "the second verdict did not arrive", 60)
    assert desk.verdicts(first) == [("verdict", "block"), ("undo", None), ("verdict", "allow")]


def test_skip_leaves_the_case_to_others(desk: Desk, reviewer: Seat) -> None:
    (case_id,) = desk.fill(["hard"])
    ann = reviewer("ann")
    ann.open()
    ann.see("hard")
    ann.press("s")
    ann.see_text("The queue is empty")
    ben = reviewer("ben")
    ben.open()
    ben.see("hard")
    assert desk.verdicts(case_id) == []


def test_a_second_opinion_goes_to_somebody_else(desk: Desk, reviewer: Seat) -> None:
    (case_id,) = desk.fill(["doubt"])
    ann = reviewer("ann")
    ann.open()
    ann.see("doubt")
    ann.press("o", "b")
    ann.see_text("The queue is empty")
    ben = reviewer("ben")
    ben.open()
    ben.see("doubt")
    expect(ben.page.locator(".case-facts section").first).to_contain_text("ann")
    ben.press("a")
    ben.see_text("The queue is empty")
    until(lambda: len(desk.verdicts(case_id)) == 2, "the second verdict did not arrive", 60)
    assert desk.verdicts(case_id) == [("verdict", "block"), ("verdict", "allow")]
    assert desk.decision(case_id)["outcome"] == "allow"


def test_a_lost_connection_keeps_verdicts_and_sends_them_once(desk: Desk, reviewer: Seat) -> None:
    ids = desk.fill(["first", "second", "third"])
    ann = reviewer("ann")
    ann.open()
    ann.see("first")
    expect(ann.page.locator(".session")).to_contain_text("You hold 2")
    ann.context.set_offline(True)
    ann.press("n")
    ann.page.keyboard.type("written offline")
    ann.press("Escape", "b")
    ann.see("second")
    ann.see_text("Not sent yet: 1")
    ann.press("a")
    ann.see_text("The connection to the gateway is lost")
    assert all_told(desk, ids) == 0
    ann.context.set_offline(False)
    until(lambda: all_told(desk, ids) == 2, "the verdicts did not arrive", 60)
    ann.see("third")
    assert [desk.verdicts(case_id) for case_id in ids] == [[("verdict", "block")], [("verdict", "allow")], []]
    assert desk.decision(ids[0])["feedback"][0]["note"] == "written offline"


def test_an_answer_that_is_lost_makes_no_second_verdict(desk: Desk, reviewer: Seat) -> None:
    (case_id,) = desk.fill(["cut"])
    ann = reviewer("ann")
    ann.open()
    ann.see("cut")
    cut: list[int] = []

    def lose(route: Route) -> None:
        if len(cut) < 2:
            cut.append(route.fetch().status)  # the gateway keeps it, and the page does not hear of it
            route.abort()
        else:
            route.continue_()

    ann.page.route("**/verdict", lose)
    ann.press("b")
    end = time.monotonic() + UNTIL_S
    while len(cut) < 2 and time.monotonic() < end:
        ann.page.wait_for_timeout(100)  # the route is handled meanwhile
    expect(ann.page.locator(".sending")).to_have_count(0, timeout=PATIENCE_MS)
    assert cut == [201, 201]
    assert desk.verdicts(case_id) == [("verdict", "block")]


def test_a_reload_sends_what_was_not_sent(desk: Desk, reviewer: Seat) -> None:
    (case_id,) = desk.fill(["reload"])
    ann = reviewer("ann")
    ann.open()
    ann.see("reload")
    ann.page.route("**/verdict", lambda route: route.abort())
    ann.press("b")
    ann.see_text("Not sent yet: 1")
    ann.page.unroute_all()
    ann.page.on("dialog", lambda dialog: dialog.accept())
    ann.page.reload()
    until(lambda: desk.verdicts(case_id) == [("verdict", "block")], "the verdict did not arrive", 60)


def test_a_case_that_another_decided_is_told_and_left(desk: Desk, reviewer: Seat) -> None:
    taken, _ = desk.fill(["taken", "free"])
    ann = reviewer("ann")
    ann.open()
    ann.see("taken")
    desk.ask("POST", f"/v1/decisions/{taken}/feedback", {"decision": "allow"})
    ann.press("n")
    ann.page.keyboard.type("my words")
    ann.press("Escape", "b")
    ann.see("free")
    ann.see_text("Not taken: taken")
    expect(ann.page.locator(".sending")).to_contain_text("my words")
    assert desk.verdicts(taken) == [("verdict", "allow")]


def test_leaving_gives_cases_back(desk: Desk, reviewer: Seat) -> None:
    desk.fill(["left"])
    ann = reviewer("ann")
    ann.open()
    ann.see("left")
    ann.page.goto("about:blank")
    ben = reviewer("ben")
    ben.open()
    ben.see("left")


def test_a_session_that_ends_keeps_the_note(desk: Desk, reviewer: Seat) -> None:
    (case_id,) = desk.fill(["long"])
    ann = reviewer("ann")
    ann.open()
    ann.see("long")
    ann.press("n")
    ann.page.keyboard.type("long thoughts")
    ann.press("Escape")
    ann.context.clear_cookies()
    ann.press("b")
    expect(ann.page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert desk.verdicts(case_id) == []
    ann.open()
    until(lambda: desk.verdicts(case_id) == [("verdict", "block")], "the verdict did not arrive", 60)
    assert desk.decision(case_id)["feedback"][0]["note"] == "long thoughts"


def test_a_picture_is_put_on_a_list_with_the_verdict_and_taken_off_by_undo(desk: Desk, reviewer: Seat) -> None:
    picture = drawing(4000)
    (first,) = desk.fill(["listed"], picture)
    chief = reviewer("chief")
    chief.open()
    chief.see("listed")
    chief.press("l")
    expect(chief.page.get_by_role("button", name="Add to list")).to_have_attribute("aria-pressed", "true")
    chief.press("b")
    until(lambda: desk.decision(first)["outcome"] == "block", "the verdict did not arrive", 60)
    (again,) = desk.fill(["the same file"], picture)
    assert desk.decision(again)["decision"] == "block"
    chief.press("u")
    chief.see("listed")
    (again,) = desk.fill(["the same file"], picture)
    assert desk.decision(again)["decision"] == "review"


def test_filters_choose_what_comes_next(desk: Desk, reviewer: Seat) -> None:
    desk.fill(["on the screen", "of the chief"])
    desk.fill(["of the client"], who="client")
    ann = reviewer("ann")
    ann.open()
    ann.see("on the screen")
    ann.page.locator(".queue-filters summary").click()
    ann.page.get_by_label("API key").fill("client")
    ann.page.get_by_role("button", name="Apply").click()
    expect(ann.page.locator(".queue-filters summary")).to_have_text("Filters (1)")
    ann.see("on the screen")
    ann.press("a")
    ann.see("of the client")
    ann.press("a")
    ann.see_text("No case fits your filters")
    ann.page.locator(".queue-filters summary").click()
    ann.page.get_by_role("button", name="Clear").click()
    ann.see("of the chief")


def test_a_break_is_due_after_the_minutes_that_a_reviewer_set(desk: Desk, reviewer: Seat) -> None:
    desk.fill(["before the break"])
    ann = reviewer("ann")
    ann.page.clock.install()
    ann.open()
    ann.see("before the break")
    ann.page.get_by_role("button", name="Settings").click()
    ann.page.get_by_label("Remind me of a break after").fill("5")
    ann.press("Tab", "Escape")
    ann.page.clock.run_for("05:05")
    expect(ann.page.get_by_role("heading", name="Time for a break")).to_be_visible()
    ann.page.get_by_role("button", name="Take a break").click()
    ann.see_text("your cases went back to the queue")
    until(lambda: desk.ask("GET", "/v1/reviews")["counts"]["claimed"] == 0, "the case was not given back", 60)
    ann.page.get_by_role("button", name="Go on").click()
    ann.see("before the break")
