"""Default prompt templates and negatives, by kind of model.

Templates: CLIP's own default is "a photo of a {label}" (Radford et al. 2021, section 3.1.4). The article is left to
the label here, since labels are phrases such as "people at a beach".

Negatives are what a label is weighed against in ``independent`` mode. The rule: one catch-all prompt of the same form
as the template, as LSeg's "other" class (Li et al. 2022, "Language-driven Semantic Segmentation"), and neutral prompts
that name no content at all, after CLIP-IQA's finding that a score from one prompt alone is ambiguous and that a
contrasting prompt settles it (Wang et al. 2023, "Exploring CLIP for Assessing the Look and Feel of Images").
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DefaultPrompts:
    """Prompts that a bundle brings along.

    Attributes:
        templates: each with one ``{}``.
        negatives: used as they are, without a template.
    """

    templates: tuple[str, ...]
    negatives: tuple[str, ...]


PHOTOGRAPHS = DefaultPrompts(
    templates=("a photo of {}",),
    negatives=("a photo of something else", "a photo", "an ordinary picture"),
)
# In the words that the demo model knows, after the captions of its safe and its empty pictures.
DRAWINGS = DefaultPrompts(
    templates=("a drawing of {}",),
    negatives=("a drawing of something", "an ordinary picture", "an empty picture"),
)
