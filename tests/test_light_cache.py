"""The light cache and the gather: against closed cavities that can be computed, a path tracer, and themselves."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh
from helpers.shapes import ball, box
from hypothesis import given
from hypothesis import strategies as st

from renderformer.data.arrays import Float32Array
from renderformer.data.camera import Camera
from renderformer.data.errors import InputError
from renderformer.data.geometry.subdivide import subdivide
from renderformer.data.rays import light_cache, surfels
from renderformer.data.rays.channels import RGB
from renderformer.data.rays.light_cache import LightCache
from renderformer.data.rays.raycast import RayCaster
from renderformer.data.scene import EMISSION, Light, Material, Mesh, Scene
from renderformer.renderer import Renderer


def caster(*meshes: Mesh) -> RayCaster:
    scene = Scene(meshes)
    return RayCaster.of(scene)


def cavity(albedo: float, specular: float = 0.0) -> RayCaster:
    """A sphere seen from inside with a lamp in its middle."""
    sphere = trimesh.creation.icosphere(3)
    # A lobe of roughness 1 would lose most of its light into the surface, a sharp one would send it back to the lamp.
    material = Material((albedo,) * 3, (specular,) * 3, 0.4)
    lamp = Light((0.0, 0.0, 0.0), (0.0, 0.0, 1.0), 0.05, 100.0).mesh()
    return caster(Mesh("wall", sphere.triangles[:, ::-1], materials=material.row()), lamp)


def looking_out(surfaces: RayCaster, directions: np.ndarray) -> np.ndarray:
    """Indirect irradiance / pi where rays from the middle meet the wall."""
    directions = directions.astype(np.float32)
    hits, materials = surfaces.hits(0.1 * directions, directions)
    assert surfaces.cache is not None
    return surfaces.cache.irradiance(hits)[(materials[:, EMISSION] == 0).all(axis=1)]


@pytest.mark.parametrize(("albedo", "specular"), [(0.2, 0.0), (0.5, 0.0), (0.4, 0.3), (0.8, 0.0)])
def test_a_closed_sphere_has_the_light_of_an_integrating_sphere(albedo: float, specular: float) -> None:
    surfaces = cavity(albedo, specular)
    surfaces.light_up()
    directions = np.random.default_rng(0).normal(size=(2000, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    indirect = looking_out(surfaces, directions)
    # Inside a sphere every point sees all others alike: I = r (E + I), with the mean direct light E and reflectance r.
    hits, _ = surfaces.hits(0.1 * directions.astype(np.float32), directions.astype(np.float32))
    wall = hits.take(np.flatnonzero(hits.triangle < 1280))
    direct = surfaces.irradiance(wall, 4, np.zeros(len(wall.rows), np.int64)).mean()
    reflectance = albedo + specular
    expected = direct * reflectance / (1 - reflectance)
    followed = 1 - reflectance**light_cache.BOUNCES
    assert indirect.mean() == pytest.approx(expected * followed, rel=0.05 if specular else 0.03)
    assert indirect.std() < 0.1 * indirect.mean()


def room(strength: float = 20.0) -> Scene:
    """A closed room in whose ceiling a triangle shines; a partition keeps direct light out of the left part."""
    walls = box((1.6, 1.6, 0.8), Material((0.7, 0.6, 0.5), (0.0, 0.0, 0.0), 1.0), (0.0, 0.0, 0.4), "walls")
    partition = box((0.06, 1.1, 0.8), Material((0.5, 0.6, 0.7), (0.0, 0.0, 0.0), 1.0), (0.0, -0.25, 0.4), "partition")
    walls = subdivide(replace(walls, triangles=walls.triangles[:, ::-1], normals=-walls.normals), 0.3)[0]
    lamp = np.arange(len(walls)) == np.linalg.norm(walls.triangles.mean(axis=1) - (0.4, -0.2, 0.8), axis=1).argmin()
    return Scene(
        (
            Mesh("walls", walls.triangles[~lamp], materials=walls.materials[~lamp]),
            partition,
            Mesh("lamp", walls.triangles[lamp], materials=Material((0.0, 0.0, 0.0), emission=(strength,) * 3).row()),
        ),
        (Camera.look_at((-0.7, -0.7, 0.4), (-0.3, 0.4, 0.35), fov=75.0),),
    )


def test_a_room_lit_round_a_corner_agrees_with_a_path_tracer() -> None:
    pytest.importorskip("mitsuba")
    from renderformer.data.sets.mitsuba import ReferenceScene

    scene = room()
    reference = ReferenceScene(scene, depth=16).render(scene.cameras[0], 48, 48, 256)
    picture = Renderer.from_pretrained(network=False).render(scene, 48)[0].hdr
    # All of this light is indirect.
    assert picture.mean() == pytest.approx(reference.mean(), rel=0.04)
    error = np.clip(picture, 0, 1) ** (1 / 2.2) - np.clip(reference, 0, 1) ** (1 / 2.2)
    assert -10 * np.log10((error**2).mean()) > 28


def test_the_picture_scales_with_the_light_and_does_not_depend_on_threads() -> None:
    images = []
    for strength, threads in ((20.0, 1), (20.0, 3), (0.2, 2)):
        scene = room(strength)
        surfaces = RayCaster.of(scene)
        surfaces.light_up()
        images.append(surfaces.features(scene.cameras[0], 40, 24, threads=threads, refine=1))
    np.testing.assert_array_equal(images[0], images[1])
    light = np.r_[RGB.irradiance, RGB.indirect_irradiance, RGB.indirect, RGB.reflection]
    np.testing.assert_allclose(images[2][..., light], images[0][..., light] / 100, rtol=1e-4, atol=1e-9)


def test_light_under_direct_light_alone_is_untouched() -> None:
    scene = room()
    surfaces = RayCaster.of(scene)
    before = surfaces.features(scene.cameras[0], 24, 24)
    surfaces.light_up()
    after = surfaces.features(scene.cameras[0], 24, 24)
    geometry = np.r_[RGB.mask, RGB.normal, RGB.position]
    # Pixels that are cast again may be others.
    same = np.isclose(before[..., geometry], after[..., geometry], atol=1e-6).all(axis=-1)
    assert same.mean() > 0.8
    for part in (RGB.irradiance, RGB.direct, RGB.highlight):
        np.testing.assert_allclose(after[same][:, part], before[same][:, part], rtol=1e-3, atol=1e-4)
    assert not before[..., RGB.indirect].any()
    assert (after[same][:, RGB.indirect_irradiance] > 0).all()


def test_the_back_of_a_thin_sheet_is_lit_by_what_lies_behind_it() -> None:
    sheet = np.array([[[-1, -1, 0], [1, -1, 0], [0, 1, 0]]], float)
    floor = np.array([[[-9, -9, -1], [9, -9, -1], [0, 9, -1]]], float)
    white = Material((0.9,) * 3, (0.0,) * 3, 1.0).row()
    # The lamp lights the floor beside the sheet; light reaches the back of the sheet from the floor alone.
    lamp = Light((3.0, 0.0, 2.0), (3.0, 0.0, -1.0), 1.0, 500.0).mesh()
    surfaces = caster(Mesh("sheet", sheet, materials=white), Mesh("floor", floor, materials=white), lamp)
    surfaces.light_up()
    assert surfaces.cache is not None
    up, down = np.array([[0, 0, 1]], np.float32), np.array([[0, 0, -1]], np.float32)
    back, _ = surfaces.hits(0.5 * down, up)
    front, _ = surfaces.hits(0.5 * up, down)
    assert surfaces.cache.irradiance(back).min() > 20 * surfaces.cache.irradiance(front).max()


@given(cuts=st.integers(1, 64), data=st.data())
def test_every_part_of_a_triangle_has_its_centroid_in_itself(cuts: int, data: st.DataObject) -> None:
    part = np.array([data.draw(st.integers(0, cuts * cuts - 1)), 0, cuts * cuts - 1])
    every = np.full(3, cuts)
    centroids = surfels.part_centroids(part, every)
    assert (centroids > 0).all()
    assert (centroids.sum(axis=1) < 1).all()
    np.testing.assert_array_equal(surfels.part_at(centroids, every), part)


@given(u=st.floats(-1e-6, 1 + 1e-6), v=st.floats(-1e-6, 1 + 1e-6), cuts=st.integers(1, 64))
def test_every_point_of_a_triangle_belongs_to_a_part(u: float, v: float, cuts: int) -> None:
    if u + v > 1:
        u, v = 1 - u, 1 - v
    part = surfels.part_at(np.array([[u, v]], np.float32), np.array([cuts]))
    assert 0 <= part[0] < cuts * cuts


def test_places_of_many_phases_blend_the_surfels_of_a_triangle() -> None:
    # Light comes over one edge, so surfels differ; single ones show as steps.
    floor = np.array([[[-1, -1, 0], [1, -1, 0], [-1, 1, 0]]], float)
    white = Material((0.8,) * 3, roughness=1.0)
    wall = Mesh("wall", np.array([[[-1, -1, 0], [-1, 1, 0], [-1, 0, 1]]], float), materials=white)
    surfaces = caster(Mesh("floor", floor, materials=white), wall, Light((0.0, 0.0, 1.5)).mesh())
    cache = LightCache(surfaces, surfels=200)
    line = np.stack([np.linspace(-0.7, 0.4, 200), np.full(200, -0.6), np.ones(200)], axis=1).astype(np.float32)
    hits, _ = surfaces.hits(line, np.tile(np.float32([0, 0, -1]), (200, 1)))
    single = cache.irradiance(hits)[:, 0]
    blended = np.mean([cache.irradiance(hits, np.full(200, k) + 0 * hits.rows) for k in range(64)], axis=0)[:, 0]
    assert blended.mean() == pytest.approx(single.mean(), rel=0.1)
    assert np.abs(np.diff(blended)).max() < 0.4 * np.abs(np.diff(single)).max()


def subdivide_times(triangles: Float32Array, times: int) -> Float32Array:
    """Every triangle cut into four, so often."""
    for _ in range(times):
        a, b, c = np.swapaxes(triangles, 0, 1)
        d, e, f = (a + b) / 2, (b + c) / 2, (c + a) / 2
        triangles = np.concatenate([np.stack(t, axis=1) for t in ((a, d, f), (d, b, e), (f, e, c), (d, e, f))])
    return np.asarray(triangles, np.float32)


def test_small_triangles_share_surfels() -> None:
    ball = trimesh.creation.icosphere(5)
    surfaces = caster(Mesh("ball", ball.triangles, materials=Material().row()))
    cache = LightCache(surfaces, surfels=256)
    assert len(cache.indirect) // 2 < 1500 < len(ball.triangles)
    # What shares a surfel lies close together and faces one way.
    first = cache._first
    normals = ball.face_normals
    for surfel in np.unique(first)[::97]:
        group = normals[first == surfel]
        assert (group @ group[0] > 0.2).all()


def test_a_convex_body_does_not_light_itself_whatever_its_vertex_normals() -> None:
    # Of few facets, with normals that lean up to 30 degrees away from them.
    body = ball(0.4, Material(0.9), detail=1)
    scene = Scene((body, Light((0, -2, 2)).mesh()), (Camera.from_angles(20, 25, 1.8, fov=40),))
    lit = RayCaster.lit(scene)
    image = lit.features(scene.cameras[0], 24, 24)
    # Nothing else is there but the lamp, which sends a little back.
    assert image[..., RGB.indirect].max() < 1e-3 * image[..., RGB.direct].max()


def test_what_lies_hidden_under_a_fine_mesh_does_not_stand_for_it() -> None:
    corners = np.float32([[-0.5, -0.5, 0], [0.5, -0.5, 0], [0.5, 0.5, 0], [-0.5, 0.5, 0]])
    sheet = corners[[[0, 1, 2], [0, 2, 3]]]
    white = Material(0.6).row()
    blanket = Mesh("blanket", subdivide_times(sheet, 7), materials=white)
    mattress = Mesh("mattress", subdivide_times(sheet - np.float32([0, 0, 0.004]), 6), materials=white)
    scene = Scene((blanket, mattress, Light((0.3, -0.2, 1.5)).mesh()))
    surfaces = RayCaster.lit(scene)
    x, y = np.random.default_rng(0).uniform(-0.45, 0.45, (2, 4000)).astype(np.float32)
    above = np.stack([x, y, np.full_like(x, 0.5)], axis=1)
    down = np.tile(np.float32([0, 0, -1]), (len(x), 1))
    seen, _ = surfaces.solved.seen_along(above, down)
    hits, _ = surfaces.hits(above, down)
    expected = 0.6 * surfaces.irradiance(hits, 4, np.zeros(len(x), np.int64))
    assert seen.mean() == pytest.approx(expected.mean(), rel=0.03)


def test_scenes_without_light_or_area_are_black() -> None:
    dark = caster(box(1.0, Material()))
    dark.light_up()
    assert dark.cache is not None
    assert not dark.cache.indirect.any()
    line = caster(Mesh("line", np.array([[[0, 0, 0], [1, 0, 0], [2, 0, 0]]], float), materials=Material().row()))
    line.light_up()
    picture = line.features(Camera.from_angles(), 8, 8)
    assert np.isfinite(picture).all()


def test_progress_reaches_the_end() -> None:
    scene = room()
    surfaces = RayCaster.of(scene)
    steps: list[tuple[int, int]] = []
    surfaces.light_up(lambda done, total: steps.append((done, total)))
    assert steps
    assert all(0 < done <= total for done, total in steps)


def test_a_network_draws_only_where_one_is_asked_for_or_named(goldens: Path) -> None:
    assert Renderer.from_pretrained().name == "light cache"
    assert Renderer.from_pretrained(network=True, device="cpu").name == "embedded"
    assert Renderer.from_pretrained(goldens / "base_like", device="cpu").name == str(goldens / "base_like")


def test_without_a_network_no_model_is_taken_and_no_range_is_left() -> None:
    renderer = Renderer.from_pretrained(network=False)
    assert renderer.check(room()) == []
    image = renderer.render(room(), (20, 12))[0]
    assert image.hdr.shape == (12, 20, 3)
    assert image.metadata["model"] == "light cache"
    with pytest.raises(InputError, match="without a network, model 'x' is not used; leave it out"):
        Renderer.from_pretrained("x", network=False)
    with pytest.raises(InputError, match="without a network, device 'cuda' is not used"):
        Renderer.from_pretrained(device="cuda")


def test_the_gather_covers_pictures_of_any_size() -> None:
    scene = room()
    surfaces = RayCaster.of(scene)
    surfaces.light_up()
    for width, height in ((1, 1), (7, 5), (9, 6)):
        image = surfaces.features(scene.cameras[0], width, height)
        assert np.isfinite(image).all()
        assert (image[..., RGB.indirect_irradiance] > 0).all()
    with ThreadPoolExecutor(2) as pool:
        assert pool.submit(surfaces.features, scene.cameras[0], 8, 8).result().shape == (8, 8, RGB.total)
