"""A lamp, a window and the sky over a still life: drawn once for each light, then relit in milliseconds.

python examples/relight.py [FOLDER]
"""

import sys
import time
from pathlib import Path

import numpy as np

import renderformer as rf

still_life = rf.Scene.load(Path(__file__).parent / "still_life.json")
lamp = rf.Light((-0.45, -0.1, 0.15), target=(-0.1, -0.05, -0.4), size=0.12, emission=(40, 22, 9), name="lamp").mesh()
# Two triangles that face the objects from the right.
a, b, c, d = np.float32([[0.9, -0.5, -0.3], [0.9, -0.5, 0.4], [0.9, 0.3, 0.4], [0.9, 0.3, -0.3]])
window = rf.Mesh("window", np.stack([[a, b, c], [a, c, d]]), materials=rf.Material(emission=(2.5, 3, 4)))
sky = rf.Environment.of("sky", strength=0.3)
scene = still_life.replace(objects=(*still_life.objects, lamp, window), environment=sky)

renderer = rf.Renderer.from_pretrained(network=False)
(split,) = renderer.split(scene, resolution=320)
print(split.summary())
target = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
split.save(target / "relight.exr")
for name, factors in {
    "evening": {"window": (0.5, 0.35, 0.25), "environment": 0.1, "lamp": 1.5},
    "noon": {"lamp": 0, "environment": 2.5},
    "stage": {"lamp": (2.0, 0.3, 0.2), "window": (0.2, 0.7, 2.0), "environment": 0},
}.items():
    start = time.perf_counter()
    image = split.relight(factors)
    milliseconds = 1000 * (time.perf_counter() - start)
    image.save(target / f"{name}.png")
    print(f"wrote {target / name}.png, relit in {milliseconds:.1f} ms")
