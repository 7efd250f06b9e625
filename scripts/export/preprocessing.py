"""Reads a model's image transform and refuses any but CLIP's own. Imports no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gateway.inference.bundle import ImageTransform
from scripts.export.refusal import ExportRefused

BICUBIC = 3
ACCEPTED = "only CLIP's own transform can be served: short side resized (bicubic), square centre crop, mean and std"


def read_image_transform(folder: Path, image_size: int) -> ImageTransform:
    """Read ``preprocessor_config.json`` (or the one inside ``processor_config.json``).

    Args:
        folder: in Hugging Face's format.
        image_size: side of the picture that the vision tower takes, in pixels.

    Raises:
        ExportRefused: none there, or it asks for something the gateway would not do to a picture.
    """
    raw = _read(folder)
    for step in ("do_resize", "do_center_crop", "do_rescale", "do_normalize"):
        if raw.get(step, True) is not True:
            raise _refused(f"{step} is {json.dumps(raw[step])}")
    if raw.get("do_convert_rgb", True) is False:
        raise _refused("do_convert_rgb is false")
    if raw.get("do_pad"):
        raise _refused("do_pad is true")
    if raw.get("resample", BICUBIC) != BICUBIC:
        raise _refused(f"resample is {raw['resample']}, where 3 is bicubic")
    if abs(raw.get("rescale_factor", 1 / 255) * 255 - 1) > 1e-6:
        raise _refused(f"rescale_factor is {raw['rescale_factor']}, where CLIP has 1/255")
    resize = raw.get("size", image_size)
    if isinstance(resize, dict):
        if set(resize) != {"shortest_edge"}:
            raise _refused(f"size is {json.dumps(resize)}, where CLIP has a shortest_edge")
        resize = resize["shortest_edge"]
    crop = raw.get("crop_size", image_size)
    sides = {crop.get("height"), crop.get("width")} if isinstance(crop, dict) else {crop}
    if sides != {image_size}:
        raise _refused(f"crop_size is {json.dumps(crop)}, but the vision tower takes {image_size} pixels")
    if not isinstance(resize, int) or resize < image_size:
        raise _refused(f"size is {json.dumps(resize)}, smaller than the crop of {image_size}")
    mean, std = (_channels(raw, name) for name in ("image_mean", "image_std"))
    if min(std) <= 0:
        raise _refused(f"image_std is {json.dumps(std)}")
    return ImageTransform(image_size, resize, mean, std)


def _read(folder: Path) -> dict[str, Any]:
    for name, key in (("preprocessor_config.json", None), ("processor_config.json", "image_processor")):
        path = folder / name
        if not path.is_file():
            continue
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ExportRefused(f"{name} of the model cannot be read ({error}): fetch the model again") from None
        found = raw.get(key) if key else raw
        if isinstance(found, dict):
            return found
    raise ExportRefused(
        "the model has no preprocessor_config.json, which says how pictures are prepared for it: "
        "add the file of the model it was trained from"
    )


def _channels(raw: dict[str, Any], name: str) -> tuple[float, float, float]:
    value = raw.get(name)
    if not (isinstance(value, list) and len(value) == 3 and all(isinstance(part, int | float) for part in value)):
        raise _refused(f"{name} is {json.dumps(value)}, where three numbers are needed")
    return (float(value[0]), float(value[1]), float(value[2]))


def _refused(what: str) -> ExportRefused:
    return ExportRefused(f"the model's preprocessor_config.json is not CLIP's ({what}): {ACCEPTED}")
