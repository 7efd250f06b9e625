"""Stills through HTTP: of what waits for review and nothing else, encrypted, seen by reviewers alone, and deleted."""

from __future__ import annotations

import base64
import io
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from starlette.testclient import TestClient

from gateway.app import create_app
from gateway.auth.api_keys import digest_of, new_key
from gateway.moderation import retention
from gateway.settings import Settings
from tests.support.fake_encoder import FakeEncoder, write_bundle
from tests.support.in_process_app import Web, b64, is_problem, png, wait_ready
from tests.support.log_lines import collected
from tests.support.moderator_parts import sha256
from tests.support.saved_policies import ALWAYS, CLASSIFIER, NEVER, moderate, put
from tests.support.waiting import until

pytestmark = pytest.mark.heavy

KEY, OTHER_KEY = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))
WAITS = {**ALWAYS, "rules": [{**ALWAYS["rules"][0], "block_at": None}]}
OLD_S = 2 * 3600


class Kept:
    """A gateway that keeps stills in a folder; it can be started again with other settings."""

    def __init__(self, folder: Path) -> None:
        self.models = folder / "models"
        self.data = folder / "data"
        self.stills = self.data / "review-images"
        self.models.mkdir()
        write_bundle(self.models)

    def settings(self, **changed: Any) -> Settings:
        given = {"review_images": "folder", "review_image_key": KEY, "decode_isolation": False, "log_level": "error"}
        return Settings(model_repository=self.models, data_dir=self.data, **{**given, **changed})

    def start(self, **changed: Any) -> TestClient:
        return TestClient(create_app(self.settings(**changed), lambda *_: FakeEncoder()), base_url="http://localhost")

    def files(self) -> list[Path]:
        return sorted(self.stills.iterdir())

    def change(self, statement: str, *values: Any) -> None:
        with closing(sqlite3.connect(self.data / "gateway.sqlite", timeout=10)) as database, database:
            database.execute(statement, values)


def saved(client: TestClient) -> Web:
    web = Web(client, FakeEncoder())
    wait_ready(web)
    put(web, "/v1/classifiers/scene", CLASSIFIER)
    put(web, "/v1/policies/strict", WAITS)
    put(web, "/v1/policies/blocks", ALWAYS)
    put(web, "/v1/policies/allows", NEVER)
    return web


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kept:
    monkeypatch.setattr(retention, "PAUSE_S", 0.05)
    return Kept(tmp_path)


@pytest.fixture
def web(kept: Kept) -> Iterator[Web]:
    with kept.start() as client:
        yield saved(client)


def decided(web: Web, *pictures: bytes, **fields: Any) -> str:
    answer = moderate(web, *pictures, **fields)
    assert answer.status_code == 200, answer.text
    decision: str = answer.json()["results"][0]["decision_id"]
    return decision


def seen(web: Web, decision: str, still: int = 0, **options: Any) -> Any:
    return web.client.get(f"/v1/reviews/{decision}/image?still={still}", **options)


def gone(web: Web, decision: str, still: int = 0) -> None:
    is_problem(seen(web, decision, still), 404, "image_gone")


def results(web: Web) -> dict[str, float]:
    lines = [line for line in web.client.get("/metrics").text.splitlines() if "gateway_review_images_total{" in line]
    return {line.split('"')[1]: float(line.split()[-1]) for line in lines}


def animation(*colors: str) -> bytes:
    frames = [Image.new("RGB", (64, 64), color) for color in colors]
    out = io.BytesIO()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:], duration=200)
    return out.getvalue()


def views(web: Web, action: str = "view") -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = web.client.get(f"/v1/audit?kind=review_image&action={action}").json()["data"]
    return rows


def test_what_waits_is_kept_and_shown(web: Web) -> None:
    answer = seen(web, decided(web, png("red")))
    assert answer.status_code == 200, answer.text
    image = Image.open(io.BytesIO(answer.content))
    assert (image.format, image.size) == ("JPEG", (64, 64))
    assert image.getpixel((30, 30)) == (254, 0, 0)
    assert results(web) == {"kept": 1.0}


def test_an_image_that_is_opened_by_itself_can_do_nothing(web: Web) -> None:
    decision = decided(web)
    headers = seen(web, decision).headers
    assert headers["content-type"] == "image/jpeg"
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["content-disposition"] == f'inline; filename="{decision}-0.jpg"'
    assert headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize("policy", ["blocks", "allows"])
def test_nothing_is_kept_of_what_does_not_wait(web: Web, kept: Kept, policy: str) -> None:
    gone(web, decided(web, policy=policy))
    assert kept.files() == []
    assert results(web) == {}


def test_an_image_that_the_audit_draws_is_kept(web: Web) -> None:
    put(web, "/v1/policies/drawn", {**NEVER, "audit_share": 1.0})
    assert seen(web, decided(web, policy="drawn")).status_code == 200


def test_nothing_is_kept_of_what_failed(web: Web, kept: Kept) -> None:
    assert moderate(web, png()[:-30]).status_code == 422
    answer = moderate(web, png()[:-30], png(), policy="blocks").json()["results"]
    assert [result.get("decision") for result in answer] == [None, "block"]
    assert kept.files() == []


@pytest.mark.parametrize("action", ["allow", "block"])
def test_nothing_is_kept_of_what_a_hash_list_knows(web: Web, kept: Kept, action: str) -> None:
    put(web, "/v1/lists/known", {"action": action, "kind": "sha256"})
    web.client.post("/v1/lists/known/entries", content=sha256(png()), headers={"Content-Type": "text/plain"})
    gone(web, decided(web))
    assert kept.files() == []


def test_each_image_of_a_request_is_kept_by_itself(web: Web) -> None:
    answer = moderate(web, png("red"), png("blue")).json()["results"]
    red, blue = (seen(web, result["decision_id"]).content for result in answer)
    assert Image.open(io.BytesIO(red)).getpixel((5, 5)) == (254, 0, 0)
    assert Image.open(io.BytesIO(blue)).getpixel((5, 5)) == (0, 0, 254)


def test_of_an_animation_so_many_judged_frames_are_kept(kept: Kept) -> None:
    with kept.start(review_image_stills=2) as client:
        web = saved(client)
        decision = decided(web, animation("red", "lime", "blue", "white"))
        stills = [seen(web, decision, number) for number in range(2)]
        assert [still.status_code for still in stills] == [200, 200]
        assert stills[0].content != stills[1].content
        gone(web, decision, 2)


def test_files_show_nothing_without_the_key(web: Web, kept: Kept) -> None:
    shown = seen(web, decided(web)).content
    (file,) = kept.files()
    with pytest.raises(OSError, match="cannot identify"):
        Image.open(file)
    assert shown[200:260] not in file.read_bytes()
    assert kept.stills.stat().st_mode & 0o077 == 0


def test_without_its_key_an_image_is_gone_and_the_log_says_so(kept: Kept) -> None:
    with kept.start() as client:
        decision = decided(saved(client))
    with kept.start(review_image_key=OTHER_KEY) as client, collected() as lines:
        web = Web(client, FakeEncoder())
        wait_ready(web)
        gone(web, decision)
        assert any("cannot be opened" in line["event"] and line["decision_id"] == decision for line in lines)
        assert views(web) == []


def test_keys_are_rotated(kept: Kept) -> None:
    with kept.start() as client:
        first = decided(saved(client))
    with kept.start(review_image_key=f"{OTHER_KEY},{KEY}") as client:
        web = saved(client)
        second = decided(web)
        assert [seen(web, decision).status_code for decision in (first, second)] == [200, 200]
    with kept.start(review_image_key=OTHER_KEY) as client:
        web = saved(client)
        gone(web, first)
        assert seen(web, second).status_code == 200


@pytest.mark.parametrize("how", ["changed", "exchanged", "cut", "emptied", "another still", "missing"])
def test_a_file_that_was_touched_is_refused(web: Web, kept: Kept, how: str) -> None:
    decision, other = decided(web, animation("red", "blue")), decided(web, png("blue"))
    file, still, another = (kept.stills / name for name in (f"{decision}.0", f"{decision}.1", f"{other}.0"))
    data = file.read_bytes()
    if how == "missing":
        file.unlink()
    else:
        file.write_bytes(
            {
                "changed": data[:-1] + bytes([data[-1] ^ 1]),
                "exchanged": another.read_bytes(),
                "another still": still.read_bytes(),
                "cut": data[:-5],
                "emptied": b"",
            }[how]
        )
    gone(web, decision)
    assert seen(web, other).status_code == 200
    assert len(views(web)) == 1


def test_each_view_is_a_row_of_the_audit(web: Web) -> None:
    decision = decided(web)
    seen(web, decision)
    web.client.get(f"/v1/reviews/{decision}/image?reviewer=ann")
    gone(web, decision, 3)
    rows = views(web)
    assert [row["detail"] for row in rows] == [{"still": 0, "reviewer": "ann"}, {"still": 0}]
    assert {row["name"] for row in rows} == {decision}


def test_no_image_is_sent_whose_view_cannot_be_written(web: Web, kept: Kept) -> None:
    decision = decided(web)
    kept.change("CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(FAIL, 'no'); END")
    answer = seen(web, decision)
    assert answer.status_code >= 500
    assert answer.headers["content-type"] == "application/problem+json"


def test_without_a_decision_or_a_still_there_is_no_image(web: Web) -> None:
    gone(web, "0" * 32)
    is_problem(seen(web, decided(web), 99), 422, "invalid_request")


def verdict(web: Web, decision: str) -> None:
    answer = web.client.post(f"/v1/decisions/{decision}/feedback", json={"decision": "allow"})
    assert answer.status_code == 201, answer.text


def none_left(kept: Kept) -> None:
    until(lambda: kept.files() == [], lambda: f"left: {kept.files()}")


def test_it_is_deleted_after_the_verdict(kept: Kept) -> None:
    with kept.start(review_image_days=7) as client:
        web = saved(client)
        judged, fresh, waiting = decided(web, png("red")), decided(web, png("blue")), decided(web, png("lime"))
        for decision in (judged, fresh):
            verdict(web, decision)
        kept.change("UPDATE decisions SET reviewed_at = '2026-01-01 00:00:00.000000' WHERE id = ?", judged)
        until(lambda: len(kept.files()) == 2, lambda: str(kept.files()))
        gone(web, judged)
        assert [seen(web, decision).status_code for decision in (fresh, waiting)] == [200, 200]
        (row,) = views(web, "delete")
        assert (row["name"], row["actor"]) == (judged, "retention")


def test_it_goes_with_its_external_id(web: Web, kept: Kept) -> None:
    decision, other = decided(web, external_id="user-1"), decided(web, png("blue"), external_id="user-2")
    assert web.client.delete("/v1/decisions?external_id=user-1").json() == {"deleted": 1}
    assert [file.name for file in kept.files()] == [f"{other}.0"]
    gone(web, decision)


def test_it_goes_with_its_decision(web: Web, kept: Kept) -> None:
    decision = decided(web)
    kept.change("PRAGMA foreign_keys = ON")
    kept.change("DELETE FROM decisions WHERE id = ?", decision)
    none_left(kept)
    gone(web, decision)


def test_a_legal_hold_stops_all_of_it(kept: Kept) -> None:
    with kept.start(review_image_days=0) as client:
        web = saved(client)
        held, free = decided(web, external_id="held"), decided(web, png("blue"), external_id="free")
        hold = "INSERT INTO legal_holds (external_id, at, reason) VALUES ('held', ?, 'a case')"
        kept.change(hold, datetime.now(UTC).replace(tzinfo=None).isoformat(" "))
        for decision in (held, free):
            verdict(web, decision)
        until(lambda: len(kept.files()) == 1, lambda: str(kept.files()))
        kept.change("DELETE FROM decisions WHERE id = ?", held)
        time.sleep(0.3)
        assert [file.name for file in kept.files()] == [f"{held}.0"]
        kept.change("DELETE FROM legal_holds")
        none_left(kept)
        gone(web, free)


def aged(file: Path) -> None:
    then = time.time() - OLD_S
    os.utime(file, (then, then))


def test_what_no_row_speaks_of_is_deleted_and_what_is_being_written_is_not(web: Web, kept: Kept) -> None:
    decision = decided(web)
    for name, old in (("0" * 32 + ".0", True), ("f" * 32 + ".0", False), ("stray", True)):
        (kept.stills / name).write_bytes(b"?")
        if old:
            aged(kept.stills / name)
    aged(kept.stills / f"{decision}.0")
    until(lambda: len(kept.files()) == 2, lambda: str(kept.files()))
    assert {file.name for file in kept.files()} == {f"{decision}.0", "f" * 32 + ".0"}


def test_what_was_cut_off_is_deleted(web: Web, kept: Kept) -> None:
    decision = decided(web)
    kept.change("UPDATE review_images SET kept_at = NULL WHERE decision_id = ?", decision)
    gone(web, decision)
    time.sleep(0.2)
    assert len(kept.files()) == 1, "it may be about to be finished"
    kept.change("UPDATE review_images SET at = '2026-01-01 00:00:00.000000' WHERE decision_id = ?", decision)
    none_left(kept)


def test_a_store_that_is_away_leaves_the_verdict_as_it_is(web: Web, kept: Kept) -> None:
    kept.stills.rmdir()
    kept.stills.write_text("no folder")
    started = time.monotonic()
    for _ in range(2):
        answer = moderate(web).json()["results"][0]
        assert (answer["decision"], answer["warnings"]) == ("review", ["uncalibrated"])
        gone(web, answer["decision_id"])
    assert time.monotonic() - started < 5
    assert results(web) == {"failed": 2.0}
    kept.stills.unlink()


def test_no_image_is_said_to_be_forgotten_while_its_store_is_away(web: Web, kept: Kept) -> None:
    decided(web, external_id="user-1")
    elsewhere = kept.stills.rename(kept.data / "elsewhere")
    kept.stills.write_text("no folder")
    is_problem(web.client.delete("/v1/decisions?external_id=user-1"), 503, "storage_unavailable")
    kept.stills.unlink()
    elsewhere.rename(kept.stills)
    assert web.client.delete("/v1/decisions?external_id=user-1").json() == {"deleted": 1}
    assert kept.files() == []


def test_what_finds_no_room_in_memory_is_not_kept(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.review_parts.MIB", 10)
    with kept.start() as client:
        web = saved(client)
        gone(web, decided(web))
        assert results(web) == {"no_room": 1.0}


def test_none_is_kept_where_the_operator_wants_none(kept: Kept) -> None:
    with kept.start(review_images="none") as client:
        made = saved(client)
        gone(made, decided(made))
    assert not kept.stills.exists()


def test_reviewers_alone_see_it(kept: Kept) -> None:
    made = {role: new_key() for role in ("infer", "read", "manage", "review")}
    entries = ",".join(f"{role}:{digest_of(key).hex()}:{role}" for role, key in made.items())
    with kept.start() as client:
        decision = decided(saved(client))
    with kept.start(gateway_api_keys=entries) as client:
        wait_ready(Web(client, FakeEncoder()))
        headers = {role: {"Authorization": f"Bearer {key}"} for role, key in made.items()}
        asked = {role: client.get(f"/v1/reviews/{decision}/image", headers=head) for role, head in headers.items()}
        assert {role: answer.status_code for role, answer in asked.items()} == {
            "infer": 403,
            "read": 403,
            "manage": 403,
            "review": 200,
        }
        rows = client.get("/v1/audit?kind=review_image", headers=headers["manage"]).json()["data"]
        assert [(row["actor"], row["name"]) for row in rows] == [("review", decision)]


def test_openais_route_keeps_them_too(web: Web) -> None:
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + b64(png())["base64"]}}
    assert web.client.post("/v1/moderations", json={"input": [part], "model": "strict"}).status_code == 200
    (row,) = web.client.get("/v1/decisions").json()["data"]
    assert seen(web, row["id"]).status_code == 200


def test_what_a_list_that_withholds_comes_to_know_is_not_shown_and_is_deleted(web: Web, kept: Kept) -> None:
    known, other = decided(web, png("red")), decided(web, png("blue"))
    put(web, "/v1/lists/illegal", {"action": "block", "kind": "sha256", "withhold": True})
    web.client.post("/v1/lists/illegal/entries", content=sha256(png("red")), headers={"Content-Type": "text/plain"})
    gone(web, known)
    until(lambda: len(kept.files()) == 1, lambda: str(kept.files()))
    assert seen(web, other).status_code == 200
    gone(web, decided(web, png("red")))


def test_an_appeal_keeps_it(kept: Kept) -> None:
    with kept.start(review_image_days=1) as client:
        web = saved(client)
        appealed, judged = decided(web, png("red")), decided(web, png("blue"))
        for decision in (appealed, judged):
            verdict(web, decision)
        assert client.post(f"/v1/reviews/{appealed}/appeal", json={"note": "mine"}).status_code == 201
        kept.change("UPDATE decisions SET reviewed_at = '2026-01-01 00:00:00.000000'")
        until(lambda: len(kept.files()) == 1, lambda: str(kept.files()))
        assert seen(web, appealed).status_code == 200


def test_the_case_says_what_is_kept(web: Web) -> None:
    decision = decided(web, animation("red", "blue"))
    image = web.client.get(f"/v1/reviews/{decision}").json()["image"]
    assert (image["state"], image["stills"]) == ("kept", 2)


def test_processes_that_decode_make_them(kept: Kept) -> None:
    with kept.start(decode_isolation=True, review_image_side_px=256) as client:
        web = saved(client)
        decision = decided(web, animation("red", "blue"), external_id="user-1")
        stills = [Image.open(io.BytesIO(seen(web, decision, number).content)) for number in range(2)]
        assert [still.getpixel((30, 30)) for still in stills] == [(254, 0, 0), (0, 0, 254)]
        large = Image.open(io.BytesIO(seen(web, decided(web, png("red", 1000))).content))
        assert large.size == (250, 250)
