"""Classify pictures with Triton alone, over gRPC, without the gateway: an example to copy.

    python -m scripts.classify_grpc cat.jpg dog.png --labels "a cat" "a dog" [--templates "a photo of {}"] [--async]

It needs tritonclient[grpc], numpy, pillow, tokenizers and the bundle's tokenizer.json; all else is read from Triton's
model configuration. Scores are those of the gateway's ``POST /v1/classify`` with its default view. What the gateway
adds is left out: limits for hostile files, the frames of animations (the first counts here), cached text vectors.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from PIL import Image, ImageOps
from tokenizers import Tokenizer
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

MODELS = ("clip_image", "clip_text")
OUTPUT = "embedding__0"


class Refused(Exception):
    """Nothing was classified; the text is one line saying why."""


@dataclass(frozen=True, slots=True)
class Model:
    """What Triton's configuration of both models says: their ``parameters``, and their ``max_batch_size``."""

    parameters: dict[str, str]
    image_max_batch: int
    text_max_batch: int

    @classmethod
    def of(cls, image: Any, text: Any) -> Model:  # noqa: ANN401 - protobuf messages
        """Read the answers of ``get_model_config``."""
        read = [{name: value.string_value for name, value in each.config.parameters.items()} for each in (image, text)]
        if len({each.get("bundle_id") for each in read} - {None, ""}) != 1:
            raise Refused("the two models served there are not one bundle: export them again")
        return cls(read[0] | read[1], image.config.max_batch_size, text.config.max_batch_size)

    def number(self, name: str) -> int:
        """Return a parameter that is a whole number."""
        return int(self.parameters[name])


@dataclass(frozen=True, slots=True)
class Job:
    """One inference: ``rows`` go into tensor ``name`` of ``model``; row n is input number ``positions[n]``."""

    model: str
    name: str
    rows: npt.NDArray[Any]
    positions: Sequence[int]

    def arguments(self, until_s: float) -> dict[str, Any]:
        """Return what ``infer`` of the plain and of the asyncio client takes."""
        tensor = triton.InferInput(self.name, list(self.rows.shape), np_to_triton_dtype(self.rows.dtype))
        tensor.set_data_from_numpy(self.rows)
        left_s = seconds_left(until_s)
        return {
            "model_name": self.model,
            "inputs": [tensor],
            "outputs": [triton.InferRequestedOutput(OUTPUT)],
            "client_timeout": left_s,  # gRPC's deadline, seconds
            "timeout": int(left_s * 1e6) + 1,  # Triton's own: leaves the queue after it, microseconds
        }


def square(path: Path, size: int, resize: int) -> npt.NDArray[np.uint8]:
    """Return the picture as the model takes it, uint8 [size, size, 3]: CLIP's transform up to mean and deviation."""
    try:
        with Image.open(path) as opened:
            picture = ImageOps.exif_transpose(opened)
            if picture.mode.startswith("I;16"):  # 16 bits of grey: the high byte, where Pillow alone would clip
                picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
            elif picture.has_transparency_data:
                layers = picture.convert("RGBA")
                picture = Image.new("RGB", layers.size, "white")
                picture.paste(layers, mask=layers.getchannel("A"))
            picture = picture.convert("RGB")  # before resizing: palettes would be resized by nearest neighbour
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise Refused(f"{path} cannot be read as a picture: {error}") from None
    short = min(picture.size)
    width, height = (resize if side == short else int(resize * side / short) for side in picture.size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    resized = picture.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(resized.crop((left, top, left + size, top + size)))


def token_ids(prompts: Sequence[str], tokenizer_json: bytes, model: Model) -> list[list[int]]:
    """Return each prompt's ids, unpadded; the tokenizer must be the one that the model was exported with."""
    if hashlib.sha256(tokenizer_json).hexdigest() != model.parameters["tokenizer_sha256"]:
        raise Refused("this tokenizer.json is not that of the model that is served; --tokenizer names another")
    tokenizer = Tokenizer.from_buffer(tokenizer_json)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    rows = [encoding.ids for encoding in tokenizer.encode_batch(list(prompts))]
    for prompt, row in zip(prompts, rows, strict=True):
        if len(row) > model.number("context_length"):
            raise Refused(
                f"“{prompt[:60]}” has over {model.number('context_length') - 2} tokens: the model reads no more"
            )
    return rows


def image_jobs(squares: Sequence[npt.NDArray[np.uint8]], model: Model) -> list[Job]:
    """Return the inferences for pictures, each within ``max_batch_size``."""
    groups = chunks(range(len(squares)), model.image_max_batch)
    return [Job(MODELS[0], "pixels", np.stack([squares[at] for at in group]), group) for group in groups]


def text_jobs(ids: Sequence[list[int]], model: Model) -> list[Job]:
    """Return the inferences for prompts, padded to few lengths: Triton batches requests of equal shape only."""
    jobs, shorter = [], 0
    for length in json.loads(model.parameters["length_buckets"]):
        fitting = [at for at, row in enumerate(ids) if shorter < len(row) <= length]
        for group in chunks(fitting, model.text_max_batch):
            padded = [ids[at] + [model.number("pad_id")] * (length - len(ids[at])) for at in group]
            jobs.append(Job(MODELS[1], "input_ids", np.array(padded, np.int64), group))
        shorter = length
    return jobs


def chunks(items: Sequence[int], size: int) -> list[Sequence[int]]:
    """Cut a sequence into pieces of at most ``size``."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def prepare(given: argparse.Namespace, model: Model) -> list[Job]:
    """Return all inferences that the command line asks for: each label in each template, and each picture."""
    templates = given.templates or json.loads(model.parameters["templates"])
    if len(set(given.labels)) < max(2, len(given.labels)) or not all(label.strip() for label in given.labels):
        raise Refused("give two or more labels, all different and none blank: scores are a softmax over them")
    if not all(template.count("{}") == 1 for template in templates):
        raise Refused("each template holds {} exactly once, where the label goes")
    try:
        tokenizer_json = given.tokenizer.read_bytes()
    except OSError as error:
        raise Refused(f"{given.tokenizer}: {error.strerror}; --tokenizer names the bundle's tokenizer.json") from None
    prompts = [template.replace("{}", label) for label in given.labels for template in templates]
    squares = [square(path, model.number("image_size_px"), model.number("resize_px")) for path in given.pictures]
    return [*image_jobs(squares, model), *text_jobs(token_ids(prompts, tokenizer_json, model), model)]


def scores(jobs: Sequence[Job], answers: Sequence[Any], labels: int, model: Model) -> npt.NDArray[np.float64]:
    """Return [pictures, labels]: softmax of logit_scale x cosine; a label's templates are averaged as vectors."""
    rows: dict[str, dict[int, npt.NDArray[np.float32]]] = {name: {} for name in MODELS}
    for job, answer in zip(jobs, answers, strict=True):
        output = answer.as_numpy(OUTPUT)
        if output is None or not np.all(np.abs(np.linalg.norm(output, axis=-1) - 1) < 0.01):  # NaN is not below either
            raise Refused(f"{job.model} did not answer with unit vectors")
        rows[job.model] |= dict(zip(job.positions, output, strict=True))
    images, texts = (np.stack([found[at] for at in sorted(found)]) for found in rows.values())
    means = texts.reshape(labels, -1, texts.shape[1]).mean(axis=1)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    logits = (images @ means.T).astype(np.float64) * float(model.parameters["logit_scale"])
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def classify(given: argparse.Namespace) -> npt.NDArray[np.float64]:
    """Classify with the plain client: one inference after the other."""
    until_s = time.monotonic() + given.timeout
    with triton.InferenceServerClient(given.address) as client:
        model = Model.of(*(client.get_model_config(name, client_timeout=seconds_left(until_s)) for name in MODELS))
        jobs = prepare(given, model)
        return scores(jobs, [client.infer(**job.arguments(until_s)) for job in jobs], len(given.labels), model)


async def classify_async(given: argparse.Namespace) -> npt.NDArray[np.float64]:
    """Classify with the asyncio client: all inferences at once, so that Triton can overlap and batch them."""
    until_s = time.monotonic() + given.timeout
    async with triton_aio.InferenceServerClient(given.address) as client:
        model = Model.of(
            *[await client.get_model_config(name, client_timeout=seconds_left(until_s)) for name in MODELS]
        )
        jobs = await asyncio.to_thread(prepare, given, model)
        answers = await asyncio.gather(*(client.infer(**job.arguments(until_s)) for job in jobs))
        return scores(jobs, answers, len(given.labels), model)


def seconds_left(until_s: float) -> float:
    """Return the time to a point of the monotonic clock."""
    left_s = until_s - time.monotonic()
    if left_s <= 0:
        raise Refused("no answer in time; --timeout gives more")
    return left_s


def explained(error: Exception, address: str) -> str:
    """Return one line for what tritonclient or gRPC raised: a full queue and a dead server differ in the text alone."""
    if isinstance(error, InferenceServerException):
        status, message = str(error.status()), str(error.message())
    else:
        status, message = str(error.code()), str(error.details())  # type: ignore[attr-defined] # an RpcError is a call
    if "Exceeds maximum queue size" in message:
        return "Triton's queue is full; try again"
    if "DEADLINE_EXCEEDED" in status or "Deadline Exceeded" in message or "Request timeout expired" in message:
        return "no answer in time; --timeout gives more"
    if "UNAVAILABLE" in status:
        return f"no Triton answers at {address}"
    return f"Triton at {address} refused: {message.splitlines()[0] if message else status}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    repository = Path(os.environ.get("MODEL_REPOSITORY", "model_repository"))
    parser = argparse.ArgumentParser(prog="python -m scripts.classify_grpc", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--labels", nargs="+", required=True)
    parser.add_argument("--templates", nargs="+", help="with {} for the label; the model's own by default")
    parser.add_argument("--address", default=f"127.0.0.1:{os.environ.get('TRITON_GRPC_PORT', '8101')}")
    parser.add_argument("--tokenizer", type=Path, default=repository / "tokenizer.json")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds for everything")
    parser.add_argument("--async", dest="use_asyncio", action="store_true", help="use tritonclient.grpc.aio")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args(arguments)
    try:
        table = asyncio.run(classify_async(given)) if given.use_asyncio else classify(given)
    except Refused as refused:
        print(f"classify: {refused}", file=sys.stderr)
        return 1
    except (InferenceServerException, grpc.RpcError) as error:
        print(f"classify: {explained(error, given.address)}", file=sys.stderr)
        return 1
    ranked = [sorted(zip(row.tolist(), given.labels, strict=True), key=lambda pair: -pair[0]) for row in table]
    if given.json:
        for path, row in zip(given.pictures, ranked, strict=True):
            found = [{"label": label, "score": score} for score, label in row]
            print(json.dumps({"picture": str(path), "scores": found}, ensure_ascii=False))
        return 0
    for path, row in zip(given.pictures, ranked, strict=True):
        print(path, *(f"  {score:.4f}  {label}" for score, label in row), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
