"""Shadow rays that are saved where a view's cells foresee which lights are seen."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.shapes import ball, box

from renderformer.data.arrays import Float32Array
from renderformer.data.camera import Camera
from renderformer.data.rays.channels import RGB
from renderformer.data.rays.foreseen import BLOCKED, FREE, Foreseen
from renderformer.data.rays.foresight import Foresight
from renderformer.data.rays.light_groups import LightGroups
from renderformer.data.rays.raycast import RayCaster
from renderformer.data.rays.tree import Tree
from renderformer.data.scene import Light, Material, Mesh, Scene

CORNERS = np.array([[-1, -1, -0.5], [1, -1, -0.5], [1, 1, -0.5], [-1, 1, -0.5]], np.float32)
FLOOR = Mesh("floor", CORNERS[[[0, 1, 2], [0, 2, 3]]], materials=Material(0.6).row())


def lit_scene(*objects: Mesh) -> Scene:
    lights = [replace(Light((x, -0.8, 1.9)).mesh(), name=f"light {x}") for x in (-0.7, 0.8)]
    return Scene((FLOOR, *objects, *lights), (Camera.from_angles(20, 35, 2.2, fov=40),))


def feature_image(caster: RayCaster, size: int, monkeypatch: pytest.MonkeyPatch) -> tuple[Float32Array, int]:
    """The feature image of the first camera of a scene, and how many shadow rays it took."""
    counted = [0]
    met = Tree.met

    def count(tree: Tree, origins: Float32Array, directions: Float32Array, end: float | None = None) -> object:
        counted[0] += len(origins)
        return met(tree, origins, directions, end)

    with monkeypatch.context() as patch:
        patch.setattr(Tree, "met", count)
        image = caster.features(SCENE.cameras[0], size, size, refine=1)
    return image, counted[0]


SCENE = lit_scene(ball(0.3, Material(0.5, 0.3, 0.4), (0, 0, -0.15)), box(0.2, Material(0.5), (0.5, 0.3, -0.3)))


@pytest.mark.parametrize("size", [96, 170])
def test_half_of_the_shadow_rays_give_the_same_picture(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    caster = RayCaster.lit(SCENE)
    image, few = feature_image(caster, size, monkeypatch)
    monkeypatch.setattr(Foresight, "possible", lambda surfaces: False)
    full, many = feature_image(caster, size, monkeypatch)
    assert few < 0.55 * many
    light = (RGB.irradiance, RGB.direct, RGB.highlight, RGB.reflection)
    differs = np.concatenate([np.abs(image - full)[..., part] for part in light], axis=-1).max(axis=-1) > 1e-5
    assert differs.mean() < 0.01
    error = np.abs(image - full)[..., RGB.irradiance]
    assert error.max() < 0.25 * full[..., RGB.irradiance].max()
    assert error.mean() < 1e-3 * full[..., RGB.irradiance].mean()


def test_most_of_the_shadow_of_what_is_thinner_than_a_pixel_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    # 2 mm thick, where a pixel of the floor is 20 mm wide.
    corners = np.array([[-0.5, 0, -0.4], [0.5, 0, -0.4], [0.5, 0.002, -0.4]], np.float32)
    wires = (Mesh(f"wire {i}", corners[None] + np.float32([0, 0.1 * i, 0])) for i in range(-3, 4))
    caster = RayCaster.lit(lit_scene(*wires))
    image, _ = feature_image(caster, 80, monkeypatch)
    monkeypatch.setattr(Foresight, "possible", lambda surfaces: False)
    full, _ = feature_image(caster, 80, monkeypatch)
    bare, _ = feature_image(RayCaster.lit(lit_scene()), 80, monkeypatch)
    kept, shadow = ((bare - part)[..., RGB.irradiance].sum() for part in (image, full))
    # A shadow that takes less than a hundredth of the light, so that few rays meet it.
    assert 0.6 * shadow < kept < 1.1 * shadow < 0.011 * bare[..., RGB.irradiance].sum()


def test_one_ray_that_disagrees_opens_all_of_its_pixel() -> None:
    state = np.array([[FREE, FREE, FREE, BLOCKED, FREE | BLOCKED, 0]], np.uint8)
    foreseen = Foreseen(state, np.array([0, 0, 1, 1, 2, 3]))
    samples = np.arange(6)

    def opened(*seen: int) -> list[int]:
        return foreseen.open(0, samples, np.array([seen], bool)).tolist()

    # Where nothing is known, rays go on.
    assert opened(1, 1, 1, 0, 1, 1) == [4, 5]
    assert opened(1, 0, 1, 0, 0, 1) == [0, 1, 4, 5]
    assert opened(1, 1, 1, 1, 1, 0) == [2, 3, 4, 5]


def test_groups_of_lights_sum_to_the_picture_under_all() -> None:
    caster = RayCaster.lit(SCENE)
    first, second = caster.lights.triangle[: len(caster.lights) // 2], caster.lights.triangle
    group = np.zeros(len(SCENE), np.int64)
    group[second[len(first) :]] = 1
    whole = caster.features(SCENE.cameras[0], 40, 40, refine=1)
    parts = caster.split(LightGroups(2, group)).features(SCENE.cameras[0], 40, 40, refine=1)
    np.testing.assert_allclose(parts[..., RGB.irradiance], whole[..., RGB.irradiance], rtol=1e-4, atol=1e-6)
