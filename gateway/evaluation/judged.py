"""Images with what is true of them and what a gateway said of them: the one table that everything here reads.

It is kept as a file of JSON lines, first the run, then an image a line, so that a run that was cut off goes on.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Part = Literal["train", "calibration", "test"]
PARTS = 4  # by the hash: one to train heads, one to calibrate, two to test


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """An image and what people say of it.

    Attributes:
        source: path, http(s) URL, or id of a logged decision.
        labels: categories (or labels) that are true of it; none: harmless.
        slices: column → value, for figures by slice.
        group: images of one group (one uploader, one video) count as one draw and stay in one part; None: the image's
            own SHA-256.
    """

    source: str
    labels: frozenset[str]
    slices: Mapping[str, str] = field(default_factory=dict)
    group: str | None = None


@dataclass(frozen=True, slots=True)
class ClassifierViews:
    """What a classifier said of each view, before calibration.

    Attributes:
        labels: L names.
        probabilities: [V, L], 0 to 1.
        similarities: [V, L], cosines, -1 to 1; None where they were not asked for.
    """

    labels: tuple[str, ...]
    probabilities: npt.NDArray[np.float32]
    similarities: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class JudgedImage:
    """A labelled image with the gateway's answer.

    Attributes:
        image: what was asked about.
        sha256: hex of the file's bytes; None of an image that failed.
        decision: allow, review or block; None of an image that failed, and where no policy was asked.
        scores: category → score, 0 to 1; of a classifier without a policy, label → score.
        views: classifier (``name@version``) → what it said of each view; empty where it was not asked for.
        vectors: [V, D] unit vectors of the views; None where they were not asked for.
        elapsed_ms: of the gateway's work on it; None where unknown.
        error: the problem's code; None of an image that was judged.
    """

    image: LabelledImage
    sha256: str | None = None
    decision: str | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    views: Mapping[str, ClassifierViews] = field(default_factory=dict)
    vectors: npt.NDArray[np.float32] | None = None
    elapsed_ms: float | None = None
    error: str | None = None

    @property
    def group(self) -> str:
        """What it is drawn with; two copies of a file are one group."""
        return self.image.group or self.sha256 or self.image.source

    @property
    def part(self) -> Part:
        """Which part of the images it belongs to, for ever: nobody tunes on the test half."""
        return part_of(self.group)


@dataclass(frozen=True, slots=True)
class Run:
    """What was asked, of which gateway.

    Attributes:
        model: as ``/v1/models`` names it.
        policy: name, version and classifiers' versions of the policy; None where a classifier was asked.
        classifier: ``name@version``; None where a policy was asked.
        policy_body: as the gateway gives it.
        classifiers: ``name@version`` → body, of those whose views are kept.
        at: when it began, UTC, ISO 8601.
        draft: whether the bodies are a draft made from what was asked, and scores and decisions are the draft's.
    """

    model: Mapping[str, Any]
    policy: Mapping[str, Any] | None
    classifier: str | None
    policy_body: Mapping[str, Any] | None
    classifiers: Mapping[str, Mapping[str, Any]]
    at: str
    draft: bool = False

    @property
    def learned(self) -> bool:
        """Whether a classifier was trained, maybe on these images."""
        return any(body.get("training") for body in self.classifiers.values())

    @property
    def untouched(self) -> tuple[Part, ...]:
        """Parts to fit further things on: not what a head was trained on, where its scores are too good."""
        return ("calibration",) if self.learned else ("train", "calibration")


@dataclass(frozen=True, slots=True)
class JudgedSet:
    """Judged images, and those that could not be, apart."""

    run: Run
    images: tuple[JudgedImage, ...]
    failed: tuple[JudgedImage, ...] = ()

    @property
    def categories(self) -> tuple[str, ...]:
        """Every category that was scored, in the order of the policy's rules."""
        return tuple(dict.fromkeys(name for image in self.images for name in image.scores))

    def truth(self, category: str) -> npt.NDArray[np.bool_]:
        """Return [n]: of which images the category is true."""
        return np.array([category in judged.image.labels for judged in self.images], bool)

    def scores(self, category: str) -> npt.NDArray[np.float64]:
        """Return [n] scores of a category, 0 to 1; 0 where a hash list decided and nothing was scored."""
        return np.array([judged.scores.get(category, 0.0) for judged in self.images], float)

    def groups(self) -> tuple[str, ...]:
        """Return [n] groups."""
        return tuple(judged.group for judged in self.images)

    def of(self, *parts: Part) -> JudgedSet:
        """Return the images of these parts; failed ones belong to none."""
        return replace(self, images=tuple(judged for judged in self.images if judged.part in parts), failed=())


def part_of(group: str) -> Part:
    """Return the part that a group belongs to, by its hash: a quarter train, a quarter calibration, half test."""
    number = hashlib.sha256(group.encode()).digest()[0] % PARTS
    return ("train", "calibration", "test", "test")[number]


def line_of(judged: JudgedImage) -> str:
    """Return an image as a line of JSON, without its end."""
    vectors = None if judged.vectors is None else _packed(judged.vectors)
    values = {
        **asdict(replace(judged.image, labels=frozenset())),
        "labels": sorted(judged.image.labels),
        "sha256": judged.sha256,
        "decision": judged.decision,
        "scores": dict(judged.scores),
        "views": {
            key: {
                "labels": list(said.labels),
                "probabilities": said.probabilities.tolist(),
                "similarities": None if said.similarities is None else said.similarities.tolist(),
            }
            for key, said in judged.views.items()
        },
        "vectors": vectors,
        "elapsed_ms": judged.elapsed_ms,
        "error": judged.error,
    }
    return json.dumps(values, ensure_ascii=False)


def judged_of(line: str) -> JudgedImage:
    """Return the image of a line that ``line_of`` made.

    Raises:
        ValueError, KeyError, TypeError: another line.
    """
    values = json.loads(line)
    image = LabelledImage(values["source"], frozenset(values["labels"]), values["slices"], values["group"])
    views = {
        key: ClassifierViews(
            tuple(said["labels"]),
            np.array(said["probabilities"], np.float32),
            None if said.get("similarities") is None else np.array(said["similarities"], np.float32),
        )
        for key, said in values["views"].items()
    }
    vectors = None if values["vectors"] is None else _unpacked(values["vectors"])
    rest = {name: values[name] for name in ("sha256", "decision", "scores", "elapsed_ms", "error")}
    return JudgedImage(image, views=views, vectors=vectors, **rest)


def read_judged(path: Path) -> JudgedSet:
    """Read a table; a last line that was cut off is left out.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no such table.
    """
    first, *lines = path.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
    try:
        run = Run(**json.loads(first)["run"])
        rows = [judged_of(line) for line in lines[:-1]]  # what follows the last line's end was cut off
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no table of judged images") from error
    return judged_set(run, rows)


def judged_set(run: Run, rows: Sequence[JudgedImage]) -> JudgedSet:
    """Return rows as a set, those that failed apart."""
    judged = tuple(row for row in rows if row.error is None)
    return JudgedSet(run, judged, tuple(row for row in rows if row.error is not None))


def _packed(vectors: npt.NDArray[np.float32]) -> dict[str, Any]:
    return {"shape": vectors.shape, "float32": base64.b64encode(vectors.astype("<f4").tobytes()).decode()}


def _unpacked(value: Mapping[str, Any]) -> npt.NDArray[np.float32]:
    flat = np.frombuffer(base64.b64decode(value["float32"]), "<f4")
    return flat.reshape(value["shape"]).astype(np.float32)
