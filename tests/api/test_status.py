"""GET /v1/status and /v1/keys: how the service does, over several gateways, and when keys were last used."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from gateway.observability.figures import quantile
from gateway.store.outages import StoreUnavailable
from tests.auth.test_sessions import WITH_KEYS, access, bearer
from tests.support.in_process_app import Web, ask
from tests.support.waiting import until


def test_what_was_answered_shows(web: Web) -> None:
    for _ in range(3):
        assert ask(web).status_code == 200
    assert web.client.get("/v1/policies/absent").status_code == 404
    web.client.put("/v1/lists/bad", json={"action": "block", "kind": "sha256"}).raise_for_status()
    said = web.client.get("/v1/status").json()
    assert said["ready"] is True
    assert said["failing"] == said["degraded"] == []
    assert said["version"] == "0.1.0"
    assert said["model"] == web.client.get("/v1/models").json()["data"][0]
    assert {"code": "not_found", "count": 1} in said["errors"]
    stages = {stage["stage"]: stage for stage in said["stages"]}
    assert stages["encode"]["count"] == 3
    assert 0 < stages["encode"]["p50_ms"] <= stages["encode"]["p95_ms"]
    assert stages["fingerprint"]["p50_ms"] is None or stages["fingerprint"]["count"]
    assert said["throughput"]["requests_per_s"] > 0
    assert said["throughput"]["images_per_s"] > 0
    assert said["in_flight"]["requests"] >= 0
    (kept,) = said["lists"]
    assert (kept["name"], kept["entries"], kept["action"], kept["withhold"]) == ("bad", 0, "block", False)
    assert said["reviews"] == {"waiting": 0, "claimed": 0, "oldest_at": None}
    assert [replica["id"] for replica in said["replicas"]] == [said["replica"]]


def test_without_the_store_what_is_known_is_said(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: object) -> None:
        raise StoreUnavailable("away")

    services = web.client.app_state["services"]
    monkeypatch.setattr(services.access.activity, "running", away)
    monkeypatch.setattr(services.lists, "every", away)
    said = web.client.get("/v1/status").json()
    assert (said["lists"], said["reviews"], said["jobs"], len(said["replicas"])) == ([], None, None, 1)


@WITH_KEYS
def test_keys_are_listed_with_their_last_use_and_nothing_that_opens(web: Web) -> None:
    keys = {key["name"]: key for key in web.client.get("/v1/keys", headers=bearer("manage")).json()["data"]}
    assert set(keys) == {"infer", "read", "manage", "review"}
    assert keys["read"] == {"name": "read", "roles": ["read"], "rate": None, "last_used_at": None}
    web.client.get("/v1/models", headers=bearer("read"))
    web.client.portal.call(access(web).presence.report)  # type: ignore[union-attr]

    def used() -> str | None:
        data = web.client.get("/v1/keys", headers=bearer("manage")).json()["data"]
        return next((key["last_used_at"] for key in data if key["name"] == "read"), None)

    until(lambda: used() is not None)
    assert datetime.now(UTC) - datetime.fromisoformat(used() or "") < timedelta(minutes=1)


def test_quantiles_are_interpolated_within_their_bucket() -> None:
    buckets = [(0.01, 10.0), (0.1, 20.0), (float("inf"), 20.0)]
    assert quantile(buckets, 0.5) == 10.0
    assert quantile(buckets, 0.75) == 55.0
    assert quantile([(0.01, 0.0), (float("inf"), 0.0)], 0.5) is None
    assert quantile([(0.01, 0.0), (float("inf"), 4.0)], 0.5) == 10.0
