"""Draw the picture of docs/doctor.md: a scan with faults, the same as the doctor repairs it, and the sound scene.

python scripts/doctor_sheet.py docs/images/doctor.jpg
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw

import renderformer as rf
from renderformer.data.geometry.triangles import smooth_normals
from renderformer.data.scene import EMISSION
from renderformer.doctor import diagnose, repaired

MESH = Path(__file__).parents[1] / "examples/assets/blobs.ply"
SIDE = 288


def painted(triangles: np.ndarray) -> rf.Mesh:
    """A mesh with normals made as for a file that has none."""
    return rf.Mesh("scan", triangles, smooth_normals(triangles), rf.Material((0.7, 0.35, 0.2), 0.1, 0.3).row())


def _is_lamp(mesh: rf.Mesh) -> bool:
    return bool((mesh.materials[:, EMISSION] > 0).any())


def broken(scene: rf.Scene) -> rf.Scene:
    """The scene with holes in its largest object, a fifth of whose triangles are turned, and lamps that face away."""
    largest = max(scene.objects, key=len)
    generator = np.random.default_rng(0)
    triangles = largest.triangles[generator.random(len(largest)) > 0.03]
    turned = generator.random(len(triangles)) < 0.2
    triangles = np.where(turned[:, None, None], triangles[:, ::-1], triangles)
    worse = painted(triangles)
    return scene.replace(
        objects=tuple(
            worse if mesh is largest else replace(mesh, triangles=mesh.triangles[:, ::-1], normals=-mesh.normals)
            if _is_lamp(mesh) else mesh
            for mesh in scene.objects
        )
    )  # fmt: skip


def main() -> None:
    """Write the sheet to the path in the first argument, and print what the doctor says."""
    scene = rf.Scene.load(MESH, stage="floor")
    scan = max(scene.objects, key=len)
    sound = scene.replace(objects=tuple(painted(m.triangles) if m is scan else m for m in scene.objects))
    before = broken(sound)
    for finding in diagnose(before):
        print(finding)
    after, changes = repaired(before)
    print(*changes, sep="\n")
    lamps = {mesh.name: mesh for mesh in after.objects}
    lit = before.replace(objects=tuple(lamps[mesh.name] if _is_lamp(mesh) else mesh for mesh in before.objects))
    tiles = {"scan and lamp broken": before, "lamp repaired": lit, "scan repaired": after, "sound": sound}
    sheet = Pillow.new("RGB", (len(tiles) * SIDE, SIDE))
    draw = ImageDraw.Draw(sheet)
    renderer = rf.Renderer.from_pretrained()
    for number, (name, scene) in enumerate(tiles.items()):
        picture = renderer.render(scene, SIDE, sound.cameras[0])[0].tone_mapped()
        sheet.paste(Pillow.fromarray(np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)), (number * SIDE, 0))
        place = number * SIDE + 8, 6
        draw.text(place, name, (255, 255, 255), font_size=18, stroke_width=2, stroke_fill=0)
    sheet.save(sys.argv[1], quality=88)


if __name__ == "__main__":
    main()
