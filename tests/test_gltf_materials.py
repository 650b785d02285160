"""Materials and textures of glTF: what the renderer gets from each, by the formulas of the specification."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.gltf import CORNERS, Gltf
from numpy.testing import assert_allclose
from PIL import Image

from renderformer.data.colour import srgb_to_linear
from renderformer.data.errors import InputError
from renderformer.data.formats.mesh_file import load_mesh_file
from renderformer.data.geometry.tangents import corner_tangents
from renderformer.data.material import Material
from renderformer.data.scene import DIFFUSE, EMISSION, ROUGHNESS, SPECULAR, Scene
from renderformer.data.texture import Texture

RNG = np.random.default_rng(1)
PICTURE = RNG.integers(0, 256, (7, 5, 4), dtype=np.uint8)


def picture(pixels: np.ndarray = PICTURE, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))
    return stream.getvalue()


def file_of(material: dict[str, Any], attributes: dict[str, Any] | None = None, image: bytes | None = None) -> Gltf:
    """A triangle of a material; texture 0 is an image, by default `PICTURE`."""
    file = Gltf(nodes=[{"mesh": 0}], materials=[material], textures=[{"source": 0}])
    file.add("images", {"bufferView": file.view(picture() if image is None else image), "mimeType": "image/png"})
    uv = file.accessor([[0, 0], [1, 0], [0, 1]])
    accessors = {"POSITION": file.accessor(CORNERS), "TEXCOORD_0": uv, **(attributes or {})}
    file.mesh(
        {key: value if isinstance(value, int) else file.accessor(value) for key, value in accessors.items()}, material=0
    )
    return file


def loaded(tmp_path: Path, file: Gltf) -> tuple[Material, Scene]:
    """The material of the first object that has an appearance."""
    scene = load_mesh_file(file.save(tmp_path / "a.glb"))
    appearance = scene.objects[0].appearance
    assert appearance is not None
    return appearance.materials[0], scene


def rows(tmp_path: Path, material: dict[str, Any]) -> np.ndarray:
    """The material row of an untextured material."""
    scene = load_mesh_file(file_of(material).save(tmp_path / "a.glb"))
    return np.asarray(scene.materials[0])


def pbr(**keys: Any) -> dict[str, Any]:
    return {"pbrMetallicRoughness": keys}


@pytest.mark.parametrize(
    ("extensions", "reflectance"),
    [
        ({"KHR_materials_ior": {"ior": 1.33}}, [(0.33 / 2.33) ** 2] * 3),
        ({"KHR_materials_ior": {"ior": 0}}, [1, 1, 1]),
        ({"KHR_materials_ior": {}}, [0.04] * 3),
        ({"KHR_materials_specular": {"specularFactor": 0.25}}, [0.01] * 3),
        ({"KHR_materials_specular": {"specularColorFactor": [1, 0.5, 30]}}, [0.04, 0.02, 1]),
        (
            {
                "KHR_materials_specular": {"specularFactor": 0.5, "specularColorFactor": [0, 1, 0]},
                "KHR_materials_ior": {"ior": 2},
            },
            [0, 1 / 18, 0],
        ),
    ],
)
def test_reflectance(tmp_path: Path, extensions: dict[str, Any], reflectance: list[float]) -> None:
    """f0 = ((ior - 1) / (ior + 1))^2, times factor and colour; metals keep their base colour."""
    base, metal = np.array([0.8, 0.4, 0.2]), 0.25
    entry = {**pbr(baseColorFactor=[*base, 1], metallicFactor=metal, roughnessFactor=0.3), "extensions": extensions}
    row = rows(tmp_path, entry)
    assert_allclose(row[SPECULAR], np.array(reflectance) * (1 - metal) + base * metal, rtol=1e-5, atol=1e-7)
    assert_allclose(row[DIFFUSE], (1 - max(reflectance)) * base * (1 - metal), rtol=1e-5, atol=1e-7)
    assert row[ROUGHNESS] == np.float32(0.3)


def test_emission_of_any_strength(tmp_path: Path) -> None:
    strong = {
        "emissiveFactor": [1, 0.5, 0],
        "extensions": {"KHR_materials_emissive_strength": {"emissiveStrength": 1e6}},
    }
    scene = load_mesh_file(file_of(strong).save(tmp_path / "a.glb"))
    assert_allclose(scene.materials[0, EMISSION], [60000, 30000, 0])
    assert scene.notes == ("a.glb: 1 materials dimmed to the radiance 60000",)


@pytest.mark.parametrize(
    ("entry", "alpha", "cutoff", "has_alpha"),
    [
        ({}, 1.0, None, False),
        ({"alphaMode": "OPAQUE", "alphaCutoff": 0.9}, 1.0, None, False),
        ({"alphaMode": "BLEND"}, 0.6, None, True),
        ({"alphaMode": "MASK"}, 0.6, 0.5, True),
        ({"alphaMode": "MASK", "alphaCutoff": 0.25}, 0.6, 0.25, True),
    ],
)
def test_alpha(tmp_path: Path, entry: dict[str, Any], alpha: float, cutoff: float | None, has_alpha: bool) -> None:
    colours = pbr(baseColorTexture={"index": 0}, baseColorFactor=[1, 1, 1, 0.6])
    material, _ = loaded(tmp_path, file_of({**colours, **entry}))
    assert material.alpha == alpha
    assert material.alpha_cutoff == cutoff
    assert material.textures.base is not None
    assert material.textures.base.has_alpha == has_alpha
    assert material.see_through == has_alpha


@pytest.mark.parametrize("mode", ["OPAQUE", "BLEND"])
def test_vertex_colours_with_alpha(tmp_path: Path, mode: str) -> None:
    colours = np.array([[1, 0, 0, 0.5], [0, 1, 0, 1], [0, 0, 1, 0]], np.float32)
    scene = load_mesh_file(file_of({"alphaMode": mode}, {"COLOR_0": colours}).save(tmp_path / "a.glb"))
    appearance = scene.objects[0].appearance
    assert appearance is not None
    assert appearance.colors is not None
    expected = colours if mode == "BLEND" else colours * [1, 1, 1, 0] + [0, 0, 0, 1]
    assert_allclose(appearance.colors[0], expected)


def test_vertex_colours_out_of_range_are_counted(tmp_path: Path) -> None:
    colours = np.array([[2, 0, 0], [0, -1, 0], [0.5, 0.5, 0.5]], np.float32)
    scene = load_mesh_file(file_of({}, {"COLOR_0": colours}).save(tmp_path / "a.glb"))
    assert scene.notes == ("a.glb: 2 vertex colours outside 0 … 1 clipped",)


def values(texture: Texture | None, uv: Any) -> np.ndarray:
    assert texture is not None
    return texture.sample(np.atleast_2d(np.asarray(uv, np.float64)))


def test_every_texture_in_its_colour_space(tmp_path: Path) -> None:
    reference = {"index": 0}
    entry = {
        **pbr(baseColorTexture=reference, metallicRoughnessTexture=reference),
        "normalTexture": {"index": 0, "scale": 0.5},
        "emissiveTexture": reference,
        "emissiveFactor": [1, 1, 1],
        "extensions": {"KHR_materials_specular": {"specularColorTexture": reference}},
        "doubleSided": True,
    }
    material, scene = loaded(tmp_path, file_of(entry))
    # The middle of the pixel in row 2 and column 3.
    place, pixel = ((3 + 0.5) / 5, (2 + 0.5) / 7), PICTURE[2, 3, :3] / 255
    textures = material.textures
    for texture, srgb in (
        (textures.base, True),
        (textures.metallic_roughness, False),
        (textures.normal, False),
        (textures.emission, True),
        (textures.specular, True),
    ):
        assert_allclose(values(texture, place)[0], srgb_to_linear(pixel) if srgb else pixel, rtol=1e-5)
    assert material.normal_scale == 0.5
    assert material.two_sided
    assert scene.objects[0].two_sided is True
    assert scene.notes == ()


def test_materials_share_their_textures(tmp_path: Path) -> None:
    file = file_of(pbr(baseColorTexture={"index": 0}))
    file.add("materials", {**pbr(baseColorTexture={"index": 0}, roughnessFactor=0.5)})
    primitive = file.document["meshes"][0]["primitives"][0]
    file.document["meshes"][0]["primitives"].append({**primitive, "material": 1})
    scene = load_mesh_file(file.save(tmp_path / "a.glb"))
    one, other = (mesh.appearance.materials[0] for mesh in scene.objects if mesh.appearance is not None)
    assert one.textures.base is other.textures.base


def test_each_texture_has_its_own_coordinates_and_transform(tmp_path: Path) -> None:
    """KHR_texture_transform: translation x rotation x scale, and a set that overrides that of the reference."""
    turn = {"offset": [0.1, 0.2], "rotation": 0.3, "scale": [2, 3], "texCoord": 2}
    entry = {
        **pbr(baseColorTexture={"index": 0, "texCoord": 1, "extensions": {"KHR_texture_transform": turn}}),
        "emissiveTexture": {"index": 0, "texCoord": 1},
        "emissiveFactor": [1, 1, 1],
    }
    sets = {f"TEXCOORD_{k}": RNG.uniform(0, 1, (3, 2)).astype(np.float32) for k in (1, 2)}
    material, scene = loaded(tmp_path, file_of(entry, sets))
    base, emission = material.textures.base, material.textures.emission
    assert base is not None
    assert emission is not None
    assert (base.uv_set, emission.uv_set) == (2, 1)
    appearance = scene.objects[0].appearance
    assert appearance is not None
    assert_allclose(appearance.uv[0, :, 1:], np.stack([sets["TEXCOORD_1"], sets["TEXCOORD_2"]], axis=1))
    u, v = 0.2, 0.7
    c, s = math.cos(0.3), math.sin(0.3)
    moved = (c * 2 * u + s * 3 * v + 0.1, -s * 2 * u + c * 3 * v + 0.2)
    assert_allclose(values(base, (u, v)), values(emission, moved), rtol=1e-4)


def test_a_set_of_coordinates_that_is_missing_is_told(tmp_path: Path) -> None:
    scene = load_mesh_file(file_of(pbr(baseColorTexture={"index": 0, "texCoord": 1})).save(tmp_path / "a.glb"))
    assert scene.notes == ("a.glb: 1 triangles with unusable texture coordinates, texture ignored there",)
    far = load_mesh_file(file_of(pbr(baseColorTexture={"index": 0, "texCoord": 99})).save(tmp_path / "a.glb"))
    assert far.notes == ("a.glb: base texture ignored, it uses set 99 of coordinates",)


def test_specular_glossiness(tmp_path: Path) -> None:
    factors = {"diffuseFactor": [0.6, 0.4, 0.2, 1], "specularFactor": [0.3, 0.2, 0.1], "glossinessFactor": 0.75}
    row = rows(tmp_path, {"extensions": {"KHR_materials_pbrSpecularGlossiness": factors}})
    # The diffuse part is what the largest channel of the specular one leaves.
    assert_allclose(row[:7], [0.42, 0.28, 0.14, 0.3, 0.2, 0.1, 0.25], rtol=1e-5)
    textured = {**factors, "specularGlossinessTexture": {"index": 0}, "diffuseTexture": {"index": 0}}
    material, _ = loaded(tmp_path, file_of({"extensions": {"KHR_materials_pbrSpecularGlossiness": textured}}))
    place, pixel = ((3 + 0.5) / 5, (2 + 0.5) / 7), PICTURE[2, 3] / 255
    assert_allclose(values(material.textures.specular, place)[0, :3], srgb_to_linear(pixel[:3]), rtol=1e-5)
    roughness = material.roughness * values(material.textures.metallic_roughness, place)[0, 1]
    assert roughness == pytest.approx(1 - 0.75 * pixel[3], abs=1 / 255)


def test_the_alpha_of_a_specular_texture_is_its_strength(tmp_path: Path) -> None:
    entry = {"extensions": {"KHR_materials_specular": {"specularTexture": {"index": 0}}}}
    material, _ = loaded(tmp_path, file_of(entry))
    assert_allclose(values(material.textures.specular, (0.7, 2.5 / 7))[0], [PICTURE[2, 3, 3] / 255] * 3, rtol=1e-5)


def test_unlit_is_matt(tmp_path: Path) -> None:
    entry = {**pbr(baseColorFactor=[0.5, 0.25, 1, 1]), "extensions": {"KHR_materials_unlit": {}}}
    scene = load_mesh_file(file_of(entry).save(tmp_path / "a.glb"))
    assert_allclose(scene.materials[0, :7], [0.5, 0.25, 1, 0, 0, 0, 1])
    assert scene.notes == ("a.glb: not drawn: unlit (matt instead) (1 material)",)


@pytest.mark.parametrize("share", [0.5, 1.0])
@pytest.mark.parametrize("metallic", [0.0, 0.5])
def test_transmission_is_thin_glass(tmp_path: Path, share: float, metallic: float) -> None:
    """Of all light, 0.9 t passes, 0.1 t is mirrored, and 1 - t meets the material as it would be without."""
    plain = pbr(baseColorFactor=[0.8, 0.4, 0.2, 1], metallicFactor=metallic)
    before = rows(tmp_path, plain)
    entry = {**plain, "extensions": {"KHR_materials_transmission": {"transmissionFactor": share}}}
    material, scene = loaded(tmp_path, file_of(entry))
    row = material.rows()[0]
    assert 1 - material.alpha == pytest.approx(0.9 * share)
    if metallic == 0:
        assert_allclose(material.alpha * row[DIFFUSE], (1 - share) * before[DIFFUSE], rtol=1e-4, atol=1e-7)
        assert_allclose(material.alpha * row[SPECULAR], (1 - share) * before[SPECULAR] + 0.1 * share, rtol=1e-4)
    assert (row[DIFFUSE] + row[SPECULAR] <= 1 + 1e-6).all()
    assert scene.notes == ("a.glb: not drawn: refraction (thin glass instead) (1 material)",)


def test_what_is_not_drawn_is_named_once(tmp_path: Path) -> None:
    file = file_of({"extensions": {"KHR_materials_clearcoat": {"clearcoatFactor": 1}, "KHR_materials_sheen": {}}})
    file.add("materials", {"extensions": {"KHR_materials_clearcoat": {"clearcoatFactor": 0.5}, "EXT_glow": {}}})
    # A factor of 0 has no effect; a material that no mesh uses is not read.
    file.add("materials", {"extensions": {"KHR_materials_clearcoat": {"clearcoatFactor": 0}}})
    file.add("materials", {"extensions": {"KHR_materials_iridescence": {"iridescenceFactor": 1}}})
    primitive = file.document["meshes"][0]["primitives"][0]
    file.document["meshes"][0]["primitives"] += [{**primitive, "material": k} for k in (1, 2)]
    scene = load_mesh_file(file.save(tmp_path / "a.glb"))
    assert scene.notes == ("a.glb: not drawn: EXT_glow (1 material), clearcoat (2 materials)",)


def test_textures_that_cannot_be_read_are_counted(tmp_path: Path) -> None:
    file = file_of({**pbr(baseColorTexture={"index": 0}), "normalTexture": {"index": 0}})
    file.document["textures"] = [{"extensions": {"KHR_texture_basisu": {"source": 0}}}]
    scene = load_mesh_file(file.save(tmp_path / "a.glb"))
    assert scene.notes == ("a.glb: 2 textures not drawn, they need KHR_texture_basisu",)
    # A picture of another format for programs that cannot read it.
    file.document["textures"][0]["source"] = 0
    assert load_mesh_file(file.save(tmp_path / "a.glb")).notes == ()


def test_webp(tmp_path: Path) -> None:
    file = file_of(pbr(baseColorTexture={"index": 0}), image=picture(kind="WEBP"))
    file.document["textures"] = [{"extensions": {"EXT_texture_webp": {"source": 0}}}]
    material, _ = loaded(tmp_path, file)
    expected = srgb_to_linear(PICTURE[2, 3, :3] / 255)
    assert_allclose(values(material.textures.base, (0.7, 2.5 / 7))[0], expected, rtol=1e-5)


def test_reduced_pictures_keep_alpha(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Means are weighted by alpha, so that the colour of clear pixels does not bleed."""
    monkeypatch.setattr("renderformer.data.formats.textures.MAX_PIXELS", 40)
    pixels = RNG.integers(0, 256, (12, 8, 4), dtype=np.uint8)
    pixels[::2, :, 3] = 0
    material, scene = loaded(
        tmp_path, file_of({**pbr(baseColorTexture={"index": 0}), "alphaMode": "BLEND"}, image=picture(pixels))
    )
    base = material.textures.base
    assert base is not None
    assert base.pixels.shape == (6, 4, 4)
    blocks = pixels.reshape(6, 2, 4, 2, 4).swapaxes(1, 2).reshape(6, 4, 4, 4) / 255
    alpha = blocks[..., 3]
    mean = (srgb_to_linear(blocks[..., :3]) * np.maximum(alpha, 1e-9)[..., None]).sum(2) / np.maximum(alpha, 1e-9).sum(
        2
    )[..., None]
    seen = alpha.mean(2) > 0.02
    assert_allclose(srgb_to_linear(base.pixels[..., :3] / 255)[seen], mean[seen], atol=0.02)
    assert_allclose(base.pixels[..., 3] / 255, alpha.mean(2), atol=0.5 / 255 + 1e-3)
    assert scene.notes == ("a.glb: base texture of 8 x 12 pixels reduced to 4 x 6",)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (pbr(baseColorFactor=[2, 0, 0, 1]), "expected 0 … 1"),
        (pbr(baseColorFactor=[1, 1]), "4 finite numbers"),
        (pbr(metallicFactor="much"), "1 finite numbers"),
        ({"emissiveFactor": [-1, 0, 0]}, "expected 0 or more"),
        ({"extensions": {"KHR_materials_ior": {"ior": 0.5}}}, "ior is 0.5"),
        ({"extensions": {"KHR_materials_specular": {"specularColorFactor": [-1, 0, 0]}}}, "expected 0 or more"),
        ({"extensions": {"KHR_materials_clearcoat": 3}}, "is not an object"),
        (pbr(baseColorTexture={"index": 9}), r"textures\[9\]"),
        (pbr(baseColorTexture=5), "base texture is not an object"),
        ({"normalTexture": {"index": 0, "scale": "x"}}, "scale"),
        ({"alphaMode": "MASK", "alphaCutoff": "x"}, "alphaCutoff"),
    ],
)
def test_damaged_materials(tmp_path: Path, entry: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_mesh_file(file_of(entry).save(tmp_path / "a.glb"))


def bumpy_file(node: dict[str, Any], tangents: np.ndarray | None) -> Gltf:
    """A triangle whose normal map leans to +u, under a node."""
    leaning = np.tile(np.array([200, 128, 228], np.uint8), (4, 4, 1))
    attributes: dict[str, Any] = {"NORMAL": [[0, 0, 1]] * 3}
    if tangents is not None:
        attributes["TANGENT"] = tangents
    file = file_of({"normalTexture": {"index": 0}}, attributes, picture(leaning))
    file.document["nodes"] = [{"mesh": 0, **node}]
    return file


@pytest.mark.parametrize("scale", [(1, 1, 1), (-1, 1, 1), (2, -1, 1)])
def test_tangents_of_the_file_follow_the_node_like_computed_ones(tmp_path: Path, scale: tuple[int, int, int]) -> None:
    """u grows along x and v along y, so the image is upside down: w is -1 (glTF 2.0, 3.7.2.1, B = w N x T)."""
    node = {"scale": scale, "rotation": [0, 0, math.sin(0.4), math.cos(0.4)]}
    given = load_mesh_file(bumpy_file(node, np.tile([1.0, 0, 0, -1], (3, 1))).save(tmp_path / "a.glb"))
    plain = load_mesh_file(bumpy_file(node, None).save(tmp_path / "a.glb"))
    appearance = given.objects[0].appearance
    assert appearance is not None
    assert appearance.tangents is not None
    (mesh,) = plain.objects
    assert mesh.appearance is not None
    assert mesh.appearance.tangents is None
    expected = corner_tangents(mesh.triangles, mesh.normals, mesh.appearance.uv[:, :, 0])
    assert_allclose(appearance.tangents, expected, atol=1e-6)


def test_tangents_that_cannot_be_used_are_computed(tmp_path: Path) -> None:
    tangents = np.array([[np.nan, 0, 0, 1], [0, 0, 0, 1], [3, 4, 0, -7]], np.float32)
    (mesh,) = load_mesh_file(bumpy_file({}, tangents).save(tmp_path / "a.glb")).objects
    assert mesh.appearance is not None
    assert mesh.appearance.tangents is not None
    assert_allclose(mesh.appearance.tangents[0], [[0, 0, 0, 1], [0, 0, 0, 1], [0.6, 0, 0.8, -1]], atol=1e-6)
