"""Bare mesh files, compared with trimesh and with numbers computed by hand."""

from __future__ import annotations

import base64
import json
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import trimesh
from numpy.testing import assert_allclose, assert_array_equal

from renderformer.data.errors import InputError
from renderformer.data.formats import load_scene
from renderformer.data.formats.mesh_file import load_mesh_file
from renderformer.data.formats.mtl import material_from_mtl
from renderformer.data.formats.table import TABLE
from renderformer.data.geometry.triangles import smooth_normals
from renderformer.data.scene import DIFFUSE, EMISSION, ROUGHNESS, SPECULAR, Mesh, flat_normals

SUFFIXES = ["obj", "ply", "stl", "off", "glb", "3mf"]


def solid() -> trimesh.Trimesh:
    """A shape without symmetry, so that a swapped axis shows."""
    mesh = trimesh.creation.icosphere(subdivisions=2)
    mesh.apply_transform(np.diag([1.0, 0.6, 0.3, 1.0]))
    mesh.apply_translation([0.3, -0.2, 0.5])
    return mesh


def multiset(triangles: np.ndarray, digits: int = 5) -> np.ndarray:
    """Triangles in an order that depends only on their corners."""
    start = np.lexsort(np.round(triangles.reshape(-1, 3), digits).T).argsort().reshape(-1, 3).argmin(axis=1)
    turned = np.stack([np.roll(t, -s, axis=0) for t, s in zip(triangles, start, strict=True)])
    flat = turned.reshape(-1, 9)
    return flat[np.lexsort(np.round(flat, digits).T)]


def gltf(path: Path, mesh: trimesh.Trimesh, **parts: Any) -> Path:
    """A glTF file with one mesh; `parts` add to or replace the top level, primitive= adds to the primitive."""
    vertices, faces = mesh.vertices.astype("<f4").tobytes(), mesh.faces.astype("<u4").tobytes()
    extra = parts.pop("extra", b"")
    data = vertices + faces + extra
    document = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": "thing"}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1, **parts.pop("primitive", {})}]}],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": len(mesh.vertices), "type": "VEC3"},
            {"bufferView": 1, "componentType": 5125, "count": mesh.faces.size, "type": "SCALAR"},
            *parts.pop("accessors", []),
        ],
        "bufferViews": [
            {"buffer": 0, "byteOffset": 0, "byteLength": len(vertices)},
            {"buffer": 0, "byteOffset": len(vertices), "byteLength": len(faces)},
            {"buffer": 0, "byteOffset": len(vertices) + len(faces), "byteLength": len(extra)},
        ],
        "buffers": [
            {"byteLength": len(data), "uri": "data:application/octet-stream;base64," + base64.b64encode(data).decode()}
        ],
        **parts,
    }
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_gives_the_same_shape(tmp_path: Path, suffix: str) -> None:
    mesh = solid()
    mesh.export(tmp_path / f"a.{suffix}")
    scene = load_mesh_file(tmp_path / f"a.{suffix}")
    expected = mesh.triangles
    if suffix == "glb":
        # trimesh writes its axes as they are; glTF stands Y up.
        expected = expected[..., [0, 2, 1]] * (1, -1, 1)
    assert len(scene) == len(mesh.faces)
    assert_allclose(multiset(scene.triangles), multiset(expected), atol=1e-5)
    # Faces still point outward, and a shape this round is smooth everywhere.
    assert ((scene.normals * flat_normals(scene.triangles)).sum(-1) > 0.8).all()
    assert np.abs(scene.normals - flat_normals(scene.triangles)).max() > 0.01
    assert not scene.cameras
    assert scene.name == "a"


@pytest.mark.parametrize("suffix", ["obj", "glb", "3mf"])
def test_objects_keep_names_order_and_places(tmp_path: Path, suffix: str) -> None:
    scene = trimesh.Scene()
    names = ["zebra", "apple", "mango"]
    for number, name in enumerate(names):
        place = trimesh.transformations.translation_matrix([0, 0, 3.0 * number])
        scene.add_geometry(trimesh.creation.box(), node_name=name, geom_name=name, transform=place)
    scene.export(tmp_path / f"a.{suffix}")
    scene = load_mesh_file(tmp_path / f"a.{suffix}")
    assert [mesh.name for mesh in scene.objects] == names
    up = 1 if suffix == "glb" else 2
    sign = -1 if suffix == "glb" else 1
    assert_allclose([mesh.bounds.mean(0)[up] * sign for mesh in scene.objects], [0, 3, 6], atol=1e-6)


def test_names_that_repeat_get_numbers(tmp_path: Path) -> None:
    text = "o a\nv 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n"
    path = gltf(tmp_path / "a.gltf", trimesh.creation.box(), nodes=[{"mesh": 0, "name": "b"}] * 2)
    document = json.loads(path.read_text())
    document["scenes"] = [{"nodes": [0, 1]}]
    path.write_text(json.dumps(document))
    assert [mesh.name for mesh in load_mesh_file(path).objects] == ["b", "b_2"]
    (tmp_path / "b.obj").write_text(text)
    assert load_mesh_file(tmp_path / "b.obj").objects[0].name == "a"


def test_gltf_agrees_with_trimesh_on_nodes(tmp_path: Path) -> None:
    """A chain of nodes with rotation, uneven scale and a matrix, one of them mirrored."""
    nodes = [
        {"children": [1, 2], "rotation": [0.1, 0.7, -0.2, 0.6782], "scale": [1, 2, 0.5], "translation": [1, 2, 3]},
        {"mesh": 0, "name": "one", "scale": [-1, 1, 1]},
        {"mesh": 0, "name": "two", "matrix": [0, 1, 0, 0, -1, 0, 0, 0, 0, 0, 1, 0, 5, 0, 0, 1]},
    ]
    path = gltf(tmp_path / "a.gltf", solid(), nodes=nodes)
    scene, other = load_mesh_file(path), trimesh.load_scene(path)
    expected = other.to_mesh().triangles[..., [0, 2, 1]] * (1, -1, 1)
    assert len(scene.objects) == 2
    assert_allclose(multiset(scene.triangles, 3)[:, 0], multiset(expected, 3)[:, 0], atol=1e-3)
    for mesh in scene.objects:
        volume = trimesh.Trimesh(mesh.triangles.reshape(-1, 3), np.arange(3 * len(mesh)).reshape(-1, 3)).volume
        assert volume > 0, mesh.name


def test_gltf_metallic_roughness(tmp_path: Path) -> None:
    material = {
        "pbrMetallicRoughness": {
            "baseColorFactor": [0.8, 0.4, 0.2, 1.0],
            "metallicFactor": 0.25,
            "roughnessFactor": 0.3,
        },
        "emissiveFactor": [1.0, 0.5, 0.0],
        "extensions": {"KHR_materials_emissive_strength": {"emissiveStrength": 100}},
    }
    path = gltf(tmp_path / "a.gltf", solid(), materials=[material], primitive={"material": 0})
    rows = load_mesh_file(path).materials
    base = np.array([0.8, 0.4, 0.2])
    assert_allclose(rows[0, DIFFUSE], base * 0.75 * 0.96, rtol=1e-6)
    assert_allclose(rows[0, SPECULAR], 0.04 * 0.75 + base * 0.25, rtol=1e-6)
    assert_allclose(rows[0, ROUGHNESS], 0.3, rtol=1e-6)
    assert_allclose(rows[0, EMISSION], [100, 50, 0])
    assert (rows == rows[0]).all()


@pytest.mark.parametrize("metallic", [0.0, 0.5, 1.0])
def test_gltf_never_reflects_more_than_all_light(tmp_path: Path, metallic: float) -> None:
    material = {"pbrMetallicRoughness": {"metallicFactor": metallic}}
    path = gltf(tmp_path / "a.gltf", solid(), materials=[material], primitive={"material": 0})
    rows = load_mesh_file(path).materials
    assert (rows[:, DIFFUSE] + rows[:, SPECULAR] <= 1 + 1e-6).all()


def test_gltf_vertex_colors_are_linear(tmp_path: Path) -> None:
    mesh = trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]], process=False)
    colors = np.array([[255, 0, 0, 255], [0, 255, 0, 255], [0, 0, 51, 255]], np.uint8)
    path = gltf(
        tmp_path / "a.gltf",
        mesh,
        extra=colors.tobytes(),
        accessors=[{"bufferView": 2, "componentType": 5121, "normalized": True, "count": 3, "type": "VEC4"}],
        primitive={"attributes": {"POSITION": 0, "COLOR_0": 2}},
    )
    scene = load_mesh_file(path)
    assert_allclose(scene.materials[0, DIFFUSE], [1 / 3, 1 / 3, 0.2 / 3], rtol=1e-5)
    assert scene.appearance is not None
    assert scene.appearance.colors is not None
    assert_allclose(scene.appearance.colors[0], [[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 0.2, 1]], atol=1e-6)


def test_gltf_sparse_and_strip(tmp_path: Path) -> None:
    """A strip of four vertices, the last of them moved by a sparse accessor."""
    mesh = trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [0, 1, 0], [9, 9, 9]], [[0, 1, 2]], process=False)
    path = gltf(tmp_path / "a.gltf", mesh, extra=struct.pack("<I3f", 3, 1, 1, 0), primitive={"mode": 5})
    document = json.loads(path.read_text())
    del document["meshes"][0]["primitives"][0]["indices"]
    document["accessors"][0]["sparse"] = {
        "count": 1,
        "indices": {"bufferView": 2, "componentType": 5125},
        "values": {"bufferView": 2, "byteOffset": 4},
    }
    path.write_text(json.dumps(document))
    triangles = load_mesh_file(path).triangles
    assert_allclose(triangles[0], [[0, 0, 0], [1, 0, 0], [0, 0, 1]])
    # Every triangle of a strip faces the same way.
    assert_allclose(flat_normals(triangles)[:, 0], [[0, -1, 0]] * 2, atol=1e-6)


MTL = """newmtl red
Kd 0.8 0.1 0.1
Ks 0.1 0.1 0.1
Ns 98
illum 2
newmtl lamp
Kd 0 0 0
Ks 0.5 0.5 0.5
Ke 7 6 5
illum 1
newmtl hot
Kd 0.9 0.9 0.9
Ks 0.6 0.5 0.5
Ns 2
d 0.5
"""
OBJ = """mtllib a.mtl
o thing
v 0 0 0
v 1 0 0
v 0 1 0
v 1 1 0
v 0 0 1
usemtl red
f 1 2 3
usemtl lamp
f 2 4 3
usemtl hot
f 1 2 5
"""


def test_mtl_highlight_does_not_bleach_the_colour() -> None:
    """Exporters write a white Ks of 1 beside any Kd, meant as the brightness of a narrow highlight."""
    surface, _ = material_from_mtl({"kd": [0.8, 0.3, 0.3], "ks": [1, 1, 1], "ns": 50})
    row = surface.rows()[0]
    assert_allclose(row[:6], [0.8, 0.3, 0.3, *[8 / 58] * 3], rtol=1e-5)
    # The normalised lobe is as bright in its middle as the Phong highlight of the file.
    assert_allclose(row[3] * (50 + 8) / (8 * np.pi), 1 / np.pi, rtol=1e-5)
    matte, _ = material_from_mtl({"kd": [0.3, 0.3, 0.3], "ks": [0.5, 0.5, 0.5], "ns": 0})
    assert_allclose(matte.rows()[0, 3:7], [0.04, 0.04, 0.04, 1], rtol=1e-5)


def test_mtl_numbers_that_cannot_be_used_are_told() -> None:
    surface, notes = material_from_mtl({"kd": [1.5, 0.5, 0], "ks": ["spectral", "a.rfl"], "ke": [3]})
    assert surface.diffuse == (1.0, 0.5, 0.0)
    assert surface.emission == (3.0, 3.0, 3.0)
    assert notes == ["Kd clipped to 0 … 1", "Ks is not three numbers, replaced by 0"]


def test_mtl(tmp_path: Path) -> None:
    (tmp_path / "a.obj").write_text(OBJ)
    (tmp_path / "a.mtl").write_text(MTL)
    scene = load_mesh_file(tmp_path / "a.obj")
    rows = dict(zip([mesh.name for mesh in scene.objects], [mesh.materials[0] for mesh in scene.objects], strict=True))
    assert list(rows) == ["thing_red", "thing_lamp", "thing_hot"]
    assert_allclose(rows["thing_red"][:7], [0.8, 0.1, 0.1, *[0.008] * 3, 0.02**0.25], rtol=1e-5)
    assert_allclose(rows["thing_lamp"][EMISSION], [7, 6, 5])
    # Illumination model 1 has no highlight.
    assert_allclose(rows["thing_lamp"][SPECULAR], 0)
    # Scaled by one factor, so that its colour stays.
    assert_allclose(rows["thing_hot"][:6], [0.9, 0.9, 0.9, 0.1, 0.5 / 6, 0.5 / 6], rtol=1e-5)
    (hot,) = (mesh for mesh in scene.objects if mesh.name == "thing_hot")
    assert hot.appearance is not None
    assert hot.appearance.materials[0].alpha == 0.5
    assert scene.notes == ()


def test_missing_mtl_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.obj").write_text(OBJ)
    notes = " ".join(load_mesh_file(tmp_path / "a.obj").notes)
    assert "'a.mtl' is missing" in notes
    assert "3 materials are named but not defined" in notes


@pytest.mark.parametrize("name", ["../secret.mtl", "/etc/hosts", "https://example.com/a.mtl"])
def test_materials_outside_the_folder_are_not_read(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    (tmp_path / "secret.mtl").write_text(MTL)
    (folder / "a.obj").write_text(OBJ.replace("a.mtl", name))
    scene = load_mesh_file(folder / "a.obj")
    assert any("not read" in note or "not fetched" in note for note in scene.notes)
    assert (scene.materials[:, DIFFUSE] == 0.5).all()


def test_obj_indices_that_count_backwards(tmp_path: Path) -> None:
    """-1 is the last vertex before the face, not of the file."""
    (tmp_path / "a.obj").write_text(
        "v 0 0 0\nv 1 0 0\nv 0 1 0\nf -3 -2 -1\nv 0 0 5\nv 1 0 5 # a comment\nv 0 1 5\nf -3 -2 -1\n"
    )
    scene = load_mesh_file(tmp_path / "a.obj")
    assert_allclose(sorted(scene.triangles[:, 0, 2]), [0, 5])


@pytest.mark.parametrize(
    "text",
    [
        "v 0 0 0\r\nv 1 0 0\r\nv 0 1 0\r\nf 1 2 3\r\n",
        "v\t0\t0\t0\nv\t1\t0\t0\nv\t0\t1\t0\nf\t1\t2\t3",
        "  v 0 0 0\n  v 1 0 0\n  v 0 1 0\n  f 1 2 3\n",
        "v  0 0 0 1\nv  1e+0 0 0 1\nv  0 1E0 0 1\nvn 0 0 1\nf  1//1 2//1 3//1 \n",
        "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 \\\n3\n",
    ],
)
def test_obj_as_programs_write_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.OBJ").write_bytes(text.encode())
    assert_array_equal(load_mesh_file(tmp_path / "a.OBJ").triangles, [[[0, 0, 0], [1, 0, 0], [0, 1, 0]]])


def test_obj_groups_are_objects_where_there_are_no_others(tmp_path: Path) -> None:
    text = "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\ng one\nf 1 2 3\ng two\nf 1 2 4\n"
    (tmp_path / "a.obj").write_text(text)
    assert [mesh.name for mesh in load_mesh_file(tmp_path / "a.obj").objects] == ["one", "two"]
    (tmp_path / "a.obj").write_text("o all\n" + text)
    assert [mesh.name for mesh in load_mesh_file(tmp_path / "a.obj").objects] == ["all"]


@pytest.mark.parametrize("end", ["<", ">"])
def test_binary_ply_of_quads_and_triangles(tmp_path: Path, end: str) -> None:
    """As Blender writes it; trimesh reads only polygons of one size."""
    header = (
        f"ply\nformat binary_{'little' if end == '<' else 'big'}_endian 1.0\nelement vertex 5\nproperty float x\n"
        "property float y\nproperty float z\nelement face 2\nproperty list uchar uint vertex_indices\nend_header\n"
    )
    points = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 1]], np.float32)
    faces = struct.pack(f"{end}B4I", 4, 0, 1, 2, 3) + struct.pack(f"{end}B3I", 3, 0, 1, 4)
    (tmp_path / "a.ply").write_bytes(header.encode() + points.astype(f"{end}f4").tobytes() + faces)
    expected = points[np.array([[0, 1, 2], [0, 2, 3], [0, 1, 4]])]
    assert_array_equal(load_mesh_file(tmp_path / "a.ply").triangles, expected)
    (tmp_path / "a.ply").write_bytes(header.encode() + points.astype(f"{end}f4").tobytes() + faces[:-5])
    with pytest.raises(InputError, match=r"a\.ply: is truncated, it ends in face 1 of 2"):
        load_mesh_file(tmp_path / "a.ply")


PLY_HEADER = """ply
format {} 1.0
{}element vertex 4
property float x
property float y
property float z
{}property uchar red
property uchar green
property uchar blue
property uchar alpha
element face 2
property list uchar int vertex_indices
{}end_header
"""
PLY_POINTS = [(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0)]
PLY_FACES = [(0, 1, 2), (0, 2, 3)]


@pytest.mark.parametrize("end", ["<", ">"])
@pytest.mark.parametrize(("number", "code"), [("float", "f4"), ("float64", "f8")])
@pytest.mark.parametrize("with_normals", [False, True])
def test_plain_ply_is_read_as_trimesh_reads_it(
    end: str, number: str, code: str, with_normals: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mesh, path = solid(), tmp_path / "plain.ply"
    columns = [mesh.vertices, mesh.vertex_normals] if with_normals else [mesh.vertices]
    names = ["x", "y", "z", "nx", "ny", "nz"][: 3 * len(columns)]
    rows = np.zeros(len(mesh.faces), [("count", "u1"), ("corners", f"{end}i4", 3)])
    rows["count"], rows["corners"] = 3, mesh.faces
    order = "little" if end == "<" else "big"
    header = f"ply\nformat binary_{order}_endian 1.0\ncomment made by hand\nelement vertex {len(mesh.vertices)}\n"
    header += "".join(f"property {number} {name}\n" for name in names)
    header += f"element face {len(rows)}\nproperty list uchar int vertex_indices\nend_header\n"
    data = header.encode() + np.hstack(columns).astype(end + code).tobytes() + rows.tobytes()
    path.write_bytes(data)
    scene = load_mesh_file(path)
    monkeypatch.setattr("renderformer.data.formats.ply._plain", lambda file: None)
    by_trimesh = load_mesh_file(path)
    assert_array_equal(scene.triangles, by_trimesh.triangles)
    assert_array_equal(scene.normals, by_trimesh.normals)
    assert (scene.notes, scene.objects[0].name) == (by_trimesh.notes, by_trimesh.objects[0].name)
    assert_allclose(scene.triangles, mesh.triangles, atol=1e-6)


def test_plain_ply_does_not_wait_for_trimesh(tmp_path: Path) -> None:
    exported = solid()
    exported.export(tmp_path / "plain.ply", vertex_normal=False)
    code = (
        "import sys\nfrom renderformer.data.scene import Scene\n"
        f"Scene.load({str(tmp_path / 'plain.ply')!r})\nassert 'trimesh' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def quarters(path: Path) -> None:
    """A picture whose quarters are red, green (upper right), blue (lower left) and white."""
    pixels = np.zeros((2, 2, 3), np.uint8)
    pixels[0, 0, 0] = pixels[0, 1, 1] = pixels[1, 0, 2] = pixels[1, 1] = 255
    PIL.Image.fromarray(np.repeat(np.repeat(pixels, 32, axis=0), 32, axis=1)).save(path)


def colour_at(mesh: Mesh, triangle: int, weights: tuple[float, float]) -> tuple[list[float], float]:
    assert mesh.appearance is not None
    values = mesh.appearance.values(np.array([triangle]), np.array([weights]), mesh.materials[[triangle]])
    return values.rows[0, DIFFUSE].round(4).tolist(), float(values.alpha[0])


@pytest.mark.parametrize("kind", ["vertex", "face text", "face binary"])
def test_ply_textures_and_alpha(tmp_path: Path, kind: str) -> None:
    """Texture coordinates of vertices, and MeshLab's of the corners of faces; vertex colours multiply."""
    quarters(tmp_path / "a b.png")
    comment, uv = "comment TextureFile a b.png\n", np.array(PLY_POINTS)[:, :2]
    if kind == "vertex":
        text = PLY_HEADER.format("ascii", comment, "property float s\nproperty float t\n", "")
        text += "".join(f"{x} {y} {z} {x} {y} 255 255 255 {51 * x}\n" for x, y, z in PLY_POINTS)
        data = (text + "".join("3 {} {} {}\n".format(*face) for face in PLY_FACES)).encode()
    elif kind == "face text":
        text = PLY_HEADER.format("ascii", comment, "", "property list uchar float texcoord\n")
        text += "".join(f"{x} {y} {z} 255 255 255 {51 * x}\n" for x, y, z in PLY_POINTS)
        corners = [" ".join(map(str, uv[list(face)].reshape(-1))) for face in PLY_FACES]
        lines = ["3 {} {} {} 6 {}\n".format(*face, corner) for face, corner in zip(PLY_FACES, corners, strict=True)]
        data = (text + "".join(lines)).encode()
    else:
        header = PLY_HEADER.format("binary_big_endian", comment, "", "property list uchar float texcoord\n")
        rows = [struct.pack(">3f4B", *point, 255, 255, 255, 51 * point[0]) for point in PLY_POINTS]
        rows += [struct.pack(">B3iB6f", 3, *face, 6, *uv[list(face)].reshape(-1)) for face in PLY_FACES]
        data = header.encode() + b"".join(rows)
    (tmp_path / "a.ply").write_bytes(data)
    scene = load_mesh_file(tmp_path / "a.ply")
    (mesh,) = scene.objects
    assert scene.notes == ()
    # (0.25, 0.125) and (0.75, 0.625) on the first triangle, (0.25, 0.75) on the second.
    assert colour_at(mesh, 0, (0.125, 0.125)) == ([0, 0, 1], pytest.approx(0.2 * 0.25))
    assert colour_at(mesh, 0, (0.125, 0.625)) == ([0, 1, 0], pytest.approx(0.2 * 0.75))
    assert colour_at(mesh, 1, (0.25, 0.5)) == ([1, 0, 0], pytest.approx(0.2 * 0.25))


def test_ply_of_several_pictures(tmp_path: Path) -> None:
    quarters(tmp_path / "a.png")
    PIL.Image.fromarray(np.full((2, 2, 3), 255, np.uint8)).save(tmp_path / "b.png")
    comments = "comment TextureFile a.png\ncomment TextureFile b.png\n"
    properties = "property list uchar float texcoord\nproperty int texnumber\n"
    text = PLY_HEADER.format("ascii", comments, "", properties)
    text += "".join(f"{x} {y} {z} 255 255 255 255\n" for x, y, z in PLY_POINTS)
    text += "3 0 1 2 6 .1 .1 .2 .1 .2 .2 0\n3 0 2 3 6 0 0 1 1 0 1 1\n"
    (tmp_path / "a.ply").write_text(text)
    scene = load_mesh_file(tmp_path / "a.ply")
    assert [mesh.name for mesh in scene.objects] == ["a_0", "a_1"]
    assert_allclose([mesh.materials[0, DIFFUSE] for mesh in scene.objects], [[0, 0, 1], [1, 1, 1]], atol=1e-6)


def test_ply_without_its_picture(tmp_path: Path) -> None:
    text = PLY_HEADER.format("ascii", "comment TextureFile ../a.png\n", "property float s\nproperty float t\n", "")
    text += "".join(f"{x} {y} {z} {x} nan 255 255 255 255\n" for x, y, z in PLY_POINTS)
    (tmp_path / "a.ply").write_text(text + "".join("3 {} {} {}\n".format(*face) for face in PLY_FACES))
    scene = load_mesh_file(tmp_path / "a.ply")
    assert scene.notes == ("a.ply: '../a.png' is outside the folder of the file and is not read",)
    assert_allclose(scene.materials[:, DIFFUSE], 1)


def colored_stl(path: Path, words: list[int], header: bytes = b"") -> np.ndarray:
    """Diffuse colours of a binary file with these attributes of its triangles."""
    rows = np.zeros(len(words), [("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("word", "<u2")])
    rows["corners"] = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]]) + 2 * np.arange(len(words))[:, None, None]
    rows["word"] = words
    path.write_bytes(header.ljust(80, b" ") + struct.pack("<I", len(words)) + rows.tobytes())
    return load_mesh_file(path).materials[:, DIFFUSE]


def test_colours_of_stl(tmp_path: Path) -> None:
    """The same bits are red in one kind of file and blue in the other."""
    path, bit = tmp_path / "a.stl", 1 << 15
    assert_allclose(colored_stl(path, [bit | 31, bit | 31 << 10, 0]), [[0, 0, 1], [1, 0, 0], [0.5] * 3], atol=1e-6)
    magics = colored_stl(path, [31, 31 << 10, bit], b"COLOR=\x00\xff\x00\xff,MATERIAL=")
    assert_allclose(magics, [[1, 0, 0], [0, 0, 1], [0, 1, 0]], atol=1e-6)
    # Zeros, and other numbers without the mark, are no colours.
    assert_allclose(colored_stl(path, [0, 7, 31]), 0.5)


MODEL_3MF = """<?xml version="1.0" encoding="UTF-8"?>
<model unit="millimeter" xmlns="http://schemas.microsoft.com/3dmanufacturing/core/2015/02"
 xmlns:m="http://schemas.microsoft.com/3dmanufacturing/material/2015/02"><resources>
<basematerials id="1"><base name="red" displaycolor="#BC0000"/><base name="x" displaycolor="#00FF00FF"/></basematerials>
<m:colorgroup id="2"><m:color color="#0000FF"/><m:color color="#FFFFFF80"/></m:colorgroup>
<m:texture2d id="3" path="/3D/Textures/a.png" contenttype="image/png" tilestyleu="clamp" tilestylev="mirror"/>
<m:texture2dgroup id="4" texid="3"><m:tex2coord u="0.1" v="0.1"/><m:tex2coord u="0.2" v="0.1"/>
<m:tex2coord u="0.2" v="0.2"/></m:texture2dgroup>
{objects}</resources><build>{items}</build></model>"""
MESH_3MF = """<object id="{id}" type="model" {attributes}><mesh><vertices><vertex x="0" y="0" z="0"/>
<vertex x="1" y="0" z="0"/><vertex x="0" y="1" z="0"/><vertex x="0" y="0" z="1"/></vertices>
<triangles>{triangles}</triangles></mesh></object>"""


def colored_3mf(path: Path, *objects: tuple[str, list[str]]) -> Path:
    """Objects with attributes, and with the attributes of their first triangles, (0, 1, 2) and (0, 1, 3)."""
    corners = ('v1="0" v2="1" v3="2"', 'v1="0" v2="1" v3="3"')
    meshes, items = "", ""
    for number, (attributes, triangles) in enumerate(objects, 10):
        rows = "".join(f"<triangle {v} {more}/>" for v, more in zip(corners, triangles, strict=False))
        meshes += MESH_3MF.format(id=number, attributes=attributes, triangles=rows)
        items += f'<item objectid="{number}" transform="1 0 0 0 1 0 0 0 1 {5 * number} 0 0"/>'
    quarters(path.with_name("a.png"))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("3D/3dmodel.model", MODEL_3MF.format(objects=meshes, items=items))
        archive.write(path.with_name("a.png"), "3D/Textures/a.png")
    return path


def test_colours_of_3mf(tmp_path: Path) -> None:
    """Of base materials and colour groups, of an object or of triangles; equal shapes keep their own colours."""
    objects = [('pid="1" pindex="0"', ["", 'pid="2" p1="0"']), ('pid="1" pindex="1"', ["", 'pid="9" p1="0"'])]
    scene = load_mesh_file(colored_3mf(tmp_path / "a.3mf", *objects))
    first, second = scene.objects
    assert_allclose(first.materials[:, DIFFUSE], [[0.503, 0, 0], [0, 0, 1]], atol=2e-3)
    assert_allclose(second.materials[:, DIFFUSE], [[0, 1, 0], [0.5] * 3], atol=2e-3)
    assert_allclose(second.triangles[0, 0], [55, 0, 0])
    assert first.appearance is None


def test_blended_colours_and_textures_of_3mf(tmp_path: Path) -> None:
    triangles = ['pid="2" p1="0" p2="1" p3="1"', 'pid="4" p1="0" p2="1" p3="2"']
    scene = load_mesh_file(colored_3mf(tmp_path / "a.3mf", ("", triangles)))
    blended, textured = scene.objects
    assert colour_at(blended, 0, (0.0, 0.0)) == ([0, 0, 1], 1)
    assert colour_at(blended, 0, (1.0, 0.0)) == ([1, 1, 1], pytest.approx(128 / 255))
    # The lower left quarter of the picture is blue.
    assert colour_at(textured, 0, (0.3, 0.3)) == ([0, 0, 1], 1)
    assert textured.appearance is not None
    base = textured.appearance.materials[0].textures.base
    assert base is not None
    assert base.wrap == ("clamp", "mirror")
    with zipfile.ZipFile(tmp_path / "a.3mf") as archive:
        model = archive.read("3D/3dmodel.model")
    with zipfile.ZipFile(tmp_path / "b.3mf", "w") as archive:
        archive.writestr("3D/3dmodel.model", model)
    scene = load_mesh_file(tmp_path / "b.3mf")
    assert scene.notes[0] == "b.3mf: texture '/3D/Textures/a.png' is missing"
    assert_allclose(scene.objects[1].materials[:, DIFFUSE], 1)


def test_obj_and_ply_colors_are_srgb(tmp_path: Path) -> None:
    mesh = solid()
    mesh.visual.vertex_colors = np.tile(np.array([188, 0, 255, 255], np.uint8), (len(mesh.vertices), 1))
    for suffix in ("obj", "ply"):
        mesh.export(tmp_path / f"a.{suffix}")
        rows = load_mesh_file(tmp_path / f"a.{suffix}").materials
        # 188 of 255 is 50 % grey in sRGB.
        assert_allclose(rows[:, DIFFUSE], np.tile([0.503, 0, 1], (len(rows), 1)), atol=2e-3)


def test_far_from_the_origin_nothing_is_lost(tmp_path: Path) -> None:
    """At 1e6 float32 steps are 0.06; the file's millimetres must survive."""
    mesh = solid()
    near = multiset((mesh.triangles - mesh.bounds.mean(0)).astype(np.float32))
    mesh.apply_translation([1e6, -2e6, 3e6])
    mesh.export(tmp_path / "a.obj", digits=8)
    scene = load_mesh_file(tmp_path / "a.obj")
    assert_allclose(multiset(scene.triangles - scene.bounds.mean(0)), near, atol=1e-6)
    assert any("moved to the origin by (-1e+06" in note for note in scene.notes)


def test_creases_are_sharp_and_curves_smooth() -> None:
    cylinder = trimesh.creation.cylinder(1, 2, sections=32)
    normals = smooth_normals(cylinder.triangles)
    side = np.abs(cylinder.face_normals[:, 2]) < 0.5
    assert_allclose(normals[~side], flat_normals(cylinder.triangles)[~side], atol=1e-6)
    corners = cylinder.triangles[side] * (1, 1, 0)
    assert_allclose(normals[side], corners / np.linalg.norm(corners, axis=-1, keepdims=True), atol=0.01)
    box = trimesh.creation.box()
    assert_array_equal(smooth_normals(box.triangles), flat_normals(box.triangles))


def test_normals_of_the_file_are_kept_if_they_fit(tmp_path: Path) -> None:
    mesh = solid()
    text = trimesh.exchange.obj.export_obj(mesh, include_normals=True)
    (tmp_path / "a.obj").write_text(text)
    fitting = load_mesh_file(tmp_path / "a.obj")
    assert_allclose(multiset(fitting.normals, 3), multiset(mesh.vertex_normals[mesh.faces], 3), atol=1e-3)
    (tmp_path / "b.obj").write_text(
        "\n".join("vn 0 0 1" if line.startswith("vn") else line for line in text.split("\n"))
    )
    unfitting = load_mesh_file(tmp_path / "b.obj")
    assert ((unfitting.normals * flat_normals(unfitting.triangles)).sum(-1) > 0.8).all()
    assert any("vertex normals ignored" in note for note in unfitting.notes)


def test_degenerate_and_duplicate_triangles_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nv 2 0 0\nf 1 2 3\nf 2 3 1\nf 3 2 1\nf 1 2 4\nf 1 1 2\n")
    scene = load_mesh_file(tmp_path / "a.obj")
    # The third has the same corners the other way round: another side, not a duplicate.
    assert len(scene) == 2
    assert any("2 zero-area triangles dropped" in note for note in scene.notes)
    assert any("1 duplicate triangles dropped" in note for note in scene.notes)


def test_load_scene_stages_bare_meshes_only(tmp_path: Path) -> None:
    solid().export(tmp_path / "a.ply")
    assert not load_scene(tmp_path / "a.ply", stage="raw").cameras
    staged = load_scene(tmp_path / "a.ply")
    assert len(staged.cameras) == 1
    assert not staged.is_dark


def test_every_golden_mesh_loads(goldens: Path) -> None:
    files = sorted(goldens.glob("*/**/*.obj"))
    assert len(files) > 20
    for file in files:
        scene = load_mesh_file(file)
        plain = trimesh.load_mesh(file, process=False)
        assert len(scene) <= len(plain.faces)
        assert_allclose(scene.bounds, plain.bounds if file.stem != "ngon" else scene.bounds, atol=1e-5)


def test_unknown_suffix_lists_the_formats(tmp_path: Path) -> None:
    (tmp_path / "a.fbx").write_bytes(b"x")
    with pytest.raises(InputError, match=r"a\.fbx: \.fbx is not a mesh or scene format; use \.obj, \.ply"):
        load_mesh_file(tmp_path / "a.fbx")


def test_every_format_of_the_table_has_its_module() -> None:
    suffixes = [suffix for entry in TABLE for suffix in entry.suffixes]
    assert len(set(suffixes)) == len(suffixes)
    for entry in TABLE:
        assert callable(entry.load().read)
        assert not entry.writable or callable(entry.load().write)


def test_reading_one_format_loads_no_other(tmp_path: Path) -> None:
    (tmp_path / "a.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    code = (
        "import sys; from renderformer.data.formats import load_scene; load_scene(sys.argv[1], stage='raw');"
        "print(*sys.modules)"
    )
    program = [sys.executable, "-c", code, str(tmp_path / "a.obj")]
    modules = set(subprocess.run(program, check=True, capture_output=True, text=True).stdout.split())
    assert "renderformer.data.formats.obj" in modules
    assert (
        modules & {"h5py", "pydantic", "renderformer.data.formats.gltf", "renderformer.data.formats.scene_json"}
        == set()
    )
