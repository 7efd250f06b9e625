"""Saving a classifier or policy: validated whole, its text vectors computed, pinned to what it was saved for.

The one sequence behind PUT and behind the scenarios that come with the program; no HTTP here.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from gateway.inference.bundle import Manifest
from gateway.inference.label_matrix import packed
from gateway.inference.prompts import LabelRules
from gateway.inference.text_embeddings import TextEmbeddings
from gateway.limits.deadline import Deadline
from gateway.moderation.catalog import Catalog
from gateway.moderation.classifiers import Classifier
from gateway.moderation.heads import HeadClassifier
from gateway.moderation.policy import Policy
from gateway.store.audit import Actor
from gateway.store.preconditions import UNCONDITIONAL, Precondition
from gateway.store.versions import Kind, Saved, Versions


@dataclass(frozen=True, slots=True)
class Saver:
    """Saves bodies as versions for the bundle being served.

    Attributes:
        versions: where they are kept, as the bundle sees them.
        catalog: binds a policy to the classifiers in force.
        text: computes what words mean to the model.
        manifest: the bundle being served.
        rules: caps on words.
        timeout_s: deadline of one save, seconds.
    """

    versions: Versions
    catalog: Catalog
    text: TextEmbeddings
    manifest: Manifest
    rules: LabelRules
    timeout_s: float

    async def save(
        self,
        name: str,
        body: Classifier | HeadClassifier | Policy,
        *,
        activate: bool,
        actor: Actor,
        precondition: Precondition = UNCONDITIONAL,
    ) -> Saved:
        """Validate, compute the text vectors, save. The catalog is not refreshed here.

        Raises:
            RequestError: something in the body cannot work, or a head is for another model; it is named.
            StaleWrite: the precondition does not hold.
            PinMissing: a classifier was deleted meanwhile.
            StorageUnavailable, StoreUnavailable: the store is away.
            ServiceError: text vectors could not be computed.
        """
        deadline = Deadline.after(self.timeout_s)
        kind: Kind = "policy"
        pins: dict[str, int] = {}
        vectors = None
        if isinstance(body, HeadClassifier):
            kind = "classifier"
            body.check_model(self.manifest)
            await asyncio.to_thread(body.head, self.rules)
        elif isinstance(body, Classifier):
            kind = "classifier"
            body = self.normal(body)
            labels = await asyncio.to_thread(body.label_set, self.rules)
            matrix = await self.text.assemble(labels, deadline, self.text.limits.max_saved_prompts)
            vectors = await asyncio.to_thread(packed, labels, matrix)
        else:
            await self.catalog.catch_up()  # another gateway may just have saved what this is to pin
            pins = (await self.catalog.bind_candidate(name, body, deadline)).pins
        return await self.versions.save(
            kind,
            name,
            body.model_dump(mode="json"),
            pins=pins,
            activate=activate,
            actor=actor,
            precondition=precondition,
            vectors=vectors,
        )

    def normal(self, body: Classifier) -> Classifier:
        """Return a classifier with every default filled in from the bundle."""
        return body.normal(self.manifest.templates, self.manifest.negatives)
