"""The handles that move, turn and scale: what a drag does, by properties of perspective."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from renderformer.data.camera import Camera
from renderformer.data.scene import Light, Mesh, Scene
from renderformer.viewer.beyond import HALF, INSET, mark
from renderformer.viewer.document import SceneDocument
from renderformer.viewer.gizmo import AXES, FREE, LENGTH, Drag, Gizmo, Lens, Mode, euler
from renderformer.viewer.placement import Placement

COORDINATE = st.floats(-0.4, 0.4)
POINT = st.tuples(COORDINATE, COORDINATE, COORDINATE)
DEGREES = st.floats(-170, 170)
LENSES = st.builds(
    lambda azimuth, elevation, distance, fov, width, height: Lens(
        Camera.from_angles(azimuth, elevation, distance, fov=fov), width, height
    ),
    DEGREES, st.floats(-85, 85), st.floats(1.2, 5), st.floats(15, 100), st.integers(50, 1500), st.integers(50, 1500),
)  # fmt: skip
NAMES = st.sampled_from(AXES)


def gizmo_of(lens: Lens, mode: Mode, centre: Any, placement: Placement = Placement()) -> Gizmo:  # noqa: B008 - frozen
    gizmo = Gizmo.of(lens, mode, np.array(centre), placement)
    assert gizmo is not None
    return gizmo


def pixel(lens: Lens, point: Any) -> tuple[float, float]:
    (found,), _ = lens.project(np.asarray(point)[None])
    return float(found[0]), float(found[1])


def test_a_mark_at_the_edge_points_to_what_is_outside_the_picture() -> None:
    lens = Lens(Camera.look_at((0, -2, 0), (0, 0, 0), fov=40), 300, 200)
    assert mark(lens, (0, 0, 0)) is None
    assert mark(lens, (0.5, 0, 0.3)) is None
    places = {
        (5, 0, 0): (300 - INSET, 100),
        (-5, 0, 0): (INSET, 100),
        (0, 0, 5): (150, INSET),
        # Behind the camera: the shorter way to turn; right behind it, down.
        (5, -4, 0): (300 - INSET, 100),
        (0, -4, 1): (150, INSET),
        (0, -4, 0): (150, 200 - INSET),
        (300, -2, 100): (300 - INSET, 100 - (150 - INSET) / 3),
    }
    for point, tip in places.items():
        corners = mark(lens, point)
        assert corners is not None, point
        np.testing.assert_allclose(corners[0], tip, atol=1e-3)
        assert np.linalg.norm(corners[1] - corners[2]) == pytest.approx(2 * HALF)
        # The base lies nearer to the middle.
        assert np.linalg.norm(corners[1:].mean(axis=0) - (150, 100)) < np.linalg.norm(corners[0] - (150, 100))


@given(LENSES, POINT, st.integers(0, 1400), st.integers(0, 1400))
def test_a_projected_point_lies_on_the_ray_through_its_pixel(lens: Lens, point: Any, x: int, y: int) -> None:
    _, (depth,) = lens.project(np.array([point]))
    assume(depth > 0.05)
    back = lens.camera.position + depth * lens.ray(pixel(lens, point))
    assert np.allclose(back, point, atol=1e-5)


@given(LENSES, POINT, NAMES, st.floats(-0.5, 0.5), st.floats(-0.3, 0.3))
def test_a_drag_along_an_axis_moves_by_the_length_whose_ends_are_seen_where_the_pointer_was(
    lens: Lens, centre: Any, name: str, length: float, grabbed: float
) -> None:
    gizmo = gizmo_of(lens, "move", centre)
    axis = np.eye(3)[AXES.index(name)]
    start, end = centre + grabbed * axis, centre + (grabbed + length) * axis
    _, depths = lens.project(np.stack([start, end]))
    assume(gizmo.offered(name) and (depths > 0.05).all())
    placement = Placement((1.0, 2.0, 3.0))
    drag = Drag(gizmo, placement, name, pixel(lens, start))
    moved = drag.to(pixel(lens, end))
    assert np.allclose(moved.translation, placement.translation + length * axis, atol=2e-4)
    assert (moved.rotation, moved.scale) == (placement.rotation, placement.scale)
    # The way there does not matter.
    drag.to(pixel(lens, np.array(centre) + 0.1))
    assert np.allclose(drag.to(pixel(lens, end)).translation, moved.translation)


@given(LENSES, POINT, NAMES, st.floats(-3000, 3000), st.floats(-3000, 3000))
def test_no_drag_throws_an_object_behind_the_camera_or_over_the_horizon(
    lens: Lens, centre: Any, name: str, x: float, y: float
) -> None:
    gizmo = gizmo_of(lens, "move", centre)
    drag = Drag(gizmo, Placement(), name, gizmo.middle)
    there = np.array(centre) + drag.to((x, y)).translation
    assert np.isfinite(there).all()
    _, (depth,) = lens.project(there[None])
    assert 0 < depth <= 51 * gizmo.depth


def test_an_axis_end_on_and_a_ring_edge_on_are_not_offered() -> None:
    lens = Lens(Camera.look_at((0, -2, 0), (0, 0, 0)), 640, 360)
    assert [handle.name for handle in gizmo_of(lens, "move", (0, 0, 0)).handles] == [FREE, "x", "z"]
    assert [handle.name for handle in gizmo_of(lens, "turn", (0, 0, 0)).handles] == [FREE, "y"]
    drag = Drag(gizmo_of(lens, "move", (0, 0, 0)), Placement(), "x", (320, 180))
    moved = drag.to((400, 180))
    assert drag.constrain("y") == moved
    assert drag.constrain("z").translation == pytest.approx((0, 0, 0))
    assert Gizmo.of(lens, "move", np.array([0.0, -3.0, 0.0]), Placement()) is None


@given(LENSES, POINT, st.floats(-50, 50), st.floats(-50, 50))
def test_the_free_handle_keeps_the_object_under_the_pointer_at_its_depth(
    lens: Lens, centre: Any, dx: float, dy: float
) -> None:
    gizmo = gizmo_of(lens, "move", centre)
    x, y = gizmo.middle
    moved = Drag(gizmo, Placement(), FREE, (x, y)).to((x + dx, y + dy))
    there = np.array(centre) + moved.translation
    assert pixel(lens, there) == pytest.approx((x + dx, y + dy), abs=0.05)
    assert lens.project(there[None])[1][0] == pytest.approx(gizmo.depth, rel=1e-5)


@given(LENSES, POINT, NAMES, st.floats(-170, 170), st.floats(0, 360), DEGREES)
def test_a_drag_of_a_ring_turns_by_the_angle_between_the_points_of_the_ring(
    lens: Lens, centre: Any, name: str, angle: float, where: float, before: float
) -> None:
    gizmo = gizmo_of(lens, "turn", centre)
    assume(gizmo.offered(name))
    axis = np.eye(3)[AXES.index(name)]
    spoke = np.roll(axis, 1) * LENGTH * gizmo.pixel
    turned = [Rotation.from_rotvec(np.radians(a) * axis).apply(spoke) for a in (where, where + angle)]
    points = [np.array(centre) + spoke for spoke in turned]
    assume((lens.project(np.array(points))[1] > 0.05).all())
    start = Placement(rotation=(before, 20.0, 30.0))
    drag = Drag(gizmo, start, name, pixel(lens, points[0]))
    placed = drag.to(pixel(lens, points[1]))
    expected = Rotation.from_rotvec(np.radians(angle) * axis).as_matrix() @ start.axes
    assert np.allclose(placed.axes, expected, atol=1e-3)
    assert placed.translation == start.translation


def test_a_ring_can_be_turned_more_than_once_and_snaps_to_15_degrees() -> None:
    lens = Lens(Camera.look_at((0, 0, 3), (0, 0, 0), up=(0, 1, 0)), 400, 300)
    drag = Drag(gizmo_of(lens, "turn", (0, 0, 0)), Placement(), "z", (290, 150))
    for angle in range(0, 401, 20):
        x, y = 200 + 90 * math.cos(math.radians(angle)), 150 - 90 * math.sin(math.radians(angle))
        placed = drag.to((x, y))
    assert drag.text == "turn by 400.0 degrees"
    assert placed.rotation == pytest.approx((0, 0, 40), abs=1e-3)
    assert drag.to((x, y), snap=True).rotation == pytest.approx((0, 0, 45), abs=1e-3)


@given(LENSES, POINT, NAMES, st.floats(0.2, 3), DEGREES)
def test_a_drag_of_a_stretch_handle_puts_what_was_grabbed_under_the_pointer(
    lens: Lens, centre: Any, name: str, factor: float, angle: float
) -> None:
    start = Placement(rotation=(angle, 10.0, -30.0), stretch=(1.0, 2.0, 1.0))
    gizmo = gizmo_of(lens, "scale", centre, start)
    assume(gizmo.offered(name))
    arm = start.axes[:, AXES.index(name)] * LENGTH * gizmo.pixel
    points = np.array([centre + arm, centre + factor * arm])
    assume((lens.project(points)[1] > 0.05).all())
    stretch = Drag(gizmo, start, name, pixel(lens, points[0])).to(pixel(lens, points[1])).stretch
    expected = np.array(start.stretch)
    expected[AXES.index(name)] *= factor
    assert np.allclose(stretch, expected, rtol=2e-3)


def test_the_free_scale_is_the_ratio_of_distances_and_never_zero() -> None:
    lens = Lens(Camera.from_angles(30, 20, 2), 401, 303)
    gizmo = gizmo_of(lens, "scale", (0.1, 0, 0))
    x, y = gizmo.middle
    drag = Drag(gizmo, Placement(scale=2.0), FREE, (x + 20, y))
    assert drag.to((x, y + 30)).scale == pytest.approx(3.0)
    assert drag.to((x, y)).scale == pytest.approx(3.0)
    assert drag.to((x, y - 34), snap=True).scale == pytest.approx(2.0 * 1.7)


@given(LENSES, st.sampled_from(["move", "turn", "scale"]))
@settings(max_examples=50)
def test_a_press_on_what_is_drawn_takes_that_handle_and_one_far_away_none(lens: Lens, mode: Mode) -> None:
    gizmo = gizmo_of(lens, mode, (0, 0, 0))
    for handle in gizmo.handles:
        x, y = handle.line[-1]
        assert gizmo.at((x, y)), handle.name
    assert gizmo.at((gizmo.middle[0] + 400, gizmo.middle[1])) == ""


@given(DEGREES, st.sampled_from([-90.0, 90.0, 30.0, -89.99999]), DEGREES)
def test_angles_of_a_rotation_give_that_rotation(x: float, y: float, z: float) -> None:
    matrix = Placement(rotation=(x, y, z)).axes
    assert np.allclose(Placement(rotation=euler(matrix)).axes, matrix, atol=1e-6)


def a_document() -> SceneDocument:
    block = Mesh("block", np.random.default_rng(0).uniform(-0.3, 0.3, (8, 3, 3)))
    return SceneDocument(Scene((block, Light((0.3, -0.5, 2.2)).mesh())))


def test_a_drag_is_one_step_of_undo_however_long_it_takes_and_can_be_given_up() -> None:
    now = [0.0]
    document = SceneDocument(a_document().scene, clock=lambda: now[0])
    first = document.scene
    document.set_visible("light", False)
    document.undo()
    document.begin_stroke()
    for step in range(4):
        now[0] += 5.0
        document.place("block", Placement((0.1 * step, 0.0, 0.0)))
    document.end_stroke(keep=False)
    assert document.scene is first
    assert document.redo() == "hide light"
    document.undo()
    document.begin_stroke()
    for step in range(4):
        now[0] += 5.0
        document.place("block", Placement((0.1 * step, 0.0, 0.0)))
    document.end_stroke()
    document.place("block", Placement((0.9, 0.0, 0.0)))
    document.undo()
    assert document["block"].placement.translation == pytest.approx((0.3, 0, 0))
    document.undo()
    assert document.scene is first
    assert document.undo() == ""


def test_a_stretch_is_along_the_axes_of_the_object_and_keeps_its_centre() -> None:
    document = a_document()
    before = document["block"]
    document.place("block", Placement(rotation=(0.0, 0.0, 90.0), stretch=(2.0, 1.0, 1.0)))
    after = document["block"]
    size = np.ptp(before.mesh.bounds, axis=0)
    assert np.allclose(np.ptp(after.mesh.bounds, axis=0), size[[1, 0, 2]] * (1, 2, 1), rtol=1e-5)
    assert np.allclose(after.mesh.bounds.mean(axis=0), before.mesh.bounds.mean(axis=0), atol=1e-6)
    with pytest.raises(ValueError, match="scale is 0"):
        document.place("block", Placement(stretch=(1.0, 0.0, 1.0)))
