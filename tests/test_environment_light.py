"""Light from environments: against closed formulas, and itself with and without a light cache."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from helpers.environments import spots
from helpers.shapes import ball

from renderformer.data.camera import Camera
from renderformer.data.environment import Environment, Sun, image_directions, texel_solid_angles
from renderformer.data.rays import environment_light
from renderformer.data.rays.channels import RGB
from renderformer.data.rays.environment_light import EnvironmentLight, _along_curve, _split
from renderformer.data.rays.raycast import RayCaster
from renderformer.data.scene import Light, Material, Mesh, Scene
from renderformer.renderer import Renderer

CORNERS = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], np.float32)
FLOOR = CORNERS[[[0, 1, 2], [0, 2, 3]]]
DOWN = Camera.look_at((0, 0, 3), (0, 0, 0), (0, 1, 0), fov=20)


def floor(material: Material = Material(0.5), size: float = 1.0) -> Mesh:  # noqa: B008 - frozen
    return Mesh("floor", size * FLOOR, materials=material)


def features(scene: Scene, cached: bool, size: int = 16, camera: Camera = DOWN) -> np.ndarray:
    surfaces = RayCaster.of(scene)
    if cached:
        surfaces.light_up()
    return surfaces.features(camera, size, size)


def up_irradiance(environment: Environment, normal: tuple[float, float, float] = (0, 0, 1)) -> np.ndarray:
    """(3,) irradiance / pi of an unoccluded surface, summed over a fine grid in double precision."""
    away = image_directions(400, 800).reshape(-1, 3)
    weight = np.maximum(away @ np.array(normal), 0) * np.repeat(texel_solid_angles(400, 800), 800)
    image = environment.replace(suns=()).radiance(away.astype(np.float32)).astype(np.float64).T @ weight
    local = [np.array(sun.direction) @ environment.to_local for sun in environment.suns]
    suns = sum(
        max(0, d @ normal) * s.colour * environment.strength for d, s in zip(local, environment.suns, strict=True)
    )
    return (image + suns) / np.pi


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("albedo", [0.2, 0.8])
def test_a_convex_object_in_a_constant_environment_sends_back_its_albedo(cached: bool, albedo: float) -> None:
    scene = Scene((ball(0.5, Material(albedo), detail=4),), environment=Environment((0.5, 1.0, 2.0)))
    image = features(scene, cached)
    hit = image[..., 0] == 1
    np.testing.assert_allclose(image[hit][:, RGB.irradiance].mean(axis=0), (0.5, 1, 2), rtol=2e-3)
    np.testing.assert_allclose(image[hit][:, RGB.direct], albedo * image[hit][:, RGB.irradiance], rtol=1e-3)
    assert image[..., RGB.indirect].mean() < 2e-3 * image[..., RGB.direct].mean()


def test_light_that_comes_from_the_environment_straight_is_direct_light() -> None:
    # With a light cache it arrives along the same rays as the light of other surfaces.
    scene = Scene((ball(0.2, Material(0.8), (0, 0, 0.2)), floor(Material(0.8))), environment=Environment(1.0))
    alone, cached = features(scene, False), features(scene, True)
    np.testing.assert_allclose(cached[..., RGB.direct].mean(), alone[..., RGB.direct].mean(), rtol=5e-3)
    assert not alone[..., RGB.indirect].any()
    assert cached[..., RGB.indirect].mean() > 0.03 * cached[..., RGB.direct].mean()


def test_a_sphere_around_the_camera_that_lets_light_in_is_an_integrating_sphere() -> None:
    # A white sphere seen from inside with a hole: what the hole lets in bounces, with a share of area f lost each time.
    albedo, sphere = 0.7, trimesh.creation.icosphere(4)
    hole = sphere.triangles.mean(axis=1)[:, 2] > 0.8
    wall = Mesh("wall", sphere.triangles[~hole][:, ::-1], materials=Material(albedo))
    scene = Scene((wall,), environment=Environment(1.0))
    surfaces = RayCaster.of(scene)
    surfaces.light_up()
    assert surfaces.cache is not None
    directions = np.random.default_rng(0).normal(size=(4000, 3)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    hits, _ = surfaces.hits(np.zeros_like(directions), directions)
    # Every point of a sphere sees every other one alike, so the hole brings its share f of the area to each of them.
    share = sphere.area_faces[hole].sum() / sphere.area
    expected = share / (1 - albedo * (1 - share))
    irradiance = surfaces.cache.irradiance(hits)
    assert irradiance.mean() == pytest.approx(expected, rel=0.03)
    # Where no light leaves, the series that the cache sums has its limit.
    closed = Mesh("wall", sphere.triangles[:, ::-1], materials=Material(albedo))
    shut = RayCaster.of(Scene((closed,), environment=Environment(1.0)))
    shut.light_up()
    assert shut.cache is not None
    assert not shut.cache.indirect[: len(shut.cache.indirect) // 2].any()


@pytest.mark.parametrize("cached", [False, True])
def test_an_open_floor_receives_the_light_of_its_half_of_the_environment(cached: bool) -> None:
    suns = (Sun((1, 1, 2), (1.0, 2.0, 0.5), 4.0), Sun((0, -1, 1), 0.7, 0.0))
    for environment in (
        Environment.gradient(0.2, 0.6, 1.4),
        spots(),
        spots().replace(rotation=200, strength=0.5, suns=suns),
        Environment(0.0, suns=suns, rotation=33),
        Environment.of("studio"),
    ):
        image = features(Scene((floor(),), environment=environment), cached, 12)
        expected = up_irradiance(environment)
        np.testing.assert_allclose(image[..., RGB.irradiance].mean(axis=(0, 1)), expected, rtol=0.012)
        assert image[..., RGB.irradiance].std(axis=(0, 1)).max() < 0.02 * expected.max()


@pytest.mark.parametrize("times", [4, 6, 8])
def test_the_samples_of_a_pixel_that_is_cast_again_look_at_all_of_the_environment(times: int) -> None:
    # With as few rays each as they have then.
    surfaces = RayCaster.of(Scene((floor(),), environment=Environment.of("studio")))
    image = surfaces.features(DOWN, 8, 8, antialias=times, refine=1, shadow_rays=3, lobe_rays=1)
    expected = up_irradiance(Environment.of("studio"))
    np.testing.assert_allclose(image[..., RGB.irradiance], np.broadcast_to(expected, (8, 8, 3)), rtol=0.03)


def test_the_light_turns_with_the_environment_and_grows_with_its_strength() -> None:
    wall = Mesh("wall", FLOOR @ np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], np.float32), materials=Material(0.5))
    camera = Camera.look_at((0, -3, 0), (0, 0, 0), fov=20)
    for rotation in (0, 130):
        environment = spots().replace(rotation=rotation, strength=3)
        image = features(Scene((wall,), environment=environment), True, 8, camera)
        expected = up_irradiance(environment, (0, -1, 0))
        np.testing.assert_allclose(image[..., RGB.irradiance].mean(axis=(0, 1)), expected, rtol=0.02)


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("roughness", [0.0, 0.1, 0.3, 0.6, 1.0])
def test_a_white_shiny_floor_sends_back_all_of_a_constant_environment(cached: bool, roughness: float) -> None:
    # A white furnace; masking takes some of the light, as it does in the path tracer.
    scene = Scene((floor(Material(0.0, 1.0, roughness)),), (DOWN,), environment=Environment(2.0))
    image = features(scene, cached, 8)
    # The mean masking of 400,000 random directions of the lobe, seen from above; 16 fixed ones are less exact.
    expected = {0.0: 1.0, 0.1: 0.9999, 0.3: 0.9906, 0.6: 0.8246, 1.0: 0.3076}[roughness]
    assert image[..., RGB.highlight].mean() == pytest.approx(2 * expected, abs=0.1 * roughness + 0.005)
    assert not image[..., RGB.reflection].any()


@pytest.mark.parametrize("roughness", [0.0, 0.15, 0.4, 0.8])
def test_highlights_do_not_depend_on_what_is_sampled(roughness: float, monkeypatch: pytest.MonkeyPatch) -> None:
    # Bright spots by shadow rays and lobe rays together, or all of the environment by many lobe rays; the pixels share
    # their 36 directions in the lobe.
    camera = Camera.look_at((-0.5, 0.55, 1.2), (0, 0, 0), fov=12)
    scene = Scene((floor(Material(0.0, 0.8, roughness)),), environment=spots())
    both = features(scene, True, 8, camera)[..., RGB.highlight]
    monkeypatch.setattr(environment_light, "BRIGHT", 1e9)
    monkeypatch.setattr(environment_light, "LOBE_SHARE", 1e-3)
    surfaces = RayCaster.of(scene)
    surfaces.light_up()
    alone = surfaces.features(camera, 8, 8, lobe_rays=512, refine=1)[..., RGB.highlight]
    np.testing.assert_allclose(both.mean(axis=(0, 1)), alone.mean(axis=(0, 1)), rtol=0.07)


def test_a_mirror_shows_the_environment_itself() -> None:
    environment = spots().replace(rotation=40)
    camera = Camera.look_at((-0.9, 0.9, 0.8), (0, 0, 0), fov=25)
    scene = Scene((floor(Material(0.0, 0.9, 0.0)),), (camera,), environment=environment)
    image = features(scene, True, 24, camera)
    position = image[..., RGB.position] @ camera.c2w[:3, :3].T + camera.position
    away = position - camera.position
    away = away / np.linalg.norm(away, axis=-1, keepdims=True) * (1, 1, -1)
    expected = 0.9 * environment.radiance(away.reshape(-1, 3).astype(np.float32)).reshape(24, 24, 3)
    inside = image[..., 0] == 1
    assert inside.mean() > 0.5
    close = np.isclose(image[..., RGB.highlight], expected, rtol=0.05, atol=0.02).all(axis=-1)
    # Where the border of a spot crosses a pixel, its samples differ.
    assert close[inside].mean() > 0.9


def test_the_bright_part_and_the_soft_part_are_the_environment() -> None:
    image = np.asarray(spots().image)
    soft, bright = _split(image)
    assert bright is not None
    np.testing.assert_allclose(soft + bright.image, image, atol=1e-5)
    assert soft.max() < 3
    for count, phases in ((1, 1), (16, 4), (5, 16)):
        direction, flux, density = bright.points(count, phases)
        np.testing.assert_allclose(flux.mean(axis=1).sum(axis=0), bright.flux.sum(axis=0), rtol=1e-4)
        np.testing.assert_allclose(np.linalg.norm(direction, axis=-1), 1, atol=1e-5)
        # Every phase gets about the same light, and the mean of 1 / density is the solid angle.
        np.testing.assert_allclose(flux.sum(axis=0).mean(axis=-1), bright.power, rtol=1e-3)
        assert (density > 0).all()
    assert _split(np.full((4, 8, 3), 0.7, np.float32))[1] is None
    assert _split(np.asarray(Environment.gradient(0.2, 0.5, 1.0).image))[1] is None


def test_neighbours_along_the_curve_are_neighbours() -> None:
    row, column = (grid.reshape(-1) for grid in np.mgrid[:16, :16])
    order = np.argsort(_along_curve(row, column, 16))
    steps = np.abs(np.diff(row[order])) + np.abs(np.diff(column[order]))
    assert (steps == 1).all()


@pytest.mark.parametrize("cached", [False, True])
def test_a_lid_keeps_the_light_of_a_sun_and_of_the_sky_out(cached: bool) -> None:
    lid = Mesh("lid", 0.5 * FLOOR[:, ::-1] + np.float32([0, 0, 0.2]), materials=Material(0.0))
    environment = Environment(0.5, suns=(Sun((0, 0, 1), 3.0, 0.5),))
    camera = Camera.look_at((0, -0.3, 0.15), (0, 0, 0), fov=50)
    image = features(Scene((floor(Material(0.3), 4.0), lid), environment=environment), cached, 48, camera)
    position = image[..., RGB.position] @ camera.c2w[:3, :3].T + camera.position
    on_floor = (image[..., 0] == 1) & (np.abs(position[..., 2]) < 1e-3)
    below = on_floor & (np.abs(position[..., :2]).max(axis=-1) < 0.1)
    outside = on_floor & (position[..., 1] > 1.3) & (position[..., 1] < 3)
    assert below.any()
    assert image[below][:, RGB.irradiance].mean() < 0.15
    np.testing.assert_allclose(image[outside][:, RGB.irradiance].mean(), 0.5 + 3 / np.pi, rtol=0.03)


@pytest.mark.parametrize("background", ["visible", "invisible", "transparent", "#808080"])
def test_backgrounds(background: str) -> None:
    environment = spots().replace(background=background)
    camera = Camera.look_at((0, -3, 0.2), (0, 0, 0), fov=30)
    scene = Scene((ball(0.4, Material(0.5)),), (camera,), environment=environment)
    image = Renderer.from_pretrained(network=False).render(scene, (48, 33))[0]
    assert (image.alpha is not None) == (background in ("transparent", "#808080"))
    if image.alpha is not None:
        assert image.alpha[16, 24] == 1
        assert image.alpha[0, 0] == 0
        assert 0.1 < image.alpha.mean() < 0.5
    if background == "visible":
        rays = camera.rays(np.array([0.5]), np.array([0.5]), 48, 33)
        seen = environment.radiance((rays / np.linalg.norm(rays, axis=0)).T.astype(np.float32))[0]
        np.testing.assert_allclose(image.hdr[0, 0], seen, rtol=0.05)
    else:
        assert not image.hdr[0, 0].any()
    if background == "#808080":
        shown = np.rint(image.tone_mapped(exposure=1.0) * 255)
        assert (shown[0, 0] == 128).all()
        assert not (shown[16, 24] == 128).all()
    # What lies behind does not change the light.
    lit = Renderer.from_pretrained(network=False).render(scene.replace(environment=spots()), (48, 33))[0]
    np.testing.assert_array_equal(image.hdr[16, 24], lit.hdr[16, 24])


def test_pictures_with_an_environment_do_not_depend_on_threads() -> None:
    objects = (ball(0.4, Material(0.3, 0.4, 0.2)), floor())
    scene = Scene(objects, (Camera.from_angles(distance=2.5),), environment=spots())
    surfaces = RayCaster.of(scene)
    surfaces.light_up()
    images = [surfaces.features(scene.cameras[0], 40, 24, threads=threads) for threads in (1, 3)]
    np.testing.assert_array_equal(*images)


def test_a_lamp_and_an_environment_add_up() -> None:
    lamp = Light((0.0, -1.5, 2.0)).mesh()
    together, lamp_alone, sky_alone = (
        features(Scene((floor(), *lights), environment=environment), True, 8)[..., RGB.irradiance]
        for lights, environment in (((lamp,), spots()), ((lamp,), None), ((), spots()))
    )
    np.testing.assert_allclose(together, lamp_alone + sky_alone, rtol=0.02)


def test_a_dark_environment_lights_nothing_and_costs_nothing() -> None:
    for environment in (Environment(0.0), Environment(3.0, strength=0), Environment(0.0, suns=(Sun((0, 0, 1), 0.0),))):
        surfaces = RayCaster.of(Scene((floor(),), environment=environment))
        assert surfaces.environment is None
    assert EnvironmentLight(Environment(0.5)).level == pytest.approx(0.5)
