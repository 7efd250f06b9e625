"""Trains the demo CLIP from nothing on a CPU: `python -m scripts.demo.train`."""

from __future__ import annotations

import argparse
import math
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed
from numpy.typing import NDArray
from torch.multiprocessing.spawn import spawn
from tqdm import tqdm
from transformers import CLIPModel, CLIPTokenizer

from scripts.demo import card
from scripts.demo.dataset import SAID, Kind, Pictures, draw_pictures
from scripts.demo.evaluate import Figures, measure, table
from scripts.demo.model import (
    IMAGE_SIZE,
    WEIGHTS,
    Demo,
    build_model,
    encode_images,
    encode_texts,
    normalise,
    save_preprocessor,
)
from scripts.demo.tokens import END, START, build_tokenizer, save_tokenizer
from scripts.demo.world import ATOMS, words
from scripts.demo.world.captions import phrase, wrap

TRAINING_SEED = 20_000
MAX_LOGIT_SCALE = math.log(100.0)
_SHIFT = 4


def contrastive_loss(logits: torch.Tensor, own: torch.Tensor, possible: torch.Tensor) -> torch.Tensor:
    """Return the mean softmax loss, pictures against captions and captions against pictures.

    logits: [pictures, captions]. own: [captions], the row of the picture that each caption was made for. possible:
    [pictures, captions] bool, captions not clearly false of a picture: they are no negatives of it, apart from its own.
    """
    columns = torch.arange(logits.shape[1])
    negatives = logits.masked_fill(possible, -1e4)
    matched = logits[own, columns]
    by_picture = torch.logsumexp(negatives, dim=1)[own]
    by_caption = torch.logsumexp(negatives, dim=0)
    return (torch.logaddexp(matched, by_picture) - matched).mean() / 2 + (
        torch.logaddexp(matched, by_caption) - matched
    ).mean() / 2


def vary(pixels: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Return pictures [n, S, S, 3] uint8 mirrored, shifted by a few pixels and changed in light, as float 0..255.

    A third stays where it is: edges that fall between the model's patches are to stay there.
    """
    out = pixels.float()
    size = out.shape[1]
    mirrored = torch.from_numpy(rng.random(len(out)) < 0.5)
    out[mirrored] = out[mirrored].flip(2)
    padded = torch.nn.functional.pad(out.permute(0, 3, 1, 2), [_SHIFT] * 4, mode="replicate").permute(0, 2, 3, 1)
    shifts = rng.integers(0, 2 * _SHIFT + 1, (len(out), 2))
    shifts[rng.random(len(out)) < 1 / 3] = _SHIFT
    for row, (dy, dx) in enumerate(shifts):
        out[row] = padded[row, dy : dy + size, dx : dx + size]
    gain = torch.from_numpy(rng.uniform(0.9, 1.05, (len(out), 1, 1, 1)).astype(np.float32))
    return (out * gain).clamp_(0, 255)


def _junk(text: str, rng: np.random.Generator) -> str:
    """Put a word that means nothing into a caption, so that unknown words learn to say nothing."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,!-"
    junk = "".join(letters[int(k)] for k in rng.integers(0, len(letters), int(rng.integers(1, 8))))
    parts = text.split(" ")
    place = int(rng.integers(len(parts) + 1))
    return " ".join([*parts[:place], junk, *parts[place:]])


def captions(said: NDArray[np.int16], rng: np.random.Generator) -> list[str]:
    """Return a caption for each concept [n, 2] of indices into ATOMS."""
    texts = []
    for one, other in said:
        concept = (ATOMS[one],) if one == other else (ATOMS[one], ATOMS[other])
        text = wrap(phrase(concept, rng), rng)
        texts.append(_junk(text, rng) if rng.random() < 0.04 else text)
    return texts


@dataclass(frozen=True)
class Course:
    """How to train: `views` pictures seen in all, `batch` at a time, with a peak learning `rate`.

    The first `whole` share of the steps sees pictures of one scene each, the others framed ones. Both from the start
    taught everything but a smile from a frown (tried over 1.5 million views): the mouth is the smallest thing asked
    about, and whole faces have to be seen often before it tells.
    """

    views: int
    batch: int
    rate: float
    seed: int
    whole: float

    def kind(self, step: int) -> Kind:
        """Return which pictures a step sees."""
        return "whole" if step < self.whole * (self.views // self.batch) else "framed"

    def share_of_rate(self, step: int) -> float:
        """Return the learning rate at a step as a share of its peak: 150 steps up, level, the last third down to 0."""
        steps = self.views // self.batch
        return min(1.0, (step + 1) / 150, max(0.005, (steps - step) / (steps / 3)))

    def rows(self, step: int, count: int) -> NDArray[np.int64]:
        """Return the pictures of a step, out of `count`: all come once before any comes again."""
        places = np.arange(step * self.batch, (step + 1) * self.batch)
        parts = [
            np.random.default_rng([self.seed, int(number)]).permutation(count)[
                places[places // count == number] % count
            ]
            for number in np.unique(places // count)
        ]
        return np.concatenate(parts)


def train(
    rank: int,
    ranks: int,
    model: CLIPModel,
    tokenizer: CLIPTokenizer,
    drawn: Mapping[Kind, Pictures],
    course: Course,
    checkpoint: Path,
) -> None:
    """Train in place, as one of `ranks` processes that each take their part of every batch.

    All processes draw the same lots. Each encodes its own pictures and captions, all share the vectors, compute the
    same loss over the whole batch, and add up their gradients: the result is that of one process with the whole
    batch. The first one writes to `checkpoint` now and then; training goes on from there if it exists.
    """
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": 0.05},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=course.rate, betas=(0.9, 0.98), fused=True)
    batch, steps = course.batch, course.views // course.batch
    part, first, mean = slice(rank * batch // ranks, (rank + 1) * batch // ranks), 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first, mean = int(state["step"]), float(state["loss"])
    model.train()
    bar = tqdm(
        total=steps * batch, initial=first * batch, desc="training", unit="picture", smoothing=0.05, disable=rank > 0
    )
    with bar:
        for step in range(first, steps):
            if rank == 0 and step % 100 == 0 and step > first:
                state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "loss": mean}
                torch.save(state, checkpoint.with_suffix(".part"))
                checkpoint.with_suffix(".part").replace(checkpoint)
            for group in optimizer.param_groups:
                group["lr"] = course.rate * course.share_of_rate(step)
            pictures = drawn[course.kind(step)]
            rows = course.rows(step, len(pictures.pixels))
            rng = np.random.default_rng([course.seed, step, ranks])
            picks = np.argsort(rng.random((batch, SAID)), axis=1)[:, :2]
            said = pictures.said[rows[:, None], picks]
            own_rng = np.random.default_rng([course.seed, step, rank])
            texts = captions(said[part].reshape(-1, 2), own_rng)
            ids = tokenizer(texts, padding=True, return_tensors="pt")["input_ids"]
            pixels = normalise(vary(torch.from_numpy(pictures.pixels[rows[part]]), own_rng))
            images = gather(encode_images(model, pixels), rank, ranks)
            words = gather(encode_texts(model, ids), rank, ranks)
            possible, asked = pictures.allows(rows), said.reshape(-1, 2)
            true = torch.from_numpy(possible[:, asked[:, 0]] & possible[:, asked[:, 1]])
            logits = model.logit_scale.exp() * images @ words.T
            loss = contrastive_loss(logits, torch.arange(batch).repeat_interleave(2), true)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            add_gradients(model, ranks)
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            with torch.no_grad():
                model.logit_scale.clamp_(max=MAX_LOGIT_SCALE)
            mean = loss.item() if step == 0 else 0.98 * mean + 0.02 * loss.item()
            bar.update(batch)
            bar.set_postfix(loss=f"{mean:.3f}", scale=f"{model.logit_scale.exp().item():.0f}", refresh=False)
    model.eval()


def gather(vectors: torch.Tensor, rank: int, ranks: int) -> torch.Tensor:
    """Return the vectors [n, D] of all processes, one after the other; gradients flow to one's own only."""
    if ranks == 1:
        return vectors
    parts = [torch.empty_like(vectors) for _ in range(ranks)]
    torch.distributed.all_gather(parts, vectors.detach().contiguous())
    parts[rank] = vectors
    return torch.cat(parts)


def add_gradients(model: CLIPModel, ranks: int) -> None:
    """Add up the gradients of all processes, in place; every process saw the whole loss's slope in the logit scale."""
    if ranks == 1:
        return
    model.logit_scale.grad.div_(ranks)
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    torch.distributed.all_reduce(flat)
    for gradient, summed in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
        gradient.copy_(summed.view_as(gradient))


@dataclass(frozen=True)
class Material:
    """What a training starts from: how many pictures of each kind, where they are kept, and weights to go on from."""

    pictures: int
    cache: Path | None
    start: Path | None

    def drawn(self, course: Course, workers: int | None = None) -> dict[Kind, Pictures]:
        """Return the pictures that the course sees, by kind."""
        kinds = {course.kind(0), course.kind(course.views // course.batch - 1)}
        return {k: draw_pictures(k, self.pictures, TRAINING_SEED + course.seed, self.cache, workers) for k in kinds}


def _run(rank: int, ranks: int, folder: str, out: Path, material: Material, course: Course) -> None:
    """One process of the training; the first one saves the model."""
    torch.set_num_threads(1 if ranks > 1 else os.cpu_count() or 1)
    torch.manual_seed(course.seed)
    tokenizer = build_tokenizer(words())
    start, end = (int(tokenizer.convert_tokens_to_ids(token)) for token in (START, END))
    model = build_model(len(tokenizer), start, end)
    if material.start is not None:
        model.load_state_dict(CLIPModel.from_pretrained(material.start).state_dict())
    if ranks > 1:
        torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=ranks)
    checkpoint = out / "checkpoint.pt"
    train(rank, ranks, model, tokenizer, material.drawn(course), course, checkpoint)
    if rank == 0:
        save(model, tokenizer, out)
        checkpoint.unlink(missing_ok=True)
    if ranks > 1:
        torch.distributed.destroy_process_group()


def save(model: CLIPModel, tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Write the model in Hugging Face format to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    save_tokenizer(tokenizer, folder)
    save_preprocessor(folder)
    for path in folder.iterdir():
        path.chmod(0o644)


def main() -> None:
    """Draw, train, save, measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="folder for the weights")
    parser.add_argument("--pictures", type=int, default=120_000, help="pictures drawn of each kind")
    parser.add_argument("--views", type=int, default=1_800_000, help="pictures seen in all, over several rounds")
    parser.add_argument("--whole", type=float, default=0.7, help="share of them that show one scene as it is, first")
    parser.add_argument("--start", type=Path, default=None, help="folder of weights to go on from")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cache", type=Path, default=None, help="folder for drawn pictures (default: a temporary one)")
    parser.add_argument("--processes", type=int, default=4, help="processes that draw and train, one thread each")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint of a run that was cut off")
    options = parser.parse_args()
    if options.batch % options.processes:
        parser.error("--batch must be a multiple of --processes")
    begun = time.monotonic()
    course = Course(options.views, options.batch, options.rate, options.seed, options.whole)
    material = Material(options.pictures, options.cache, options.start)
    material.drawn(course, options.processes)
    options.out.mkdir(parents=True, exist_ok=True)
    if not options.resume:
        (options.out / "checkpoint.pt").unlink(missing_ok=True)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    with tempfile.TemporaryDirectory() as folder:
        arguments = (options.processes, folder, options.out, material, course)
        if options.processes == 1:
            _run(0, *arguments)
        else:
            spawn(_run, arguments, nprocs=options.processes)  # type: ignore[no-untyped-call]
    minutes = (time.monotonic() - begun) / 60
    demo = Demo.load(options.out)
    figures: Figures = measure(demo)
    training = (
        f"{options.views:,} views, {options.whole:.0%} of them of whole scenes, out of {options.pictures:,} drawn "
        f"pictures of each kind, {minutes:.0f} minutes on a CPU"
        + (", on from weights that were trained before" if options.start else "")
    )
    card.write(options.out, figures, training, demo.model.num_parameters(), IMAGE_SIZE)
    print(table(figures))


if __name__ == "__main__":
    main()
