"""How the demo is trained: its loss, its schedule, the order of its pictures, and that a run can be resumed."""

from pathlib import Path

import numpy as np
import pytest
import torch

from scripts.demo.dataset import SAID, Pictures
from scripts.demo.model import IMAGE_SIZE, build_model, encode_texts
from scripts.demo.tokens import END, START, build_tokenizer
from scripts.demo.train import Course, captions, contrastive_loss, train, vary
from scripts.demo.world import ATOMS, words

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_loss_is_that_of_a_softmax_both_ways() -> None:
    logits = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    own = torch.arange(3)
    expected = (torch.nn.functional.cross_entropy(logits, own) + torch.nn.functional.cross_entropy(logits.T, own)) / 2
    loss = contrastive_loss(logits, own, torch.eye(3, dtype=torch.bool))
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)


def test_other_true_captions_are_no_negatives() -> None:
    logits, own = torch.tensor([[2.0, 9.0], [0.0, 1.0]]), torch.tensor([0, 1])
    possible = torch.tensor([[True, True], [False, True]])
    raised = logits.clone()
    raised[0, 1] = 50.0
    assert contrastive_loss(logits, own, possible).item() == contrastive_loss(raised, own, possible).item()


def test_the_rate_rises_stays_and_falls() -> None:
    course = Course(views=256 * 3000, batch=256, rate=1e-3, seed=1, whole=0.7)
    shares = [course.share_of_rate(step) for step in range(3000)]
    assert max(shares) == 1.0
    assert shares[0] < 0.01
    assert shares[1500] == 1.0
    assert shares[-1] < 0.01


def test_whole_pictures_come_first_and_framed_ones_after() -> None:
    course = Course(views=1000, batch=10, rate=1e-3, seed=1, whole=0.7)
    assert [course.kind(step) for step in range(100)] == ["whole"] * 70 + ["framed"] * 30
    assert Course(views=1000, batch=10, rate=1e-3, seed=1, whole=0).kind(0) == "framed"


def test_every_picture_is_seen_once_a_round() -> None:
    course = Course(views=400, batch=16, rate=1e-3, seed=1, whole=0.7)
    seen = np.concatenate([course.rows(step, 100) for step in range(25)])
    assert all(sorted(seen[k : k + 100]) == list(range(100)) for k in range(0, 400, 100))


def test_variations_keep_size_and_range() -> None:
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.integers(0, 256, (8, IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8))
    varied = vary(pixels, rng)
    assert varied.shape == pixels.shape
    assert 0 <= float(varied.min()) <= float(varied.max()) <= 255


def test_captions_say_what_they_are_asked_to() -> None:
    red, glasses, smile = ATOMS.index("red:circle"), ATOMS.index("+glasses"), ATOMS.index("smile")
    texts = captions(np.array([[red, red], [smile, glasses]] * 20, dtype=np.int16), np.random.default_rng(0))
    assert all("red" in text for text in texts[::2])
    assert all("glasses" in text for text in texts[1::2])


def _pictures(count: int) -> Pictures:
    """Plain squares of two colours, each with its word."""
    pixels = np.zeros((count, IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)
    said = np.empty((count, SAID, 2), dtype=np.int16)
    possible = np.zeros((count, len(ATOMS)), dtype=np.bool_)
    for row in range(count):
        atom = ATOMS.index(("red:square", "blue:square")[row % 2])
        pixels[row, :, :, 0 if row % 2 == 0 else 2] = 255
        said[row] = atom
        possible[row, atom] = True
    return Pictures(pixels, said, np.packbits(possible, axis=1))


def test_two_colours_are_learned_in_a_few_steps(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tokenizer = build_tokenizer(words())
    start, end = (int(tokenizer.convert_tokens_to_ids(token)) for token in (START, END))
    model = build_model(len(tokenizer), start, end)
    course = Course(views=16 * 40, batch=16, rate=1e-2, seed=1, whole=0.5)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    train(0, 1, model, tokenizer, {"whole": _pictures(32), "framed": _pictures(32)}, course, tmp_path / "checkpoint.pt")
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    with torch.inference_mode():
        ids = tokenizer(["a red square", "a blue square"], padding=True, return_tensors="pt")["input_ids"]
        one, other = encode_texts(model, ids)
    assert float(one @ other) < 0.9
