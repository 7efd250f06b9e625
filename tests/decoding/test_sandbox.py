"""Decoding inside the sandbox gives what it gives outside: nothing that a decoder can need is loaded too late."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import numpy as np
import pytest
from structlog.testing import capture_logs

from gateway.decoding import pdq as perceptual
from gateway.decoding.decoder import DecodeLimits, inspect
from gateway.decoding.headers.header import Formats
from gateway.decoding.plugins import DecoderMissing, accepted_formats
from gateway.decoding.preprocess import Job, PreprocessedImage, prepare
from gateway.decoding.workers.forkserver import STAGE, ForkServer
from gateway.decoding.workers.pool import DecodePool
from gateway.errors import GatewayError, InternalError
from gateway.observability.stage_timer import StageTimer
from scripts.fuzz.mutate import mutation
from tests.support import awkward_images as make
from tests.support import decoder_inputs
from tests.support.crashing_preprocess import LATE, Does

DAMAGED = 500
"""Pictures broken in some way, since what decoders complain with may be loaded late too."""


def formats() -> Formats:
    """Return all that can be decoded here."""
    try:
        return accepted_formats(heic=True, isolated=True)
    except DecoderMissing:
        return accepted_formats(heic=False, isolated=True)


LIMITS = DecodeLimits(timeout_s=5, formats=formats(), sampled_frames=4)


@asynccontextmanager
async def workers(ended: list[str], stage: str = STAGE) -> AsyncIterator[DecodePool]:
    forker = ForkServer(
        most_memory=2 << 30, heic="heic" in LIMITS.formats, fingerprint=perceptual.available(), stage=stage
    )
    pool = DecodePool(2, forker, 64, ended.append)
    try:
        yield pool
    finally:
        await pool.close()


def job(data: bytes, seed: int = 1, size_px: int = 32) -> Job:
    return Job(
        data,
        inspect(data, LIMITS),
        LIMITS,
        frozenset({"full"}),
        size_px,
        size_px,
        seed,
        fingerprint=perceptual.available(),
    )


def files() -> Iterator[tuple[str, bytes]]:
    """Yield names and pictures, whole and broken."""
    whole = decoder_inputs.whole()
    if "heic" in LIMITS.formats:
        whole |= decoder_inputs.heics(importlib.import_module("pillow_heif"))
    for name, data in whole.items():
        yield name, data
        yield f"{name}, cut", data[: len(data) * 4 // 5]
    for number in range(DAMAGED):
        yield f"damaged {number}", mutation(list(whole.values()), 1, number)


def jobs() -> dict[str, Job]:
    """Return those that are not refused by their header."""
    found = {}
    for name, data in files():
        try:
            found[name] = job(data)
        except GatewayError:
            continue
    return found


def outside(asked: Job) -> PreprocessedImage | GatewayError:
    """Return what comes of a job in this process, which may import what it likes."""
    try:
        return prepare(asked, StageTimer(), perceptual.load_hasher())
    except GatewayError as fault:
        return fault


def alike(one: object, other: object) -> bool:
    """Return whether two pictures, or two errors, are the same."""
    if isinstance(one, PreprocessedImage) and isinstance(other, PreprocessedImage):
        facts = (one.info, one.places, one.fingerprints) == (other.info, other.places, other.fingerprints)
        return facts and np.array_equal(one.pixels, other.pixels)
    return (type(one), str(one)) == (type(other), str(other))


@pytest.mark.heavy
async def test_every_picture_is_decoded_as_outside() -> None:
    ended: list[str] = []
    asked = jobs()
    with capture_logs() as logs:
        async with workers(ended) as pool:
            waiting = (pool.prepare(each, StageTimer()) for each in asked.values())
            inside = await asyncio.gather(*waiting, return_exceptions=True)
    assert [line for line in logs if line["log_level"] == "error"] == []  # a late import is one
    assert set(ended) <= {"recycled"}
    different = [
        name for (name, each), found in zip(asked.items(), inside, strict=True) if not alike(outside(each), found)
    ]
    assert different == []
    assert sum(isinstance(found, PreprocessedImage) for found in inside) > len(asked) // 2


async def test_an_import_in_the_sandbox_is_a_bug_even_where_a_library_does_without() -> None:
    ended: list[str] = []
    data = make.plain("PNG")
    with capture_logs() as logs:
        async with workers(ended, "tests.support.crashing_preprocess:break_or_prepare") as pool:
            with pytest.raises(InternalError):
                await pool.prepare(job(data, Does.IMPORT), StageTimer())
            assert alike(await pool.prepare(job(data, Does.NOTHING_BAD), StageTimer()), outside(job(data, 0)))
    assert [line["exception"] for line in logs if line["log_level"] == "error"] == [f"LateImport of {', '.join(LATE)}"]
    assert ended == []


# --- which way up ----------------------------------------------------------------------------------------------------

CORNERS = np.zeros((64, 64, 3), np.uint8)
CORNERS[:32, :32], CORNERS[:32, 32:], CORNERS[32:, :32] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
"""Red, green, blue and black: each corner another colour."""


def turned(samples: make.Pixels, irot: int | None, imir: int | None) -> make.Pixels:
    """Return what is seen: first quarter turns to the left, then exchanged sides (ISO/IEC 23000-22, 7.3.6.7)."""
    seen = np.rot90(samples, irot or 0)
    return seen if imir is None else seen[::-1] if imir == 0 else seen[:, ::-1]


async def test_an_avif_is_turned_by_its_boxes_alone() -> None:
    async with workers([]) as pool:
        for irot in (None, 0, 1, 2, 3):
            for imir in (None, 0, 1):
                for exif in (None, 6):
                    data = decoder_inputs.avif_turned(irot, imir, CORNERS, exif=exif)
                    (seen,) = (await pool.prepare(job(data, size_px=64), StageTimer())).pixels
                    difference = np.abs(seen.astype(int) - turned(CORNERS, irot, imir)).max()
                    assert difference < 40, (irot, imir, exif)
        moving = job((decoder_inputs.CORPUS / "avif" / "turned-sequence.avif").read_bytes())
        info = (await pool.prepare(moving, StageTimer())).info
        assert (info.frames, info.width, info.height) == (2, 64, 96)
