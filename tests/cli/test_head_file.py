"""Heads out of files: the published one, both formats, and files that mean harm."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.cli.head_file import HeadUnusable, Stated, read_head
from gateway.inference.prompts import LabelRules

FACTS = {"model": "openai/clip-vit-base-patch32", "embedding_dim": 4, "output": "sigmoid", "labels": ["bad"]}


def arrays(**changed: Any) -> dict[str, Any]:
    made = {
        "linear_1.weight": np.ones((3, 4), np.float32),
        "linear_1.bias": np.zeros(3, np.float32),
        "linear_2.weight": np.ones((1, 3), np.float32),
        "linear_2.bias": np.zeros(1, np.float32),
    }
    return {name: value for name, value in {**made, **changed}.items() if value is not None}


def saved(folder: Path, **changed: Any) -> Path:
    path = folder / "head.npz"
    np.savez(path, **arrays(), **{**FACTS, **changed})
    return path


def test_the_published_nsfw_head_is_imported_as_it_is(golden: Path) -> None:
    path = golden / "laion_nsfw_head_vitb32.npz"
    made = read_head(path, Stated("openai/clip-vit-base-patch32", "sigmoid", ("nsfw",)))
    assert (made.model.embedding_dim, made.model.bundle_id) == (512, None)
    vectors = np.load(golden / "photos_vitb32.npz")["image_embeds"]
    scores = made.head(LabelRules()).probabilities(vectors)[:, 0]
    file = np.load(path)
    values = (vectors.astype(float) - file["norm.mean"]) / np.sqrt(file["norm.variance"].astype(float))
    for number in (1, 2, 3):
        values = values @ file[f"linear_{number}.weight"].T.astype(float) + file[f"linear_{number}.bias"]
        values = np.maximum(values, 0) if number < 3 else values
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-values[:, 0])), atol=1e-6)
    assert scores.max() < 0.1


def test_both_formats_say_what_the_head_is(tmp_path: Path) -> None:
    from_npz = read_head(saved(tmp_path), Stated())
    assert (from_npz.model.id, from_npz.names, from_npz.output) == (FACTS["model"], ("bad",), "sigmoid")
    numpy = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "head.safetensors"
    metadata = {"model": FACTS["model"], "embedding_dim": "4", "output": "sigmoid", "labels": json.dumps(["bad"])}
    numpy.save_file(arrays(), path, metadata=metadata)
    assert read_head(path, Stated()) == from_npz
    assert read_head(path, Stated(model="another")).model.id == "another", "the command line wins"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"labels": ["bad", "worse"]}, "1 outputs for 2 labels"),
        ({"embedding_dim": 5}, "5 columns"),
        ({"output": "tanh"}, "output"),
        ({"linear_9.weight": np.ones((1, 1), np.float32)}, "linear_9.weight"),
        ({"linear_2.bias": np.zeros(1, np.float64)}, "float64"),
        ({"linear_2.bias": np.full(1, np.nan, np.float32)}, "finite"),
        ({"linear_2.bias": np.array([{}], object)}, "plain numbers"),
        ({"norm.mean": np.zeros(4, np.float32)}, "without norm.std"),
        ({"model": ""}, "--model"),
    ],
)
def test_a_file_that_is_no_head_is_refused(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    path = tmp_path / "head.npz"
    np.savez(path, **{**arrays(), **FACTS, **changed})
    with pytest.raises(HeadUnusable, match=said):
        read_head(path, Stated())


def test_files_that_claim_more_than_they_hold_are_refused(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40,)})
    path = tmp_path / "head.npz"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("linear_1.weight.npy", header.getvalue())
    with pytest.raises(HeadUnusable, match="cut short"):
        read_head(path, Stated())
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("linear_1.weight.npy", bytes(1 << 24))
    with pytest.raises(HeadUnusable, match="unpacks"):
        read_head(path, Stated())
    path.write_bytes(b"PK no zip")
    with pytest.raises(HeadUnusable, match="no npz"):
        read_head(path, Stated())
    pytest.importorskip("safetensors")
    other = tmp_path / "head.safetensors"
    for content in (b"", b"\xff" * 64, (1 << 60).to_bytes(8, "little") + b"{}"):
        other.write_bytes(content)
        with pytest.raises(HeadUnusable):
            read_head(other, Stated())
