"""The written procedure for another model, A to B and back, under a small load: see ``scripts/upgrade``."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.upgrade.__main__ import database, staged, upgrade
from tests.support.postgres_server import NoServer, binaries
from tests.support.tiny_clip import tiny_clip

HOLD = 20


@pytest.mark.heavy
@pytest.mark.timeout(600)
def test_no_request_fails_while_the_model_is_changed_and_changed_back(tmp_path: Path, bundle: Path) -> None:
    try:
        binaries()
        kind = "postgresql"
    except NoServer:
        kind = "sqlite"
    tiny = tiny_clip(tmp_path / "tiny", seed=1, max_position_embeddings=200)
    sides = ("demo", bundle), (str(tiny), tmp_path / "tiny-bundle")
    with database(kind, tmp_path) as url, staged(tmp_path, *sides, url) as it:
        outcome = upgrade(it, HOLD)
    assert outcome.faults == []
    assert {answer.bundle_id for answer in outcome.answers} == {it.old.bundle_id, it.new.bundle_id}
    assert sum(answer.decision is not None for answer in outcome.answers) > HOLD
