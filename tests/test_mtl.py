"""Materials of OBJ files: statements as programs write them, pictures and their options, files that are missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from PIL import Image

from renderformer.data.colour import srgb_to_linear
from renderformer.data.formats.mesh_file import load_mesh_file
from renderformer.data.formats.mtl import _normals_of_heights, _shows_directions, material_from_mtl, parse
from renderformer.data.formats.textures import is_mask
from renderformer.data.material import DIFFUSE, EMISSION, ROUGHNESS, SPECULAR, Material
from renderformer.data.scene import Mesh, Scene

SQUARE = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\n"
FACE = "f 1/1 2/2 3/3 4/4\n"


def picture(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def grey(value: int, size: int = 4) -> np.ndarray:
    return np.full((size, size), value, np.uint8)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def load(folder: Path, mtl: str, **pictures: np.ndarray) -> Scene:
    """A square with the material m; pictures are saved as NAME.png."""
    for name, pixels in pictures.items():
        save(folder / f"{name}.png", pixels)
    (folder / "a.mtl").write_text(f"newmtl m\n{mtl}\n")
    (folder / "a.obj").write_text(f"mtllib a.mtl\n{SQUARE}usemtl m\n{FACE}")
    return load_mesh_file(folder / "a.obj")


def material(scene: Scene) -> Material:
    (mesh,) = scene.objects
    assert mesh.appearance is not None
    return mesh.appearance.materials[0]


def at(mesh: Mesh, x: float, y: float) -> tuple[np.ndarray, float]:
    """Material row and opacity at a point of the first triangle, (0, 0), (1, 0), (1, 1)."""
    assert mesh.appearance is not None
    values = mesh.appearance.values(np.array([0]), np.array([[x - y, y]]), mesh.materials[:1])
    return values.rows[0], float(values.alpha[0])


@pytest.mark.parametrize("kd", ["Kd 0 0 0", "Kd 0.588 0.588 0.588", "Kd 0.64 0.6 0.58", ""])
def test_a_grey_factor_does_not_darken_its_picture(tmp_path: Path, kd: str) -> None:
    scene = load(tmp_path, f"{kd}\nmap_Kd p.png", p=np.full((2, 2, 3), 188, np.uint8))
    assert_allclose(scene.materials[:, DIFFUSE], srgb_to_linear(188 / 255), rtol=1e-5)
    assert scene.notes == ()


def test_a_coloured_factor_tints_its_picture(tmp_path: Path) -> None:
    scene = load(tmp_path, "Kd 1 0.5 0.25\nmap_Kd p.png", p=np.full((2, 2, 3), 188, np.uint8))
    assert_allclose(scene.materials[0, DIFFUSE], srgb_to_linear(188 / 255) * np.array([1, 0.5, 0.25]), rtol=1e-5)


@settings(max_examples=30)
@given(
    scale=st.tuples(st.floats(-3, 3), st.floats(-3, 3)),
    offset=st.tuples(st.floats(-2, 2), st.floats(-2, 2)),
    place=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_scale_and_offset_count_from_the_lower_left(
    scale: tuple[float, float], offset: tuple[float, float], place: tuple[float, float]
) -> None:
    """u' = u s + o with the origin at the lower left, as in Blender and three.js."""
    line = "map_Kd -s {} {} -o {} {} 1 my picture.png".format(*scale, *offset)
    found = parse(f"newmtl m\n{line}\n".encode())["m"].maps["map_kd"]
    assert found.name == "my picture.png"
    moved = found.texture(np.zeros((2, 2, 3), np.uint8), True).matrix @ np.array([place[0], 1 - place[1], 1])
    expected = np.array(place) * scale + offset
    assert_allclose([moved[0], 1 - moved[1]], expected, atol=1e-9)


@pytest.mark.parametrize(
    ("line", "name", "clamp", "strength", "channel"),
    [
        ("bump -bm 0.25 b.png", "b.png", False, 0.25, ""),
        ("map_Bump -clamp on -imfchan r b.png", "b.png", True, 1, "r"),
        ("\tmap_bump\t-s 2 b c.png  ", "b c.png", False, 1, ""),
        ("bump -mm 0 1 -type cube_top -bm 2 -clamp off b.png", "b.png", False, 2, ""),
        ("bump -bm -1 -unknown.png", "-unknown.png", False, -1, ""),
        ("bump 7", "7", False, 1, ""),
        ('bump "C:\\tex\\b.png"', "C:\\tex\\b.png", False, 1, ""),
    ],
)
def test_options_of_pictures(line: str, name: str, clamp: bool, strength: float, channel: str) -> None:
    found = parse(f"newmtl m\n{line}\n".encode())["m"].maps["bump"]
    assert (found.name, found.clamp, found.strength, found.channel) == (name, clamp, strength, channel)


@settings(max_examples=200)
@given(text=st.text(alphabet='-sobmclampKd_ 0123.9naifegT\n\t\\"é\u2028', max_size=80))
def test_any_statement_is_read_or_passed_over(text: str) -> None:
    for entry in parse(f"newmtl m\nmap_Kd {text}\nbump -s {text}\n{text}".encode()).values():
        for found in entry.maps.values():
            found.texture(np.zeros((1, 1, 3), np.uint8), True)
        material_from_mtl(entry.values)


def test_clamped_pictures_do_not_repeat(tmp_path: Path) -> None:
    pixels = np.zeros((1, 2, 3), np.uint8)
    pixels[0, 1] = 255
    (mesh,) = load(tmp_path, "map_Kd -clamp on -s 4 1 p.png", p=pixels).objects
    assert_allclose(at(mesh, 0.9, 0.1)[0][DIFFUSE], 1)
    (mesh,) = load(tmp_path, "map_Kd -s 4 1 p.png", p=pixels).objects
    assert at(mesh, 0.8, 0.1)[0][0] < 0.5


@pytest.mark.parametrize(
    ("statement", "opacity"), [("d 0.25", 0.25), ("Tr 0.75", 0.25), ("d -halo 0.5", 0.5), ("d 1", 1)]
)
def test_opacity(statement: str, opacity: float) -> None:
    entry = parse(f"newmtl m\n{statement}\n".encode())["m"]
    assert material_from_mtl(entry.values)[0].alpha == opacity


def test_what_nobody_could_see_is_drawn() -> None:
    """Old exporters write Tr 1 or d 0 for opaque; d wins over Tr."""
    for values in ({"tr": 1.0}, {"d": 0.0}):
        found, changes = material_from_mtl(values)
        assert found.alpha == 1
        assert len(changes) == 1
    assert material_from_mtl({"tr": 1.0, "d": 1.0}) == (material_from_mtl({})[0], [])


def test_glass_keeps_its_highlight() -> None:
    found, changes = material_from_mtl({"d": 0.0, "illum": 4, "ns": 200})
    assert not changes
    assert 0 < found.alpha < 0.2
    assert min(found.specular) >= 0.04


def test_a_mask_cuts_and_a_gradient_blends(tmp_path: Path) -> None:
    leaf = grey(0, 8)
    leaf[:, 4:] = 255
    scene = load(tmp_path, "Kd 0 1 0\nmap_d p.png", p=leaf)
    assert material(scene).alpha_cutoff == 0.5
    assert at(scene.objects[0], 0.25, 0.1)[1] == 0
    row, alpha = at(scene.objects[0], 0.8, 0.1)
    assert alpha == 1
    assert_allclose(row[DIFFUSE], [0, 1, 0], atol=1e-6)
    ramp = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (64, 1))
    scene = load(tmp_path, "Kd 0 1 0\nmap_d p.png", p=ramp)
    assert material(scene).alpha_cutoff is None
    assert_allclose(at(scene.objects[0], 0.6, 0.1)[1], 0.6, atol=0.02)


def test_colour_and_opacity_of_different_sizes(tmp_path: Path) -> None:
    leaf = grey(255, 2)
    leaf[0] = 0
    colour = np.full((64, 32, 3), 188, np.uint8)
    scene = load(tmp_path, "map_Kd c.png\nmap_d -imfchan r d.png", c=colour, d=np.dstack([leaf] * 3))
    row, alpha = at(scene.objects[0], 0.5, 0.2)
    assert alpha == 1
    assert_allclose(row[DIFFUSE], srgb_to_linear(188 / 255), rtol=1e-5)
    assert at(scene.objects[0], 0.9, 0.85)[1] == 0


def test_alpha_of_the_colour_picture(tmp_path: Path) -> None:
    """It counts beside map_d, or if some of it is clear; some programs keep other things there."""
    pixels = picture(16, 16, 4)
    pixels[..., 3] = np.maximum(pixels[..., 3], 40)
    scene = load(tmp_path, "map_Kd p.png", p=pixels)
    assert material(scene).textures.base is not None
    assert not material(scene).see_through
    assert scene.notes == ("a.obj: not drawn: alpha of map_kd without map_d",)
    scene = load(tmp_path, "map_Kd p.png\nmap_d p.png", p=pixels)
    base = material(scene).textures.base
    assert base is not None
    assert_allclose(base.pixels, pixels)
    pixels[..., 3] = 255
    pixels[:8, :, 3] = 0
    scene = load(tmp_path, "map_Kd p.png", p=pixels)
    assert material(scene).alpha_cutoff == 0.5
    assert scene.notes == ()
    pixels[..., 3] = 0
    assert not material(load(tmp_path, "map_Kd p.png", p=pixels)).see_through


def test_faces_without_coordinates_keep_the_factor(tmp_path: Path) -> None:
    """trimesh drops the coordinates of all faces of the material."""
    save(tmp_path / "p.png", np.full((2, 2, 3), 188, np.uint8))
    (tmp_path / "a.mtl").write_text("newmtl m\nmap_Kd p.png\nnewmtl n\nKd 1 0 0\n")
    normal = "vn 0 0 1\n"
    faces = "usemtl m\nf 1/1/1 2/2/1 3/3/1\nf 1//1 3//1 4//1\nf 4 3 2 1\nusemtl n\nf 1 2 3\nf 3/3 4/4 1/1\n"
    (tmp_path / "a.obj").write_text(f"mtllib a.mtl\n{SQUARE}{normal}{faces}")
    scene = load_mesh_file(tmp_path / "a.obj")
    textured, plain = scene.objects
    shade = srgb_to_linear(188 / 255)
    assert_allclose(textured.materials[:, 0], [shade, 1, 1, 1], rtol=1e-5)
    assert_allclose(plain.materials[:, DIFFUSE], [[1, 0, 0]] * 2)
    assert any("3 triangles with unusable texture coordinates" in note for note in scene.notes)


def test_emission_and_specular_pictures(tmp_path: Path) -> None:
    half = np.full((2, 2, 3), 188, np.uint8)
    scene = load(tmp_path, "Kd 0.2 0.2 0.2\nKe 0 0 0\nmap_Ke p.png", p=half)
    assert_allclose(scene.materials[0, EMISSION], srgb_to_linear(188 / 255), rtol=1e-5)
    scene = load(tmp_path, "Kd 0.2 0.2 0.2\nKe 10 5 0\nmap_Ke p.png", p=half)
    assert_allclose(scene.materials[0, EMISSION], srgb_to_linear(188 / 255) * np.array([10, 5, 0]), rtol=1e-5)
    scene = load(tmp_path, "Kd 0.2 0.2 0.2\nKs 0 0 0\nNs 12\nmap_Ks p.png", p=half)
    assert_allclose(scene.materials[0, SPECULAR], srgb_to_linear(188 / 255) * 8 / 20, rtol=1e-5)
    assert_allclose(scene.materials[0, DIFFUSE], 0.2, rtol=1e-5)


def test_metallic_roughness(tmp_path: Path) -> None:
    found, _ = material_from_mtl({"kd": [0.8, 0.4, 0.2], "pr": ["0.3"], "pm": ["0.25"], "ks": [1, 1, 1], "ns": 900})
    row = found.rows()[0]
    base = np.array([0.8, 0.4, 0.2])
    assert_allclose(row[DIFFUSE], base * 0.75 * 0.96, rtol=1e-6)
    assert_allclose(row[SPECULAR], 0.04 * 0.75 + base * 0.25, rtol=1e-6)
    assert_allclose(row[ROUGHNESS], 0.3, rtol=1e-6)
    # A picture counts alone: exporters write the unused number of the slot.
    scene = load(tmp_path, "Kd 0.8 0.4 0.2\nPr 0.5\nPm 0\nmap_Pr r.png\nmap_Pm m.png", r=grey(51), m=grey(255, 8))
    assert_allclose(scene.materials[0, ROUGHNESS], 0.2, rtol=1e-5)
    assert_allclose(scene.materials[0, SPECULAR], base, rtol=1e-5)
    packed = np.zeros((2, 2, 3), np.uint8)
    packed[..., 1], packed[..., 2] = 51, 255
    scene = load(tmp_path, "Kd 0.8 0.4 0.2\nmap_Pr p.png\nmap_Pm p.png", p=packed)
    assert_allclose(scene.materials[0, ROUGHNESS], 0.2, rtol=1e-5)
    assert_allclose(scene.materials[0, SPECULAR], base, rtol=1e-5)


def wave(size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """A height map, brighter in the middle column, and normals (H, W, 3) of another shape as a normal map."""
    x = (np.arange(size) + 0.5) / size
    heights = np.round(127.5 + 127.5 * np.sin(2 * np.pi * x)) * np.ones((size, 1))
    tilt = 0.4 * np.sin(2 * np.pi * x) * np.ones((size, 1))
    normals = np.dstack([tilt, 0 * tilt, np.sqrt(1 - tilt**2)])
    return heights.astype(np.uint8), np.rint((normals + 1) * 127.5).astype(np.uint8)


def test_bump_pictures_are_heights_or_directions(tmp_path: Path) -> None:
    heights, normals = wave()
    scene = load(tmp_path, "map_Bump -bm 0.5 p.png", p=normals)
    found = material(scene).textures.normal
    assert found is not None
    assert not found.srgb
    assert_allclose(found.pixels, normals)
    assert material(scene).normal_scale == 0.5
    scene = load(tmp_path, "map_Bump p.png", p=heights)
    made = material(scene).textures.normal
    assert made is not None
    # To the left of the crest the surface rises, so the normal leans to the left.
    row = made.pixels[10].astype(float) / 127.5 - 1
    assert row[4, 0] < -0.01
    assert row[32, 0] > 0.01
    assert_allclose(row[:, 1], 0, atol=0.01)
    # norm says what it is, even where the picture is unusual.
    assert material(load(tmp_path, "norm p.png", p=np.dstack([heights] * 3))).textures.normal is not None


def test_normals_of_heights_agree_with_the_gradient() -> None:
    """The height of a plane wave along the diagonal; rows go down, the second axis of the normal goes up."""
    size = 128
    y, x = np.mgrid[:size, :size] / size
    heights = 0.5 + 0.5 * np.sin(2 * np.pi * (x - 2 * y))
    normals = _normals_of_heights(np.round(heights * 255).astype(np.uint8), 2.0) / 127.5 - 1
    slope = np.pi * np.cos(2 * np.pi * (x - 2 * y)) * 0.005 * 2
    expected = np.dstack([-slope, -2 * slope, np.ones_like(slope)])
    expected /= np.linalg.norm(expected, axis=2, keepdims=True)
    assert_allclose(normals, expected, atol=0.02)


@pytest.mark.parametrize("value", [0, 100, 201, 255])
def test_grey_pictures_show_no_directions(value: int) -> None:
    assert not _shows_directions(np.dstack([grey(value)] * 3))
    assert not _shows_directions(picture(64, 64, 3))


def test_masks() -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint8), (4, 1))
    assert not is_mask(ramp)
    assert not is_mask(grey(255))
    assert not is_mask(grey(0))
    assert is_mask(np.where(ramp > 100, 255, 0).astype(np.uint8))


def test_what_is_not_drawn_is_named_once(tmp_path: Path) -> None:
    save(tmp_path / "p.png", grey(100))
    statements = "map_Kd p.png\nmap_Ka p.png\nmap_Ns p.png\ndisp p.png\nrefl -type sphere p.png\n"
    (tmp_path / "a.mtl").write_text("".join(f"newmtl m{i}\n{statements}" for i in range(5)))
    faces = "".join(f"usemtl m{i}\n{FACE}" for i in range(5))
    (tmp_path / "a.obj").write_text(f"mtllib a.mtl\n{SQUARE}{faces}")
    notes = load_mesh_file(tmp_path / "a.obj").notes
    assert notes == ("a.obj: not drawn: disp, map_ns, refl",)


def test_several_libraries(tmp_path: Path) -> None:
    """One statement may name several files, and a file name may have spaces."""
    (tmp_path / "one.mtl").write_text("newmtl a\nKd 1 0 0\n")
    (tmp_path / "two.mtl").write_text("newmtl b\nKd 0 1 0\nnewmtl a\nKd 0 0 0\n")
    (tmp_path / "three of them.mtl").write_text("newmtl c d\nKd 0 0 1\n")
    faces = "".join(f"usemtl {name}\no {name}\nf 1 2 {index}\n" for name, index in (("a", 3), ("b", 4), ("c d", 3)))
    (tmp_path / "a.obj").write_text(f"mtllib one.mtl two.mtl\nmtllib three of them.mtl\n{SQUARE}{faces}")
    scene = load_mesh_file(tmp_path / "a.obj")
    assert [mesh.name for mesh in scene.objects] == ["a", "b", "c d"]
    assert_allclose([mesh.materials[0, DIFFUSE] for mesh in scene.objects], np.eye(3))
    assert scene.notes == ()


@pytest.mark.parametrize(
    ("statement", "file"),
    [
        ("textures\\my wood.png", "textures/my wood.png"),
        ("C:\\Users\\me\\wood.png", "wood.png"),
        ("/home/me/wood.png", "wood.png"),
        ("./textures/../wood.png", "wood.png"),
        ("wood.png", "materials/wood.png"),
        ("textures/wood.png", "textures/wood.png"),
        ('"wood.png"', "wood.png"),
        ("Ho\u0308lz.png", "H\u00f6lz.png"),
    ],
)
def test_pictures_are_found(tmp_path: Path, statement: str, file: str) -> None:
    """The MTL file is in a folder of its own; names are relative to it or to the OBJ file."""
    save(tmp_path / file, np.full((2, 2, 3), 188, np.uint8))
    (tmp_path / "materials").mkdir(exist_ok=True)
    (tmp_path / "materials" / "a.mtl").write_text(f"newmtl m\nmap_Kd {statement}\n")
    (tmp_path / "a.obj").write_text(f"mtllib materials/a.mtl\n{SQUARE}usemtl m\n{FACE}")
    scene = load_mesh_file(tmp_path / "a.obj")
    assert_allclose(scene.materials[:, DIFFUSE], srgb_to_linear(188 / 255), rtol=1e-5)


def test_wrong_capital_letters_are_told(tmp_path: Path) -> None:
    save(tmp_path / "Textures" / "wood.PNG", np.full((2, 2, 3), 188, np.uint8))
    (tmp_path / "Mine.MTL").write_text("newmtl m\nmap_Kd textures/Wood.png\n")
    (tmp_path / "a.obj").write_text(f"mtllib mine.mtl\n{SQUARE}usemtl m\n{FACE}")
    scene = load_mesh_file(tmp_path / "a.obj")
    assert_allclose(scene.materials[:, DIFFUSE], srgb_to_linear(188 / 255), rtol=1e-5)
    assert scene.notes == ("a.obj: 2 files found although capital letters in their names differ",)


def test_a_missing_library_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.obj").write_text(f"mtllib gone.mtl\n{SQUARE}usemtl m\n{FACE}usemtl n\n{FACE}")
    (note,) = [note for note in load_mesh_file(tmp_path / "a.obj").notes if "duplicate" not in note]
    assert "'gone.mtl' is missing" in note
    assert "2 materials are named but not defined" in note
    (tmp_path / "a.mtl").write_text("newmtl m\nKd 1 0 0\nnewmtl n\n")
    scene = load_mesh_file(tmp_path / "a.obj")
    assert "'gone.mtl' is missing, 'a.mtl' is read instead" in scene.notes[0]
    assert_allclose(scene.materials[0, DIFFUSE], [1, 0, 0])


def test_missing_pictures_are_one_line(tmp_path: Path) -> None:
    text = "".join(f"newmtl m{i}\nKd 0.{i + 1} 0 0\nmap_Kd gone{i}.png\n" for i in range(5))
    (tmp_path / "a.mtl").write_text(text)
    faces = "".join(f"usemtl m{i}\n{FACE}" for i in range(5))
    (tmp_path / "a.obj").write_text(f"mtllib a.mtl\n{SQUARE}{faces}")
    scene = load_mesh_file(tmp_path / "a.obj")
    (note,) = scene.notes
    assert ".png' is missing, and 4 other pictures are not read either" in note
    # Their factors count again.
    assert {round(float(row[0]), 4) for row in scene.materials} == {0.1, 0.2, 0.3, 0.4, 0.5}


def test_vertex_colours_in_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.obj").write_text("v 0 0 0 188 0 255\nv 1 0 0 188 0 255\nv 0 1 0 188 0 255\nf 1 2 3\n")
    rows = load_mesh_file(tmp_path / "a.obj").materials
    assert_allclose(rows[0, DIFFUSE], srgb_to_linear(np.array([188, 0, 255]) / 255), rtol=1e-5)


@pytest.mark.parametrize(
    "name", ["../p.png", "/etc/passwd", "file:///etc/passwd", "https://example.com/p.png", "x" * 5000, "a/" * 3000]
)
def test_pictures_outside_the_folder_are_not_read(tmp_path: Path, name: str) -> None:
    save(tmp_path / "p.png", np.full((2, 2, 3), 188, np.uint8))
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "a.mtl").write_bytes(f"newmtl m\nKd 0.25 0 0\nmap_Kd {name}\n".encode())
    (tmp_path / "inner" / "a.obj").write_text(f"mtllib a.mtl\n{SQUARE}usemtl m\n{FACE}")
    scene = load_mesh_file(tmp_path / "inner" / "a.obj")
    (note,) = scene.notes
    assert len(note) < 300
    assert "\n" not in note
    assert (scene.materials[:, 0] == 0.25).all()
