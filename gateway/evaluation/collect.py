"""The file of judged images, ``judged.jsonl``: appended to while a gateway answers, and gone on with after a break.

Who asks the gateway hands its answers over here. An image that could not be judged is a line too, with its code, and is
asked about again by the next run.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt

from gateway.evaluation.judged import (
    ClassifierViews,
    JudgedImage,
    JudgedSet,
    LabelledImage,
    Run,
    judged_set,
    line_of,
    read_judged,
)
from gateway.evaluation.section import Section, Table
from gateway.inference.activations import softmax

FILE = "judged.jsonl"
SHOWN = 20
SHORT_HASH = 12
LIST_PREFIX = "list:"


class OtherRun(Exception):
    """The file is of another run, or cannot be gone on with; the text is for people."""


@dataclass(slots=True)
class Collection:
    """Judged images so far, in memory and in a file.

    Attributes:
        path: of the file.
        run: what is asked, of which gateway.
        done: source → its judged image.
        failed: source → its image with the error's code.
    """

    path: Path
    run: Run
    done: dict[str, JudgedImage]
    failed: dict[str, JudgedImage]
    _file: TextIO | None = None

    def take(self, judged: JudgedImage) -> None:
        """Keep one image, and let it reach the disk: what is written counts as done."""
        if self._file is None:
            self._file = self.path.open("a", encoding="utf-8", errors="surrogateescape")
        self._file.write(line_of(judged) + "\n")
        self._file.flush()
        (self.done if judged.error is None else self.failed)[judged.image.source] = judged

    def finish(self, images: Sequence[LabelledImage]) -> JudgedSet:
        """Write the file once more, in the order of the images, and return it as a set."""
        self.close()
        known = self.failed | self.done
        rows = [known[image.source] for image in images if image.source in known]
        write(self.path, self.run, rows)
        return judged_set(self.run, rows)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def collection(folder: Path, run: Run, images: Sequence[LabelledImage], *, fresh: bool) -> Collection:
    """Begin a run in a folder, or go on with what it holds; labels, slices and groups are those of now.

    Of the run before those images are taken over that are still asked about and whose files are the same.

    Args:
        folder: made where it is not there.
        run: what is asked now.
        images: all that are asked about.
        fresh: begin anew whatever is there.

    Raises:
        OtherRun: what is there is of another run.
        OSError: it cannot be read or written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE
    done: dict[str, JudgedImage] = {}
    if path.exists() and path.stat().st_size and not fresh:
        try:
            before = read_judged(path)
        except ValueError as fault:
            raise OtherRun(f"{fault}; --fresh begins anew") from None
        difference = differs(before.run, run)
        if difference:
            raise OtherRun(f"{path} was collected with {difference}; give another --out, or --fresh to begin anew")
        run = replace(run, at=before.run.at)
        kept = {judged.image.source: judged for judged in before.images}
        if before.images and not kept.keys() & {image.source for image in images}:
            raise OtherRun(f"{path} was collected from other images; give another --out, or --fresh to begin anew")
        done = {
            image.source: replace(kept[image.source], image=image)
            for image in images
            if image.source in kept and is_same_file(kept[image.source])
        }
    write(path, run, done.values())
    return Collection(path, run, done, {})


def differs(before: Run, now: Run) -> str:
    """Return what tells two runs apart, in words: the one before and the one of now; "" of the same."""
    asked = [(_asked(run), run.model.get("bundle_id")) for run in (before, now)]
    (what, bundle), (new_what, new_bundle) = asked
    if what != new_what:
        return f"{what}, and now {new_what} is asked"
    if bundle != new_bundle:
        return f"the model {bundle}, and the gateway runs {new_bundle}"
    return "" if before.policy_body == now.policy_body else "another body of the policy"


def _asked(run: Run) -> str:
    if run.policy is None:
        return f"classifier {run.classifier}"
    return f"policy {run.policy['name']}@{run.policy['version']}"


def is_same_file(judged: JudgedImage) -> bool:
    """Return whether a local file still is what was judged; of a URL or a decision it is taken for granted."""
    path = Path(judged.image.source)
    if "://" in judged.image.source or not path.is_file():
        return True
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == judged.sha256


def write(path: Path, run: Run, rows: Iterable[JudgedImage]) -> None:
    """Write a whole table, in one step for whoever reads it."""
    part = path.with_suffix(".part")
    with part.open("w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(json.dumps({"run": asdict(run)}, ensure_ascii=False) + "\n")
        for judged in rows:
            file.write(line_of(judged) + "\n")
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def judged_of_moderation(image: LabelledImage, result: Mapping[str, Any]) -> JudgedImage:
    """Return an image with a result of ``/v1/moderate``, or of a dry run; hash lists' categories are no scores.

    Raises:
        KeyError, TypeError, ValueError: it is of another form.
    """
    views = result.get("views") or []
    keys = views[0].get("classifiers", {}) if views else {}
    said = {
        key: ClassifierViews(
            tuple(row["label"] for row in rows),
            np.array([[row["score"] for row in view["classifiers"][key]] for view in views], np.float32),
        )
        for key, rows in keys.items()
    }
    vectors = [view["embedding"] for view in views if "embedding" in view]
    return JudgedImage(
        image,
        sha256=result["image"]["sha256"] if "image" in result else result["image_sha256"],
        decision=result["decision"],
        scores={
            entry["category"]: float(entry["score"])
            for entry in result["categories"]
            if not entry["category"].startswith(LIST_PREFIX)
        },
        views=said,
        vectors=np.array(vectors, np.float32) if vectors else None,
        elapsed_ms=result.get("elapsed_ms"),
    )


def judged_of_classification(image: LabelledImage, run: Run, result: Mapping[str, Any]) -> JudgedImage:
    """Return an image with a result of ``/v1/classify``.

    What is kept of views is before calibration: of a softmax over labels it follows from the similarities, of another
    classifier that is calibrated nothing is kept.

    Args:
        image: asked about.
        run: with the classifier that was asked.
        result: with ``views``, ``embedding``, and unless it is a head ``similarity``.

    Raises:
        KeyError, TypeError, ValueError: it is of another form.
    """
    key, body = run.classifier or "", run.classifiers[run.classifier or ""]
    scores = {row["label"]: float(row["score"]) for row in result["scores"]}
    labels = tuple(name for name in label_names(body) if name in scores)
    views = [{row["label"]: row for row in view["scores"]} for view in result["views"]]

    def values(field: str) -> npt.NDArray[np.float32]:
        return np.array([[view[label][field] for label in labels] for view in views], np.float32)

    similarities = None if body.get("kind") == "head" else values("similarity")
    probabilities: npt.NDArray[np.float32] | None = values("score")
    if is_calibrated(body):
        by_words = similarities is not None and body["mode"] == "softmax"
        probabilities = softmax(similarities * run.model["logit_scale"]).astype(np.float32) if by_words else None
    said = {} if probabilities is None else {key: ClassifierViews(labels, probabilities, similarities)}
    alone = len(views) == 1 and "embedding" in result
    return JudgedImage(
        image,
        sha256=result["image"]["sha256"],
        scores=scores,
        views=said,
        vectors=np.array([result["embedding"]], np.float32) if alone else None,
        elapsed_ms=result.get("elapsed_ms"),
    )


def label_names(body: Mapping[str, Any]) -> list[str]:
    """Return the labels of a classifier's body, in their order."""
    return [label["label"] if isinstance(label, dict) else label for label in body["labels"]]


def is_calibrated(body: Mapping[str, Any]) -> bool:
    """Return whether a classifier's label scores are others than before calibration."""
    return bool(body.get("temperature")) or any(
        isinstance(one, dict) and one.get("calibration") for one in body["labels"]
    )


def contradictions(judged: JudgedSet) -> list[list[JudgedImage]]:
    """Return images that are one file and do not have the same labels, a list for each file."""
    by_file: dict[str, list[JudgedImage]] = defaultdict(list)
    for image in judged.images:
        if image.sha256:
            by_file[image.sha256].append(image)
    return [same for same in by_file.values() if len({image.image.labels for image in same}) > 1]


def contradictions_section(judged: JudgedSet) -> Section | None:
    """Return what the report says of labels that contradict each other; None where none do."""
    found = contradictions(judged)
    if not found:
        return None
    rows = [((same[0].sha256 or "")[:SHORT_HASH], truths(same), str(len(same))) for same in found[:SHOWN]]
    told = (
        f"{len(found)} files are in the set more than once, with labels that contradict each other. Whatever is "
        "answered, one of them counts as a mistake: settle which is true, and run again."
    )
    table = Table("Files with several truths.", ("SHA-256", "labels", "copies"), rows)
    values = {"files": [[image.image.source for image in same] for same in found]}
    return Section("contradictions", "Contradicting labels", [told], [table], values=values)


def truths(same: Sequence[JudgedImage]) -> str:
    """Return what is said to be true of each copy of a file, for people."""
    return "; ".join(f"{one.image.source}: {', '.join(sorted(one.image.labels)) or 'harmless'}" for one in same)
