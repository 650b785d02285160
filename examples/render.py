"""A mesh file in, a picture out."""

from pathlib import Path

import renderformer as rf

scene = rf.Scene.load(Path(__file__).parent / "assets" / "knot.glb")
renderer = rf.Renderer.from_pretrained()
image = renderer.render(scene, resolution=256)[0]
image.save("knot.png")
image.save("knot.exr")
print("wrote knot.png and knot.exr")
