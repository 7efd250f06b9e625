"""What an export is asked for, read from plain words, and whether it is there already. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from scripts.export.device import DEVICES, resolve_device
from scripts.export.processor import vector_units
from scripts.export.record import Held, Request, held
from scripts.export.refusal import ExportRefused
from scripts.export.sizing import Wish, usable_cores
from scripts.export.source import Source, fingerprint, parse_source

PRECISIONS = ("fp32", "fp16", "int8")
TARGETS = ("wheel", "container")
FORMATS = ("torchscript", "openvino")


def text_precision(precision: str) -> str:
    """Return the precision of the text tower in a bundle of some precision.

    Beside int8 it stays fp32: the gateway keeps the vectors of texts, so that a quick text tower saves next to nothing,
    while its rounding would shift every score (cosines down to .986 on the demo model).
    """
    return "fp32" if precision == "int8" else precision


@dataclass(frozen=True, slots=True)
class Order:
    """A model at a precision for a device.

    Attributes:
        source: of the model.
        precision: ``fp32``, ``fp16`` or ``int8``.
        device: ``cpu`` or ``cuda``.
        cores: that the stack may use.
        wish: instances and threads, where they are not left to the export.
        target: the server that it is for: ``wheel``, the one of ``make serve``, or NVIDIA's ``container``.
        format_name: of the models' files: ``torchscript`` or ``openvino``.
    """

    source: Source
    precision: str
    device: str
    cores: int
    wish: Wish
    target: str = "wheel"
    format_name: str = "torchscript"

    def request(self) -> Request | None:
        """Return the exact request; None while the hub was never asked which commit the model has."""
        state = fingerprint(self.source)
        return None if state is None else self.request_for(state)

    def request_for(self, state: str) -> Request:
        """Return the request for a state of the source; 8-bit weights are for one kind of processor."""
        kernels = " ".join(vector_units()) if self.precision == "int8" else ""
        return Request(state, self.precision, self.device, self.cores, kernels, self.target, self.format_name)

    def is_in(self, repository: Path) -> bool:
        """Tell whether a repository holds exactly this, whole."""
        found = self.found_in(repository)
        return found is not None and found.wish == self.wish

    def found_in(self, repository: Path) -> Held | None:
        """Return how a repository holds these models, with whatever instances and threads; None if it does not."""
        request = self.request()
        return None if request is None else held(repository, request)


def read_order(
    model: str,
    precision: str,
    device: str,
    wish: Wish | None = None,
    *,
    target: str = "wheel",
    format_name: str = "torchscript",
) -> Order:
    """Read an order.

    Args:
        model: ``demo``, a hub id, a folder, or ``random:<architecture>``.
        precision: ``fp32``, ``fp16`` or ``int8``.
        device: ``auto``, ``cpu`` or ``cuda``.
        wish: instances and threads; None leaves them to the export.
        target: ``wheel`` or ``container``.
        format_name: ``torchscript`` or ``openvino``.

    Raises:
        ExportRefused: one of them is unknown, or they do not go together.
    """
    words = (
        ("PRECISION", precision, PRECISIONS),
        ("DEVICE", device, DEVICES),
        ("TARGET", target, TARGETS),
        ("FORMAT", format_name, FORMATS),
    )
    for name, given, known in words:
        if given not in known:
            raise ExportRefused(f"{name}={given} is unknown: choose one of {', '.join(known)}")
    if format_name == "openvino" and device == "cuda":
        raise ExportRefused("FORMAT=openvino is for CPUs: give DEVICE=cpu, or FORMAT=torchscript for a GPU")
    where = "cpu" if format_name == "openvino" else resolve_device(device)
    return Order(parse_source(model), precision, where, usable_cores(), wish or Wish(), target, format_name)
