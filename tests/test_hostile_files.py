"""Damaged and hostile files: an error of one line that names the file, no other exception, little memory."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import PIL.Image
import pytest
import trimesh
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from renderformer.checkpoints import read_config
from renderformer.data.appearance import Appearance
from renderformer.data.camera import Camera
from renderformer.data.colour import linear_to_srgb, srgb_to_linear
from renderformer.data.environment import Environment, Sun
from renderformer.data.errors import InputError
from renderformer.data.files import read_bytes
from renderformer.data.formats import load_scene, textures
from renderformer.data.material import Textures
from renderformer.data.scene import Light, Material, Mesh, Scene
from renderformer.data.sets.manifest import parse_manifest
from renderformer.data.texture import Texture
from renderformer.training.config import load_config
from renderformer.viewer.display import Reference

MESHES = ["obj", "ply", "stl", "off", "glb", "gltf", "3mf"]
ALL = [*MESHES, "json", "h5"]
FUZZ = settings(max_examples=60, suppress_health_check=list(HealthCheck))


def scene() -> Scene:
    box = trimesh.creation.box()
    camera = Camera.from_angles(name="one")
    return Scene((Mesh("box", box.triangles, materials=Material(0.5)), Light().mesh()), (camera,))


def rich_scene() -> Scene:
    """What only the extension of scene JSON holds."""
    plain, picture = scene(), np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    material = Material(metallic=0.5, textures=Textures(base=Texture(picture), normal=Texture(picture, False)))
    look = Appearance.of(material, np.zeros((12, 3, 2)), np.ones((12, 3, 4)))
    box = replace(plain.objects[0], appearance=look)
    sun = Environment.gradient(0, 1, 2, suns=(Sun((0, 0, 1)),))
    return plain.replace(objects=(box, *plain.objects[1:]), environment=sun)


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One valid file of each format, by suffix."""
    folder = tmp_path_factory.mktemp("valid")
    box = trimesh.creation.box()
    for suffix in ("obj", "ply", "stl", "off", "glb", "3mf"):
        box.export(folder / f"a.{suffix}")
    for name, data in trimesh.Scene(box).export(file_type="gltf").items():
        (folder / name.replace("model", "a")).write_bytes(data)
    scene().save(folder / "a.h5")
    scene().save(folder / "a.json")
    rich_scene().save(folder / "full.json")
    return {suffix: folder / f"a.{suffix}" for suffix in ALL} | {"full": folder / "full.json"}


def refused(path: Path, *words: str) -> str:
    """The error of reading `path`: one line that names the file and has the words."""
    with pytest.raises(InputError) as caught:
        load_scene(path, stage="raw")
    line = str(caught.value)
    assert "\n" not in line
    assert path.name in line
    assert len(line) < 600
    for word in words:
        assert word in line, line
    return line


def survives(path: Path) -> None:
    """Reading gives a scene or an error of one line."""
    try:
        loaded = load_scene(path, stage="raw")
    except InputError as error:
        line = str(error)
        assert "\n" not in line
        assert path.name in line
    else:
        assert len(loaded) > 0
        assert np.isfinite(loaded.triangles).all()


@pytest.mark.parametrize("suffix", ALL)
def test_valid_files_load(valid: dict[str, Path], suffix: str) -> None:
    assert len(load_scene(valid[suffix], stage="raw")) >= 12


@pytest.mark.parametrize("suffix", ALL)
def test_missing_empty_and_folder(tmp_path: Path, suffix: str) -> None:
    refused(tmp_path / f"none.{suffix}", "does not exist")
    (tmp_path / f"empty.{suffix}").write_bytes(b"")
    refused(tmp_path / f"empty.{suffix}", "empty")
    (tmp_path / f"folder.{suffix}").mkdir()
    refused(tmp_path / f"folder.{suffix}", "is a folder")


@pytest.mark.parametrize("suffix", ["ply", "stl", "off", "glb", "gltf", "3mf", "json", "h5"])
@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9])
def test_truncated(tmp_path: Path, valid: dict[str, Path], suffix: str, keep: float) -> None:
    data = valid[suffix].read_bytes()
    path = tmp_path / f"short.{suffix}"
    path.write_bytes(data[: int(keep * len(data))])
    refused(path)


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    """Old programs write names and comments in Latin-1, and some begin with a byte order mark."""
    triangle = b"v 0 0 0\nv 1 0 0\nv 0 1 0\n"
    (tmp_path / "a.mtl").write_bytes(b"# caf\xe9\nnewmtl gr\xfcn\nKd 0 1 0\n")
    texts = {
        "a.obj": b"# caf\xe9\nmtllib a.mtl\n" + triangle + b"usemtl gr\xfcn\nf 1 2 3\n",
        "mark.obj": b"\xef\xbb\xbf" + triangle + b"f 1 2 3\n",
        "a.off": b"OFF\n# caf\xe9\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n",
        "a.stl": b"solid caf\xe9\nfacet normal 0 0 1\nouter loop\nvertex 0 0 0\nvertex 1 0 0\nvertex 0 1 0\n"
        b"endloop\nendfacet\nendsolid\n",
        "a.ply": b"ply\nformat ascii 1.0\ncomment caf\xe9\nelement vertex 3\nproperty float x\nproperty float y\n"
        b"property float z\nelement face 1\nproperty list uchar int vertex_indices\nend_header\n"
        b"0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_bytes(text)
        assert len(load_scene(tmp_path / name, stage="raw")) == 1, name
    green = load_scene(tmp_path / "a.obj", stage="raw").objects[0]
    assert green.materials[0, 1] > green.materials[0, 0]


def test_binary_data_is_told_from_text(tmp_path: Path, valid: dict[str, Path]) -> None:
    for suffix in (".obj", ".off"):
        (tmp_path / f"a{suffix}").write_bytes(bytes(range(256)))
        refused(tmp_path / f"a{suffix}", "is not text")
    data = valid["stl"].read_bytes()
    (tmp_path / "a.stl").write_bytes(data[:-20])
    refused(tmp_path / "a.stl", f"bytes, the file has {len(data) - 20}")


def test_truncated_ascii_ply(tmp_path: Path) -> None:
    text = trimesh.exchange.ply.export_ply(trimesh.creation.box(), encoding="ascii")
    path = tmp_path / "short.ply"
    path.write_bytes(text)
    assert len(load_scene(path, stage="raw")) == 12
    path.write_bytes(text[: -text[::-1].index(b"\n", 20)])
    refused(path, "is truncated")


@pytest.mark.parametrize("suffix", ALL)
@pytest.mark.parametrize("content", ["obj", "ply", "stl", "off", "glb", "3mf", "json", "h5"])
def test_mislabelled(tmp_path: Path, valid: dict[str, Path], suffix: str, content: str) -> None:
    if suffix == content or (suffix, content) == ("gltf", "glb"):
        pytest.skip("this is the right suffix")
    path = tmp_path / f"wrong.{suffix}"
    shutil.copy(valid[content], path)
    if (suffix, content) == ("glb", "json"):
        refused(path)
        return
    if content in ("stl", "json") or suffix == "json":
        # Binary STL has no signature.
        refused(path)
    else:
        refused(path, "looks like")


@FUZZ
@given(data=st.binary(max_size=300), suffix=st.sampled_from(ALL))
def test_random_bytes(tmp_path_factory: pytest.TempPathFactory, data: bytes, suffix: str) -> None:
    path = tmp_path_factory.mktemp("fuzz") / f"x.{suffix}"
    path.write_bytes(data)
    survives(path)


@FUZZ
@given(data=st.data(), suffix=st.sampled_from(ALL))
def test_changed_bytes(valid: dict[str, Path], data: Any, suffix: str) -> None:
    source = valid[suffix]
    content = bytearray(source.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(1, len(content)))]
    path = source.with_name(f"changed.{suffix}")
    path.write_bytes(bytes(content))
    survives(path)


JUNK = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 10**20), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6,
)


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(data=st.data(), suffix=st.sampled_from(["json", "full", "gltf"]))
def test_any_value_of_a_json_file_replaced(valid: dict[str, Path], data: Any, suffix: str) -> None:
    document = json.loads(valid[suffix].read_text())
    target: Any = document
    while True:
        keys = list(target) if isinstance(target, dict) else list(range(len(target)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(target[key], dict | list) or not target[key] or data.draw(st.integers(0, 4)) == 0:
            break
        target = target[key]
    target[key] = data.draw(JUNK)
    path = valid[suffix].with_stem("junk")
    path.write_text(json.dumps(document))
    survives(path)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e39", "2e9"])
def test_bad_coordinates(tmp_path: Path, value: str) -> None:
    words = ("NaN or infinite",) if value in ("nan", "inf", "-inf") else ("more than 1e9",)
    points = f"0 0 {value}\n{{p}}1 0 0\n{{p}}0 1 0\n"
    (tmp_path / "a.obj").write_text("v " + points.format(p="v ") + "f 1 2 3\n")
    (tmp_path / "a.off").write_text("OFF\n3 1 0\n" + points.format(p="") + "3 0 1 2\n")
    header = "ply\nformat ascii 1.0\nelement vertex 3\nproperty double x\nproperty double y\nproperty double z\n"
    header += "element face 1\nproperty list uchar int vertex_indices\nend_header\n"
    (tmp_path / "a.ply").write_text(header + points.format(p="") + "3 0 1 2\n")
    for suffix in ("obj", "off", "ply"):
        refused(tmp_path / f"a.{suffix}", *words)
    if float(value) < 1e38:
        return
    corners = np.zeros(1, np.dtype([("n", "<3f4"), ("v", "<9f4"), ("a", "<u2")]))
    corners["v"] = [0, 0, np.float32("inf" if value == "1e39" else value), 1, 0, 0, 0, 1, 0]
    (tmp_path / "a.stl").write_bytes(bytes(80) + struct.pack("<I", 1) + corners.tobytes())
    refused(tmp_path / "a.stl", "NaN or infinite")


def test_indices_out_of_range(tmp_path: Path) -> None:
    vertices = "0 0 0\n{p}1 0 0\n{p}0 1 0\n"
    header = "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
    header += "element face 1\nproperty list uchar int vertex_indices\nend_header\n"
    for bad in ("9", "-9"):
        (tmp_path / "a.obj").write_text("v " + vertices.format(p="v ") + f"f 1 2 {bad}\n")
        (tmp_path / "a.off").write_text("OFF\n3 1 0\n" + vertices.format(p="") + f"3 0 1 {bad}\n")
        (tmp_path / "a.ply").write_text(header + vertices.format(p="") + f"3 0 1 {bad}\n")
        for suffix in ("obj", "off", "ply"):
            refused(tmp_path / f"a.{suffix}")
    refused(tmp_path / "a.ply", "vertex -9")
    for face in ("0 1 2", "1 0 2", "1 2 0", "1//1 2//1 0//1"):
        (tmp_path / "a.obj").write_text("v " + vertices.format(p="v ") + f"f {face}\n")
        refused(tmp_path / "a.obj", "vertex 0")


def test_no_faces_and_no_area(tmp_path: Path) -> None:
    (tmp_path / "points.obj").write_text("v 0 0 0\nv 1 0 0\n")
    refused(tmp_path / "points.obj", "no triangles")
    (tmp_path / "line.obj").write_text("v 0 0 0\nv 1 0 0\nv 2 0 0\nf 1 2 3\n")
    refused(tmp_path / "line.obj", "no triangles with an area (1 were dropped)")
    (tmp_path / "a.stl").write_bytes(bytes(84))
    refused(tmp_path / "a.stl", "no triangles")


def quiet_in_memory(path: Path, *words: str, limit: int = 64 * 2**20) -> None:
    """The file is refused at once, without allocating the memory that it announces."""
    tracemalloc.start()
    # Processor time, because other programs may use the machine.
    start = time.process_time()
    try:
        refused(path, *words)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < limit
    assert time.process_time() - start < 5


def test_huge_counts(tmp_path: Path, valid: dict[str, Path]) -> None:
    path = tmp_path / "a.ply"
    path.write_bytes(valid["ply"].read_bytes().replace(b"element vertex 8", b"element vertex 4000000000"))
    quiet_in_memory(path, "4000000000")
    data = bytearray(valid["stl"].read_bytes())
    data[80:84] = b"\xff\xff\xff\xff"
    (tmp_path / "a.stl").write_bytes(data)
    quiet_in_memory(tmp_path / "a.stl")
    (tmp_path / "a.off").write_text("OFF\n4000000000 4000000000 0\n0 0 0\n")
    quiet_in_memory(tmp_path / "a.off")
    document = json.loads(valid["gltf"].read_text())
    for entry in document["accessors"]:
        entry["count"] = 10**10
    target = valid["gltf"].with_name("huge.gltf")
    target.write_text(json.dumps(document))
    quiet_in_memory(target)
    for entry in document["accessors"]:
        del entry["bufferView"]
    target.write_text(json.dumps(document))
    quiet_in_memory(target)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for key, tail in (("triangles", (3, 3)), ("vn", (3, 3)), ("texture", (13, 32, 32))):
            file.create_dataset(key, (10**9, *tail), "f4", chunks=(1, *tail))
        file["c2w"] = np.eye(4, dtype=np.float32)[None]
        file["fov"] = np.ones(1, np.float32)
    quiet_in_memory(tmp_path / "a.h5", "1000000000")


ITEM = b'<item objectid="1"/>'


def threemf(path: Path, model: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("3D/3dmodel.model", model)
    return path


MODEL = (
    b'<?xml version="1.0"?>%b<model unit="millimeter" xmlns="http://schemas.microsoft.com/3dmanufacturing/core/2015/02">'
    b"<resources>%b</resources><build>%b</build></model>"
)
TRIANGLE = (
    b'<object id="0" type="model"><mesh><vertices><vertex x="0" y="0" z="0"/><vertex x="1" y="0" z="0"/>'
    b'<vertex x="0" y="1" z="0"/></vertices><triangles><triangle v1="0" v2="1" v3="2"/></triangles></mesh></object>'
)


def test_3mf_bombs(tmp_path: Path) -> None:
    good = threemf(tmp_path / "good.3mf", MODEL % (b"", TRIANGLE, b'<item objectid="0"/>'))
    assert len(load_scene(good, stage="raw")) == 1

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("3D/3dmodel.model", bytes(2**22))
    # The header announces 8 GiB; nothing is unpacked.
    data = buffer.getvalue().replace(struct.pack("<I", 2**22), struct.pack("<I", 2**32 - 2))
    (tmp_path / "zip.3mf").write_bytes(data)
    quiet_in_memory(tmp_path / "zip.3mf", "unpacks to")

    vertices = TRIANGLE.replace(b"</vertices>", b'<vertex x="0" y="0" z="0"/>' * 200_000 + b"</vertices>")
    xml = MODEL % (b"", vertices, b'<item objectid="0"/>')
    quiet_in_memory(threemf(tmp_path / "xml.3mf", xml), "more than 50 times its size")

    nested = TRIANGLE + b"".join(
        b'<object id="%d"><components><component objectid="%d"/><component objectid="%d"/></components></object>'
        % (i, i - 1, i - 1)
        for i in range(1, 40)
    )
    quiet_in_memory(threemf(tmp_path / "tree.3mf", MODEL % (b"", nested, b'<item objectid="39"/>')), "copies")

    cycle = MODEL % (b"", b'<object id="1"><components><component objectid="1"/></components></object>', ITEM)
    quiet_in_memory(threemf(tmp_path / "cycle.3mf", cycle), "contain each other")

    laughs = b"<!DOCTYPE model [<!ENTITY a0 'ha'>%b]>" % b"".join(
        b"<!ENTITY a%d '%b'>" % (i, b"&a%d;" % (i - 1) * 10) for i in range(1, 12)
    )
    name = TRIANGLE.replace(b'type="model"', b'name="&a11;"')
    quiet_in_memory(threemf(tmp_path / "laughs.3mf", MODEL % (laughs, name, b'<item objectid="0"/>')))

    secret = tmp_path / "secret.txt"
    secret.write_text("1")
    outside = b"<!DOCTYPE model [<!ENTITY s SYSTEM 'file://%b'>]>" % str(secret).encode()
    name = TRIANGLE.replace(b'type="model"', b'name="&s;"')
    survives(threemf(tmp_path / "outside.3mf", MODEL % (outside, name, b'<item objectid="0"/>')))


def test_many_copies_of_a_large_mesh(tmp_path: Path) -> None:
    ball = trimesh.creation.icosphere(subdivisions=5)
    for name, data in trimesh.Scene(ball).export(file_type="gltf").items():
        (tmp_path / name).write_bytes(data)
    document = json.loads((tmp_path / "model.gltf").read_text())
    document["nodes"] = [{"mesh": 0}] * 50_000
    document["scenes"] = [{"nodes": list(range(50_000))}]
    (tmp_path / "many.gltf").write_text(json.dumps(document))
    refused(tmp_path / "many.gltf", "places more than")


def test_gltf_cycles_and_outside_files(valid: dict[str, Path]) -> None:
    source = valid["gltf"]
    document = json.loads(source.read_text())
    path = source.with_name("bad.gltf")

    def write(change: Callable[[dict[str, Any]], None]) -> Path:
        copy = json.loads(json.dumps(document))
        change(copy)
        path.write_text(json.dumps(copy))
        return path

    refused(write(lambda d: d["nodes"][0].update(children=[0])), "cycle")
    for uri, word in (
        ("../../../etc/passwd", "outside the folder"),
        ("https://example.com/a.bin", "URL"),
        ("file:///etc/passwd", "URL"),
        ("none.bin", "missing"),
    ):
        refused(write(lambda d, uri=uri: d["buffers"][0].update(uri=uri)), word)  # type: ignore[misc]
    refused(write(lambda d: d["meshes"][0]["primitives"][0].update(indices=99)), "accessors[99]")
    refused(write(lambda d: d["asset"].update(version="1.0")), "glTF 1.0")


def object_with(**changes: Any) -> dict[str, Any]:
    material = {
        "diffuse": [0.5, 0.5, 0.5],
        "specular": [0, 0, 0],
        "emissive": [0, 0, 0],
        "roughness": 0.5,
        "smooth_shading": False,
    }
    transform = {"translation": [0, 0, 0], "rotation": [0, 0, 0], "scale": [1, 1, 1]}
    entry: dict[str, Any] = {"mesh_path": "a.obj", "material": material, "transform": transform}
    for key, value in changes.items():
        where, _, last = key.rpartition("__")
        (entry[where] if where else entry)[last] = value
    return entry


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"material__roughness": "high"}, 'objects.box.material.roughness is "high"; expected a number'),
        ({"material__roughness": True}, "objects.box.material.roughness is true; expected a number"),
        ({"material__roughness": 1.5}, "objects.box.material.roughness is 1.5; expected a number from 0 to 1"),
        ({"material__roughness": float("nan")}, "objects.box.material.roughness is NaN"),
        ({"material__colour": 1}, "objects.box.material.colour is not a known key"),
        ({"material__diffuse": [1, 2]}, "objects.box.material.diffuse is [1, 2]; expected a list of 3 numbers"),
        ({"material__diffuse": [1, "x", 0]}, 'objects.box.material.diffuse[1] is "x"'),
        ({"material__diffuse": [10**400, 0, 0]}, "objects.box.material.diffuse[0] is 1000"),
        ({"material__emissive": [-1, 0, 0]}, "objects.box.material.emissive[0] is -1"),
        ({"material__smooth_shading": "yes"}, 'objects.box.material.smooth_shading is "yes"; expected true or false'),
        ({"material__rand_tri_diffuse_seed": -1}, "objects.box.material.rand_tri_diffuse_seed is -1"),
        ({"material__rand_tri_diffuse_seed": 2**32}, "objects.box.material.rand_tri_diffuse_seed is 4294967296"),
        ({"material__random_diffuse_type": "rainbow"}, 'objects.box.material.random_diffuse_type is "rainbow"'),
        ({"transform__scale": None}, "objects.box.transform.scale is null"),
        ({"transform__scale": [0, 0, 0]}, "objects.box: no triangle of a.obj has an area"),
        ({"transform__scale": [1e20, 1, 1]}, "objects.box: the largest coordinate"),
        ({"transform": []}, "objects.box.transform is []; expected keys and values"),
        ({"remesh_target_face_num": 0}, "objects.box.remesh_target_face_num is 0"),
        ({"mesh_path": 3}, "objects.box.mesh_path is 3; expected text"),
        ({"mesh_path": "none.obj"}, "which does not exist"),
        ({"mesh_path": "../a.obj"}, "outside the folder of the scene"),
        ({"mesh_path": "sub/../../a.obj"}, "outside the folder of the scene"),
        ({"mesh_path": "link.obj"}, "outside the folder of the scene"),
        ({"mesh_path": "loop.obj"}, "objects.box.mesh_path"),
        ({"mesh_path": "/etc/passwd"}, "an absolute path"),
        ({"mesh_path": "https://example.com/a.obj"}, "a URL"),
        ({"mesh_path": "file:///etc/passwd"}, "a URL"),
        ({"mesh_path": "bad.json"}, "expected a mesh file"),
        ({"mesh_path": "a\0.obj"}, "cannot be followed"),
        ({"mesh_path": "x" * 5000 + ".obj"}, "objects.box.mesh_path"),
        ({"mesh_path": "nan.obj"}, "NaN or infinite"),
        ({"mesh_path": "pipe.obj"}, "pipe.obj: is a named pipe"),
    ],
)
def test_scene_json_objects(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    folder = tmp_path / "scene"
    folder.mkdir()
    (tmp_path / "a.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    shutil.copy(tmp_path / "a.obj", folder / "a.obj")
    (folder / "nan.obj").write_text("v 0 0 nan\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    (folder / "link.obj").symlink_to(tmp_path / "a.obj")
    (folder / "loop.obj").symlink_to(folder / "loop.obj")
    os.mkfifo(folder / "pipe.obj")
    path = folder / "bad.json"
    path.write_text(json.dumps({"version": "1.0", "objects": {"box": object_with(**changes)}}))
    refused(path, words)


def test_names_with_line_ends_stay_on_one_line(tmp_path: Path, valid: dict[str, Path]) -> None:
    """A name in a file must not add lines to a message, or send commands to the terminal."""
    path = tmp_path / "bad.json"
    bad = object_with(material__roughness="x")
    path.write_text(json.dumps({"version": "1.0", "objects": {"a\nerror: b\x1b[31m\u2028c": bad}}))
    line = refused(path, "objects.a error: b [31m c.material.roughness is")
    assert "\x1b" not in line
    document = json.loads(valid["gltf"].read_text())
    for node in document["nodes"]:
        node["name"] = "a\nb"
    document["accessors"][0]["count"] = 1
    target = valid["gltf"].with_name("line.gltf")
    target.write_text(json.dumps(document))
    refused(target)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "holds []; expected keys and values"),
        ('{"asset": {"version": "2.0"}}', "rename it to bad.gltf"),
        ("\x89HDF\r\n", "looks like scene H5"),
        ("{", "not valid JSON, line 1"),
        ("[" * 100000, "nested too deeply"),
        ('{"version": "1.0", "objects": ' + "[" * 980 + "]" * 980 + "}", "bad.json"),
        ('{"version": ' + "1" * 5000 + "}", "not valid JSON"),
        ('{"version": "1.0", "objects": {"float": 1}}', "objects.float is 1"),
        ("\xff\xfe", "UTF-8"),
        ('{"objects": {}}', "version is missing"),
        ('{"version": "2.0", "objects": {}}', 'version is "2.0"; expected "1.0"'),
        ('{"version": 1.0, "objects": {}}', 'version is 1.0; expected "1.0"'),
        ('{"version": "1.0"}', "objects is missing"),
        ('{"version": "1.0", "objects": {}}', "objects is empty"),
        ('{"version": "1.0", "objects": []}', "objects is []; expected keys and values"),
        ('{"version": "1.0", "objects": {"a": 1}}', "objects.a is 1; expected keys and values"),
        ('{"version": "1.0", "objects": {}, "lights": []}', "lights is not a known key"),
        ('{"version": "1.0", "version": "1.0", "objects": {}}', "occurs twice"),
        ('{"version": "1.0", "objects": {"a": {"mesh_path": "x.obj"}}}', "objects.a.material is missing"),
    ],
)
def test_scene_json_documents(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(text.encode("latin-1"))
    refused(path, words)


@pytest.mark.parametrize(
    ("camera", "words"),
    [
        ({"fov": 0}, "cameras[0]: fov is 0"),
        ({"fov": "wide"}, 'cameras[0].fov is "wide"'),
        ({"look_at": [0, -2, 0]}, "cameras[0]: position and target are the same point"),
        ({"up": [0, 1, 0]}, "cameras[0]: up is [0.0, 1.0, 0.0], parallel"),
        ({"up": [0, 0]}, "cameras[0].up is [0, 0]; expected a list of 3 numbers"),
        ({"roll": 3}, "cameras[0].roll is not a known key"),
    ],
)
def test_scene_json_cameras(tmp_path: Path, camera: dict[str, Any], words: str) -> None:
    (tmp_path / "a.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    full = {"position": [0, -2, 0], "look_at": [0, 0, 0], "up": [0, 0, 1], "fov": 30, **camera}
    path = tmp_path / "bad.json"
    path.write_text(json.dumps({"version": "1.0", "objects": {"box": object_with()}, "cameras": [full]}))
    refused(path, words)


def test_scene_without_cameras_or_lights_loads_with_notes(tmp_path: Path) -> None:
    (tmp_path / "a.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"version": "1.0", "objects": {"box": object_with()}}))
    notes = " ".join(load_scene(path).notes)
    assert "no cameras" in notes
    assert "no lights" in notes


def change_h5(file: h5py.File, key: str, value: np.ndarray) -> None:
    del file[key]
    file[key] = value


H5_DAMAGE: list[tuple[Callable[[h5py.File], None], str]] = [
    (lambda f: f.__delitem__("vn"), "the dataset 'vn' is missing"),
    (lambda f: change_h5(f, "triangles", f["triangles"][:, :2]), "triangles has shape (13, 2, 3), expected (N, 3, 3)"),
    (lambda f: change_h5(f, "triangles", f["triangles"][:].astype(int)), "triangles holds int64"),
    (lambda f: change_h5(f, "texture", f["texture"][:, :, :16]), "texture has shape (13, 13, 16, 32)"),
    (lambda f: change_h5(f, "texture", f["texture"][:5]), "texture has 5 entries, triangles has 13"),
    (lambda f: change_h5(f, "vn", np.array(1.0)), "vn has shape ()"),
    (lambda f: change_h5(f, "fov", np.array([30.0, 40.0])), "fov has 2 entries, c2w has 1"),
    (lambda f: change_h5(f, "fov", np.array([-1.0])), "cameras[0]: fov is -1"),
    (lambda f: change_h5(f, "c2w", np.zeros((1, 4, 4), np.float32)), "cameras[0]: c2w is not a rigid transform"),
    (lambda f: change_h5(f, "vn", f["vn"][:] * np.nan), "NaN or infinite"),
    (lambda f: change_h5(f, "triangles", f["triangles"][:] * 1e12), "more than 1e9"),
    (lambda f: change_h5(f, "texture", f["texture"][:] * np.float16(np.nan)), "texture holds NaN"),
    (lambda f: change_h5(f, "vn", np.array([b"x"] * 13)), "vn"),
    (lambda f: change_h5(f, "triangles", np.zeros((0, 3, 3), np.float32)), "triangles"),
]


@pytest.mark.parametrize(("damage", "words"), H5_DAMAGE)
def test_scene_h5(tmp_path: Path, valid: dict[str, Path], damage: Callable[[h5py.File], None], words: str) -> None:
    path = tmp_path / "bad.h5"
    shutil.copy(valid["h5"], path)
    with h5py.File(path, "r+") as file:
        damage(file)
    refused(path, words)


def test_scene_h5_does_not_follow_links_to_other_files(tmp_path: Path, valid: dict[str, Path]) -> None:
    path = tmp_path / "bad.h5"
    shutil.copy(valid["h5"], path)
    with h5py.File(path, "r+") as file:
        del file["triangles"]
        file["triangles"] = h5py.ExternalLink(str(valid["h5"]), "triangles")
    refused(path, "another file")
    with h5py.File(path, "r+") as file:
        del file["triangles"]
        layout = h5py.VirtualLayout((13, 3, 3), "f4")
        layout[:] = h5py.VirtualSource(str(valid["h5"]), "triangles", (13, 3, 3))
        file.create_virtual_dataset("triangles", layout)
    refused(path, "another file")


@pytest.mark.parametrize("suffix", ["json", "h5"])
def test_saving_to_impossible_places(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / f"folder.{suffix}").mkdir()
    for path in (tmp_path / "none" / f"a.{suffix}", tmp_path / "file" / f"a.{suffix}", tmp_path / f"folder.{suffix}"):
        with pytest.raises(InputError) as caught:
            scene().save(path)
        assert "cannot write" in str(caught.value)
        assert "\n" not in str(caught.value)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["file", f"folder.{suffix}"]


def ended(path: Path, seconds: float = 20) -> str:
    """The notes or the error of loading a file in another process, which is killed after some seconds."""
    code = (
        "import sys\n"
        "from renderformer.data.errors import InputError\n"
        "from renderformer.data.formats import load_scene\n"
        "try:\n    print(*load_scene(sys.argv[1], stage='raw').notes)\n"
        "except InputError as error:\n    print('refused', error)\n"
    )
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=True)
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""
    return done.stdout


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """A named pipe without a writer; opening it for reading blocks."""
    path = tmp_path / "pipe.bin"
    os.mkfifo(path)
    return path


def test_named_pipes_beside_a_file(tmp_path: Path, valid: dict[str, Path], pipe: Path) -> None:
    document = json.loads(valid["gltf"].read_text())
    for buffer in document["buffers"]:
        buffer["uri"] = pipe.name
    (tmp_path / "a.gltf").write_text(json.dumps(document))
    assert "a.gltf: needs 'pipe.bin' is a named pipe" in ended(tmp_path / "a.gltf")
    triangle = "v 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nusemtl a\nf 1/1 2/1 3/1\n"
    (tmp_path / "library.obj").write_text("mtllib pipe.bin\n" + triangle)
    assert "'pipe.bin' is a named pipe and is not read" in ended(tmp_path / "library.obj")
    (tmp_path / "a.mtl").write_text("newmtl a\nmap_Kd pipe.bin\n")
    (tmp_path / "picture.obj").write_text("mtllib a.mtl\n" + triangle)
    assert "'pipe.bin' is a named pipe and is not read" in ended(tmp_path / "picture.obj")


@pytest.mark.parametrize("suffix", ALL)
def test_special_files(tmp_path: Path, suffix: str) -> None:
    """A check before a file is opened would miss a link that is changed after it, so files open without waiting."""
    (tmp_path / f"device.{suffix}").symlink_to("/dev/zero")
    refused(tmp_path / f"device.{suffix}", "is a device; give a regular file")
    os.mkfifo(tmp_path / f"pipe.{suffix}")
    refused(tmp_path / f"pipe.{suffix}", "is a named pipe; give a regular file")
    with socket.socket(socket.AF_UNIX) as server, contextlib.chdir(tmp_path):
        server.bind(f"socket.{suffix}")
        refused(tmp_path / f"socket.{suffix}", "is a socket; give a regular file")
    (tmp_path / f"loop.{suffix}").symlink_to(tmp_path / f"loop.{suffix}")
    refused(tmp_path / f"loop.{suffix}", "cannot be read")


def test_long_lines_and_many_names_of_obj(tmp_path: Path) -> None:
    """No time that grows with the square of a line or of the number of missing pictures."""
    count = 1000
    for number in range(2000):
        (tmp_path / f"other {number}").touch()
    spaces, options = " " * 1_000_000, "-bm 1 " * 300_000
    corners = "v 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\n"
    faces = "".join(f"usemtl m{i}\nf 1/1 2/1 3/1\n" for i in range(count))
    (tmp_path / "a.obj").write_text(f"mtllib a{spaces}b\nmtllib a.mtl\n{corners}{faces}")
    materials = "".join(f"newmtl m{i}\nmap_Kd gone{i}.png\nmap_Ks {options if i == 0 else 'x'}\n" for i in range(count))
    (tmp_path / "a.mtl").write_text(materials)
    header = "ply\nformat ascii 1.0\ncomment TextureFile a" + spaces + "b\nelement vertex 3\nproperty float x\n"
    header += "property float y\nproperty float z\nelement face 1\nproperty list uchar int vertex_indices\nend_header\n"
    (tmp_path / "a.ply").write_text(header + "0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n")
    start = time.process_time()
    notes = load_scene(tmp_path / "a.obj", stage="raw").notes
    assert any(f"and {count} other pictures are not read either" in note for note in notes)
    assert len(load_scene(tmp_path / "a.ply", stage="raw")) == 1
    assert time.process_time() - start < 20


def test_a_pipe_that_replaces_a_file(tmp_path: Path, pipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The path is a file when it is checked and a pipe when it is opened."""
    regular = tmp_path / "a.obj"
    regular.write_text("v 0 0 0\n")
    status = regular.stat()
    monkeypatch.setattr(Path, "stat", lambda self: status)
    with pytest.raises(InputError, match="is a named pipe"):
        read_bytes(pipe, 100)


def test_special_settings(tmp_path: Path) -> None:
    for name in ("config.json", "manifest.json", "a.yaml", "a.png"):
        os.mkfifo(tmp_path / name)
    with pytest.raises(InputError, match="is a named pipe"):
        read_config(tmp_path)
    with pytest.raises(InputError, match="is a named pipe"):
        parse_manifest(tmp_path)
    with pytest.raises(InputError, match="is a named pipe"):
        load_config(tmp_path / "a.yaml")
    with pytest.raises(InputError, match="is a named pipe"):
        Reference.load(tmp_path / "a.png")


def test_size_limit(tmp_path: Path) -> None:
    path = tmp_path / "sparse.obj"
    with path.open("wb") as file:
        file.truncate(2**43)
    quiet_in_memory(path, "has 8192.0 GiB, more than the 4 GiB that are read")


def test_h5_of_many_chunks(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["triangles"] = file["vn"] = np.zeros((80, 3, 3), np.float32)
        # No chunk is written: the number alone matters.
        file.create_dataset("texture", (80, 13, 32, 32), "f2", chunks=(1, 1, 1, 1))
        file["c2w"] = np.eye(4, dtype=np.float32)[None]
        file["fov"] = np.ones(1, np.float32)
    quiet_in_memory(path, "texture is stored in 1064960 chunks of 1x1x1x1", "at least 2 KiB")


def nodes_file(valid: dict[str, Path], nodes: list[dict[str, Any]], roots: list[int], **changes: Any) -> Path:
    document = json.loads(valid["gltf"].read_text()) | changes
    document |= {"nodes": nodes, "scenes": [{"nodes": roots}], "scene": 0}
    path = valid["gltf"].with_name("nodes.gltf")
    path.write_text(json.dumps(document))
    return path


COUNT = 10_000


def test_ten_thousand_nodes(valid: dict[str, Path]) -> None:
    flat = [{"mesh": 0, "translation": [2 * i, 0, 0]} for i in range(COUNT)]
    start = time.process_time()
    loaded = load_scene(nodes_file(valid, flat, list(range(COUNT))), stage="raw")
    assert time.process_time() - start < 10
    assert len(loaded) == 12 * COUNT
    assert loaded.notes[0] == "nodes.gltf: 10000 objects joined to 1 because there are more than 256"
    corners = loaded.triangles.reshape(COUNT, 36, 3)
    assert np.abs(corners - corners[:1] - np.arange(COUNT)[:, None, None] * [2.0, 0, 0]).max() < 0.01

    nested = [{"children": [i + 1]} for i in range(COUNT)] + [{"mesh": 0}]
    assert len(load_scene(nodes_file(valid, nested, [0]), stage="raw")) == 12


@pytest.mark.parametrize(
    "children",
    [
        lambda i: [(i + 1) % COUNT],
        lambda i: [min(i + 1, COUNT - 1)] * 2,
        lambda i: [0] if i else list(range(COUNT)),
    ],
    ids=["cycle", "shared", "all"],
)
def test_ten_thousand_nodes_that_repeat(valid: dict[str, Path], children: Callable[[int], list[int]]) -> None:
    nodes = [{"mesh": 0, "children": children(i)} for i in range(COUNT)]
    quiet_in_memory(nodes_file(valid, nodes, [0]), "form a cycle or are shared too often")


def test_too_many_nodes(valid: dict[str, Path]) -> None:
    quiet_in_memory(nodes_file(valid, [{}] * 100_001, [*range(100_001)]), "more than 100000 nodes", limit=2**27)


def test_many_objects_keep_materials_and_lights(valid: dict[str, Path]) -> None:
    """Objects of a file with very many are joined; the material of each triangle stays."""
    document = json.loads(valid["gltf"].read_text())
    primitive = document["meshes"][0]["primitives"][0]
    colour = [[i / 400, 0.5, 0.25, 1] for i in range(400)]
    materials = [{"pbrMetallicRoughness": {"baseColorFactor": c}} for c in colour]
    materials[7]["emissiveFactor"] = [1, 1, 1]  # type: ignore[assignment]
    meshes = [{"primitives": [{**primitive, "material": i}]} for i in range(400)]
    nodes = [{"mesh": i, "name": f"box {i}"} for i in range(400)]
    for node in nodes:
        node["translation"] = [3 * int(node["mesh"]), 0, 0]  # type: ignore[call-overload]
    path = nodes_file(valid, nodes, list(range(400)), materials=materials, meshes=meshes)
    loaded = load_scene(path, stage="raw")
    assert [mesh.name for mesh in loaded.objects] == ["box 0 and 398 more", "box 7"]
    assert [mesh.emits for mesh in loaded.objects] == [False, True]
    box = np.rint(loaded.triangles.mean(axis=1)[:, 0] / 3).astype(int)
    few = load_scene(nodes_file(valid, nodes[:200], list(range(200)), materials=materials, meshes=meshes), stage="raw")
    assert len(few.objects) == 200
    for number in (0, 7, 199):
        expected = few.objects[number].materials[0]
        assert (loaded.materials[box == number] == expected).all()
        assert (box == number).sum() == 12


def textured(path: Path, picture: bytes, materials: int = 1) -> Path:
    """A glTF file of one triangle per material; all materials show the same picture, once over the triangle."""
    numbers = np.array([0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 1], "<f4").tobytes()
    path.with_name("triangle.bin").write_bytes(numbers)
    path.with_name("picture").write_bytes(picture)
    attributes = {"POSITION": 0, "TEXCOORD_0": 1}
    document = {
        "asset": {"version": "2.0"},
        "scenes": [{"nodes": list(range(materials))}],
        "nodes": [{"mesh": i, "translation": [2 * i, 0, 0]} for i in range(materials)],
        "meshes": [{"primitives": [{"attributes": attributes, "material": i}]} for i in range(materials)],
        "materials": [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}] * materials,
        "textures": [{"source": 0}],
        "images": [{"uri": "picture"}],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"},
            {"bufferView": 1, "componentType": 5126, "count": 3, "type": "VEC2"},
        ],
        "bufferViews": [
            {"buffer": 0, "byteOffset": 0, "byteLength": 36},
            {"buffer": 0, "byteOffset": 36, "byteLength": 24},
        ],
        "buffers": [{"uri": "triangle.bin", "byteLength": len(numbers)}],
    }
    path.write_text(json.dumps(document))
    return path


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    PIL.Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def test_a_large_picture_takes_little_memory(tmp_path: Path) -> None:
    """Of 36 million pixels; grey, so that Pillow decodes it fast."""
    row = np.tile(np.linspace(0, 255, 6000).astype(np.uint8), (6000, 1))
    path = textured(tmp_path / "a.gltf", encoded(row))
    tracemalloc.start()
    start = time.process_time()
    loaded = load_scene(path, stage="raw")
    seconds, peak = time.process_time() - start, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert loaded.notes[0] == "a.gltf: base texture of 6000 x 6000 pixels reduced to 3000 x 3000"
    assert peak < 200e6
    assert seconds < 15
    # The texture is black at the left and white at the right.
    # A base colour alone is a metal: it is in the specular channels.
    assert loaded.patches is not None
    patch = loaded.patches[0][0, 3]
    assert patch[31, 0] > 0.85
    assert patch[2, 29] < 0.1


@pytest.mark.parametrize("srgb", [True, False])
@pytest.mark.parametrize("shape", [(40, 40), (41, 43), (1, 1600), (1600, 1)])
def test_reduced_pictures_are_means_of_light(
    monkeypatch: pytest.MonkeyPatch, srgb: bool, shape: tuple[int, int]
) -> None:
    monkeypatch.setattr(textures, "MAX_PIXELS", 200)
    pixels = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    notes: list[str] = []
    reduced = textures.PictureDecoder(notes).pixels(encoded(pixels), "texture", srgb)
    assert reduced is not None
    rows, columns = min(3, shape[0]), min(3, shape[1])
    if shape[0] == shape[1]:
        assert reduced.shape == (13, 13, 3)
    height, width = reduced.shape[:2]
    assert notes == [f"texture of {shape[1]} x {shape[0]} pixels reduced to {width} x {height}"]
    light = pixels[: rows * height, : columns * width] / 255
    light = srgb_to_linear(light) if srgb else light
    mean = light.reshape(height, rows, width, columns, 3).mean(axis=(1, 3))
    values = linear_to_srgb(mean) if srgb else mean
    assert np.abs(reduced - 255 * values).max() < 0.51


def test_picture_bombs(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(2**24))
    chunks = [(b"IHDR", header), (b"IDAT", body), (b"IEND", b"")]
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    tracemalloc.start()
    loaded = load_scene(textured(tmp_path / "a.gltf", png), stage="raw")
    assert tracemalloc.get_traced_memory()[1] < 2**26
    tracemalloc.stop()
    assert loaded.notes[0].startswith("a.gltf: base texture ignored, it ")
    notes: list[str] = []
    decoder = textures.PictureDecoder(notes)
    wide = PIL.Image.new("1", (2**16, 1))
    assert decoder.pixels(wide, "texture") is None
    assert notes[-1].startswith("texture ignored, it has 65536 x 1 pixels")


def test_the_pictures_of_a_file_share_their_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(textures, "MAX_KEPT", 40_000)
    monkeypatch.setattr(textures, "MIN_PIXELS", 16)
    monkeypatch.setattr(textures, "MAX_DECODED", 100 * 10_000)
    notes: list[str] = []
    decoder = textures.PictureDecoder(notes)
    picture = encoded(np.zeros((100, 100, 3), np.uint8))
    sizes = [p.size // 3 for _ in range(100) if (p := decoder.pixels(picture, "texture")) is not None]
    assert len(sizes) == 100
    assert sizes[0] == 10_000
    assert sum(sizes) < 45_000
    assert decoder.pixels(picture, "texture") is None
    assert "ignored" in notes[-1]


def test_materials_share_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    original = PIL.Image.open

    def opened(*args: Any, **kwargs: Any) -> PIL.Image.Image:
        calls.append("open")
        return original(*args, **kwargs)

    def read(image: Any, mode: str) -> np.ndarray:
        calls.append("read")
        return np.zeros((64, 64, 3), np.uint8)

    monkeypatch.setattr(PIL.Image, "open", opened)
    path = textured(tmp_path / "a.gltf", encoded(np.zeros((64, 64, 3), np.uint8)), materials=200)
    assert len(load_scene(path, stage="raw")) == 200
    assert len(calls) == 1
    lines = ["mtllib a.mtl", *(f"v {x} {y} 0" for x, y in ((0, 0), (1, 0), (0, 1))), "vt 0 0"]
    lines += [line for i in range(20) for line in (f"o {i}", f"usemtl m{i}", "f 1/1 2/1 3/1")]
    (tmp_path / "a.obj").write_text("\n".join(lines) + "\n")
    (tmp_path / "a.mtl").write_text("".join(f"newmtl m{i}\nmap_Kd picture\n" for i in range(20)))
    monkeypatch.setattr(textures, "_pixels", read)
    load_scene(tmp_path / "a.obj", stage="raw")
    assert calls.count("read") == 1


def test_3mf_of_many_copies(tmp_path: Path) -> None:
    item = b'<item objectid="0"/>'
    assert len(load_scene(threemf(tmp_path / "few.3mf", MODEL % (b"", TRIANGLE, item * 300)), stage="raw")) == 1
    path = threemf(tmp_path / "many.3mf", MODEL % (b"", TRIANGLE, item * 10_000))
    quiet_in_memory(path, "places more than 4000 copies")
