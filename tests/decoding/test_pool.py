"""Decoding in processes: what one of them can do to its neighbours and to the gateway (nothing), and what it may do."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import psutil
import pytest
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from gateway.app import create_app
from gateway.decoding.decoder import DecodeLimits, inspect
from gateway.decoding.plugins import accepted_formats
from gateway.decoding.preprocess import Job, PreprocessedImage, prepare
from gateway.decoding.workers.forkserver import ForkServer, Progress, progress_of
from gateway.decoding.workers.messages import AnswerRefused, read_answer
from gateway.decoding.workers.pool import DecodePool, starved
from gateway.errors import DecodersUnavailable, GatewayError, ImageCorrupt, ImageUndecodable, InternalError
from gateway.observability.stage_timer import StageTimer
from gateway.settings import Settings
from tests.conftest import ROOT
from tests.support import awkward_images as make
from tests.support.crashing_preprocess import FORBIDDEN, Does
from tests.support.fake_encoder import FakeEncoder, write_bundle
from tests.support.fault_table import FaultLog
from tests.support.in_process_app import Web, ask, is_problem, wait_ready
from tests.support.waiting import UNTIL_S, eventually, until

LIMITS = DecodeLimits(timeout_s=3, formats=accepted_formats(heic=True, isolated=True))
MOST_MEMORY = 2 << 30


def job(data: bytes | None = None, does: Does = Does.NOTHING_BAD, limits: DecodeLimits = LIMITS) -> Job:
    data = data or make.plain("JPEG")
    return Job(data, inspect(data, limits), limits, frozenset({"center", "tiles"}), 32, 32, seed=int(does))


@asynccontextmanager
async def processes(
    count: int = 2, *, stage: str = "tests.support.crashing_preprocess:break_or_prepare", heic: bool = False
) -> AsyncIterator[tuple[DecodePool, list[str]]]:
    """A pool, and the reasons its processes ended for."""
    ended: list[str] = []
    forker = ForkServer(most_memory=MOST_MEMORY, heic=heic, fingerprint=False, stage=stage)
    pool = DecodePool(count, forker, 64, ended.append)
    try:
        yield pool, ended
    finally:
        await pool.close()
        assert forkers() == []


def forkers() -> list[psutil.Process]:
    """The decoding processes of this one, not those of the stack that other tests share."""
    own = psutil.Process().children()
    return [child for child in own if child.is_running() and "gateway.decoding.workers.worker" in child.cmdline()]


async def fails(pool: DecodePool, asked: Job) -> GatewayError:
    with pytest.raises(GatewayError) as failure:
        await pool.prepare(asked, StageTimer())
    return failure.value


def workers() -> list[psutil.Process]:
    """The processes that decode: children of the one that forks."""
    return [child for forker in forkers() for child in forker.children()]


def peak_bytes(pid: int) -> int:
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) << 10


def is_confined(pid: int) -> None:
    process = Path(f"/proc/{pid}")
    assert b"secret" not in (process / "environ").read_bytes()
    assert sorted(path.name for path in (process / "fd").iterdir()) == ["0", "1", "2"]
    limits = dict(line.split("  ", 1) for line in (process / "limits").read_text().splitlines())
    found = {name: limits[name].split()[:2] for name in ("Max core file size", "Max file size", "Max open files")}
    assert list(found.values()) == [["0", "0"], ["0", "0"], ["3", "3"]]
    assert (process / "oom_score_adj").read_text() == "1000\n"
    status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    assert (status["CapEff"].strip(), status["NoNewPrivs"].strip()) == ("0" * 16, "1")


async def test_processes_answer_as_threads_do() -> None:
    files = {name: make.plain(name) for name in ("JPEG", "PNG", "WEBP", "AVIF", "GIF")}
    files |= {f"moving {name}": make.animation(name, 6) for name in ("PNG", "WEBP", "GIF", "AVIF")}
    async with processes(stage="gateway.decoding.preprocess:prepare", heic=True) as (pool, ended):
        for name, data in files.items():
            timer = StageTimer()
            got, expected = await pool.prepare(job(data), timer), prepare(job(data), StageTimer(), None)
            assert (got.info, got.places, got.fingerprints) == (expected.info, expected.places, ()), name
            assert np.array_equal(got.pixels, expected.pixels), name
            assert set(timer.elapsed_s) == {"decode", "views"}
        assert (await pool.prepare(replace(job(), hashed=False), StageTimer())).info.sha256 == ""
        cut = job()
        assert isinstance(await fails(pool, replace(cut, data=cut.data[:200])), ImageCorrupt)
        assert ended == []


@pytest.mark.parametrize(
    ("does", "what"),
    [
        (Does.ABORT, "abort() in a decoder"),
        (Does.NULL, "a null pointer in a decoder (SIGSEGV)"),
        (Does.KILL, "a decoder killed (SIGKILL, as when memory runs out)"),
        (Does.EXIT, "a decoder that exits"),
        (Does.HANG, "a decoder that never returns"),
    ],
)
async def test_44_a_decoder_that_dies_or_hangs_costs_its_own_picture(does: Does, what: str, faults: FaultLog) -> None:
    quick = DecodeLimits(timeout_s=0.1)
    async with processes() as (pool, ended):
        await pool.prepare(job(), StageTimer())
        bad = asyncio.create_task(fails(pool, job(does=does, limits=quick)))
        good = [asyncio.create_task(pool.prepare(job(), StageTimer())) for _ in range(6)]
        error = await bad
        assert isinstance(error, ImageUndecodable)
        faults.expect(44, what, f"{error.status} {error.code}", "422 image_undecodable")
        assert len(await asyncio.gather(*good)) == 6
        assert ended == ["hung" if does == Does.HANG else "died"]
        await eventually(lambda: len(workers()) == 2)
        await asyncio.gather(*(pool.prepare(job(), StageTimer()) for _ in range(4)))


async def test_19_a_container_that_lies_gets_no_more_memory_than_it_states() -> None:
    """libavif decodes at the size of the bitstream and scales; 485 MB here, if it could."""
    lying = job(make.avif_that_says(64, 64, make.avif_of_268_megapixels()))
    async with processes(stage="gateway.decoding.preprocess:prepare") as (pool, ended):
        await pool.prepare(job(make.plain("AVIF")), StageTimer())
        before = {worker.pid: peak_bytes(worker.pid) for worker in workers()}
        good = [asyncio.create_task(pool.prepare(job(make.plain("AVIF")), StageTimer())) for _ in range(6)]
        for _ in range(3):
            assert isinstance(await fails(pool, lying), ImageUndecodable)
        assert len(await asyncio.gather(*good)) == 6
        assert ended == []
        assert {worker.pid for worker in workers()} == before.keys()
        for pid, peak in before.items():
            assert peak_bytes(pid) - peak < lying.decode_bytes + (128 << 20)


@pytest.mark.parametrize(
    ("begun", "now", "expected"),
    [
        pytest.param(Progress(9.0, runs=True), Progress(9.5, runs=True), True, id="got a tenth of a processor"),
        pytest.param(Progress(9.0, runs=True), Progress(14.2, runs=True), False, id="worked all the time"),
        pytest.param(Progress(9.0, runs=True), Progress(9.5, runs=False), False, id="waits for something else"),
        pytest.param(Progress(9.0, runs=True), None, False, id="has gone"),
    ],
)
def test_a_worker_that_others_kept_from_its_work_does_not_hang(
    begun: Progress, now: Progress | None, *, expected: bool
) -> None:
    assert starved(begun, now, 5.0) == expected


def test_progress_is_what_the_kernel_says() -> None:
    working = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        deadline = time.monotonic() + UNTIL_S
        while (seen := progress_of(working.pid)) is None or seen.cpu_s < 0.2:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert seen.runs
        working.send_signal(signal.SIGSTOP)
        while (seen := progress_of(working.pid)) is None or seen.runs:
            assert time.monotonic() < deadline
    finally:
        working.kill()
        working.wait()
    assert progress_of(working.pid) is None


async def test_one_that_dies_idle_is_not_noticed() -> None:
    async with processes() as (pool, ended):
        for _ in range(3):
            await pool.prepare(job(), StageTimer())
            await eventually(lambda: len(workers()) == 2)
            for worker in workers():
                worker.kill()
            await pool.prepare(job(), StageTimer())
        assert set(ended) <= {"idle", "died"}  # died: in the moment between being lent and its first word


async def test_one_that_dies_before_it_reads_is_not_the_pictures_fault() -> None:
    async with processes() as (pool, ended):
        await pool.prepare(job(), StageTimer())
        await eventually(lambda: len(workers()) == 2)
        first = workers()
        for worker in first:
            worker.suspend()
        asked = [asyncio.create_task(pool.prepare(job(), StageTimer())) for _ in range(2)]
        await asyncio.sleep(0.1)  # both pictures lie in the sockets
        for worker in first:
            worker.kill()
        assert len(await asyncio.gather(*asked)) == 2
        assert ended == ["died", "died"]


async def test_the_process_that_forks_comes_back() -> None:
    async with processes() as (pool, _):
        await pool.prepare(job(), StageTimer())
        slow = asyncio.create_task(pool.prepare(job(make.gif(40, 1500, 1500)), StageTimer()))
        await asyncio.sleep(0.1)
        (forker,) = forkers()
        forker.kill()
        await slow  # begun again: it was nothing that the picture did
        await pool.prepare(job(), StageTimer())


async def test_a_client_that_leaves_frees_its_decoder() -> None:
    async with processes(count=1) as (pool, ended):
        before = await pool.prepare(job(), StageTimer())
        (worker,) = workers()
        begun_s = sum(worker.cpu_times()[:2])
        hanging = asyncio.create_task(pool.prepare(job(does=Does.HANG), StageTimer()))
        await eventually(lambda: sum(worker.cpu_times()[:2]) > begun_s + 0.05)
        hanging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hanging
        assert ended == ["abandoned"]
        after = await pool.prepare(job(), StageTimer())
        assert np.array_equal(before.pixels, after.pixels)


async def test_what_a_decoder_says_is_not_believed() -> None:
    async with processes() as (pool, ended):
        assert isinstance(await fails(pool, job(does=Does.LIE)), ImageUndecodable)
        assert isinstance(await fails(pool, job(does=Does.LONG)), ImageUndecodable)
        assert ended == ["refused", "died"]
        bug = await fails(pool, job(does=Does.BUG))
        assert isinstance(bug, InternalError)
        assert "ZeroDivision" not in bug.detail
        assert len(ended) == 2  # a bug of ours is no reason to end it


async def test_one_that_speaks_unasked_is_ended_and_nobody_else_pays() -> None:
    async with processes(count=1) as (pool, ended):
        assert isinstance(await fails(pool, job(does=Does.SHOUT)), ImageUndecodable)  # before its answer
        assert ended == ["refused"]
        await pool.prepare(job(does=Does.MUTTER), StageTimer())  # behind it
        await eventually(lambda: ended == ["refused", "idle"])
        await pool.prepare(job(), StageTimer())
        assert len(ended) == 2


@pytest.mark.parametrize(
    "facts",
    [
        b"",
        b"not json",
        b'{"elapsed_s": {}}',
        b'{"elapsed_s": {"decode": -1}, "error": {"kind": "ImageCorrupt", "detail": "x"}}',
        b'{"elapsed_s": {}, "error": {"kind": "ModelUnavailable", "detail": "x"}}',
        b'{"elapsed_s": {}, "error": {"kind": "ImageCorrupt", "detail": "x\\u001b[2J"}}',
        b'{"elapsed_s": {}, "error": {"kind": "ImageCorrupt", "detail": "x"}, "more": 1}',
        b"[" * 100_000,
    ],
)
def test_malformed_facts_are_refused(facts: bytes) -> None:
    with pytest.raises(AnswerRefused):
        read_answer(job(), facts, b"", StageTimer())


def test_an_answer_that_fits_is_read() -> None:
    expected, timer = prepare(job(), StageTimer(), None), StageTimer()
    facts = {"info": expected.info, "places": expected.places, "elapsed_s": {"decode": 0.5}}
    pixels = expected.pixels.tobytes()
    found = read_answer(job(), orjson.dumps(facts), pixels, timer)
    assert (found.info, found.places, timer.elapsed_s) == (expected.info, expected.places, {"decode": 0.5})
    assert np.array_equal(found.pixels, expected.pixels)


def lies(told: PreprocessedImage) -> dict[str, dict[str, object]]:
    """Return facts that each differ from those told in one value that cannot be."""
    info, (place, *others) = orjson.loads(orjson.dumps(told.info)), orjson.loads(orjson.dumps(told.places))
    wrong = {"frames": 2, "format": "png", "frames_analyzed": 0, "sha256": "x", "width": -1, "frames ": 1}
    found: dict[str, dict[str, object]] = {name: {"info": {**info, name: value}} for name, value in wrong.items()}
    for name, value in (("box", [0, 0, 9999, 9]), ("box", [-1, 0, 9, 9]), ("view", "centre"), ("frame_ms", -1)):
        found[f"{name} {value}"] = {"places": [{**place, name: value}, *others]}
    for hashed in ({"hex": "0" * 63, "quality": 9}, {"hex": "0" * 64, "quality": 101}):
        found[str(hashed)] = {"fingerprints": [hashed]}
    return found


def is_refused(asked: Job, facts: dict[str, object], pixels: bytes) -> bool:
    try:
        read_answer(asked, orjson.dumps(facts), pixels, StageTimer())
    except AnswerRefused:
        return True
    return False


def test_an_answer_that_does_not_fit_is_refused() -> None:
    told = prepare(job(), StageTimer(), None)
    facts = {"info": told.info, "places": told.places, "elapsed_s": {}}
    pixels = told.pixels.tobytes()
    assert [name for name, lie in lies(told).items() if not is_refused(job(), {**facts, **lie}, pixels)] == []
    assert is_refused(job(), facts, pixels[:-1])
    assert is_refused(replace(job(), hashed=False), facts, pixels), "nobody asked it which file this is"
    assert not is_refused(job(), facts, pixels)


async def test_a_decoder_can_do_nothing_but_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://secret")
    async with processes(count=1) as (pool, _):
        assert isinstance(await fails(pool, job(does=Does.GREEDY)), ImageUndecodable)  # 1 GiB for a small picture
        for worker in workers():
            is_confined(worker.pid)
            for name in (signal.SIGINT, signal.SIGTERM):  # a stop drains first; they end with the gateway
                worker.send_signal(name)
        await pool.prepare(job(), StageTimer())


@pytest.mark.parametrize("does", FORBIDDEN, ids=lambda does: does.name)
async def test_a_system_call_that_is_not_listed_kills_the_decoder_and_nobody_else_pays(does: Does) -> None:
    with capture_logs() as logs:
        async with processes(heic=True) as (pool, ended):
            bad = asyncio.create_task(fails(pool, job(does=does)))
            good = [asyncio.create_task(pool.prepare(job(), StageTimer())) for _ in range(3)]
            assert isinstance(await bad, ImageUndecodable)
            assert len(await asyncio.gather(*good)) == 3
            assert ended == ["died"]
            await eventually(lambda: any(line["event"] == "decoder ended" for line in logs))
    said = [line for line in logs if line["log_level"] == "warning"]
    assert [(line["event"], line["reason"], line["cause"]) for line in said] == [("decoder ended", "died", "SIGSYS")]


async def test_other_deaths_are_told_by_their_names() -> None:
    expected = {Does.ABORT: "SIGABRT", Does.NULL: "SIGSEGV", Does.EXIT: "exit 0"}
    with capture_logs() as logs:
        async with processes(count=1) as (pool, _):
            for does in expected:
                await fails(pool, job(does=does))
            await pool.prepare(job(), StageTimer())
    assert [line["cause"] for line in logs if line["event"] == "decoder ended"] == list(expected.values())


async def test_a_library_that_warns_opens_no_file() -> None:
    async with processes(count=1) as (pool, ended):
        await pool.prepare(job(does=Does.WARN), StageTimer())
        assert ended == []


async def test_a_kernel_without_filters_leaves_the_other_layers_and_is_told_of_once() -> None:
    with capture_logs() as logs:
        async with processes(count=2, stage="tests.support.unfiltered_preprocess:break_or_prepare") as (pool, ended):
            assert (await fails(pool, job(does=Does.LOOK))).detail == "possible:"
            assert ended == []
            await eventually(lambda: len(workers()) == 2)
    said = [line["missing"] for line in logs if line["log_level"] == "warning"]
    assert len(said) == 1
    assert "SECCOMP" in said[0]


async def test_none_can_be_started() -> None:
    async with processes(stage="tests.support.crashing_preprocess:absent") as (pool, _):
        await eventually(lambda: not pool.available)
        assert isinstance(await fails(pool, job()), DecodersUnavailable)


def test_the_gateway_says_that_it_cannot_decode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bundle(tmp_path)
    settings = Settings(model_repository=tmp_path, data_dir=tmp_path / "data", log_level="error", decode_workers=1)
    good = sys.executable
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with TestClient(create_app(settings, lambda *_: FakeEncoder()), base_url="http://localhost") as client:
        web = Web(client, FakeEncoder())
        until(lambda: client.get("/readyz").json()["failing"] == ["decoders"])
        is_problem(ask(web), 503, "decoders_unavailable")
        monkeypatch.setattr(sys, "executable", good)
        wait_ready(web)
        assert ask(web).status_code == 200
    assert forkers() == []


def test_a_gateway_that_is_killed_leaves_no_decoder() -> None:
    code = (
        "import asyncio, psutil\n"
        "from gateway.decoding.workers.forkserver import ForkServer\n"
        "from gateway.decoding.workers.pool import DecodePool\n"
        "from gateway.observability.stage_timer import StageTimer\n"
        "from tests.support.crashing_preprocess import Does\n"
        "from tests.decoding.test_pool import job\n"
        "async def main():\n"
        "    forker = ForkServer(most_memory=1 << 31, heic=False, fingerprint=False,\n"
        "                    stage='tests.support.crashing_preprocess:break_or_prepare')\n"
        "    pool = DecodePool(2, forker, 64, print)\n"
        "    await pool.prepare(job(), StageTimer())\n"
        "    hanging = asyncio.create_task(pool.prepare(job(does=Does.HANG), StageTimer()))\n"
        "    while len(children := psutil.Process().children(recursive=True)) < 3:\n"
        "        await asyncio.sleep(0.02)\n"
        "    print(*[child.pid for child in children], flush=True)\n"
        "    await hanging\n"
        "asyncio.run(main())\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": "."}
    )
    with process:
        assert process.stdout is not None
        children: list[int] = []
        for line in process.stdout:
            children = [int(word) for word in line.split() if word.isdigit()]
            if len(children) == 3:
                break
        process.kill()
    assert len(children) == 3
    until(lambda: not any(psutil.pid_exists(child) and is_alive(child) for child in children))


def is_alive(child: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(child).status() != "zombie"
    return False
