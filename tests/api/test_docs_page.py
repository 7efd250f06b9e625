"""What /docs shows is what the service takes: each example of the OpenAPI text, and the form as a browser sends it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.conftest import ROOT, Stack
from tests.support.browser import Page, browser
from tests.support.gateway_processes import more_gateways

pytestmark = pytest.mark.heavy

RED = ROOT / "examples" / "red-circle.png"
FORMS = ("/v1/classify", "/v1/moderate")
# In this order, since a body may name what another route made: lists before entries, classifiers before policies.
FIRST = ("/v1/moderate", "/v1/lists/{name}", "/v1/classifiers/{name}", "/v1/policies/{name}")


def bodies(text: dict[str, Any]) -> list[tuple[str, str, str, dict[str, Any], list[str]]]:
    """Return (method, path, media type, its content, statuses of success) of every body in the OpenAPI text."""
    found = []
    for path, operations in text["paths"].items():
        for method, operation in operations.items():
            success = [status for status in operation["responses"] if status.startswith("2")]
            for kind, content in operation.get("requestBody", {}).get("content", {}).items():
                found.append((method, path, kind, content, success))
    order = {path: number for number, path in enumerate(FIRST)}
    return sorted(found, key=lambda entry: (entry[0] == "delete", order.get(entry[1], len(order))))


def test_every_example_of_the_openapi_text_gets_its_documented_success(stack: Stack, tmp_path: Path) -> None:
    with more_gateways(stack, 1, tmp_path) as (address,), httpx2.Client(base_url=address, timeout=60) as client:
        text = client.get("/openapi.json").json()
        every = bodies(text)
        assert {path for _, path, *_ in every} >= {*FORMS, "/v1/policies/{name}/dry-run", "/v1/lists/{name}/entries"}
        for method, path, kind, content, success in every:
            if kind == "multipart/form-data":
                continue  # below: a file has no example
            if path == "/v1/policies/{name}/carry":
                continue  # between two bundles: tests/api/test_carried_policies.py
            if path == "/v1/session":
                continue  # of browsers' pages alone: tests/auth/test_sessions.py
            sent = content["example"]
            decisions = client.get("/v1/decisions").json()["data"]
            url = path.replace("{name}", "example")
            url = url.replace("{decision_id}", decisions[0]["id"] if decisions else "none")
            if isinstance(sent, dict) and "claim" in sent:
                case = claimed(client)
                url, sent = path.replace("{decision_id}", case["id"]), {**sent, "claim": case["claim"]["token"]}
            if path.endswith("/undo"):
                case = claimed(client)
                given = {"claim": case["claim"]["token"], "decision": "allow", **sent}
                assert client.post(f"/v1/reviews/{case['id']}/verdict", json=given).is_success
                url = path.replace("{decision_id}", case["id"])
            body = sent if isinstance(sent, str) else json.dumps(sent)
            answer = client.request(method.upper(), url, content=body, headers={"Content-Type": kind})
            assert str(answer.status_code) in success, (method, path, kind, answer.text)


def claimed(client: httpx2.Client) -> dict[str, Any]:
    """Return a case that waited for review, claimed."""
    rule = {"category": "any", "classifier": "nudity", "labels": ["shape"], "review_at": 0.0, "block_at": None}
    assert client.put("/v1/policies/asks-people", json={"rules": [rule]}).is_success
    answer = client.post("/v1/moderate", files={"file": RED.read_bytes()}, data={"policy": "asks-people"})
    assert answer.json()["results"][0]["decision"] == "review"
    return dict(client.post("/v1/reviews/claim", json={}).json())


@pytest.mark.parametrize("path", FORMS)
def test_a_form_sent_as_its_schema_says(client: httpx2.Client, path: str) -> None:
    text = client.get("/openapi.json").json()
    content = text["paths"][path]["post"]["requestBody"]["content"]["multipart/form-data"]
    fields = text["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]["properties"]
    lists = {name for name, field in fields.items() if field.get("type") == "array"}
    assert set(content["encoding"]) == lists - {"file"}
    assert all(encoding == {"style": "form", "explode": True} for encoding in content["encoding"].values())
    assert not [name for name, field in fields.items() if "null" in json.dumps(field)], "a form cannot send it"
    assert not [name for name, field in fields.items() if field.get("default")], "Swagger UI would send it"
    filled = {name: (field.get("examples") or [field.get("default")])[0] for name, field in fields.items()}
    filled.pop("file")
    answer = client.post(path, files={"file": RED.read_bytes()}, data=filled)
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["results"]) == 1


def test_what_is_left_empty_in_a_form_was_not_filled_in(client: httpx2.Client) -> None:
    red = {"file": RED.read_bytes()}
    labels = {"labels": ["a red circle", "a blue square"]}
    for empty in ("url", "options", "mode", "views", "top_k", "classifier", "templates", "negatives", "include"):
        assert client.post("/v1/classify", files=red, data={**labels, empty: ""}).status_code == 200, empty
    nothing = client.post("/v1/classify", files={"file": (None, b"")}, data=labels)
    assert (nothing.status_code, nothing.json()["code"]) == (422, "invalid_request")
    for wrong, code in (
        ({"labels": ["a cat", ""]}, "invalid_labels"),
        ({"labels": ""}, "invalid_labels"),
        ({**labels, "url": ["", "http://example.org/x.png"]}, "invalid_request"),
        ({**labels, "unknown": "x"}, "invalid_request"),
    ):
        answer = client.post("/v1/classify", files=red, data=wrong)
        assert (answer.status_code, answer.json()["code"]) == (422, code), wrong
    chosen_but_empty = client.post("/v1/classify", files={"file": ("a.png", b"")}, data=labels)
    assert (chosen_but_empty.status_code, chosen_but_empty.json()["code"]) == (400, "empty_file")


def choose(page: Page, selector: str, value: str) -> None:
    """Choose an option of a list, as React notices it."""
    page.wait_for(selector)
    page.run(
        f"""(() => {{
            const list = document.querySelector({json.dumps(selector)});
            Object.getOwnPropertyDescriptor(HTMLSelectElement.prototype, "value").set.call(list, {json.dumps(value)});
            list.dispatchEvent(new Event("change", {{bubbles: true}}));
        }})()"""
    )


@pytest.mark.heavy
def test_a_person_tries_the_form_in_a_browser(stack: Stack, tmp_path: Path) -> None:
    """Labels as they are suggested, one file, all other fields as the page leaves them."""
    with browser(tmp_path / "profile") as page:
        page.open(f"{stack.gateway_url}/docs")
        page.wait_for(".opblock")
        classify = "#" + page.run(
            "[...document.querySelectorAll('.opblock')].map(block => block.id).find(id => id.includes('v1_classify'))"
        )
        page.click(f"{classify} .opblock-summary-control")
        choose(page, f"{classify} select[aria-label='Request content type']", "multipart/form-data")
        row = f"{classify} tr[data-property-name=file]"
        page.click(f"{row} .json-schema-form-item-add")
        page.wait_for(f"{row} input[type=file]")
        page.choose_file(f"{row} input[type=file]", RED)
        page.click(f"{classify} .execute")
        page.wait_for(f"{classify} .live-responses-table .response .microlight")
        shown = page.run(f"document.querySelector('{classify} .live-responses-table').innerText")
    assert "200" in shown
    assert '"label": "a cat"' in shown
    assert '"score"' in shown
