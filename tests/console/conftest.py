"""The console in a real browser on the real stack."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser

from tests.conftest import Stack
from tests.support.review_console import Desk, Reviewer, chromium, desk_of


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for a module; each person has a context of their own in it."""
    with chromium() as made:
        yield made


@pytest.fixture(scope="module")
def running_desk(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A gateway for reviewers."""
    with desk_of(stack, tmp_path_factory.mktemp("desk")) as made:
        yield made


@pytest.fixture
def desk(running_desk: Desk) -> Desk:
    """That gateway, with nothing waiting."""
    running_desk.empty()
    return running_desk


@pytest.fixture
def reviewer(browser: Browser, desk: Desk) -> Iterator[Callable[[str], Reviewer]]:
    """Seats a person at the review view; at the end no page has thrown, nor violated its Content-Security-Policy."""
    seated: list[Reviewer] = []

    def seat(name: str, **options: object) -> Reviewer:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})  # type: ignore[arg-type]
        seated.append(Reviewer(context, desk, name))
        return seated[-1]

    yield seat
    complaints = [complaint for one in seated for complaint in one.complaints]
    for one in seated:
        one.context.close()
    assert complaints == []
