"""Several meshes with materials of their own in the studio: the picture at the head of the README.

python examples/studio.py [FILE]
"""

import sys
from pathlib import Path

import numpy as np

import renderformer as rf
from renderformer.data.staging import StageOptions, stage_scene

ASSETS = Path(__file__).parent / "assets"
GOLD = rf.Material((1.0, 0.72, 0.3), 0.04, 0.22, metallic=1.0)
LACQUER = rf.Material((0.04, 0.15, 0.32), 0.06, 0.3)
PORCELAIN = rf.Material((0.62, 0.03, 0.03), 0.08, 0.12)
EBONY = rf.Material((0.02, 0.02, 0.025), 0.08, 0.15)


def standing(file: str, material: rf.Material, x: float, y: float, height: float, turn: float = 0.0) -> rf.Mesh:
    """The object of a file with another material, so high, on the floor at x and y, turned by some degrees."""
    mesh = rf.Scene.load(ASSETS / file, stage="raw", up="auto").objects[0].with_material(material)
    low, high = mesh.bounds.astype(np.float64)
    scale, angle = height / (high - low)[2], np.radians(turn)
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    matrix[:3, :3] *= scale
    middle = matrix[:3, :3] @ ((low + high) / 2)
    matrix[:3, 3] = [x - middle[0], y - middle[1], -scale * low[2]]
    return mesh.transformed(matrix)


objects = (
    standing("knot.glb", GOLD, 0.0, 0.0, 1.0, 20),
    standing("blobs.ply", PORCELAIN, 0.95, 0.2, 0.66, 60),
    standing("pawn.off", EBONY, -0.85, 0.15, 0.8),
    standing("gear.stl", LACQUER, 0.5, -0.66, 0.12, 15),
)
options = StageOptions(size=1.0, azimuth=12, elevation=16, aspect=16 / 9)
scene = stage_scene(rf.Scene(objects, name="still life"), options)
renderer = rf.Renderer.from_pretrained(network=False)
(image,) = renderer.render(scene, resolution=(960, 540))
target = sys.argv[1] if len(sys.argv) > 1 else "studio.png"
image.save(target)
print(f"wrote {target}")
