"""Draw the picture of docs/buffers.md: the layers of one scene, each as a screen can show it.

python scripts/buffers_sheet.py docs/images/buffers.jpg
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw

import renderformer as rf
from renderformer.aovs import AOVS
from renderformer.buffers import NOTHING

SCENE = Path(__file__).parents[1] / "examples/still_life.json"
SIDE, COLUMNS = 256, 4
# All but the emission, which this scene has not.
LAYERS = tuple(name for name in AOVS if name != "emission")


def shown(name: str, layer: np.ndarray) -> np.ndarray:
    """Display values (h, w, 3) or (h, w, 1) in 0 … 1."""
    layer = np.atleast_3d(layer).astype(float)
    if name == "depth":
        seen = layer < NOTHING
        return np.where(seen, 1 - (layer - layer.min()) / np.ptp(layer[seen]), 0)
    if name in ("normal", "position"):
        return (layer / np.abs(layer).max() + 1) / 2
    if name in ("object", "triangle"):
        # A colour for each number, black for none.
        return np.where(layer > 0, (layer * [0.618034, 0.414214, 0.732051] + [0.1, 0.4, 0.7]) % 1, 0)
    return rf.Image(layer).tone_mapped()


def main() -> None:
    """Write the sheet to the path in the first argument."""
    scene = rf.Scene.load(SCENE)
    (image,) = rf.Renderer.from_pretrained(network=False).render(scene, SIDE, scene.cameras[0], aovs=LAYERS)
    sheet = Pillow.new("RGB", (COLUMNS * SIDE, -(-(1 + len(LAYERS)) // COLUMNS) * SIDE))
    draw = ImageDraw.Draw(sheet)
    tiles = {"picture": image.tone_mapped()} | {name: shown(name, image.layers[name]) for name in LAYERS}
    for number, (name, tile) in enumerate(tiles.items()):
        place = number % COLUMNS * SIDE, number // COLUMNS * SIDE
        pixels = np.broadcast_to(np.clip(tile, 0, 1) * 255, (SIDE, SIDE, 3)).astype(np.uint8)
        sheet.paste(Pillow.fromarray(pixels), place)
        draw.text((place[0] + 8, place[1] + 6), name, (255, 255, 255), font_size=18, stroke_width=2, stroke_fill=0)
    sheet.save(sys.argv[1], quality=88)


if __name__ == "__main__":
    main()
