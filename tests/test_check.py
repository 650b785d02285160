"""Warnings about the trained range have a value and a remedy; scenes inside it have none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import shapes

from renderformer.check import check_scene
from renderformer.config import V1
from renderformer.data.camera import Camera
from renderformer.data.errors import InputError
from renderformer.data.formats import load_scene
from renderformer.data.scene import Light, Material, Mesh, Scene
from renderformer.data.trained_range import ANYWHERE
from renderformer.renderer import Renderer

WHITE = Material((0.6, 0.6, 0.6), (0.2, 0.2, 0.2), 0.4)


def box(half: float = 0.13, material: Material = WHITE, name: str = "box") -> Mesh:
    return shapes.box(2 * half, material, name=name)


def scene(*meshes: Mesh, lights: int = 1, strength: float = 3500.0, camera: Camera | None = None) -> Scene:
    shining = [Light(emission=strength, name=f"light_{i}").mesh() for i in range(lights)]
    return Scene((*(meshes or (box(),)), *shining), (camera or Camera.from_angles(),))


def test_a_scene_inside_the_range_gives_no_line() -> None:
    assert check_scene(scene()) == []


@pytest.mark.parametrize("name", ["cbox", "cbox-bunny", "init-template", "veach-mis"])
def test_the_original_examples_are_inside_but_for_their_size(goldens: Path, name: str) -> None:
    for suffix in (".json", ".h5"):
        lines = check_scene(load_scene(goldens / "scenes" / (name + suffix)))
        assert [line for line in lines if "triangles, trained on up to 4096" not in line] == []


def translated(mesh: Mesh, *by: float) -> Mesh:
    matrix = np.eye(4)
    matrix[:3, 3] = by
    return mesh.transformed(matrix)


@pytest.mark.parametrize(
    ("outside", "line"),
    [
        (scene(translated(box(), 0.4, 0, 0)), "reach from (0.27, -0.13, -0.13) to (0.53, 0.13, 0.13)"),
        (scene(box(0.45)), "12 of 12 triangles are very large (longest edge 1.3"),
        (scene(lights=0), "no lights"),
        (scene(lights=9, strength=400.0), "9 light triangles, trained on 1 … 8"),
        (scene(strength=10000.0), "sums to 1e+04, trained on 2500 … 5000"),
        (scene(lights=4, strength=2000.0), "sums to 8000, trained on 2500 … 5000"),
        (scene(camera=Camera.from_angles(distance=3)), "1 of 1 cameras stand 3 from the origin, trained on 1.5 … 2"),
        (scene(camera=Camera.from_angles(fov=90)), "1 of 1 cameras have a fov of 90 degrees, trained on 30 … 60"),
        (scene(camera=Camera.look_at((0.1, 0, 0))), "1 of 1 cameras are inside the scene"),
        (scene(box(material=Material(0.8, 0.5, 0.5))), "diffuse + specular above 1 (up to 1.30)"),
        (scene(box(material=Material(0.1, (0.1, 0.5, 0.5), 0.5))), "12 of 12 triangles have a coloured specular"),
        (scene(box(material=Material(roughness=0.001))), "roughness below 0.01 (down to 0.001)"),
        (scene(replace(box(), materials=np.float32([0.5] * 6 + [1.5] + [0] * 6))), "roughness above 1 (up to 1.5)"),
        (scene(Mesh("half", box().triangles[:6])), "1 of 1 objects are not watertight (most in 'half'"),
        (Scene((Light().mesh(),)), "lights only, without an object"),
    ],
)
def test_each_limit_is_told(outside: Scene, line: str) -> None:
    lines = [entry for entry in check_scene(outside) if line in entry]
    assert len(lines) == 1
    # The remedy follows the last semicolon or comma of the line.
    assert ";" in lines[0]
    assert "\n" not in lines[0]


@pytest.mark.parametrize(
    ("light", "line"),
    [
        (Light((0.1, 0.1, 0.1), target=(0, 0, 0.12)), "1 of 1 lights are inside the scene"),
        (Light((0, 0, 5)), "1 of 1 lights stand 5 from the origin, trained on 2.1 … 2.7"),
        (Light(size=1.0), "1 of 1 lights have an edge of 1, trained on 0.1414 … 0.1767"),
        (Light(emission=(3000, 1000, 1000)), "coloured lights, trained on white"),
    ],
)
def test_each_limit_of_a_light_is_told(light: Light, line: str) -> None:
    lit = Scene((box(), light.mesh()))
    assert sum(line in entry for entry in check_scene(lit)) == 1


def test_the_count_of_triangles_has_two_steps() -> None:
    def crowd(count: int) -> Scene:
        corners = np.tile(box(0.05).triangles, (count // 12 + 1, 1, 1))[:count]
        return scene(Mesh("crowd", corners))

    assert not any("triangles, trained on up to" in line for line in check_scene(crowd(4095)))
    assert any("(twice that usually works)" in line for line in check_scene(crowd(5000)))
    assert any("simplify the meshes" in line for line in check_scene(crowd(9000)))


def test_a_plane_is_not_called_open() -> None:
    floor = Mesh("floor", np.float32([[[-0.2, -0.2, 0], [0.2, -0.2, 0], [0, 0.1, 0]]]))
    assert check_scene(scene(box(), floor)) == []


@pytest.mark.parametrize(
    ("values", "words"),
    [({"size": -1}, "size is -1"), ({"emission": 0}, "emission is 0"), ({"position": (0, 0, 0)}, "same point")],
)
def test_a_light_is_checked_when_made(values: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=f"light.*{words}"):
        Light(**values)  # type: ignore[arg-type]


def lit_by(light: Light) -> Scene:
    return Scene((box(), light.mesh()), (Camera.from_angles(),))


DIM, COLOURED = Light(emission=35.0), Light(emission=(35.0, 20.0, 8.0))


@pytest.mark.parametrize(("light", "warnings"), [(DIM, 1), (COLOURED, 2)])
def test_a_dim_or_coloured_lamp_matters_to_the_released_models_only(light: Light, warnings: int) -> None:
    assert len(check_scene(lit_by(light), V1)) == warnings
    assert check_scene(lit_by(light), ANYWHERE) == []


def test_the_embedded_models_picture_scales_exactly_with_the_lamp() -> None:
    engine = Renderer.from_pretrained(device="cpu", network=True)
    assert engine.check(lit_by(COLOURED)) == []
    white = engine.render(lit_by(Light(emission=3500.0)), 64)[0].hdr
    assert white.max() > 0.1
    dim = engine.render(lit_by(DIM), 64)[0].hdr
    np.testing.assert_allclose(dim, white / 100, rtol=1e-4, atol=1e-6)
    coloured = engine.render(lit_by(COLOURED), 64)[0].hdr
    np.testing.assert_allclose(coloured, white * np.float32([35.0, 20.0, 8.0]) / 3500, rtol=1e-4, atol=1e-6)
