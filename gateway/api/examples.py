"""Bodies that /docs shows and that run as they stand."""

from __future__ import annotations

from typing import Any

# A red disc on white, 64 x 64: small, and a drawing as the demo model knows them.
EXAMPLE_PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAEAAAABAAQMAAACQp+OdAAAABlBMVEX////cHh7/Hx2WAAAAiElEQVR42rXRMQ6CQBAF0McsCRYm"
    "YmfJUdYbeUSOwhG2pCCsxSaGgsroNP9n3nTDP+e2IvAa2iLVuhD0jAQPrgQTQZDpSMzo5tBBFgKmFhB6GIULXI70KSP0pzS1OKPv"
    "ygL7KRXYTmmFVdigHGmHRagwS8g8BTOVYNHuDLUWgo1Cosr3wy9+Pm8djR4nTn4h5wAAAABJRU5ErkJggg=="
)


def examples() -> dict[str, dict[str, Any]]:
    """Return an example body by path, for /docs."""
    image = {"base64": EXAMPLE_PNG}
    return {
        "/v1/classify": {"images": [image], "labels": ["a red circle", "a blue square"]},
        "/v1/moderate": {"images": [image], "policy": "default"},
        "/v1/moderations": {
            "input": [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{EXAMPLE_PNG}"}}]
        },
        "/v1/embeddings": {"input": ["a red circle", {"image": image}]},
    }
