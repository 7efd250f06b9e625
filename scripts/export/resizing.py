"""Gives the models of a finished bundle other instances and threads: their configs are written anew, nothing else.

Imports no torch: the export has measured what a config needs beside the operator's wish.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from gateway.inference.bundle import IMAGE_MODEL, MANIFEST_NAME, TEXT_MODEL, file_sha256, read_manifest
from scripts.export.record import RECORD_NAME, Measured, Request, write_record
from scripts.export.sizing import Wish
from scripts.export.triton_config import image_config, text_config


def resize(repository: Path, request: Request, measured: Measured, wish: Wish) -> None:
    """Write the configs of a repository that the caller holds, and note it in manifest and record.

    As when a bundle is published, the manifest goes first and comes last.

    Args:
        repository: with the bundle of ``request``.
        request: as in its record.
        measured: likewise.
        wish: what the operator asks for.
    """
    manifest = read_manifest(repository)
    image, text = wish.applied(measured.image, wish.instances), wish.applied(measured.text, wish.text_instances)
    texts = {IMAGE_MODEL: image_config(manifest, image), TEXT_MODEL: text_config(manifest, text)}
    for name in (RECORD_NAME, MANIFEST_NAME):
        (repository / name).unlink()
    checksums = dict(manifest.checksums)
    for model, words in texts.items():
        name = f"{model}/config.pbtxt"
        (repository / name).write_text(words, encoding="utf-8")
        checksums[name] = file_sha256(repository / name)
    manifest = dataclasses.replace(manifest, checksums=checksums)
    (repository / MANIFEST_NAME).write_text(manifest.to_json(), encoding="utf-8")
    write_record(repository, request, measured, wish)
