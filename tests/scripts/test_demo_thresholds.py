"""The demo policy's thresholds, on drawings by the hand that was not used for choosing them."""

from __future__ import annotations

import pytest
from PIL import Image

from scripts.demo.hands import HANDS, HARMLESS, OFFENDING, drawings
from scripts.demo.measure_policy import Case, bound, judged, looked_at
from scripts.demo.model import Demo
from scripts.demo.thresholds import CHOOSING, HELD_OUT
from tests.conftest import ROOT

COUNT, SEED = 25, 4_321
PICTURES = {
    "examples/red-circle.png": "allow",
    "docs/images/angry-scrawl.png": "review",
    "docs/images/red-splatter.png": "block",
}

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def demo() -> Demo:
    return Demo.load()


def decisions(demo: Demo, pictures: list[Image.Image]) -> list[str]:
    policy = bound(demo)
    seen = looked_at(demo, [Case((picture,), frozenset(), 1) for picture in pictures], policy.views)
    return [verdict.decision for verdict in judged(policy, seen, demo.scale)]


@pytest.mark.parametrize("what", OFFENDING)
def test_what_offends_is_not_allowed_whoever_draws_it(demo: Demo, what: str) -> None:
    assert HELD_OUT not in CHOOSING
    found = decisions(demo, drawings(HELD_OUT, what, COUNT, SEED))
    assert found.count("allow") <= 2
    assert found.count("block") > COUNT / 2, "people are asked about the doubtful ones only"


def test_few_harmless_drawings_are_sent_to_review(demo: Demo) -> None:
    """Those that come close included; the rest is allowed but for a few in red clothes."""
    found = [decision for what in HARMLESS for decision in decisions(demo, drawings(HELD_OUT, what, COUNT, SEED))]
    assert found.count("review") <= 0.05 * len(found)
    assert found.count("block") <= 0.05 * len(found)


def test_the_quickstarts_drawings_show_all_three_decisions(demo: Demo) -> None:
    pictures = [Image.open(ROOT / name).convert("RGB") for name in PICTURES]
    assert decisions(demo, pictures) == list(PICTURES.values())


def test_hands_share_no_code_and_draw_the_same_for_the_same_seed() -> None:
    for hand, subjects in HANDS.items():
        assert set(subjects) == {*OFFENDING, *HARMLESS}
        for what in subjects:
            one, same, other = (drawings(hand, what, 1, seed)[0].tobytes() for seed in (1, 1, 2))
            assert one == same != other
    for name in ("chalk_hand", "crayon_hand", "ink_hand", "other_hand", "paper_hand"):
        assert "from scripts" not in (ROOT / "scripts" / "demo" / f"{name}.py").read_text()
