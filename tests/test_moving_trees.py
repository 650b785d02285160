"""Objects that move in large scenes: trees that stay, against brute force, and the pictures of the viewer meanwhile."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Iterator

import numpy as np
import pytest
from helpers.intersection import first_hits
from helpers.shapes import ball

from renderformer.data.appearance import Appearance
from renderformer.data.camera import Camera
from renderformer.data.rays import moving, tree
from renderformer.data.rays.moving import Joined, MovingTrees
from renderformer.data.rays.raycast import RayCaster
from renderformer.data.rays.tree import Tree
from renderformer.data.scene import Light, Material, Mesh, Scene
from renderformer.renderer import Cancelled, Renderer
from renderformer.viewer.drafts import relit
from renderformer.viewer.frames import Frame
from renderformer.viewer.panel import Panel
from renderformer.viewer.placement import Placement
from renderformer.viewer.session import Session

STUCK = 240.0
FLOOR = 0.5 * np.array([[[-1, -1, -1], [1, -1, -1], [1, 1, -1]], [[-1, -1, -1], [1, 1, -1], [-1, 1, -1]]], np.float32)
PLACEMENTS = {
    "moved": Placement((0.21, -0.05, 0.1)),
    "turned": Placement((0.0, 0.1, 0.0), (20.0, 130.0, -50.0)),
    "stretched": Placement((0.0, 0.0, 0.05), (0.0, 0.0, 30.0), 0.7, (1.9, 1.0, 0.4)),
}


@pytest.fixture(autouse=True)
def small_counts_as_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moving, "LARGE", 100)
    monkeypatch.setattr(moving, "SMALL", 30)
    monkeypatch.setattr(tree, "PIECE", 37)
    monkeypatch.setattr(tree, "_KNOWN", weakref.WeakValueDictionary())


@pytest.fixture
def trees() -> Iterator[MovingTrees]:
    trees = MovingTrees()
    yield trees
    trees.close()


def a_scene() -> Scene:
    red, blue = Material((0.7, 0.2, 0.2), 0.2, 0.4), Material((0.2, 0.3, 0.8), 0.1, 0.7)
    objects = (
        Mesh("floor", FLOOR, materials=Material(0.6).row()),
        ball(0.2, red, (-0.1, 0.0, -0.2)),
        Mesh("ball_2", ball(0.1, blue, (0.25, -0.2, -0.3)).triangles, materials=blue.row()),
        Light((0.8, -0.8, 1.9)).mesh(),
    )
    return Scene(objects, (Camera.from_angles(20, 25, 1.8, fov=40),))


def moved(scene: Scene, number: int, placement: Placement) -> Scene:
    mesh = scene.objects[number]
    placed = mesh.transformed(placement.matrix(mesh.bounds.mean(axis=0)))
    return scene.replace(objects=(*scene.objects[:number], placed, *scene.objects[number + 1 :]))


def rays(count: int = 501) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    origins = rng.uniform(-1, 1, (count, 3)) + (0, 0, 1)
    targets = rng.uniform(-0.5, 0.5, (count, 3)) * (1, 1, 0.6) - (0, 0, 0.2)
    return origins.astype(np.float32), (targets - origins).astype(np.float32)


@pytest.mark.parametrize("placement", PLACEMENTS.values(), ids=PLACEMENTS)
@pytest.mark.parametrize("number", [1, 2, 3])
def test_rays_meet_a_moved_object_where_it_is(trees: MovingTrees, number: int, placement: Placement) -> None:
    known = RayCaster.of(a_scene())
    scene = moved(a_scene(), number, placement)
    found = trees.tree(known, scene)
    assert isinstance(found, Joined)
    origins, directions = rays()
    distance, triangle = first_hits(origins, directions, scene.triangles)
    hit = np.flatnonzero(triangle >= 0)
    assert 100 < len(hit) < len(origins)
    # A ray along an edge meets either side, and one along the outline either object.
    nearest = found.nearest(origins, directions)
    assert (nearest.triangle != triangle).mean() < 0.01
    same = np.flatnonzero((nearest.triangle == triangle) & (triangle >= 0))
    np.testing.assert_allclose(nearest.end[same], distance[same], rtol=1e-4)
    u, v = nearest.u[same, None], nearest.v[same, None]
    first, second, third = scene.triangles[triangle[same]].transpose(1, 0, 2)
    places = (1 - u - v) * first + u * second + v * third
    np.testing.assert_allclose(places, origins[same] + distance[same, None] * directions[same], atol=1e-4)
    rows, some, weights = found.first(origins, directions)
    assert np.array_equal(rows, np.flatnonzero(nearest.triangle >= 0))
    assert np.array_equal(some, nearest.triangle[rows])
    assert np.array_equal(weights, np.stack([nearest.u, nearest.v], axis=1)[rows])
    for end in (None, 0.9):
        expected = distance < (np.inf if end is None else end)
        assert (found.met(origins, directions, end) != expected).mean() < 0.01
        assert (found.first(origins, directions, end)[0].size - expected.sum()) / len(origins) < 0.01


def test_a_tree_in_pieces_meets_what_brute_force_does(monkeypatch: pytest.MonkeyPatch) -> None:
    triangles = a_scene().triangles
    origins, directions = rays()
    expected = first_hits(origins, directions, triangles)[1]
    calls: list[int] = []
    assert (Tree(triangles, lambda: calls.append(0)).nearest(origins, directions).triangle != expected).mean() < 0.01
    assert len(calls) == -(-len(triangles) // 37)
    monkeypatch.setattr(tree, "PIECE", 1 << 20)
    assert (Tree(triangles).nearest(origins, directions).triangle != expected).mean() < 0.01


def test_what_else_is_edited_gets_a_tree_of_its_own(trees: MovingTrees) -> None:
    scene = a_scene()
    known = RayCaster.of(scene)
    assert trees.tree(known, scene) is None
    assert trees.tree(known, moved(moved(scene, 1, PLACEMENTS["moved"]), 2, PLACEMENTS["moved"])) is None
    # The same number of triangles, but another shape.
    dented = scene.objects[1].triangles.copy()
    dented[::3] *= 1.2
    objects = (scene.objects[0], Mesh("ball", dented), *scene.objects[2:])
    assert trees.tree(known, scene.replace(objects=objects)) is None
    mirrored = scene.objects[1].transformed(np.diag([-1.0, 1.0, 1.0, 1.0]))
    objects = (scene.objects[0], mirrored, *scene.objects[2:])
    assert trees.tree(known, scene.replace(objects=objects)) is None


def test_trees_are_built_once_for_all_places_of_an_object_and_for_those_it_had_before(
    trees: MovingTrees, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[int] = []
    build = Tree.__init__
    monkeypatch.setattr(Tree, "__init__", lambda self, *some: (built.append(len(some[0])), build(self, *some))[1])
    known, larger = RayCaster.of(a_scene()), len(a_scene().objects[1])
    trees.prepare(known, 1)
    for placement in PLACEMENTS.values():
        assert isinstance(trees.tree(known, moved(a_scene(), 1, placement)), Joined)
    assert sorted(built[1:]) == sorted([larger, len(known.triangles) - larger])
    # Let go there, and taken again.
    there = RayCaster.of(moved(a_scene(), 1, PLACEMENTS["turned"]))
    count = len(built)
    trees.prepare(there, 1)
    assert isinstance(trees.tree(there, moved(a_scene(), 1, PLACEMENTS["moved"])), Joined)
    assert len(built) == count


def test_edits_of_a_transparent_scene_build_trees_of_what_has_moved_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[int] = []
    build = Tree.__init__
    monkeypatch.setattr(Tree, "__init__", lambda self, *some: (built.append(len(some[0])), build(self, *some))[1])
    pane = Mesh("pane", FLOOR * 0.5, appearance=Appearance.of(Material(alpha=0.4), np.zeros((2, 3, 2))))
    scene = a_scene().with_object(pane)
    known = RayCaster.lit(scene)
    assert sorted(built) == sorted([len(scene), 2, len(scene) - 2])
    built.clear()
    painted = scene.with_object(scene.objects[1].with_material(Material((0.1, 0.9, 0.1))))
    drawn = [relit(painted, known), RayCaster.lit(painted)]
    assert built == []
    assert drawn[0] is not None
    origins, ends = np.array([[0.1, 0.1, 0.4]], np.float32), np.array([[0.1, 0.1, -0.4]], np.float32)
    assert drawn[0].transmitted(origins, ends)[0] == pytest.approx(0.6)
    # Nobody knows the others any more.
    relit(moved(scene, len(scene.objects) - 1, PLACEMENTS["moved"]), known)
    assert sorted(built) == [2, len(scene)]
    built.clear()
    del known, drawn
    gc.collect()
    RayCaster.lit(painted)
    assert len(built) == 3


def test_a_dragged_object_is_followed_and_rests_in_the_picture_of_render() -> None:
    renderer = Renderer.from_pretrained(network=False)
    session = Session(a_scene(), renderer, (60, 45))
    frames: list[Frame] = []
    session.on_frame = frames.append
    used: list[object] = []
    give = session.scheduler.trees.tree
    session.scheduler.trees.tree = lambda *some: (used.append(give(*some)), used[-1])[1]  # type: ignore[method-assign]
    try:
        session.request()
        assert session.scheduler.wait(STUCK)
        name = a_scene().objects[1].name
        Panel(session).choose(name)
        session.document.begin_stroke()
        for place in PLACEMENTS.values():
            count = len(frames)
            session.edit(lambda document, place=place: document.place(name, place))
            end = time.monotonic() + STUCK
            while len(frames) == count and time.monotonic() < end:
                time.sleep(0.001)
        session.document.end_stroke()
        assert session.scheduler.wait(STUCK)
        assert used
        assert all(isinstance(tree, Joined) for tree in used)
        scene = session.document.scene
        expected = renderer.render(scene, (60, 45))[0]
        assert frames[-1].final
        np.testing.assert_allclose(frames[-1].image.hdr, expected.hdr, rtol=1e-4, atol=1e-5)
        # On the way it looks nearly so, too.
        lit = renderer.encode(a_scene())
        assert lit.caster is not None
        casters = [relit(scene, lit.caster, trees) for trees in (session.scheduler.trees, None)]
        drawn = [caster.features(scene.cameras[0], 33, 22) for caster in casters if caster is not None]
        assert np.abs(drawn[0] - drawn[1]).mean() < 0.01 * np.abs(drawn[1]).mean()
    finally:
        assert session.close()
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("renderformer")]


def test_lighting_a_scene_can_be_given_up_while_its_tree_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def cancel() -> bool:
        calls.append(0)
        return len(calls) > 3

    def built(*_: object) -> None:
        raise AssertionError("the light cache was begun")

    renderer = Renderer.from_pretrained(network=False)
    monkeypatch.setattr(RayCaster, "light_up", built)
    with pytest.raises(Cancelled):
        renderer.encode(a_scene(), cancel=cancel)
