"""TorchScript, the default format: precision, trace, freeze, a look at what the trace baked in, and the file."""

from __future__ import annotations

import copy
import operator
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from scripts.export.formats.products import in_int8, lay_out, quickest_engine
from scripts.export.refusal import ExportRefused

FILE = "model.pt"
PATCH_PROJECTION = "project_patches"
ENGINES = {"int8": ("x86", "fbgemm", "onednn", "qnnpack"), "fp16": ("x86", "fbgemm")}
"""PyTorch's quantised engines that can do a precision; the first that a build has is its default (``Context::qEngine``
of ATen), and of equally quick ones the one that is taken."""
NEEDED = (
    "jit.trace", "jit.freeze", "jit.load", "ao.quantization.quantize_dynamic", "ops.quantized.linear_dynamic",
    "_C.PyTorchFileReader", "_C.PyTorchFileWriter",
)  # fmt: skip
"""What TorchScript bundles are made with. TorchScript is deprecated since PyTorch 2.11, and ``torch.ao.quantization``
is to go before it."""
TRIED = "2.12 to 2.14"
"""Versions of PyTorch that bundles were exported and served with."""
LEFT_OUT = ("version", ".data/serialization_id")
"""Records that the archive's writer adds by itself."""


class TorchScript:
    """``<version>/model.pt``, for Triton's ``pytorch`` backends."""

    def require(self) -> None:
        """See ``Format.require``."""
        require(torch)

    def write(self, tower: nn.Module, example: torch.Tensor, precision: str, target: str, folder: Path) -> None:
        """See ``Format.write``."""
        quickest = target == "wheel"
        width = int(tower.get_parameter("position").shape[-1])
        made = trace(at_precision(tower, precision, example.device, width, quickest=quickest), example)
        save(made, folder / FILE)

    def load(self, folder: Path, device: torch.device, target: str) -> torch.jit.ScriptModule:  # noqa: ARG002
        """See ``Format.load``."""
        torch._C._jit_set_profiling_mode(False)  # noqa: SLF001, FBT003 - as Triton runs it
        return load(str(folder / FILE), device)

    def versions(self, precision: str, device: str) -> dict[str, str]:
        """See ``Format.versions``; with them the kernels that 8-bit or 16-bit weights were packed and measured with."""
        quantized = device == "cpu" and precision != "fp32"
        return {"quantized_engine": torch.backends.quantized.engine} if quantized else {}


def require(package: object) -> None:
    """Check that a PyTorch still has what a TorchScript bundle is made with.

    Args:
        package: ``torch``.

    Raises:
        ExportRefused: it lacks something; the sentence says what, and which versions have it.
    """
    for name in NEEDED:
        try:
            operator.attrgetter(name)(package)
        except AttributeError:
            version = getattr(package, "__version__", "of unknown version")
            raise ExportRefused(
                f"PyTorch {version} has no torch.{name} any more, which TorchScript bundles are made with: install "
                f"PyTorch {TRIED} (`pip install '.[export]'`), or give FORMAT=openvino"
            ) from None


@contextmanager
def quiet_deprecations() -> Iterator[None]:
    """Hide PyTorch's notices that TorchScript and eager quantisation are old: Triton's libtorch backend reads them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message=r"torch\.ao\.quantization is deprecated", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message=r"torch\.quantize_per_", category=UserWarning)
        yield


def at_precision(
    tower: nn.Module, precision: str, device: torch.device, width: int = 768, *, quickest: bool = True
) -> nn.Module:
    """Return a copy of an fp32 tower at another precision, on ``device``.

    ``int8`` (of the image tower alone, see ``order.text_precision``) quantises the weights of every matrix product but
    the patch projection per output channel, activations as they come, for one engine, which stays set
    (``torch.backends.quantized.engine``): the quickest on this processor, which has to be set where the file is loaded,
    or PyTorch's default, which NVIDIA's backend knows alone. ``fp16`` stores
    half-precision weights on a CPU and computes in half precision on a GPU. The patch projection stays as it is: pixels
    from 0 to 255 times small weights are what both formats do worst.

    Args:
        tower: in fp32.
        precision: ``fp32``, ``fp16`` or ``int8``.
        device: that it will run on.
        width: of its hidden states; for choosing the engine.
        quickest: choose the engine for 8 bits by measuring.

    Raises:
        ExportRefused: this PyTorch has no kernels for it.
    """
    tower = copy.deepcopy(tower).eval()
    if device.type == "cuda":
        if precision == "int8":
            raise ExportRefused("int8 is for CPUs only: choose PRECISION=fp16 or fp32 for a GPU")
        return (in_half_precision(tower) if precision == "fp16" else tower).to(device)
    if precision == "fp32":
        lay_out(tower)
        return tower
    engines = [engine for engine in ENGINES[precision] if engine in torch.backends.quantized.supported_engines]
    if not engines:
        raise ExportRefused(f"this PyTorch has no {precision} kernels for this processor: choose PRECISION=fp32")
    with quiet_deprecations():
        engine = quickest_engine(engines, width) if quickest and precision == "int8" else engines[0]
    torch.backends.quantized.engine = engine
    try:
        with quiet_deprecations():
            if precision == "int8":
                in_int8(tower, PATCH_PROJECTION)
            else:
                tower = with_fp16_weights(tower)
    except RuntimeError as error:
        raise ExportRefused(
            f"this processor's {engine} kernels cannot do {precision} ({str(error).splitlines()[0]}): "
            "choose PRECISION=fp32"
        ) from error
    return tower


def with_fp16_weights(tower: nn.Module) -> nn.Module:
    """Return a tower whose linear layers hold half-precision weights, all but its patch projection."""
    from torch.ao import quantization

    linears = (name for name, module in tower.named_modules() if isinstance(module, nn.Linear))
    rules = {name: quantization.float16_dynamic_qconfig for name in linears if name != PATCH_PROJECTION}
    return quantization.quantize_dynamic(tower, rules, dtype=torch.float16)  # type: ignore[no-any-return, no-untyped-call]


def in_half_precision(tower: nn.Module) -> nn.Module:
    """Convert a tower to half precision in place, but for its patch projection; it still takes and gives the same."""
    tower.half()
    for name, module in tower.named_children():
        if name == PATCH_PROJECTION:
            module.float()
    return tower


def trace(tower: nn.Module, example: torch.Tensor) -> torch.jit.ScriptModule:
    """Trace and freeze a tower.

    Args:
        tower: in evaluation mode, on the device of ``example``.
        example: an input with a batch of two or more, so that no dimension of size one is mistaken for a constant.

    Raises:
        ExportRefused: the graph holds a device constant, so it would only run where it was traced.
    """
    for parameter in tower.parameters():
        parameter.requires_grad = False
    with quiet_deprecations(), torch.no_grad():
        traced = torch.jit.trace(tower, example, check_trace=False)  # type: ignore[no-untyped-call]
        frozen: torch.jit.ScriptModule = torch.jit.freeze(traced)
    devices = device_constants(frozen)
    if devices:
        raise ExportRefused(f"the traced graph is bound to a device ({devices[0]}): report this as a bug of the export")
    return frozen


def device_constants(module: torch.jit.ScriptModule) -> list[str]:
    """Return the constants of a graph that name a device, as text."""
    graph = module.inlined_graph  # kept in a variable: its nodes die with it
    constants = graph.findAllNodes("prim::Constant", True)  # type: ignore[attr-defined]  # noqa: FBT003 - recurse
    return [str(node).strip() for node in constants if node.output().type().kind() == "DeviceObjType"]


def save(module: torch.jit.ScriptModule, path: Path) -> None:
    """Save a module without its debug records: they hold paths of this machine, and an error would tell them."""
    whole = path.with_suffix(".whole")
    try:
        with quiet_deprecations():
            module.save(str(whole))
        reader, writer = torch._C.PyTorchFileReader(str(whole)), torch._C.PyTorchFileWriter(str(path))  # noqa: SLF001
        for name in reader.get_all_records():
            if name not in LEFT_OUT and not name.endswith(".debug_pkl"):
                record = reader.get_record(name)
                writer.write_record(name, record, len(record))
        writer.write_end_of_file()
    finally:
        whole.unlink(missing_ok=True)


def load(path: str, device: torch.device) -> torch.jit.ScriptModule:
    """Load a saved TorchScript file onto ``device``, as Triton does."""
    with quiet_deprecations():
        loaded: torch.jit.ScriptModule = torch.jit.load(path, map_location=device)  # type: ignore[no-untyped-call]
    return loaded
