"""Surfaces with an appearance as rays meet them: footprints, masks, blended surfaces, normal maps; and as meshes."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from renderformer.data.appearance import Appearance
from renderformer.data.camera import Camera
from renderformer.data.colour import srgb_to_linear
from renderformer.data.geometry.subdivide import subdivide
from renderformer.data.geometry.tangents import corner_tangents
from renderformer.data.material import DIFFUSE, EMISSION, Material, Textures
from renderformer.data.rays import veil
from renderformer.data.rays.bumps import GRAZING, upright
from renderformer.data.rays.channels import RGB
from renderformer.data.rays.raycast import RayCaster
from renderformer.data.scene import Light, Mesh, Scene
from renderformer.data.texture import Texture

SQUARE = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], np.float32)
# The image upright, seen from +Z.
UV = np.array([[0, 1], [1, 1], [1, 0], [0, 0]], np.float32)
HALVES = [[0, 1, 2], [0, 2, 3]]
BLACK, WHITE = np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 255, np.uint8)


def plane(
    material: Material, height: float = 0.0, name: str = "plane", size: float = 1.0, repeats: float = 1.0, **more: Any
) -> Mesh:
    """A square that faces +Z."""
    corners = SQUARE * np.array([size, size, 1], np.float32) + np.array([0, 0, height], np.float32)
    return Mesh(name, corners[HALVES], appearance=Appearance.of(material, repeats * UV[HALVES]), **more)


def masked(alpha: np.ndarray, colour: int = 255) -> Texture:
    """A grey picture with an alpha channel (H, W) of 0 and 1."""
    pixels = np.full((*alpha.shape, 4), colour, np.uint8)
    pixels[..., 3] = 255 * alpha
    return Texture(pixels, wrap=("clamp", "clamp"))


def cut_out(alpha: np.ndarray, **factors: Any) -> Material:
    factors = {"diffuse": (0.5, 0.5, 0.5), "alpha_cutoff": 0.5} | factors
    return Material(textures=Textures(base=masked(alpha)), **factors)


def down(x: Any, y: Any, height: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Rays that fall on places of the squares."""
    places = np.broadcast_arrays(np.asarray(x, np.float32), np.asarray(y, np.float32))
    origins = np.stack([*places, np.full(places[0].shape, height, np.float32)], axis=-1)
    return origins, np.broadcast_to(np.array([0, 0, -1], np.float32), origins.shape)


def colours(caster: RayCaster, camera: Camera, width: int = 48, height: int = 48) -> np.ndarray:
    image = caster.features(camera, width, height)
    return np.asarray(np.sum([image[..., part] for part in RGB.light], axis=0))


# Footprints


def test_a_texture_is_averaged_over_what_a_ray_stands_for() -> None:
    """Stripes of one pixel: a thin ray sees one of them, a wide one their mean, a lobe the mean of what it meets."""
    stripes = np.repeat((np.arange(256) % 2 * 255).astype(np.uint8)[None, :, None], 256, axis=0)
    picture = Texture(np.repeat(stripes, 3, axis=2))
    caster = RayCaster.of(Scene((plane(Material((1.0, 1.0, 1.0), textures=Textures(base=picture))),)))
    x = (np.arange(20, 220) + 0.5) / 128 - 1
    _, sharp = caster.hits(*down(x, 0.1))
    assert_allclose(sharp[:, 0], np.arange(200) % 2, atol=1e-4)
    _, wide = caster.hits(*down(x, 0.1), 0.1)
    assert_allclose(wide[:, DIFFUSE], 0.5, atol=0.01)
    _, near = caster.hits(*down(x, 0.1), 0.0, np.full(200, 0.1, np.float32))
    assert_allclose(near[:, DIFFUSE], 0.5, atol=0.01)


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), wrap=st.sampled_from(["repeat", "clamp", "mirror"]))
def test_every_level_has_the_mean_of_the_picture(seed: int, wrap: Any) -> None:
    """Images of any size are halved by areas; the coarsest level is the mean."""
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (int(random.integers(1, 40)), int(random.integers(1, 40)), 3)).astype(np.uint8)
    picture = Texture(pixels, srgb=False, wrap=(wrap, wrap))
    last = picture.sample(np.array([[0.3, 0.6]]), float(picture.depth))
    assert_allclose(last[0], pixels.mean(axis=(0, 1)) / 255, atol=0.02)
    # On a middle level, the mean over the picture is still the same.
    if max(pixels.shape[:2]) > 8 and wrap == "repeat":
        places = np.stack(np.meshgrid(*2 * [(np.arange(64) + 0.5) / 64]), axis=-1).reshape(-1, 2)
        mean = picture.sample(places, np.full(len(places), 1.4)).mean(axis=0)
        assert_allclose(mean, pixels.mean(axis=(0, 1)) / 255, atol=0.02)


def test_invisible_pixels_do_not_colour_the_visible_ones() -> None:
    """Averages weigh colours by alpha."""
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[::2, ::2] = (200, 100, 50, 255)
    found = Texture(pixels, srgb=False).sample(np.array([[0.4, 0.4]]), 2.0)
    assert_allclose(found, [[200 / 255, 100 / 255, 50 / 255, 0.25]], atol=0.02)


def test_a_border_of_a_repeated_texture_does_not_show() -> None:
    """Along a line across the wrap border of a smooth periodic texture the colour stays smooth, on any level."""
    wave = 0.5 + 0.4 * np.sin(2 * np.pi * (np.arange(64) + 0.5) / 64)
    pixels = np.repeat(np.rint(255 * wave)[None, :, None], 64, axis=0).repeat(3, axis=2).astype(np.uint8)
    x = np.linspace(-0.3, 0.3, 400)
    for level in (0.0, 1.3, 2.0):
        values = Texture(pixels, srgb=False).sample(np.stack([x, 0 * x + 0.4], axis=1), np.full(400, level))[:, 0]
        assert np.abs(np.diff(values)).max() < 0.4 * 2 * np.pi * 0.6 / 400 * 1.6


# Masks and blended surfaces


def test_a_mask_lets_rays_and_light_through_its_holes() -> None:
    hole = np.ones((16, 16))
    hole[:, 8:] = 0
    caster = RayCaster.of(Scene((plane(cut_out(hole)), plane(Material((0.2, 0.2, 0.2)), -1.0, "below"))))
    x = np.linspace(-0.95, 0.95, 40)
    hits, _ = caster.hits(*down(x, 0.3))
    assert_array_equal(hits.triangle < 2, x < 0)
    assert_allclose(hits.position[:, 2], np.where(x < 0, 0, -1), atol=1e-6)
    origins, directions = down(x, 0.3)
    free = caster.visible(origins, origins + np.float32(1.5) * directions)
    assert_array_equal(free, x > 0)
    assert_array_equal(caster.transmitted(origins, origins + np.float32(1.5) * directions), x > 0)


def scene_with_holes(leaf: Mesh) -> Scene:
    floor = plane(Material((0.7, 0.7, 0.7)), -0.6, "floor", 1.5)
    light = Light((0.4, -0.5, 1.6), (0.0, 0.0, 0.0), 0.3, 40.0).mesh()
    return Scene((leaf, floor, light), (Camera.look_at((0.6, -2.4, 1.4), (0.0, 0.0, -0.3), fov=50.0),))


def test_a_mask_looks_like_a_mesh_that_is_cut_out() -> None:
    """Itself and its shadow: a comb, whose teeth end at borders of pixels."""
    comb = np.zeros((16, 16))
    comb[:4] = 1
    comb[:, [1, 2, 6, 7, 11, 12]] = 1
    cells = []
    for row, column in zip(*np.nonzero(comb), strict=True):
        x, y = column / 8 - 1, 1 - row / 8
        corners = np.array([[x, y - 1 / 8, 0], [x + 1 / 8, y - 1 / 8, 0], [x + 1 / 8, y, 0], [x, y, 0]], np.float32)
        cells.append(corners[HALVES])
    solid = Mesh("leaf", np.concatenate(cells), materials=Material((0.5, 0.5, 0.5)).row())
    # Sharp edges, because a threshold rounds the corners of pixels.
    fine = np.kron(comb, np.ones((16, 16)))
    pictures = []
    for leaf in (plane(cut_out(fine), name="leaf"), solid):
        scene = scene_with_holes(leaf)
        caster = RayCaster.of(scene)
        caster.light_up()
        pictures.append(colours(caster, scene.cameras[0], 64, 64))
    error = pictures[0] - pictures[1]
    assert np.sqrt((error**2).mean()) < 0.01 * pictures[1].max()
    assert pictures[0].mean() == pytest.approx(pictures[1].mean(), rel=0.01)


def panes(*alphas: float) -> RayCaster:
    """Panes one below the other over a floor."""
    surfaces = [plane(Material((0.5, 0.5, 0.5), alpha=alpha), -0.1 * i, f"pane{i}") for i, alpha in enumerate(alphas)]
    return RayCaster.of(Scene((*surfaces, plane(Material((0.2, 0.2, 0.2)), -1.0, "floor"))))


def test_panes_let_their_share_of_light_through() -> None:
    caster = panes(0.5, 0.2, 0.6)
    x, y = np.random.default_rng(0).uniform(-0.9, 0.9, (2, 4000))
    origins, directions = down(x, y)
    ends = origins + np.float32(1.8) * directions
    assert_allclose(caster.transmitted(origins, ends), 0.5 * 0.8 * 0.4, rtol=1e-5)
    assert caster.visible(origins, ends).mean() == pytest.approx(0.16, abs=0.02)
    assert_allclose(caster.met(origins, directions), 1)
    _, triangle, _ = caster.first(origins, directions)
    shares = np.bincount(triangle // 2, minlength=4) / len(x)
    assert_allclose(shares, [0.5, 0.1, 0.24, 0.16], atol=0.025)
    # The sieve is fixed, whatever rays are cast together.
    assert_array_equal(caster.first(origins[1000:1100], directions[1000:1100])[1], triangle[1000:1100])


def test_layers_are_drawn_over_one_another() -> None:
    caster = panes(0.5, 0.2)
    origins, directions = down(np.linspace(-0.5, 0.5, 7), 0.2)
    found = [(hits.triangle // 2, share) for hits, _, share in caster.layers(origins, directions, 0.0)]
    assert [int(number[0]) for number, _ in found] == [0, 1, 2]
    assert_allclose([share for _, share in found], np.outer([0.5, 0.1, 0.4], np.ones(7)), rtol=1e-5)


def test_a_picture_of_panes_has_the_mixed_colours() -> None:
    """Emission alone, which can be summed by hand; beside the floor, nothing is behind the panes."""
    one = Material((0.0, 0.0, 0.0), emission=(1.0, 0.0, 0.0), alpha=0.25)
    two = Material((0.0, 0.0, 0.0), emission=(0.0, 1.0, 0.0), alpha=0.5)
    floor = plane(Material((0.0, 0.0, 0.0), emission=(0.0, 0.0, 1.0)), -0.5, "floor", 0.5)
    scene = Scene((plane(one, 0.0, "one"), plane(two, -0.2, "two"), floor))
    camera = Camera.look_at((0.0, 0.0, 3.0), (0.0, 0.0, 0.0), (0.0, 1.0, 0.0), fov=50.0)
    image = RayCaster.of(scene).features(camera, 33, 33)
    assert_allclose(image[16, 16, RGB.emission], [0.25, 0.375, 0.375], rtol=1e-5)
    assert_allclose(image[16, 16, RGB.mask], 1, rtol=1e-5)
    assert_allclose(image[16, 6, RGB.emission], [0.25, 0.375, 0], rtol=1e-5)
    assert_allclose(image[16, 6, RGB.mask], 0.625, rtol=1e-5)
    assert image[0, 0, RGB.mask] == 0


def test_vertex_colours_have_alpha() -> None:
    colors = np.ones((2, 3, 4), np.float32)
    colors[..., 3] = 0.3
    colors[..., 0] = 0.5
    mesh = plane(Material((1.0, 1.0, 1.0)))
    assert mesh.appearance is not None
    mesh = replace(mesh, appearance=replace(mesh.appearance, colors=colors), materials=None)  # type: ignore[arg-type]
    assert_allclose(mesh.materials[:, 0], 0.5)
    caster = RayCaster.of(Scene((mesh,)))
    origins, directions = down(np.linspace(-0.5, 0.5, 7), 0.2)
    assert_allclose(caster.met(origins, directions), 0.3, rtol=1e-5)


def test_too_many_layers_are_told() -> None:
    nothing = cut_out(np.zeros((4, 4)))
    sheets = [plane(nothing, -0.01 * i, f"sheet{i}") for i in range(veil.LAYERS + 5)]
    caster = RayCaster.of(Scene((*sheets, plane(Material(), -2.0, "floor"))))
    assert caster.notes == ()
    caster.first(*down([0.1], [0.2]))
    (note,) = caster.notes
    assert str(veil.LAYERS) in note


def test_opaque_surfaces_are_not_searched_for_holes() -> None:
    textured = Material((1.0, 1.0, 1.0), textures=Textures(base=Texture(WHITE)), alpha_cutoff=0.5)
    caster = RayCaster.of(Scene((plane(textured),)))
    assert caster.visible(*down([0.1], [0.2])).dtype == bool
    assert caster.seen_type is bool


# Normal maps


def bumpy(vector: tuple[float, float, float], **factors: Any) -> Material:
    """A normal map that turns all normals alike; in 8 bits."""
    unit = np.asarray(vector) / np.linalg.norm(vector)
    pixels = np.broadcast_to(np.rint((unit * 0.5 + 0.5) * 255).astype(np.uint8), (4, 4, 3)).copy()
    return Material((0.5, 0.5, 0.5), textures=Textures(normal=Texture(pixels, srgb=False)), **factors)


def turned(mesh: Mesh, up: float = 1.0) -> np.ndarray:
    """(3,) shading normal of the middle of a mesh that a ray along -Z, or +Z, meets."""
    origins, directions = down([0.1], [0.2], up)
    hits, _ = RayCaster.of(Scene((mesh,))).hits(origins, np.float32(up) * directions)
    return np.asarray(hits.normal[0])


def test_red_turns_to_the_right_and_green_up() -> None:
    right, up = turned(plane(bumpy((1, 0, 2)))), turned(plane(bumpy((0, 1, 2))))
    assert_allclose(right, np.array([1, 0, 2]) / 5**0.5, atol=0.01)
    assert_allclose(up, np.array([0, 1, 2]) / 5**0.5, atol=0.01)
    scaled = turned(plane(bumpy((1, 0, 2), normal_scale=-0.5)))
    assert_allclose(scaled, np.array([-1, 0, 4]) / 17**0.5, atol=0.01)
    # From behind all is seen the other way round.
    assert_allclose(turned(plane(bumpy((1, 0, 2))), -1.0), np.array([-1, 0, -2]) / 5**0.5, atol=0.01)


def test_a_mirrored_image_has_its_bumps_mirrored() -> None:
    mesh = plane(bumpy((1, 1, 2)))
    assert mesh.appearance is not None
    mirrored = replace(mesh.appearance, uv=mesh.appearance.uv * np.array([-1, 1], np.float32))
    assert_allclose(turned(replace(mesh, appearance=mirrored)), np.array([-1, 1, 2]) / 6**0.5, atol=0.01)


def test_tangents_of_the_file_are_used() -> None:
    mesh = plane(bumpy((1, 0, 2)))
    assert mesh.appearance is not None
    tangents = np.broadcast_to(np.array([0, 1, 0, -1], np.float32), (2, 3, 4))
    given = replace(mesh, appearance=replace(mesh.appearance, tangents=tangents))
    assert_allclose(turned(given), np.array([0, 1, 2]) / 5**0.5, atol=0.01)
    zero = replace(mesh, appearance=replace(mesh.appearance, tangents=0 * tangents))
    assert_allclose(turned(zero), turned(mesh), atol=1e-6)


@pytest.mark.parametrize("mirroring", [1.0, -1.0])
@pytest.mark.parametrize("given_tangents", [False, True])
def test_bumps_move_with_the_mesh(mirroring: float, given_tangents: bool) -> None:
    mesh = plane(bumpy((1, 2, 4)))
    assert mesh.appearance is not None
    if given_tangents:
        tangents = np.broadcast_to(np.array([1, 0, 0, 1], np.float32), (2, 3, 4))
        mesh = replace(mesh, appearance=replace(mesh.appearance, tangents=tangents))
    angle = 0.7
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    matrix[:3, 0] *= mirroring
    expected = matrix[:3, :3] @ turned(mesh)
    assert_allclose(turned(mesh.transformed(matrix)), expected, atol=1e-5)
    cut, _ = subdivide(mesh.transformed(matrix), 0.5)
    assert len(cut) > 8
    assert_allclose(turned(cut), expected, atol=1e-5)


def test_tangents_of_a_sphere_point_east() -> None:
    """Longitude and latitude as texture coordinates; the tangents of smooth vertices are exact by symmetry."""
    longitude, latitude = np.linspace(0, 2, 9), np.linspace(-0.6, 0.6, 7)
    grid = np.stack(np.meshgrid(longitude, latitude), axis=-1)
    quads = np.stack([grid[:-1, :-1], grid[:-1, 1:], grid[1:, 1:], grid[1:, :-1]], axis=2).reshape(-1, 4, 2)
    corners = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    east, north = corners[..., 0], corners[..., 1]
    normals = np.stack([np.cos(north) * np.cos(east), np.cos(north) * np.sin(east), np.sin(north)], axis=-1)
    tangents = corner_tangents(normals, normals, np.stack([east, -north], axis=-1))
    expected = np.stack([-np.sin(east), np.cos(east), 0 * east], axis=-1)
    inside = (east > 0.2) & (east < 1.8) & (np.abs(north) < 0.5)
    assert_allclose(tangents[inside][:, :3], expected[inside], atol=0.03)
    assert_array_equal(tangents[..., 3], 1)
    assert_allclose((tangents[..., :3] * normals).sum(axis=-1), 0, atol=1e-6)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=30)
def test_no_mapped_normal_makes_a_black_point(seed: int) -> None:
    """The viewer sees the front of the normal, and the mirrored ray leaves the surface; usable normals stay."""
    random = np.random.default_rng(seed)
    face, outgoing, mapped = (np.asfortranarray(random.normal(size=(300, 3)), np.float32) for _ in range(3))
    for vectors in (face, outgoing, mapped):
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    outgoing *= np.sign((outgoing * face).sum(axis=1, keepdims=True))
    before = mapped.copy()
    after = upright(mapped, face, outgoing)
    cosine, flat = (after * outgoing).sum(axis=1), (face * outgoing).sum(axis=1)
    mirrored = 2 * cosine * (after * face).sum(axis=1) - flat
    least = np.minimum(GRAZING, 0.9 * flat) - 1e-5
    assert (cosine >= least).all()
    assert (mirrored >= least).all()
    cosine = (before * outgoing).sum(axis=1)
    fine = (cosine > GRAZING + 1e-4) & (2 * cosine * (before * face).sum(axis=1) - flat > GRAZING + 1e-4)
    assert_array_equal(after[fine], before[fine])


# Lights, operations, documentation


def test_the_example_of_the_documentation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[1] / "docs" / "formats.md").read_text()
    (code,) = re.findall(r"```python\n(.*?Appearance.*?)```", text, re.DOTALL)
    for name in ("cloth", "weave"):
        Image.fromarray(np.full((4, 4, 3), (200, 128, 255), np.uint8)).save(tmp_path / f"{name}.png")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(code, names)
    assert_allclose(names["mesh"].materials[0, 0], srgb_to_linear(200 / 255), rtol=1e-3)
    assert names["mesh"].appearance.materials[0].textures.normal is not None


def test_noise_in_a_black_texture_is_no_light() -> None:
    noise = np.random.default_rng(0).integers(0, 3, (16, 16, 3)).astype(np.uint8)
    lamp = noise.copy()
    lamp[4:6, 4:6] = 255
    dark, lit = (
        plane(Material(emission=(5.0, 5.0, 5.0), textures=Textures(emission=Texture(picture))))
        for picture in (noise, lamp)
    )
    assert not dark.emits
    assert lit.emits
    # The mean over all pixels.
    power = np.mean(lit.materials[:, EMISSION])
    assert power == pytest.approx(5 * 4 / 256, rel=0.1)


def test_the_mean_of_a_mask_is_that_of_what_is_left() -> None:
    """A bright half on a black, invisible ground: the row has its colour, and as a light it is half as strong."""
    pixels = np.zeros((32, 32, 4), np.uint8)
    pixels[:, :16] = 255
    picture = Texture(pixels, wrap=("clamp", "clamp"))
    material = Material((0.8, 0.8, 0.8), emission=(2.0, 2.0, 2.0), alpha_cutoff=0.5, textures=Textures(base=picture))
    rows = plane(material).materials
    assert_allclose(rows[:, DIFFUSE], 0.8, atol=0.08)
    assert_allclose(rows[:, EMISSION].mean(axis=0), 1, atol=0.1)


def test_patches_and_appearances_are_drawn_in_one_scene() -> None:
    """An object of an H5 scene with a patch over one that lets rays pass."""
    patches = np.zeros((1, 13, 32, 32), np.float16)
    patches[0, 0] = np.linspace(0, 1, 32)[:, None]
    brought = Mesh("brought", SQUARE[HALVES], materials=Material((0.0, 0.0, 0.0)), patches=patches, patch_index=[0, -1])  # type: ignore[arg-type]
    caster = RayCaster.of(Scene((brought, plane(Material((0.9, 0.9, 0.9), alpha=0.5), 0.5, "pane"))))
    origins, directions = down([0.5], [-0.5])
    (_, pane, share), (_, below, _) = caster.layers(origins, directions, 0.0)
    assert_allclose(share, 0.5)
    assert_allclose(pane[:, 0], 0.9)
    # Corner 1 is at the right: three quarters of the way, less a quarter toward corner 2.
    assert_allclose(below[:, 0], 0.5, atol=0.03)


def test_a_turned_over_mesh_keeps_its_picture() -> None:
    steps = np.zeros((32, 32, 3), np.uint8)
    steps[:, :16, 0], steps[:16, :, 1] = 255, 255
    mesh = plane(Material((1.0, 1.0, 1.0), textures=Textures(base=Texture(steps))))
    mirrored = mesh.transformed(np.diag([-1.0, 1.0, 1.0, 1.0]))
    x, y = np.meshgrid([-0.6, -0.2, 0.3, 0.7], [-0.7, -0.3, 0.2, 0.6])
    before = RayCaster.of(Scene((mesh,))).hits(*down(x.ravel(), y.ravel()))[1]
    after = RayCaster.of(Scene((mirrored,))).hits(*down(-x.ravel(), y.ravel()))[1]
    assert_allclose(after, before, atol=1e-6)
    assert len(np.unique(before[:, :2], axis=0)) == 4
