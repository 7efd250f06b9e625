"""Each way in which a real database fails has its class, and no password is told."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from gateway.store.causes import Cause
from gateway.store.database import Transaction
from gateway.store.migrate import late_database, open_database
from gateway.store.outages import StoreUnavailable
from gateway.store.versions import Versions
from tests.support.log_lines import collected
from tests.support.postgres_server import Server
from tests.support.stores import decision, locked, opened, save

pytest_plugins = ["tests.support.store_fixtures"]

pytestmark = pytest.mark.heavy

PATIENCE_S = 20.0
GUESS = "a-guess-of-a-password"


@contextmanager
def fails(cause: Cause) -> Iterator[None]:
    with collected() as lines:
        with pytest.raises(StoreUnavailable) as caught:
            yield
        assert caught.value.cause == cause, str(caught.value)
    assert GUESS not in f"{caught.value}{lines}"


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=False)
    if made.returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(disk: Path) -> Path:
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    return filler


def remount(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", disk], check=True)


@pytest.mark.parametrize(
    ("address", "cause"),
    [
        (f"postgresql://nobody:{GUESS}@127.0.0.1:1/none", "refused"),
        (f"postgresql://nobody:{GUESS}@localhost:1/none", "refused"),
        (f"postgresql://nobody:{GUESS}@/none?host=/nowhere", "refused"),
        (f"postgresql://nobody:{GUESS}@nowhere.invalid/none", "unknown_host"),
    ],
)
async def test_nobody_there(address: str, cause: Cause) -> None:
    with fails(cause):
        await open_database(address, timeout_s=PATIENCE_S)


async def test_postgresql_lets_nobody_in(postgres: Server) -> None:
    rules = postgres.folder / "data" / "pg_hba.conf"
    before = rules.read_text()
    for role in ("CREATE ROLE stranger LOGIN PASSWORD 'x'", "CREATE ROLE crowd LOGIN CONNECTION LIMIT 0"):
        postgres.sql(postgres.url(), role)
    rules.write_text(f"local all stranger scram-sha-256\n{before}")
    postgres.sql(postgres.url(), "SELECT pg_reload_conf()")
    try:
        for user, database, cause in (
            (f"stranger:{GUESS}", "postgres", "authentication"),
            ("crowd", "postgres", "too_many_connections"),
            ("gateway", "missing", "no_such_database"),
        ):
            with fails(cause):  # type: ignore[arg-type]
                url = postgres.url(database).replace("gateway@", f"{user}@")
                await open_database(url, timeout_s=PATIENCE_S)
    finally:
        rules.write_text(before)
        postgres.sql(postgres.url(), "SELECT pg_reload_conf(); DROP ROLE stranger; DROP ROLE crowd")


async def test_postgresql_does_not_do_it(postgres: Server) -> None:
    url = postgres.new_database()
    postgres.sql(postgres.url(), "CREATE ROLE outsider LOGIN")

    async def slow(tx: Transaction) -> None:
        await tx.execute(text("SELECT pg_sleep(60)"))

    try:
        async with opened(url, 2) as store:
            with fails("timeout"):
                await store.database.read(slow)
            with fails("permission"):
                await open_database(url.replace("gateway@", "outsider@"), timeout_s=PATIENCE_S)
        async with opened(f"{url}%20-cdefault_transaction_read_only%3Don", PATIENCE_S) as store:
            with fails("read_only"):
                await save(store, "cats", {})
            assert await store.versions.revision() == 0
    finally:
        postgres.sql(url, "DROP ROLE outsider")


async def test_postgresql_has_no_room(postgres: Server) -> None:
    with small_disk(postgres.folder / "small", "16m") as disk:
        shutil.chown(disk, "postgres")
        url = postgres.new_database()
        postgres.sql(url, f"CREATE TABLESPACE small LOCATION '{disk}'")
        try:
            async with opened(f"{url}%20-cdefault_tablespace%3Dsmall", PATIENCE_S) as store:
                await save(store, "cats", {})
                with fails("disk_full"):
                    for number in range(100):
                        await store.decisions.append([decision(number, vectors=os.urandom(1 << 20))])
                assert store.database.failures.cause == "disk_full"
                assert len((await store.versions.snapshot()).versions) == 1
                assert store.database.failures.cause == "disk_full", "that it can be read says nothing of it"
        finally:
            schema = url.rpartition("%3D")[2]
            postgres.sql(postgres.url(), f"DROP SCHEMA {schema} CASCADE")
            postgres.sql(postgres.url(), "DROP TABLESPACE small")


async def test_sqlite(tmp_path: Path, empty_sqlite: Path) -> None:
    path = Path(shutil.copy(empty_sqlite, tmp_path))
    with fails("permission"):
        await open_database(str(tmp_path), timeout_s=1)
    with locked(path, "EXCLUSIVE"):
        async with opened(str(path), 0.5) as store:
            with fails("locked"):
                await save(store, "cats", {})
            assert store.database.failures.cause == "locked"
    (tmp_path / "other").write_bytes(b"not a database, but long enough to be looked at " * 100)
    with fails("corrupt"):
        await open_database(str(tmp_path / "other"), timeout_s=1)


async def test_a_cause_is_logged_at_once_and_not_each_time(tmp_path: Path, empty_sqlite: Path) -> None:
    path = Path(shutil.copy(empty_sqlite, tmp_path))
    observed: list[Cause] = []
    database = late_database(str(path), timeout_s=0.3, observe_failure=observed.append)
    versions = Versions(database, "bundle", "text")
    await versions.revision()
    with collected() as lines, closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                await database.write(lambda tx: tx.execute(text("UPDATE revisions SET value = 1")))
        holder.execute("ROLLBACK")
        await database.write(lambda tx: tx.execute(text("UPDATE revisions SET value = 1")))
    assert observed == ["locked"] * 3
    assert [(line["event"], line["cause"], line["access"]) for line in lines] == [
        ("the database fails", "locked", "write")
    ]
    assert database.failures.cause is None
    await database.close()


async def started(path: Path) -> str:
    """Start on a database as a gateway does; return what is in force, and check that nothing can be written."""
    database = late_database(str(path), timeout_s=5)
    try:
        versions = Versions(database, "bundle", "text")
        names = [version.name for version in (await versions.snapshot()).versions]
        with pytest.raises(StoreUnavailable):
            await save(versions, "dogs", {})
        return f"{','.join(names)} {database.failures.cause}"
    finally:
        await database.close()


async def test_a_start_on_a_disk_without_room_reads_what_is_there(tmp_path: Path, empty_sqlite: Path) -> None:
    with small_disk(tmp_path / "small", "8m") as disk:
        path = Path(shutil.copy(empty_sqlite, disk))
        async with opened(str(path)) as store:
            await save(store, "cats", {})
        filler = fill(disk)
        assert await started(path) == "cats disk_full"
        filler.unlink()
        remount(disk, "ro")
        assert (await started(path)).split()[0] == "cats"
        remount(disk, "rw")
        async with opened(str(path)) as store:
            assert (await save(store, "dogs", {})).new


async def test_what_lies_in_a_log_is_not_passed_over(tmp_path: Path, empty_sqlite: Path) -> None:
    """A gateway that was killed leaves a write-ahead log: without it, the file alone would be an older truth."""
    with small_disk(tmp_path / "small", "8m") as disk:
        path = Path(shutil.copy(empty_sqlite, disk))
        async with opened(str(path)) as store:
            await save(store, "cats", {})
            for end in ("", "-wal"):
                shutil.copy(f"{path}{end}", tmp_path)
        for end in ("", "-wal"):
            shutil.copy(tmp_path / f"{path.name}{end}", disk)
        fill(disk)
        with pytest.raises(StoreUnavailable) as caught:
            await asyncio.wait_for(started(path), PATIENCE_S)
        assert caught.value.cause == "disk_full"
