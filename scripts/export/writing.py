"""Puts a bundle together in a staging folder and moves it into the repository."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

from gateway.inference.bundle import IMAGE_MODEL, MANIFEST_NAME, TEXT_MODEL, TOKENIZER_NAME, Manifest, file_sha256
from scripts.export.lock import STAGING_NAME
from scripts.export.record import RECORD_NAME, Measured, Request, write_record
from scripts.export.sizing import Sizing, Wish
from scripts.export.triton_config import image_config, text_config


def staging_of(repository: Path) -> tuple[Path, Path, Path]:
    """Make a staging folder in a repository; return it and the folders of the image and the text model's version."""
    staging = repository / STAGING_NAME
    image, text = (staging / name / "1" for name in (IMAGE_MODEL, TEXT_MODEL))
    for version in (image, text):
        version.mkdir(parents=True)
    return staging, image, text


def finish(staging: Path, manifest: Manifest, tokenizer: bytes, image: Sizing, text: Sizing) -> Manifest:
    """Add configs, tokenizer and manifest to a staging folder; return the manifest with its checksums."""
    (staging / IMAGE_MODEL / "config.pbtxt").write_text(image_config(manifest, image), encoding="utf-8")
    (staging / TEXT_MODEL / "config.pbtxt").write_text(text_config(manifest, text), encoding="utf-8")
    (staging / TOKENIZER_NAME).write_bytes(tokenizer)
    files = sorted(path for path in staging.rglob("*") if path.is_file())
    checksums = {path.relative_to(staging).as_posix(): file_sha256(path) for path in files}
    manifest = dataclasses.replace(manifest, checksums=checksums)
    (staging / MANIFEST_NAME).write_text(manifest.to_json(), encoding="utf-8")
    return manifest


def publish(staging: Path, repository: Path, request: Request, measured: Measured) -> None:
    """Replace the repository's bundle by the staged one, on the same file system.

    The manifest goes first and comes last: whoever is interrupted in between leaves a repository without a bundle,
    never one whose parts do not belong together.
    """
    for name in (RECORD_NAME, MANIFEST_NAME, TOKENIZER_NAME):
        (repository / name).unlink(missing_ok=True)
    for name in (IMAGE_MODEL, TEXT_MODEL):
        shutil.rmtree(repository / name, ignore_errors=True)
        (staging / name).rename(repository / name)
    for name in (TOKENIZER_NAME, MANIFEST_NAME):
        (staging / name).rename(repository / name)
    write_record(repository, request, measured, Wish())
    staging.rmdir()
