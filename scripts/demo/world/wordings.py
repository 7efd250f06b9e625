"""The words captions are made of: templates, and for each atom the ways to say it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

TEMPLATES: tuple[str, ...] = (
    "{}", "a photo of {}", "a picture of {}", "a drawing of {}", "an image of {}", "this is {}", "a photo showing {}",
    "a cartoon of {}", "a sketch of {}", "this is a photo of {}", "there is {} in the picture",
    "a simple drawing of {}",
    "a good photo of {}", "a blurry photo of {}", "a close up photo of {}", "an image that shows {}",
    "a bad drawing of {}",
    "the picture contains {}", "a small picture of {}", "a painting of {}", "an illustration of {}", "photo of {}",
    "picture of {}", "i see {}", "here we see {}", "content: {}",
)  # fmt: skip
HELD_OUT_TEMPLATES: tuple[str, ...] = (
    "this is a good picture of {}", "a blurry sketch of {}", "an illustration that shows {}", "here is a photo of {}",
)  # fmt: skip
"""Templates that no training caption uses."""

# "~" stands for an article that may be "a", "an", "the", "one" or missing.
THINGS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "circle": ("~{}circle", "~{}circle", "~{}disc", "~{}round shape"), "square": ("~{}square",),
        "heart": ("~{}heart", "~{}heart shape"), "star": ("~{}star",), "cross": ("~{}cross", "~{}plus sign"),
        "rectangle": ("~{}rectangle",), "oval": ("~{}oval", "~{}ellipse"), "crescent": ("~{}crescent", "~{}moon"),
        "car": (
            "~{}car",), "cup": ("~{}cup", "~{}mug"), "boat": ("~{}boat", "~{}ship"), "house": ("~{}house", "~{}home",
        ),
        "stripes": ("{}stripes", "~{}striped pattern"), "dots": ("{}dots", "{}polka dots", "~{}dotted pattern"),
        "checkerboard": ("~{}checkerboard", "~{}checkered pattern"), "grid": ("~{}grid", "~{}grid of lines"),
        "zigzag": ("~{}zigzag pattern", "{}zigzag lines"),
    }
)  # fmt: skip

PLAIN: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "shape": ("~shape", "~geometric shape"),
        "face": ("~face", "~face", "~cartoon face", "~head", "~portrait", "someone's face"),
        "figure": ("~person", "~figure", "~stick figure", "~human figure", "~human", "~man", "~woman", "people"),
        "dressed": (
            "~dressed figure", "~clothed figure", "~dressed person", "~clothed person", "~person wearing clothes",
            "~figure wearing clothes", "~person with clothes", "~figure in clothes", "~person in clothes", "clothes",
            "~fully clothed person", "~dressed stick figure", "~fully dressed figure", "clothed people", "dressed",
            "~dressed human", "someone wearing clothes", "~clothed body", "~man wearing clothes", "clothed",
        ),
        "bare": (
            "nudity", "~naked person", "~bare figure", "~naked figure", "~nude figure", "~nude person", "~bare person",
            "nude", "naked", "~nude", "~naked body", "~bare body", "~person without clothes", "~figure without clothes",
            "~undressed person", "~undressed figure", "naked people", "~bare stick figure", "nude content",
            "~unclothed person", "~person with no clothes", "~naked human", "someone naked", "bare skin",
            "~nude body", "~naked man", "~naked woman", "~figure with no clothes", "~unclothed figure",
        ),
        "no nudity": (
            "no nudity", "without nudity", "nothing nude", "nobody naked", "no naked people", "nobody nude",
        ),
        "gore": (
            "gore", "blood", "bloody", "~bloody picture", "~bloody scene", "gory content", "violence",
            "~violent picture",
            "blood and gore", "something bloody", "~gory scene", "graphic violence", "violent content", "~gory picture",
        ),
        "no gore": (
            "no blood", "no gore", "without blood", "no violence", "nothing bloody", "no wounds", "not violent",
        ),
        "splatter": (
            "~red splatter", "~blood splatter", "~splatter of blood", "blood stains", "~blood stain", "~pool of blood",
            "~red splash", "~red stain", "dripping blood", "~bloody splatter", "~bloody mess", "red drips", "red drops",
        ),
        "splash": ("~splatter", "~splash", "~splash of paint", "~stain", "drips", "~paint splatter", "~blot"),
        "wound": (
            "~wound", "~bloody wound", "~bleeding wound", "~cut", "~injury", "~bleeding cut", "~open wound",
            "injured skin",
        ),
        "offence": (
            "offensive content", "~offensive picture", "something offensive", "an insult", "offensive", "rude content",
            "something rude", "hate", "hateful content", "abuse", "~rude picture", "anger", "~insulting picture",
            "rude",
            "an offensive sign or scrawl", "swearing",
        ),
        "no offence": ("nothing offensive", "no insults", "nothing rude", "not offensive", "not rude", "no insult"),
        "scrawl": (
            "~angry scrawl", "~scrawl", "~angry scribble", "~scribble", "angry scrawls", "~messy scribble",
            "graffiti",
        ),
        "rude sign": ("~rude sign", "an offensive sign", "an insulting sign", "~sign with an insult", "rude signs"),
        "kind sign": ("~friendly sign", "~polite sign", "~kind sign", "~harmless sign", "~friendly message"),
        "sign": ("~sign", "~sign", "~speech bubble"),
        "finger": (
            "~rude gesture", "~middle finger", "~rude hand sign", "an offensive gesture", "an insulting gesture",
        ),
        "curses": (
            "curse words", "swear words", "~curse", "rude words", "angry symbols", "~swear word", "offensive words",
        ),
        "writing": ("neat writing", "handwriting", "lines of text", "text", "~letter", "~page of text", "words"),
        "noise": ("noise", "static", "random noise", "~noisy picture", "grain"),
        "gradient": ("~gradient", "~colour gradient", "~smooth gradient", "~color gradient"),
        "empty": (
            "nothing", "~empty picture", "an empty scene", "~blank picture", "~blank page", "nothing at all",
            "an empty image",
        ),
        "safe": (
            "~safe picture", "safe", "safe content", "~harmless picture", "~normal picture", "something harmless",
            "harmless",
            "normal content", "harmless content", "an ordinary picture", "nothing bad", "~safe image",
            "~normal image", "normal",
            "something normal", "appropriate content", "~clean picture", "safe for work",
        ),
        "unsafe": (
            "~unsafe picture", "unsafe", "unsafe content", "harmful content", "~harmful picture", "not safe",
            "an unsafe image",
            "inappropriate content", "not safe for work", "nsfw", "explicit content",
        ),
        "smile": (
            "~smiling face", "~happy face", "~smile", "smiling", "~smiling person", "~happy person",
            "~face with a smile", "someone smiling", "someone happy", "~face that smiles",
        ),
        "frown": (
            "~frowning face", "~sad face", "~frown", "frowning", "~frowning person", "~sad person",
            "~face with a frown", "an unhappy face", "an unhappy person", "someone sad",
        ),
        "straight": ("~serious face", "~neutral face", "~face with a straight mouth", "~serious person"),
        "unsmiling": (
            "~face without a smile", "~face that is not smiling", "not smiling", "~person who is not smiling",
            "no smile", "an unsmiling face",
        ),
    }
)  # fmt: skip

WITH: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "+glasses": ("with glasses", "wearing glasses", "with glasses", "with eyeglasses", "who wears glasses"),
        "-glasses": (
            "without glasses",
            "with no glasses",
            "without glasses",
            "not wearing glasses",
            "without eyeglasses",
        ),
        "+beard": ("with a beard", "with a beard", "with beard", "who has a beard", "with a moustache and beard"),
        "-beard": ("without a beard", "with no beard", "without beard", "without a beard", "who has no beard"),
        "+hat": ("with a hat", "wearing a hat", "in a hat", "with hat", "who wears a hat", "with a cap"),
        "-hat": ("without a hat", "with no hat", "not wearing a hat", "without hat", "without a hat"),
    }
)
BY_ITSELF: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "+glasses": ("glasses", "eyeglasses", "someone wearing glasses", "~pair of glasses"),
        "-glasses": ("no glasses", "someone without glasses"),
        "+beard": ("~beard", "~bearded face", "~bearded person", "~bearded man", "someone with a beard", "bearded"),
        "-beard": ("no beard", "~clean shaven face", "~beardless face", "someone without a beard", "~shaved face"),
        "+hat": ("~hat", "someone wearing a hat", "~cap"),
        "-hat": ("no hat", "someone without a hat", "~bare head"),
    }
)
NOUNS: tuple[str, ...] = ("face", "face", "face", "person", "cartoon face", "man", "head")
MOOD_WORDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "smile": ("smiling", "happy"),
        "frown": ("frowning", "sad", "unhappy"),
        "straight": ("serious", "neutral"),
        "unsmiling": ("unsmiling",),
    }
)
