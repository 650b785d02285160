"""Poses, skins, morph targets, lights and cameras of glTF, compared with formulas in float64."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from helpers.command import Run
from helpers.gltf import CORNERS, Gltf, turned
from numpy.testing import assert_allclose
from scipy.spatial.transform import Rotation

from renderformer.data.environment import Environment
from renderformer.data.errors import InputError
from renderformer.data.formats import load_scene
from renderformer.data.formats.mesh_file import animation_length, load_geometry, load_mesh_file
from renderformer.data.scene import DIFFUSE, EMISSION, Mesh, Scene


def matrix(translation: Any = (0, 0, 0), rotation: Any = (0, 0, 0, 1), scale: Any = (1, 1, 1)) -> np.ndarray:
    result = np.eye(4)
    result[:3, :3] = Rotation.from_quat(rotation).as_matrix() * scale
    result[:3, 3] = translation
    return result


def quaternion(seed: int) -> list[float]:
    return Rotation.random(rng=np.random.default_rng(seed)).as_quat().tolist()


def skinned_file(seed: int = 1, sets: int = 1, weight_kind: str = "f4", **node: Any) -> tuple[Gltf, dict[str, Any]]:
    """A skinned strip of triangles of random weights over three joints, and the numbers that it was made of."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(-1, 1, (9, 3)).astype(np.float32)
    normals = rng.normal(size=(9, 3)).astype(np.float32)
    joints = rng.integers(0, 3, (sets, 9, 4))
    weights = rng.uniform(0.1, 1, (sets, 9, 4))
    weights /= weights.sum((0, 2), keepdims=True)
    if weight_kind != "f4":
        weights = np.rint(weights * np.iinfo(weight_kind).max)
    bind = np.stack([matrix(rng.uniform(-1, 1, 3), quaternion(seed + k)) for k in range(3)])
    file = Gltf()
    attributes = {"POSITION": file.accessor(points), "NORMAL": file.accessor(normals)}
    for k in range(sets):
        attributes[f"JOINTS_{k}"] = file.accessor(joints[k], "u1")
        attributes[f"WEIGHTS_{k}"] = file.accessor(weights[k], weight_kind, normalized=weight_kind != "f4")
    mesh = file.mesh(attributes)
    places = [{"translation": rng.uniform(-2, 2, 3).tolist(), "rotation": quaternion(seed + 9 + k)} for k in range(3)]
    # The first joint holds the second, which is scaled unevenly; the third stands alone.
    file.document["nodes"] = [
        {"mesh": mesh, "skin": 0, "translation": [50, 60, 70], "name": "body", **node},
        {**places[0], "children": [2]},
        {**places[1], "scale": [1, 2, 0.5]},
        places[2],
    ]
    file.document["scenes"] = [{"nodes": [0, 1, 3]}]
    file.add("skins", {"joints": [1, 2, 3], "inverseBindMatrices": file.accessor(np.linalg.inv(bind))})
    numbers = {"points": points, "normals": normals, "joints": joints, "weights": weights, "bind": bind}
    return file, numbers


def expected_skin(numbers: dict[str, Any], worlds: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Positions and unit normals, one vertex at a time."""
    positions, normals = [], []
    for v, point in enumerate(numbers["points"].astype(np.float64)):
        blend = np.zeros((4, 4))
        total = numbers["weights"][:, v].sum()
        for joint, weight in zip(numbers["joints"][:, v].ravel(), numbers["weights"][:, v].ravel(), strict=True):
            blend += weight / total * worlds[joint] @ np.linalg.inv(numbers["bind"][joint])
        positions.append((blend @ [*point, 1])[:3])
        normal = np.linalg.inv(blend[:3, :3]).T @ numbers["normals"][v]
        normals.append(normal / np.linalg.norm(normal))
    return np.array(positions), np.array(normals)


def worlds_of(nodes: list[dict[str, Any]]) -> list[np.ndarray]:
    def local(node: dict[str, Any]) -> np.ndarray:
        return matrix(
            *(node.get(k, d) for k, d in (("translation", (0, 0, 0)), ("rotation", (0, 0, 0, 1)), ("scale", (1, 1, 1))))
        )

    return [local(nodes[1]), local(nodes[1]) @ local(nodes[2]), local(nodes[3])]


@pytest.mark.parametrize(("sets", "kind"), [(1, "f4"), (2, "f4"), (1, "u1"), (2, "u2")])
def test_skins_move_vertices_as_their_joints_say(tmp_path: Path, sets: int, kind: str) -> None:
    """The node of a skinned mesh has no say: it stands at (50, 60, 70)."""
    file, numbers = skinned_file(sets=sets, weight_kind=kind)
    (mesh,) = load_mesh_file(file.save(tmp_path / "a.gltf")).objects
    positions, _ = expected_skin(numbers, worlds_of(file.document["nodes"]))
    corners = turned(positions.reshape(3, 3, 3))
    assert_allclose(mesh.triangles, corners, atol=1e-5)


def test_normals_of_skins_turn_with_them(tmp_path: Path) -> None:
    file, numbers = skinned_file()
    # All faces on one side of their normals, which are kept then.
    positions, normals = expected_skin(numbers, worlds_of(file.document["nodes"]))
    triangles = positions.reshape(3, 3, 3)
    geometric = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    fitting = normals.reshape(3, 3, 3) * np.sign((normals.reshape(3, 3, 3) * geometric[:, None]).sum(-1, keepdims=True))
    numbers["normals"] *= np.sign((normals * fitting.reshape(9, 3)).sum(-1, keepdims=True))
    accessor = file.document["meshes"][0]["primitives"][0]["attributes"]
    accessor["NORMAL"] = file.accessor(numbers["normals"])
    (mesh,) = load_mesh_file(file.save(tmp_path / "a.glb")).objects
    assert_allclose(mesh.normals, turned(fitting), atol=1e-5)


def test_skin_without_inverse_bind_matrices_or_with_joints_outside_the_scene(tmp_path: Path) -> None:
    file, numbers = skinned_file()
    del file.document["skins"][0]["inverseBindMatrices"]
    file.document["scenes"] = [{"nodes": [0]}]
    (mesh,) = load_mesh_file(file.save(tmp_path / "a.gltf")).objects
    positions, _ = expected_skin({**numbers, "bind": np.stack([np.eye(4)] * 3)}, worlds_of(file.document["nodes"]))
    assert_allclose(mesh.triangles, turned(positions.reshape(3, 3, 3)), atol=1e-5)


def test_a_mirroring_skeleton_keeps_faces_outside(tmp_path: Path) -> None:
    ball = trimesh.creation.icosphere(subdivisions=1)
    file = Gltf()
    count = len(ball.vertices)
    attributes = {
        "POSITION": file.accessor(ball.vertices),
        "NORMAL": file.accessor(ball.vertices),
        "JOINTS_0": file.accessor(np.zeros((count, 4)), "u2"),
        "WEIGHTS_0": file.accessor(np.tile([1, 0, 0, 0], (count, 1))),
    }
    mesh = file.mesh(attributes, indices=file.accessor(ball.faces.ravel(), "u2"))
    file.document["nodes"] = [{"mesh": mesh, "skin": 0}, {"scale": [-1, 1, 1]}]
    file.document["scenes"] = [{"nodes": [0, 1]}]
    file.add("skins", {"joints": [1]})
    scene = load_mesh_file(file.save(tmp_path / "a.gltf"))
    # Normals that faced inward would be computed anew, with a note.
    assert scene.notes == ()
    (loaded,) = scene.objects
    volume = trimesh.Trimesh(loaded.triangles.reshape(-1, 3), np.arange(3 * len(loaded)).reshape(-1, 3)).volume
    assert volume == pytest.approx(ball.volume, rel=1e-5)
    assert ((loaded.normals * loaded.triangles).sum(-1) > 0.9).all()


def test_vertices_of_skins_without_weights_are_counted(tmp_path: Path) -> None:
    file = Gltf(nodes=[{"mesh": 0, "skin": 0}, {"translation": [0, 5, 0]}], scenes=[{"nodes": [0, 1]}])
    joints, weights = file.accessor(np.zeros((3, 4)), "u1"), file.accessor(np.zeros((3, 4)))
    file.mesh({"POSITION": file.accessor(CORNERS), "JOINTS_0": joints, "WEIGHTS_0": weights})
    file.add("skins", {"joints": [1]})
    scene = load_mesh_file(file.save(tmp_path / "a.gltf"))
    assert_allclose(scene.triangles[0], turned(CORNERS + [0, 5, 0]))
    assert scene.notes == ("a.gltf: 3 vertices of skins without weights, moved with their first joint",)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"joints": [1, 2]}, "refers to joint 2, but its skin has 2"),
        ({"joints": [1, 2, 99]}, r"nodes\[99\]"),
        ({"joints": []}, "has no joints"),
        ({"inverseBindMatrices": 0}, "unexpected type"),
        ({"joints": [1, 2, 3, 1]}, "4 joints and 3 usable inverse bind matrices"),
    ],
)
def test_damaged_skins(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    file, _ = skinned_file()
    file.document["skins"][0].update(change)
    with pytest.raises(InputError, match=words):
        load_mesh_file(file.save(tmp_path / "a.gltf"))


def morph_file(of_mesh: list[float] | None = None, **node: Any) -> tuple[Gltf, np.ndarray]:
    """A triangle with three targets: plain, sparse, and one whose accessor has no data at all."""
    rng = np.random.default_rng(3)
    change = rng.uniform(-1, 1, (2, 3, 3)).astype(np.float32)
    change[1, [0, 2]] = 0
    file = Gltf(nodes=[{"mesh": 0, **node}])
    rows, values = file.view(np.array([1], "<u4").tobytes()), file.view(change[1, 1].astype("<f4").tobytes())
    layout = {"componentType": 5126, "count": 3, "type": "VEC3"}
    sparse = {"count": 1, "indices": {"bufferView": rows, "componentType": 5125}, "values": {"bufferView": values}}
    targets = [
        {"POSITION": file.accessor(change[0])},
        {"POSITION": file.add("accessors", {**layout, "sparse": sparse})},
        {"POSITION": file.add("accessors", layout)},
    ]
    file.mesh(targets=targets, mesh={} if of_mesh is None else {"weights": of_mesh})
    return file, change


@pytest.mark.parametrize(
    ("of_mesh", "of_node", "used"),
    [
        (None, None, (0, 0)),
        ([0.5, 2, 1], None, (0.5, 2)),
        ([0.5, 2, 1], [1, -1, 7], (1, -1)),
        (None, [0.25], (0.25, 0)),
    ],
)
def test_morph_targets(
    tmp_path: Path, of_mesh: list[float] | None, of_node: list[float] | None, used: tuple[float, float]
) -> None:
    file, change = morph_file(of_mesh, **({} if of_node is None else {"weights": of_node}))
    scene = load_mesh_file(file.save(tmp_path / "a.gltf"))
    expected = CORNERS + used[0] * change[0] + used[1] * change[1]
    assert_allclose(scene.triangles[0], turned(expected), atol=1e-6)
    assert scene.notes == ()


def test_normals_and_colours_morph(tmp_path: Path) -> None:
    file = Gltf(nodes=[{"mesh": 0, "weights": [0.5]}])
    attributes = {
        "POSITION": file.accessor(CORNERS),
        "NORMAL": file.accessor(np.tile([0.0, 0, 1], (3, 1))),
        "COLOR_0": file.accessor(np.full((3, 3), 0.25)),
    }
    target = {"NORMAL": file.accessor(np.tile([2.0, 0, 0], (3, 1))), "COLOR_0": file.accessor(np.full((3, 3), 0.5))}
    file.mesh(attributes, targets=[target])
    (mesh,) = load_mesh_file(file.save(tmp_path / "a.gltf")).objects
    assert_allclose(mesh.normals, np.tile(turned([1, 0, 1]) / math.sqrt(2), (1, 3, 1)), atol=1e-6)
    assert_allclose(mesh.materials[0, DIFFUSE], 0.5, rtol=1e-6)


def animate(
    file: Gltf, path: str, node: int, values: Any, times: Any = (0.5, 1.0), interpolation: str = "LINEAR"
) -> None:
    """A channel of the file's animation "walk"."""
    if "animations" not in file.document:
        file.document["animations"] = [{"name": "walk", "channels": [], "samplers": []}]
    animation = file.document["animations"][0]
    sampler = {"input": file.accessor(times), "output": file.accessor(values), "interpolation": interpolation}
    animation["samplers"].append(sampler)
    target = {"node": node, "path": path}
    animation["channels"].append({"sampler": len(animation["samplers"]) - 1, "target": target})


@pytest.mark.parametrize("interpolation", ["LINEAR", "STEP", "CUBICSPLINE"])
def test_the_first_frame_of_the_first_animation(tmp_path: Path, interpolation: str) -> None:
    """Its channels replace what the joints say; others stay."""
    file, numbers = skinned_file()
    first = {"translation": [1.0, 2.0, 3.0], "rotation": quaternion(40), "scale": [2.0, 1.0, 1.0]}
    for path, value in first.items():
        key = [np.full(len(value), 9.0), value, np.full(len(value), 8.0)] if interpolation == "CUBICSPLINE" else [value]
        animate(file, path, 1, [*key, *np.ones((len(key), len(value)))], interpolation=interpolation)
    nodes = [dict(node) for node in file.document["nodes"]]
    nodes[1].update(first)
    scene = load_mesh_file(file.save(tmp_path / "a.gltf"))
    positions, _ = expected_skin(numbers, worlds_of(nodes))
    assert_allclose(scene.triangles, turned(positions.reshape(3, 3, 3)), atol=1e-5)
    assert "a.gltf: posed as in the first frame of the animation 'walk'" in scene.notes


def test_an_animation_that_starts_with_the_pose_of_the_nodes_is_not_told(tmp_path: Path) -> None:
    file, _ = skinned_file()
    before = load_mesh_file(file.save(tmp_path / "a.gltf")).triangles
    place = file.document["nodes"][1]["translation"]
    animate(file, "translation", 1, [place, [0, 0, 0]])
    scene = load_mesh_file(file.save(tmp_path / "a.gltf"))
    assert_allclose(scene.triangles, before, atol=1e-5)
    assert not any("posed" in note for note in scene.notes)


def test_animated_weights_win(tmp_path: Path) -> None:
    file, change = morph_file([1, 1, 1])
    animate(file, "weights", 0, [0.25, 0.5, 0, 9, 9, 9])
    scene = load_mesh_file(file.save(tmp_path / "a.gltf"))
    assert_allclose(scene.triangles[0], turned(CORNERS + 0.25 * change[0] + 0.5 * change[1]), atol=1e-6)
    animation = file.document["animations"][0]
    animation["samplers"][0]["interpolation"] = "CUBICSPLINE"
    animation["samplers"][0]["output"] = file.accessor([9, 9, 9, 0.25, 0.5, 0, 9, 9, 9] * 2)
    again = load_mesh_file(file.save(tmp_path / "a.gltf"))
    assert_allclose(again.triangles, scene.triangles)


def test_animations_of_rigid_nodes_leave_their_pose(tmp_path: Path) -> None:
    file = Gltf(nodes=[{"mesh": 0}])
    file.mesh()
    animate(file, "translation", 0, [[5, 5, 5], [6, 6, 6]])
    scene = load_mesh_file(file.save(tmp_path / "a.gltf"))
    assert_allclose(scene.triangles[0], turned(CORNERS))
    assert scene.notes == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"samplers": []}, "refers to sampler 0"),
        ({"channels": [{"sampler": 0, "target": {"node": 77, "path": "rotation"}}]}, r"nodes\[77\]"),
        ({"channels": [{"sampler": 0, "target": {"node": 1, "path": "rotation"}}]}, "no value of the rotation"),
        ({"channels": [{"sampler": 0, "target": 3}]}, "target is not an object"),
        ({"channels": [{"sampler": 0, "target": {"node": 1, "path": "pointer"}}]}, None),
        ({"channels": 7}, None),
    ],
)
def test_damaged_animations(tmp_path: Path, change: dict[str, Any], words: str | None) -> None:
    file, _ = skinned_file()
    animate(file, "translation", 1, [[0, 0, 0], [1, 1, 1]])
    file.document["animations"][0].update(change)
    path = file.save(tmp_path / "a.gltf")
    if words is None:
        load_mesh_file(path)
        return
    with pytest.raises(InputError, match=words):
        load_mesh_file(path)


def test_bare_geometry_is_in_the_pose_of_the_mesh(tmp_path: Path) -> None:
    """Scene JSON takes meshes as the original program does."""
    file, numbers = skinned_file()
    path = file.save(tmp_path / "a.gltf")
    vertices, _ = load_geometry([path])[path]
    assert_allclose(vertices, numbers["points"] + [50, 60, 70], atol=1e-4)


def test_hostile_morph_targets(tmp_path: Path) -> None:
    file, _ = morph_file()
    primitive = file.document["meshes"][0]["primitives"][0]
    primitive["targets"] = [{"POSITION": file.accessor(np.zeros((4, 3)))}]
    file.document["nodes"][0]["weights"] = [1]
    with pytest.raises(InputError, match="has 4 of POSITION, the primitive 3"):
        load_mesh_file(file.save(tmp_path / "a.gltf"))
    points = file.accessor(np.tile(CORNERS, (20_000, 1)))
    primitive["attributes"]["POSITION"] = points
    primitive["targets"] = [{"POSITION": points}] * 20_000
    file.document["nodes"][0]["weights"] = [1] * 20_000
    start = time.process_time()
    with pytest.raises(InputError, match="has 20000 morph targets at once"):
        load_mesh_file(file.save(tmp_path / "a.gltf"))
    assert time.process_time() - start < 5


PERSPECTIVE = {"type": "perspective", "name": "wide", "perspective": {"yfov": 0.8, "znear": 0.1}}


def camera_file() -> Gltf:
    """A box seen by two cameras: one inside a scaled, turned node, one plain; and an orthographic one."""
    box = trimesh.creation.box((1, 2, 3))
    file = Gltf(cameras=[PERSPECTIVE, {"type": "orthographic"}])
    file.mesh({"POSITION": file.accessor(box.vertices)}, indices=file.accessor(box.faces.ravel(), "u2"))
    file.document["nodes"] = [
        {"mesh": 0},
        {"children": [2], "scale": [2, 2, 2], "rotation": quaternion(4), "translation": [1, 0, 0]},
        {"camera": 0, "translation": [0, 1, 4], "rotation": quaternion(5), "name": "tilted"},
        {"camera": 0, "translation": [0, 0, 9]},
        {"camera": 0},
        {"camera": 1},
    ]
    file.document["scenes"] = [{"nodes": [0, 1, 3, 4, 5]}]
    return file


def test_cameras_of_the_file(tmp_path: Path) -> None:
    file = camera_file()
    scene = load_mesh_file(file.save(tmp_path / "a.gltf"))
    assert [camera.name for camera in scene.cameras] == ["tilted", "wide", "wide_2"]
    assert [camera.fov for camera in scene.cameras] == pytest.approx([math.degrees(0.8)] * 3)
    nodes = file.document["nodes"]
    world = matrix(nodes[1]["translation"], nodes[1]["rotation"], nodes[1]["scale"])
    world = world @ matrix(nodes[2]["translation"], nodes[2]["rotation"])
    assert_allclose(scene.cameras[0].position, turned(world[:3, 3]), atol=1e-5)
    assert_allclose(scene.cameras[0].c2w[:3, :3].T, turned(world[:3, :3].T / 2), atol=1e-5)
    # A camera of glTF looks along -Z with Y up, which is +Y and Z of the scene.
    assert_allclose(scene.cameras[1].forward, [0, 1, 0], atol=1e-6)
    assert_allclose(scene.cameras[1].c2w[:3, 1], [0, 0, 1], atol=1e-6)
    assert any("1 orthographic cameras not drawn" in note for note in scene.notes)


def test_cameras_move_with_a_scene_far_away(tmp_path: Path) -> None:
    file = camera_file()
    near = load_mesh_file(file.save(tmp_path / "a.gltf"))
    offset = np.array([4e4, 8e4, -2e4])
    file.document["nodes"].append({"children": file.document["scenes"][0]["nodes"], "translation": offset.tolist()})
    file.document["scenes"] = [{"nodes": [6]}]
    far = load_mesh_file(file.save(tmp_path / "a.gltf"))
    assert np.abs(far.bounds).max() < 10
    for one, other in zip(near.cameras, far.cameras, strict=True):
        assert_allclose(other.position - far.bounds.mean(0), one.position - near.bounds.mean(0), atol=1e-2)


def pixel(scene: Scene, camera: int, point: np.ndarray) -> np.ndarray:
    """Where a camera sees a point, in units of the focal length."""
    view = scene.cameras[camera]
    local = (point - view.position) @ view.c2w[:3, :3]
    return np.asarray(local[:2] / -local[2] / math.tan(math.radians(view.fov) / 2))


@pytest.mark.parametrize("options", [{}, {"rotation": 30.0, "size": 0.4}, {"stage": "none"}, {"up": "y"}])
def test_stages_move_the_cameras_of_the_file_with_its_objects(tmp_path: Path, options: dict[str, Any]) -> None:
    path = camera_file().save(tmp_path / "a.gltf")
    plain = load_mesh_file(path)
    staged = load_scene(path, file_cameras=True, **options)
    assert [camera.name for camera in staged.cameras] == ["stage", "tilted", "wide", "wide_2"]
    (box,) = (
        mesh for mesh in staged.objects if mesh.name not in ("floor", "wall_back", "wall_left", "wall_right", "light")
    )
    for number in (0, 1):
        for triangle in (0, 7):
            seen = pixel(staged, number + 1, box.triangles[triangle].mean(0))
            assert_allclose(seen, pixel(plain, number, plain.triangles[triangle].mean(0)), atol=1e-4)


def test_stages_use_their_own_camera_and_name_those_of_the_file(tmp_path: Path) -> None:
    scene = load_scene(camera_file().save(tmp_path / "a.gltf"))
    assert [camera.name for camera in scene.cameras] == ["stage"]
    assert any(
        "3 cameras of the file are not used (--camera NAME takes one): tilted, wide, wide_2" in n for n in scene.notes
    )


def test_render_by_the_name_of_a_camera(run: Run, tmp_path: Path) -> None:
    camera_file().save(tmp_path / "a.gltf")
    base = ("render", "a.gltf", "--no-network", "-r", "16", "-q")
    result = run(*base, "--camera", "wide", "--camera", "stage", "-o", "{camera}.png")
    assert result.code == 0, result.err
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["stage.png", "wide.png"]
    result = run(*base, "--camera", "other", "-o", "b.png")
    assert result.code == 1
    assert result.err.strip() == "error: a.gltf: no camera 'other'; it has: 0 stage, 1 tilted, 2 wide, 3 wide_2"
    assert not (tmp_path / "b.png").exists()


@pytest.mark.parametrize("yfov", [0, -1, 4, None, "wide", math.pi])
def test_damaged_cameras(tmp_path: Path, yfov: Any) -> None:
    file = camera_file()
    file.document["cameras"][0] = {"type": "perspective", "perspective": {"yfov": yfov}}
    with pytest.raises(InputError, match=r"cameras\[0\]\.yfov"):
        load_mesh_file(file.save(tmp_path / "a.gltf"))


def test_a_camera_without_direction_is_counted(tmp_path: Path) -> None:
    file = camera_file()
    file.document["nodes"][3]["scale"] = [1, 1, 0]
    scene = load_mesh_file(file.save(tmp_path / "a.gltf"))
    assert [camera.name for camera in scene.cameras] == ["tilted", "wide"]
    assert any("1 cameras without a direction" in note for note in scene.notes)


def light_file(*lights: dict[str, Any], **node: Any) -> Gltf:
    """A plane of 2 x 2 under lights at the height 3, which shine down."""
    file = Gltf(extensions={"KHR_lights_punctual": {"lights": list(lights)}})
    corners = [[-1, 0, 1], [1, 0, 1], [1, 0, -1], [-1, 0, -1]]
    file.mesh({"POSITION": file.accessor(corners)}, indices=file.accessor([0, 1, 2, 0, 2, 3], "u1"))
    down = [-math.sqrt(0.5), 0, 0, math.sqrt(0.5)]
    place = {"translation": [0, 3, 0], "rotation": down, **node}
    nodes = [{"extensions": {"KHR_lights_punctual": {"light": k}}, **place} for k in range(len(lights))]
    file.document["nodes"] = [{"mesh": 0}, *nodes]
    file.document["scenes"] = [{"nodes": [*range(len(nodes) + 1)]}]
    return file


def irradiance(light: Mesh, point: Any = (0, 0, 0), normal: Any = (0, 0, 1)) -> np.ndarray:
    """(3,) at a point without blockers, from the front sides of a mesh, by the formula of Lambert for polygons."""
    total = np.zeros(3)
    for triangle, row in zip(light.triangles.astype(np.float64), light.materials, strict=True):
        corners = triangle - point
        if np.dot(np.cross(corners[1] - corners[0], corners[2] - corners[0]), corners[0]) >= 0:
            continue
        units = corners / np.linalg.norm(corners, axis=1, keepdims=True)
        for a, b in zip(units, np.roll(units, -1, axis=0), strict=True):
            axis = np.cross(a, b)
            angle = math.atan2(np.linalg.norm(axis), a @ b)
            total -= row[EMISSION] * angle * (axis @ np.asarray(normal, float)) / np.linalg.norm(axis) / 2
    return total


@pytest.mark.parametrize(("kind", "error"), [("point", 0.06), ("spot", 0.02)])
def test_lights_give_the_irradiance_of_their_candela(tmp_path: Path, kind: str, error: float) -> None:
    """E = I / d^2 straight below. An icosahedron shines a few percent more to one side than to another."""
    file = light_file({"type": kind, "intensity": 20.0, "color": [1, 0.5, 0.25], "name": "lamp"})
    scene = load_mesh_file(file.save(tmp_path / "a.gltf"))
    lamp = scene.objects[1]
    assert lamp.name == "lamp"
    assert_allclose(irradiance(lamp), np.array([1, 0.5, 0.25]) * 20 / 9, rtol=error)
    assert not lamp.materials[:, DIFFUSE].any()
    size = np.ptp(lamp.bounds, axis=0).max()
    assert size < 0.05 * np.ptp(scene.objects[0].bounds, axis=0).max()
    assert_allclose(lamp.bounds.mean(axis=0), [0, 0, 3], atol=1e-3)


def test_a_point_light_emits_its_whole_power_evenly(tmp_path: Path) -> None:
    """Power = pi L S = 4 pi I, over a closed body that faces outward."""
    file = light_file({"type": "point", "intensity": 10.0})
    lamp = load_mesh_file(file.save(tmp_path / "a.gltf")).objects[1]
    body = trimesh.Trimesh(lamp.triangles.reshape(-1, 3), np.arange(3 * len(lamp)).reshape(-1, 3))
    assert body.volume > 0
    assert len(lamp) == 20
    assert np.pi * lamp.materials[0, EMISSION][0] * body.area == pytest.approx(4 * np.pi * 10, rel=1e-4)
    directions = Rotation.random(20, rng=np.random.default_rng(1)).apply([0, 0, 1])
    values = [irradiance(lamp, np.array([0, 0, 3]) + 2 * d, -d)[0] for d in directions]
    assert_allclose(values, 10 / 4, rtol=0.07)
    assert np.mean(values) == pytest.approx(10 / 4, rel=0.02)


def test_a_spot_light_shines_forward_only(tmp_path: Path) -> None:
    file = light_file({"type": "spot", "intensity": 10.0, "spot": {"outerConeAngle": 0.5}})
    scene = load_mesh_file(file.save(tmp_path / "a.gltf"))
    lamp = scene.objects[1]
    assert irradiance(lamp, (0, 0, 6), (0, 0, -1)).max() == 0
    # It falls off with the cosine: at 60 degrees half the intensity, at twice the distance, seen from the side.
    side = irradiance(lamp, (3 * math.sqrt(3), 0, 0), np.array([-math.sqrt(3), 0, 1]) / 2)
    assert_allclose(side, 5 / 36, rtol=0.02)
    assert any("1 lights of the file (1 spots drawn without their cones)" in note for note in scene.notes)


@pytest.mark.parametrize(("intensity", "candela"), [(20.0, 1), (20 * 683, 683)])
def test_both_habits_of_exporters_give_the_same_light(tmp_path: Path, intensity: float, candela: int) -> None:
    scene = load_mesh_file(light_file({"type": "point", "intensity": intensity}).save(tmp_path / "a.gltf"))
    assert irradiance(scene.objects[1])[0] == pytest.approx(20 / 9, rel=0.06)
    assert any("683 candela a watt" in note for note in scene.notes) == (candela == 683)


def test_lights_keep_their_light_on_a_stage_and_do_not_shrink_the_object(tmp_path: Path) -> None:
    scene = load_scene(light_file({"type": "point", "intensity": 20.0, "name": "lamp"}).save(tmp_path / "a.gltf"))
    objects = {mesh.name: mesh for mesh in scene.objects}
    plane = objects["mesh_0"]
    assert np.ptp(plane.bounds, axis=0)[:2] == pytest.approx([0.7, 0.7], rel=1e-5)
    centre = plane.bounds.mean(axis=0)
    assert irradiance(objects["lamp"], centre)[0] == pytest.approx(20 / 9, rel=0.06)


@pytest.mark.parametrize("scale", [1, 683])
def test_directional_lights_are_suns(tmp_path: Path, scale: int) -> None:
    """Toward the sun is backward along the light; Y up becomes Z up. The sky adds 15 % to what a floor gets."""
    turn = quaternion(8)
    file = light_file({"type": "directional", "intensity": 2.0 * scale, "color": [1, 0.5, 0.25]}, rotation=turn)
    scene = load_mesh_file(file.save(tmp_path / "a.gltf"))
    assert len(scene.objects) == 1
    assert scene.environment is not None
    (sun,) = scene.environment.suns
    assert_allclose(sun.direction, turned(Rotation.from_quat(turn).as_matrix()[:, 2]), atol=1e-6)
    assert_allclose(sun.irradiance, [2, 1, 0.5], rtol=1e-6)
    assert_allclose(np.pi * scene.environment.image[0, 0], [0.3, 0.15, 0.075], rtol=1e-5)
    many = f"{scale} candela a watt, " if scale > 1 else ""
    assert scene.notes == (f"a.gltf: 1 lights of the file ({many}1 suns with a sky)",)


def test_suns_turn_with_the_object_and_give_way_to_another_environment(tmp_path: Path) -> None:
    path = light_file({"type": "directional", "intensity": 2.0}, rotation=quaternion(8)).save(tmp_path / "a.gltf")
    still, moved = load_scene(path), load_scene(path, rotation=90.0)
    assert still.environment is not None
    assert moved.environment is not None
    toward = np.array(still.environment.suns[0].direction, np.float32)
    quarter = np.array([-toward[1], toward[0], toward[2]], np.float32)
    assert moved.environment.radiance(quarter[None])[0, 0] > 1000
    assert still.environment.radiance(toward[None])[0, 0] > 1000
    flipped = load_scene(path, stage="raw", up="y")
    assert flipped.environment is not None
    assert_allclose(flipped.environment.suns[0].direction, turned(toward), atol=1e-6)
    other = load_scene(path, environment=Environment(0.5))
    assert other.environment is not None
    assert other.environment.suns == ()


def test_lights_that_are_off_or_too_bright(tmp_path: Path) -> None:
    off = load_mesh_file(light_file({"type": "point", "intensity": 0}).save(tmp_path / "a.gltf"))
    assert len(off.objects) == 1
    assert off.notes == ()
    bright = load_mesh_file(light_file({"type": "point", "intensity": 1e12}).save(tmp_path / "a.gltf"))
    assert bright.materials[:, EMISSION].max() <= 60000
    assert any("1 lights of the file dimmed" in note for note in bright.notes)


@pytest.mark.parametrize(
    ("light", "words"),
    [
        ({"type": "area"}, "type 'area'"),
        ({"type": "point", "intensity": -1}, "expected 0 or more"),
        ({"type": "point", "intensity": "bright"}, "finite"),
        ({"type": "point", "color": [1, 1]}, "3 finite numbers"),
    ],
)
def test_damaged_lights(tmp_path: Path, light: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_mesh_file(light_file(light).save(tmp_path / "a.gltf"))
    file = light_file({"type": "point"})
    file.document["extensions"]["KHR_lights_punctual"]["lights"] = []
    with pytest.raises(InputError, match=r"lights\[0\], which does not exist"):
        load_mesh_file(file.save(tmp_path / "a.gltf"))


def test_quantised_positions(tmp_path: Path) -> None:
    """KHR_mesh_quantization: integers, and a node that scales them."""
    rng = np.random.default_rng(5)
    points = rng.integers(-32767, 32767, (6, 3))
    file = Gltf(
        nodes=[{"mesh": 0, "scale": [2, 3, 4], "translation": [1, 0, 0]}], extensionsRequired=["KHR_mesh_quantization"]
    )
    view = file.view(np.pad(points, ((0, 0), (0, 1))).astype("<i2").tobytes(), byteStride=8)
    layout = {"bufferView": view, "componentType": 5122, "count": 6, "type": "VEC3"}
    file.mesh({"POSITION": file.add("accessors", {**layout, "normalized": True})})
    expected = np.maximum(points / 32767, -1) * [2, 3, 4] + [1, 0, 0]
    scene = load_mesh_file(file.save(tmp_path / "a.gltf"))
    assert_allclose(scene.triangles, turned(expected.reshape(2, 3, 3)), atol=1e-5)
    del file.document["accessors"][0]["normalized"]
    scene = load_mesh_file(file.save(tmp_path / "a.gltf"))
    assert_allclose(scene.triangles, turned((points * [2, 3, 4] + [1, 0, 0]).reshape(2, 3, 3)), rtol=1e-5)


def test_instances(tmp_path: Path) -> None:
    """EXT_mesh_gpu_instancing: copies like those of nodes below the node."""
    rng = np.random.default_rng(2)
    places, sizes = rng.uniform(-3, 3, (4, 3)).astype(np.float32), rng.uniform(0.5, 2, (4, 3)).astype(np.float32)
    turns = [quaternion(k) for k in range(4)]
    parent = {"scale": [1, 2, 1], "rotation": quaternion(9)}
    file = Gltf()
    file.mesh()
    accessors = {"TRANSLATION": file.accessor(places), "ROTATION": file.accessor(turns), "SCALE": file.accessor(sizes)}
    file.document["nodes"] = [
        {"mesh": 0, "extensions": {"EXT_mesh_gpu_instancing": {"attributes": accessors}}, **parent}
    ]
    file.document["extensionsRequired"] = ["EXT_mesh_gpu_instancing"]
    scene = load_mesh_file(file.save(tmp_path / "a.gltf"))
    world = matrix((0, 0, 0), parent["rotation"], parent["scale"])
    expected = [
        CORNERS @ (world @ matrix(*pose))[:3, :3].T + (world @ matrix(*pose))[:3, 3]
        for pose in zip(places, turns, sizes, strict=True)
    ]
    assert_allclose(scene.triangles, turned(expected), atol=1e-5)
    assert scene.notes == ()
    file.document["accessors"][accessors["SCALE"]]["count"] = 3
    with pytest.raises(InputError, match=r"nodes\[0\] has \[3, 4\] instances"):
        load_mesh_file(file.save(tmp_path / "a.gltf"))
    file.document["nodes"][0]["extensions"]["EXT_mesh_gpu_instancing"] = {}
    with pytest.raises(InputError, match=r"has \[\] instances"):
        load_mesh_file(file.save(tmp_path / "a.gltf"))


def test_extensions_that_a_file_requires_and_nobody_reads_are_told(tmp_path: Path) -> None:
    file = Gltf(
        nodes=[{"mesh": 0}], extensionsRequired=["EXT_holograms", "KHR_mesh_quantization", "KHR_materials_sheen"]
    )
    file.mesh()
    scene = load_mesh_file(file.save(tmp_path / "a.gltf"))
    assert scene.notes == ("a.gltf: needs EXT_holograms, which is not read; parts of it may be missing or wrong",)
    file.document["extensionsRequired"] = 7
    assert load_mesh_file(file.save(tmp_path / "a.gltf")).notes == ()


def test_lights_and_cameras_beyond_the_limits_are_counted(tmp_path: Path) -> None:
    file = light_file(*[{"type": "point", "intensity": 5}] * 1003)
    file.document["cameras"] = [PERSPECTIVE]
    for node in file.document["nodes"][1:]:
        node["camera"] = 0
    scene = load_mesh_file(file.save(tmp_path / "a.gltf"))
    assert len(scene.cameras) == 1000
    notes = " ".join(scene.notes)
    assert "3 lights left out, 1000 are read" in notes
    assert "3 cameras left out, 1000 are read" in notes


def test_a_million_skinned_triangles_load_in_seconds(tmp_path: Path) -> None:
    side = 710
    x, y = np.meshgrid(np.arange(side), np.arange(side))
    points = np.stack([x, y, np.sin(x / 9) * 3], axis=-1).reshape(-1, 3)
    corner = np.arange(side * side).reshape(side, side)
    a, b, c, d = corner[:-1, :-1], corner[:-1, 1:], corner[1:, 1:], corner[1:, :-1]
    faces = np.stack([a, b, c, a, c, d], axis=-1).reshape(-1, 3)
    file = Gltf(nodes=[{"mesh": 0, "skin": 0}, {}, {"translation": [0, 0, 9]}], scenes=[{"nodes": [0, 1, 2]}])
    share = np.clip(points[:, 0] / side, 0, 1)
    weights = np.stack([1 - share, share, 0 * share, 0 * share], axis=1)
    attributes = {
        "POSITION": file.accessor(points),
        "JOINTS_0": file.accessor(np.tile([0, 1, 0, 0], (len(points), 1)), "u1"),
        "WEIGHTS_0": file.accessor(weights),
    }
    file.mesh(attributes, indices=file.accessor(faces.ravel(), "u4"))
    file.add("skins", {"joints": [1, 2]})
    path = file.save(tmp_path / "a.glb")
    start = time.process_time()
    scene = load_mesh_file(path)
    assert time.process_time() - start < 20
    assert len(scene) == len(faces)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [("skins", 7, r"skins\[0\]"), ("animations", "x", r"animations\[0\]"), ("cameras", [3], r"cameras\[0\]")],
)
def test_lists_of_the_header_are_checked(tmp_path: Path, key: str, value: Any, words: str) -> None:
    file = camera_file()
    skinned, _ = skinned_file()
    file = file if key == "cameras" else skinned
    file.document[key] = value
    with pytest.raises(InputError, match=words):
        load_mesh_file(file.save(tmp_path / "a.gltf"))


def test_an_animation_at_a_time(tmp_path: Path) -> None:
    """Linear, stepped and spline channels, by NumPy and SciPy; before the first key and after the last it rests."""
    from scipy.interpolate import CubicHermiteSpline
    from scipy.spatial.transform import Rotation, Slerp

    file = Gltf(nodes=[{"mesh": 0}])
    file.mesh()
    times = [0.5, 1.0, 2.0]
    places, turns = [[0, 0, 0], [1, 2, 3], [5, 2, 3]], [quaternion(angle) for angle in (0, 80, 300)]
    sizes = np.float32([[1, 1, 1], [2, 1, 3], [1, 4, 2]])
    slopes = np.float32([[[0.5, 0, 1], [1, 2, 0]], [[2, 0, 0], [-1, 1, 0]], [[0, 0, 3], [1, 1, 1]]])
    splines = np.stack([slopes[:, 0], sizes, slopes[:, 1]], axis=1).reshape(-1, 3)
    animate(file, "translation", 0, places, times, "STEP")
    animate(file, "rotation", 0, turns, times)
    animate(file, "scale", 0, splines, times, "CUBICSPLINE")
    path = file.save(tmp_path / "a.gltf")
    assert animation_length(path) == animation_length(path, "walk") == 2.0
    turn = Slerp(times, Rotation.from_quat(turns))
    for moment in (0.0, 0.5, 0.8, 1.0, 1.7, 2.0, 9.0):
        now = min(max(moment, 0.5), 2.0)
        left = 0 if now < 1 else 1
        pieces = sizes[left : left + 2], np.stack([slopes[left, 1], slopes[left + 1, 0]])
        size = CubicHermiteSpline(times[left : left + 2], *pieces)(now)
        place = places[2 if now == 2 else left]
        expected = turn(now).apply(CORNERS * size) + place
        (mesh,) = load_mesh_file(path, time=moment).objects
        assert_allclose(mesh.triangles[0], turned(expected), atol=1e-5)


def test_a_skin_and_weights_at_a_time(tmp_path: Path) -> None:
    file, numbers = skinned_file()
    animate(file, "translation", 1, [[0, 0, 0], [4, 2, 0]], (0.0, 2.0))
    nodes = [dict(node) for node in file.document["nodes"]]
    nodes[1]["translation"] = [1.0, 0.5, 0.0]
    scene = load_mesh_file(file.save(tmp_path / "a.gltf"), time=0.5)
    positions, _ = expected_skin(numbers, worlds_of(nodes))
    assert_allclose(scene.triangles, turned(positions.reshape(3, 3, 3)), atol=1e-5)
    assert "a.gltf: posed as 0.5 s after the start of the animation 'walk'" in scene.notes
    file, change = morph_file([1, 1, 1])
    animate(file, "weights", 0, [0, 0, 0, 1, 0.5, 0], (0.0, 1.0))
    (mesh,) = load_mesh_file(file.save(tmp_path / "b.gltf"), time=0.5).objects
    assert_allclose(mesh.triangles[0], turned(CORNERS + 0.5 * change[0] + 0.25 * change[1]), atol=1e-6)


def test_animations_by_name_and_index(tmp_path: Path) -> None:
    file = Gltf(nodes=[{"mesh": 0}])
    file.mesh()
    assert animation_length(file.save(tmp_path / "still.gltf")) is None
    animate(file, "translation", 0, [[0, 0, 0], [1, 0, 0]])
    file.document["animations"].append({**file.document["animations"][0], "name": "run"})
    path = file.save(tmp_path / "a.gltf")
    for name in ("run", "1", "walk", "0", ""):
        assert animation_length(path, name) == 1.0
    with pytest.raises(InputError, match="no animation 'fly'; it has: 0 walk, 1 run"):
        load_mesh_file(path, time=0.0, animation="fly")
    file.document["animations"][0]["samplers"][0]["input"] = file.accessor([1.0, 0.5])
    with pytest.raises(InputError, match=r"the times of animations\[0\] do not increase"):
        load_mesh_file(file.save(tmp_path / "b.gltf"), time=0.0)
