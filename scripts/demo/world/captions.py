"""Words for what a scene shows: true statements, in many wordings, within many templates."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from scripts.demo.world.backdrops import PATTERNS
from scripts.demo.world.palette import COLOURS
from scripts.demo.world.scene import ACCESSORIES, ATOMS, MOODS, Scene, truth
from scripts.demo.world.wordings import BY_ITSELF, HELD_OUT_TEMPLATES, MOOD_WORDS, NOUNS, PLAIN, TEMPLATES, THINGS, WITH

Concept = tuple[str, ...]
"""One atom of ATOMS, or two that hold together: ('red:circle',) or ('smile', '+glasses')."""


def _coloured(atom: str) -> tuple[str, ...]:
    """Wordings of 'a:thing' and 'colour:thing'."""
    colour, name = atom.split(":")
    shades = ("",) if colour == "a" else (f"{colour} ", "grey ") if colour == "gray" else (f"{colour} ",)
    out: list[str] = []
    for shade in shades:
        if name == "clothes":
            out += [f"~person in {shade}clothes", f"~figure wearing {shade}clothes", f"~person with {shade}clothes"]
            out += [f"~figure in {shade}clothes", f"~person wearing {shade}"]
        elif name == "ground":
            out += [f"~{shade}background"]
        elif name == "splash":
            out += [
                f"~{shade}splatter",
                f"{shade}paint",
                f"~{shade}splash",
                f"~{shade}stain",
                f"~splash of {shade}paint",
                f"{shade}drips",
            ]
        else:
            out += [wording.format(shade) for wording in THINGS.get(name, ("~{}" + name,))]
    return tuple(out)


def _wordings(atom: str) -> tuple[str, ...]:
    """All wordings of one atom, with '~' where an article may stand."""
    if ":" in atom:
        return _coloured(atom)
    if atom in WITH:
        faces = tuple(f"~{noun} {tail}" for noun in NOUNS for tail in WITH[atom])
        return faces + BY_ITSELF[atom] * 5
    return PLAIN[atom]


_ALL: Mapping[str, tuple[str, ...]] = MappingProxyType({atom: _wordings(atom) for atom in ATOMS})


def _article(wording: str, rng: np.random.Generator) -> str:
    """Replace each '~' by an article or by nothing."""
    while "~" in wording:
        before, _, after = wording.partition("~")
        die = rng.random()
        article = (
            ""
            if die < 0.22
            else "the "
            if die < 0.29
            else "one "
            if die < 0.31
            else "an "
            if after[:1] in "aeiou"
            else "a "
        )
        wording = before + article + after
    return wording


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def phrase(concept: Concept, rng: np.random.Generator) -> str:
    """Return one wording of a concept, e.g. 'a smiling face with glasses' for ('smile', '+glasses')."""
    if len(concept) == 1:
        return _article(_pick(rng, _ALL[concept[0]]), rng)
    one, other = concept
    if other.endswith(":ground"):
        colour = _pick(rng, ("gray", "grey")) if other.startswith("gray") else other.split(":")[0]
        return _article(f"{_pick(rng, _ALL[one])} on ~{colour} background", rng)
    if one in MOOD_WORDS and other in WITH:
        return _article(f"~{_pick(rng, MOOD_WORDS[one])} {_pick(rng, NOUNS)} {_pick(rng, WITH[other])}", rng)
    if one in WITH and other in WITH:
        joint = " but " if one[0] != other[0] and rng.random() < 0.5 else " and "
        return _article(f"~{_pick(rng, NOUNS)} {_pick(rng, WITH[one])}{joint}{_pick(rng, WITH[other])}", rng)
    return _article(f"{_pick(rng, _ALL[one])} and {_pick(rng, _ALL[other])}", rng)


def label(atom: str) -> str:
    """Return the plain label of an atom, e.g. 'a red circle' or 'a face without glasses'. KeyError if unknown."""
    wording = _ALL[atom][0]
    return wording.replace("~", "an " if wording[1:2] in "aeiou" else "a ")


def concepts(scene: Scene) -> tuple[tuple[Concept, float], ...]:
    """Return what can be said of a scene, each with a weight that tells how often captions should say it."""
    return concepts_of(truth(scene).true)


def concepts_of(true: frozenset[str]) -> tuple[tuple[Concept, float], ...]:
    """Return what can be said if these atoms are true of one thing or of things in one scene, each with its weight."""
    out: list[tuple[Concept, float]] = []
    things = sorted(a for a in true if ":" in a and a.split(":")[1] not in ("ground", "clothes"))
    out += [((atom,), 1.0 if atom.startswith("a:") else 2.0) for atom in things]
    moods = [atom for atom in (*MOODS, "unsmiling") if atom in true]
    worn = [sign + name for name in ACCESSORIES for sign in "+-" if sign + name in true]
    for atom in moods:
        out.append(((atom,), 1.0 if atom == "unsmiling" else 3.0))
        out += [((atom, other), 0.5) for other in worn]
    for k, atom in enumerate(worn):
        out.append(((atom,), 1.6))
        out += [((atom, other), 0.25) for other in worn[k + 1 :]]
    for atom in ("bare", "dressed"):
        if atom in true:
            out.append(((atom,), 3.0))
    for atom in ("gore", "offence"):
        if atom in true:
            out.append(((atom,), 2.0))
    named = (
        "splatter",
        "wound",
        "scrawl",
        "rude sign",
        "kind sign",
        "finger",
        "curses",
        "writing",
        "noise",
        "gradient",
        "empty",
    )
    out += [((atom,), 1.6) for atom in named if atom in true]
    out += [((atom,), 0.5) for atom in ("face", "figure", "splash", "sign", "unsafe") if atom in true]
    out += [((atom,), 0.12) for atom in ("shape", "no nudity", "no gore", "no offence", "safe") if atom in true]
    out += [((f"{colour}:clothes",), 0.8) for colour in COLOURS if f"{colour}:clothes" in true]
    ground = [f"{colour}:ground" for colour in COLOURS if f"{colour}:ground" in true]
    subjects = [a for a in things if not a.startswith("a:")] + [a for a in ("face", "dressed", "bare") if a in true]
    for atom in ground:
        out.append(((atom,), 0.2))
        out += [((subject, atom), 0.15) for subject in subjects]
    full = [a for a in subjects if ":" in a and a.split(":")[1] not in PATTERNS]
    for one in subjects:
        out += [((one, other), 0.7) for other in full if one != other and not other.endswith(one.split(":")[-1])]
    return tuple(out)


def caption(scene: Scene, rng: np.random.Generator, templates: Sequence[str] = TEMPLATES) -> str:
    """Return one true caption of a scene in one of `templates` (each with one '{}')."""
    said = concepts(scene)
    weights = np.array([weight for _, weight in said])
    concept = said[int(rng.choice(len(said), p=weights / weights.sum()))][0]
    return wrap(phrase(concept, rng), rng, templates)


def wrap(text: str, rng: np.random.Generator, templates: Sequence[str] = TEMPLATES) -> str:
    """Return `text` in one of `templates`; one time in three as it is if '{}' is among them."""
    if templates[0] == "{}" and rng.random() < 0.3:
        return text
    return _pick(rng, templates).format(text)


def words() -> tuple[str, ...]:
    """Return every word that captions use, sorted: the model's vocabulary of whole words."""
    texts = [*TEMPLATES, *HELD_OUT_TEMPLATES, "a an the one and but on background grey no not with without"]
    texts += [wording for wordings in _ALL.values() for wording in wordings]
    texts += [word for group in (*WITH.values(), *BY_ITSELF.values(), *MOOD_WORDS.values()) for word in group]
    return tuple(sorted({word for text in texts for word in re.findall(r"[a-z]+", text.lower())}))
