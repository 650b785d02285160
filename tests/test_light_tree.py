"""Many and large lights: the tree against exact sums in double precision, and pictures against path tracing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from helpers.shapes import ball, box

from renderformer.data.camera import Camera
from renderformer.data.geometry.stages import stage_meshes
from renderformer.data.geometry.subdivide import subdivide
from renderformer.data.rays import direct
from renderformer.data.rays.channels import RGB
from renderformer.data.rays.embree import Hits
from renderformer.data.rays.light_tree import LightTree, concentration
from renderformer.data.rays.lights import Lights
from renderformer.data.rays.raycast import RayCaster
from renderformer.data.rays.vectors import normalised
from renderformer.data.scene import EMISSION, Material, Mesh, Scene
from renderformer.data.sets.mitsuba import ReferenceScene

Array = npt.NDArray[np.float64]


def glow(*radiance: float) -> Material:
    return Material(0.2, emission=radiance)  # type: ignore[arg-type]


def bulbs(count: int = 12) -> Scene:
    """Balls and boxes that glow in different colours, and a panel that shines from both sides."""
    rng = np.random.default_rng(0)
    shapes = []
    for i in range(count):
        place, paint = tuple(rng.uniform(-1, 1, 3)), glow(*rng.uniform(1, 9, 3))
        shape = ball(0.1, paint, place, f"l{i}", detail=1) if i % 2 else box(0.12, paint, place, f"l{i}")
        shapes.append(shape)
    panel = np.array([[[-0.4, -0.4, 0], [0.4, -0.4, 0], [0, 0.5, 0.1]]], np.float32)
    return Scene((*shapes, Mesh("panel", panel, materials=glow(4, 2, 1).row(), two_sided=True)))


def points(count: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    normals = normalised(rng.normal(size=(count, 3)).astype(np.float32))
    return np.asfortranarray(rng.uniform(-1.5, 1.5, (count, 3)).astype(np.float32)), np.asfortranarray(normals)


def exact(scene: Scene, at: np.ndarray, normals: np.ndarray) -> Array:
    """(S, 3) irradiance / pi without shadows, as a sum over 256 small pieces of each light."""
    light = np.zeros((len(at), 3))
    fine, _ = subdivide(Mesh("all", scene.triangles, materials=scene.materials, two_sided=scene.two_sided), 0.03)
    corners = fine.triangles.astype(np.float64)
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]) / 2
    both = np.broadcast_to(fine.two_sided, len(fine))
    for i, (point, normal) in enumerate(zip(at.astype(np.float64), normals.astype(np.float64), strict=True)):
        toward = corners.mean(axis=1) - point
        emitted = -(toward * across).sum(axis=1)
        emitted = np.where(both, np.abs(emitted), np.maximum(emitted, 0))
        factor = emitted * np.maximum(toward @ normal, 0) / (np.pi * (toward**2).sum(axis=1) ** 2)
        light[i] = factor @ fine.materials[:, EMISSION]
    return light


def test_unshadowed_light_of_the_tree_is_that_of_all_lights() -> None:
    scene = bulbs()
    at, normals = points(600)
    tree = LightTree(Lights.of(scene))
    stops = list(tree.stops(at, normals, np.full(len(at), -1)))
    light, expected = tree.unshadowed(stops, len(at)), exact(scene, at, normals)
    # Not inside a lamp.
    bright = expected.max(axis=1) < 20 * np.median(expected)
    error = np.abs(light - expected)[bright].max(axis=1) / expected[bright].max(axis=1).clip(np.median(expected) / 4)
    assert np.mean(error) < 0.02
    assert np.quantile(error, 0.98) < 0.1
    assert light[bright].mean() == pytest.approx(expected[bright].mean(), rel=0.01)
    # Far fewer nodes than lights.
    assert sum(len(pairs.row) for pairs in stops) < 0.3 * len(at) * len(scene)


def test_rays_are_as_many_as_asked_for_and_stand_for_all_light() -> None:
    scene = bulbs()
    at, normals = points(400, 2)
    tree, lights = LightTree(Lights.of(scene)), Lights.of(scene)
    stops = list(tree.stops(at, normals, np.full(len(at), -1)))
    total, effective = concentration(stops, len(at))
    wanted = np.where(total > 0, np.arange(len(at)) % 60 + 4, 0)
    estimates = []
    for phase in range(8):
        rays = tree.drawn(at, normals, stops, wanted, np.full(len(at), phase))
        assert np.array_equal(np.bincount(rays.row, minlength=len(at)), wanted)
        estimates.append(np.bincount(rays.row, rays.received, len(at)))
        corners = lights.corners[rays.light].astype(np.float64)
        inside = np.linalg.solve(corners.swapaxes(1, 2), rays.target[..., None].astype(np.float64))[..., 0]
        assert inside.min() > -1e-3
        assert inside.sum(axis=1) == pytest.approx(np.ones(len(inside)), abs=1e-3)
    assert np.mean(estimates) == pytest.approx(total.mean(), rel=0.02)
    assert 1 <= effective[total > 0].min() <= effective.max() < 500


def test_a_light_does_not_light_itself_in_the_tree() -> None:
    panel = np.array([[[-1, -1, 0], [1, -1, 0], [0, 1, 0]]], np.float32)
    scene = Scene((Mesh("panel", panel, materials=glow(1, 1, 1).row()),))
    tree = LightTree(Lights.of(scene))
    at = np.array([[0, 0, 1e-4], [0, -0.5, 0]], np.float32)
    up = np.array([[0, 0, 1], [0, 1, 0]], np.float32)
    stops = list(tree.stops(at, up, np.zeros(2, np.int64)))
    assert not tree.unshadowed(stops, 2).any()


def seen(scene: Scene, size: int = 40) -> np.ndarray:
    surfaces = RayCaster.of(scene)
    surfaces.light_up()
    image = surfaces.features(scene.cameras[0], size, size)
    return np.sum([image[..., part] for part in RGB.light], axis=0)


def near(picture: np.ndarray, reference: np.ndarray) -> float:
    """dB between display values, without what is brighter than white."""
    level = np.quantile(reference, 0.9)
    dark = reference.max(axis=-1) < 2 * level
    error = (np.clip(picture / level, 0, 1) ** (1 / 2.2) - np.clip(reference / level, 0, 1) ** (1 / 2.2))[dark]
    return float(-10 * np.log10((error**2).mean()))


def stage(*objects: Mesh) -> Scene:
    walls = stage_meshes("corner", materials={"floor": Material(0.6, 0.2, 0.4)})
    plate = box((0.3, 0.3, 0.02), Material((0.6, 0.3, 0.2)), (0.0, 0.0, -0.2), "plate")
    return Scene((*walls, plate, *objects), (Camera.look_at((0.2, -1.7, 0.25), (0, 0, -0.25), fov=40),))


def test_a_lamp_of_thousands_of_triangles_is_like_the_path_traced_one() -> None:
    scene = stage(ball(0.12, glow(9, 9, 9), (0.05, -0.1, 0.3), "lamp", detail=3))
    assert len(scene.light_triangles) == 1280
    reference = ReferenceScene(scene, 16).render(scene.cameras[0], 40, 40, 144)
    picture = seen(scene)
    assert near(picture, reference) > 31.5
    dark = reference.max(axis=-1) < np.quantile(reference, 0.9)
    assert picture[dark].mean() == pytest.approx(reference[dark].mean(), rel=0.03)


def test_a_large_light_casts_smooth_shadows(monkeypatch: pytest.MonkeyPatch) -> None:
    corners = np.array([[-0.45, -0.45, 0.3], [-0.45, 0.45, 0.3], [0.45, 0.45, 0.3], [0.45, -0.45, 0.3]], np.float32)
    scene = stage(Mesh("lamp", corners[[[0, 1, 2], [0, 2, 3]]], materials=glow(2, 2, 2).row()))
    surfaces = RayCaster.of(scene)
    x = np.linspace(-0.4, 0.4, 200, dtype=np.float32)
    count = len(x)
    at = np.stack([x, np.full(count, 0.05, np.float32), np.full(count, -0.49999, np.float32)], axis=1)
    up = np.tile(np.array([0, 0, 1], np.float32), (count, 1))
    hits = Hits(np.arange(count), np.full(count, -1), at, up, up, up, np.zeros((count, 2), np.float32),
                np.full(count, 1e-5, np.float32))  # fmt: skip

    def light(rays: int) -> Array:
        phases = [surfaces.irradiance(hits, rays, np.full(count, phase))[:, 0] for phase in range(4)]
        return np.mean(phases, axis=0).astype(np.float64)

    truth = light(256)
    smooth = np.abs(light(8) - truth).mean() / truth.mean()
    monkeypatch.setattr(direct, "LARGE", 1.0)
    banded = np.abs(light(8) - truth).mean() / truth.mean()
    assert smooth < 0.03
    assert smooth < banded / 2, banded


def test_highlights_of_many_lights_are_those_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    lamp = ball(0.12, glow(9, 6, 3), (0.05, -0.1, 0.3), "lamp", detail=1)
    for roughness in (0.15, 0.6):
        floor = Material((0.0, 0.0, 0.0), (0.8, 0.8, 0.8), roughness)
        scene = stage(lamp)
        scene = scene.replace(objects=tuple(m.with_material(floor) if m.name == "floor" else m for m in scene.objects))
        shine = []
        for limit in (32, 1000):
            monkeypatch.setattr(direct, "EVERY_LIGHT", limit)
            monkeypatch.setattr(direct, "LARGE", 10.0)
            image = RayCaster.of(scene).features(scene.cameras[0], 32, 32)
            shine.append(image[..., RGB.highlight])
        assert shine[0].mean(axis=(0, 1)) == pytest.approx(shine[1].mean(axis=(0, 1)), rel=0.03)


def test_lights_in_any_number_are_mixed_with_dark_ones() -> None:
    # Lights without area or below every horizon, and a single light, make trees too.
    one = replace(bulbs(0), objects=bulbs(0).objects[:1])
    at, normals = points(50, 3)
    tree = LightTree(Lights.of(one))
    stops = list(tree.stops(at, normals, np.full(50, -1)))
    assert tree.unshadowed(stops, 50) == pytest.approx(exact(one, at, normals), rel=0.1, abs=0.05)
    below = list(tree.stops(at - np.float32([0, 0, 99]), np.tile(np.float32([0, 0, -1]), (50, 1)), np.full(50, -1)))
    rays = tree.drawn(at, normals, below, np.zeros(50, np.int64), np.zeros(50, np.int64))
    assert not len(rays.row)
