"""Pictures of textures, vertex colours, transparency and normal maps against those of a path tracer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from renderformer.data.appearance import Appearance
from renderformer.data.camera import Camera
from renderformer.data.errors import InputError
from renderformer.data.material import Material, Textures
from renderformer.data.rays.channels import RGB
from renderformer.data.rays.raycast import RayCaster
from renderformer.data.scene import Light, Mesh, Scene
from renderformer.data.texture import Texture

pytest.importorskip("mitsuba", reason="reference pictures need Mitsuba: pip install renderformer[reference]")

from renderformer.data.sets.mitsuba import ReferenceScene, render_reference

SIZE = 64
SQUARE = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], np.float32)
UV = np.array([[0, 1], [1, 1], [1, 0], [0, 0]], np.float32)
HALVES = [[0, 1, 2], [0, 2, 3]]
GREY = Material((0.7, 0.7, 0.7))
CAMERA = Camera.look_at((0.3, -2.4, 1.6), (0.0, 0.0, 0.2), fov=45.0)


def plane(
    material: Material,
    height: float = 0.0,
    size: float = 1.0,
    name: str = "plane",
    colors: Any = None,
    repeats: float = 1,
) -> Mesh:
    corners = SQUARE * np.array([size, size, 1], np.float32) + np.array([0, 0, height], np.float32)
    color = None if colors is None else np.asarray(colors, np.float32)[HALVES]
    return Mesh(name, corners[HALVES], appearance=Appearance.of(material, repeats * UV[HALVES], color))


def lamp(position: tuple[float, float, float] = (0.8, -1.2, 2.2)) -> Mesh:
    return Light(position, (0.0, 0.0, 0.2), 0.8, 20.0).mesh()


def tiles() -> np.ndarray:
    """16 tiles of which two have colours that tell up and right apart."""
    steps = np.indices((64, 64)) // 16
    pixels = np.where((steps.sum(axis=0) % 2)[..., None], (230, 220, 210), (40, 60, 120)).astype(np.uint8)
    pixels[:16, :16], pixels[:16, 48:] = (255, 0, 0), (0, 255, 0)
    return pixels


def humps() -> np.ndarray:
    """A normal map of 16 spherical humps."""
    y, x = (np.mgrid[:128, :128] / 32) % 1 * 2 - 1
    inside = np.hypot(x, y) < 0.9
    normal = np.stack([np.where(inside, 0.6 * x, 0), np.where(inside, -0.6 * y, 0), np.ones_like(x)], axis=-1)
    normal[..., 2] = np.sqrt(1 - normal[..., 0] ** 2 - normal[..., 1] ** 2)
    return np.rint((normal / 2 + 0.5) * 255).astype(np.uint8)


def leaf() -> np.ndarray:
    y, x = np.mgrid[:128, :128] / 63.5 - 1
    pixels = np.zeros((128, 128, 4), np.uint8)
    pixels[..., :3] = np.where((np.abs(x) < 0.05)[..., None], (200, 220, 90), (60, 140, 40))
    pixels[..., 3] = 255 * (np.abs(x) < 0.8 * (1 - y**2) * (1 - 0.3 * y))
    return pixels


def shine() -> Texture:
    """Roughness from left to right, metal below."""
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:, :32, 1], pixels[:, 32:, 1], pixels[32:, :, 2] = 140, 220, 255
    return Texture(pixels, srgb=False)


def textured() -> Scene:
    floor = plane(Material((1.0, 1.0, 1.0), textures=Textures(base=Texture(tiles()))), repeats=1.5)
    return Scene((floor, lamp()), (CAMERA,))


def metallic() -> Scene:
    textures = Textures(base=Texture(tiles()), metallic_roughness=shine())
    wall = Mesh("wall", np.array([[[-1, 1, 0], [1, 1, 0], [1, 1, 1]], [[-1, 1, 0], [1, 1, 1], [-1, 1, 1]]], np.float32))
    floor = plane(Material((0.9, 0.9, 0.9), (0.04, 0.04, 0.04), 1.0, metallic=1.0, textures=textures))
    return Scene((floor, wall, lamp()), (CAMERA,))


def normal_mapped() -> Scene:
    """Lit from the side, and once mirrored."""
    map_ = Texture(humps(), srgb=False)
    floor = plane(Material((0.8, 0.8, 0.8), textures=Textures(normal=map_), normal_scale=0.8))
    assert floor.appearance is not None
    uv = floor.appearance.uv.copy()
    uv[1, :, 0, 0] *= -1
    floor = replace(floor, appearance=replace(floor.appearance, uv=uv))
    return Scene((floor, lamp((-1.6, 0.0, 0.8))), (CAMERA,))


def masked() -> Scene:
    picture = Texture(leaf(), wrap=("clamp", "clamp"))
    material = Material((1.0, 1.0, 1.0), alpha_cutoff=0.5, textures=Textures(base=picture))
    return Scene((plane(material, 0.6, 0.6, "leaf"), plane(GREY), lamp()), (CAMERA,))


def blended() -> Scene:
    floor = plane(Material((0.7, 0.7, 0.7), textures=Textures(base=Texture(tiles()))))
    return Scene((plane(Material((0.9, 0.2, 0.1), alpha=0.4), 0.6, 0.6, "pane"), floor, lamp()), (CAMERA,))


def coloured() -> Scene:
    colors = [[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 1, 1], [1, 1, 1, 0.2]]
    sheet = plane(Material((0.9, 0.9, 0.9)), 0.4, 0.6, "sheet", colors)
    return Scene((sheet, plane(GREY), lamp()), (CAMERA,))


def glowing() -> Scene:
    screen = plane(Material((0.0, 0.0, 0.0), emission=(3.0, 3.0, 3.0), textures=Textures(emission=Texture(tiles()))))
    upright = np.array([[1, 0, 0, 0], [0, 0, -1, 0.9], [0, 1, 0, 0.6], [0, 0, 0, 1]]) @ np.diag([0.8, 0.5, 1, 1])
    return Scene((replace(screen.transformed(upright), name="screen"), plane(GREY)), (CAMERA,))


def difference(scene: Scene, samples: int = 128) -> tuple[float, float]:
    """PSNR, white at nearly the brightest, and the ratio of the means of our picture and Mitsuba's."""
    caster = RayCaster.of(scene)
    caster.light_up()
    image = caster.features(scene.cameras[0], SIZE, SIZE)
    ours = np.sum([image[..., part] for part in RGB.light], axis=0)
    theirs = ReferenceScene(scene, 6).render(scene.cameras[0], SIZE, SIZE, samples)
    white = np.quantile(theirs, 0.995)
    error = np.clip(ours / white, 0, 1) - np.clip(theirs / white, 0, 1)
    return float(-10 * np.log10((error**2).mean())), float(ours.mean() / theirs.mean())


@pytest.mark.parametrize(
    ("scene", "least"),
    [
        (textured, 45), (metallic, 35), (normal_mapped, 40), (masked, 37), (blended, 40), (coloured, 36), (glowing, 42),
    ],
)  # fmt: skip
def test_our_picture_is_that_of_a_path_tracer(scene: Any, least: float) -> None:
    psnr, ratio = difference(scene())
    assert psnr > least
    assert ratio == pytest.approx(1, abs=0.03)


def test_textures_that_mitsuba_cannot_combine_are_refused() -> None:
    other = replace(shine(), matrix=2 * np.eye(2, 3))
    moved = Material(metallic=1.0, textures=Textures(base=Texture(tiles()), metallic_roughness=other))
    mixed = Material(textures=Textures(base=Texture(tiles(), wrap=("repeat", "clamp"))))
    with pytest.raises(InputError, match="lie in different ways"):
        render_reference(Scene((plane(moved), lamp())), CAMERA)
    with pytest.raises(InputError, match="wrap differently"):
        render_reference(Scene((plane(mixed), lamp())), CAMERA)
    both = plane(Material(textures=Textures(base=Texture(tiles()))), colors=np.ones((4, 4)))
    with pytest.raises(InputError, match="together"):
        render_reference(Scene((both, lamp())), CAMERA)
