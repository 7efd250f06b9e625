"""A classifier and policies that tests save, and how they save and moderate."""

from __future__ import annotations

from typing import Any

from tests.support.in_process_app import Web, b64, png

CLASSIFIER: dict[str, Any] = {
    "mode": "softmax",
    "labels": [{"label": "bad", "prompts": ["b1", "b2"]}, {"label": "good"}],
    "description": "for tests",
}
ALWAYS: dict[str, Any] = {
    "rules": [{"category": "bad", "classifier": "scene", "labels": ["bad"], "review_at": 0.0, "block_at": 0.0}],
    "views": "full",
    "openai_categories": {"bad": ["violence"]},
}
NEVER = {**ALWAYS, "rules": [{**ALWAYS["rules"][0], "review_at": 1.0, "block_at": None}]}


def put(web: Web, path: str, body: dict[str, Any], **options: Any) -> Any:
    return web.client.put(path, json=body, **options)


def moderate(web: Web, *pictures: bytes, **fields: Any) -> Any:
    body = {"images": [b64(picture) for picture in pictures or (png(),)], "policy": "strict", **fields}
    return web.client.post("/v1/moderate", json=body)
