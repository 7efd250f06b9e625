"""The scenarios that come with the program: YAML files in ``scenarios/``, one folder a set.

``clip`` is for any CLIP trained on photographs, ``demo`` for the bundled demo model, which knows drawings only. Both
hold classifiers and policies of the same names, so that what is built on one runs on the other. ``library`` holds more
classifiers for CLIPs of photographs, which a team takes up one by one, and the policy ``library`` with a rule for each
(or its name among the attributes).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, Literal

import yaml
from pydantic import BaseModel

from gateway.inference.bundle import Manifest
from gateway.moderation.classifiers import Classifier
from gateway.moderation.policy import Policy
from gateway.store.versions import Kind

SetName = Literal["clip", "demo", "library"]
SETS: tuple[SetName, ...] = ("clip", "demo")
"""Those that seeding stores; the library is not among them."""

_POLICY_PREFIX = "policy-"


@dataclass(frozen=True, slots=True)
class BuiltinScenario:
    """One set of scenarios, by name."""

    classifiers: Mapping[str, Classifier]
    policies: Mapping[str, Policy]

    def bodies(self) -> Iterator[tuple[Kind, str, Classifier | Policy]]:
        """Yield kind, name and body of each: classifiers first, since policies name them."""
        yield from (("classifier", name, body) for name, body in self.classifiers.items())
        yield from (("policy", name, body) for name, body in self.policies.items())


def set_for(manifest: Manifest) -> SetName:
    """Return which set fits a bundle."""
    return "demo" if manifest.model.demo else "clip"


def shipped(name: SetName) -> BuiltinScenario:
    """Read a set; ``NAME.yaml`` is a classifier, ``policy-NAME.yaml`` a policy.

    Raises:
        ValueError: a file is not of the form that the API accepts.
    """
    classifiers: dict[str, Classifier] = {}
    policies: dict[str, Policy] = {}
    for entry in sorted(_folder().joinpath(name).iterdir(), key=lambda found: found.name):
        stem, body = entry.name.removesuffix(".yaml"), _read_yaml(entry.read_text(encoding="utf-8"))
        if stem.startswith(_POLICY_PREFIX):
            policies[stem.removeprefix(_POLICY_PREFIX)] = Policy.model_validate(body)
        else:
            classifiers[stem] = Classifier.model_validate(body)
    return BuiltinScenario(classifiers, policies)


def former() -> frozenset[str]:
    """Return the fingerprints of what earlier versions of this program shipped."""
    lines = _folder().joinpath("former.txt").read_text(encoding="utf-8").splitlines()
    return frozenset(line.split()[0] for line in lines if line.strip() and not line.startswith("#"))


def fingerprint(body: BaseModel | Mapping[str, Any]) -> str:
    """Return the same hex for the same body, in whatever order its fields stand."""
    plain = body.model_dump(mode="json") if isinstance(body, BaseModel) else body
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:32]


def _read_yaml(text: str) -> object:
    """As ``yaml.safe_load``, by libyaml where it is: a tenth of the time, and every start of the gateway waits."""
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe


def _folder() -> Traversable:
    return files("gateway.moderation").joinpath("scenarios")


def main() -> None:
    """Print the fingerprint of every shipped body, for ``former.txt``."""
    for set_name in SETS:
        for kind, name, body in shipped(set_name).bodies():
            print(fingerprint(body), set_name, kind, name)  # noqa: T201 - a tool


if __name__ == "__main__":
    main()
