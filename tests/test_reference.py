"""Reference pictures against closed forms and independent ray casting."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from renderformer.data.camera import Camera
from renderformer.data.errors import InputError
from renderformer.data.scene import Light, Material, Mesh, Scene
from renderformer.data.stages import stage_meshes

pytest.importorskip("mitsuba", reason="reference pictures need Mitsuba: pip install renderformer[reference]")

from renderformer.data.reference import ReferenceScene, render_reference

FLOOR = stage_meshes("floor", divisions=2)[0]
DOWN = Camera.look_at((0.0, 0.0, 1.0), (0.0, 0.0, -0.5), up=(0.0, 1.0, 0.0), fov=30)


def box(size: float, material: Material, inward: bool = False, name: str = "box") -> Mesh:
    import trimesh

    mesh = trimesh.creation.box((size, size, size))
    triangles = mesh.triangles[:, ::-1] if inward else mesh.triangles
    return Mesh(name, np.asarray(triangles, np.float32), materials=material.row())


def ball(radius: float, material: Material, centre: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Mesh:
    import trimesh

    mesh = trimesh.creation.icosphere(3, radius)
    triangles = np.asarray(mesh.triangles + np.array(centre), np.float32)
    return Mesh("ball", triangles, np.asarray(mesh.vertex_normals[mesh.faces], np.float32), material.row())


@pytest.mark.parametrize(
    ("material", "expected"),
    [
        (Material((0.6, 0.3, 0.1)), (0.6, 0.3, 0.1)),
        # A near mirror loses nothing, so the two lobes add up.
        (Material((0.3, 0.2, 0.1), (0.5, 0.5, 0.5), 0.05), (0.8, 0.7, 0.6)),
        (Material((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 0.05), (1.0, 1.0, 1.0)),
    ],
)
def test_white_furnace_shows_the_albedo(material: Material, expected: tuple[float, float, float]) -> None:
    furnace = box(6.0, Material((0.0, 0.0, 0.0), emission=(1.0, 1.0, 1.0)), inward=True, name="furnace")
    camera = Camera.look_at((0.0, -2.0, 0.0), fov=5)
    picture = render_reference(Scene((ball(0.3, material), furnace)), camera, 8, 8, spp=256, depth=3)
    assert picture.mean(axis=(0, 1)) == pytest.approx(expected, rel=0.02)


def lambert_irradiance(point: npt.NDArray[np.float64], corners: npt.NDArray[np.float64]) -> float:
    """Lambert's closed form for a polygon of radiance 1 above a surface that looks up."""
    toward = corners - point
    toward /= np.linalg.norm(toward, axis=1, keepdims=True)
    total = 0.0
    for a, b in zip(toward, np.roll(toward, -1, axis=0), strict=True):
        axis = np.cross(a, b)
        total += float(np.arccos(np.clip(a @ b, -1, 1)) * axis[2] / np.linalg.norm(axis)) / 2
    return abs(total)


def test_direct_light_is_lamberts_form_factor() -> None:
    light = Light((0.7, -0.4, 0.6), size=0.9, emission=20.0)
    picture = render_reference(Scene((FLOOR, light.mesh())), DOWN, 4, 4, spp=1024, depth=2)
    half = 1.5 * np.tan(np.radians(15))
    centres = (np.arange(4) + 0.5) / 4 * 2 * half - half
    expected = [
        [20 * 0.5 / np.pi * lambert_irradiance(np.array([x, -y, -0.5]), light.mesh().triangles[0].astype(float))
         for x in centres] for y in centres
    ]  # fmt: skip
    assert picture[..., 0] == pytest.approx(np.array(expected), rel=0.02)


@pytest.mark.parametrize(("width", "height"), [(64, 64), (48, 31)])
def test_pixels_are_where_our_camera_rays_go(width: int, height: int) -> None:
    from trimesh import Trimesh
    from trimesh.ray.ray_pyembree import RayMeshIntersector

    target = box(0.5, Material((0.0, 0.0, 0.0), emission=(1.0, 1.0, 1.0)))
    camera = Camera.look_at((0.3, -1.6, 0.4), (-0.1, 0.05, -0.15), fov=33)
    picture = ReferenceScene(Scene((target,)), depth=1).render(camera, width, height, spp=256)[..., 0]
    # 8 x 8 rays per pixel through centres at +0.5, focal length in pixels from the vertical angle.
    fine, focal = 8, height / 2 / np.tan(np.radians(camera.fov) / 2)
    x, y = ((np.arange(n * fine) + 0.5) / fine for n in (width, height))
    rays = np.stack(np.broadcast_arrays((x - width / 2) / focal, -(y[:, None] - height / 2) / focal, -1.0), axis=-1)
    rays = (rays @ camera.c2w[:3, :3].T).reshape(-1, 3)
    corners = target.triangles.reshape(-1, 3).astype(float)
    tracer = RayMeshIntersector(Trimesh(corners, np.arange(len(corners)).reshape(-1, 3), process=False))
    mask = tracer.intersects_any(np.broadcast_to(camera.position, rays.shape), rays)
    mask = mask.reshape(height, fine, width, fine).mean(axis=(1, 3))
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    for axis in (columns, rows):
        shift = (picture * axis).sum() / picture.sum() - (mask * axis).sum() / mask.sum()
        assert abs(shift) < 0.02
    # A shift by a tenth of a pixel would change edge pixels by that much.
    assert np.abs(picture - mask).max() < 0.1


def test_mirror_shows_the_light_at_its_mirror_place_and_at_full_strength() -> None:
    mirror = FLOOR.with_material(Material((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 0.01))
    light = Light((0.0, 0.5, 0.5), target=(0.0, 0.0, -0.5), size=0.6, emission=10.0)
    # The image of the light lies below the floor, at z = -1.5.
    camera = Camera.look_at((0.0, -1.0, 0.5), (0.0, 0.5, -1.5), fov=20)
    picture = render_reference(Scene((mirror, light.mesh())), camera, 33, 33, spp=256, depth=3)
    assert picture[16, 16] == pytest.approx([10.0] * 3, rel=0.02)
    assert picture[16, 0].max() < 0.5


def test_highlight_is_ggx_with_the_square_of_the_roughness() -> None:
    """At the mirror angle of a small light, in closed form: D(0) G1^2 / (4 cos^2) times the irradiance."""
    specular, roughness, angle, distance = 0.6, 0.5, np.radians(30), 2.0
    glossy = FLOOR.with_material(Material((0.0, 0.0, 0.0), (specular,) * 3, roughness))
    direction = np.array([np.sin(angle), 0.0, np.cos(angle)])
    spot = np.array([0.0, 0.0, -0.5])
    x, y, z = (float(v) for v in spot + distance * direction)
    light = Light((x, y, z), target=(0.0, 0.0, -0.5), size=0.1, emission=1000.0)
    camera = Camera.look_at((spot + 1.5 * direction * [-1, 1, 1]).tolist(), (0.0, 0.0, -0.5), fov=0.2)
    picture = render_reference(Scene((glossy, light.mesh())), camera, 4, 4, spp=256, depth=2)
    alpha, cosine = roughness**2, np.cos(angle)
    shadowing = 2 / (1 + np.sqrt(1 + (alpha * np.tan(angle)) ** 2))
    irradiance = 1000 * np.sqrt(3) / 4 * 0.1**2 * cosine / distance**2
    expected = specular * shadowing**2 / (np.pi * alpha**2) / (4 * cosine**2) * irradiance
    assert picture.mean() == pytest.approx(expected, rel=0.02)


def test_light_is_linear_and_repeatable() -> None:
    scene = Scene((FLOOR, Light((0.5, -0.5, 2.0), emission=1500.0).mesh()))
    twice = Scene((FLOOR, Light((0.5, -0.5, 2.0), emission=3000.0).mesh()))
    first = render_reference(scene, DOWN, 16, 16, spp=16, seed=3)
    assert np.array_equal(first, render_reference(scene, DOWN, 16, 16, spp=16, seed=3))
    assert not np.array_equal(first, render_reference(scene, DOWN, 16, 16, spp=16, seed=4))
    assert render_reference(twice, DOWN, 16, 16, spp=16, seed=3) == pytest.approx(2 * first, rel=1e-4)


def test_lights_are_turned_toward_the_scene() -> None:
    light = Light((0.5, -0.5, 2.0)).mesh()
    away = replace(light, triangles=light.triangles[:, ::-1], normals=-light.normals)
    pictures = [render_reference(Scene((FLOOR, mesh)), DOWN, 8, 8, spp=64, depth=2) for mesh in (light, away)]
    assert pictures[0].min() > 0.1
    assert pictures[1] == pytest.approx(pictures[0], rel=0.05)


def test_a_wall_bleeds_its_colour_onto_the_floor_only_by_indirect_light() -> None:
    red = stage_meshes("corner", materials={"wall_left": Material((0.7, 0.0, 0.0))})
    scene = Scene((*red, Light((1.0, -0.8, 1.8)).mesh()))
    camera = Camera.look_at((0.2, -0.9, 0.8), (-0.4, 0.0, -0.5), fov=3)
    direct, full = (render_reference(scene, camera, 4, 4, spp=256, depth=d).mean(axis=(0, 1)) for d in (2, 5))
    assert direct[0] == pytest.approx(direct[1], rel=1e-3)
    assert full[0] - full[1] > 0.05 * full[1]


def test_colours_per_triangle_equal_one_mesh_per_colour() -> None:
    rng = np.random.default_rng(0)
    rows = np.tile(Material((0.5, 0.5, 0.5), (0.2, 0.2, 0.2), 0.4).row(), (len(FLOOR), 1))
    rows[:, :3] = rng.uniform(0, 0.8, (len(FLOOR), 3))
    light = Light((0.5, -0.5, 2.0)).mesh()
    varied = Mesh("floor", FLOOR.triangles, FLOOR.normals, rows)
    split = [Mesh(f"part{i}", FLOOR.triangles[i : i + 1], materials=rows[i]) for i in range(len(FLOOR))]
    camera = replace(DOWN, fov=45)
    pictures = [render_reference(Scene((*m, light)), camera, 16, 16, spp=64) for m in ([varied], split)]
    assert pictures[0].std(axis=(0, 1)).min() > 0.01
    assert pictures[1] == pytest.approx(pictures[0], rel=0.1, abs=0.01)
    rough = rows.copy()
    rough[::2, 6] = 0.9
    assert (
        render_reference(Scene((Mesh("floor", FLOOR.triangles, FLOOR.normals, rough), light)), camera, 4, 4, 4).min()
        > 0
    )


def test_vertex_normals_decide_the_shading() -> None:
    light = Light((0.0, 0.0, 2.3)).mesh()
    slope = np.array([0.6, 0.0, 0.8], np.float32)
    tilted = replace(FLOOR, normals=np.broadcast_to(slope, FLOOR.normals.shape))
    flat, smooth = (render_reference(Scene((m, light)), DOWN, 1, 1, 1024, depth=2).mean() for m in (FLOOR, tilted))
    assert smooth / flat == pytest.approx(0.8, rel=0.02)


def test_guides_are_the_colour_and_the_normal_of_what_is_seen() -> None:
    wall = Mesh("wall", FLOOR.triangles, materials=Material((0.6, 0.3, 0.1)).row())
    scene = Scene((wall, Light((0.0, 0.0, 2.0)).mesh()))
    camera = Camera.look_at((0.0, 0.0, 1.0), (0.0, 0.0, -0.5), up=(0.0, 1.0, 0.0), fov=60)
    albedo, normal = ReferenceScene(scene).guides(camera, 32, 32, spp=4)
    assert albedo[16, 16] == pytest.approx((0.6, 0.3, 0.1), abs=1e-3)
    assert normal[16, 16] == pytest.approx((0, 0, 1), abs=1e-4)
    assert not albedo[0, 0].any()
    assert not normal[0, 0].any()
    mirror = Mesh("wall", FLOOR.triangles, materials=Material((0.2, 0.2, 0.2), 0.5, 0.1).row())
    assert ReferenceScene(Scene((mirror,))).guides(camera, 8, 8)[0].max() <= 1


def test_what_cannot_be_traced_is_refused() -> None:
    patches = np.zeros((1, 13, 32, 32), np.float16)
    varying = replace(FLOOR, patches=patches, patch_index=np.zeros(len(FLOOR), np.int32))
    with pytest.raises(InputError, match="texture patches"):
        ReferenceScene(Scene((varying,)))
    with pytest.raises(InputError, match=r"'floor': diffuse \+ specular is 1\.2"):
        ReferenceScene(Scene((FLOOR.with_material(Material((0.3, 0.2, 0.1), (0.9, 0.9, 0.9))),)))
    with pytest.raises(InputError, match="depth is 0"):
        ReferenceScene(Scene((FLOOR,)), depth=0)
    with pytest.raises(InputError, match="0 x 8"):
        render_reference(Scene((FLOOR,)), DOWN, 0, 8)


def test_missing_mitsuba_is_told_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mitsuba", None)
    with pytest.raises(ImportError, match=r"pip install 'renderformer\[reference\]'"):
        render_reference(Scene((FLOOR,)), DOWN)
