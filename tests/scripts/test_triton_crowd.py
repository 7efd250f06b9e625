"""How the instances of the Python-based backend share out threads among the batches that run at the same time."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType

import pytest
import torch

BACKEND = Path(__file__).parents[2] / "scripts" / "triton" / "backend" / "pytorch" / "model.py"


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The backend's module, as a stub would load it."""
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", ModuleType("triton_python_backend_utils"))
    monkeypatch.syspath_prepend(str(BACKEND.parents[1]))  # the launcher copies rows.py beside it
    spec = importlib.util.spec_from_file_location("backend_under_test", BACKEND)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = torch.get_num_threads()
    spec.loader.exec_module(module)
    yield module
    torch.set_num_threads(before)


def test_a_batch_alone_takes_all_threads_and_several_share_them(backend: ModuleType, tmp_path: Path) -> None:
    # One process holds all the locks here, so that each crowd is given a place of its own by hand.
    crowds = [backend.Crowd(tmp_path / "crowd", 1, 4) for _ in range(4)]
    for place, crowd in enumerate(crowds):
        crowd._place = place
    taken = []
    with ExitStack() as running:
        for crowd in crowds:
            running.enter_context(crowd.computing())
            taken.append(torch.get_num_threads())
    assert taken == [4, 2, 1, 1]
    with crowds[2].computing():
        assert torch.get_num_threads() == 4


def test_a_batch_that_fails_is_counted_no_more(backend: ModuleType, tmp_path: Path) -> None:
    crowd, other = (backend.Crowd(tmp_path / "crowd", 1, 2) for _ in range(2))
    other._place = 1
    with pytest.raises(RuntimeError), crowd.computing():
        raise RuntimeError
    with other.computing():
        assert torch.get_num_threads() == 2


def test_without_a_file_or_a_parameter_threads_stay_as_the_config_says(
    backend: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(3)
    monkeypatch.delenv("TRITON_CROWD_FILE", raising=False)
    with backend.Crowd.of_environment({"INTRA_OP_THREAD_COUNT": "1", "LONE_THREAD_COUNT": "8"}).computing():
        assert torch.get_num_threads() == 3
    monkeypatch.setenv("TRITON_CROWD_FILE", str(tmp_path / "crowd"))
    with backend.Crowd.of_environment({"INTRA_OP_THREAD_COUNT": "2"}).computing():
        assert torch.get_num_threads() == 3
