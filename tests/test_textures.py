"""UV textures, at points and baked into patches: orientation, colour space, sampling, large meshes."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from scipy.ndimage import map_coordinates

from renderformer.data.appearance import Appearance
from renderformer.data.colour import srgb_to_linear
from renderformer.data.errors import InputError
from renderformer.data.formats.joining import MAX_OBJECTS, joined
from renderformer.data.formats.mesh_file import load_mesh_file
from renderformer.data.formats.parts import Notes, Part
from renderformer.data.geometry.patches import MAX_PATCHES, patch_notes, patches_of, triangle_mask
from renderformer.data.material import DIFFUSE, EMISSION, ROUGHNESS, SPECULAR, Material, Textures
from renderformer.data.scene import Mesh, Scene
from renderformer.data.texture import Texture

# Wrap modes of glTF and of scipy.
WRAPS = [("repeat", "grid-wrap"), ("clamp", "nearest"), ("mirror", "reflect")]
CORNERS = np.array([[[0.1, 0.1], [0.9, 0.1], [0.1, 0.9]]])


def cloth(uv: np.ndarray, texture: Texture, **factors: Any) -> Mesh:
    """Triangles in a row with a white textured material."""
    material = Material((1.0, 1.0, 1.0), textures=Textures(base=texture), **factors)
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], np.float32)
    steps = 2 * np.arange(len(uv), dtype=np.float32)[:, None, None] * np.array([1, 0, 0], np.float32)
    return Mesh("cloth", corners + steps, appearance=Appearance.of(material, uv))


def ramp(size: int = 64) -> np.ndarray:
    """Linear picture: red grows to the right, green downward, both from 0 to 1 over the unit square; blue is 0.2."""
    steps = (np.arange(size) + 0.5) / size
    picture = np.zeros((size, size, 3))
    picture[..., 0], picture[..., 1], picture[..., 2] = steps[None], steps[:, None], 0.2
    return np.round(picture * 255).astype(np.uint8)


def test_the_mask_is_that_of_the_format() -> None:
    mask = triangle_mask()
    assert mask.shape == (32, 32)
    assert mask[0, 31]
    assert mask[16, 16]
    assert not mask[16, 17]
    assert mask.sum() == 559


def test_corner_order() -> None:
    """[0, 0] is corner 0, the first axis runs toward corner 1 (u grows), the second toward corner 2 (v grows)."""
    mesh = cloth(CORNERS, Texture(ramp(), srgb=False))
    patches, index = patches_of(mesh)
    assert patches is not None
    assert_array_equal(index, [0])
    first, second = np.nonzero(triangle_mask())
    red, green = patches[0, 0][first, second], patches[0, 1][first, second]
    assert_allclose(red, 0.1 + 0.8 * first / 32, atol=0.005)
    assert_allclose(green, 0.1 + 0.8 * second / 32, atol=0.005)
    assert (patches[:, :, ~triangle_mask()] == 0).all()
    assert_allclose(patches[0, ROUGHNESS][triangle_mask()], 0.5)
    # The row is the mean over the triangle.
    mean = patches[0][:, triangle_mask()].astype(np.float64).mean(axis=1)
    assert_allclose(mesh.materials[0], mean, atol=5e-3)


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), wrap=st.sampled_from(WRAPS))
def test_lookup_agrees_with_scipy(seed: int, wrap: tuple[str, str]) -> None:
    """Bilinear between pixel centres. scipy has the same wrap modes under other names."""
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (int(random.integers(1, 9)), int(random.integers(1, 9)), 3)).astype(np.uint8)
    uv = random.uniform(-3, 3, (50, 2))
    points = np.stack([uv[:, 1] * pixels.shape[0] - 0.5, uv[:, 0] * pixels.shape[1] - 0.5])
    linear = srgb_to_linear(pixels / 255)
    expected = np.stack([map_coordinates(linear[..., c], points, order=1, mode=wrap[1]) for c in range(3)], axis=-1)
    picture = Texture(pixels, wrap=(wrap[0], wrap[0]))  # type: ignore[arg-type]
    assert_allclose(picture.sample(uv), expected, atol=2e-5)


def test_fine_pictures_are_averaged_not_aliased() -> None:
    """A checkerboard of single pixels, far finer than a patch, is grey everywhere and so needs no patch."""
    board = np.indices((1024, 1024)).sum(axis=0) % 2 * np.uint8(255)
    mesh = cloth(CORNERS, Texture(np.repeat(board[..., None], 3, axis=2).astype(np.uint8)))
    assert patches_of(mesh)[0] is None
    assert_allclose(mesh.materials[0, DIFFUSE], 0.5, atol=0.01)


def test_only_triangles_that_vary_get_a_patch() -> None:
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:, :32] = 200
    uv = np.concatenate([CORNERS * 0.3 + 0.05, CORNERS, CORNERS * 0.3 + 0.6])
    mesh = cloth(uv, Texture(pixels))
    assert_array_equal(patches_of(mesh)[1], [-1, 0, -1])
    assert_allclose(mesh.materials[0, DIFFUSE], srgb_to_linear(200 / 255), rtol=1e-5)
    assert_allclose(mesh.materials[2, DIFFUSE], 0, atol=1e-6)


def test_bad_coordinates_leave_the_factor(tmp_path: Path) -> None:
    Image.fromarray(ramp()).save(tmp_path / "a.png")
    (tmp_path / "a.mtl").write_text("newmtl m\nKd 1 1 1\nmap_Kd a.png\n")
    triangle = "v {0} 0 0\nv {1} 0 0\nv {0} 1 0\nvt 0 0\nvt {2} 0\nvt 0 1\n"
    text = "mtllib a.mtl\nusemtl m\n" + triangle.format(0, 1, 1) + triangle.format(2, 3, 1e30)
    (tmp_path / "a.obj").write_text(text + "f 1/1 2/2 3/3\nf 4/4 5/5 6/6\n")
    scene = load_mesh_file(tmp_path / "a.obj")
    (mesh,) = scene.objects
    assert mesh.appearance is not None
    assert_array_equal(mesh.appearance.index, [0, -1])
    assert_allclose(mesh.materials[1, DIFFUSE], 1)
    assert scene.notes == ("a.obj: 1 triangles with unusable texture coordinates, texture ignored there",)


def test_too_many_triangles_get_mean_colours() -> None:
    mesh = cloth(np.repeat(CORNERS, MAX_PATCHES + 1, axis=0), Texture(ramp(8), srgb=False))
    assert patches_of(mesh)[0] is None
    assert_allclose(mesh.materials[:, 0], 0.1 + 0.8 / 3, atol=0.01)


def test_pictures_are_loaded_with_their_alpha(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 4)).astype(np.uint8)
    for mode, suffix in (("RGB", "png"), ("RGBA", "png"), ("LA", "png"), ("L", "png"), ("RGB", "tif")):
        path = tmp_path / f"{mode}.{suffix}"
        image = Image.fromarray(pixels).convert(mode)
        image.save(path)
        loaded = Texture.load(path, wrap=("clamp", "mirror"))
        assert_array_equal(loaded.pixels, np.asarray(image.convert("RGBA" if "A" in mode else "RGB")))
        assert loaded.wrap == ("clamp", "mirror")
    assert not Texture.load(path, srgb=False).srgb
    assert_allclose(
        Texture.load(path, srgb=False).sample(np.array([[0.5 / 7, 0.5 / 5]]))[0], pixels[0, 0, :3] / 255, atol=1e-6
    )
    (tmp_path / "no.png").write_bytes(b"not a picture")
    for name in ("no.png", "missing.png"):
        with pytest.raises(InputError, match=name):
            Texture.load(tmp_path / name)


def test_what_patches_do_not_show_is_told_in_one_line() -> None:
    many = cloth(np.repeat(CORNERS, MAX_PATCHES + 1, axis=0), Texture(ramp(8), srgb=False))
    normal = Texture(np.full((4, 4, 3), 128, np.uint8), srgb=False)
    material = Material(textures=Textures(normal=normal), alpha=0.5)
    both = Mesh("both", np.eye(3, dtype=np.float32)[None], appearance=Appearance.of(material, CORNERS))
    assert patch_notes(Scene((cloth(CORNERS, Texture(ramp(8))),))) == ()
    (note,) = patch_notes(Scene((many, both)))
    for part in ("1 objects with over 16,384 textured triangles", "normal maps of 1", "transparency of 1"):
        assert part in note


def test_many_textured_objects_are_joined_by_material() -> None:
    """Every triangle keeps its texture coordinates and colours; a picture is one material."""
    materials = [Material(textures=Textures(base=Texture(ramp(8)))) for _ in range(2)]
    parts = []
    for i in range(MAX_OBJECTS + 44):
        corners = np.array([[i, 0, 0], [i + 0.5, 0, 0], [i, 1, 0]], np.float64)
        uv = np.array([[i, 0], [i + 1, 0], [i, 1]], np.float64)[:, None] / 1000
        colors = np.full((3, 4), i / 1000)
        parts.append(Part(f"part {i}", corners, np.array([[0, 1, 2]]), None, uv, colors, materials[i % 2]))
    notes = Notes()
    few = joined(parts, notes)
    assert [part.material for part in few] == materials
    assert "joined to 2" in notes.lines[0]
    for part in few:
        assert part.uv is not None
        assert part.colors is not None
        assert len(part.faces) == len(parts) // 2
        x = part.vertices[part.faces][:, 0, 0]
        assert_allclose(part.uv[part.faces][:, 0, 0, 0], x / 1000)
        assert_allclose(part.colors[part.faces][:, 2, 3], x / 1000)


def quad(uv: np.ndarray) -> trimesh.Trimesh:
    mesh = trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], [[0, 1, 2], [0, 2, 3]], process=False)
    mesh.visual = trimesh.visual.TextureVisuals(uv=uv, image=Image.fromarray(ramp()))
    return mesh


# Origin at the lower left, as OBJ and trimesh have it.
UV = np.array([[0.1, 0.1], [0.9, 0.1], [0.9, 0.9], [0.1, 0.9]])


@pytest.mark.parametrize("suffix", ["obj", "glb"])
def test_textures_of_files(tmp_path: Path, suffix: str) -> None:
    """Every corner of the mesh gets the colour of the picture at its texture coordinates."""
    mesh = quad(UV)
    if suffix == "glb":
        picture = mesh.visual.material.image
        material = trimesh.visual.material.PBRMaterial(baseColorTexture=picture, metallicFactor=0.0)
        mesh.visual = trimesh.visual.TextureVisuals(uv=UV, material=material)
    mesh.export(tmp_path / f"a.{suffix}")
    (loaded,) = load_mesh_file(tmp_path / f"a.{suffix}").objects
    patches, index = patches_of(loaded)
    assert patches is not None
    assert_array_equal(index, [0, 1])
    scale = 0.96 if suffix == "glb" else 1.0
    for triangle, patch in zip(loaded.triangles, patches, strict=True):
        for corner, (i, j) in enumerate(((0, 0), (31, 0), (0, 31))):
            # glTF is turned to Z up, so the square is vertical.
            x, y = triangle[corner][0], triangle[corner][2 if suffix == "glb" else 1]
            colour = srgb_to_linear(np.array([0.1 + 0.8 * x, 0.9 - 0.8 * y, 0.2])) * scale
            assert_allclose(patch[:3, i, j], colour, atol=0.05)


def embedded(path: Path, change: Any) -> Path:
    """The glTF of `quad` with all three pictures, changed by hand."""
    shine = np.zeros((8, 8, 3), np.uint8)
    shine[..., 1], shine[..., 2] = 128, 255
    glow = np.full((8, 8, 3), 188, np.uint8)
    material = trimesh.visual.material.PBRMaterial(
        baseColorTexture=Image.fromarray(ramp()),
        metallicRoughnessTexture=Image.fromarray(shine),
        emissiveTexture=Image.fromarray(glow),
        metallicFactor=0.5,
        roughnessFactor=0.5,
        emissiveFactor=[1, 1, 0],
    )
    mesh = quad(UV)
    mesh.visual = trimesh.visual.TextureVisuals(uv=UV, material=material)
    for name, data in trimesh.Scene(mesh).export(file_type="gltf").items():
        (path.parent / name).write_bytes(data)
    document = json.loads((path.parent / "model.gltf").read_text())
    change(document)
    path.write_text(json.dumps(document))
    return path


def test_metallic_roughness_and_emission_textures(tmp_path: Path) -> None:
    (mesh,) = load_mesh_file(embedded(tmp_path / "a.gltf", lambda d: None)).objects
    patches, _ = patches_of(mesh)
    assert patches is not None
    assert_allclose(patches[:, ROUGHNESS, 0, 0], 0.5 * 128 / 255, rtol=1e-3)
    assert_allclose(patches[:, EMISSION, 0, 0], [[0.503, 0.503, 0]] * 2, atol=2e-3)
    diffuse, specular = (patches[:, channels][..., triangle_mask()] for channels in (DIFFUSE, SPECULAR))
    assert_allclose(specular, 0.02 + 0.5 * diffuse / (0.96 * 0.5), atol=3e-3)


def test_texture_transform(tmp_path: Path) -> None:
    """KHR_texture_transform: scaling by zero shows one texel everywhere."""

    def change(document: dict[str, Any]) -> None:
        reference = document["materials"][0]["pbrMetallicRoughness"]["baseColorTexture"]
        reference["extensions"] = {"KHR_texture_transform": {"scale": [0, 0], "offset": [0.5, 0.25]}}

    (mesh,) = load_mesh_file(embedded(tmp_path / "a.gltf", change)).objects
    assert patches_of(mesh)[0] is None
    expected = srgb_to_linear(np.array([0.5, 0.25, 0.2])) * 0.96 * 0.5
    assert_allclose(mesh.materials[:, DIFFUSE], [expected] * 2, atol=0.01)


def test_wrap_modes_of_gltf(tmp_path: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        reference = document["materials"][0]["pbrMetallicRoughness"]["baseColorTexture"]
        reference["extensions"] = {"KHR_texture_transform": {"scale": [0, 0], "offset": [1.5, -0.25]}}
        document["samplers"] = [{"wrapS": 33071, "wrapT": 33648}]
        for texture in document["textures"]:
            texture["sampler"] = 0

    (mesh,) = load_mesh_file(embedded(tmp_path / "a.gltf", change)).objects
    expected = srgb_to_linear(np.array([1.0, 0.25, 0.2])) * 0.96 * 0.5
    assert_allclose(mesh.materials[:, DIFFUSE], [expected] * 2, atol=0.01)


@pytest.mark.parametrize("data", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_damaged_pictures_are_told(tmp_path: Path, data: bytes) -> None:
    def change(document: dict[str, Any]) -> None:
        for image in document["images"]:
            image.pop("bufferView", None)
            image["uri"] = "broken.png"

    (tmp_path / "broken.png").write_bytes(data)
    scene = load_mesh_file(embedded(tmp_path / "a.gltf", change))
    assert sum("texture ignored" in note for note in scene.notes) == 3
    assert_allclose(scene.materials[0, DIFFUSE], 0.96 * 0.5)


def test_decompression_bomb(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("1", (20000, 20000)).save(buffer, "PNG")
    assert len(buffer.getvalue()) < 10**6
    (tmp_path / "a.mtl").write_text("newmtl m\nKd 1 1 1\nmap_Kd a.png\n")
    (tmp_path / "a.png").write_bytes(buffer.getvalue())
    (tmp_path / "a.obj").write_text(
        "mtllib a.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 0 1\nusemtl m\nf 1/1 2/2 3/3\n"
    )
    scene = load_mesh_file(tmp_path / "a.obj")
    assert any("texture 'a.png' ignored" in note for note in scene.notes)
    assert_allclose(scene.materials[0, DIFFUSE], 1)
