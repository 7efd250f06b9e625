"""Render the Helm chart and validate what comes out; run by the Python of ``.venv-chart`` (``make chart-tools``).

Reads from standard input ``{"chart": folder, "kubernetes": [version], "schemas": {kind: JSON Schema},
"cases": {name: values}}``. Prints for each case ``{"objects": […], "notes": text, "invalid": [sentence]}`` or
``{"refused": sentence}``, and what Helm's lint says. Helm is its own Go library, the schemas are those of the
Kubernetes releases; custom kinds are held to ``schemas``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from typing import Any

import yaml

RELEASE, NAMESPACE = "shop", "moderation"


@cache
def validator(kind: str, api_version: str, version: str) -> Any:
    """Return what validates one kind of one Kubernetes release, strictly: no field that it does not know."""
    utils, referencing = import_module("kubernetes_validate.utils"), import_module("referencing")
    folder = f"kubernetes-json-schema/v{version}.0-local-strict"
    group = "-".join(part.split(".")[0] if "/" in api_version else part for part in api_version.split("/"))
    schema = utils.schema_contents(f"{folder}/{kind.lower()}-{group}.json", version)
    known = definitions(version) @ (referencing.Resource.from_contents(schema) @ referencing.Registry())
    return import_module("jsonschema").Draft202012Validator(schema, registry=known)


@cache
def definitions(version: str) -> Any:
    """Return the definitions that all kinds of one Kubernetes release refer to."""
    utils = import_module("kubernetes_validate.utils")
    contents = utils.schema_contents(f"kubernetes-json-schema/v{version}.0-local-strict/_definitions.json", version)
    return import_module("referencing").Resource.from_contents(contents)


def mistakes(shown: dict[str, Any], asked: dict[str, Any]) -> Iterator[str]:
    """Yield what is not valid in one object, for each release asked for."""
    kind, api_version = shown["kind"], shown["apiVersion"]
    if kind in asked["schemas"]:
        validators = [import_module("jsonschema").Draft202012Validator(asked["schemas"][kind])]
    else:
        validators = [validator(kind, api_version, version) for version in asked["kubernetes"]]
    for each in validators:
        for error in each.iter_errors(shown):
            yield f"{kind} {shown['metadata']['name']}: {error.json_path}: {error.message}"


def render(chart: Any, values: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    """Return what one set of values comes to."""
    helm = import_module("helm_python")
    try:
        chart.validate_schema(values)
        texts = chart.render(values, name=RELEASE, namespace=NAMESPACE)
    except helm.HelmError as error:
        return {"refused": str(error)}
    notes = "".join(text for name, text in texts.items() if name.endswith("NOTES.txt"))
    objects = [
        shown
        for name, text in texts.items()
        if not name.endswith("NOTES.txt")
        for shown in yaml.safe_load_all(text)
        if shown
    ]
    invalid = [line for it in objects for line in mistakes(it, asked)]
    return {"objects": objects, "notes": notes, "invalid": invalid}


def main() -> None:
    """Answer what standard input asks."""
    asked = json.load(sys.stdin)
    helm = import_module("helm_python")
    with helm.Chart.load(asked["chart"]) as chart:
        answers = {name: render(chart, values, asked) for name, values in asked["cases"].items()}
    lint = helm.lint(asked["chart"], next(iter(asked["cases"].values())))
    json.dump({"cases": answers, "lint": lint}, sys.stdout)


if __name__ == "__main__":
    main()
