"""Light a scene once, then fly around it: 48 views, one film."""

from pathlib import Path

import imageio.v3 as iio
import numpy as np

import renderformer as rf

scene = rf.Scene.load(Path(__file__).parent / "assets" / "blobs.ply")
renderer = rf.Renderer.from_pretrained()
lit = renderer.encode(scene)
images = renderer.render(lit, resolution=256, cameras=rf.Camera.orbit(48, target=(0, 0, -0.25)))
frames = [np.round(255 * image.tone_mapped()).astype(np.uint8) for image in images]
iio.imwrite("orbit.mp4", frames, fps=24)
print("wrote orbit.mp4")
