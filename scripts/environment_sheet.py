"""Draw the picture of docs/environment.md: our own environments, and what they light.

python scripts/environment_sheet.py docs/images/environments.jpg
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import trimesh

import renderformer as rf
from renderformer.data.environment import Environment, image_directions
from renderformer.data.environments import ENVIRONMENTS

SIDE = 256
KNOT = Path(__file__).parents[1] / "examples/assets/knot.glb"


def ball(name: str, place: float, material: rf.Material) -> rf.Mesh:
    """A smooth ball on the floor."""
    shape = trimesh.creation.icosphere(4, radius=0.17)
    triangles = shape.triangles + np.array([place, 0, -0.33])
    return rf.Mesh(name, triangles, shape.vertex_normals[shape.faces], material)


def balls() -> rf.Scene:
    """A matt, a glossy and a metal ball."""
    corners = np.float32([[-0.9, -0.9, -0.5], [0.9, -0.9, -0.5], [0.9, 0.9, -0.5], [-0.9, 0.9, -0.5]])
    objects = (
        ball("matt", -0.37, rf.Material((0.6, 0.25, 0.15))),
        ball("glossy", 0.0, rf.Material((0.3, 0.3, 0.32), 0.25, 0.25)),
        ball("metal", 0.37, rf.Material(0.0, (0.9, 0.85, 0.8), 0.05)),
        rf.Mesh("floor", corners[[[0, 1, 2], [0, 2, 3]]], materials=rf.Material(0.5)),
    )
    return rf.Scene(objects, (rf.Camera.look_at((0, -1.7, -0.1), (0, 0, -0.3), fov=35),))


def main() -> None:
    """Write the sheet to the path in the first argument."""
    renderer = rf.Renderer.from_pretrained(network=False)
    rows = []
    for name in ENVIRONMENTS:
        environment = Environment.of(name)
        away = image_directions(SIDE, 2 * SIDE).reshape(-1, 3).astype(np.float32)
        panorama = rf.Image(environment.radiance(away, 1e-4).reshape(SIDE, 2 * SIDE, 3))
        three = renderer.render(balls().replace(environment=environment), (2 * SIDE, SIDE))[0]
        knot = renderer.render(rf.Scene.load(KNOT, environment=environment), SIDE)[0]
        rows.append(np.concatenate([image.hdr for image in (panorama, three, knot)], axis=1))
    rf.Image(np.concatenate(rows)).save(sys.argv[1], quality=88)


if __name__ == "__main__":
    main()
