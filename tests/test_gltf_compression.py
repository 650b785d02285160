"""Draco and meshopt compression in glTF, compared with the same geometry uncompressed and with formulas."""

from __future__ import annotations

import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from helpers.gltf import Gltf, turned
from numpy.testing import assert_allclose

from renderformer.data.errors import InputError
from renderformer.data.formats.gltf.draco_header import counts
from renderformer.data.formats.mesh_file import load_mesh_file

DracoPy = pytest.importorskip("DracoPy")
meshopt = pytest.importorskip("meshopt")

DRACO = "KHR_draco_mesh_compression"
MESHOPT = "EXT_meshopt_compression"


def ball() -> trimesh.Trimesh:
    mesh = trimesh.creation.icosphere(subdivisions=2)
    mesh.apply_transform(np.diag([1.0, 0.6, 0.3, 1.0]))
    return mesh


def draco_file(stream: bytes, vertices: int, faces: int, numbers: dict[str, int], **accessors: dict[str, Any]) -> Gltf:
    """A primitive without data but its Draco stream."""
    file = Gltf(nodes=[{"mesh": 0}], extensionsRequired=[DRACO])
    view = file.view(stream)
    layout = {"componentType": 5126, "count": vertices}
    kinds = {"POSITION": "VEC3", "NORMAL": "VEC3", "TEXCOORD_0": "VEC2", "COLOR_0": "VEC4"}
    attributes = {
        name: file.add("accessors", {**layout, "type": kinds[name], **accessors.get(name, {})}) for name in numbers
    }
    indices = file.add("accessors", {"componentType": 5125, "count": 3 * faces, "type": "SCALAR"})
    file.mesh(attributes, indices=indices, extensions={DRACO: {"bufferView": view, "attributes": numbers}})
    return file


def encoded(mesh: trimesh.Trimesh, **options: Any) -> tuple[bytes, Any]:
    stream = DracoPy.encode(mesh.vertices.astype(np.float32), mesh.faces.astype(np.uint32), **options)
    return stream, DracoPy.decode(stream)


def assert_same_triangles(actual: np.ndarray, expected: np.ndarray, atol: float) -> None:
    """The same triangles with the same orientation, in whatever order and from whatever corner on."""
    distance = np.abs(actual.mean(1)[:, None] - expected.mean(1)).max(-1)
    nearest = distance.argmin(1)
    assert sorted(nearest) == list(range(len(expected)))
    turns = [np.abs(actual - np.roll(expected[nearest], k, axis=1)).max((1, 2)) for k in range(3)]
    assert np.min(turns, axis=0).max() <= atol


@pytest.mark.parametrize("options", [{"quantization_bits": 16}, {"compression_level": 0, "preserve_order": True}])
def test_draco(tmp_path: Path, options: dict[str, Any]) -> None:
    mesh = ball()
    stream, decoded = encoded(mesh, normals=mesh.vertex_normals.astype(np.float64), **options)
    ids = {item["attribute_type"]: item["unique_id"] for item in decoded.attributes}
    file = draco_file(stream, len(decoded.points), len(decoded.faces), {"POSITION": ids[0], "NORMAL": ids[1]})
    (loaded,) = load_mesh_file(file.save(tmp_path / "a.glb")).objects
    assert len(loaded) == len(mesh.faces)
    # Up to the step of the quantisation.
    assert_same_triangles(loaded.triangles, turned(mesh.triangles), 1e-3)
    assert ((loaded.normals * loaded.triangles / [1, 0.09, 0.36]).sum(-1) > 0).all()


def test_draco_colours_are_normalised(tmp_path: Path) -> None:
    mesh = ball()
    colours = np.tile(np.array([51, 102, 255, 255], np.uint8), (len(mesh.vertices), 1))
    stream, decoded = encoded(mesh, colors=colours)
    ids = {item["attribute_type"]: item["unique_id"] for item in decoded.attributes}
    byte = {"componentType": 5121, "normalized": True}
    file = draco_file(
        stream, len(decoded.points), len(decoded.faces), {"POSITION": ids[0], "COLOR_0": ids[2]}, COLOR_0=byte
    )
    (loaded,) = load_mesh_file(file.save(tmp_path / "a.gltf")).objects
    assert_allclose(loaded.materials[:, :3], np.tile([0.2, 0.4, 1], (len(loaded), 1)), atol=1e-6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: b"DRAC0" + s[5:], "not a Draco stream"),
        (lambda s: s[:12], "ends inside its header"),
        (lambda s: s[: len(s) // 2], "cannot be decompressed"),
        # The numbers of vertices and faces, as the longest numbers there are.
        (lambda s: s[:12] + b"\xff\xff\xff\xff\x0f" * 2 + s[16:], "announces 4294967295 faces or vertices"),
    ],
)
def test_damaged_draco(tmp_path: Path, change: Any, words: str) -> None:
    stream, decoded = encoded(ball())
    file = draco_file(change(stream), len(decoded.points), len(decoded.faces), {"POSITION": 0})
    path = file.save(tmp_path / "a.glb")
    tracemalloc.start()
    start = time.process_time()
    with pytest.raises(InputError, match=words):
        load_mesh_file(path)
    assert time.process_time() - start < 5
    assert tracemalloc.get_traced_memory()[1] < 2**26
    tracemalloc.stop()


def test_draco_that_contradicts_the_header(tmp_path: Path) -> None:
    stream, decoded = encoded(ball())
    for vertices, numbers, words in (
        (len(decoded.points) + 1, {"POSITION": 0}, "has the shape"),
        (len(decoded.points), {"POSITION": 7}, "no attribute 7 for POSITION"),
        (len(decoded.points), {"POSITION": "x"}, "no attribute 'x'"),
    ):
        file = draco_file(stream, vertices, len(decoded.faces), numbers)  # type: ignore[arg-type]
        with pytest.raises(InputError, match=words):
            load_mesh_file(file.save(tmp_path / "a.glb"))
    cloud = DracoPy.encode(ball().vertices.astype(np.float32))
    with pytest.raises(InputError, match="cloud of points"):
        load_mesh_file(draco_file(cloud, 162, 1, {"POSITION": 0}).save(tmp_path / "a.glb"))


def test_counts_of_draco_streams() -> None:
    """Read from the header by the specification, compared with what the decoder gives."""
    mesh = ball()
    for options in (
        {"compression_level": 0, "preserve_order": True},
        {"compression_level": 7},
        {"create_metadata": True},
    ):
        faces, vertices = counts(encoded(mesh, **options)[0])
        assert (faces, vertices) == (len(mesh.faces), len(mesh.vertices)), options
    named = encoded(mesh, generic_attributes={"warmth": np.zeros((len(mesh.vertices), 1), np.float32)})[0]
    assert counts(named) == (len(mesh.faces), len(mesh.vertices))


def meshopt_view(file: Gltf, stream: bytes, count: int, stride: int, mode: str, filter_name: str = "NONE") -> int:
    """A compressed view; its fallback buffer has no data."""
    if "buffers" not in file.document:
        file.document["buffers"] = [{"byteLength": 0, "extensions": {MESHOPT: {"fallback": True}}}]
    source = {"buffer": 0, "byteOffset": len(file.data), "byteLength": len(stream)}
    compression = {**source, "byteStride": stride, "count": count, "mode": mode, "filter": filter_name}
    file.data += stream + bytes(-len(stream) % 4)
    entry = {"buffer": 1, "byteLength": count * stride, "extensions": {MESHOPT: compression}}
    if mode == "ATTRIBUTES":
        entry["byteStride"] = stride
    return file.add("bufferViews", entry)


def meshopt_file(
    rows: np.ndarray, faces: np.ndarray, layout: dict[str, Any], filter_name: str = "NONE", index: str = "u4"
) -> Gltf:
    file = Gltf(nodes=[{"mesh": 0}], extensionsRequired=[MESHOPT])
    stride = rows.dtype.itemsize * rows.shape[1]
    stream = meshopt.encode_vertex_buffer(rows)
    view = meshopt_view(file, bytes(stream), len(rows), stride, "ATTRIBUTES", filter_name)
    stream = meshopt.encode_index_buffer(faces.ravel().astype(np.uint32))
    indices = meshopt_view(file, bytes(stream), faces.size, np.dtype(index).itemsize, "TRIANGLES")
    kind = {"u2": 5123, "u4": 5125}[index]
    points = file.add("accessors", {"bufferView": view, "count": len(rows), "type": "VEC3", **layout})
    corners = file.add(
        "accessors", {"bufferView": indices, "componentType": kind, "count": faces.size, "type": "SCALAR"}
    )
    file.mesh({"POSITION": points}, indices=corners)
    return file


@pytest.mark.parametrize("index", ["u2", "u4"])
def test_meshopt(tmp_path: Path, index: str) -> None:
    mesh = ball()
    vertices = mesh.vertices.astype(np.float32)
    file = meshopt_file(vertices, mesh.faces, {"componentType": 5126}, index=index)
    (loaded,) = load_mesh_file(file.save(tmp_path / "a.glb")).objects
    assert_same_triangles(loaded.triangles, turned(vertices[mesh.faces]), 0)


def test_meshopt_index_sequences_and_the_name_of_khronos(tmp_path: Path) -> None:
    mesh = ball()
    file = meshopt_file(mesh.vertices.astype(np.float32), mesh.faces, {"componentType": 5126})
    corners = mesh.faces.ravel().astype(np.uint32)
    stream = meshopt.encode_index_sequence(corners)
    file.document["accessors"][1]["bufferView"] = meshopt_view(file, bytes(stream), len(corners), 4, "INDICES")
    for view in file.document["bufferViews"]:
        view["extensions"]["KHR_meshopt_compression"] = view["extensions"].pop(MESHOPT)
    (loaded,) = load_mesh_file(file.save(tmp_path / "a.glb")).objects
    assert_allclose(loaded.triangles, turned(mesh.triangles), atol=1e-6)


def test_meshopt_quantised_positions_with_exponents(tmp_path: Path) -> None:
    """Filter EXPONENTIAL: a signed exponent of 8 bits over a signed mantissa of 24, value = mantissa 2^exponent."""
    mesh = ball()
    mantissa = np.rint(mesh.vertices * 2**15).astype(np.int64)
    rows = ((-15 & 0xFF) << 24 | (mantissa & 0xFFFFFF)).astype(np.uint32)
    file = meshopt_file(rows, mesh.faces, {"componentType": 5126}, "EXPONENTIAL")
    (loaded,) = load_mesh_file(file.save(tmp_path / "a.glb")).objects
    assert_same_triangles(loaded.triangles, turned((mantissa / 2.0**15)[mesh.faces]), 0)


def test_meshopt_octahedral_normals(tmp_path: Path) -> None:
    """Filter OCTAHEDRAL: x and y of the unit octahedron, its size as z; the fourth component is kept."""
    mesh = trimesh.creation.icosphere(subdivisions=2)
    file = meshopt_file(mesh.vertices.astype(np.float32), mesh.faces, {"componentType": 5126})
    n = mesh.vertices / np.abs(mesh.vertices).sum(1, keepdims=True)
    folded = np.where(n[:, 2:] >= 0, n[:, :2], (1 - np.abs(n[:, 1::-1])) * np.where(n[:, :2] >= 0, 1, -1))
    rows = np.column_stack([np.rint(folded * 127), np.full((len(n), 2), [127, 0])]).astype(np.int8)
    stream = meshopt.encode_vertex_buffer(np.ascontiguousarray(rows))
    view = meshopt_view(file, bytes(stream), len(rows), 4, "ATTRIBUTES", "OCTAHEDRAL")
    layout = {"bufferView": view, "componentType": 5120, "normalized": True, "count": len(rows), "type": "VEC3"}
    file.document["meshes"][0]["primitives"][0]["attributes"]["NORMAL"] = file.add("accessors", layout)
    (loaded,) = load_mesh_file(file.save(tmp_path / "a.glb")).objects
    assert ((loaded.normals * loaded.triangles).sum(-1) > 0.999).all()
    assert loaded.normals.std() > 0.5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"count": 10**9}, "announces 12000000000 bytes in"),
        ({"count": 100_000}, "cannot be decompressed|announces"),
        ({"byteStride": 10}, "compressed as 162 ATTRIBUTES of 10 bytes"),
        ({"byteStride": 0}, "of 0 bytes"),
        ({"mode": "LINES"}, "LINES"),
        ({"filter": "COLOR"}, "filter COLOR on 12 bytes of ATTRIBUTES, which is not read"),
        ({"filter": "OCTAHEDRAL"}, "OCTAHEDRAL on 12 bytes"),
        ({"count": -1}, "count is -1"),
        ({"byteLength": 20}, "cannot be decompressed"),
        ({"byteLength": 10**9}, "its buffer has"),
        ({"buffer": 1}, "ends at byte|no data"),
    ],
)
def test_damaged_meshopt(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    mesh = ball()
    file = meshopt_file(mesh.vertices.astype(np.float32), mesh.faces, {"componentType": 5126})
    file.document["bufferViews"][0]["extensions"][MESHOPT].update(change)
    path = file.save(tmp_path / "a.glb")
    tracemalloc.start()
    with pytest.raises(InputError, match=words):
        load_mesh_file(path)
    assert tracemalloc.get_traced_memory()[1] < 2**26
    tracemalloc.stop()


@pytest.mark.parametrize("package", ["DracoPy", "meshopt"])
def test_without_the_decoders_the_extra_is_named(tmp_path: Path, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = ball()
    if package == "DracoPy":
        stream, decoded = encoded(mesh)
        file = draco_file(stream, len(decoded.points), len(decoded.faces), {"POSITION": 0})
    else:
        file = meshopt_file(mesh.vertices.astype(np.float32), mesh.faces, {"componentType": 5126})
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf"{package} is not installed; pip install 'renderformer\[compression\]'"):
        load_mesh_file(file.save(tmp_path / "a.glb"))


def test_random_damage_of_compressed_files(tmp_path: Path) -> None:
    """Any bytes changed: another shape, or one line."""
    rng = np.random.default_rng(1)
    mesh = ball()
    stream, decoded = encoded(mesh)
    draco = draco_file(stream, len(decoded.points), len(decoded.faces), {"POSITION": 0})
    meshopt = meshopt_file(mesh.vertices.astype(np.float32), mesh.faces, {"componentType": 5126})
    for file in (draco, meshopt):
        whole = file.data
        for _ in range(100):
            data = bytearray(whole)
            for place in rng.integers(0, len(data), rng.integers(1, 4)):
                data[place] = rng.integers(256)
            file.data = bytes(data)
            path = file.save(tmp_path / "a.glb")
            try:
                load_mesh_file(path)
            except InputError as error:
                assert "cannot be read as" not in str(error)  # noqa: PT017
