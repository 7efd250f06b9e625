"""What is no CLIP, or none that can be exported, is refused in a sentence."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from transformers import SiglipConfig

from scripts.export import checkpoint, vocabulary
from scripts.export.preprocessing import read_image_transform
from scripts.export.refusal import ExportRefused
from scripts.export.source import parse_source
from tests.conftest import ROOT
from tests.support.tiny_clip import PREPROCESSOR, export, tiny_clip


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_clip(tmp_path_factory.mktemp("models") / "tiny-clip")


def refusal(model: Path | str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one sentence that an export refuses with."""
    capsys.readouterr()
    assert export(model, tmp_path / "refused") == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("export: ")
    assert len(error.splitlines()) == 1
    assert "Traceback" not in error
    return error


def test_other_model_families_are_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    SiglipConfig().save_pretrained(tmp_path / "siglip")
    assert "SigLIP" in refusal(tmp_path / "siglip", tmp_path, capsys)
    for kind in ("altclip", "chinese_clip", "blip", "siglip2"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "config.json").write_text(json.dumps({"model_type": kind}))
        assert checkpoint.OTHER_FAMILIES[kind] in refusal(tmp_path / kind, tmp_path, capsys)


def test_what_is_no_model_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no CLIP folder" in refusal(empty, tmp_path, capsys)
    (empty / "config.json").write_text("{")
    assert "cannot be read" in refusal(empty, tmp_path, capsys)
    assert "no folder" in refusal("./not/there", tmp_path, capsys)
    assert "is a file" in refusal(empty / "config.json", tmp_path, capsys)
    assert "random:ViT-B/32" in refusal("random:ViT-H/14", tmp_path, capsys)


def test_damaged_models_are_refused(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def copy(name: str) -> Path:
        return Path(shutil.copytree(tiny, tmp_path / name))

    cut = copy("cut") / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[:1000])
    assert "cannot be loaded" in refusal(cut.parent, tmp_path, capsys)
    bare = copy("bare") / "model.safetensors"
    bare.unlink()
    assert "no weights" in refusal(bare.parent, tmp_path, capsys)
    (words := copy("wordless") / "tokenizer.json").unlink()
    assert "no tokenizer.json" in refusal(words.parent, tmp_path, capsys)
    (pictures := copy("blind") / "preprocessor_config.json").unlink()
    assert "preprocessor_config.json" in refusal(pictures.parent, tmp_path, capsys)
    half = copy("half")
    from safetensors.torch import load_file, save_file

    weights = {name: value for name, value in load_file(half / "model.safetensors").items() if "text" not in name}
    save_file(weights, half / "model.safetensors", metadata={"format": "pt"})
    assert "not a whole CLIP" in refusal(half, tmp_path, capsys)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"resample": 2}, "resample"),
        ({"do_center_crop": False}, "do_center_crop"),
        ({"size": {"height": 32, "width": 32}}, "shortest_edge"),
        ({"crop_size": {"height": 32, "width": 48}}, "crop_size"),
        ({"rescale_factor": 1 / 127.5}, "rescale_factor"),
        ({"image_std": [0.5, 0.5]}, "image_std"),
        ({"size": {"shortest_edge": 16}}, "smaller"),
    ],
)
def test_other_transforms_are_refused(change: dict[str, object], said: str, tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**PREPROCESSOR, **change}))
    with pytest.raises(ExportRefused, match=said):
        read_image_transform(tmp_path, 32)


def test_the_transform_may_stand_in_processor_config(tmp_path: Path) -> None:
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": PREPROCESSOR}))
    assert read_image_transform(tmp_path, 32).resize_px == 36


def test_an_unreachable_hub_is_one_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scripts.export", "--model", "nobody/nothing", "--repository", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "hub cannot be reached" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_hub_ids_may_name_a_revision() -> None:
    source = parse_source("openai/clip-vit-base-patch32@abc123")
    assert (source.id, source.kind, source.revision) == ("openai/clip-vit-base-patch32", "hub", "abc123")


def test_tokenizers_of_another_model_are_refused(tiny: Path) -> None:
    raw = (tiny / "tokenizer.json").read_bytes()
    limits = {"context_length": 20, "vocab_size": 514, "config_eos_id": 513}
    vocabulary.read_vocabulary(raw, **limits)
    with pytest.raises(ExportRefused, match="knows 500 tokens"):
        vocabulary.read_vocabulary(raw, **{**limits, "vocab_size": 500})
    with pytest.raises(ExportRefused, match="reads its text vector at id 511"):
        vocabulary.read_vocabulary(raw, **{**limits, "config_eos_id": 511})
    unframed = json.loads(raw)
    unframed["post_processor"] = None
    with pytest.raises(ExportRefused, match="start and an end token"):
        vocabulary.read_vocabulary(json.dumps(unframed).encode(), **limits)


def test_the_random_tokenizer_has_clips_ids() -> None:
    raw = vocabulary.random_tokenizer()
    tokenizer = Tokenizer.from_buffer(raw)
    assert tokenizer.get_vocab_size() == 49_408
    ids = tokenizer.encode("A photo, of 2 Cats!").ids
    assert (ids[0], ids[-1]) == (49_406, 49_407)
    assert vocabulary.random_tokenizer() == raw
    assert max(tokenizer.encode("qwxz").ids[1:-1]) < 512  # a word it does not know, in bytes
    assert tokenizer.encode("a  CAT").ids == tokenizer.encode("a cat").ids
