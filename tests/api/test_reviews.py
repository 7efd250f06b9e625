"""/v1/reviews over the real application: the shapes that the console is built on, and who may do what."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from gateway.app import create_app
from gateway.auth.api_keys import ApiKey, digest_of, entry_of, new_key
from gateway.settings import Settings
from tests.support.fake_encoder import FakeEncoder, write_bundle
from tests.support.in_process_app import Web, is_problem, png, wait_ready
from tests.support.stores import decision, opened

ROLES = ("infer", "read", "manage", "review", "metrics")
SCORED = {
    "categories": [
        {"category": "gore", "score": 0.9, "decision": "review", "review_at": 0.5, "block_at": 0.95, "evidence": []}
    ],
    "warnings": [],
    "key": "shop",
}


def fill(folder: Path, *records: Any) -> None:
    """Log decisions before the gateway starts, as an earlier one did."""

    async def log() -> None:
        async with opened(f"sqlite:///{folder}/data/gateway.sqlite") as store:
            await store.decisions.append(records)

    asyncio.run(log())


def waiting(number: int, **changed: Any) -> Any:
    return decision(number, **{"decision": "review", "detail": SCORED, "external_id": f"post {number}", **changed})


def app_on(folder: Path, **settings: Any) -> TestClient:
    write_bundle(folder)
    given = Settings(
        model_repository=folder,
        data_dir=folder / "data",
        log_level="error",
        decode_isolation=False,
        decision_retention_days=0,
        **settings,
    )
    return TestClient(create_app(given, lambda *_: FakeEncoder()), base_url="http://localhost")


@pytest.fixture
def client(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[TestClient]:
    fill(tmp_path, *(waiting(number) for number in range(1, 4)))
    with app_on(tmp_path, **getattr(request, "param", {})) as made:
        wait_ready(Web(made, FakeEncoder()))
        yield made


def claim(client: TestClient, **given: Any) -> Any:
    answer = client.post("/v1/reviews/claim", json=given)
    assert answer.status_code == 200, answer.text
    return answer.json()


def verdict(client: TestClient, case: Any, decision: str = "allow", **given: Any) -> Any:
    body = {"claim": case["claim"]["token"], "decision": decision, **given}
    return client.post(f"/v1/reviews/{case['id']}/verdict", json=body)


def test_a_case_from_claim_to_verdict(client: TestClient) -> None:
    queue = client.get("/v1/reviews").json()
    assert [case["decision"]["external_id"] for case in queue["data"]] == ["post 1", "post 2", "post 3"]
    assert queue["counts"] == {"waiting": 3, "claimed": 0, "appeals": 0, "oldest_at": queue["data"][0]["opened_at"]}
    case = claim(client, reviewer="ann")
    assert (case["id"], case["state"], case["reason"], case["claim"]["by"]) == (
        decision(1).id,
        "claimed",
        "policy",
        "ann",
    )
    assert (case["risk"], round(case["margin"], 6)) == (0.9, 0.05)
    nothing = {"state": "none", "stills": 0, "width": None, "height": None, "frames_ms": [], "url": None}
    assert case["image"] == nothing
    assert "token" not in client.get(f"/v1/reviews/{case['id']}").json()["claim"]
    until = client.post(f"/v1/reviews/{case['id']}/extend", json={"claim": case["claim"]["token"]}).json()["until"]
    assert until > case["claim"]["until"]
    given = verdict(client, case, "block", categories=["gore"], reason="gore", note="blood").json()
    assert (given["decision"], given["reviewer"], given["state"], given["kind"]) == (
        "block",
        "ann",
        "closed",
        "verdict",
    )
    closed = client.get(f"/v1/reviews/{case['id']}").json()
    assert (closed["state"], closed["claim"], closed["decision"]["outcome"]) == ("closed", None, "block")
    assert [row["note"] for row in closed["decision"]["feedback"]] == ["blood"]
    assert client.get("/v1/reviews?state=closed").json()["data"][0]["id"] == case["id"]
    assert 'gateway_review_verdicts_total{agreement="agreed",reason="policy"} 1.0' in client.get("/metrics").text


def test_a_repeated_verdict_is_kept_once(client: TestClient) -> None:
    case = claim(client)
    first, again = (verdict(client, case, "block", note="once").json() for _ in range(2))
    assert first == again
    assert len(client.get(f"/v1/reviews/{case['id']}").json()["decision"]["feedback"]) == 1


def test_a_lost_claim(client: TestClient) -> None:
    case = claim(client, reviewer="ann")
    path = f"/v1/reviews/{case['id']}"
    assert client.post(f"/v1/decisions/{case['id']}/feedback", json={"decision": "allow"}).json()["state"] == "closed"
    is_problem(verdict(client, case, "block"), 409, "claim_lost")
    is_problem(client.post(f"{path}/extend", json={"claim": case["claim"]["token"]}), 409, "claim_lost")
    is_problem(client.post(f"{path}/release", json={"claim": case["claim"]["token"]}), 409, "claim_lost")
    assert client.get(path).json()["decision"]["outcome"] == "allow"


def test_release_and_skip(client: TestClient) -> None:
    first = claim(client, reviewer="ann")
    path = f"/v1/reviews/{first['id']}/release"
    assert client.post(path, json={"claim": first["claim"]["token"], "skip": True}).status_code == 204
    assert claim(client, reviewer="ann")["id"] != first["id"]
    assert claim(client, reviewer="bo")["id"] == first["id"]


def test_claims_of_those_that_wait_for_one_reason(client: TestClient) -> None:
    appealed = client.get("/v1/reviews").json()["data"][1]["id"]
    assert client.post("/v1/reviews/claim", json={"reason": "appeal"}).status_code == 204
    assert client.post(f"/v1/reviews/{appealed}/appeal", json={"note": "Mine."}).status_code == 201
    assert claim(client, reason="appeal")["id"] == appealed


def test_nothing_waits(client: TestClient) -> None:
    assert client.post("/v1/reviews/claim", json={"policy": "another"}).status_code == 204


@pytest.mark.parametrize("client", [{"review_claims": 1}], indirect=True)
def test_who_holds_enough_gets_the_same_again(client: TestClient) -> None:
    first, again = claim(client, reviewer="ann"), claim(client, reviewer="ann", policy="another")
    assert (first["id"], first["claim"]["token"]) == (again["id"], again["claim"]["token"])


def test_a_second_opinion_is_somebody_elses(client: TestClient) -> None:
    case = claim(client, reviewer="ann")
    assert verdict(client, case, "block", second_opinion=True).json()["state"] == "waiting"
    asked = client.get("/v1/reviews?reason=second_opinion").json()["data"]
    assert [row["id"] for row in asked] == [case["id"]]
    assert claim(client, reviewer="ann")["id"] != case["id"]
    theirs = claim(client, reviewer="bo")
    assert (theirs["id"], theirs["decision"]["outcome"]) == (case["id"], "block")
    assert verdict(client, theirs).json()["state"] == "closed"
    assert 'reason="second_opinion"} 1.0' in client.get("/metrics").text


def test_undo_restores_outcome_and_lists(client: TestClient) -> None:
    case = claim(client, reviewer="ann")
    assert verdict(client, case, "block", add_to_list="mine").json()["lists"] == ["mine"]
    assert client.get("/v1/lists/mine").json()["entries"] == 1
    path = f"/v1/reviews/{case['id']}/undo"
    is_problem(client.post(path, json={"reviewer": "bo"}), 409, "not_undoable")
    back = client.post(path, json={"reviewer": "ann"}).json()
    assert (back["state"], back["reason"], back["claim"]["by"]) == ("claimed", "policy", "ann")
    assert (back["decision"]["outcome"], back["decision"]["reviewed"]) == ("review", None)
    assert [(row["kind"], row["undone"]) for row in back["decision"]["feedback"]] == [
        ("verdict", True),
        ("undo", False),
    ]
    assert client.get("/v1/lists/mine").json()["entries"] == 0
    assert verdict(client, back).status_code == 201
    is_problem(client.post(f"/v1/reviews/{decision(2).id}/undo", json={}), 409, "not_undoable")


def test_an_appeal_reopens_with_its_history(client: TestClient) -> None:
    case = claim(client, reviewer="ann")
    verdict(client, case, "block", note="first")
    path = f"/v1/reviews/{case['id']}"
    opened_again = client.post(f"{path}/appeal", json={"note": "It is a painting.", "by": "user-7"})
    assert opened_again.status_code == 201
    shown = client.get(path).json()
    assert (shown["state"], shown["reason"], shown["decision"]["outcome"]) == ("waiting", "appeal", "block")
    assert [(row["kind"], row["note"]) for row in shown["decision"]["feedback"]] == [
        ("verdict", "first"),
        ("appeal", "It is a painting."),
    ]
    assert client.get("/v1/reviews").json()["counts"]["appeals"] == 1
    is_problem(client.post(f"{path}/undo", json={"reviewer": "ann"}), 409, "not_undoable")
    is_problem(client.post("/v1/reviews/nothing/appeal", json={}), 404, "not_found")


def test_hostile_text_stays_as_it_is(client: TestClient) -> None:
    text = "<img src=x onerror=alert(1)>\u202e ' \" {{7*7}} =cmd()"
    case = claim(client, reviewer=text)
    given = verdict(client, case, "block", note=text, reason=text, categories=["<b>"]).json()
    assert (given["note"], given["reason"], given["reviewer"], given["categories"]) == (text, text, text, ["<b>"])
    is_problem(verdict(client, claim(client), "block", note="\0"), 422, "invalid_request")


@pytest.mark.parametrize(
    "client", [{"review_image_url": "https://cdn.example/{external_id}?h={sha256}"}], indirect=True
)
def test_the_url_of_a_picture_is_quoted(client: TestClient) -> None:
    image = client.get(f"/v1/reviews/{decision(1).id}").json()["image"]
    assert image["url"] == f"https://cdn.example/post%201?h={decision(1).image_sha256}"
    assert image["state"] == "linked"


@pytest.mark.parametrize(
    "client",
    [{"review_image_url": "/pictures/{external_id}", "review_withheld_procedure": "Call the desk."}],
    indirect=True,
)
def test_what_a_list_withholds_is_not_shown(client: TestClient) -> None:
    path = f"/v1/reviews/{decision(2).id}"
    assert client.get(path).json()["withheld"] is None
    assert client.put("/v1/lists/ncii", json={"action": "block", "kind": "sha256", "withhold": True}).status_code == 201
    client.post("/v1/lists/ncii/entries", json={"entries": [decision(2).image_sha256]})
    shown = client.get(path).json()
    assert shown["withheld"] == {"list": "ncii", "procedure": "Call the desk."}
    assert (shown["image"]["state"], shown["image"]["url"], shown["image"]["stills"]) == ("withheld", None, 0)
    listed = {case["id"]: case["image"]["url"] for case in client.get("/v1/reviews").json()["data"]}
    assert listed[decision(2).id] is None
    assert listed[decision(1).id] == "/pictures/post%201"
    wrong = client.put("/v1/lists/fine", json={"action": "allow", "kind": "sha256", "withhold": True})
    is_problem(wrong, 422, "invalid_request")


def test_a_legal_hold_stops_a_deletion(client: TestClient) -> None:
    hold = {"external_id": "post 1", "reason": "Case 1"}
    assert client.put("/v1/legal-holds", json=hold).status_code == 201
    assert client.put("/v1/legal-holds", json=hold).status_code == 200
    assert [row["external_id"] for row in client.get("/v1/legal-holds").json()["data"]] == ["post 1"]
    assert client.get(f"/v1/reviews/{decision(1).id}").json()["legal_hold"] is True
    is_problem(client.delete("/v1/decisions?external_id=post 1"), 409, "legal_hold")
    assert client.delete("/v1/legal-holds?external_id=post 1").status_code == 204
    is_problem(client.delete("/v1/legal-holds?external_id=post 1"), 404, "not_found")
    assert client.delete("/v1/decisions?external_id=post 1").json() == {"deleted": 1}
    is_problem(client.get(f"/v1/reviews/{decision(1).id}"), 404, "not_found")


def test_similar_decisions(tmp_path: Path) -> None:
    width = write_bundle(tmp_path).embedding_dim
    import numpy as np

    def vector(angle: float) -> bytes:
        row = np.zeros((2, width), "<f4")
        row[0, 0], row[0, 1] = np.cos(angle), np.sin(angle)
        return row.tobytes()

    fill(tmp_path, *(waiting(number, vectors=vector(0.1 * number)) for number in range(1, 5)), waiting(9))
    with app_on(tmp_path) as client:
        wait_ready(Web(client, FakeEncoder()))
        found = client.get(f"/v1/decisions/{decision(1).id}/similar?limit=2").json()
        assert client.get(f"/v1/decisions/{decision(9).id}/similar").json()["data"] == []
        is_problem(client.get("/v1/decisions/nothing/similar"), 404, "not_found")
    assert [row["decision"]["id"] for row in found["data"]] == [decision(2).id, decision(3).id]
    assert abs(found["data"][0]["similarity"] - np.cos(0.1)) < 1e-5
    assert found["searched"] == 4


def test_roles(tmp_path: Path) -> None:
    keys = {role: new_key() for role in ROLES}
    entries = " ".join(entry_of(ApiKey(role, digest_of(key), frozenset({role}))) for role, key in keys.items())
    fill(tmp_path, waiting(1), waiting(2))
    case = f"/v1/reviews/{decision(1).id}"
    rights: dict[tuple[str, str], set[str]] = {
        ("GET", "/v1/reviews"): {"read", "review"},
        ("GET", case): {"read", "review"},
        ("GET", f"/v1/decisions/{decision(1).id}/similar"): {"read", "review"},
        ("POST", "/v1/reviews/claim"): {"review"},
        ("POST", f"{case}/extend"): {"review"},
        ("POST", f"{case}/release"): {"review"},
        ("POST", f"{case}/verdict"): {"review"},
        ("POST", f"{case}/undo"): {"review"},
        ("POST", f"{case}/appeal"): {"infer", "review", "manage"},
        ("GET", "/v1/legal-holds"): {"manage"},
        ("PUT", "/v1/legal-holds"): {"manage"},
        ("DELETE", "/v1/legal-holds"): {"manage"},
    }
    with app_on(tmp_path, gateway_api_keys=entries) as client:
        for (method, path), allowed in rights.items():
            for role, key in keys.items():
                body: Any = {} if method in {"POST", "PUT"} else None
                answer = client.request(method, path, json=body, headers={"Authorization": f"Bearer {key}"})
                assert (answer.status_code != 403) == (role in allowed), (method, path, role, answer.text)

        def ask(role: str, path: str, **body: Any) -> Any:
            return client.post(path, json=body, headers={"Authorization": f"Bearer {keys[role]}"})

        mine = ask("review", "/v1/reviews/claim").json()
        token = mine["claim"]["token"]
        assert mine["claim"]["by"] == "review"
        path = f"/v1/reviews/{mine['id']}/verdict"
        is_problem(ask("review", path, claim=token, decision="block", add_to_list=True), 403, "forbidden")
        assert ask("review", path, claim=token, decision="block", note="secret").json()["key"] == "review"
        appealed = ask("infer", f"/v1/reviews/{mine['id']}/appeal").json()
        assert "feedback" not in appealed["decision"], "who may not read the log learns no reviewer's words"
        headers = {"Authorization": f"Bearer {keys['manage']}"}
        client.put("/v1/legal-holds", json={"external_id": "post 1", "reason": "secret"}, headers=headers)
        ask("review", "/v1/reviews/claim", reviewer="zoë")
        for role in ("infer", "manage"):
            text = ask(role, f"/v1/reviews/{mine['id']}/appeal").text
            assert not any(word in text for word in ("zoë", "secret", '"key":"review"', '"legal_hold":true')), text


def test_an_audited_image_waits_too(web: Web) -> None:
    web.client.put("/v1/classifiers/c", json={"labels": ["cat", "dog"]})
    rule = {"category": "cats", "classifier": "c", "labels": ["cat"], "block_at": 1.0}
    assert web.client.put("/v1/policies/p", json={"rules": [rule], "audit_share": 1.0}).status_code == 201
    given = web.client.post("/v1/moderate", data={"policy": "p", "external_id": "x"}, files={"file": png()})
    assert given.json()["results"][0]["decision"] == "review", given.text
    (case,) = web.client.get("/v1/reviews").json()["data"]
    assert (case["reason"], case["risk"], case["decision"]["external_id"]) == ("audit", 0.0, "x")
