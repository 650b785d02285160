"""Reference pictures against closed forms, independent ray casting and a second integrator."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from helpers.shapes import ball, box

from renderformer.data.camera import Camera
from renderformer.data.errors import InputError
from renderformer.data.geometry.stages import stage_meshes
from renderformer.data.rays.channels import RGB
from renderformer.data.rays.raycast import RayCaster
from renderformer.data.scene import DIFFUSE, EMISSION, ROUGHNESS, SPECULAR, Light, Material, Mesh, Scene

pytest.importorskip("mitsuba", reason="reference pictures need Mitsuba: pip install renderformer[reference]")

from renderformer.data.sets.mitsuba import ReferenceScene, render_reference
from renderformer.data.unit_size import UnitSize

FLOOR = stage_meshes("floor", divisions=2)[0]
DOWN = Camera.look_at((0.0, 0.0, 1.0), (0.0, 0.0, -0.5), up=(0.0, 1.0, 0.0), fov=30)


Array = npt.NDArray[np.float64]


@pytest.mark.parametrize(
    ("material", "expected"),
    [
        (Material((0.6, 0.3, 0.1)), (0.6, 0.3, 0.1)),
        # At this roughness the lobe loses no light, so the two lobes add up.
        (Material((0.3, 0.2, 0.1), (0.5, 0.5, 0.5), 0.05), (0.8, 0.7, 0.6)),
        (Material((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 0.05), (1.0, 1.0, 1.0)),
    ],
)
def test_white_furnace_shows_the_albedo(material: Material, expected: tuple[float, float, float]) -> None:
    white = Material((0.0, 0.0, 0.0), emission=(1.0, 1.0, 1.0))
    furnace = Mesh("furnace", box(6.0, white).triangles[:, ::-1], materials=white.row())
    camera = Camera.look_at((0.0, -2.0, 0.0), fov=5)
    picture = render_reference(Scene((ball(0.3, material, detail=3), furnace)), camera, 8, 8, spp=256, depth=3)
    assert picture.mean(axis=(0, 1)) == pytest.approx(expected, rel=0.02)


def lambert_irradiance(point: Array, corners: Array) -> float:
    """Lambert's closed form for a polygon of radiance 1 above an upward surface."""
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


def contour_form_factor(source: Array, target: Array) -> float:
    """Form factor between two triangles (3, 3) that are fully visible to each other, as an integral over the contours:
    F = 1 / (2 pi A) of the double line integral of ln r ds.dt (Stokes applied to both areas)."""
    nodes, weights = np.polynomial.legendre.leggauss(24)
    nodes, weights = (nodes + 1) / 2, weights / 2
    total = 0.0
    for a, b in zip(source, np.roll(source, -1, axis=0), strict=True):
        for c, d in zip(target, np.roll(target, -1, axis=0), strict=True):
            s, t = a + nodes[:, None] * (b - a), c + nodes[:, None] * (d - c)
            distance = np.linalg.norm(s[:, None] - t[None], axis=-1)
            total += float(weights @ np.log(distance) @ weights) * float((b - a) @ (d - c))
    area = np.linalg.norm(np.cross(source[1] - source[0], source[2] - source[0])) / 2
    return abs(total) / (2 * np.pi * area)


def test_light_between_two_triangles_is_their_form_factor() -> None:
    facing = np.array([[-0.3, -0.2, -0.5], [0.35, -0.1, -0.5], [0.0, 0.4, -0.5]], np.float32)
    light = np.array([[0.5, -0.2, 0.1], [0.2, 0.6, 0.3], [0.7, 0.3, -0.2]], np.float32)
    radiance, albedo = 7.0, 0.6
    lamp = Mesh("lamp", light[None], materials=Material(0.0, emission=(radiance,) * 3).row())
    lit, glowing = (
        render_reference(
            Scene((Mesh("receiver", facing[None], materials=material.row()), *others)), DOWN, 24, 24, 1024, d
        )
        for material, others, d in (
            (Material(albedo), (lamp,), 2),
            # The share of each pixel that the receiver covers.
            (Material(0.0, emission=(1.0, 1.0, 1.0)), (), 1),
        )
    )
    lit = lit * (glowing > 0)
    expected = albedo * radiance * contour_form_factor(facing.astype(float), light.astype(float))
    assert lit[..., 0].sum() / glowing[..., 0].sum() == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(("width", "height", "fov"), [(64, 64, 33.0), (48, 31, 33.0), (40, 56, 55.0)])
def test_pixels_are_where_our_features_have_them_to_a_tenth(width: int, height: int, fov: float) -> None:
    target = box(0.5, Material((0.0, 0.0, 0.0), emission=(1.0, 1.0, 1.0)))
    camera = Camera.look_at((0.3, -1.6, 0.4), (-0.1, 0.05, -0.15), fov=fov)
    picture = ReferenceScene(Scene((target,)), depth=1).render(camera, width, height, spp=256)[..., 0]
    # The mask does not depend on lights, so there is none.
    ours = RayCaster(target.triangles, target.normals, np.zeros_like(target.materials))
    features = ours.features(camera, width, height, antialias=16, refine=1)[..., RGB.mask][..., 0]
    assert np.abs(picture - features).max() < 0.1
    # The shift from one picture to the other, by least squares over the edges.
    down, right = np.gradient(features)
    slopes = np.stack([right.ravel(), down.ravel()], axis=1)
    shift, *_ = np.linalg.lstsq(slopes, (features - picture).ravel(), rcond=None)
    assert np.abs(shift).max() < 0.02
    # The method measures a known shift.
    aside = ours.features(turned(camera, 0.1, height), width, height, antialias=16, refine=1)[..., RGB.mask][..., 0]
    measured, *_ = np.linalg.lstsq(slopes, (features - aside).ravel(), rcond=None)
    assert abs(measured[0]) == pytest.approx(0.1, rel=0.3)


def turned(camera: Camera, pixels: float, height: int) -> Camera:
    """The camera, turned about its vertical axis by this many pixels at the centre of the picture."""
    angle = np.arctan(pixels * 2 / height * np.tan(np.radians(camera.fov) / 2))
    turn = np.eye(4, dtype=np.float32)
    turn[0, 0] = turn[2, 2] = np.cos(angle)
    turn[0, 2], turn[2, 0] = np.sin(angle), -np.sin(angle)
    return Camera(camera.c2w @ turn, camera.fov)


def ggx_and_diffuse(rows: Array, normal: Array, to: Array, out: Array) -> Array:
    """(S, 3) reflection of light from `to` toward `out`, per solid angle, times the cosine: textbook GGX with the
    separable masking of Smith and no Fresnel term, plus Lambert; 0 below the surface."""
    half = to + out
    half /= np.linalg.norm(half, axis=1, keepdims=True)
    cos_to, cos_out, cos_half = (np.einsum("sk,sk->s", normal, v) for v in (to, out, half))
    squared = np.maximum(rows[:, ROUGHNESS] ** 4, 1e-6)
    density = squared / (np.pi * (cos_half**2 * (squared - 1) + 1) ** 2)

    def masking(cosine: Array) -> Array:
        tangent = (1 - cosine**2) / np.maximum(cosine, 1e-6) ** 2
        return 2 / (1 + np.sqrt(1 + squared * tangent))

    gloss = density * masking(cos_to) * masking(cos_out) / (4 * np.maximum(cos_to * cos_out, 1e-6))
    reflectance = rows[:, DIFFUSE] / np.pi + rows[:, SPECULAR] * gloss[:, None]
    return np.where(((cos_to > 0) & (cos_out > 0))[:, None], reflectance * np.maximum(cos_to, 0)[:, None], 0.0)


def traced_mean(scene: Scene, camera: Camera, samples: int, depth: int) -> Array:
    """(3,) mean radiance of a square picture by a path tracer independent of Mitsuba's: it samples a random point of
    the only light at every hit and a cosine-distributed next direction, without multiple importance sampling."""
    from trimesh import Trimesh
    from trimesh.ray.ray_pyembree import RayMeshIntersector

    rng = np.random.default_rng(1)
    corners, rows = scene.triangles.astype(float), scene.materials.astype(float)
    edges = corners[:, 1:] - corners[:, :1]
    face = np.cross(edges[:, 0], edges[:, 1])
    area = np.linalg.norm(face, axis=1) / 2
    face /= 2 * area[:, None]
    (lamp,) = np.flatnonzero(rows[:, EMISSION].max(axis=1) > 0)
    mesh = Trimesh(corners.reshape(-1, 3), np.arange(3 * len(corners)).reshape(-1, 3), process=False)
    rays = RayMeshIntersector(mesh)

    def meet(origin: Array, direction: Array) -> tuple[npt.NDArray[np.intp], Array]:
        triangle = rays.intersects_first(origin, direction)
        n = face[triangle]
        t = np.einsum("sk,sk->s", corners[triangle, 0] - origin, n) / np.einsum("sk,sk->s", direction, n)
        return triangle, origin + t[:, None] * direction

    wide = np.tan(np.radians(camera.fov) / 2)
    plane = np.concatenate([rng.uniform(-wide, wide, (samples, 2)), -np.ones((samples, 1))], axis=1)
    direction = plane @ camera.c2w[:3, :3].T.astype(float)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    origin, weight, total = np.tile(camera.position.astype(float), (samples, 1)), np.ones((samples, 3)), np.zeros(3)
    # The last segment of a path goes to the light.
    for bounce in range(depth - 1):
        triangle, point = meet(origin, direction)
        if bounce == 0:
            total += (triangle == lamp).sum() * rows[lamp, EMISSION]
        keep = (triangle >= 0) & (triangle != lamp)
        triangle, point, out, weight = triangle[keep], point[keep], -direction[keep], weight[keep]
        normal = face[triangle] * np.sign(np.einsum("sk,sk->s", face[triangle], out))[:, None]
        origin = point + 1e-5 * normal
        u, v = np.sort(rng.random((2, len(point))), axis=0)
        # Uniform over the triangle: the gaps between two sorted numbers are uniform weights of the corners.
        toward = corners[lamp, 0] + u[:, None] * edges[lamp, 0] + (v - u)[:, None] * edges[lamp, 1] - origin
        distance = np.linalg.norm(toward, axis=1)
        toward /= distance[:, None]
        visible = rays.intersects_first(origin, toward) == lamp
        facing = np.maximum(-toward @ face[lamp], 0) * area[lamp] / distance**2 * visible
        light = weight * ggx_and_diffuse(rows[triangle], normal, toward, out) * facing[:, None]
        total += light.sum(axis=0) * rows[lamp, EMISSION]
        # Normal plus a point of the unit sphere is distributed as the cosine.
        ball = rng.normal(size=normal.shape)
        direction = normal + ball / np.linalg.norm(ball, axis=1, keepdims=True)
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        cosine = np.einsum("sk,sk->s", direction, normal)
        weight = weight * ggx_and_diffuse(rows[triangle], normal, direction, out) * (np.pi / cosine)[:, None]
    return total / samples


@pytest.mark.parametrize("depth", [2, 5])
def test_energy_is_that_of_a_second_integrator(depth: int) -> None:
    walls = {
        "floor": Material((0.3, 0.25, 0.2), (0.4, 0.4, 0.4), 0.5),
        "wall_left": Material((0.7, 0.05, 0.05)),
        "wall_back": Material((0.6, 0.6, 0.6)),
        "wall_right": Material((0.1, 0.5, 0.1), (0.2, 0.2, 0.2), 0.7),
    }
    block = box(0.4, Material((0.5, 0.5, 0.1), (0.3, 0.3, 0.3), 0.6)).transformed(
        [[0.8, -0.6, 0, 0.1], [0.6, 0.8, 0, 0], [0, 0, 1, -0.29], [0, 0, 0, 1]]
    )
    # Near and bright, so that half of the light is indirect.
    light = Light((0.1, -0.7, 0.9), size=0.5, emission=20.0)
    scene = Scene((*stage_meshes("box", materials=walls), block, light.mesh()))
    camera = Camera.look_at((0.2, -1.6, 0.5), (0.0, 0.0, -0.15), fov=36)
    ours = traced_mean(scene, camera, 120_000, depth)
    theirs = render_reference(scene, camera, 32, 32, spp=256, depth=depth).mean(axis=(0, 1))
    assert ours == pytest.approx(theirs, rel=0.01)


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


def test_lights_shine_from_their_front_or_from_both_sides() -> None:
    light = Light((0.5, -0.5, 2.0), emission=2000.0).mesh()
    away = replace(light, triangles=light.triangles[:, ::-1], normals=-light.normals)
    both = replace(away, two_sided=True)
    toward, dark, halves = (
        render_reference(Scene((FLOOR, mesh)), DOWN, 8, 8, spp=64, depth=2) for mesh in (light, away, both)
    )
    assert toward.min() > 0.1
    assert not dark.any()
    assert halves == pytest.approx(toward, rel=0.05)
    # Seen from either side, too, and by the front of the other half.
    above, below = (
        render_reference(Scene((both,)), Camera.look_at((0.5, -0.5, z), (0.5, -0.5, 2.0), up=(0, 1, 0)), 9, 9, 4, 1)
        for z in (2.2, 1.8)
    )
    assert above[4, 4] == pytest.approx([2000.0] * 3)
    assert below[4, 4] == pytest.approx([2000.0] * 3)


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


def test_guides_are_the_albedo_and_the_normal_of_the_first_surface() -> None:
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


def test_unsupported_scenes_are_refused() -> None:
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


def test_an_error_names_the_command_that_installs_mitsuba(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mitsuba", None)
    with pytest.raises(InputError, match=r"pip install 'renderformer\[reference\]'"):
        render_reference(Scene((FLOOR,)), DOWN)


def test_a_reference_does_not_depend_on_the_unit() -> None:
    """Twenty kilometres, where a camera of fixed clipping distances would see nothing."""
    floor = Mesh("floor", np.float32([[[-1, -1, 0], [1, -1, 0], [1, 1, 0]], [[-1, -1, 0], [1, 1, 0], [-1, 1, 0]]]) / 2)
    small = Scene((floor, Light((0, 0, 2.0)).mesh()), (Camera.from_angles(0, 30, 1.7, fov=40),))
    large = UnitSize(2e4, (1.0, 2.0, 0.0)).scene(small)
    near, far = (ReferenceScene(scene, 3).render(scene.cameras[0], 24, 24, 64) for scene in (small, large))
    assert near.mean() > 0.05
    np.testing.assert_allclose(far.mean(), near.mean(), rtol=0.02)
