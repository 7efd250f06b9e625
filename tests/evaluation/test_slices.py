"""Which slices differ: an invented difference is found, and none where there is none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gateway.evaluation.judged import JudgedSet
from gateway.evaluation.reporting.slices import ALPHA, p_value, section, slices
from tests.support.judged_sets import image, made_set, run_of

WORLDS = 120


def test_a_weaker_slice_is_found_and_named() -> None:
    found = [entry for entry in slices(made_set(900, weaker="crayon")) if entry.differs]
    assert ("hand", "crayon") in {(entry.column, entry.value) for entry in found}
    weak = next(entry for entry in found if entry.value == "crayon")
    assert (weak.inside.value or 1) < (weak.outside.value or 0)
    made = section(made_set(900, weaker="crayon"))
    assert made is not None
    assert made.paragraphs[0].startswith("Worse than the rest for real: hand = crayon (")
    assert any(row[0] == "crayon" and row[1].startswith("▼") for row in made.tables[0].rows)


def test_equal_slices_are_called_different_no_more_often_than_stated() -> None:
    """Where no slice differs, a report with any finding is a false alarm: at most 5 % of reports have one."""
    rng = np.random.default_rng(8)
    alarms = 0
    for _ in range(WORLDS):
        rows = [
            image(
                number,
                ["gore"] if number % 2 else [],
                {"gore": float(rng.random() ** (0.3 if number % 2 else 3))},
                slices={"hand": "abc"[rng.integers(3)], "country": "defgh"[rng.integers(5)]},
            )
            for number in range(120)
        ]
        alarms += any(entry.differs for entry in slices(JudgedSet(run_of(), tuple(rows))))
    assert alarms / WORLDS <= ALPHA


def test_copies_do_not_make_a_difference() -> None:
    inside, found = (
        np.array([True] * 4 + [False] * 4),
        np.array([True, True, True, False, False, False, False, True]),
    )
    once = p_value(found, inside, np.arange(8))
    copied = p_value(np.repeat(found, 30), np.repeat(inside, 30), np.repeat(np.arange(8), 30))
    assert once > ALPHA
    assert copied > ALPHA
    assert p_value(np.repeat(found, 30), np.repeat(inside, 30), np.arange(240)) < 0.001


def test_an_image_without_a_value_is_in_no_slice() -> None:
    judged = made_set(60)
    bare = [replace(entry, image=replace(entry.image, slices={})) for entry in judged.images[:30]]
    found = slices(replace(judged, images=(*bare, *judged.images[30:])))
    harmless = sum(entry.count for entry in found if entry.measure.startswith("harmless"))
    assert harmless == sum(not entry.image.labels for entry in judged.images[30:])


def test_no_columns_no_section() -> None:
    judged = made_set(12)
    bare = tuple(replace(entry, image=replace(entry.image, slices={})) for entry in judged.images)
    assert section(replace(judged, images=bare)) is None
