"""The colours of a PyTorch3D mesh from three pictures of it.

python examples/fit_colours.py [FILE]
"""

import sys
import time

import imageio.v3 as iio
import numpy as np
import torch
import trimesh

import renderformer as rf
from renderformer.data.formats.pytorch3d import INSTALL

try:
    from pytorch3d.renderer import FoVPerspectiveCameras, TexturesVertex, look_at_view_transform
    from pytorch3d.structures import Meshes
except ImportError:
    sys.exit(INSTALL)

SIDE, STEPS, SHOWN = 64, 60, 160

# A wavy ball, painted. PyTorch3D objects in, as a program that works with them has them.
ball = trimesh.creation.icosphere(3, 0.4)
x, y, z = ball.vertices.T / 0.4
shape = torch.tensor(ball.vertices * (1 + 0.15 * np.sin(5 * x) * np.cos(4 * z))[:, None], dtype=torch.float32)
faces = torch.tensor(np.array(ball.faces))
paint = np.stack([0.5 + 0.4 * np.sin(6 * z), 0.4 + 0.3 * np.cos(5 * x + 2 * y), 0.5 - 0.4 * np.sin(4 * y)], axis=1)
true_colours = torch.tensor(paint, dtype=torch.float32)
eyes = ((0.0, -1.8, 0.8), (1.7, 0.9, -0.5), (-1.7, 1.0, 0.4))
rotation, translation = look_at_view_transform(eye=eyes, up=((0.0, 0.0, 1.0),))
cameras = FoVPerspectiveCameras(R=rotation, T=translation, fov=34.0)


def scene(colours: torch.Tensor) -> rf.Scene:
    """The mesh with colours (V, 3), linear ones, under three lamps."""
    mesh = Meshes(verts=[shape], faces=[faces], textures=TexturesVertex([colours]))
    bare = rf.Scene.from_pytorch3d(mesh, cameras, srgb=False)
    places = (3.0, -4.0, 3.0), (-4.5, 0.5, 1.5), (2.5, 4.0, -2.0)
    lamps = [rf.Light(place, size=0.25, emission=2500.0, name=f"lamp {i}").mesh() for i, place in enumerate(places)]
    return bare.replace(objects=(*bare.objects, *lamps))


renderer = rf.Renderer.from_pretrained(network=False)
photographs = renderer.render(scene(true_colours), SIDE)
seen = torch.from_numpy(np.stack([image.hdr for image in photographs]))

# Grey at first. Nothing moves, so the rays are traced once.
grey = rf.SceneTensors.of(scene(torch.full_like(shape, 0.5)))
rays = renderer.trace(grey, SIDE)
colours = torch.full_like(shape, 0.5, requires_grad=True)
optimiser = torch.optim.Adam([colours], lr=0.05)
begin = time.perf_counter()
for step in range(STEPS):
    # A triangle has the mean of the colours of its corners.
    tensors = grey.with_object("mesh", diffuse=colours[faces].mean(dim=1))
    loss = (renderer.render_tensors(tensors, SIDE, rays) - seen).square().mean()
    optimiser.zero_grad()
    loss.backward()
    shown = colours.grad.abs().sum(dim=1) > 0
    optimiser.step()
    with torch.no_grad():
        colours.clamp_(0, 1)
    if step % 10 == 0 or step == STEPS - 1:
        error = (colours - true_colours)[shown].abs().mean().item()
        print(f"step {step:2}: loss {loss:.6f}, colours off by {error:.3f}, {time.perf_counter() - begin:.0f} s")
print(f"{int(shown.sum())} of {len(shape)} vertices are in the pictures")

# Above the mesh as it was painted, below it as it was found.
pictures = (renderer.render(scene(values), SHOWN) for values in (true_colours, colours.detach()))
rows = [np.hstack([image.tone_mapped() for image in row]) for row in pictures]
path = sys.argv[1] if len(sys.argv) > 1 else "fit_colours.png"
iio.imwrite(path, np.round(255 * np.vstack(rows)).astype(np.uint8))
print(f"wrote {path}")
