"""Try, the account menu and the tour."""

from __future__ import annotations

import base64
import json
import re

import httpx2
import pytest
from playwright.sync_api import FilePayload, Page, expect

from tests.conftest import ROOT
from tests.console.conftest import accessible

pytestmark = pytest.mark.heavy

DRAWINGS = ROOT / "gateway" / "console" / "demo"
HOSTILE = "<img src=x onerror=alert(1)>\"';.webp"
ANSWERED_MS = 60_000


def drawing(name: str, as_name: str = "") -> FilePayload:
    """Return one of the tour's drawings, as a file that is chosen."""
    return {
        "name": as_name or f"{name}.webp",
        "mimeType": "image/webp",
        "buffer": (DRAWINGS / f"{name}.webp").read_bytes(),
    }


def opened(page: Page) -> None:
    """Open Try."""
    page.goto("/console#/try")
    expect(page.get_by_role("heading", name="Try", level=1)).to_be_visible()


def test_each_picture_is_answered_or_fails_alone_and_names_are_text(page: Page) -> None:
    opened(page)
    broken: FilePayload = {"name": "broken.heic", "mimeType": "image/heic", "buffer": b"no picture"}
    page.set_input_files("input[type=file]", [drawing("splatter-paper-1", HOSTILE), broken, drawing("face-crayon-1")])
    answers = page.locator("article.answer")
    expect(page.locator("article.answer[aria-busy=false]")).to_have_count(3, timeout=ANSWERED_MS)
    expect(answers.nth(0).get_by_role("heading", name=HOSTILE)).to_be_visible()
    expect(answers.nth(0).locator("header")).to_contain_text("Block")
    assert answers.nth(0).locator("svg rect").count() >= 1
    expect(answers.nth(0).locator("svg image")).to_have_attribute("href", re.compile("^data:image/png"))
    expect(answers.nth(1).get_by_role("alert")).to_be_visible()
    expect(answers.nth(2).locator("header")).to_contain_text("Allow")
    accessible(page)


def test_labels_typed_freely_are_scored_and_stay_text(page: Page) -> None:
    opened(page)
    page.get_by_role("button", name="Labels").click()
    page.locator(".question textarea").fill("a face\n<b onclick=alert(1)>splatter of blood</b>")
    page.set_input_files("input[type=file]", [drawing("face-crayon-1")])
    expect(page.locator("article.answer[aria-busy=false]")).to_have_count(1, timeout=ANSWERED_MS)
    scores = page.locator("article.answer .score")
    expect(scores).to_have_count(2)
    expect(page.locator("article.answer")).to_contain_text("<b onclick=alert(1)>")


def test_the_call_to_copy_names_this_gateway_and_holds_no_key(page: Page, console: str) -> None:
    opened(page)
    page.get_by_text("The same call as code").click()
    for language in ("curl", "Python", "JavaScript"):
        page.get_by_role("button", name=language, exact=True).click()
        call = page.locator(".snippets pre")
        expect(call).to_contain_text(f"{console}/v1/moderate")
        expect(call).to_contain_text("CLIP_API_KEY")


def test_the_colors_stay_as_they_were_chosen(page: Page) -> None:
    opened(page)
    for theme in ("Dark", "Light"):
        page.get_by_role("button", name="Account:").click()
        page.get_by_role("button", name=theme, exact=True).click()
        page.reload()
        expect(page.locator("html")).to_have_attribute("data-theme", theme.lower())
        accessible(page)


def test_a_lost_connection_is_told_and_found_again(page: Page) -> None:
    opened(page)
    page.context.set_offline(True)
    page.set_input_files("input[type=file]", [drawing("face-crayon-1")])
    expect(page.locator(".banner")).to_be_visible()
    page.context.set_offline(False)
    expect(page.locator(".banner")).to_have_count(0)


def test_a_second_policy_and_a_classifier_answer_too(page: Page) -> None:
    opened(page)
    page.get_by_label("Second policy").select_option("default")
    page.set_input_files("input[type=file]", [drawing("splatter-paper-1")])
    answer = page.locator("article.answer[aria-busy=false]")
    expect(answer.locator(".shadow-policy")).to_contain_text("default@1 would say", timeout=ANSWERED_MS)
    expect(answer.locator(".shadow-policy h3")).to_contain_text("Block")
    page.get_by_role("button", name="Classifier", exact=True).click()
    page.get_by_role("button", name="Ask again").click()
    expect(answer.locator(".shadow-policy")).to_have_count(0)
    expect(answer.locator(".score").nth(1)).to_be_visible(timeout=ANSWERED_MS)
    expect(answer.locator("header .badge")).to_have_count(0)


HANDED = """([type, base64]) => {
    const bytes = Uint8Array.from(atob(base64), (one) => one.charCodeAt(0));
    const data = new DataTransfer();
    data.items.add(new File([bytes], `${type}.webp`, { type: "image/webp" }));
    const event = type === "paste"
        ? new ClipboardEvent(type, { clipboardData: data, bubbles: true })
        : new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true });
    document.querySelector(".drop-zone").dispatchEvent(event);
}"""


def test_pictures_come_by_paste_by_drop_and_by_link(page: Page, console: str) -> None:
    opened(page)
    content = base64.b64encode((DRAWINGS / "splatter-paper-1.webp").read_bytes()).decode()
    for kind in ("paste", "drop"):
        page.evaluate(HANDED, [kind, content])
    page.get_by_label("Address of a picture").fill(f"{console}/console/demo/face-crayon-1.webp")
    page.get_by_role("button", name="Add", exact=True).click()
    answers = page.locator("article.answer[aria-busy=false]")
    expect(answers).to_have_count(3, timeout=ANSWERED_MS)
    expect(answers.filter(has_text="Block")).to_have_count(2)
    refused = answers.filter(has_text=console).get_by_role("alert")
    expect(refused).to_contain_text("source_url_forbidden")  # the gateway fetches from no private address


def test_the_tour_fills_the_queue_and_its_drawings_are_shown(page: Page, console: str) -> None:
    names = json.loads((DRAWINGS / "drawings.json").read_text())
    for case in httpx2.get(f"{console}/v1/reviews", params={"limit": 500}).json()["data"]:
        httpx2.post(f"{console}/v1/decisions/{case['id']}/feedback", json={"decision": "allow"})
    page.goto("/console#/review")
    page.locator("main").get_by_label("Your name").fill("ann")
    page.get_by_role("button", name="Begin").click()
    expect(page.get_by_role("heading", name="The queue is empty")).to_be_visible()
    page.get_by_role("button", name="Fill the queue").click()
    picture = page.locator(".still img")
    expect(picture).to_have_attribute("src", re.compile("/console/demo/.+webp"), timeout=3 * ANSWERED_MS)
    assert picture.evaluate("(image) => image.naturalWidth") > 0
    decided = httpx2.get(f"{console}/v1/decisions", params={"policy": "tour", "limit": 200}).json()["data"]
    assert {one["external_id"] for one in decided} == set(names)
    assert sum(one["decision"] == "review" for one in decided) >= 10
