"""Layers beside a picture: against independent ray casting, for every kind of model, in files and for a denoiser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import pytest
import torch
from helpers.intersection import first_hits
from helpers.models import DENSE, SHADING
from helpers.shapes import ball, box

from renderformer import buffers
from renderformer.aovs import AOVS
from renderformer.checkpoints import build_model
from renderformer.config import config_from_dict
from renderformer.data.appearance import Appearance
from renderformer.data.camera import Camera
from renderformer.data.environment import Environment
from renderformer.data.errors import InputError
from renderformer.data.material import Textures
from renderformer.data.scene import Light, Material, Mesh, Scene
from renderformer.data.texture import Texture
from renderformer.image import Image
from renderformer.renderer import Renderer

LIGHT = ("direct", "indirect", "highlight", "reflection", "emission", "background")
# Width and height.
SIZE = (37, 23)
MODELS: dict[str, dict[str, Any] | None] = {
    "rays alone": None,
    "V1": DENSE,
    "extension": {**DENSE, **SHADING, "light_tokens": 40},
}


def renderer(kind: str = "rays alone") -> Renderer:
    config = MODELS[kind]
    if config is None:
        return Renderer.from_pretrained(network=False)
    torch.manual_seed(0)
    return Renderer(build_model(config_from_dict(config)), device="cpu")


def scene(scale: float = 1.0, shift: tuple[float, float, float] = (0, 0, 0), **changes: Any) -> Scene:
    objects = (
        box((1, 1, 0.02), Material((0.8, 0.8, 0.8)), (0, 0, -0.31), "floor"),
        ball(0.25, Material((0.6, 0.1, 0.1), 0.3, 0.2), (0.1, 0, -0.05)),
        Light((0.7, -0.9, 1.9)).mesh(),
    )
    matrix = np.diag([scale, scale, scale, 1.0])
    matrix[:3, 3] = shift
    camera = Camera.from_angles(20, 25, 1.9, fov=40).transformed(matrix)
    return Scene(tuple(mesh.transformed(matrix) for mesh in objects), (camera,), **changes)


def draw(world: Scene, *aovs: str, kind: str = "rays alone", size: tuple[int, int] = SIZE) -> Image:
    (image,) = renderer(kind).render(world, size, aovs=aovs)
    assert set(image.layers) == set(aovs)
    return image


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize(("scale", "shift"), [(1.0, (0, 0, 0)), (500.0, (4000.0, -2000.0, 700.0))])
def test_what_a_pixel_shows_is_what_the_ray_through_its_middle_meets(
    kind: str, scale: float, shift: tuple[float, float, float]
) -> None:
    world = scene(scale, shift)
    layers = draw(world, "depth", "position", "object", "triangle", kind=kind).layers
    camera = world.cameras[0]
    x, y = np.meshgrid(np.arange(SIZE[0]) + 0.5, np.arange(SIZE[1]) + 0.5)
    rays = camera.rays(x.ravel(), y.ravel(), *SIZE).T
    distance, triangle = first_hits(camera.position, rays, world.triangles)
    hit = triangle >= 0
    assert 0.2 < hit.mean() < 0.9
    # Rays along an edge may meet either triangle.
    same = layers["triangle"].ravel() == triangle + 1
    assert same.mean() > 0.99
    assert (layers["triangle"].ravel()[~hit & same] == 0).all()
    np.testing.assert_allclose(layers["depth"].ravel()[hit & same], distance[hit & same], rtol=1e-4)
    assert (layers["depth"].ravel()[~hit & same] == buffers.NOTHING).all()
    points = camera.position + distance[hit & same, None] * rays[hit & same]
    np.testing.assert_allclose(layers["position"].reshape(-1, 3)[hit & same], points, atol=2e-4 * scale, rtol=1e-6)
    of_triangle = np.repeat([1, 2, 3], [len(mesh) for mesh in world.objects])
    assert (layers["object"].ravel()[hit & same] == of_triangle[triangle[hit & same]]).all()


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("background", [None, "visible", "transparent", (0.2, 0.1, 0.0)])
def test_the_layers_of_light_add_up_to_the_picture(kind: str, background: Any) -> None:
    environment = None if background is None else Environment((0.3, 0.4, 0.5), background=background)
    image = draw(scene(environment=environment), *LIGHT, kind=kind)
    total = np.sum([image.layers[name] for name in LIGHT], axis=0)
    # Sums of float32 are as exact as their largest part.
    largest = max(np.abs(image.layers[name]).max() for name in LIGHT)
    np.testing.assert_allclose(total, image.flat(), rtol=1e-5, atol=1e-6 * max(1, largest))
    seen = (background == "visible" and kind != "V1") or isinstance(background, tuple)
    assert image.layers["background"].any() == seen
    assert (image.alpha is not None) == (background not in (None, "visible"))


def test_indirect_light_is_what_other_surfaces_send() -> None:
    alone = Scene((box(0.4, Material((0.8, 0.8, 0.8))), Light((0.7, -0.9, 1.9)).mesh()), scene().cameras)
    lit = draw(alone, "direct", "indirect").layers
    # The lamp sends some of it back.
    assert lit["indirect"].max() < 0.01 * lit["direct"].max()
    layers = draw(scene(), "direct", "indirect", "albedo").layers
    floor = np.isclose(layers["albedo"], 0.8, rtol=1e-3).all(axis=2)
    assert floor.sum() > 20
    # A red ball on a white floor.
    near = layers["indirect"][floor].max(axis=0)
    assert near[0] > 2 * near[1] > 0
    assert np.ptp(layers["direct"][floor], axis=1).max() < 1e-5


@pytest.mark.parametrize("kind", MODELS)
def test_normals_are_of_the_world_and_albedo_is_what_a_surface_sends_back(kind: str) -> None:
    layers = draw(scene(), "normal", "albedo", "object", kind=kind).layers
    floor = np.abs(layers["normal"] - [0, 0, 1]).max(axis=2) < 1e-4
    assert floor.mean() > 0.1
    assert (layers["object"][floor] == 1).all()
    np.testing.assert_allclose(layers["albedo"][floor], 0.8, rtol=1e-3)
    whole = np.isclose(np.linalg.norm(layers["normal"], axis=2), 1, atol=0.02) & (layers["object"] == 2)
    np.testing.assert_allclose(np.median(layers["albedo"][whole], axis=0), [0.9, 0.4, 0.4], rtol=1e-3)
    assert (layers["normal"][0, 0], layers["albedo"][0, 0]) == (pytest.approx(0), pytest.approx(0))


def test_holes_show_what_is_behind_them() -> None:
    corners = np.float32([[-1, 0, -1], [1, 0, -1], [1, 0, 1], [-1, 0, 1]])
    uv = np.float32([[0, 1], [1, 1], [1, 0], [0, 0]])
    pixels = np.full((2, 2, 4), 255, np.uint8)
    pixels[:, 0, 3] = 0
    material = Material(textures=Textures(base=Texture(pixels)), alpha_cutoff=0.5)
    faces = [[0, 1, 2], [0, 2, 3]]
    look = Appearance((material,), np.zeros(2, np.int32), uv[faces])
    fence = Mesh("fence", corners[faces], appearance=look)
    wall = Mesh("wall", corners[faces] + np.float32([0, 1, 0]))
    image = draw(Scene((fence, wall), (Camera.look_at((0, -3, 0), (0, 0, 0), fov=15),)), "object", "depth")
    assert (image.layers["object"][:, :17] == 2).all()
    assert (image.layers["object"][:, 20:] == 1).all()
    np.testing.assert_allclose(image.layers["depth"][:, [0, -1]], [[4, 3]] * SIZE[1], rtol=1e-5)


def test_an_exr_names_its_layers_by_convention_and_keeps_what_is_no_light_exact(tmp_path: Path) -> None:
    image = draw(scene(), *AOVS)
    assert image.save(tmp_path / "a.exr", exposure=1) == []
    with OpenEXR.File(str(tmp_path / "a.exr"), separate_channels=True) as file:
        planes = {name: channel.pixels.copy() for name, channel in file.channels().items()}
    colours = [f"{name}.{letter}" for name in ("albedo", *LIGHT) for letter in "RGB"]
    vectors = [f"{name}.{letter}" for name in ("normal", "position") for letter in "XYZ"]
    assert set(planes) == {*"RGB", *colours, *vectors, "depth.Z", "object.X", "triangle.X"}
    exact = {name for name, plane in planes.items() if plane.dtype == np.float32}
    assert exact == {"depth.Z", "object.X", "triangle.X", "position.X", "position.Y", "position.Z"}
    for name in exact:
        layer = np.atleast_3d(image.layers[name.split(".")[0]])
        assert np.array_equal(planes[name], layer[..., 0 if layer.shape[2] == 1 else "XYZ".index(name[-1])])
    # Exposure is of the light alone.
    np.testing.assert_allclose(planes["direct.G"], 2 * image.layers["direct"][..., 1], rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(planes["albedo.G"], image.layers["albedo"][..., 1], rtol=1e-3)
    back = Image.load(tmp_path / "a.exr")
    assert set(back.layers) == set(AOVS)
    assert np.array_equal(back.layers["position"], image.layers["position"])
    assert back.metadata["objects"] == '["floor", "ball", "light"]'


def test_a_transparent_background_leaves_alpha_and_layers_in_the_files(tmp_path: Path) -> None:
    image = draw(scene(environment=Environment(0.0, background="transparent")), "depth", "direct")
    assert image.save(tmp_path / "a.exr") == []
    back = Image.load(tmp_path / "a.exr")
    assert back.alpha is not None
    nothing = back.layers["depth"] == buffers.NOTHING
    assert back.alpha[nothing].mean() < 0.1 < 0.9 < back.alpha[~nothing].mean()
    from PIL import Image as Pillow

    image.suited(tmp_path / "a.png").save(tmp_path / "a.png")
    with Pillow.open(tmp_path / "a.png") as file:
        assert file.mode == "RGBA"
        assert np.abs(np.asarray(file)[..., 3] / 255 - back.alpha).max() < 0.01


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".npy"])
def test_a_file_without_room_for_layers_says_so(tmp_path: Path, suffix: str) -> None:
    image = Image(np.ones((2, 3, 3), np.float32), layers={"depth": np.ones((2, 3), np.float32)})
    (note,) = image.save(tmp_path / f"a{suffix}")
    assert "no layers; write an .exr" in note
    assert image.suited(tmp_path / f"a{suffix}").save(tmp_path / f"a{suffix}") == []
    assert image.suited(tmp_path / "a.exr") is image


def test_light_that_is_too_bright_for_half_floats_is_counted_by_layer(tmp_path: Path) -> None:
    bright = np.zeros((2, 3, 3), np.float32)
    bright[0, 0] = 1e6
    image = Image(np.zeros_like(bright), layers={"emission": bright, "position": bright})
    (note,) = image.save(tmp_path / "a.exr")
    assert "layer emission: 1 pixels exceed 65504" in note
    back = Image.load(tmp_path / "a.exr")
    assert (back.layers["emission"].max(), back.layers["position"].max()) == (65504, 1e6)


def test_wrong_layers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for aovs, words in ((("colour",), "'colour' is unknown; there are depth"), ("depth", "give a sequence of names")):
        with pytest.raises(InputError, match=words):
            renderer().render(scene(), 8, aovs=aovs)
    black = np.zeros((2, 3, 3), np.float32)
    for name, values in (("depth", black), ("normal", black[..., 0]), ("colour", black)):
        with pytest.raises(InputError, match=name):
            Image(black, layers={name: values})
    monkeypatch.setattr(buffers, "MAX_NUMBER", 100)
    with pytest.raises(InputError, match="can number 100 triangles, the scene has 33"):
        renderer().render(scene(), 8, aovs=("triangle",))


def test_albedo_and_normal_guide_a_denoiser() -> None:
    pytest.importorskip("pyoidn", reason="needs the extra `denoise`")
    pytest.importorskip("mitsuba", reason="needs the extra `reference`")
    from renderformer.data.sets.mitsuba import ReferenceScene
    from renderformer.evaluation.equal_time import Denoiser

    checks = np.kron(np.indices((8, 8)).sum(axis=0) % 2, np.ones((4, 4)))[..., None] * [180, 120, 60] + 60
    floor = np.float32([[-1, -1, -0.3], [1, -1, -0.3], [1, 1, -0.3], [-1, 1, -0.3]])[[[0, 1, 2], [0, 2, 3]]]
    uv = np.float32([[0, 1], [1, 1], [1, 0], [0, 0]])[[[0, 1, 2], [0, 2, 3]]]
    picture = Texture(checks.astype(np.uint8))
    look = Appearance((Material((1.0, 1.0, 1.0), textures=Textures(base=picture)),), np.zeros(2, np.int32), uv)
    world = scene()
    world = world.replace(objects=(Mesh("floor", floor, appearance=look), *world.objects[1:]))
    camera, path_traced = world.cameras[0], ReferenceScene(world)
    noisy, truth = (path_traced.render(camera, 64, 64, spp, seed=spp) for spp in (2, 100))
    layers = draw(world, "albedo", "normal", size=(64, 64)).layers

    def error(guides: Any) -> float:
        return float(np.abs(np.clip(Denoiser()(noisy, guides), 0, 1) - np.clip(truth, 0, 1)).mean())

    ours, theirs = error((layers["albedo"], layers["normal"])), error(path_traced.guides(camera, 64, 64, 16))
    assert ours < 0.92 * error(None)
    assert ours < 1.05 * theirs
