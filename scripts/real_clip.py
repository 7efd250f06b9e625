"""What the real CLIP's published vectors say: `python -m scripts.real_clip FOLDER`.

The folder holds vectors of OpenAI's ViT-B/32 for seven photographs and the 1,000 labels of ImageNet, LAION's NSFW head
and its two prompt vectors of Q16. Seven photographs, none of which offends, say nothing about recall: the table shows
that the arithmetic agrees with the real model, and how its scores look, and no more.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gateway.inference.scoring import TextMatrix, mean_units, score

LOGIT_SCALE = 100.0  # of the model
SEEN = {
    "123_456.jpg": "kitten",
    "208_495.jpg": "boardwalk to the sea",
    "321_421.jpg": "palm trees",
    "389_535.jpg": "motel sign",
    "416_264.jpg": "succulents",
    "456_123.jpg": "kitten",
    "524_316.jpg": "church between houses",
}
"""What a person sees in each photograph."""


@dataclass(frozen=True, slots=True)
class Said:
    """What the model's vectors say of a photograph.

    Attributes:
        name: of its file.
        label, probability: the likeliest of 1,000 labels.
        nsfw: of LAION's head, 0 to 1.
        inappropriate: whether the second of Q16's two prompts is nearer.
        margin: how much nearer the nearer one is, a difference of cosines.
    """

    name: str
    label: str
    probability: float
    nsfw: float
    inappropriate: bool
    margin: float


def read(folder: Path) -> list[Said]:
    """Return what is said of each photograph.

    Raises:
        OSError: a file is missing.
    """
    photos, classes = np.load(folder / "photos_vitb32.npz"), np.load(folder / "imagenet_labels_vitb32.npz")
    vectors = photos["image_embeds"]
    names = tuple(str(name) for name in classes["names"])
    texts = mean_units(classes["text_embeds"], [1] * len(names))
    none = np.zeros(0, np.intp)
    text = TextMatrix("softmax", names, texts, np.zeros((0, texts.shape[1]), np.float32), none, none)
    probabilities = score(vectors, text, LOGIT_SCALE).probabilities
    nsfw = nsfw_scores(vectors, folder / "laion_nsfw_head_vitb32.npz")
    q16 = vectors @ np.load(folder / "laion_violence_prompts_vitb32.npy").T
    return [
        Said(str(name), names[row.argmax()], float(row.max()), float(risk), bool(b > a), float(abs(b - a)))
        for name, row, risk, (a, b) in zip(photos["names"], probabilities, nsfw, q16, strict=True)
    ]


def nsfw_scores(vectors: npt.NDArray[np.float32], path: Path) -> npt.NDArray[np.float64]:
    """Return [n] of LAION's head on unit vectors [n, 512]: z-score, three linear layers with ReLU between, sigmoid."""
    head = np.load(path)
    values = (vectors.astype(float) - head["norm.mean"]) / np.sqrt(head["norm.variance"])
    for number in (1, 2, 3):
        values = values @ head[f"linear_{number}.weight"].T + head[f"linear_{number}.bias"]
        values = values if number == 3 else np.maximum(values, 0)
    return np.asarray(1 / (1 + np.exp(-values[:, 0])))


def table(said: list[Said]) -> str:
    """Return a Markdown table."""
    lines = ["| a person sees | likeliest of 1,000 labels | NSFW head | Q16, margin |", "|---|---|---|---|"]
    for row in said:
        q16 = f"{'inappropriate' if row.inappropriate else 'appropriate'}, {row.margin:.3f}"
        lines.append(f"| {SEEN[row.name]} | {row.label}, {row.probability:.2f} | {row.nsfw:.4f} | {q16} |")
    return "\n".join(lines)


def main() -> None:
    """Read and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    print(table(read(parser.parse_args().folder)))


if __name__ == "__main__":
    main()
