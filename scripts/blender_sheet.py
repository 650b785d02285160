"""The picture of docs/blender.md, by Cycles and by the add-on: python scripts/blender_sheet.py docs/images/blender.jpg

It needs Blender as a Python package: pip install bpy (370 MB), in an environment that has renderformer.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]
SIZE, SAMPLES, MARGIN = (480, 360), 512, 6


def main(target: Path) -> None:
    folder = tempfile.mkdtemp()
    os.environ["BLENDER_USER_RESOURCES"] = folder
    sys.path.insert(0, str(ROOT / "tests"))
    import bpy
    from helpers import blender_scene
    from pack_blender_addon import pack

    blender_scene.install(pack(Path(folder)))
    blender_scene.build()
    scene = bpy.context.scene
    scene.cycles.samples, scene.render.resolution_percentage = SAMPLES, 100
    scene.render.resolution_x, scene.render.resolution_y = SIZE
    scene.render.image_settings.file_format = "PNG"
    sheet = Image.new("RGB", (2 * SIZE[0] + MARGIN, SIZE[1]), "white")
    for number, engine in enumerate(("CYCLES", "RENDERFORMER")):
        scene.render.engine, scene.render.filepath = engine, f"{folder}/{engine}.png"
        bpy.ops.render.render(write_still=True)
        with Image.open(scene.render.filepath) as picture:
            sheet.paste(picture.convert("RGB"), (number * (SIZE[0] + MARGIN), 0))
    shutil.rmtree(folder)
    sheet.save(target, quality=88)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
