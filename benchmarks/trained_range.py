"""Loss of the embedded model outside the trained range: a pair of pictures for every warning of `check_scene`.

    python benchmarks/trained_range.py

Each row changes one property of the same scenes, so that a warning about the released models' range appears, and gives
the PSNR (dB) of display values against a path-traced reference, exposed to the same median inside and outside the
range. The gain is over ray casting plus the best ambient light of each view: if the PSNR falls but the gain does not,
the scene is harder, not the model worse. Prints a table and writes no file.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
import trimesh

import renderformer as rf
from renderformer.check import check_scene
from renderformer.data.geometry.stages import stage_meshes
from renderformer.data.geometry.subdivide import quartered
from renderformer.data.geometry.triangles import weld
from renderformer.data.scene import EMISSION, ROUGHNESS, SPECULAR
from renderformer.data.sets.mitsuba import ReferenceScene
from renderformer.evaluation.metrics import psnr, unlearned

# Candidates of the ambient light, as shares of the mean direct light.
AMBIENT_LEVELS = np.linspace(0, 1.5, 31)
# Median radiance to which both pictures of a pair are exposed.
MEDIAN = 0.3
Change = Callable[[rf.Scene], rf.Scene]


def base_scenes() -> list[rf.Scene]:
    """Two scenes in the middle of the trained range, two views each."""
    ball = trimesh.creation.icosphere(3, 0.24)
    ball.apply_translation([-0.12, 0.05, -0.25])
    ring = trimesh.creation.torus(0.2, 0.08, major_sections=32, minor_sections=16)
    ring.apply_translation([0.1, -0.05, -0.41])
    scenes = []
    for kind, body, material, azimuth in (
        ("box", ball, rf.Material((0.6, 0.3, 0.2), 0.2, 0.3), 20.0),
        ("corner", ring, rf.Material((0.3, 0.5, 0.7), 0.1, 0.5), 40.0),
    ):
        walls = {f"wall_{side}": rf.Material(c) for side, c in (("left", (0.6, 0.1, 0.1)), ("right", (0.1, 0.5, 0.2)))}
        stage = stage_meshes(kind, divisions=4, materials=walls)
        mesh = rf.Mesh("body", body.triangles.astype(np.float32), body.vertex_normals[body.faces].astype(np.float32))
        cameras = tuple(rf.Camera.from_angles(azimuth + turn, 20, 1.75, fov=40) for turn in (0.0, -30.0))
        lamp = rf.Light((0.6, -1.6, 1.5), emission=3500.0).mesh()
        scenes.append(rf.Scene((*stage, mesh.with_material(material), lamp), cameras, kind))
    return scenes


def each_object(change: Callable[[rf.Mesh], rf.Mesh]) -> Change:
    return lambda scene: scene.replace(objects=tuple(m if m.emits else change(m) for m in scene.objects))


def body(change: Callable[[rf.Mesh], rf.Mesh]) -> Change:
    return lambda scene: scene.replace(objects=tuple(change(m) if m.name == "body" else m for m in scene.objects))


def rows(part: slice, values: object) -> Callable[[rf.Mesh], rf.Mesh]:
    def change(mesh: rf.Mesh) -> rf.Mesh:
        materials = mesh.materials.copy()
        materials[:, part] = values
        return replace(mesh, materials=materials)

    return change


def lamps(*lights: rf.Light) -> Change:
    def change(scene: rf.Scene) -> rf.Scene:
        return scene.replace(objects=(*(m for m in scene.objects if not m.emits), *(x.mesh() for x in lights)))

    return change


def camera(**angles: float) -> Change:
    def change(scene: rf.Scene) -> rf.Scene:
        azimuth = 20.0 if scene.name == "box" else 40.0
        values = {"distance": 1.75, "fov": 40.0} | angles
        views = tuple(rf.Camera.from_angles(azimuth + turn, 20, **values) for turn in (0.0, -30.0))
        return scene.replace(cameras=views)

    return change


def scaled(factor: float) -> Callable[[rf.Mesh], rf.Mesh]:
    return lambda mesh: mesh.transformed(np.diag([factor, factor, factor, 1.0]))


def flat_stage(scene: rf.Scene) -> rf.Scene:
    coarse = {m.name: m for m in stage_meshes(scene.name, divisions=1)}
    return scene.replace(objects=tuple(
        coarse[m.name].with_material(rf.Material(tuple(map(float, m.materials[0, :3])))) if m.name in coarse else m
        for m in scene.objects
    ))  # fmt: skip


def holed(mesh: rf.Mesh) -> rf.Mesh:
    height = mesh.triangles.mean(axis=1)[:, 2]
    lower = height < np.quantile(height, 0.7)
    return rf.Mesh(mesh.name, mesh.triangles[lower], mesh.normals[lower], mesh.materials[lower])


def fine(mesh: rf.Mesh) -> rf.Mesh:
    vertices, faces = quartered(*quartered(*weld(mesh.triangles)))
    return rf.Mesh(mesh.name, vertices[faces].astype(np.float32)).with_material(rf.Material((0.5, 0.4, 0.3)))


def around(count: int) -> list[rf.Light]:
    angles = np.linspace(-1.2, 1.2, count)
    return [
        rf.Light((2 * np.sin(a), -1.6 * np.cos(a), 0.9 + 0.6 * (i % 2)), emission=3500.0 / count, name=f"l{i}")
        for i, a in enumerate(angles)
    ]


PAIRS: dict[str, Change] = {
    "objects reach to 0.8": each_object(scaled(1.6)),
    "20,000 triangles": body(fine),
    "stage of edges of 1.4": flat_stage,
    "a third of the object cut off": body(holed),
    "24 lights": lamps(*around(24)),
    "light 1.1 from the origin": lamps(rf.Light((0.25, -0.75, 0.75), emission=800.0)),
    "light 5 from the origin": lamps(rf.Light((1.3, -3.5, 3.3), emission=16000.0)),
    "light inside the scene": lamps(rf.Light((0.25, -0.2, 0.35), emission=300.0)),
    "light with an edge of 0.04": lamps(rf.Light((0.6, -1.6, 1.5), size=0.04, emission=50000.0)),
    "light with an edge of 1": lamps(rf.Light((0.6, -1.6, 1.5), size=1.0, emission=90.0)),
    "emission of 35, coloured": lamps(rf.Light((0.6, -1.6, 1.5), emission=(35.0, 20.0, 8.0))),
    "camera 1.1 from the origin": camera(distance=1.1),
    "camera 3 from the origin": camera(distance=3.0),
    "camera 5 from the origin": camera(distance=5.0, fov=15.0),
    "camera inside the scene": camera(distance=0.4),
    "fov 15": camera(fov=15.0),
    "fov 100": camera(fov=100.0),
    "coloured specular": body(rows(SPECULAR, [0.28, 0.12, 0.02])),
    "roughness 0.001": body(rows(ROUGHNESS, 0.001)),
    "roughness 1.5": body(rows(ROUGHNESS, 1.5)),
}


def measure(renderer: rf.Renderer, scene: rf.Scene, size: int, spp: int) -> tuple[float, float]:
    """PSNR of the model in dB, and its gain over ray casting plus the best ambient light; means over the views."""
    reference = ReferenceScene(scene, depth=6)
    lit = renderer.encode(scene)
    assert lit.caster is not None
    level = lit.caster.triangle_light()[lit.caster.materials[:, EMISSION].sum(axis=1) == 0].mean()
    scores = []
    for view, picture in zip(scene.cameras, renderer.render(lit, size), strict=True):
        truth = reference.render(view, size, size, spp)
        pixels = torch.from_numpy(lit.caster.features(lit.unit.camera(view), size, size))[None]
        exposure = MEDIAN / max(float(np.median(truth[truth > 0])), 1e-9)

        def decibels(drawn: np.ndarray, truth: np.ndarray = truth, exposure: float = exposure) -> float:
            return float(psnr(*(torch.from_numpy(image * exposure)[None] for image in (drawn, truth))))

        baselines = [decibels(unlearned(pixels, float(a * level))[0].numpy()) for a in AMBIENT_LEVELS]
        ours = decibels(picture.hdr)
        scores.append((ours, ours - max(baselines)))
    return float(np.mean([s[0] for s in scores])), float(np.mean([s[1] for s in scores]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--spp", type=int, default=256)
    parser.add_argument("--only", help="only rows whose name contains this")
    options = parser.parse_args()
    renderer = rf.Renderer.from_pretrained(device="cpu")
    scenes = base_scenes()
    inside = np.mean([measure(renderer, scene, options.size, options.spp) for scene in scenes], axis=0)
    print(f"inside the range: {inside[0]:.1f} dB, gain {inside[1]:.1f} dB\n")
    print("| outside it | PSNR | loss | gain | warns V1 | warns embedded |\n| --- | --- | --- | --- | --- | --- |")
    for name, change in PAIRS.items():
        if options.only and options.only not in name:
            continue
        changed = [change(scene) for scene in scenes]
        outside = np.mean([measure(renderer, scene, options.size, options.spp) for scene in changed], axis=0)
        warnings = [bool(check_scene(changed[0])), bool(renderer.check(changed[0]))]
        marks = " | ".join("yes" if warning else "no" for warning in warnings)
        print(
            f"| {name} | {outside[0]:.1f} dB | {inside[0] - outside[0]:.1f} dB | {outside[1]:+.1f} dB | {marks} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
