"""Renders a test scene in a real Blender, with Cycles and with the add-on of a zip: python blender_scene.py ZIP FOLDER

It needs the package bpy and a folder for Blender's settings in BLENDER_USER_RESOURCES. It writes cycles.npy and
renderformer.npy, (H, W, 4) linear with row 0 at the top, and error.txt with what a panoramic camera gives.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import bpy
import numpy as np

WIDTH, HEIGHT = 72, 54


def paint(name: str, **inputs: Any) -> Any:
    made = bpy.data.materials.new(name)
    made.use_nodes = True
    for key, value in inputs.items():
        made.node_tree.nodes["Principled BSDF"].inputs[key.replace("_", " ")].default_value = value
    return made


def textured(name: str) -> Any:
    made = paint(name, Roughness=0.8)
    values = np.ones((8, 8, 4), np.float32)
    values[..., 0], values[..., 1] = np.meshgrid(np.linspace(0, 1, 8), np.linspace(0.2, 1, 8))
    image = bpy.data.images.new("squares", 8, 8)
    image.pixels.foreach_set(values.reshape(-1))
    image.pack()
    tree = made.node_tree
    node = tree.nodes.new("ShaderNodeTexImage")
    node.image = image
    tree.links.new(node.outputs["Color"], tree.nodes["Principled BSDF"].inputs["Base Color"])
    return made


def add(kind: str, material: Any, **options: Any) -> Any:
    getattr(bpy.ops.mesh, f"primitive_{kind}_add")(**options)
    made = bpy.context.object
    made.data.materials.append(material)
    return made


def link(name: str, data: Any, place: Any, turn: Any = (0, 0, 0)) -> Any:
    made = bpy.data.objects.new(name, data)
    made.location, made.rotation_euler = place, turn
    bpy.context.scene.collection.objects.link(made)
    return made


def build() -> None:
    scene = bpy.context.scene
    for item in list(bpy.data.objects):
        bpy.data.objects.remove(item)
    add("plane", paint("floor", Base_Color=(0.6, 0.6, 0.6, 1), Roughness=1.0), size=8)
    cube = add("cube", textured("cloth"), size=1, location=(-1.1, 0, 0.5), rotation=(0, 0, 0.4))
    cube.data.materials.append(paint("lid", Base_Color=(0.1, 0.2, 0.7, 1), Roughness=0.4))
    cube.data.polygons[5].material_index = 1
    gold = paint("gold", Base_Color=(1, 0.7, 0.3, 1), Metallic=1.0, Roughness=0.3)
    ball = add("cube", gold, location=(1, 0, 0.6), size=1)
    bpy.ops.object.shade_smooth()
    smooth = ball.modifiers.new("smooth", "SUBSURF")
    smooth.levels = smooth.render_levels = 3
    group = bpy.data.collections.new("cones")
    cone = add("cone", paint("leaf", Base_Color=(0.2, 0.6, 0.2, 1)), radius1=0.2, depth=0.5)
    for owner in cone.users_collection:
        owner.objects.unlink(cone)
    group.objects.link(cone)
    for number in range(3):
        copy = link(f"copy {number}", None, (-0.6 + 0.6 * number, -1.2, 0.25))
        copy.instance_type, copy.instance_collection = "COLLECTION", group
    lamp = bpy.data.lights.new("area", "AREA")
    lamp.energy, lamp.shape, lamp.size, lamp.size_y, lamp.color = 150, "RECTANGLE", 1.5, 0.7, (1, 0.9, 0.8)
    link("area", lamp, (1, -2, 4), (0.4, 0.2, 0))
    bulb = bpy.data.lights.new("bulb", "POINT")
    bulb.energy, bulb.shadow_soft_size = 60, 0.1
    link("bulb", bulb, (-2.5, -1.5, 2.5))
    background = next(node for node in scene.world.node_tree.nodes if node.type == "BACKGROUND")
    background.inputs["Color"].default_value, background.inputs["Strength"].default_value = (0.3, 0.4, 0.6, 1), 0.5
    camera = bpy.data.cameras.new("camera")
    camera.lens, camera.shift_x = 40, 0.05
    scene.camera = link("camera", camera, (0, -6, 3), (math.radians(65), 0, 0))
    scene.render.resolution_x, scene.render.resolution_y = 2 * WIDTH, 2 * HEIGHT
    scene.render.resolution_percentage = 50
    scene.cycles.samples, scene.cycles.use_denoising, scene.cycles.sample_clamp_indirect = 96, False, 0


def vary() -> None:
    """Add colour nodes over an image, a colour attribute, a muted node, exposure and long pixels."""
    scene = bpy.context.scene
    tree = bpy.data.materials["cloth"].node_tree
    image, surface = (next(n for n in tree.nodes if n.type == kind) for kind in ("TEX_IMAGE", "BSDF_PRINCIPLED"))
    hue, muted = tree.nodes.new("ShaderNodeHueSaturation"), tree.nodes.new("ShaderNodeInvert")
    hue.inputs["Hue"].default_value, muted.mute = 0.7, True
    tree.links.new(image.outputs["Color"], hue.inputs["Color"])
    tree.links.new(hue.outputs["Color"], muted.inputs["Color"])
    tree.links.new(muted.outputs["Color"], surface.inputs["Base Color"])
    paint = bpy.data.objects["Plane"].data.color_attributes.new("Paint", "BYTE_COLOR", "CORNER")
    for number, corner in enumerate(paint.data):
        corner.color = (0.2 + 0.2 * number, 0.6, 0.8 - 0.2 * number, 1)
    tree = bpy.data.materials["floor"].node_tree
    node = tree.nodes.new("ShaderNodeVertexColor")
    node.layer_name = "Paint"
    tree.links.new(node.outputs["Color"], tree.nodes["Principled BSDF"].inputs["Base Color"])
    scene.cycles.film_exposure, scene.render.pixel_aspect_x = 1.5, 1.25


def picture(engine: str, folder: Path) -> np.ndarray:
    scene = bpy.context.scene
    scene.render.engine = engine
    settings = scene.render.image_settings
    settings.file_format, settings.color_mode, settings.color_depth = "OPEN_EXR", "RGBA", "32"
    scene.render.filepath = str(folder / f"{engine}.exr")
    bpy.ops.render.render(write_still=True)
    image = bpy.data.images.load(scene.render.filepath)
    values = np.empty(4 * image.size[0] * image.size[1], np.float32)
    image.pixels.foreach_get(values)
    return values.reshape(image.size[1], image.size[0], 4)[::-1]


def install(zipped: Path) -> None:
    """Install the add-on and have it use this Python."""
    bpy.ops.extensions.package_install_files(filepath=str(zipped), repo="user_default", enable_on_install=True)
    chosen = bpy.context.preferences.addons["bl_ext.user_default.renderformer"].preferences
    chosen.program, chosen.network = sys.executable, False


def main(zipped: Path, folder: Path) -> None:
    install(zipped)
    build()
    vary()
    for name, engine in (("cycles", "CYCLES"), ("renderformer", "RENDERFORMER")):
        np.save(folder / f"{name}.npy", picture(engine, folder))
    bpy.context.scene.camera.data.type = "PANO"
    try:
        picture("RENDERFORMER", folder)
    except RuntimeError as error:
        (folder / "error.txt").write_text(str(error))
    bpy.ops.preferences.addon_disable(module="bl_ext.user_default.renderformer")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
