"""An image's bytes, whichever way they come: to the byte as many as accepted, and no longer held than needed."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.errors import ImageTooLarge, InvalidRequest, Overloaded, SourceUrlForbidden
from gateway.fetching.image_source import KEPT_JSON_WEIGHT, Base64, ImageSource, Source, Upload, Url
from gateway.limits.admission import Admission, AdmissionLimits, Reservation

MOST = 300
URL = Url("https://images.test/cat.png")
LARGE = 1 << 20
NO_BASE64 = "^The base64 text of the image is not valid base64 "
NO_DATA_URI = "^A data: URI must be of the form data:image/…;base64,… to be read.$"


def reservation() -> Reservation:
    return Reservation(Admission(AdmissionLimits(1, LARGE, LARGE, 0.0), lambda _: None))


def text(data: bytes) -> Base64:
    return Base64(base64.b64encode(data).decode(), None)


class Places:
    """Places for the images of URLs, and how many are taken."""

    def __init__(self) -> None:
        self.taken = 0
        self.full = False

    @asynccontextmanager
    async def room(self) -> AsyncIterator[None]:
        if self.full:
            raise Overloaded("full")
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1


def image_source(places: Places | None = None, most: int = MOST) -> ImageSource:
    async def fetched(url: str) -> bytes:
        if "forbidden" in url:
            raise SourceUrlForbidden(url)
        return f"fetched {url}".encode()

    return ImageSource(fetched, (places or Places()).room, most)


@pytest.mark.parametrize("size", [0, 1, 2, 3, MOST - 2, MOST - 1, MOST])
async def test_an_image_of_as_many_bytes_as_accepted_is_read(size: int) -> None:
    data = bytes(number % 251 for number in range(size))
    assert await image_source().read(Upload(data, reservation())) == data
    assert await image_source().read(text(data)) == data


@pytest.mark.parametrize("over", [1, 2, 3, 1000])
@pytest.mark.parametrize("most", [MOST - 2, MOST - 1, MOST])
async def test_one_byte_more_is_too_large(most: int, over: int) -> None:
    data = bytes(most + over)
    says = rf"^The image has about {len(data)} bytes; at most {most} are accepted\.$"
    with pytest.raises(ImageTooLarge, match=says):
        await image_source(most=most).read(Upload(data, reservation()))
    with pytest.raises(ImageTooLarge, match=rf"^The image has about \d+ bytes; at most {most} are accepted\.$"):
        await image_source(most=most).read(text(data))


async def test_text_that_must_be_too_large_is_not_even_decoded() -> None:
    for prefix in ("", "data:image/png;base64,"):
        with pytest.raises(ImageTooLarge):
            await image_source().read(Base64(prefix + "!" * ((MOST + 3) * 4 // 3), None))
    with pytest.raises(InvalidRequest):
        await image_source().read(Base64("!" * (MOST * 4 // 3), None))


@pytest.mark.parametrize("most", [MOST, LARGE])
@pytest.mark.parametrize("line", [1, 64, 76])
async def test_neither_lines_nor_what_stands_before_them_count_as_bytes(line: int, most: int) -> None:
    """Mail breaks base64 every 76 characters and PEM every 64."""
    data = b"\xfe\xff" * (most // 2)
    plain = base64.b64encode(data).decode()
    lines = "\r\n".join(plain[start : start + line] for start in range(0, len(plain), line))
    head = f"data:image/png;name={'x' * 1000};base64,"
    for given in (lines, f" \t{lines}\n\n", head + plain, f"{head}\n {lines}"):
        assert await image_source(most=most).read(Base64(given, None)) == data


@pytest.mark.parametrize("head", ["data:image/png;base64,", "DATA:;BASE64,", "data:text/plain;charset=x;Base64,"])
async def test_a_data_uri_is_read_in_any_case(head: str) -> None:
    assert await image_source().read(Base64(head + "SGVsbG8=", None)) == b"Hello"
    assert await image_source().read(Base64(head, None)) == b""


@pytest.mark.parametrize(
    "wrong",
    [
        "data:image/png;base64",
        "data:SGVsbG8=",
        "data:image/png,SGVsbG8=",
        "data:;base64;,SGVsbG8=",
        "data:,data:;base64,SGVsbG8=",
    ],
)
async def test_a_data_uri_that_is_not_base64_is_refused(wrong: str) -> None:
    with pytest.raises(InvalidRequest, match=NO_DATA_URI):
        await image_source().read(Base64(wrong, None))


@pytest.mark.parametrize(
    "wrong",
    [
        "SGVsbG8",
        "SGVsbG8=!",
        "SGVs-_8=",
        "SGVs\N{NO-BREAK SPACE}bG8\N{LATIN SMALL LETTER E WITH ACUTE}",
        "=",
        "A",
        "metadata:;base64,SGVsbG8=",
        "data:;base64,SGVs,bG8=",
    ],
)
async def test_text_that_is_no_base64_is_refused(wrong: str) -> None:
    with pytest.raises(InvalidRequest, match=NO_BASE64) as raised:
        await image_source().read(Base64(wrong, None))
    assert raised.value.__suppress_context__, "the library's own message is not passed on"


@pytest.mark.parametrize("wrong", ["!", "\N{SNOWMAN}"])
async def test_large_text_is_judged_as_small_text_is(wrong: str) -> None:
    plain = base64.b64encode(bytes(LARGE)).decode()
    assert await image_source(most=LARGE).read(Base64(plain, None)) == bytes(LARGE)
    with pytest.raises(ImageTooLarge, match=f"at most {LARGE - 1} are"):
        await image_source(most=LARGE - 1).read(Base64(plain, None))
    with pytest.raises(InvalidRequest, match=NO_BASE64):
        await image_source(most=LARGE).read(Base64(plain[:-1] + wrong, None))


async def test_a_url_is_fetched_and_its_failure_passed_on() -> None:
    assert await image_source().read(URL) == b"fetched https://images.test/cat.png"
    with pytest.raises(SourceUrlForbidden):
        await image_source().read(Url("https://forbidden.test/"))


async def test_the_image_of_a_url_has_a_place_for_as_long_as_it_is_worked_on() -> None:
    places = Places()
    source = image_source(places)
    async with source.room(URL):
        assert places.taken == 1
    assert places.taken == 0
    with pytest.raises(ZeroDivisionError):
        async with source.room(URL):
            raise ZeroDivisionError
    assert places.taken == 0
    places.full = True
    with pytest.raises(Overloaded):
        async with source.room(URL):
            pytest.fail("there was no place")


def uploaded(held: Reservation) -> tuple[Source, int]:
    return Upload(bytes(100), held), 100


def sent_as_text(held: Reservation) -> tuple[Source, int]:
    return Base64("A" * 100, held), 100 * KEPT_JSON_WEIGHT


@pytest.mark.parametrize("sent", [uploaded, sent_as_text])
@pytest.mark.parametrize("fails", [False, True])
async def test_what_came_with_the_request_counts_until_it_is_done_with(sent: Any, *, fails: bool) -> None:
    places, held = Places(), reservation()
    places.full = True  # which is no matter: its bytes were counted when they came
    held.hold(1000)
    given, counted = sent(held)

    async def work() -> None:
        async with image_source(places).room(given):
            assert held.held_bytes == 1000
            assert len(await image_source().read(given)) in {75, 100}
            if fails:
                raise ZeroDivisionError

    outcome = await asyncio.gather(work(), return_exceptions=True)
    assert isinstance(outcome[0], ZeroDivisionError) == fails
    assert held.held_bytes == 1000 - counted
    assert await image_source().read(given) == b"", "the bytes themselves are let go of"
    given.drop()
    assert held.held_bytes == 1000 - counted, "once"


async def test_text_that_the_request_keeps_is_let_go_of_here_all_the_same() -> None:
    given = Base64("AAAA", None)
    async with image_source().room(given):
        pass
    assert await image_source().read(given) == b""
