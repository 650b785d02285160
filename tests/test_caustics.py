"""Light that shiny surfaces throw on others, against mirrors by hand and the same light without a lobe."""

from __future__ import annotations

import numpy as np
import pytest

from renderformer.data.camera import Camera
from renderformer.data.environment import Environment, Sun
from renderformer.data.rays.embree import Hits
from renderformer.data.rays.light_cache import LightCache
from renderformer.data.rays.light_groups import LightGroups
from renderformer.data.rays.raycast import RayCaster
from renderformer.data.scene import Light, Material, Mesh, Scene
from renderformer.renderer import Renderer

MATT = Material((0.5,) * 3, (0.0,) * 3, 1.0)
MIRROR = Material((0.0,) * 3, (0.6, 0.3, 0.9), 0.03)


def panel(name: str, corner: list[float], first: list[float], second: list[float], material: Material) -> Mesh:
    """A parallelogram that faces along first x second."""
    a, b, c = (np.asarray(v, np.float32) for v in (corner, first, second))
    return Mesh(name, np.array([[a, a + b, a + b + c], [a, a + b + c, a + c]]), materials=material.row())


def looked_at(caster: RayCaster, points: np.ndarray, toward: np.ndarray) -> Hits:
    directions = np.broadcast_to(np.asarray(toward, np.float32), points.shape)
    return caster.hits(np.asarray(points, np.float32), directions)[0]


def thrown(caster: RayCaster, hits: Hits) -> np.ndarray:
    """(S, C) irradiance, of which the mean over all phases is what a picture shows."""
    phases = [caster.solved.thrown(hits, np.full(len(hits.rows), phase)) for phase in range(16)]
    return np.pi * np.mean(phases, axis=0)


@pytest.fixture(scope="module")
def sunlit() -> RayCaster:
    """A mirror on the ground, a wall at x = 1, and the sun 45 degrees high, behind the wall's front."""
    sun = Sun((-1.0, 0.0, 1.0), (2.0, 3.0, 4.0), 0.0)
    scene = Scene(
        (
            panel("mirror", [-0.2, -0.2, 0], [0.4, 0, 0], [0, 0.4, 0], MIRROR),
            panel("wall", [1, -1, 0], [0, 0, 2], [0, 2, 0], MATT),
        ),
        environment=Environment(np.zeros((1, 1, 3), np.float32), suns=(sun,)),
    )
    return RayCaster.lit(scene)


def test_a_mirror_throws_the_sun_where_it_is_reflected(sunlit: RayCaster) -> None:
    # Mirrored at the ground, the sun's rays rise by 45 degrees: from x in -0.2 … 0.2 to heights of 0.8 … 1.2.
    y, z = (grid.reshape(-1) for grid in np.meshgrid(np.linspace(-0.9, 0.9, 37), np.linspace(0.1, 1.9, 37)))
    hits = looked_at(sunlit, np.stack([np.zeros_like(y), y, z], axis=1), [1, 0, 0])
    light, away = thrown(sunlit, hits), np.maximum(np.abs(y) - 0.2, np.abs(z - 1.0) - 0.2)
    expected = np.array(MIRROR.specular) * [2, 3, 4] * np.sqrt(0.5)
    inside = light[away < -0.08]
    np.testing.assert_allclose(inside, np.broadcast_to(expected, inside.shape), rtol=0.05)
    assert light[away > 0.15].max() < 0.05 * expected.max()
    # The points stand for squares of 0.05, and the patch has the size of the mirror.
    np.testing.assert_allclose(light.sum(axis=0) * 0.05**2, expected * 0.4**2, rtol=0.1)


def test_what_is_thrown_is_seen_in_pictures_and_lights_others(sunlit: RayCaster) -> None:
    hits = looked_at(sunlit, np.array([[0.5, 0.0, 1.0], [0.5, 0.8, 0.2]]), [1, 0, 0])
    cached = sunlit.solved.irradiance(hits)
    assert cached[0].min() > 5 * cached[1].max() >= 0


def test_lights_apart_sum_to_the_light_together() -> None:
    scene = Scene(
        (
            panel("floor", [-1, -1, 0], [2, 0, 0], [0, 2, 0], Material((0.3,) * 3, (0.5,) * 3, 0.3)),
            panel("wall", [1, -1, 0], [0, 0, 2], [0, 2, 0], MATT),
            Light((0.0, 0.0, 1.0), (0.0, 0.0, -1.0), 0.2, (40.0, 0.0, 0.0), "red").mesh(),
            Light((-0.5, 0.5, 0.8), (0.5, 0.0, -1.0), 0.2, (0.0, 20.0, 10.0), "blue").mesh(),
        )
    )
    whole = RayCaster.lit(scene)
    groups = LightGroups(2, np.array([0, 0, 0, 0, 0, 1]), 0)
    parts = whole.split(groups)
    side = np.arange(len(whole.solved.indirect))
    assert whole.solved.indirect.max() > 0
    np.testing.assert_allclose(groups.together(parts.solved.indirect), whole.solved.indirect, atol=1e-5, rtol=1e-4)
    assert not parts.solved.indirect[side, 1:3].any()


@pytest.mark.parametrize("change", ["diffuse", "specular", "roughness", "emission"])
def test_edited_materials_are_lit_as_in_a_new_cache(change: str) -> None:
    def lit(floor: Material, radiance: float) -> RayCaster:
        lamp = Light((0.0, 0.0, 1.0), (0.0, 0.0, -1.0), 0.2, radiance).mesh()
        walls = (
            panel("floor", [-1, -1, 0], [2, 0, 0], [0, 2, 0], floor),
            panel("wall", [1, -1, 0], [0, 0, 2], [0, 2, 0], MATT),
        )
        return RayCaster.of(Scene((*walls, lamp)))

    before = lit(Material((0.3,) * 3, (0.4,) * 3, 0.3), 40.0)
    before.light_up()
    after = lit(
        Material(
            (0.1,) * 3 if change == "diffuse" else (0.3,) * 3,
            (0.6,) * 3 if change == "specular" else (0.4,) * 3,
            0.1 if change == "roughness" else 0.3,
        ),
        80.0 if change == "emission" else 40.0,
    )
    edited, new = before.solved.on(after), LightCache(after)
    np.testing.assert_allclose(edited.indirect, new.indirect, rtol=1e-5, atol=1e-7)
    assert np.abs(new.indirect - before.solved.indirect).max() > 0.01 * new.indirect.max()


def test_matt_scenes_have_none() -> None:
    lamp = Light((0.0, 0.0, 1.0), (0.0, 0.0, -1.0), 0.2, 40.0).mesh()
    caster = RayCaster.lit(Scene((panel("floor", [-1, -1, 0], [2, 0, 0], [0, 2, 0], MATT), lamp)))
    assert not thrown(caster, looked_at(caster, np.array([[0.3, 0.2, 0.5]]), np.array([0, 0, -1]))).any()


def test_matt_surfaces_are_lit_as_by_paths_from_the_lights() -> None:
    """Which find what a mirror throws; paths from the camera do not."""
    pytest.importorskip("mitsuba")
    from renderformer.data.sets.mitsuba import ReferenceScene

    camera = Camera.look_at((-1.2, 0.0, 0.9), (1.0, 0.0, 0.9), fov=40)
    scene = Scene(
        (
            panel("mirror", [-0.2, -0.4, 0], [0.8, 0, 0], [0, 0.8, 0], MIRROR),
            panel("wall", [1, -1, 0], [0, 0, 2], [0, 2, 0], MATT),
            Light((-0.8, 0.0, 1.4), (0.2, 0.0, 0.0), 0.15, 300.0).mesh(),
        ),
        (camera,),
    )
    tracer = ReferenceScene(scene, 6)
    traced = np.mean([tracer.light_traced(camera, 16, 16, 2500, seed) for seed in range(4)], axis=0)
    drawn = Renderer.from_pretrained(network=False).render(scene, 64)[0].hdr.reshape(16, 4, 16, 4, 3).mean(axis=(1, 3))
    wall = np.s_[4:12, 4:12]
    np.testing.assert_allclose(drawn[wall].mean(axis=(0, 1)), traced[wall].mean(axis=(0, 1)), rtol=0.02)
    np.testing.assert_allclose(drawn[wall], traced[wall], rtol=0.15)
    from_camera = tracer.render(camera, 16, 16, 64)
    assert (traced[wall] > 1.3 * np.median(from_camera[wall], axis=(0, 1))).any()
