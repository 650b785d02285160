"""What faults of a scene cost in the picture: each compared with the picture of the sound scene.

python benchmarks/mesh_faults.py [--resolution 64] [--model FOLDER]

The loss is that of a picture that would be right to 42 dB, so that it adds to the losses outside a trained range.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import trimesh

from renderformer.data.camera import Camera
from renderformer.data.geometry.triangles import smooth_normals
from renderformer.data.scene import Light, Material, Mesh, Scene
from renderformer.renderer import Renderer

RIGHT = 42.0
CAMERA = Camera.look_at((0.5, -1.7, 0.6), (0, 0, -0.05), fov=38, name="front")
Change = Callable[[Mesh, Mesh, Camera], tuple[Mesh, Mesh, Camera]]


def body() -> Mesh:
    shape = trimesh.creation.icosphere(3, 0.35)
    return Mesh("ball", shape.triangles, shape.vertex_normals[shape.faces], Material((0.6, 0.3, 0.2), 0.1, 0.3).row())


def world(ball: Mesh, light: Mesh, camera: Camera) -> Scene:
    floor = trimesh.creation.box((1.6, 1.6, 0.02))
    floor.apply_translation((0, 0, -0.37))
    wall = trimesh.creation.box((0.02, 1.6, 1.2))
    wall.apply_translation((-0.8, 0, 0.2))
    still = [Mesh(n, m.triangles, materials=Material(c).row())
             for n, m, c in (("floor", floor, (0.6, 0.5, 0.4)), ("wall", wall, (0.2, 0.4, 0.6)))]  # fmt: skip
    return Scene((*still, ball, light), (camera,))


def part(share: float) -> np.ndarray:
    """(N,) some of the ball's triangles, the same each time."""
    return np.random.default_rng(0).random(len(body())) < share


def of_ball(change: Callable[[Mesh], Mesh]) -> Change:
    return lambda ball, light, camera: (change(ball), light, camera)


def shaded(triangles: np.ndarray) -> Mesh:
    """The ball from other triangles, with normals made as for a file that has none."""
    triangles = triangles.astype(np.float32)
    return Mesh("ball", triangles, smooth_normals(triangles), body().materials[0])


def flipped(mesh: Mesh) -> Mesh:
    triangles, some = mesh.triangles.copy(), part(0.2)
    triangles[some] = triangles[some][:, [0, 2, 1]]
    return shaded(triangles)


def cracked(mesh: Mesh) -> Mesh:
    return shaded(mesh.triangles + np.random.default_rng(1).normal(size=mesh.triangles.shape) * 1e-6)


FAULTS: dict[str, Change] = {
    "holes": of_ball(lambda mesh: shaded(mesh.triangles[~part(0.03)])),
    "flipped": of_ball(flipped),
    "inside out": of_ball(lambda mesh: shaded(mesh.triangles[:, [0, 2, 1]])),
    "cracks": of_ball(cracked),
    "double": of_ball(lambda mesh: shaded(np.concatenate([mesh.triangles, mesh.triangles[part(0.2)]]))),
    "empty": of_ball(lambda mesh: shaded(np.concatenate([mesh.triangles, mesh.triangles[part(0.2)][:, [0, 1, 1]]]))),
    "light away": lambda ball, light, camera: (ball, replace(light, triangles=light.triangles[:, [0, 2, 1]]), camera),
    "light shut in": lambda ball, light, camera: (ball, light.transformed(moved(light, (0, 0, 0))), camera),
}


def moved(mesh: Mesh, target: tuple[float, float, float]) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, 3] = np.array(target) - mesh.triangles.mean((0, 1))
    return matrix


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--model", help="folder of a model; the light cache alone by default")
    arguments = parser.parse_args()
    options = {"network": False} if arguments.model is None else {}
    renderer = Renderer.from_pretrained(arguments.model, **options)
    sound = body(), Light((0.7, -0.9, 1.3), size=0.2, emission=40.0).mesh(), CAMERA

    def picture(parts: tuple[Mesh, Mesh, Camera]) -> np.ndarray:
        return renderer.render(world(*parts), arguments.resolution)[0].tone_mapped()

    reference = picture(sound)
    print("| fault | PSNR to the sound scene | loss |\n| --- | --- | --- |")
    for name, change in FAULTS.items():
        error = float(((picture(change(*sound)) - reference) ** 2).mean())
        psnr = -10 * np.log10(max(error, 1e-12))
        loss = RIGHT + 10 * np.log10(10 ** (-RIGHT / 10) + error)
        print(f"| {name} | {psnr:.1f} dB | {loss:.1f} dB |", flush=True)


if __name__ == "__main__":
    main()
