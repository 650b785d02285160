"""Scenes are never changed in place: an edit makes a new one, and the old one can still be rendered."""

from pathlib import Path

import renderformer as rf

scene = rf.Scene.load(Path(__file__).parent / "knot_room.json")
knot = next(mesh for mesh in scene.objects if mesh.name == "knot")
renderer = rf.Renderer.from_pretrained()
materials = {
    "clay": rf.Material(diffuse=(0.55, 0.3, 0.2), roughness=1.0),
    "porcelain": rf.Material(diffuse=(0.6, 0.6, 0.6), specular=(0.3, 0.3, 0.3), roughness=0.2),
    "steel": rf.Material(diffuse=(0.05, 0.05, 0.05), specular=(0.8, 0.8, 0.8), roughness=0.3),
}
for name, material in materials.items():
    edited = scene.with_object(knot.with_material(material))
    renderer.render(edited, resolution=256, cameras=scene.cameras[:1])[0].save(f"knot_{name}.png")
    print(f"wrote knot_{name}.png")
