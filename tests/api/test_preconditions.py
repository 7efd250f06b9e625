"""Fault 115: a change that is to be made only if things are as its client saw them, and they are not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gateway.store.lists import HashList, Lists, SavedList
from tests.support.fault_table import FaultLog
from tests.support.in_process_app import Web, is_problem
from tests.support.saved_policies import ALWAYS, CLASSIFIER

pytest_plugins = ["tests.support.saved_policies_fixtures"]

LIST = {"action": "block", "kind": "sha256"}
HASHES = {"entries": ["0" * 64]}
CHANGES: dict[str, Callable[[int], tuple[str, str, Any]]] = {
    "save a classifier": lambda turn: ("PUT", "/v1/classifiers/other", {**CLASSIFIER, "description": f"turn {turn}"}),
    "save a policy": lambda turn: ("PUT", "/v1/policies/strict", {**ALWAYS, "description": f"turn {turn}"}),
    "activate a classifier": lambda _: ("POST", "/v1/classifiers/other/activate", {"version": 1}),
    "activate a policy": lambda _: ("POST", "/v1/policies/strict/activate", {"version": 1}),
    "change a list": lambda turn: ("PUT", "/v1/lists/bad", {**LIST, "action": "allow" if turn % 2 else "block"}),
    "add to a list": lambda _: ("POST", "/v1/lists/bad/entries", HASHES),
    "remove from a list": lambda _: ("DELETE", "/v1/lists/bad/entries", HASHES),
    "delete a classifier": lambda _: ("DELETE", "/v1/classifiers/other", None),
    "delete a policy": lambda _: ("DELETE", "/v1/policies/strict", None),
    "delete a list": lambda _: ("DELETE", "/v1/lists/bad", None),
}


@pytest.fixture
def changed(made: Web) -> Web:
    """A classifier, a policy and a list, each changed once since it was made."""
    for path, *bodies in (
        ("/v1/classifiers/other", CLASSIFIER, {**CLASSIFIER, "description": "second"}),
        ("/v1/policies/strict", {**ALWAYS, "description": "second"}),
        ("/v1/lists/bad", LIST, {**LIST, "action": "allow"}),
    ):
        for body in bodies:
            assert made.client.put(path, json=body).status_code in {200, 201}
    return made


def resource(path: str) -> str:
    return "/".join(path.split("/")[:4])


def everything(web: Web) -> list[Any]:
    paths = ("/v1/classifiers/other/versions", "/v1/policies/strict/versions", "/v1/lists", "/v1/lists/bad/entries")
    return [web.client.get(path).json() for path in (*paths, "/v1/audit")]


def request(web: Web, change: str, turn: int, headers: Any) -> Any:
    method, path, body = CHANGES[change](turn)
    return web.client.request(method, path, json=body, headers=headers)


def test_115_nothing_changes_where_a_precondition_does_not_hold(changed: Web, faults: FaultLog) -> None:
    before = everything(changed)
    for change, asked in CHANGES.items():
        address = resource(asked(0)[1])
        etag = changed.client.get(address).headers["etag"]
        old = '"1"' if "lists" in address else changed.client.get(f"{address}?version=1").headers["etag"]
        for headers in (
            [("If-Match", old)],
            [("If-Match", f"W/{etag}")],  # a weak tag matches nothing
            [("If-Match", f'"x", {old}'), ("If-Match", '"y"')],
            [("If-Match", f'"a,{etag[1:-1]},b"')],
            [("If-None-Match", "*")],
            [("If-None-Match", etag)],
            [("If-None-Match", f'"x", W/{etag}')],
            [("If-Match", etag), ("If-None-Match", etag)],
        ):
            refused = request(changed, change, 1, headers)
            is_problem(refused, 412, "precondition_failed")
            faults.expect(115, f"{change}: {headers[0][0]}", refused, "412 precondition_failed")
        for headers in (
            [("If-Match", etag[1:-1])],
            [("If-Match", "")],
            [("If-Match", f"{etag} {etag}")],
            [("If-Match", f"*, {etag}")],
            [("If-Match", "*"), ("If-Match", "*")],
            [("If-Match", '"a')],
            [("If-Match", "w/" + etag)],
            [("If-None-Match", "none")],
            [("If-Match", etag), ("If-None-Match", ",")],
        ):
            refused = request(changed, change, 1, headers)
            is_problem(refused, 400, "http_malformed")
            assert "entity tags" in refused.json()["detail"]
    assert everything(changed) == before


@pytest.mark.parametrize("how", ["the tag", "any", "in two lines", "none of others"])
def test_a_precondition_that_holds(changed: Web, how: str) -> None:
    for turn, (change, asked) in enumerate(CHANGES.items()):
        etag = changed.client.get(resource(asked(0)[1])).headers["etag"]
        headers = {
            "the tag": [("If-Match", etag)],
            "any": [("If-Match", "*")],
            "in two lines": [("If-Match", '"x,y",, W/"z"'), ("If-Match", f" , {etag},")],
            "none of others": [("If-None-Match", '"x", W/"y"')],
        }[how]
        # What changed last is the latest and, after an activation, no more what is in force.
        if change.startswith("delete") and how in {"the tag", "in two lines"} and "list" not in change:
            versions = changed.client.get(resource(asked(0)[1]) + "/versions").json()["data"]
            latest = f"{resource(asked(0)[1])}?version={versions[0]['version']}"
            headers.append(("If-Match", changed.client.get(latest).headers["etag"]))
        assert request(changed, change, turn, headers).status_code in {200, 204}, change


def test_what_is_not_there_yet(web: Web) -> None:
    web.client.put("/v1/classifiers/scene", json=CLASSIFIER)
    for change in ("save a classifier", "save a policy", "change a list"):
        for headers in ({"If-Match": "*"}, {"If-Match": '"1-abc"'}):
            is_problem(request(web, change, 1, headers), 412, "precondition_failed")
        assert request(web, change, 1, {"If-None-Match": "*"}).status_code == 201
        is_problem(request(web, change, 1, {"If-None-Match": "*"}), 412, "precondition_failed")


def test_what_cannot_be_done_anyway_is_told_first(changed: Web) -> None:
    """A precondition is judged of what would succeed without it (RFC 9110, 13.2.1)."""
    stale = {"If-Match": '"1-abc"'}
    for method, path, body in (
        ("DELETE", "/v1/classifiers/none", None),
        ("POST", "/v1/classifiers/other/activate", {"version": 9}),
        ("DELETE", "/v1/lists/none", None),
        ("POST", "/v1/lists/none/entries", HASHES),
    ):
        is_problem(changed.client.request(method, path, json=body, headers=stale), 404, "not_found")
    is_problem(changed.client.delete("/v1/classifiers/scene", headers=stale), 409, "resource_in_use")


def test_a_lists_tag_is_another_one_after_each_change(web: Web) -> None:
    seen = [web.client.put("/v1/lists/bad", json=LIST).headers["etag"]]
    assert web.client.put("/v1/lists/bad", json=LIST).headers["etag"] == seen[0]
    for change in ("change a list", "add to a list", "remove from a list"):
        request(web, change, 1, {})
        seen.append(web.client.get("/v1/lists/bad").headers["etag"])
    web.client.delete("/v1/lists/bad")
    seen.append(web.client.put("/v1/lists/bad", json=LIST).headers["etag"])
    assert len(set(seen)) == len(seen)


def test_the_openapi_text_tells_each_change_that_may_be_conditional(web: Web) -> None:
    paths = web.client.get("/openapi.json").json()["paths"]
    for change, asked in CHANGES.items():
        method, path, _ = asked(0)
        steps = path.split("/")
        operation = paths["/".join([*steps[:3], "{name}", *steps[4:]])][method.lower()]
        described = {parameter["name"]: parameter.get("description") for parameter in operation["parameters"]}
        assert {"If-Match", "If-None-Match"} <= set(described), change
        assert "precondition_failed" in operation["responses"]["412"]["description"], change


def test_a_list_that_is_deleted_as_soon_as_it_is_saved_was_saved(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    put = Lists.put

    async def saved_and_deleted(lists: Lists, made: HashList, **given: Any) -> SavedList:
        saved = await put(lists, made, **given)
        assert await lists.drop(made.name, actor=given["actor"])
        return saved

    monkeypatch.setattr(Lists, "put", saved_and_deleted)
    answer = web.client.put("/v1/lists/bad", json={**LIST, "max_distance": 0})
    assert (answer.status_code, answer.json()["name"], answer.json()["entries"]) == (201, "bad", 0)
    assert answer.headers["etag"].strip('"').isdecimal()
    is_problem(web.client.get("/v1/lists/bad"), 404, "not_found")


def test_true_is_no_version(made: Web) -> None:
    for version in (True, False, None, "one", 1.5, [1], 0):
        answer = made.client.post("/v1/policies/strict/activate", json={"version": version})
        is_problem(answer, 422, "invalid_request")
