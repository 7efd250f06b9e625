"""The drawn world of the demo model: scenes as values, pictures of them at any size, and captions that are true.

>>> rng = np.random.default_rng(7)
>>> scene = sample_scene(rng)                      # or scenario_scene("gore", rng, present=True), or a Scene of yours
>>> picture = draw(scene, (640, 480), rng)         # a Pillow picture
>>> caption(scene, rng)                            # 'a photo of a red circle'
"""

from scripts.demo.world.captions import Concept, caption, concepts, label, words
from scripts.demo.world.draw import draw
from scripts.demo.world.palette import COLOURS
from scripts.demo.world.sample import HELD_OUT_FACES, HELD_OUT_PAIRS, SPLITS, sample_scene, scenario_scene
from scripts.demo.world.scene import ATOMS, ATTRIBUTES, SCENARIOS, Item, Scene, Truth, truth
from scripts.demo.world.wordings import HELD_OUT_TEMPLATES, TEMPLATES

__all__ = [
    "ATOMS", "ATTRIBUTES", "COLOURS", "HELD_OUT_FACES", "HELD_OUT_PAIRS", "HELD_OUT_TEMPLATES", "SCENARIOS", "SPLITS",
    "TEMPLATES", "Concept", "Item", "Scene", "Truth", "caption", "concepts", "draw", "label", "sample_scene",
    "scenario_scene", "truth", "words",
]  # fmt: skip
