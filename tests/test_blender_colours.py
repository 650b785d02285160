"""Colour nodes, images below them and colour attributes in the add-on for Blender, by stand-ins.

The colours of nodes are those that Cycles of bpy 5.0.1 drew on a glowing plane (26 November, to four digits).
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import trimesh
from helpers import blender

from renderformer.viewer.blender.export import Exporter
from renderformer.viewer.blender.expressions import Reader
from renderformer.viewer.blender.images import Images, srgb_to_linear
from renderformer.viewer.blender.materials import material_of
from renderformer.viewer.blender.notes import Notes
from renderformer.viewer.messages import SceneMessage, SceneReader

FIRST, SECOND = (0.8, 0.3, 0.05, 1), (0.2, 0.7, 0.4, 1)
MIXED = {
    "MIX": (0.38, 0.58, 0.295), "DARKEN": (0.38, 0.3, 0.05), "MULTIPLY": (0.352, 0.237, 0.029),
    "BURN": (0.5455, 0.1139, 0), "LIGHTEN": (0.8, 0.58, 0.295), "SCREEN": (0.828, 0.643, 0.316),
    "DODGE": (0.9302, 0.5882, 0.0694), "ADD": (0.94, 0.79, 0.33), "OVERLAY": (0.716, 0.384, 0.043),
    "SOFT_LIGHT": (0.7328, 0.3588, 0.0433), "LINEAR_LIGHT": (0.38, 0.58, -0.09), "DIFFERENCE": (0.66, 0.37, 0.26),
    "EXCLUSION": (0.716, 0.496, 0.302), "SUBTRACT": (0.66, -0.19, -0.23), "DIVIDE": (3.04, 0.39, 0.1025),
    "HUE": (0.275, 0.65, 0.26), "SATURATION": (0.8, 0.3833, 0.175), "COLOR": (0.4, 0.65, 0.335),
    "VALUE": (0.73, 0.2738, 0.0456),
}  # fmt: skip
OTHERS: list[tuple[str, dict[str, Any], tuple[float, float, float]]] = [
    ("HUE_SAT", {"Hue": 0.7, "Saturation": 1.4, "Value": 0.6, "Fac": 0.9}, (0.2816, 0.462, 0.005)),
    ("BRIGHTCONTRAST", {"Bright": 0.1, "Contrast": 0.4}, (1.02, 0.32, 0)),
    ("GAMMA", {"Gamma": 2.2}, (0.6121, 0.0707, 0.0014)),
    ("INVERT", {"Fac": 0.7}, (0.38, 0.58, 0.68)),
    ("RGBTOBW", {}, (0.3883, 0.3883, 0.3883)),
]  # fmt: skip


def mix(kind: str, first: Any, second: Any, share: Any = 0.7) -> blender.Node:
    inputs = {"Factor_Float": share, "A_Color": first, "B_Color": second}
    return blender.Node("MIX", inputs, blend_type=kind, data_type="RGBA", clamp_factor=True, clamp_result=False)


def colour_of(node: blender.Node) -> np.ndarray:
    value = Reader().read(blender.principled(Base_Color=node).inputs["Base Color"])
    return np.asarray(value.evaluate({}) + np.zeros(3))


@pytest.mark.parametrize("kind", MIXED)
def test_colours_are_mixed_as_by_cycles(kind: str) -> None:
    np.testing.assert_allclose(colour_of(mix(kind, FIRST, SECOND)), MIXED[kind], atol=6e-5)
    legacy = {"Fac": 0.7, "Color1": FIRST, "Color2": SECOND}
    node = blender.Node("MIX_RGB", legacy, blend_type=kind, use_clamp=True)
    np.testing.assert_allclose(colour_of(node), np.clip(MIXED[kind], 0, 1), atol=6e-5)


@pytest.mark.parametrize(("kind", "inputs", "expected"), OTHERS)
def test_colours_are_changed_as_by_cycles(kind: str, inputs: dict[str, Any], expected: Any) -> None:
    np.testing.assert_allclose(colour_of(blender.Node(kind, {"Color": FIRST, **inputs})), expected, atol=6e-5)


def test_curves_and_ramps_are_read_as_tables() -> None:
    curves = ((lambda x: x**2), (lambda x: 1 - x), (lambda x: 0.25 + 0 * x), (lambda x: x / 2))
    mapping = SimpleNamespace(curves=curves, initialize=lambda: None, evaluate=lambda curve, x: curve(x))
    node = blender.Node("CURVE_RGB", {"Fac": 1.0, "Color": FIRST}, mapping=mapping)
    np.testing.assert_allclose(colour_of(node), (0.16, 0.85, 0.25), atol=1e-4)
    ramp = SimpleNamespace(evaluate=lambda x: (x, 1 - x, 0.5, 1))
    node = blender.Node("VALTORGB", {"Fac": blender.Node("RGBTOBW", {"Color": FIRST})}, color_ramp=ramp)
    np.testing.assert_allclose(colour_of(node), (0.3883, 0.6117, 0.5), atol=1e-4)


@pytest.mark.parametrize("strip", [1 << 18, 13])
def test_what_nodes_make_of_images_is_one_texture(monkeypatch: pytest.MonkeyPatch, strip: int) -> None:
    monkeypatch.setattr("renderformer.viewer.blender.images.STRIP", strip)
    rng = np.random.default_rng(4)
    small, large = rng.uniform(size=(2, 3, 4)).astype("f4"), rng.uniform(size=(4, 6, 4)).astype("f4")
    images, notes = Images(), Notes()
    cloth = blender.picture(blender.Image(large, name="cloth"))
    dirt = blender.picture(blender.Image(small, "Non-Color", name="dirt"))
    node = blender.principled(Base_Color=mix("MULTIPLY", cloth, dirt, 1.0), Alpha=(cloth, "Alpha"))
    entry = material_of(blender.material(node), images, notes)
    assert notes.lines == []
    base = entry["textures"]["base"]
    assert (entry["diffuse"], base["srgb"], "alpha" in entry) == ([1.0] * 3, True, False)
    pixels = images.arrays[base["path"]] / 255
    expected = srgb_to_linear(large[..., :3]) * small[..., :3].repeat(2, axis=0).repeat(2, axis=1)
    np.testing.assert_allclose(srgb_to_linear(pixels[..., :3]), expected, atol=0.005)
    np.testing.assert_allclose(pixels[..., 3], large[..., 3], atol=0.002)


def test_roughness_is_evaluated_from_an_image_too() -> None:
    gloss = np.random.default_rng(4).uniform(size=(3, 5, 4))
    image = blender.picture(blender.Image(gloss, "Non-Color"))
    separate = blender.Node("SEPARATE_COLOR", {"Color": image})
    images, notes = Images(), Notes()
    rough = blender.Node("INVERT", {"Fac": 1.0, "Color": (separate, "Green")})
    entry = material_of(blender.material(blender.principled(Roughness=rough)), images, notes)
    assert notes.lines == []
    pixels = images.arrays[entry["textures"]["metallic_roughness"]["path"]] / 255
    np.testing.assert_allclose(pixels[..., 1], 1 - gloss[..., 1], atol=0.002)
    assert (entry["roughness"], entry["metallic"]) == (1.0, 0.0)


def test_what_is_too_bright_is_counted_and_what_lies_otherwise_is_not_mixed() -> None:
    values = np.full((2, 2, 4), 0.25, np.float32)
    values[0, :, :3] = 1
    image = blender.Image(values, "Non-Color")
    bright = mix("ADD", blender.picture(image), (0.5, 0.5, 0.5, 1), 1.0)
    notes = Notes()
    material_of(blender.material(blender.principled(Base_Color=bright)), Images(), notes)
    assert notes.lines == ["2 pixels of images that nodes make brighter than 1 are drawn as 1 (paint)"]
    notes = Notes()
    closest = blender.picture(image)
    closest.interpolation = "Closest"  # type: ignore[attr-defined]
    material_of(blender.material(blender.principled(Base_Color=closest)), Images(), notes)
    assert notes.lines == ["images shown by their closest pixels are drawn smooth (paint)"]
    notes = Notes()
    twice = mix("ADD", blender.picture(image), blender.picture(image, extension="EXTEND"))
    entry = material_of(blender.material(blender.principled(Base_Color=twice)), Images(), notes)
    assert "textures" not in entry
    assert "lie in different ways" in notes.lines[0]


def cube(**layers: tuple[str, np.ndarray]) -> Any:
    shape = trimesh.creation.box((1, 1, 1))
    uv = np.random.default_rng(0).uniform(size=(36, 2))
    made = blender.mesh(shape.triangles, np.repeat(shape.face_normals, 3, axis=0), uv)
    made.color_attributes = blender.attributes(layers)
    return made


def attribute(name: str) -> blender.Node:
    return blender.Node("VERTEX_COLOR", layer_name=name)


def drawn(shape: Any, *materials: Any) -> tuple[Any, list[str]]:
    """The mesh that renderformer reads, and the notes."""
    exporter = Exporter()
    graph = blender.depsgraph(blender.instance(blender.solid("Cube", shape, *materials)))
    objects, environment, arrays = exporter.scene(graph)
    message = SceneMessage.read({"do": "scene", "objects": objects, "environment": environment}, "scene")
    return SceneReader().scene(message, arrays).objects[0], exporter.notes


def test_colour_attributes_are_those_of_the_corners() -> None:
    rng = np.random.default_rng(2)
    points, corners = rng.uniform(size=(36, 4)), rng.uniform(size=(36, 4))
    shape = cube(Points=("POINT", points), Corners=("CORNER", corners))
    # Corners of the stand-in are in another order than points.
    turned = np.roll(np.arange(36), 5)
    shape.loop_triangles._columns["loops"] = turned
    for name, expected in (("Points", points), ("Corners", corners[turned]), ("", points)):
        mesh, notes = drawn(shape, blender.material(blender.principled(Base_Color=attribute(name))))
        assert notes == []
        np.testing.assert_allclose(mesh.appearance.colors[..., :3].reshape(-1, 3), expected[:, :3], atol=1e-6)
        assert (mesh.appearance.colors[..., 3] == 1).all()
    halved = mix("MULTIPLY", attribute("Points"), (0.5, 0.5, 0.5, 1), 1.0)
    mesh, _ = drawn(shape, blender.material(blender.principled(Base_Color=halved)))
    np.testing.assert_allclose(mesh.appearance.colors[..., :3].reshape(-1, 3), points[:, :3] / 2, atol=1e-6)


def test_copies_and_mirrored_ones_keep_their_colours() -> None:
    points = np.random.default_rng(2).uniform(size=(36, 4))
    paint = blender.material(blender.principled(Base_Color=attribute("Paint")))
    item = blender.solid("Cube", cube(Paint=("POINT", points)), paint)
    places = [np.diag([1.0, 1, 1, 1]), np.diag([-1.0, 1, 1, 1])]
    graph = blender.depsgraph(*[blender.instance(item, place, True) for place in places])
    objects, environment, arrays = Exporter().scene(graph)
    message = SceneMessage.read({"do": "scene", "objects": objects, "environment": environment}, "scene")
    mesh = SceneReader().scene(message, arrays).objects[0]
    assert mesh.appearance is not None
    assert mesh.appearance.colors is not None
    for corner, colour in zip(mesh.triangles.reshape(-1, 3), mesh.appearance.colors.reshape(-1, 4), strict=True):
        starts = item._shape.vertices._columns["co"].reshape(-1, 3)
        found = np.array([np.abs(starts * (side, 1, 1) - corner).max(axis=1) < 1e-6 for side in (1, -1)])
        shown = np.abs(points[:, :3] - colour[:3]).max(axis=1) < 1e-6
        assert (found & shown).any()


def test_a_colour_attribute_times_an_image_is_drawn_and_another_mix_is_named() -> None:
    points = np.random.default_rng(2).uniform(size=(36, 4))
    image = blender.picture(blender.Image(np.full((2, 2, 4), 0.5)))
    shape = cube(Paint=("POINT", points))
    base = mix("MULTIPLY", image, mix("MULTIPLY", attribute("Paint"), (0.5, 1, 1, 1), 1.0), 1.0)
    mesh, notes = drawn(shape, blender.material(blender.principled(Base_Color=base)))
    assert notes == []
    assert mesh.appearance.materials[0].textures.base is not None
    np.testing.assert_allclose(mesh.appearance.colors[..., 0].reshape(-1), points[:, 0] / 2, atol=1e-6)
    mesh, notes = drawn(shape, blender.material(blender.principled(Base_Color=mix("MIX", image, attribute("Paint")))))
    assert notes == ["a mix of images and colour attributes at Base Color is not drawn, its colour is (paint)"]
    mesh, notes = drawn(shape, blender.material(blender.principled(Base_Color=attribute("Gone"))))
    assert notes == ["without a colour attribute of points or corners called Gone, black is drawn (Cube)"]
    assert not mesh.appearance.colors[..., :3].any()
