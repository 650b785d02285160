"""Framing: any object fills most of a picture of any shape, in the middle, within the trained range of a model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh
from helpers.command import Run
from helpers.shapes import box
from hypothesis import given, settings
from hypothesis import strategies as st

from renderformer.config import V1
from renderformer.data import framing
from renderformer.data.arrays import AnyArray, Float64Array
from renderformer.data.camera import Camera
from renderformer.data.framing import FILL, Framing
from renderformer.data.rays.channels import RGB
from renderformer.data.rays.raycast import RayCaster
from renderformer.data.scene import Material, Mesh, Scene
from renderformer.data.staging import StageOptions, stage_scene
from renderformer.data.trained_range import ANYWHERE

SHAPES = {
    "tall": trimesh.creation.box((0.3, 0.2, 2)).triangles,
    "flat": trimesh.creation.cylinder(1, 0.02).triangles,
    "thin": trimesh.creation.box((2, 0.01, 0.01)).triangles,
    "wide": trimesh.creation.box((3, 0.3, 0.6)).triangles,
    "round": trimesh.creation.icosphere(4).triangles,
    "far and large": np.random.default_rng(0).normal(size=(50, 3, 3)) * [100, 200, 50] + [1e4, 300, -700],
}


def borders(points: AnyArray, camera: Camera, aspect: float) -> tuple[Float64Array, Float64Array]:
    """(2,) lower and upper end of the projected bounding box in x and in y; the picture is -1 … 1."""
    local = (np.asarray(points, np.float64).reshape(-1, 3) - camera.position) @ camera.c2w[:3, :3].astype(np.float64)
    slope = np.tan(np.radians(camera.fov) / 2)
    assert (local[:, 2] < 0).all()
    x, y = local[:, 0] / -local[:, 2] / (slope * aspect), local[:, 1] / -local[:, 2] / slope
    return np.array([x.min(), x.max()]), np.array([y.min(), y.max()])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("aspect", [1.0, 16 / 9, 0.5])
@pytest.mark.parametrize(("azimuth", "elevation"), [(7, 16), (-40, 0), (30, 60), (0, 90), (200, -20)])
def test_the_larger_side_of_the_object_fills_the_picture(
    shape: str, aspect: float, azimuth: float, elevation: float
) -> None:
    points = SHAPES[shape]
    for fov in (None, 20.0, 50.0):
        camera = Framing(points, azimuth, elevation, aspect).camera(fov)
        x, y = borders(points, camera, aspect)
        assert max(np.ptp(x), np.ptp(y)) / 2 == pytest.approx(FILL, abs=0.01)
        np.testing.assert_allclose([x.sum(), y.sum()], 0, atol=0.02)
        assert fov in (None, camera.fov)


def test_a_needle_seen_along_its_axis_stays_before_the_camera() -> None:
    needle = trimesh.creation.box((0.001, 5, 0.001)).triangles
    camera = Framing(needle, 0, 0).camera()
    assert camera.position[1] < -2.9
    borders(needle, camera, 1)


WIDE = replace(V1, camera_distance=(0.4, 3.0), fov=(15.0, 100.0))


@settings(max_examples=40)
@given(
    st.floats(-180, 180), st.floats(-89, 89), st.floats(0.1, 1.0), st.floats(0.25, 4),
    st.tuples(*[st.floats(0.05, 1)] * 3), st.sampled_from([V1, WIDE]),
)  # fmt: skip
def test_a_trained_range_is_kept_and_filled_as_far_as_it_goes(azimuth, elevation, size, aspect, shape, trained) -> None:  # type: ignore[no-untyped-def]
    points = trimesh.creation.box(size * np.array(shape)).triangles + [0, 0, -0.15]
    camera = Framing(points, azimuth, elevation, aspect).camera(trained=trained)
    near, far = trained.camera_distance
    distance = float(np.linalg.norm(camera.position))
    assert near - 1e-5 <= distance
    # What no camera of the range holds is seen from farther away.
    assert distance <= far + 1e-5 or camera.fov == trained.fov[1]
    assert trained.fov[0] <= camera.fov <= trained.fov[1]
    x, y = borders(points, camera, aspect)
    fill = max(np.ptp(x), np.ptp(y)) / 2
    assert fill <= FILL + 0.01
    # The narrowest and nearest view is the limit for small objects.
    assert fill >= FILL - 0.01 or (camera.fov == trained.fov[0] and distance <= near + 1e-5)


def test_an_orbit_keeps_a_long_object_in_the_picture() -> None:
    scene = stage_scene(Scene((box((1.0, 0.1, 0.1), Material(), name="pole"),)), StageOptions(all_around=True))
    start = scene.cameras[0]
    pole = next(mesh.triangles for mesh in scene.objects if mesh.name == "pole")
    middle = pole.reshape(-1, 3).mean(axis=0)
    distance = float(np.linalg.norm(start.position - middle))
    widths = [np.abs(borders(pole, c, 1)[0]).max() for c in Camera.orbit(8, 16, distance, middle, start.fov)]
    assert max(widths) == pytest.approx(FILL, abs=0.03)


@pytest.mark.parametrize("shape", ["tall", "flat", "thin", "wide"])
@pytest.mark.parametrize("size", [(96, 96), (160, 90), (60, 120)])
def test_the_drawn_object_covers_most_of_the_larger_side(shape: str, size: tuple[int, int]) -> None:
    """In the picture itself, as staged by default for a model without a range."""
    width, height = size
    thing = Scene((Mesh("thing", SHAPES[shape]),))
    scene = stage_scene(thing, StageOptions(stage="none", aspect=width / height, trained=ANYWHERE))
    alone = scene.replace(objects=[mesh for mesh in scene.objects if mesh.name == "thing"])
    covered = RayCaster.of(alone).features(scene.cameras[0], width, height, antialias=4)[..., RGB.mask][..., 0] > 0
    across, down = np.flatnonzero(covered.any(axis=0)), np.flatnonzero(covered.any(axis=1))
    filled = max((np.ptp(across) + 1) / width, (np.ptp(down) + 1) / height)
    assert 0.7 < filled < 0.85


def test_the_command_frames_for_the_shape_of_the_picture(run: Run) -> None:
    gear = Path(__file__).parents[1] / "examples" / "assets" / "gear.stl"
    filled = []
    for size, flag in (("64x64", "--frame"), ("128x64", "--frame"), ("64x64", "--no-frame")):
        alone = ("--stage", "none", "--background", "invisible")
        arguments = ("-r", size, "--no-network", *alone, "-o", "a.npy", "--overwrite", flag)
        assert run("render", gear, *arguments).code == 0
        drawn = np.load("a.npy").sum(axis=-1) > 1e-4
        across, down = np.flatnonzero(drawn.any(axis=0)), np.flatnonzero(drawn.any(axis=1))
        filled.append(max(np.ptp(across) / drawn.shape[1], np.ptp(down) / drawn.shape[0]))
    assert 0.7 < filled[0] < 0.85
    assert 0.7 < filled[1] < 0.85
    assert filled[2] < 0.7


@pytest.mark.parametrize("all_around", [False, True])
@pytest.mark.parametrize("shape", ["ball", "cube", "line"])
def test_of_many_points_the_outermost_decide_alone(
    shape: str, all_around: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(5)
    points = generator.normal(size=(7001, 3)) * (3, 1, 2)
    if shape == "ball":
        points /= np.linalg.norm(points, axis=1, keepdims=True)
    elif shape == "cube":
        points = np.round(generator.random((7001, 3)) * 8)
    else:
        points = generator.random((7001, 1)) * (1.0, 2.0, 3.0)

    def camera() -> Camera:
        return Framing(points, 35.0, 20.0, 1.5, all_around).camera()

    some = camera()
    monkeypatch.setattr(framing, "_MANY", 10_000)
    every = camera()
    np.testing.assert_allclose(some.c2w, every.c2w, atol=1e-6)
    assert some.fov == every.fov
