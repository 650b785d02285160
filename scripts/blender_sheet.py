"""The picture of docs/blender.md, by Cycles and by the add-on: python scripts/blender_sheet.py docs/images/blender.jpg

It needs Blender as a Python package: pip install bpy (370 MB), in an environment that has renderformer.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]
SIZE, SAMPLES, MARGIN = (480, 360), 512, 6


def main(target: Path) -> None:
    sys.path.insert(0, str(ROOT / "tests"))
    import bpy
    from helpers import blender_scene

    from renderformer.viewer import blender
    from renderformer.viewer.blender import client, preferences

    preferences.command = lambda: client.command(sys.executable, ["--no-network"])
    blender.register()
    blender_scene.build()
    scene = bpy.context.scene
    scene.cycles.samples, scene.render.resolution_percentage = SAMPLES, 100
    scene.render.resolution_x, scene.render.resolution_y = SIZE
    scene.render.image_settings.file_format = "PNG"
    sheet = Image.new("RGB", (2 * SIZE[0] + MARGIN, SIZE[1]), "white")
    with tempfile.TemporaryDirectory() as folder:
        for number, engine in enumerate(("CYCLES", "RENDERFORMER")):
            scene.render.engine, scene.render.filepath = engine, f"{folder}/{engine}.png"
            bpy.ops.render.render(write_still=True)
            with Image.open(scene.render.filepath) as picture:
                sheet.paste(picture.convert("RGB"), (number * (SIZE[0] + MARGIN), 0))
    blender.unregister()
    sheet.save(target, quality=88)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
