"""Where stills lie: a folder and a bucket alike, and what happens while either is away."""

from __future__ import annotations

import base64
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from gateway.__main__ import main
from gateway.app import create_app
from gateway.review.sealing import Sealer
from gateway.review.still_errors import NotOpened, ReviewImagesInvalid, StillStoreAway
from gateway.review.still_store import StillStore, open_store
from gateway.settings import Settings
from tests.conftest import free_ports
from tests.review.test_images import KEY, decided, gone, results, saved, seen
from tests.support.fake_encoder import FakeEncoder, write_bundle
from tests.support.s3_server import NoS3Server, S3Server, running_s3

pytestmark = pytest.mark.heavy

LATER = timedelta(seconds=5)
BOUND_S = 5.0


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    try:
        with running_s3(free_ports(1)[0]) as server:
            yield server
    except NoS3Server as reason:
        pytest.skip(str(reason))


def credentials(url: str) -> dict[str, str]:
    return {"access_key_id": "tests", "secret_access_key": "tests", "endpoint": url, "region": "us-east-1"}


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> StillStore:
    if request.param == "folder":
        return open_store((tmp_path / "stills").as_uri(), BOUND_S, {})
    server: S3Server = request.getfixturevalue("s3")
    return open_store(f"s3://stills/{tmp_path.name}", BOUND_S, credentials(server.url))


async def names(store: StillStore, before: datetime | None = None) -> list[str]:
    return [name async for some in store.listed(before or datetime.now(UTC) + LATER) for name in some]


async def test_what_is_put_is_got_listed_and_deleted(store: StillStore) -> None:
    await store.put([("a.0", b"1" * 100_000), ("a.1", b""), ("b.0", b"3")])
    assert [await store.get(name) for name in ("a.0", "a.1", "b.0", "c.0")] == [b"1" * 100_000, b"", b"3", None]
    assert sorted(await names(store)) == ["a.0", "a.1", "b.0"]
    assert await names(store, datetime.now(UTC) - timedelta(hours=1)) == []
    await store.delete(["a.0", "a.0", "c.0", "b.0"])
    assert await names(store) == ["a.1"]


async def test_a_second_put_replaces(store: StillStore) -> None:
    for data in (b"first", b"second"):
        await store.put([("a.0", data)])
    assert await store.get("a.0") == b"second"


@pytest.mark.parametrize("how", ["nobody listens", "nobody answers", "no bucket"])
async def test_a_bucket_that_is_away_is_said_to_be_within_the_time(how: str, request: pytest.FixtureRequest) -> None:
    with closing(socket.socket()) as deaf:
        deaf.bind(("127.0.0.1", 0))
        if how == "nobody answers":
            deaf.listen()
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        bucket = "stills"
        if how == "no bucket":
            url, bucket = request.getfixturevalue("s3").url, "absent"
        away = open_store(f"s3://{bucket}/", 0.5, credentials(url))
        for use in (lambda: away.put([("a.0", b"1")]), lambda: names(away)):
            started = time.monotonic()
            with pytest.raises(StillStoreAway):
                await use()
            assert time.monotonic() - started < BOUND_S


def test_the_gateway_keeps_stills_in_a_bucket(s3: S3Server, tmp_path: Path) -> None:
    with gateway(tmp_path, "s3://stills/gateway", s3.url) as client:
        web = saved(client)
        decision = decided(web, external_id="user-1")
        assert seen(web, decision).status_code == 200
        stored = {name: data for name, data in s3.objects().items() if name.startswith("gateway/")}
        assert list(stored) == [f"gateway/{decision}.0"]
        assert b"JFIF" not in stored[f"gateway/{decision}.0"]
        assert client.delete("/v1/decisions?external_id=user-1").json() == {"deleted": 1}
        assert not [name for name in s3.objects() if name.startswith("gateway/")]


def test_a_bucket_that_hangs_delays_one_verdict_and_not_the_next(tmp_path: Path) -> None:
    with closing(socket.socket()) as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        with gateway(tmp_path, "s3://stills/", url, review_image_timeout_s=1.0) as client:
            web = saved(client)
            took = []
            for _ in range(2):
                started = time.monotonic()
                gone(web, decided(web))
                took.append(time.monotonic() - started)
            assert took[0] < BOUND_S
            assert took[1] < 1.0, "it is not waited for again"
            assert results(web) == {"failed": 2.0}


def gateway(folder: Path, place: str, url: str, **changed: Any) -> TestClient:
    write_bundle(folder)
    settings = Settings(
        model_repository=folder,
        data_dir=folder / "data",
        decode_isolation=False,
        review_images=place,
        review_image_key=KEY,
        aws_access_key_id="tests",
        aws_secret_access_key="tests",
        aws_endpoint_url=url,
        aws_region="us-east-1",
        **changed,
    )
    return TestClient(create_app(settings, lambda *_: FakeEncoder()), base_url="http://localhost")


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"REVIEW_IMAGE_KEY": ""}, "REVIEW_IMAGE_KEY"),
        ({"REVIEW_IMAGE_KEY": "c2hvcnQ="}, "32 random bytes"),
        ({"REVIEW_IMAGE_KEY": f"{KEY},not base64!"}, "32 random bytes"),
        ({"DECISION_LOG": "false"}, "DECISION_LOG"),
        ({"REVIEW_IMAGES": "ftp://somewhere/"}, "REVIEW_IMAGES is not valid"),
        ({"REVIEW_IMAGES": "file:///dev/null/stills"}, "REVIEW_IMAGES"),
    ],
)
def test_the_gateway_does_not_start_where_stills_cannot_be_kept(
    variables: dict[str, str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    given = {"REVIEW_IMAGES": "folder", "REVIEW_IMAGE_KEY": KEY, "DATA_DIR": str(tmp_path), **variables}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert main(arguments=["--check"]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert KEY not in told
    assert "not base64" not in told


def test_an_absent_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    for name, value in {"REVIEW_IMAGES": "folder", "REVIEW_IMAGE_KEY": KEY, "DATA_DIR": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(__import__("sys").modules, "gateway.review.still_store", None)
    assert main(arguments=["--check"]) == 2
    assert "extra review" in capsys.readouterr().err


def test_what_is_sealed_opens_under_its_name_and_key_alone() -> None:
    other = base64.b64encode(b"2" * 32).decode()
    sealed = Sealer(KEY).seal(b"secret", "a.0")
    assert b"secret" not in sealed
    assert sealed != Sealer(KEY).seal(b"secret", "a.0")
    assert Sealer(f"{other},{KEY}").open(sealed, "a.0") == b"secret"
    for sealer, name, data in (
        (Sealer(other), "a.0", sealed),
        (Sealer(KEY), "a.1", sealed),
        (Sealer(KEY), "a.0", sealed[:-1]),
        (Sealer(KEY), "a.0", b"\x02" + sealed[1:]),
        (Sealer(KEY), "a.0", b""),
    ):
        with pytest.raises(NotOpened):
            sealer.open(data, name)
    with pytest.raises(ReviewImagesInvalid):
        Sealer("")
