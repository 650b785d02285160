"""The extension of scene JSON: scenes that come back as they were saved, files written by hand, damaged files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from renderformer.data.appearance import Appearance
from renderformer.data.camera import Camera
from renderformer.data.environment import BACKGROUNDS, Environment, Sun
from renderformer.data.errors import InputError
from renderformer.data.formats import load_scene
from renderformer.data.formats.mesh_file import load_mesh_file
from renderformer.data.formats.triangle_ply import Triangles
from renderformer.data.formats.triangle_ply import read as read_triangles
from renderformer.data.formats.triangle_ply import write as write_triangles
from renderformer.data.material import DIFFUSE, EMISSION, SPECULAR, Material, Textures
from renderformer.data.scene import CAMERA_SIDES, Light, Mesh, Scene
from renderformer.data.texture import Texture

VERSION = "1.0+renderformer"


def random_texture(random: np.random.Generator, sets: int, kind: str) -> Texture:
    """Only the picture of the base colour has an alpha that counts."""
    channels = int(random.integers(3, 5)) if kind == "base" else 3
    shape = (int(random.integers(1, 5)), int(random.integers(1, 5)), channels)
    wraps = random.choice(["repeat", "clamp", "mirror"], 2).tolist()
    matrix = None if random.random() < 0.5 else random.normal(size=(2, 3))
    pixels = random.integers(0, 256, shape, dtype=np.uint8)
    return Texture(pixels, bool(random.random() < 0.5), matrix, (wraps[0], wraps[1]), int(random.integers(sets)))


def random_material(random: np.random.Generator, sets: int) -> Material:
    def maybe(value: Any, other: Any) -> Any:
        return value if random.random() < 0.5 else other

    kinds = ("base", "metallic_roughness", "specular", "emission", "normal")
    textures = {kind: random_texture(random, sets, kind) for kind in kinds if sets and random.random() < 0.4}
    return Material(
        tuple(random.random(3)),
        tuple(random.random(3)),
        float(random.random()),
        maybe(tuple(random.random(3) * 1000), (0.0, 0.0, 0.0)),
        maybe(float(random.random()), None),
        Textures(**textures),
        maybe(float(random.normal()), 1.0),
        maybe(float(random.random()), 1.0),
        maybe(float(random.random()), None),
        bool(random.random() < 0.3),
    )


def random_mesh(random: np.random.Generator, number: int) -> Mesh:
    count, sets = int(random.integers(1, 12)), int(random.integers(3))
    triangles = random.normal(size=(count, 3, 3))
    normals = random.normal(size=(count, 3, 3))
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    sides = random.random(count) < 0.5 if random.random() < 0.5 else bool(random.random() < 0.5)
    rows = np.stack([random_material(random, 0).row() for _ in range(count)])[random.integers(0, count, count)]
    look = None
    if random.random() < 0.7:
        materials = tuple(random_material(random, sets) for _ in range(int(random.integers(1, 4))))
        index = random.integers(-1, len(materials), count)
        colors = random.random((count, 3, 4)) if random.random() < 0.5 else None
        tangents = random.normal(size=(count, 3, 4)) if random.random() < 0.5 else None
        look = Appearance(materials, index, random.normal(size=(count, 3, sets, 2)), colors, tangents)
        rows = look.mean_rows(rows)
    seen = CAMERA_SIDES[random.integers(3)]
    return Mesh(
        f"ü {number}/\n", triangles, normals, rows, appearance=look, two_sided=sides, camera_sides=seen
    )  # fmt: skip


def random_environment(random: np.random.Generator) -> Environment | None:
    count = int(random.integers(3))
    numbers = [(random.normal(size=3), random.random(3) * 5, float(random.random())) for _ in range(count)]
    suns = tuple(Sun(tuple(direction), tuple(colour), angle) for direction, colour, angle in numbers)
    options: dict[str, Any] = {"strength": float(random.random() * 3), "rotation": float(random.uniform(-400, 400))}
    backgrounds = (*BACKGROUNDS, (0.25, 0.5, 1.0))
    options |= {"background": backgrounds[random.integers(len(backgrounds))], "suns": suns}
    low, middle, high = random.random((3, 3)).round(4).tolist()
    choices = (
        None,
        Environment(tuple(random.random(3)), name="grey", **options),
        Environment.gradient(tuple(low), tuple(middle), tuple(high), **options),
        Environment(random.random((4, 8, 3)) * 100, **options),
        Environment.of("studio", strength=2.0),
    )
    return choices[random.integers(len(choices))]


def without_directions(text: str) -> Any:
    """The file without directions of suns, which become unit vectors again whenever they are read."""
    document = json.loads(text)
    for sun in document.get("environment", {}).get("suns", ()):
        del sun["direction"]
    return document


def same_environment(first: Environment | None, second: Environment | None) -> None:
    assert (first is None) == (second is None)
    if first is None or second is None:
        return
    for key in ("strength", "rotation", "background", "name"):
        assert getattr(first, key) == getattr(second, key)
    assert_allclose(first.image, second.image, rtol=3e-6, atol=1e-8)
    assert len(first.suns) == len(second.suns)
    for ours, theirs in zip(first.suns, second.suns, strict=True):
        assert_allclose(ours.direction, theirs.direction, atol=1e-11)
        assert (ours.irradiance, ours.angle) == (theirs.irradiance, theirs.angle)


def same_look(first: Mesh, second: Mesh, random: np.random.Generator) -> None:
    """Equal material rows and opacities at random points of every triangle."""
    triangle = np.repeat(np.arange(len(first)), 3)
    places = random.dirichlet((1, 1, 1), len(triangle))[:, 1:].astype(np.float32)
    found = []
    for mesh in (first, second):
        rows = mesh.materials[triangle]
        if mesh.appearance is None:
            found.append((rows, np.ones(len(triangle), np.float32)))
        else:
            values = mesh.appearance.values(triangle, places, rows)
            found.append((values.rows, values.alpha))
    assert_allclose(found[0][0], found[1][0], rtol=1e-6, atol=1e-7)
    assert_allclose(found[0][1], found[1][1], rtol=1e-6)


@settings(max_examples=20, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32 - 1))
def test_random_scenes_come_back(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    random = np.random.default_rng(seed)
    meshes = tuple(random_mesh(random, number) for number in range(int(random.integers(1, 4))))
    angles = random.uniform([0, -80, 1], [360, 80, 3])
    cameras = (Camera.from_angles(*angles, fov=float(random.uniform(10, 90)), name="front"), Camera.from_angles())
    scene = Scene(meshes, cameras, "all of it", environment=random_environment(random))
    folder = tmp_path_factory.mktemp("full")
    lost = scene.save(folder / "a.json")
    assert lost == []
    assert VERSION in lost.notes[0]
    again = load_scene(folder / "a.json")
    same_environment(again.environment, scene.environment)
    assert again.name == scene.name
    assert [mesh.name for mesh in again.objects] == [mesh.name for mesh in scene.objects]
    for first, second in zip(scene.objects, again.objects, strict=True):
        assert_array_equal(first.triangles, second.triangles)
        assert_array_equal(first.normals, second.normals)
        assert_array_equal(first.two_sided, second.two_sided)
        assert first.camera_sides == second.camera_sides
        assert_allclose(first.materials, second.materials, rtol=1e-6, atol=1e-7)
        same_look(first, second, random)
    for ours, theirs in zip(scene.cameras, again.cameras, strict=True):
        assert_array_equal(ours.c2w, theirs.c2w)
        assert (ours.fov, ours.name) == (theirs.fov, theirs.name)
    # From there on nothing changes.
    again.save(folder / "a2.json")
    third = load_scene(folder / "a2.json")
    for second, last in zip(again.objects, third.objects, strict=True):
        assert_array_equal(second.materials, last.materials)
        assert (second.appearance is None) == (last.appearance is None)
        if second.appearance is not None and last.appearance is not None:
            assert second.appearance.digest == last.appearance.digest
    third.save(folder / "a2.json")
    texts = [(folder / name).read_text().replace("a2_meshes", "a_meshes") for name in ("a.json", "a2.json")]
    assert without_directions(texts[0]) == without_directions(texts[1])


def test_plain_scenes_stay_plain(tmp_path: Path) -> None:
    """Programs that know 1.0 alone read what 1.0 can hold."""
    box = Mesh("box", trimesh.creation.box().triangles, materials=Material((1.0, 0.0, 0.2)))
    lost = Scene((box, Light().mesh()), (Camera.from_angles(),)).save(tmp_path / "a.json")
    assert (lost, lost.notes) == ([], ())
    assert json.loads((tmp_path / "a.json").read_text())["version"] == "1.0"
    fine = Scene((box.with_material(Material((0.123, 0.0, 0.2))), Light().mesh()), (Camera.from_angles(),))
    lost = fine.save(tmp_path / "a.json")
    assert "12 triangles with diffuse colours rounded to 8 bits" in lost.notes[0]
    assert lost == []
    assert fine.save(tmp_path / "a.json", version="1.0") == ["12 triangles with diffuse colours rounded to 8 bits"]
    assert json.loads((tmp_path / "a.json").read_text())["version"] == "1.0"
    assert sorted(item.name for item in tmp_path.rglob("*.*")) == ["000_box.obj", "001_light.obj", "a.json"]
    with pytest.raises(InputError, match="version 1.0 is one of scene JSON"):
        fine.save(tmp_path / "a.h5", version="1.0")


def test_plain_files_say_that_what_cameras_do_not_see_will_be_seen(tmp_path: Path) -> None:
    box = Mesh("box", trimesh.creation.box().triangles, materials=Material((1.0, 0.0, 0.2)), camera_sides="front")
    scene = Scene((box, Light().mesh()), (Camera.from_angles(),))
    line = "1 objects hidden from cameras on some sides will be seen"
    assert scene.save(tmp_path / "a.json", version="1.0") == [line]
    assert line in scene.save(tmp_path / "a.h5")
    lost = scene.save(tmp_path / "a.json")
    assert (lost, line in lost.notes[0]) == ([], True)


def test_patches_are_told_to_be_lost(tmp_path: Path) -> None:
    triangles = trimesh.creation.box().triangles
    patches, index = np.full((1, 13, 32, 32), 0.25, np.float16), np.arange(12, dtype=np.int32) * 0 - 1
    index[3] = 0
    scene = Scene((Mesh("box", triangles, None, Material(1.0).row(), patches, index),), (Camera.from_angles(name="x"),))
    assert scene.save(tmp_path / "a.json") == ["1 textured triangles flattened to their mean material"]


def test_extension_is_refused_by_version(tmp_path: Path) -> None:
    """A reader of 1.0 alone, like ours before, compares the version or finds no transform."""
    from renderformer.data.formats.scene_json_plain import SceneEntry

    scene = Scene((Mesh("box", trimesh.creation.box().triangles, materials=Material(0.123)),), (Camera.from_angles(),))
    scene.save(tmp_path / "a.json")
    document = json.loads((tmp_path / "a.json").read_text())
    with pytest.raises(InputError, match=r'version is "1.0\+renderformer"; expected "1.0"'):
        SceneEntry.read(document, "a.json")
    assert "transform" not in document["objects"]["box"]
    document["version"] = "1.0"
    (tmp_path / "a.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match=r"objects.box.transform is missing|objects.box.material"):
        load_scene(tmp_path / "a.json")


CUBE = """mtllib a.mtl
v 0 0 0
v 2 0 0
v 2 2 0
v 0 2 0
vt 0 0
vt 1 0
vt 1 1
vt 0 1
usemtl red
f 1/1 2/2 3/3
usemtl wood
f 1/1 3/3 4/4
"""
OBJECT: dict[str, Any] = {"mesh_path": "a.obj"}


def by_hand(folder: Path, entry: dict[str, Any], **changes: Any) -> Path:
    """A scene of the object "thing"; its mesh a.obj has two materials, one with the picture wood.png."""
    (folder / "a.obj").write_text(CUBE)
    (folder / "a.mtl").write_text("newmtl red\nKd 1 0 0\nnewmtl wood\nmap_Kd wood.png\n")
    Image.fromarray(np.full((2, 2, 3), 255, np.uint8)).save(folder / "wood.png")
    pixels = np.zeros((2, 2, 3), np.uint8)
    pixels[0] = (0, 0, 255)
    Image.fromarray(pixels).save(folder / "blue.png")
    camera = {"position": [0, -2, 0], "look_at": [0, 0, 0], "up": [0, 0, 1], "fov": 37.5, "name": "front"}
    document = {"version": VERSION, "objects": {"thing": entry}, "cameras": [camera], **changes}
    (folder / "scene.json").write_text(json.dumps(document))
    return folder / "scene.json"


def test_an_object_has_the_materials_of_its_mesh(tmp_path: Path) -> None:
    scene = load_scene(by_hand(tmp_path, OBJECT))
    (mesh,) = scene.objects
    assert mesh.name == "thing"
    assert scene.cameras[0].name == "front"
    assert_allclose(mesh.materials[:, DIFFUSE], [[1, 0, 0], [1, 1, 1]], atol=1e-6)
    assert mesh.appearance is not None


def test_a_material_by_hand(tmp_path: Path) -> None:
    """Textures use the coordinates of the mesh, whose own materials are not read."""
    material = {
        "diffuse": [1, 1, 1],
        "metallic": 0.5,
        "roughness": 0.25,
        "specular": [0.04] * 3,
        "textures": {"base": {"path": "blue.png", "wrap": ["clamp", "clamp"]}},
        "emissive": [2, 2, 2],
        "alpha": 0.5,
    }
    path = by_hand(tmp_path, {**OBJECT, "material": material})
    (tmp_path / "a.mtl").unlink()
    scene = load_scene(path)
    assert scene.notes == ()
    (mesh,) = scene.objects
    assert mesh.appearance is not None
    values = mesh.appearance.values(np.array([1]), np.array([[0.1, 0.8]]), mesh.materials[1:])
    assert values.alpha[0] == 0.5
    assert_allclose(values.rows[0, DIFFUSE], [0, 0, 0.48], atol=1e-6)
    assert_allclose(values.rows[0, SPECULAR], [0.02, 0.02, 0.52], atol=1e-6)
    assert_allclose(values.rows[0, EMISSION], 2)


def test_transform(tmp_path: Path) -> None:
    transform = {"scale": [1, 2, 3], "rotation": [0, 0, 90], "translation": [5, 0, 0], "normalize": False}
    mesh = load_scene(by_hand(tmp_path, {**OBJECT, "transform": transform})).objects[0]
    assert_allclose(mesh.bounds, [[3, 0, 0], [5, 4, 0]], atol=1e-6)
    mesh = load_scene(by_hand(tmp_path, {**OBJECT, "transform": {}})).objects[0]
    assert_allclose(mesh.bounds, [[-np.sqrt(1 / 8)] * 2 + [0], [np.sqrt(1 / 8)] * 2 + [0]], atol=1e-6)
    assert_allclose(mesh.normals[..., 2], 1)


def test_objects_of_version_1_keep_their_meaning(tmp_path: Path) -> None:
    material: dict[str, Any] = {"diffuse": [0.5] * 3, "specular": [0] * 3, "emissive": [0] * 3, "roughness": 0.5}
    material["smooth_shading"] = True
    transform = {"scale": [1] * 3, "rotation": [0, 0, 90], "translation": [0] * 3}
    entry = {"mesh_path": "a.obj", "material": material, "transform": transform}
    path = by_hand(tmp_path, entry)
    full = load_scene(path)
    document = json.loads(path.read_text()) | {"version": "1.0"}
    del document["cameras"][0]["name"]
    path.write_text(json.dumps(document))
    plain = load_scene(path)
    assert_array_equal(full.triangles, plain.triangles)
    assert_array_equal(full.materials, plain.materials)
    assert_allclose(full.materials[0, DIFFUSE], 127 / 255)


def test_glb_stands_upright(tmp_path: Path) -> None:
    trimesh.creation.box((1, 3, 1)).export(tmp_path / "a.glb")
    mesh = load_scene(by_hand(tmp_path, {"mesh_path": "a.glb"})).objects[0]
    assert_allclose(np.ptp(mesh.bounds, axis=0), [1, 1, 3], atol=1e-6)


TEXTURE = {"material": {"textures": {"base": {"path": "blue.png"}}}}


def textured(**changes: Any) -> dict[str, Any]:
    return {"material": {"textures": {"base": {"path": "blue.png", **changes}}}}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mesh_path": "../a.obj"}, 'objects.thing.mesh_path is "../a.obj", outside the folder'),
        ({"material": {"roughness": 2}}, "objects.thing: material.roughness is 2; expected a number from 0 to 1"),
        ({"material": {"gloss": 2}}, "objects.thing: material.gloss is not a known key"),
        ({"material": {"diffuse": [1, 1, 1.5]}}, "material.diffuse[2] is 1.5"),
        ({"material": {"alpha": float("nan")}}, "material.alpha is NaN"),
        ({"material": {}, "materials": []}, "objects.thing: has material and materials"),
        ({"materials": [{}]}, "has materials, but the triangles of a.obj have no numbers"),
        ({"colour": 1}, "colour is not a known key"),
        (textured(path="../blue.png"), 'base.path is "../blue.png", outside the folder of the scene'),
        (textured(path="/etc/passwd"), "an absolute path"),
        (textured(path="C:\\blue.png"), "an absolute path"),
        (textured(path="https://example.com/a.png"), "a URL"),
        (textured(path="none.png"), "which does not exist"),
        (textured(path="link.png"), "outside the folder of the scene"),
        (textured(path="loop.png"), "cannot be followed"),
        (textured(path="a\0.png"), "cannot be followed"),
        (textured(path="a.obj"), "expected a picture file"),
        (textured(path="pipe.png"), "pipe.png: is a named pipe"),
        (textured(path="broken.png"), "base.path: texture 'broken.png' ignored, it cannot be decoded"),
        (textured(path="huge.png"), "base.path: texture 'huge.png' ignored, it"),
        (textured(path=3), "material.textures.base.path is 3; expected text"),
        (textured(wrap=["repeat"]), 'material.textures.base.wrap is ["repeat"]'),
        (textured(matrix=[[1, 0, 0], [0, float("inf"), 0]]), "material.textures.base.matrix[1][1] is Infinity"),
        (textured(uv_set=8), "material.textures.base.uv_set is 8"),
        ({"transform": {"scale": [1, 0, 1]}}, "the transform cannot be used"),
        ({"transform": {"scale": [1e20, 1e20, 1e20]}}, "more than 1e9"),
    ],
)
def test_wrong_values_by_hand(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    folder = tmp_path / "scene"
    folder.mkdir()
    path = by_hand(folder, {**OBJECT, **changes})
    for name in ("a.obj", "blue.png"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (folder / "link.png").symlink_to(tmp_path / "blue.png")
    (folder / "loop.png").symlink_to(folder / "loop.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    # A header of 8 GB.
    Image.new("1", (1, 1)).save(folder / "huge.png")
    data = bytearray((folder / "huge.png").read_bytes())
    data[16:24] = (50_000).to_bytes(4, "big") + (57_000).to_bytes(4, "big")
    (folder / "huge.png").write_bytes(data)
    with pytest.raises(InputError) as caught:
        load_scene(path)
    line = str(caught.value)
    assert words in line
    assert line.startswith(str(path))
    assert "\n" not in line


@pytest.mark.parametrize(
    ("camera", "words"),
    [
        ({"fov": 30}, "cameras[0]"),
        ({"fov": 30, "position": [0, 0, 1]}, "cameras[0]"),
        ({"fov": 30, "c2w": [[1, 0, 0, 0]]}, "cameras[0]: c2w has 1 rows"),
        ({"fov": 30, "c2w": [[2, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]}, "not a rigid transform"),
        ({"fov": 0, "position": [0, 0, 1], "look_at": [0, 0, 0], "up": [0, 1, 0]}, "cameras[0]: fov is 0"),
    ],
)
def test_wrong_cameras(tmp_path: Path, camera: dict[str, Any], words: str) -> None:
    path = by_hand(tmp_path, OBJECT, cameras=[camera])
    with pytest.raises(InputError) as caught:
        load_scene(path)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({}, "environment: has not exactly one of image, color, gradient and preset"),
        ({"color": [1, 1, 1], "preset": "studio"}, "has not exactly one"),
        ({"preset": "moon"}, "preset: is 'moon'; expected one of studio"),
        ({"color": [1, 1]}, "environment.color is [1, 1]"),
        ({"color": [1, 1, -1]}, "environment.color[2] is -1"),
        ({"color": [1, 1, 1], "strength": 1e9}, "environment.strength is 1000000000"),
        ({"color": [1, 1, 1], "background": "blurred"}, 'environment.background is "blurred"'),
        ({"color": [1, 1, 1], "rotation": float("inf")}, "environment.rotation is Infinity"),
        ({"color": [1, 1, 1], "suns": [{"direction": [0, 0, 0], "irradiance": [1, 1, 1]}]}, "sun: direction is"),
        ({"gradient": {"ground": [0, 0, 0]}}, "environment.gradient.horizon is missing"),
        ({"image": "../a.hdr"}, "outside the folder of the scene"),
        ({"image": "none.exr"}, "which does not exist"),
        ({"image": "blue.png"}, "expected a light probe file (.hdr, .pic, .exr)"),
        ({"image": "pipe.exr"}, "pipe.exr: is a named pipe"),
        ({"image": "broken.exr"}, "environment.image broken.exr: cannot be read"),
    ],
)
def test_wrong_environments(tmp_path: Path, entry: dict[str, Any], words: str) -> None:
    folder = tmp_path / "scene"
    folder.mkdir()
    os.mkfifo(folder / "pipe.exr")
    (folder / "broken.exr").write_bytes(b"v/1\x01" + bytes(50))
    (tmp_path / "a.hdr").write_bytes(b"")
    with pytest.raises(InputError) as caught:
        load_scene(by_hand(folder, OBJECT, environment=entry))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_environments_by_hand(tmp_path: Path) -> None:
    scene = load_scene(by_hand(tmp_path, OBJECT, environment={"preset": "sky", "rotation": 30}))
    assert scene.environment is not None
    assert scene.environment.rotation == 30
    assert len(scene.environment.suns) == 1
    assert not any("no lights" in note for note in scene.notes)


def test_h5_tells_what_it_bakes(tmp_path: Path) -> None:
    pixels = np.zeros((4, 4, 4), np.uint8)
    texture = Texture(pixels)
    material = Material(textures=Textures(base=texture, normal=texture))
    look = Appearance.of(material, np.tile([[0.0, 0], [1, 0], [0, 1]], (2, 1, 1)))
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], np.float32)
    mesh = Mesh("a", np.stack([corners, corners + 1]), appearance=look)
    lost = Scene((mesh,), (Camera.from_angles(),), environment=Environment(1.0)).save(tmp_path / "a.h5")
    assert "2 triangles with textures or vertex colours baked into patches of 32 x 32 texels" in lost
    assert "2 triangles without their normal maps" in lost
    assert "2 triangles that let rays pass are opaque" in lost
    assert "the environment is not saved" in lost


def some_triangles(count: int, sets: int, coloured: bool) -> Triangles:
    random = np.random.default_rng(count)
    corners, normals = random.normal(size=(2, count, 3, 3)).astype(np.float32)
    uv = random.normal(size=(count, 3, sets, 2)).astype(np.float32)
    colors = random.random((count, 3, 4)).astype(np.float32) if coloured else None
    tangents = random.random((count, 3, 4)).astype(np.float32) if coloured and sets else None
    return Triangles(corners, normals, uv, random.integers(0, 5, count).astype(np.int32), colors, tangents)


@pytest.mark.parametrize("sets", [0, 1, 3])
@pytest.mark.parametrize("coloured", [False, True])
def test_saved_triangles_are_a_ply_file(tmp_path: Path, sets: int, coloured: bool) -> None:
    """Read by us exactly, and by trimesh as far as it knows the properties."""
    saved = some_triangles(7, sets, coloured)
    write_triangles(tmp_path / "a.ply", saved)
    found = read_triangles((tmp_path / "a.ply").read_bytes())
    assert found is not None
    for name in ("corners", "normals", "uv", "material"):
        assert_array_equal(getattr(found, name), getattr(saved, name))
    for name in ("colors", "tangents"):
        ours, theirs = getattr(found, name), getattr(saved, name)
        assert (ours is None) == (theirs is None)
        if ours is not None:
            assert_array_equal(ours, theirs)
    other = trimesh.load_mesh(tmp_path / "a.ply", process=False)
    assert_array_equal(other.triangles, saved.corners)
    assert_array_equal(load_mesh_file(tmp_path / "a.ply").triangles, saved.corners)


@settings(max_examples=80)
@given(data=st.data())
def test_damaged_triangles(data: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    write_triangles(folder / "a.ply", some_triangles(3, 1, True))
    content = bytearray((folder / "a.ply").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (folder / "a.ply").write_bytes(content[: data.draw(st.integers(1, len(content)))])
    (folder / "a.json").write_text(json.dumps({"version": VERSION, "objects": {"thing": {"mesh_path": "a.ply"}}}))
    line = "a.json"
    try:
        assert np.isfinite(load_scene(folder / "a.json").triangles).all()
    except InputError as error:
        line = str(error)
    assert "\n" not in line
    assert "a.json" in line


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: {"material": t.material * 0 + 9}, "has material 9; there are"),
        (lambda t: {"material": t.material * 0 - 5}, "has material -5; there are"),
        (lambda t: {"uv": t.uv * np.nan}, "uv is not finite"),
        (lambda t: {"uv": t.uv * 1e9}, "uv is not finite or beyond"),
        (lambda t: {"corners": t.corners * np.inf}, "NaN or infinite"),
        (lambda t: {"colors": t.colors * -1}, "colors are negative"),
    ],
)
def test_wrong_values_of_triangles(tmp_path: Path, change: Any, words: str) -> None:
    triangles = some_triangles(9, 1, True)
    write_triangles(tmp_path / "a.ply", Triangles(**{**triangles.__dict__, **change(triangles)}))
    path = by_hand(tmp_path, {"mesh_path": "a.ply", "materials": [TEXTURE["material"]] * 5})
    with pytest.raises(InputError) as caught:
        load_scene(path)
    assert words in str(caught.value)


def test_a_header_that_promises_too_much(tmp_path: Path) -> None:
    write_triangles(tmp_path / "a.ply", some_triangles(2, 1, False))
    data = (tmp_path / "a.ply").read_bytes()
    (tmp_path / "a.ply").write_bytes(data.replace(b"vertex 6", b"vertex 30000000").replace(b"face 2", b"face 10000000"))
    path = by_hand(tmp_path, {"mesh_path": "a.ply"})
    with pytest.raises(InputError, match=r"a\.ply: has \d+ bytes, its header promises"):
        load_scene(path)
