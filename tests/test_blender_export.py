"""The add-on's view of Blender's data, by stand-ins: shapes, materials, lights, worlds, cameras."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import trimesh
from helpers import blender

from renderformer.data.camera import Camera
from renderformer.data.environment import Environment
from renderformer.viewer.blender.camera import view_of
from renderformer.viewer.blender.export import Exporter
from renderformer.viewer.blender.images import Images
from renderformer.viewer.blender.lights import environment_of, lamp_of
from renderformer.viewer.blender.materials import MAX_RADIANCE, material_of
from renderformer.viewer.blender.notes import Notes
from renderformer.viewer.blender.picture import filled


def cube(slots: Any = None, uv: Any = None) -> Any:
    shape = trimesh.creation.box((1, 1, 1))
    return blender.mesh(shape.triangles, np.repeat(shape.face_normals, 3, axis=0), uv, slots)


def placed(x: float, y: float = 0.0, z: float = 0.0, scale: float = 1.0) -> np.ndarray:
    matrix = np.diag([scale, scale, scale, 1.0])
    matrix[:3, 3] = x, y, z
    return matrix


def entry_of(node: Any) -> tuple[dict[str, Any], list[str]]:
    notes = Notes()
    return material_of(blender.material(node), Images(), notes), notes.lines


def test_copies_of_an_object_are_one_entry_and_materials_are_those_of_the_faces() -> None:
    red = blender.material(blender.principled(Base_Color=(1, 0, 0, 1)), "red")
    blue = blender.material(blender.principled(Base_Color=(0, 0, 1, 1)), "blue")
    slots = np.array([2] * 2 + [0] * 9 + [7])
    item = blender.solid("Cube", cube(slots), red, None, blue)
    graph = blender.depsgraph(
        blender.instance(item), blender.instance(item, placed(3), True), blender.instance(item, placed(0, 5), True)
    )
    (entry,), environment, arrays = Exporter().scene(graph)
    assert environment is None
    assert arrays[entry["instances"]][:, :3, 3].tolist() == [[0, 0, 0], [3, 0, 0], [0, 5, 0]]
    colours = [material["diffuse"] for material in entry["materials"]]
    # Blender shows the last slot for numbers beyond it.
    shown = [colours[number] for number in arrays[entry["material"]]]
    assert shown == [[0, 0, 1]] * 2 + [[1, 0, 0]] * 9 + [[0, 0, 1]]


def test_what_has_no_surface_is_left_out_and_named_if_it_would_show() -> None:
    flat = blender.mesh(np.zeros((1, 3, 3)), np.zeros((1, 3, 3)))
    hidden = blender.solid("Hidden", cube())
    things = (
        blender.Thing("Empty", "EMPTY", None), blender.Thing("Smoke", "VOLUME", None), blender.solid("Flat", flat),
        hidden, blender.solid("Shrunk", cube()),
    )  # fmt: skip
    graph = blender.depsgraph(*[blender.instance(item) for item in things[:4]],
                              blender.instance(things[4], placed(0, scale=0)))  # fmt: skip
    exporter = Exporter()
    entries, _, _ = exporter.scene(graph, SimpleNamespace(hidden=("Hidden",)))
    assert entries == []
    hidden.visible_shadow = False  # type: ignore[attr-defined]
    assert sorted(exporter.notes) == [
        "objects of type volume are not drawn (Smoke)", "objects scaled to nothing are not drawn (Shrunk)"
    ]  # fmt: skip
    assert len(exporter.scene(graph)[0]) == 1
    assert "objects hidden from some rays are drawn for all (Hidden)" in exporter.notes


def test_what_only_stands_in_for_a_photograph_is_drawn_and_named() -> None:
    things = [blender.solid("Floor", cube()), blender.solid("Cut", cube())]
    things[0].is_shadow_catcher = things[1].is_holdout = True  # type: ignore[attr-defined]
    exporter = Exporter()
    assert len(exporter.scene(blender.depsgraph(*map(blender.instance, things)))[0]) == 2
    assert exporter.notes == [
        "shadow catchers are drawn as other objects (Floor)",
        "holdouts are drawn as other objects (Cut)",
    ]


def test_what_blender_hides_from_the_camera_is_hidden_from_ours_alone() -> None:
    things = [blender.solid("Seen", cube()), blender.solid("Hidden", cube())]
    things.append(blender.Thing("Lamp", "LIGHT", blender.light("AREA", shape="SQUARE", size=1.0)))
    for thing in things[1:]:
        thing.visible_camera = False  # type: ignore[attr-defined]
    exporter = Exporter()
    entries, _, _ = exporter.scene(blender.depsgraph(*map(blender.instance, things)))
    assert {entry["name"]: entry["camera_sides"] for entry in entries} == {
        "Seen": "both", "Hidden": "none", "Lamp": "none"
    }  # fmt: skip
    assert exporter.notes == []


def test_only_what_changed_is_read_again() -> None:
    image = blender.Image(np.ones((2, 2, 4)))
    paint = blender.material(blender.principled(Base_Color=blender.picture(image)))
    uv = np.zeros((36, 2))
    first, second = blender.solid("First", cube(uv=uv), paint), blender.solid("Second", cube(uv=uv), paint)
    graph = blender.depsgraph(blender.instance(first), blender.instance(second))
    exporter = Exporter()
    before = exporter.scene(graph)
    exporter.forget([SimpleNamespace(id=first, is_updated_geometry=True),
                     SimpleNamespace(id=second, is_updated_geometry=False)])  # fmt: skip
    after = exporter.scene(graph)
    assert (first.reads, second.reads, image.reads) == (2, 1, 1)
    assert before[0] == after[0]
    exporter.forget([SimpleNamespace(id=image, is_updated_geometry=False)])
    exporter.scene(graph)
    assert (first.reads, image.reads) == (2, 2)


def test_principled_numbers_become_those_of_the_material() -> None:
    entry, notes = entry_of(blender.principled(
        Base_Color=(0.5, 1.5, 0.25, 1), Metallic=0.25, Roughness=0.125, IOR=2.0, Specular_IOR_Level=0.25, Alpha=0.75,
        Emission_Color=(1, 0.5, 0, 1), Emission_Strength=4.0,
    ))  # fmt: skip
    assert notes == []
    assert entry == {
        "diffuse": [0.5, 1.0, 0.25], "metallic": 0.25, "roughness": 0.125, "alpha": 0.75, "two_sided": True,
        "specular": [pytest.approx(1 / 9 / 2)] * 3, "emissive": [4.0, 2.0, 0.0],
    }  # fmt: skip


def test_what_is_not_drawn_is_named_once() -> None:
    noise = blender.Node("TEX_NOISE")
    node = blender.principled(Base_Color=noise, Roughness=noise, Coat_Weight=1.0, Emission_Strength=1e6, Normal=noise)
    entry, notes = entry_of(node)
    assert entry["diffuse"] == [0.3, 0.3, 0.3]
    assert max(entry["emissive"]) == MAX_RADIANCE
    for words in ("Tex Noise at Base Color", "linked to Roughness", "coat", "dimmed", "Tex Noise at Normal"):
        assert sum(words in line for line in notes) == 1, words


def test_other_shaders_are_drawn_or_the_first_that_can_be() -> None:
    glass = blender.Node("BSDF_GLASS", {"Color": (1, 1, 1, 1)})
    paint = blender.Node("BSDF_DIFFUSE", {"Color": (0.1, 0.2, 0.3, 1)})
    entry, notes = entry_of(blender.Node("MIX_SHADER", {"Fac": 0.5, "Shader": glass, "Shader_001": paint}))
    assert entry["diffuse"] == [0.1, 0.2, 0.3]
    assert notes == ["Mix Shader is not drawn (paint)", "Bsdf Glass is not drawn (paint)"]
    assert entry_of(blender.Node("EMISSION", {"Color": (1, 0, 0, 1), "Strength": 3.0}))[0]["emissive"] == [3, 0, 0]
    assert entry_of(None)[0]["diffuse"] == [0, 0, 0]
    assert material_of(None, Images(), Notes())["diffuse"] == [0.8] * 3


@pytest.mark.parametrize("passes", [True, False])
def test_what_a_muted_node_passes_on_is_drawn(passes: bool) -> None:
    image = blender.picture(blender.Image(np.ones((2, 2, 4))))
    muted = blender.Node("HUE_SAT", {"Color": image, "Value": 0.5}, mute=True)
    paint = blender.principled(Base_Color=muted)
    end = paint.inputs["Base Color"].links[0].from_socket
    muted.internal_links = [SimpleNamespace(from_socket=muted.inputs["Color"], to_socket=end)] if passes else []  # type: ignore[attr-defined]
    entry, notes = entry_of(paint)
    assert notes == []
    assert ("textures" in entry) == passes
    # Of a node that passes nothing on, Blender shows the colour of the input itself.
    assert entry["diffuse"] == ([1.0] * 3 if passes else [0.3] * 3)


def test_a_mapping_moves_texture_coordinates_as_in_blender() -> None:
    image = blender.Image(np.ones((2, 2, 4)))
    location, turn, scale = (0.1, 0.2, 0.0), (0.0, 0.0, 0.7), (2.0, 3.0, 1.0)
    coordinates = (blender.Node("TEX_COORD"), "UV")
    for kind in ("POINT", "TEXTURE"):
        node = blender.picture(image, blender.mapping(location, turn, scale, coordinates, kind))
        entry, notes = entry_of(blender.principled(Base_Color=node))
        assert notes == []
        matrix = np.array(entry["textures"]["base"]["matrix"])
        u, v = 0.3, 0.6
        across, down = matrix @ (u, 1 - v, 1)
        # Blender's formulas of a point, and of a texture, which is the way back.
        start = np.array([across, 1 - down]) if kind == "TEXTURE" else np.array([u, v])
        x, y = start * scale[:2]
        c, s = math.cos(turn[2]), math.sin(turn[2])
        end = np.array([c * x - s * y, s * x + c * y]) + location[:2]
        np.testing.assert_allclose(end, (u, v) if kind == "TEXTURE" else (across, 1 - down), atol=1e-6)


def test_images_become_bytes_with_the_first_row_at_the_top() -> None:
    values = np.random.default_rng(0).uniform(size=(3, 5, 4))
    images = Images()
    stored = images.texture(blender.Image(values), alpha=True)
    linear = images.texture(blender.Image(values, "Linear Rec.709", True, "float"), alpha=False)
    numbers = images.texture(blender.Image(values, "Non-Color", name="numbers"), alpha=False)
    assert stored is not None
    assert linear is not None
    assert numbers is not None
    assert (stored[1], linear[1], numbers[1]) == (True, True, False)
    np.testing.assert_array_equal(images.arrays[stored[0]], np.rint(values * 255))
    np.testing.assert_array_equal(images.arrays[numbers[0]], np.rint(values[..., :3] * 255))
    back = np.where(values > 0.0031308, 1.055 * values ** (1 / 2.4) - 0.055, 12.92 * values)[..., :3]
    np.testing.assert_allclose(images.arrays[linear[0]], back * 255, atol=0.51)


def test_images_of_roughness_and_metallic_are_one_texture() -> None:
    rng = np.random.default_rng(5)
    rough, both = rng.uniform(size=(4, 4, 4)), rng.uniform(size=(2, 2, 4))
    grey = blender.picture(blender.Image(rough, "Non-Color"))
    separate = blender.Node("SEPARATE_COLOR", {"Color": blender.picture(blender.Image(both, "Non-Color", name="b"))})
    images, notes = Images(), Notes()
    node = blender.principled(Roughness=grey, Metallic=(separate, "Blue"))
    entry = material_of(blender.material(node), images, notes)
    assert notes.lines == []
    assert (entry["roughness"], entry["metallic"]) == (1.0, 1.0)
    pixels = images.arrays[entry["textures"]["metallic_roughness"]["path"]] / 255
    np.testing.assert_allclose(pixels[..., 1], rough[..., :3] @ (0.2126, 0.7152, 0.0722), atol=0.002)
    np.testing.assert_allclose(pixels[..., 2], both[..., 2].repeat(2, axis=0).repeat(2, axis=1), atol=0.002)
    # The other number stays, and one texture lies in one way.
    entry = material_of(blender.material(blender.principled(Roughness=grey, Metallic=0.25)), images, notes)
    assert (entry["roughness"], entry["metallic"]) == (1.0, 0.25)
    assert (images.arrays[entry["textures"]["metallic_roughness"]["path"]][..., 2] == 255).all()
    clamped = blender.picture(blender.Image(both, "Non-Color"), extension="EXTEND")
    entry = material_of(blender.material(blender.principled(Roughness=grey, Metallic=clamped)), images, notes)
    assert len(notes.lines) == 2
    assert entry["metallic"] == pytest.approx(0.3)


def test_textures_without_a_uv_map_are_dropped_and_named() -> None:
    paint = blender.material(blender.principled(Base_Color=blender.picture(blender.Image(np.ones((2, 2, 4))))))
    exporter = Exporter()
    (entry,), _, _ = exporter.scene(blender.depsgraph(blender.instance(blender.solid("Cube", cube(), paint))))
    assert "textures" not in entry["materials"][0]
    assert exporter.notes == ["textures of objects without a UV map are not drawn (Cube)"]


@pytest.mark.parametrize(
    ("values", "scale"),
    [({"shape": "SQUARE", "size": 2.0}, 1.0), ({"shape": "ELLIPSE", "size": 2.0, "size_y": 0.5}, 3.0), ({}, -1.0)],
)
def test_the_power_of_an_area_light_leaves_its_front(values: dict[str, Any], scale: float) -> None:
    matrix = placed(1, 2, 3)
    matrix[:3, :3] = np.diag([scale, abs(scale), abs(scale)])
    lamp = lamp_of(blender.light("AREA", color=(1, 0.5, 0.25), **values), matrix, Notes(), "lamp")
    assert lamp is not None
    shape = trimesh.Trimesh(**trimesh.triangles.to_kwargs(lamp.triangles))
    power = shape.area * math.pi * np.array(lamp.radiance)
    np.testing.assert_allclose(power, [100, 50, 25], rtol=1e-5)
    np.testing.assert_allclose(shape.face_normals, np.tile([0, 0, -1], (len(shape.faces), 1)), atol=1e-6)
    np.testing.assert_allclose(shape.bounds.mean(axis=0), [1, 2, 3], atol=1e-6)


@pytest.mark.parametrize("size", [0.0, 0.5])
def test_a_point_light_is_a_ball_of_its_power(size: float) -> None:
    notes = Notes()
    lamp = lamp_of(blender.light("POINT", shadow_soft_size=size), placed(1), notes, "lamp")
    assert lamp is not None
    shape = trimesh.Trimesh(**trimesh.triangles.to_kwargs(lamp.triangles))
    shape.merge_vertices()
    assert shape.is_watertight
    assert shape.volume > 0
    np.testing.assert_allclose(shape.area * math.pi * np.array(lamp.radiance), 100, rtol=1e-5)
    assert np.abs(shape.extents / 2 - size).max() < max(0.05 * size, 0.01)
    assert notes.lines == []


def test_the_shade_of_a_spot_lets_light_out_of_its_cone_alone() -> None:
    light = blender.light("SPOT", spot_size=math.radians(60), spot_blend=0.0)
    lamp = lamp_of(light, placed(0), Notes(), "lamp")
    assert lamp is not None
    ball, shade = lamp.triangles[: lamp.glowing], lamp.triangles[lamp.glowing :]
    centres = ball.mean(axis=1).astype(np.float64)
    tree = trimesh.Trimesh(**trimesh.triangles.to_kwargs(shade))
    turn = np.random.default_rng(1).uniform(0, 2 * np.pi, 200)
    for low, high, free in ((0, 25, True), (35, 90, False), (90, 180, False)):
        polar = np.radians(np.random.default_rng(2).uniform(low, high, 200))
        directions = np.stack([np.sin(polar) * np.cos(turn), np.sin(polar) * np.sin(turn), -np.cos(polar)], axis=1)
        starts = centres[np.arange(200) % len(centres)]
        assert (tree.ray.intersects_any(starts, directions) != free).all()


def test_lights_by_temperature_exposure_and_nodes_and_dark_ones() -> None:
    node = blender.Node("EMISSION", {"Color": (1, 0, 0, 1), "Strength": 3.0})
    light = blender.light("AREA", exposure=1.0, use_temperature=True, temperature_color=(0.5, 1, 1), use_nodes=True,
                          node_tree=blender.tree(node))  # fmt: skip
    lamp = lamp_of(light, np.eye(4), Notes(), "lamp")
    assert lamp is not None
    np.testing.assert_allclose(np.array(lamp.radiance) * math.pi, [300, 0, 0], rtol=1e-6)
    assert lamp_of(blender.light("AREA", energy=0.0), np.eye(4), Notes(), "lamp") is None


def looked_up(image: np.ndarray, direction: np.ndarray, turn: float, kind: str) -> np.ndarray:
    """What Cycles finds in an equirectangular image: the direction turned by the mapping, then its angles."""
    angle = turn if kind == "POINT" else -turn
    x, y, z = direction
    x, y = math.cos(angle) * x - math.sin(angle) * y, math.sin(angle) * x + math.cos(angle) * y
    u, v = 0.5 - math.atan2(y, x) / (2 * math.pi), 0.5 - math.asin(z) / math.pi
    return np.asarray(image[int(v * image.shape[0]), int(u * image.shape[1]) % image.shape[1], :3])


@pytest.mark.parametrize("kind", ["POINT", "TEXTURE"])
def test_a_world_is_seen_where_blender_shows_it(kind: str) -> None:
    v, u = np.meshgrid(np.arange(64) / 64, np.arange(128) / 128, indexing="ij")
    pixels = np.stack([2 + np.cos(2 * np.pi * u), 2 + np.sin(2 * np.pi * u), 1 + v, np.ones_like(u)], axis=2)
    image = blender.Image(pixels, "Linear Rec.709", True)
    turned = blender.mapping((0, 0, 0), (0, 0, 0.6), (1, 1, 1), (blender.Node("TEX_COORD"), "Generated"), kind)
    node = blender.Node("TEX_ENVIRONMENT", {"Vector": turned}, image=image, projection="EQUIRECTANGULAR")
    images, notes = Images(), Notes()
    world = blender.world(blender.Node("BACKGROUND", {"Color": node, "Strength": 2.0}))
    sun = {"direction": [0.6, 0.0, 0.8], "irradiance": [3.0, 2.0, 1.0], "angle": 0.5}
    entry = environment_of(world, [sun], False, images, notes)
    assert entry is not None
    assert notes.lines == []
    environment = Environment(images.arrays[entry["image"]], entry["strength"], entry["rotation"])
    for direction in ((1, 0.2, 0.3), (-0.4, 0.8, -0.2), (0.1, -0.9, 0.6)):
        unit = np.array(direction) / np.linalg.norm(direction)
        seen = environment.radiance(unit[None].astype(np.float32))[0]
        np.testing.assert_allclose(seen, 2 * looked_up(pixels, unit, 0.6, kind), rtol=0.05)
    # The environment turns and multiplies its suns.
    local = np.array(entry["suns"][0]["direction"])
    np.testing.assert_allclose(environment.to_local.T @ local, sun["direction"], atol=1e-6)
    np.testing.assert_allclose(np.array(entry["suns"][0]["irradiance"]) * 2, sun["irradiance"])


def test_worlds_of_a_colour_of_nothing_and_transparent_ones() -> None:
    grey = blender.world(blender.Node("BACKGROUND", {"Color": (0.1, 0.2, 0.3, 1), "Strength": 2.0}))
    colour = environment_of(grey, [], False, Images(), Notes())
    assert colour is not None
    assert colour["color"] == pytest.approx([0.2, 0.4, 0.6])
    assert environment_of(None, [], False, Images(), Notes()) is None
    clear = environment_of(None, [], True, Images(), Notes())
    assert clear is not None
    assert clear["background"] == "transparent"
    notes = Notes()
    sky = blender.world(blender.Node("BACKGROUND", {"Color": blender.Node("TEX_SKY"), "Strength": 1.0}))
    environment_of(sky, [], False, Images(), notes)
    assert notes.lines == ["Tex Sky at Color is not drawn, its colour is (world)"]


@pytest.mark.parametrize(
    ("size", "shift"), [((96, 64), (0, 0)), ((63, 97), (0.3, -0.2)), ((96, 64), (-0.15, 0.4)), ((50, 50), (0.7, 0.7))]
)
def test_a_point_lies_in_our_picture_where_it_lies_in_blenders(size: tuple[int, int], shift: Any) -> None:
    width, height = size
    projection = blender.projection(width, height, 35.0, shift)
    c2w = Camera.look_at((3, -4, 2), (0, 0, 0.3)).c2w.astype(np.float64)
    scaled = c2w.copy()
    scaled[:3, :3] *= 2.5
    view = view_of(projection, scaled, width, height)
    camera = Camera(view.c2w.astype(np.float32), view.fov)
    left, top, right, bottom = view.window
    assert (right - left, bottom - top) == size
    for point in ((0, 0, 0), (0.5, 0.3, 1), (-1, 1, 0)):
        clip = projection @ np.linalg.inv(c2w) @ (*point, 1)
        x, y = (clip[0] / clip[3] + 1) * width / 2, (1 - clip[1] / clip[3]) * height / 2
        ray = camera.rays(np.float64(x + left), np.float64(y + top), *view.size)
        depth = (point - camera.position) @ camera.forward
        # A quarter of a pixel, as far as the point is away.
        pixel = depth * 2 * math.tan(math.radians(view.fov) / 2) / view.size[1]
        assert np.abs(camera.position + depth * ray - point).max() < 0.3 * pixel


def test_an_orthographic_view_shows_the_same_part_of_a_plane() -> None:
    width, height, half = 90, 60, 2.0
    projection = np.diag([height / width / half, 1 / half, -0.02, 1.0])
    c2w = Camera.look_at((0, -5, 0), (0, 0, 0)).c2w.astype(np.float64)
    view = view_of(projection, c2w, width, height)
    camera = Camera(view.c2w.astype(np.float32), view.fov)
    corner = (
        camera.position + np.float64(-5.0 - camera.position[1]) * (r := camera.rays(0.0, 0.0, width, height)) / r[1]
    )
    np.testing.assert_allclose(corner, [-3, -5, 2], atol=1e-3)
    assert len(view.notes) == 1


def test_cameras_that_cannot_be_drawn_are_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match="this kind of camera is not drawn"):
        view_of(np.zeros((4, 4)), np.eye(4), 10, 10)
    with pytest.raises(ValueError, match="shifted too far"):
        view_of(blender.projection(10, 10, 50.0, (9, 9)), np.eye(4), 10, 10)
    with pytest.raises(ValueError, match="more than 16 times as long"):
        view_of(np.diag([1.0, 20, -1, 0]) + np.eye(4, k=-1) * -1, np.eye(4), 10, 10)


@pytest.mark.parametrize("aspect", [1.6, 0.75])
def test_pixels_that_are_not_square_show_what_blenders_do(aspect: float) -> None:
    width, height = 60, 45
    projection = blender.projection(width, height, 35.0, (0.1, -0.05))
    projection[0] /= aspect
    c2w = Camera.look_at((3, -4, 2), (0, 0, 0.3)).c2w.astype(np.float64)
    view = view_of(projection, c2w, width, height)
    assert view.shown == (width, height)
    part = view.part(10, 5, 40, 35)
    assert part.shown == (30, 30)
    camera = Camera(view.c2w.astype(np.float32), view.fov)
    for point in ((0, 0, 0), (0.5, 0.3, 1), (-1, 1, 0)):
        clip = projection @ np.linalg.inv(c2w) @ (*point, 1)
        x, y = (clip[0] / clip[3] + 1) * width / 2, (1 - clip[1] / clip[3]) * height / 2
        left, top, right, bottom = part.window
        inside = left + (x - 10) * (right - left) / 30, top + (y - 5) * (bottom - top) / 30
        ray = camera.rays(*np.float64(inside), *view.size)
        depth = (point - camera.position) @ camera.forward
        pixel = depth * 2 * math.tan(math.radians(view.fov) / 2) / view.size[1]
        assert np.abs(camera.position + depth * ray - point).max() < pixel
    values = np.random.default_rng(3).random((30, round(30 * aspect), 4), np.float32)
    if aspect > 1:
        shown = filled(values, part.place((0, 0, values.shape[1], 30)), 30, 30)
        np.testing.assert_allclose(shown.mean(axis=1), values[::-1].mean(axis=1), rtol=1e-5)
        np.testing.assert_allclose(shown[::-1][:, 0], values[:, 0] / 1.6 + values[:, 1] * 0.6 / 1.6, rtol=1e-5)


def test_coarse_pictures_fill_the_whole_one() -> None:
    pixels = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    same = filled(pixels, (0, 0, 3, 2), 3, 2)
    np.testing.assert_array_equal(same, pixels[::-1])
    # Cells of 4 pixels, of which the picture shows a part: its left border is one pixel inside of the first cell.
    whole = filled(pixels, (-1, 0, 11, 8), 9, 7)
    assert whole.shape == (7, 9, 4)
    np.testing.assert_array_equal(whole[::-1][:, :, 0], pixels[[0] * 4 + [1] * 3][:, [0] * 3 + [1] * 4 + [2] * 2, 0])
