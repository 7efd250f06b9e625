"""Matrix products with fixed weights, as a CPU does them best: fp32 laid out anew, or in 8 bits.

A tower is written with ``nn.Linear``; ``torchscript.at_precision`` puts these in their places.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from scripts.export.processor import sums_in_32_bits

PAD = 16
"""Floats behind each row of laid weights: rows a multiple of 4 KiB apart would fall on each other in the cache."""


class Laid(nn.Module):
    """An fp32 linear layer whose weights lie as [in, out], padded, and which can add its result to something.

    Measured on AVX-512 with MKL, adding included, against ``nn.Linear``: 1.3 to 1.4 times as fast at 50 rows, 1.1 at
    250 and more.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        room = torch.zeros(linear.in_features, linear.out_features + PAD)
        room[:, : linear.out_features] = linear.weight.data.t()
        self.weight = nn.Parameter(room[:, : linear.out_features])
        self.bias = None if linear.bias is None else nn.Parameter(linear.bias.data.clone())

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        """Map [..., in] to [..., out]."""
        return functional.linear(given, self.weight.t(), self.bias)

    def add_to(self, hidden: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
        """Add what [..., in] maps to onto contiguous ``hidden`` [..., out], in place, and return that."""
        rows = hidden.view(-1, hidden.shape[-1]).addmm_(given.reshape(-1, given.shape[-1]), self.weight)
        if self.bias is not None:
            rows.add_(self.bias)
        return hidden


class Int8(nn.Module):
    """A linear layer of 8-bit weights, scaled per output, that rounds what it is given to 8 bits too.

    Args:
        quantized: the layer as ``torch.ao.quantization`` makes it.
        narrow: whether activations get 7 bits in place of 8, for processors that sum products in 16 bits.
    """

    def __init__(self, quantized: Any, *, narrow: bool) -> None:  # noqa: ANN401 - torch says nothing of its type
        super().__init__()
        self.packed = quantized._packed_params._packed_params  # noqa: SLF001 - what its own forward reads
        self.narrow = narrow

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        """Map fp32 [..., in] to fp32 [..., out]."""
        mapped: torch.Tensor = torch.ops.quantized.linear_dynamic(given, self.packed, self.narrow)
        return mapped


def add_product(hidden: torch.Tensor, layer: nn.Module, given: torch.Tensor) -> torch.Tensor:
    """Add what ``layer`` makes of [..., in] to contiguous ``hidden`` [..., out], in place, and return that."""
    if isinstance(layer, Laid):
        return layer.add_to(hidden, given)
    return hidden.add_(layer(given))


def lay_out(tower: nn.Module) -> None:
    """Put ``Laid`` in the place of every linear layer of a tower."""
    for name, module in list(tower.named_children()):
        if isinstance(module, nn.Linear):
            setattr(tower, name, Laid(module))
        else:
            lay_out(module)


def quickest_engine(engines: list[str], width: int) -> str:
    """Return which of PyTorch's quantised engines is quickest on this processor.

    Args:
        engines: candidates; the first wins a tie.
        width: of the hidden states of the tower in question.
    """
    best, best_s = engines[0], float("inf")
    given = torch.rand(400, width)
    for engine in engines:
        torch.backends.quantized.engine = engine
        layer = quantized(nn.Linear(width, 4 * width))
        taken = []
        with torch.inference_mode():
            for _ in range(12):
                start = time.process_time()
                layer(given)
                taken.append(time.process_time() - start)
        if min(taken) < 0.95 * best_s:
            best, best_s = engine, min(taken)
    return best


def in_int8(tower: nn.Module, keep: str) -> None:
    """Put ``Int8`` in the place of every linear layer of a tower but the one named ``keep``."""
    for name, module in list(tower.named_children()):
        if not isinstance(module, nn.Linear):
            in_int8(module, keep)
        elif name != keep:
            setattr(tower, name, quantized(module))


def quantized(linear: nn.Linear) -> Int8:
    """Return a linear layer in 8 bits, for the engine that is set and the processor this runs on."""
    from torch.ao import quantization

    rules = {"0": quantization.per_channel_dynamic_qconfig}
    made = quantization.quantize_dynamic(nn.Sequential(linear), rules, dtype=torch.qint8)  # type: ignore[no-untyped-call]
    return Int8(made[0], narrow=not sums_in_32_bits())
