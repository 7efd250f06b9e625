"""Examples of a request → vectors with their labels; every example that cannot be used is left out by itself."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from gateway.api.body.images import image_request
from gateway.api.dependencies import Services
from gateway.api.schemas.training import ExampleIn, ReviewedDecisions, TrainBody
from gateway.api.store_calls import stored
from gateway.inference.scoring import Floats
from gateway.limits.admission import Reservation
from gateway.limits.deadline import Deadline
from gateway.moderation.classifiers import split_reference
from gateway.moderation.heads import unpacked
from gateway.moderation.policy_diff import OTHER_VIEWS, sample_of
from gateway.store.decisions import DecisionFilter, DecisionRecord
from gateway.store.review.feedback import Feedback

PAGE = 200
VIEW = "full"
UNIT_WITHIN = 0.01  # as for what the model answers


@dataclass(frozen=True, slots=True)
class Gathered:
    """One example: its vector [D], the labels that are true of it, the SHA-256 of its image or vector, its group.

    The vector is no part of an array of an image's views, which would be kept with it.
    """

    vector: Floats
    labels: frozenset[str]
    sha256: str
    group: str


@dataclass(slots=True)
class Gathering:
    """What a request's examples came to.

    Attributes:
        used: in their order.
        skipped: position in the request or id of the decision, and why.
    """

    used: list[Gathered] = field(default_factory=list)
    skipped: list[tuple[int | None, str | None, str]] = field(default_factory=list)

    @property
    def skipped_because(self) -> dict[str, int]:
        """Counts by reason."""
        return dict(Counter(reason for _, _, reason in self.skipped))

    def counts(self, labels: Sequence[str]) -> dict[str, int]:
        """Return how many examples each label is true of."""
        return {label: sum(label in example.labels for example in self.used) for label in labels}

    def digest(self) -> str:
        """Return a hex SHA-256 of the examples and their labels, in whatever order they came."""
        rows = sorted((example.sha256, sorted(example.labels)) for example in self.used)
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()

    def groups(self) -> tuple[str, ...]:
        """Return the group of each example."""
        return tuple(example.group for example in self.used)


@dataclass(frozen=True, slots=True)
class Gatherer:
    """Gets the vectors of a request's examples.

    Attributes:
        services: of the gateway.
        labels: that are learned.
        one_label: exactly one is true of each example.
        harmless: of what reviewers allowed; None: no label.
        deadline: of all of it.
    """

    services: Services
    labels: frozenset[str]
    one_label: bool
    harmless: str | None
    deadline: Deadline

    async def gather(self, body: TrainBody, reservation: Reservation) -> Gathering:
        """Return the examples of the body and of the log; the body's are handed over."""
        found = Gathering()
        vectors = await self._image_vectors(body.examples, reservation)
        vectors |= await asyncio.to_thread(self._embeddings, body.examples)
        for index, example in enumerate(body.examples):
            if example.decision_id is not None:
                await self._take_decision(found, index, example.decision_id, example)
            elif isinstance(got := vectors[index], str):
                found.skipped.append((index, None, got))
            else:
                vector, sha256 = got
                labels = frozenset(example.labels or ())
                self._take(found, (index, None), Gathered(vector, labels, sha256, example.group or sha256))
        body.examples.clear()
        if body.decisions is not None:
            async for record in self._reviewed(body.decisions):
                await self._take_decision(found, None, record.id, None)
        return found

    def _take(self, found: Gathering, where: tuple[int | None, str | None], example: Gathered) -> None:
        if not example.labels <= self.labels:
            found.skipped.append((*where, "unknown_label"))
        elif self.one_label and len(example.labels) != 1:
            found.skipped.append((*where, "one_label_needed"))
        else:
            found.used.append(example)

    async def _image_vectors(
        self, examples: Sequence[ExampleIn], reservation: Reservation
    ) -> dict[int, tuple[Floats, str] | str]:
        """Return vector and SHA-256 of each image by the example's position, or the code of its error."""
        images = {
            index: image_request(example.image, reservation)
            for index, example in enumerate(examples)
            if example.image is not None
        }
        made: dict[int, tuple[Floats, str] | str] = {}
        positions, most = list(images), self.services.body_rules.max_images
        for start in range(0, len(positions), most):
            batch = positions[start : start + most]
            outcomes = await self.services.pipeline.run(
                [images.pop(index) for index in batch], frozenset({"full"}), self.deadline, deciding=True
            )
            for index, outcome in zip(batch, outcomes, strict=True):
                if outcome.error is not None:
                    made[index] = outcome.error.code
                elif outcome.prepared is not None and outcome.vectors is not None:
                    made[index] = outcome.vectors[0].copy(), outcome.prepared.info.sha256
        return made

    def _embeddings(self, examples: Sequence[ExampleIn]) -> dict[int, tuple[Floats, str] | str]:
        return {
            index: self._embedding(example.embedding)
            for index, example in enumerate(examples)
            if example.embedding is not None
        }

    def _embedding(self, embedding: str) -> tuple[Floats, str] | str:
        try:
            vector = unpacked(embedding)
        except ValueError:
            return "embedding_unreadable"
        if vector.shape != (self.services.manifest.embedding_dim,):
            return "embedding_of_another_size"
        if not abs(float(np.linalg.norm(vector)) - 1) <= UNIT_WITHIN:  # nor one that is not finite
            return "embedding_not_unit_length"
        return vector, hashlib.sha256(vector.tobytes()).hexdigest()

    async def _take_decision(
        self, found: Gathering, index: int | None, decision_id: str, example: ExampleIn | None
    ) -> None:
        where = (index, decision_id)
        read = await stored(self.services.decisions.read(decision_id))
        if read is None:
            found.skipped.append((*where, "no_such_decision"))
            return
        record, feedback = read
        labels = self._said(feedback) if example is None or example.labels is None else example.labels
        if isinstance(labels, str):
            found.skipped.append((*where, labels))
            return
        manifest = self.services.manifest
        sample = sample_of(record, manifest.embedding_dim, manifest.bundle_id)
        if isinstance(sample, str):
            found.skipped.append((*where, sample))
            return
        row = next((row for row, place in enumerate(sample.places) if place.view == VIEW), None)
        if row is None:
            found.skipped.append((*where, OTHER_VIEWS))
            return
        sha256 = record.image_sha256
        group = example.group if example is not None and example.group else sha256
        self._take(found, where, Gathered(sample.vectors[row].copy(), frozenset(labels), sha256, group))

    def _said(self, feedback: Sequence[Feedback]) -> list[str] | str:
        """Return the labels that the latest verdict means, or why there are none."""
        verdict = next((said for said in reversed(feedback) if said.stands), None)
        if verdict is None:
            return "not_reviewed"
        if verdict.decision == "allow":
            return [] if self.harmless is None else [self.harmless]
        return [name for name in verdict.categories if name in self.labels] or "feedback_names_no_label"

    async def _reviewed(self, wanted: ReviewedDecisions) -> AsyncIterator[DecisionRecord]:
        """Yield the newest reviewed decisions whose vectors were kept."""
        name, number = split_reference(wanted.policy) if wanted.policy else (None, None)
        selected = DecisionFilter(
            since=wanted.since,
            until=wanted.until,
            policy=name,
            policy_version=number,
            external_id=wanted.external_id,
            reviewed=True,
            with_vectors=True,
        )
        left, cursor = min(wanted.limit, self.services.trainer.limits.max_examples), None
        while left:
            page = await stored(self.services.decisions.page(selected, cursor=cursor, limit=min(PAGE, left)))
            for record in page.records:
                yield record
            left, cursor = left - len(page.records), page.next_cursor
            if cursor is None:
                return
            await asyncio.sleep(0)
