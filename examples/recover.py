"""From one picture of a room back to the colour of a wall and the place of the lamp.

python examples/recover.py [FILE]
"""

import sys
import time
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import torch

import renderformer as rf

SIDE, STEPS, SHOWN = 64, 60, 256

# A smaller knot, and a lamp in the room.
room = rf.Scene.load(Path(__file__).parent / "knot_room.json")
half = np.diag([0.5, 0.5, 0.5, 1.0])
half[2, 3] = -0.25
knot = next(mesh for mesh in room.objects if mesh.name == "knot").transformed(half)
lamp = rf.Light((0.15, -0.2, 0.35), (0.0, 0.0, -0.5), size=0.1, emission=300.0, name="light").mesh()
room = room.with_object(knot).with_object(lamp).replace(cameras=room.cameras[:1])
renderer = rf.Renderer.from_pretrained(network=False)
target = renderer.render(room, SIDE)[0]
true_colour = next(mesh for mesh in room.objects if mesh.name == "wall_left").materials[0, :3]

# The start: a grey wall, and the lamp somewhere else. Logits keep the colour between 0 and 1.
start = rf.SceneTensors.of(room)
wrong = torch.tensor([-0.4, 0.3, -0.2])
logits, moved = torch.zeros(3, requires_grad=True), torch.zeros(3, requires_grad=True)
optimiser = torch.optim.Adam([{"params": [logits], "lr": 0.2}, {"params": [moved], "lr": 0.03}], betas=(0.8, 0.95))
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS, eta_min=0.002)
seen = torch.from_numpy(target.hdr.copy())
rays, shown, begin = None, [], time.perf_counter()
for step in range(STEPS):
    tensors = start.with_object("wall_left", diffuse=logits.sigmoid()).with_object("light", offset=wrong + moved)
    # Shadows move with the lamp: every few steps the rays are traced again.
    rays = renderer.trace(tensors, SIDE) if step % 3 == 0 else rays
    picture = renderer.render_tensors(tensors, SIDE, rays)[0]
    # The root brings out the darker parts.
    loss = ((picture + 0.01).sqrt() - (seen + 0.01).sqrt()).square().mean()
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    schedule.step()
    if step % 5 == 0 or step == STEPS - 1:
        off = np.abs(logits.sigmoid().detach().numpy() - true_colour).max()
        away, seconds = (wrong + moved.detach()).norm().item(), time.perf_counter() - begin
        print(f"step {step:2}: loss {loss:.5f}, wall off by {off:.3f}, lamp off by {away:.3f}, {seconds:.0f} s")
    if step in (0, STEPS - 1):
        shown.append(tensors.to_scene())

# How it began, how it ended, and what was to be found.
tiles = [renderer.render(scene, SHOWN)[0].tone_mapped() for scene in (*shown, room)]
path = sys.argv[1] if len(sys.argv) > 1 else "recover.png"
iio.imwrite(path, np.round(255 * np.hstack(tiles)).astype(np.uint8))
print(f"wrote {path}")
