"""The doctor: every fault is found and ranked, and the repaired scene has it no more."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh
from helpers.command import Run
from helpers.shapes import ball, box

from renderformer.config import V1
from renderformer.data.camera import Camera
from renderformer.data.geometry.health import Health, examined, mended
from renderformer.data.geometry.triangles import smooth_normals
from renderformer.data.scene import EMISSION, ROUGHNESS, Light, Material, Mesh, Scene
from renderformer.doctor import diagnose, repaired

WHITE = Material((0.6, 0.6, 0.6), 0.1, 0.4)
CAMERA = Camera.look_at((0, -1.7, 0.5), (0, 0, 0), fov=40, name="front")


def sound(*more: Mesh) -> Scene:
    """A scene in the range of V1 models."""
    floor = box((0.9, 0.9, 0.02), WHITE, (0, 0, -0.4), "floor")
    floor = replace(floor, materials=WHITE.row())
    return Scene((ball(0.3, WHITE), *more, Light((0.5, -0.8, 2.1)).mesh()), (CAMERA,))


def with_ball(change: Callable[[Mesh], Mesh]) -> Mesh:
    return change(ball(0.3, WHITE))


def cut(mesh: Mesh, triangles: np.ndarray) -> Mesh:
    return Mesh(mesh.name, triangles, materials=WHITE.row())


def turned(mesh: Mesh, rows: slice) -> Mesh:
    triangles = mesh.triangles.copy()
    triangles[rows] = triangles[rows][:, [0, 2, 1]]
    return cut(mesh, triangles)


def cracked(mesh: Mesh) -> Mesh:
    return cut(
        mesh, mesh.triangles + np.random.default_rng(0).normal(size=mesh.triangles.shape).astype(np.float32) * 3e-7
    )


FAULTS: dict[str, tuple[Callable[[Mesh], Mesh], Health]] = {
    "flipped": (lambda mesh: turned(mesh, slice(5, 12)), Health(flipped=7)),
    "inside out": (lambda mesh: turned(mesh, slice(None)), Health(flipped=320)),
    "hole": (lambda mesh: cut(mesh, mesh.triangles[1:]), Health(holes=3)),
    "double": (
        lambda mesh: cut(mesh, np.concatenate([mesh.triangles, mesh.triangles[:4, [1, 2, 0]]])),
        Health(double=4),
    ),
    "empty": (lambda mesh: cut(mesh, np.concatenate([mesh.triangles, mesh.triangles[:5, [0, 1, 1]]])), Health(empty=5)),
}


def body(mesh: Mesh) -> trimesh.Trimesh:
    """By trimesh, which welds equal corners."""
    return trimesh.Trimesh(mesh.triangles.reshape(-1, 3), np.arange(3 * len(mesh)).reshape(-1, 3), process=True)


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_of_a_mesh_is_counted_and_mended(name: str) -> None:
    change, expected = FAULTS[name]
    mesh = with_ball(change)
    assert examined(mesh) == expected
    whole, done = mended(mesh)
    assert done == expected
    assert examined(whole) == Health()
    solid = body(whole)
    assert solid.is_watertight
    assert solid.is_winding_consistent
    assert solid.volume == pytest.approx(body(ball(0.3, WHITE)).volume, rel=0.01)
    outward = (whole.normals * whole.triangles).sum(axis=-1)
    assert (outward > 0).all()
    assert whole.materials[0].tolist() == mesh.materials[0].tolist()


def test_cracks_are_welded() -> None:
    mesh = with_ball(cracked)
    health = examined(mesh)
    assert health == Health(cracks=960)
    whole, done = mended(mesh)
    assert done == health
    assert body(whole).is_watertight
    np.testing.assert_allclose(whole.triangles, mesh.triangles, atol=3e-6)


def test_sound_open_and_flat_meshes_stay_as_they_are() -> None:
    square = box(1.0, WHITE).triangles[:2]
    bowl = ball(0.3, WHITE)
    bowl = cut(bowl, bowl.triangles[bowl.triangles[..., 2].max(axis=1) < 0.05][:40])
    for mesh in (ball(0.3, WHITE), Mesh("square", square), bowl):
        assert examined(mesh) == Health(), mesh.name
        assert mended(mesh)[0] is mesh


def test_a_mended_smooth_mesh_is_smooth_again() -> None:
    shape = trimesh.creation.icosphere(3, 0.35)
    sound = np.asarray(shape.triangles, np.float32)
    generator = np.random.default_rng(0)
    some = sound[generator.random(len(sound)) > 0.03]
    turned = generator.random(len(some)) < 0.2
    some[turned] = some[turned][:, [0, 2, 1]]
    mesh, done = mended(Mesh("ball", some, smooth_normals(some), Material().row()))
    assert done.flipped > 100
    assert done.holes > 30
    assert (mesh.normals * outward_of(mesh.triangles)).sum(axis=-1).min() > 0.97
    inward = outward_of(0.05 - outward_of(sound[:, [0, 2, 1]]))
    authored = Mesh("ball", sound[:, [0, 2, 1]], inward, Material().row())
    turned_about, _ = mended(authored)
    np.testing.assert_allclose(turned_about.normals, -authored.normals[:, [0, 2, 1]], atol=1e-5)


def outward_of(triangles: np.ndarray) -> np.ndarray:
    """Unit vectors from the origin to corners."""
    return triangles / np.linalg.norm(triangles, axis=-1, keepdims=True)


def test_a_mended_mesh_keeps_its_textures() -> None:
    from renderformer.data.appearance import Appearance

    mesh = ball(0.3, WHITE)
    uv = np.random.default_rng(0).random((len(mesh), 3, 2)).astype(np.float32)
    colors = np.random.default_rng(1).random((len(mesh), 3, 4)).astype(np.float32)
    colors[..., 3] = 1
    painted = Mesh("ball", mesh.triangles, appearance=Appearance.of(WHITE, uv, colors))
    order = [0, 2, 1]
    triangles, look = painted.triangles.copy(), painted.appearance
    assert look is not None
    triangles[3] = triangles[3][order]
    shuffled = uv.copy(), colors.copy()
    for values in shuffled:
        values[3] = values[3][order]
    broken = Mesh("ball", triangles, appearance=Appearance.of(WHITE, *shuffled))
    whole, done = mended(broken)
    assert done == Health(flipped=1)
    assert whole.appearance is not None
    np.testing.assert_allclose(whole.appearance.uv, look.uv, atol=1e-6)
    np.testing.assert_allclose(whole.appearance.colors, look.colors, atol=1e-6)  # type: ignore[arg-type]


def rules(scene: Scene, trained: object = None) -> list[str]:
    return [finding.rule for finding in (diagnose(scene) if trained is None else diagnose(scene, V1, False))]


def test_nothing_is_wrong_with_a_sound_scene() -> None:
    assert rules(sound()) == []
    assert rules(sound(), V1) == []
    scene, changes = repaired(sound(), V1, False)
    assert changes == []
    assert len(scene.objects) == 2


def test_a_light_that_faces_away_shines_from_both_sides() -> None:
    scene = sound()
    away = replace(scene.objects[-1], triangles=scene.objects[-1].triangles[:, [0, 2, 1]])
    scene = scene.with_object(away)
    (finding,) = diagnose(scene)
    assert finding.rule == "lights away"
    assert "1 of 1 lights face away from the scene (light)" in finding.text
    assert finding.loss == pytest.approx(24.6)
    fixed, changes = repaired(scene)
    assert changes == ["light 'light': both sides shine"]
    assert rules(fixed) == []
    assert fixed.objects[-1].two_sided is True


def test_what_is_shut_in_is_named_and_left_to_the_person() -> None:
    lamp = Light((0.0, 0.05, 0.0), (0, -1, 0), size=0.05, name="lamp").mesh()
    blind = Camera.look_at((0, 0, 0.1), (0, -1, 0), name="blind")
    scene = sound(box((0.3, 0.3, 0.3), WHITE, (2.0, 0, 0), "safe"))
    shut = scene.replace(cameras=(CAMERA, Camera.look_at((2, 0, 0), (3, 0, 0), name="blind")))
    (finding,) = diagnose(shut)
    assert (finding.rule, finding.fixable) == ("camera shut in", False)
    assert "1 of 2 cameras are in a closed object without a light (camera 'blind' in 'safe')" in finding.text
    (finding,) = diagnose(sound(lamp))
    assert finding.rule == "lights shut in"
    assert "'lamp' in 'ball'" in finding.text
    # A room is closed too, but its lamp and its camera are both in it.
    assert rules(sound(lamp).replace(cameras=(blind,))) == []


def test_the_most_costly_comes_first() -> None:
    scene = Scene((with_ball(FAULTS["hole"][0]), ball(0.1, Material((0.9, 0.9, 0.9), 0.5, 0.3), (1, 0, 0), "bright")))
    found = diagnose(scene)
    assert [finding.rule for finding in found] == ["no lights", "holes", "energy"]
    assert [finding.loss for finding in found] == [float("inf"), 3.8, None]
    fixed, changes = repaired(scene)
    assert rules(fixed) == ["no lights"]
    assert len(changes) == 2


def test_a_scene_is_brought_into_the_range_of_v1_models() -> None:
    shiny = replace(
        ball(0.2, WHITE, (0.2, 0, 0), "shiny"), materials=Material((0.2, 0.2, 0.2), (0.6, 0.4, 0.2), 0.0).row()
    )
    lamp = Light((0.0, -3.0, 3.0), size=0.4, emission=900.0, name="lamp").mesh()
    far = Camera.look_at((0, -3.0, 0.4), (0, 0, 0), fov=20, name="far")
    scene = Scene((ball(0.3, WHITE, (-0.2, 0, 0)), shiny, lamp), (far,))
    before = rules(scene, V1)
    assert {"light distance", "light size", "camera distance", "fov", "emission", "coloured specular", "roughness"} <= {
        *before
    }
    fixed, changes = repaired(scene, V1, False)
    assert rules(fixed, V1) == []
    assert len(changes) == 5

    # The light is as strong in the middle, but for the factor that a line names.
    def power(mesh: Mesh) -> float:
        area = np.linalg.norm(np.cross(*(mesh.triangles[0, 1:] - mesh.triangles[0, 0]))) / 2
        return float(mesh.materials[0, EMISSION].max() * area / (mesh.triangles.mean(axis=1) ** 2).sum())

    total = fixed.objects[-1].materials[:, EMISSION].max()
    assert total * 1.001 >= 2500
    (line,) = [line for line in changes if line.startswith("all light times")]
    assert power(fixed.objects[-1]) == pytest.approx(power(lamp) * float(line.split()[3].rstrip(";")), rel=1e-3)
    # The middle of the scene is as large as before.
    near = fixed.cameras[0]
    seen = [np.tan(np.radians(c.fov) / 2) * np.linalg.norm(c.position) for c in (far, near)]
    assert seen[1] == pytest.approx(seen[0], rel=0.01)
    assert fixed.objects[1].materials[0, ROUGHNESS] == pytest.approx(0.01)


def test_a_large_scene_is_scaled_into_the_box_with_everything() -> None:
    big = np.diag([100.0, 100.0, 100.0, 1.0])
    scene = sound()
    cameras = tuple(camera.transformed(big) for camera in scene.cameras)
    grown = scene.replace(objects=tuple(mesh.transformed(big) for mesh in scene.objects), cameras=cameras)
    fixed, changes = repaired(grown, V1, False)
    assert changes[0].startswith("scaled by")
    assert np.abs(fixed.objects[0].bounds).max() <= 0.501
    assert "box" not in rules(fixed, V1)


def test_the_command_line_examines_and_repairs(run: Run, tmp_path: Path) -> None:
    sound().save(tmp_path / "good.json")
    good = run("doctor", "good.json")
    assert good.code == 0, good.err
    assert "nothing is wrong" in good.err
    broken = with_ball(FAULTS["hole"][0])
    sound().with_object(broken).save(tmp_path / "bad.json")
    bad = run("doctor", "bad.json")
    assert bad.code == 1
    assert bad.out.split()[:3] == ["3.8", "dB", "holes:"]
    fixed = run("doctor", "bad.json", "--fix", "-o", "fixed.json")
    assert fixed.code == 0
    assert "changed: object 'ball': 3 open edges closed" in fixed.out
    assert run("doctor", "fixed.json").code == 0
    assert run("doctor", "bad.json", "--json").results[0]["findings"][0]["rule"] == "holes"
    assert run("doctor", "bad.json", "--fix").code == 2
    assert run("doctor", "bad.json", "-o", "x.json").code == 2
    assert run("doctor", "bad.json", "--fix", "-o", "fixed.json").code == 1
    assert run("doctor", "none.json").code == 1


def test_nothing_is_wrong_with_a_sound_mesh_on_its_stage(run: Run, tmp_path: Path) -> None:
    shutil.copy(Path(__file__).parents[1] / "examples" / "assets" / "knot.glb", tmp_path / "knot.glb")
    result = run("doctor", "knot.glb")
    assert (result.code, result.out) == (0, "")
