"""What a format has to do for the export, and which there are. The only way to them from outside."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from scripts.export.refusal import ExportRefused

Model = Callable[[torch.Tensor], torch.Tensor]
"""A tower as it is served: uint8 [N, H, W, 3] or int64 [N, L] to unit vectors fp32 [N, D]."""


class Format(Protocol):
    """Writes towers to files, and loads them as they will be served."""

    def require(self) -> None:
        """Check that the installed packages can do it.

        Raises:
            ExportRefused: they cannot, with the reason.
        """
        ...

    def write(self, tower: nn.Module, example: torch.Tensor, precision: str, target: str, folder: Path) -> None:
        """Write a tower into the folder of its version.

        Args:
            tower: fp32, in evaluation mode; left as it is.
            example: an input of two rows or more, on the device that the files are for.
            precision: ``fp32``, ``fp16`` or ``int8``.
            target: ``wheel`` or ``container``.
            folder: that is there.

        Raises:
            ExportRefused: it cannot be done at this precision on this machine.
        """
        ...

    def load(self, folder: Path, device: torch.device, target: str) -> Model:
        """Load what ``write`` wrote, to be run as the target's server will run it."""
        ...

    def versions(self, precision: str, device: str) -> dict[str, str]:
        """Return what the manifest notes of the programs that wrote the files, by name."""
        ...


def maker(name: str) -> Format:
    """Return a format by its name, ready for use.

    Raises:
        ExportRefused: its packages are missing or lack something.
    """
    module, kind = {"torchscript": ("torchscript", "TorchScript"), "openvino": ("openvino", "OpenVino")}[name]
    try:
        found: Format = getattr(importlib.import_module(f"scripts.export.formats.{module}"), kind)()
    except ModuleNotFoundError as error:
        raise ExportRefused(
            f"FORMAT={name} needs the package {error.name}: install it with `pip install '.[{name}]'`"
        ) from None
    found.require()
    return found
