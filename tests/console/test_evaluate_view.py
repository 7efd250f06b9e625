"""Evaluations in the console: from a folder of pictures to the report."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.console.conftest import accessible
from tests.support.drawings import COLOURS, SHAPES, encoded, shape

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]  # jobs yield to requests

JOB_MS = 180_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures in a folder for each label; one is no picture."""
    made = tmp_path_factory.mktemp("labelled")
    for number, (colour, form) in enumerate((colour, form) for colour in COLOURS for form in SHAPES):
        into = made / ("gore" if number % 2 else "harmless")
        into.mkdir(exist_ok=True)
        (into / f"{number}.png").write_bytes(encoded(shape(f"a {colour} {form}")))
    (made / "harmless" / "<i>broken.png").write_bytes(b"no picture")
    return made


def test_from_an_uploaded_folder_to_the_report_to_a_draft(page: Page, folder: Path) -> None:
    page.goto("/console#/evaluate")
    page.get_by_role("button", name="New set").click()
    dialog = page.get_by_role("dialog", name="New set")
    dialog.get_by_role("textbox", name="Name").fill("shapes")
    dialog.get_by_label("A folder of folders").set_input_files(folder)
    dialog.get_by_role("button", name="Upload 17 pictures").click()
    expect(dialog.get_by_text("1 failed")).to_be_visible()
    expect(dialog.get_by_text("<i>broken.png")).to_be_visible()
    dialog.get_by_role("button", name="Close").click()
    expect(page.get_by_text("gore 8")).to_be_visible()
    accessible(page)

    page.get_by_role("combobox", name="Pictures").select_option("shapes")
    page.get_by_role("button", name="Start evaluation").click()
    page.wait_for_url("**/console#/evaluate/*")
    expect(page.get_by_role("heading", name="Figures")).to_be_visible(timeout=JOB_MS)
    expect(page.get_by_role("rowheader", name="gore")).to_be_visible()
    report = page.frame_locator("iframe.report")
    expect(report.locator("body")).not_to_be_empty()
    accessible(page)

    first = page.url.rsplit("/", 1)[1]
    default = page.request.get("/v1/policies/default").json()
    gore = [rule for rule in default["rules"] if rule["category"] == "gore"]
    page.request.put("/v1/policies/gore-alone", data={"rules": gore, "views": default["views"]})
    again, cancelled = (start(page, first) for _ in range(2))  # one at a time: the second waits
    page.goto(f"/console#/evaluate/{cancelled}")
    page.get_by_role("button", name="Cancel job").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Cancelled")
    page.goto(f"/console#/evaluate/{again}")
    expect(page.get_by_role("columnheader", name="AUC against before")).to_be_visible(timeout=JOB_MS)
    expect(page.get_by_role("row").filter(has_text="gore")).to_contain_text(re.compile(r"[+\u2212]\d\.\d{3}$"))
    page.get_by_role("button", name="Use these thresholds").click()
    expect(page.get_by_text("Editing from version")).to_be_visible()
    expect(page.get_by_role("region", name="What would change")).to_be_visible()
    assert page.request.get("/v1/policies/gore-alone").json()["version"] == 1, "a draft decides nothing"


def start(page: Page, before: str) -> str:
    """Return the id of another evaluation of the same set, with a goal that so few pictures can promise."""
    body = {
        "kind": "evaluate",
        "policy": "gore-alone",
        "source": {"set": "shapes"},
        "goals": {"catch": 0.1},
        "compare_with": before,
    }
    answer = page.request.post("/v1/jobs", data=body)
    assert answer.status == 202, answer.text()
    return str(answer.json()["id"])


def test_a_set_is_deleted_after_asking(page: Page) -> None:
    page.request.put("/v1/labelled-sets/short-lived", data={"description": "<b>bold</b>"})
    page.goto("/console#/evaluate")
    row = page.get_by_role("row").filter(has_text="short-lived")
    expect(row).to_contain_text("<b>bold</b>")
    row.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(row).to_have_count(0)
    assert page.request.get("/v1/labelled-sets/short-lived").status == 404
