"""Feature images: hits against brute force, light against path tracing, alignment, determinism."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.intersection import first_hits
from helpers.shapes import ball

from renderformer.data.appearance import Appearance
from renderformer.data.camera import Camera
from renderformer.data.rays import direct, pixels, tree
from renderformer.data.rays.backdrop import coverage
from renderformer.data.rays.channels import RGB
from renderformer.data.rays.embree import Hits
from renderformer.data.rays.lights import triangle_samples
from renderformer.data.rays.raycast import RayCaster
from renderformer.data.rays.specular import specular
from renderformer.data.scene import EMISSION, Light, Material, Mesh, Scene

CORNERS = 0.5 * np.array([[-1, -1, -1], [1, -1, -1], [1, 1, -1], [-1, 1, -1]], np.float32)
FLOOR = CORNERS[[[0, 1, 2], [0, 2, 3]]]


def ball_scene(roughness: float = 0.4, specular: float = 0.3) -> Scene:
    paint = Material((0.5, 0.2, 0.1), specular, roughness)
    objects = (
        Mesh("floor", FLOOR, materials=Material(0.6).row()),
        ball(0.3, paint, (0, 0, -0.15)),
        Light((0.8, -0.8, 1.9)).mesh(),
    )
    return Scene(objects, (Camera.from_angles(20, 25, 1.8, fov=40),))


def caster(scene: Scene) -> RayCaster:
    return RayCaster.of(scene)


def test_primary_hits_agree_with_brute_force() -> None:
    scene = ball_scene()
    camera = scene.cameras[0]
    width, height = 33, 21
    image = caster(scene).features(camera, width, height, antialias=1, refine=1)
    y, x = np.mgrid[:height, :width] + 0.5
    focal = height / 2 / np.tan(np.radians(camera.fov) / 2)
    rays = np.stack([(x - width / 2) / focal, -(y - height / 2) / focal, -np.ones_like(x)], -1) @ camera.c2w[:3, :3].T
    t = first_hits(camera.position, rays.reshape(-1, 3), scene.triangles)[0].reshape(height, width)
    assert np.array_equal(image[..., 0] > 0, np.isfinite(t))
    hit = np.isfinite(t)
    depth = -image[..., RGB.position][..., 2]
    np.testing.assert_allclose(depth[hit], t[hit], rtol=1e-4)
    assert (image[..., RGB.normal][hit] @ np.array([0, 0, 1]) > -0.5).all()


def test_irradiance_is_form_factor_times_visibility_in_double_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    # Shadow rays go to fixed points as if the light were small.
    monkeypatch.setattr(direct, "LARGE", 1.0)
    scene = ball_scene()
    small = scene.objects[2]
    middle = small.triangles.mean(axis=1)
    # A large light, so much of the picture is penumbra.
    scene = scene.with_object(replace(small, triangles=middle + 5 * (small.triangles - middle), normals=None))
    camera, size, rays = scene.cameras[0], 24, 4
    surfaces = caster(scene)
    image = surfaces.features(camera, size, size, antialias=1, refine=1, shadow_rays=rays)
    hit = image[..., 0] > 0
    place = image[hit][:, RGB.position] @ camera.c2w[:3, :3].T.astype(np.float64) + camera.position
    normal = image[hit][:, RGB.normal] @ camera.c2w[:3, :3].T.astype(np.float64)
    light = scene.objects[2].triangles[0].astype(np.float64)
    start = place + 1e-3 * normal
    solid = scene.triangles[:-1].astype(np.float64)
    visible = np.zeros(len(place))
    # The pixels of a square of 2 x 2 use different points.
    rows, columns = np.nonzero(hit)
    points = (triangle_samples(4 * rays) @ light).reshape(4, rays, 3)[2 * (rows % 2) + columns % 2]
    for point in points.transpose(1, 0, 2):
        visible += first_hits(start, point - start, solid)[0] >= 1
    # The form factor as a sum over small pieces of the light.
    pieces = 1024
    toward = triangle_samples(pieces).astype(np.float64) @ light - place[:, None]
    distance2 = (toward**2).sum(axis=-1)
    across = np.cross(light[1] - light[0], light[2] - light[0]) / 2
    factor = np.maximum((toward * normal[:, None]).sum(axis=-1), 0) * np.abs(toward @ across) / distance2**2
    expected = factor.mean(axis=1) / np.pi * visible / rays * scene.materials[-1, EMISSION.start]
    irradiance = image[hit][:, RGB.irradiance.start]
    assert len(irradiance) > 150
    # A shadow's border may fall on either side of a ray, which starts at another offset here.
    assert np.isclose(irradiance, expected, rtol=5e-3, atol=1e-3 * expected.max()).mean() > 0.97


def test_neighbouring_pixels_err_by_turns_in_a_penumbra() -> None:
    # The few points on a tube would leave bands, in which neighbours err alike and their mean as much as each.
    tube = np.array([[[-0.8, -0.02, 0.6], [0.8, 0.02, 0.6], [0.8, -0.02, 0.6]]], np.float32)
    board = 0.4 * FLOOR + np.float32([0, 0, 0.1])
    objects = (
        Mesh("floor", FLOOR, materials=Material(0.6).row()),
        Mesh("board", board, materials=Material(0.6).row()),
        Mesh("tube", tube, materials=Material(0.0, emission=20.0).row()),
    )
    scene = Scene(objects, (Camera.look_at((0, -0.9, 0.3), (0, 0, -0.5), fov=50),))
    few, many = (
        caster(scene).features(scene.cameras[0], 32, 32, refine=1, shadow_rays=rays)[..., RGB.irradiance.start]
        for rays in (2, 256)
    )
    error = few - many
    of_four = error.reshape(16, 2, 16, 2).mean(axis=(1, 3))
    assert np.sqrt((of_four**2).mean()) < 0.75 * np.sqrt((error**2).mean())


@pytest.mark.parametrize("roughness", [0.15, 0.5, 1.0])
def test_direct_light_agrees_with_path_tracing(roughness: float) -> None:
    pytest.importorskip("mitsuba", reason="needs the extra `reference`")
    from renderformer.data.sets.mitsuba import render_reference

    scene = ball_scene(roughness)
    image = caster(scene).features(scene.cameras[0], 64, 64, antialias=4)
    direct = image[..., RGB.direct] + image[..., RGB.highlight] + image[..., RGB.emission]
    reference = render_reference(scene, scene.cameras[0], 64, 64, spp=256, depth=2)
    assert direct.mean() == pytest.approx(reference.mean(), rel=0.01)
    error = np.clip(direct, 0, 1) ** (1 / 2.2) - np.clip(reference, 0, 1) ** (1 / 2.2)
    assert -10 * np.log10((error**2).mean()) > 36


def test_reflection_shows_the_lit_floor_in_a_mirror() -> None:
    # A mirror above the floor, seen from below: every pixel is the floor's direct light times the specular albedo.
    mirror = Mesh("mirror", FLOOR[:, ::-1] * 0.2 + np.float32([0, 0, 0.4]), materials=Material(0, 0.8, 0.0).row())
    floor = Mesh("floor", FLOOR, materials=Material(0.5).row())
    scene = Scene((floor, mirror, Light((0.3, 0.5, 2.0)).mesh()))
    camera = Camera.look_at((0, -0.15, -0.1), (0, 0, 0.3), fov=10)
    image = caster(scene).features(camera, 9, 9)
    assert (image[..., RGB.specular] > 0.79).all()
    # The middle ray leaves the mirror at (0, 0, 0.3) and comes down at (0, 0.3, -0.5).
    hits, _ = caster(scene).hits(np.array([[0, 0.3, 0]], np.float32), np.array([[0, 0, -1]], np.float32))
    floor_light = caster(scene).irradiance(hits, 64, np.zeros(1, np.int64))[0]
    np.testing.assert_allclose(image[4, 4, RGB.reflection], 0.8 * 0.5 * floor_light, rtol=0.02)
    assert (image[..., RGB.highlight] == 0).all()


def test_features_do_not_depend_on_threads() -> None:
    scene = ball_scene()
    surfaces = caster(scene)
    plain = surfaces.features(scene.cameras[0], 45, 30, threads=1)
    assert np.array_equal(plain, surfaces.features(scene.cameras[0], 45, 30, threads=3))


def test_systems_that_do_not_tell_which_processors_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    # As on macOS and Windows.
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    scene = ball_scene()
    assert caster(scene).features(scene.cameras[0], 8, 8).shape == (8, 8, RGB.total)


def test_surfaces_seen_exactly_edge_on_give_numbers_without_a_warning() -> None:
    surfaces = caster(ball_scene())
    count = 16
    place = np.tile(np.array([0.3, 0.3, 0.2], np.float32), (count, 1))
    up, side = (np.tile(np.array(v, np.float32), (count, 1)) for v in ([0, 0, 1], [1, 0, 0]))
    zeros = np.zeros((count, 3), np.float32)
    hits = Hits(np.arange(count), np.zeros(count, np.int64), place, side, up, up, zeros[:, :2], zeros[:, 2])
    shiny = np.tile(Material(0.5, 0.5, 0.5).row(), (count, 1))
    with np.errstate(divide="raise", invalid="raise"):
        light = surfaces.direct(hits, 2, np.arange(count))
        highlight, reflection = specular(surfaces, hits, shiny, light, 4, np.arange(count))
    assert np.isfinite(highlight).all()
    assert np.isfinite(reflection).all()


def test_light_is_linear_in_emission() -> None:
    scene = ball_scene()
    brighter = scene.materials.copy()
    brighter[:, EMISSION] *= 4
    dim = caster(scene).features(scene.cameras[0], 24, 24)
    bright = RayCaster(scene.triangles, scene.normals, brighter).features(scene.cameras[0], 24, 24)
    for channels in (RGB.irradiance, RGB.direct, RGB.highlight, RGB.reflection):
        np.testing.assert_allclose(bright[..., channels], 4 * dim[..., channels], rtol=1e-5)
    assert dim[..., RGB.irradiance].max() > 0.1


def test_a_scene_without_lights_is_dark_and_an_empty_view_is_zero() -> None:
    scene = ball_scene()
    dark = Scene(scene.objects[:2])
    image = caster(dark).features(scene.cameras[0], 16, 16)
    assert (image[..., RGB.irradiance.start :] == 0).all()
    assert image[..., 0].max() == 1
    away = Camera.look_at((0, -2, 0), (0, -3, 0))
    assert (caster(scene).features(away, 8, 8) == 0).all()


def test_patches_colour_hits_by_their_place_in_the_triangle() -> None:
    # Diffuse red runs from 0 at corner 0 to 1 at corner 1, green toward corner 2.
    patch = np.zeros((1, 13, 32, 32), np.float16)
    i, j = np.mgrid[:32, :32] / 32
    patch[0, 0], patch[0, 1] = i, j
    triangle = np.array([[[-0.5, 0, -0.5], [0.5, 0, -0.5], [-0.5, 0, 0.5]]], np.float32)
    mesh = Mesh("t", triangle, materials=Material(0.3).row(), patches=patch, patch_index=np.zeros(1, np.int32))
    scene = Scene((mesh,))
    image = caster(scene).features(Camera.look_at((-0.2, -2, -0.2), (-0.2, 0, -0.2), fov=5), 8, 8)
    world_x = image[..., RGB.position][..., 0] - 0.2
    world_z = image[..., RGB.position][..., 1] - 0.2
    np.testing.assert_allclose(image[..., 7], world_x + 0.5, atol=0.03)
    np.testing.assert_allclose(image[..., 8], world_z + 0.5, atol=0.03)


def test_the_same_light_from_a_split_triangle() -> None:
    scene = ball_scene()
    light = scene.objects[2]
    a, b, c = light.triangles[0]
    middle = (b + c) / 2
    halves = np.array([[a, b, middle], [a, middle, c]])
    split = replace(light, triangles=halves, normals=None, materials=light.materials[0])
    halved = Scene((*scene.objects[:2], split), scene.cameras)
    whole, split_light = (caster(s).features(s.cameras[0], 32, 32) for s in (scene, halved))
    np.testing.assert_allclose(whole[..., RGB.direct].mean(), split_light[..., RGB.direct].mean(), rtol=5e-3)


def test_many_small_lights_shine_like_the_large_one_they_make_up() -> None:
    scene = ball_scene(specular=0.5, roughness=0.3)
    light = scene.objects[2]
    corners, n = light.triangles[0].astype(np.float64), 16
    grid = {(i, j): corners[0] + (corners[1] - corners[0]) * i / n + (corners[2] - corners[0]) * j / n
            for i in range(n + 1) for j in range(n + 1 - i)}  # fmt: skip
    up = [[grid[i, j], grid[i + 1, j], grid[i, j + 1]] for i in range(n) for j in range(n - i)]
    down = [[grid[i + 1, j], grid[i + 1, j + 1], grid[i, j + 1]] for i in range(n) for j in range(n - i - 1)]
    many = replace(light, triangles=np.array(up + down), normals=None, materials=light.materials[0])
    assert len(many) == 256
    single = caster(scene)
    several = caster(scene.with_object(many))
    assert len(several.lights) == 256 > direct.EVERY_LIGHT
    a, b = (surfaces.features(scene.cameras[0], 48, 48) for surfaces in (single, several))
    for channels in (RGB.irradiance, RGB.highlight):
        assert b[..., channels].mean() == pytest.approx(a[..., channels].mean(), rel=0.02)


def test_edges_are_refined_and_flat_places_are_not() -> None:
    scene = ball_scene()
    surfaces = caster(scene)
    coarse, refined, exact = (
        surfaces.features(scene.cameras[0], 48, 48, **options)
        for options in ({"refine": 1}, {}, {"antialias": 8, "refine": 1})
    )

    def error(image: np.ndarray) -> float:
        return float(np.abs(np.clip(image - exact, -1, 1)[..., RGB.direct]).mean())

    assert error(refined) < 0.6 * error(coarse)
    untouched = (refined == coarse).all(axis=-1)
    assert untouched.mean() > 0.3


def crumpled(cells: int) -> Scene:
    """A floor of 2 x cells x cells triangles, each turned elsewhere."""
    rng = np.random.default_rng(4)
    x, y = np.meshgrid(*2 * [np.linspace(-0.5, 0.5, cells + 1)], indexing="ij")
    points = np.stack([x, y, rng.normal(0, 0.5 / cells, x.shape) - 0.5], axis=-1).astype(np.float32)
    a, b, c, d = points[:-1, :-1], points[1:, :-1], points[1:, 1:], points[:-1, 1:]
    triangles = np.stack([np.stack([a, b, c], axis=2), np.stack([a, c, d], axis=2)]).reshape(-1, 3, 3)
    objects = Mesh("floor", triangles, materials=Material(0.6, 0.2, 0.4).row()), Light((0.8, -0.8, 1.9)).mesh()
    return Scene(objects, (Camera.look_at((0, 0, 1), (0, 0, -0.5), (0, 1, 0), fov=25),))


def test_a_mesh_finer_than_the_pixels_takes_fewer_rays_for_a_picture_as_good(monkeypatch: pytest.MonkeyPatch) -> None:
    rays, met = [0], tree.Tree.met

    def counted(self: tree.Tree, origins: np.ndarray, *rest: object) -> np.ndarray:
        rays[0] += len(origins)
        return met(self, origins, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(tree.Tree, "met", counted)

    def drawn(cells: int, **options: int) -> tuple[np.ndarray, int]:
        rays[0], scene = 0, crumpled(cells)
        return caster(scene).features(scene.cameras[0], 24, 24, **options), rays[0]

    (fine, fewer), (coarse, _), (exact, _) = drawn(150), drawn(6), drawn(150, antialias=12, refine=1)
    monkeypatch.setattr(pixels, "apart", lambda triangles: np.zeros(triangles.shape[1], bool))
    (before, more), (coarse_before, _) = drawn(150), drawn(6)
    assert fewer < 0.8 * more
    errors = [np.sqrt(np.square((image - exact)[..., RGB.direct]).mean()) for image in (fine, before)]
    assert errors[0] < 2 * errors[1] < 0.1 * exact[..., RGB.direct].mean()
    # Where triangles fill pixels, all is as it is for other meshes.
    assert np.array_equal(coarse, coarse_before)


def test_pixels_on_the_outline_are_covered_as_much_as_many_rays_say() -> None:
    scene = ball_scene()
    surfaces = caster(scene)
    camera = Camera.from_angles(20, 25, 2.3, fov=40)
    image, exact = (surfaces.features(camera, 96, 96, **options) for options in ({}, {"antialias": 16, "refine": 1}))
    share, true = image[..., 0], exact[..., 0]
    outline = (true > 0) & (true < 1)
    assert np.abs(share - true)[outline].mean() < 0.01
    # Too small for any of 4 x 4 rays to hit, but bright.
    barely = (true > 0.01) & (true < 0.05)
    assert barely.sum() >= 5
    assert (share[barely] > 0).all()
    for channels in (RGB.diffuse, RGB.direct):
        assert np.abs(image - exact)[..., channels][barely].mean() < 0.3 * exact[..., channels][barely].mean()
    # Geometry is that of what is hit, however little it is.
    assert np.abs(image - exact)[..., RGB.position][barely].max() < 0.05
    assert (image[share == 0] == 0).all()


def test_the_least_part_of_a_pixel_counts() -> None:
    # A wall that covers 6 thousandths of a column of pixels, a quarter wide each.
    left = 0.5 - 0.006 * 0.25
    corners = np.array([[left, 0, -5], [5, 0, -5], [5, 0, 5], [left, 0, 5]], np.float32)
    scene = Scene((Mesh("wall", corners[[[0, 1, 2], [0, 2, 3]]]), Light((0, -2, 0)).mesh()))
    camera = Camera.look_at((0, -1, 0), (0, 0, 0), fov=90)
    share = caster(scene).features(camera, 8, 8)[..., RGB.mask][..., 0]
    np.testing.assert_allclose(share[:, 5], 0.006, atol=0.003)
    assert (share[:, :5] == 0).all()
    assert (share[:, 6:] == 1).all()


def test_a_polished_floor_shows_the_light_that_a_mirror_shows() -> None:
    pytest.importorskip("mitsuba", reason="needs the extra `reference`")
    from renderformer.data.sets.mitsuba import render_reference

    metal = Material(0.0, 0.9, 0.3)
    wall = FLOOR[..., [0, 2, 1]] * np.float32([1, -1, 1])
    scene = Scene(
        (Mesh("floor", FLOOR, materials=metal.row()), Mesh("wall", wall, materials=metal.row()),
         Light((0.3, -1.2, 1.4)).mesh()),
        (Camera.from_angles(0, 35, 1.8, fov=40),),
    )  # fmt: skip
    image = caster(scene).features(scene.cameras[0], 32, 32)
    # Nothing is diffuse, so light that is not reflected once is reflected by both floor and wall.
    twice = render_reference(scene, scene.cameras[0], 32, 32, spp=256, depth=4) - render_reference(
        scene, scene.cameras[0], 32, 32, spp=256, depth=2
    )
    assert twice.mean() > 0.01
    np.testing.assert_allclose(image[..., RGB.reflection].mean(), twice.mean(), rtol=0.1)


@pytest.mark.parametrize("roughness", [0.05, 0.2])
def test_highlights_that_rough_surfaces_see_are_no_fireflies(roughness: float) -> None:
    floor = Mesh("floor", FLOOR, materials=Material(0.1, 0.6, 0.6).row())
    polished = ball(0.2, Material(0.0, 0.9, roughness), (0, 0, -0.28))
    camera = Camera.from_angles(20, 50, 1.6, fov=40)
    surfaces = caster(Scene((floor, polished, Light((0.8, -0.8, 1.2)).mesh()), (camera,)))
    few, many = (surfaces.features(camera, 48, 48, lobe_rays=rays, refine=1)[..., RGB.reflection] for rays in (4, 256))
    assert few.mean() == pytest.approx(many.mean(), rel=0.1)
    assert few.max() < 1.3 * many.max()


@pytest.mark.parametrize("tilt", [0.0, 0.02])
def test_a_lamp_thinner_than_a_pixel_is_seen_along_its_whole_length(tilt: float) -> None:
    near, far = np.float32([-0.8, 1, 0.011]), np.float32([0.8, 1, 0.011 + tilt])
    thick = np.float32([0, 0, 0.004])
    strip = np.stack([[near, far, far + thick], [near, far + thick, near + thick]])
    strip = np.concatenate([strip, strip[:, ::-1]])
    scene = Scene(
        (Mesh("lamp", strip, materials=Material(0.0, emission=5.0).row()),),
        (Camera.look_at((0, -1, 0), (0, 1, 0), fov=40),),
    )
    image = caster(scene).features(scene.cameras[0], 48, 47)[..., RGB.emission]
    # Of each column, the share of a pixel that the strip fills.
    pixel = 2 * 2 * np.tan(np.radians(20)) / 47
    np.testing.assert_allclose(image[:, 5:-5, 0].sum(axis=0), 5 * 0.004 / pixel, rtol=0.25)


def test_pixels_that_edges_cross_are_found_from_any_side() -> None:
    generator = np.random.default_rng(3)
    for _ in range(20):
        triangle = generator.uniform(-1, 1, (1, 3, 3)).astype(np.float32)
        camera = Camera.look_at(generator.uniform(-1, 1, 3) * 1.2, (0, 0, 0), fov=50)
        found = pixels.crossed(triangle, camera, 31, 23, (0, 0, 31, 23))
        weights = np.linspace(0, 1, 4000)[:, None]
        corners = triangle[0].astype(np.float64)
        points = np.concatenate([corners[i] * (1 - weights) + corners[i - 1] * weights for i in range(3)])
        local = (points - camera.position) @ camera.c2w[:3, :3]
        local = local[local[:, 2] < -1e-3]
        focal = 23 / (2 * np.tan(np.radians(25)))
        x, y = local[:, 0] / -local[:, 2] * focal + 15.5, -local[:, 1] / -local[:, 2] * focal + 11.5
        inside = (x > 0) & (x < 31) & (y > 0) & (y < 23)
        expected = np.zeros((23, 31), bool)
        expected[y[inside].astype(int), x[inside].astype(int)] = True
        assert (found | ~expected).mean() > 0.985
        assert (expected | ~found).mean() > 0.98
        assert not found.any() or (found & expected).sum() > 0.8 * found.sum()


@pytest.mark.parametrize("count", [1, 5, 400])
def test_the_tree_is_given_the_same_triangles_with_shared_corners(count: int) -> None:
    # Corners of a small grid coincide, and -0 is 0.
    triangles = np.random.default_rng(count).integers(-2, 3, (count, 3, 3)).astype(np.float32) * np.float32(-0.1)
    vertices, faces = tree.shared(triangles)
    np.testing.assert_array_equal(vertices[faces], triangles)
    assert len(vertices) <= 3 * count
    assert count < 400 or len(vertices) < 400


def test_cameras_look_through_backs_that_they_do_not_see_while_light_does_not_pass() -> None:
    # The camera and the light are behind the wall.
    wall = Mesh("wall", np.float32([[[-2, -0.6, -2], [0, -0.6, 3], [2, -0.6, -2]]]), materials=Material(0.7).row())
    objects = {mesh.name: mesh for mesh in (*ball_scene().objects, wall)}
    objects["light"] = Light((0.0, -1.9, 0.4), (0.0, 0.0, 0.0)).mesh()
    camera = Camera.look_at((0.1, -1.8, 0.3), (0, 0, -0.2), fov=40)
    turned = replace(wall, triangles=wall.triangles[:, ::-1], normals=None, camera_sides="front")
    for hidden in (replace(wall, camera_sides="front"), replace(turned, camera_sides="none")):
        scene = Scene(tuple((objects | {"wall": hidden}).values()))
        image = caster(scene).features(camera, 33, 21, antialias=1, refine=1)
        y, x = np.mgrid[:21, :33] + 0.5
        rays = camera.rays(x.reshape(-1), y.reshape(-1), 33, 21).reshape(3, -1).T
        seen = np.concatenate([mesh.triangles for name, mesh in objects.items() if name != "wall"])
        t = first_hits(camera.position, rays / np.linalg.norm(rays, axis=1)[:, None], seen)[0].reshape(21, 33)
        assert np.array_equal(image[..., 0] > 0, np.isfinite(t))
        depth = np.linalg.norm(image[..., RGB.position], axis=-1)
        np.testing.assert_allclose(depth[np.isfinite(t)], t[np.isfinite(t)], rtol=1e-4)
        # The wall's shadow lies on all of it.
        assert (image[..., RGB.irradiance] == 0).all()
        whole = caster(scene).features(camera, 33, 21)
        assert np.array_equal(np.isfinite(t) & (whole[..., 0] == 1), whole[..., 0] == 1)
    for shown in (wall, turned):
        image = caster(Scene(tuple((objects | {"wall": shown}).values()))).features(camera, 33, 21)
        assert (image[10, 16, RGB.irradiance] > 0).all()
        assert image[10, 16, RGB.diffuse] == pytest.approx(0.7)


def test_a_pane_is_seen_in_front_of_a_back_that_cameras_do_not_see() -> None:
    paint = Material((1.0, 0.0, 0.0), alpha=0.25)
    square = np.float32([[-1, 0, -1], [1, 0, -1], [1, 0, 1], [-1, 0, 1]])[[[0, 1, 2], [0, 2, 3]]]
    pane = Mesh("pane", square - [0, 0.5, 0], appearance=Appearance.of(paint, np.zeros((2, 3, 2))))
    wall = Mesh("wall", square[:, ::-1], camera_sides="front")
    behind = Mesh("behind", square * 0.5 + np.float32([0, 0.5, 0]), materials=Material((0.0, 1.0, 0.0)).row())
    camera = Camera.look_at((0, -2, 0), (0, 0, 0), fov=15)
    for objects, share in (((pane, wall, behind), 1.0), ((pane, wall), 0.25)):
        image = caster(Scene(objects)).features(camera, 8, 6)
        assert image[..., 0] == pytest.approx(share)
        assert image[..., RGB.diffuse.start + 1] == pytest.approx(0.75 if share == 1 else 0)
        assert coverage(caster(Scene(objects)), camera, 8, 6) == pytest.approx(share)
