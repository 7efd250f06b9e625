"""What int8 costs in fidelity: vectors beside the original's, and the demo policy's decisions beside those by fp32."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gateway.inference.bundle import read_manifest
from scripts.bench.encoder import exported
from scripts.bench.pictures import photographs
from scripts.bench.plan import Plan
from scripts.bench.report import Section, Table, Target

if TYPE_CHECKING:
    from scripts.demo.measure_policy import Seen

CASES = 500
"""Of each kind of picture; four kinds."""
SEED = 1_900_000
"""Of drawings that neither thresholds nor other figures were read off."""
BATCH = 8
"""Pictures that share one rounding range, as in Triton's batches."""
COSINE_AT_LEAST, AGREED_AT_LEAST = 0.995, 0.995

Encode = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def measure(plan: Plan) -> Section:
    """Compare int8 with fp32 exports, on the demo model's drawings and on photograph-like pictures."""
    import torch

    torch.set_num_threads(1)  # the demo model is too small to divide
    torch._C._jit_set_profiling_mode(False)  # noqa: SLF001, FBT003 - as Triton runs it
    by_kind = drawings_compared(*(encoder("demo", precision, plan.device) for precision in ("fp32", "int8")))
    side = read_manifest(exported(plan.model, "int8", plan.device)).image.size_px
    pixels = np.stack([_square(data, side) for data in photographs(64)])
    first, second = (encoder(plan.model, precision, plan.device)(pixels) for precision in ("fp32", "int8"))
    large = _cosines(first, second)
    cosines = np.concatenate([cosine for cosine, _ in by_kind.values()])
    agreed = np.concatenate([agree for _, agree in by_kind.values()])
    rows = [
        (f"demo, {kind}", str(len(agree)), f"{agree.mean():.2%}", f"{cosine.min():.5f}", f"{cosine.mean():.5f}")
        for kind, (cosine, agree) in by_kind.items()
    ]
    rows.append((f"{plan.model}, photograph-like", str(len(large)), "", f"{large.min():.5f}", f"{large.mean():.5f}"))
    targets = (
        Target(
            "int8, decisions of the demo policy as by fp32",
            f"at least {AGREED_AT_LEAST:.1%}",
            f"{agreed.mean():.2%} of {len(agreed)}",
            bool(agreed.mean() >= AGREED_AT_LEAST),
        ),
        Target(
            "int8, smallest cosine to fp32 on the demo model",
            f"at least {COSINE_AT_LEAST}",
            f"{cosines.min():.5f} of {len(cosines)} views",
            bool(cosines.min() >= COSINE_AT_LEAST),
        ),
    )
    engine = read_manifest(exported(plan.model, "int8", plan.device)).exported_with.get("quantized_engine", "")
    note = (
        f"Batches of {BATCH}; kernels: {engine}. Activations are rounded over the range of a whole batch, so that the "
        "last digits of a score depend on what else was in it."
    )
    header = ("pictures", "count", "same decision", "smallest cosine", "mean cosine")
    return Section("Precision", targets, (Table(header, tuple(rows)),), (note,))


def encoder(model: str, precision: str, device: str) -> Encode:
    """Return the exported image tower: uint8 [N, H, W, 3] to unit vectors fp32 [N, D]."""
    import torch

    from scripts.export.formats.torchscript import load

    repository = exported(model, precision, device)
    manifest = read_manifest(repository)
    if engine := manifest.exported_with.get("quantized_engine"):
        torch.backends.quantized.engine = engine
    script = load(str(repository / "clip_image" / "1" / "model.pt"), torch.device(manifest.device))

    def encode(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        given = torch.from_numpy(pixels).to(manifest.device)
        with torch.inference_mode():
            parts = [script(given[start : start + BATCH]).cpu() for start in range(0, len(given), BATCH)]
        return np.asarray(torch.cat(parts).numpy())

    return encode


def drawings_compared(fp32: Encode, int8: Encode) -> dict[str, tuple[NDArray[np.float64], NDArray[np.bool_]]]:
    """Return by kind of picture the cosine of each view, and whether each case is decided alike."""
    from scripts.demo import measure_policy
    from scripts.demo.model import Demo, preprocess

    class Exported(Demo):
        """The demo model with an exported image tower."""

        encode: Encode

        def images(self, pictures: Sequence[Image.Image], batch: int = BATCH) -> NDArray[np.float32]:  # noqa: ARG002
            size = int(self.model.config.vision_config.image_size)
            return self.encode(np.stack([preprocess(picture, size) for picture in pictures]))

    original = Demo.load()
    policy = measure_policy.bound(original)

    def seen(kind: str, encode: Encode) -> list[Seen]:
        model = Exported(original.model, original.tokenizer)
        object.__setattr__(model, "encode", encode)
        return measure_policy.seen_of(model, kind, CASES, SEED, policy.views)

    found = {}
    for kind in measure_policy.KINDS:
        one, other = seen(kind, fp32), seen(kind, int8)
        cosine = _cosines(*(np.concatenate([entry.vectors for entry in side]) for side in (one, other)))
        first, second = (measure_policy.judged(policy, side, original.scale) for side in (one, other))
        alike = [a.decision == b.decision for a, b in zip(first, second, strict=True)]
        found[kind] = (cosine, np.array(alike, dtype=np.bool_))
    return found


def _cosines(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.asarray((one.astype(np.float64) * other).sum(axis=1))


def _square(data: bytes, side: int) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB").resize((side, side), Image.Resampling.BICUBIC), dtype=np.uint8)
