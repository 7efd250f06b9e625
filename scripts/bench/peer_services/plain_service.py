"""Zero-shot classification as an engineer writes it in an afternoon: FastAPI, Pillow and transformers.

After the example on CLIP's model cards: processor, model, softmax, for each request. The endpoint is synchronous, so
that the framework calls it in its pool of threads; PyTorch keeps its default number of threads. ``KEEP_TEXTS=1`` is
the first thing that one would then improve: label vectors are computed once for each set of labels and kept.
"""

from __future__ import annotations

import functools
import io
import os
from typing import Annotated, Any

import torch
from fastapi import FastAPI, Form, UploadFile
from PIL import Image
from torch.nn import functional
from transformers import CLIPModel, CLIPProcessor


def create() -> FastAPI:
    """Load the weights in the folder ``WEIGHTS`` and return the service."""
    folder = os.environ["WEIGHTS"]
    model = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()
    processor = CLIPProcessor.from_pretrained(folder)
    app = FastAPI()

    @functools.lru_cache(maxsize=100)
    def text_vectors(labels: tuple[str, ...]) -> torch.Tensor:
        inputs = processor(text=list(labels), return_tensors="pt", padding=True)
        vectors: torch.Tensor = model.get_text_features(**inputs).pooler_output
        return functional.normalize(vectors, dim=-1)

    def logits_each_time(image: Image.Image, labels: list[str]) -> torch.Tensor:
        inputs = processor(text=labels, images=image, return_tensors="pt", padding=True)
        logits: torch.Tensor = model(**inputs).logits_per_image
        return logits

    def logits_with_kept_texts(image: Image.Image, labels: list[str]) -> torch.Tensor:
        inputs = processor(images=image, return_tensors="pt")
        vector: torch.Tensor = model.get_image_features(**inputs).pooler_output
        similar = functional.normalize(vector, dim=-1) @ text_vectors(tuple(labels)).T
        scaled: torch.Tensor = similar * model.logit_scale.exp()
        return scaled

    logits = logits_with_kept_texts if os.environ.get("KEEP_TEXTS") == "1" else logits_each_time

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/classify")
    def classify(file: UploadFile, labels: Annotated[list[str], Form()]) -> dict[str, Any]:
        image = Image.open(io.BytesIO(file.file.read())).convert("RGB")
        with torch.inference_mode():
            probabilities = logits(image, labels).softmax(dim=-1)[0].tolist()
        return {"scores": dict(zip(labels, probabilities, strict=True))}

    return app
