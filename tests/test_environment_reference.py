"""Pictures of scenes in environments against a path tracer."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.environments import spots
from helpers.shapes import ball, box

from renderformer.data.camera import Camera
from renderformer.data.environment import Environment, Sun
from renderformer.data.geometry.subdivide import subdivide
from renderformer.data.scene import Material, Mesh, Scene
from renderformer.renderer import Renderer

pytest.importorskip("mitsuba", reason="needs the extra `reference`")

CORNERS = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], np.float32)
FLOOR = CORNERS[[[0, 1, 2], [0, 2, 3]]]


def picture(scene: Scene, size: int, spp: int = 0, depth: int = 8) -> np.ndarray:
    """Ours, or with `spp` that of a path tracer."""
    if not spp:
        return Renderer.from_pretrained(network=False).render(scene, size)[0].hdr
    from renderformer.data.sets.mitsuba import ReferenceScene

    return ReferenceScene(scene, depth).render(scene.cameras[0], size, size, spp)


def decibels(ours: np.ndarray, reference: np.ndarray) -> float:
    error = np.clip(ours, 0, 1) ** (1 / 2.2) - np.clip(reference, 0, 1) ** (1 / 2.2)
    return float(-10 * np.log10((error**2).mean()))


def balls() -> Scene:
    objects = (
        ball(0.17, Material((0.6, 0.25, 0.15)), (-0.37, 0, -0.33)),
        ball(0.17, Material((0.3, 0.3, 0.32), 0.25, 0.25), (0, 0, -0.33)),
        ball(0.17, Material(0.0, (0.9, 0.85, 0.8), 0.1), (0.37, 0, -0.33)),
    )
    named = tuple(Mesh(f"ball {i}", m.triangles, m.normals, m.materials) for i, m in enumerate(objects))
    ground = Mesh("floor", 0.9 * FLOOR + np.float32([0, 0, -0.5]), materials=Material(0.5))
    return Scene((*named, ground), (Camera.look_at((0, -1.7, -0.1), (0, 0, -0.3), fov=35),))


@pytest.mark.parametrize("name", ["studio", "spots", "gradient"])
def test_pictures_agree_with_a_path_tracer(name: str) -> None:
    ours = {"spots": spots(), "gradient": Environment.gradient((0.2, 0.15, 0.1), 0.6, (0.3, 0.5, 1.0), rotation=20)}
    environment = ours[name] if name in ours else Environment.of(name, rotation=-30)
    scene = balls().replace(environment=environment)
    drawn, reference = picture(scene, 64), picture(scene, 64, 256)
    assert decibels(drawn, reference) > 35
    assert drawn.mean() == pytest.approx(reference.mean(), rel=0.02)


def test_a_sun_behind_an_occluder_agrees_with_a_path_tracer() -> None:
    post = box((0.2, 0.2, 0.6), Material(0.4), (0.2, 0.1, -0.2), "post")
    ground = Mesh("floor", 0.9 * FLOOR + np.float32([0, 0, -0.5]), materials=Material(0.5))
    environment = Environment((0.1, 0.15, 0.3), rotation=25, suns=(Sun((0.7, -0.3, 0.6), 2.0, 6.0),))
    scene = Scene((ground, post), (Camera.from_angles(10, 40, 2.0, (0, 0, -0.3)),), environment=environment)
    drawn, reference = picture(scene, 64), picture(scene, 64, 256)
    assert decibels(drawn, reference) > 35


def test_a_room_with_a_window_agrees_with_a_path_tracer() -> None:
    walls = box((1.0, 1.0, 1.0), Material((0.7, 0.65, 0.6)), name="walls")
    inside = subdivide(Mesh("walls", walls.triangles[:, ::-1], materials=walls.materials), 0.15)[0]
    middle = inside.triangles.mean(axis=1)
    window = (middle[:, 0] > 0.499) & (np.abs(middle[:, 1:]).max(axis=1) < 0.25)
    room = Mesh("walls", inside.triangles[~window], materials=inside.materials[~window])
    environment = Environment.gradient((0.3, 0.25, 0.2), 1.0, (0.6, 1.0, 2.0), suns=(Sun((0.8, 0.3, 0.6), 4.0, 2.0),))
    scene = Scene((room,), (Camera.look_at((-0.4, -0.4, 0.0), (0.2, 0.4, -0.1), fov=75),), environment=environment)
    drawn, reference = picture(scene, 48), picture(scene, 48, 400, 16)
    assert drawn.mean() == pytest.approx(reference.mean(), rel=0.04)
    assert decibels(drawn, reference) > 30


def test_references_have_the_same_background() -> None:
    scene = balls().replace(environment=Environment.of("sky", background="invisible", suns=()))
    drawn, reference = picture(scene, 48), picture(scene, 48, 128)
    assert np.abs(reference[0, 0]).max() < 1e-5
    assert decibels(drawn, reference) > 33
