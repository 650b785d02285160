"""Sequences of pictures: turns, paths, animations, videos; stops and changes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers.command import Run
from helpers.gltf import Gltf

from renderformer.data.camera import Camera
from renderformer.data.camera_path import CameraPath, Key, View
from renderformer.data.errors import InputError
from renderformer.data.scene import Light, Mesh, Scene
from renderformer.image import Image
from renderformer.renderer import Renderer
from renderformer.sequences.frames import Frame, FrameRange, expand_inputs, plan_frames


@dataclass
class Fake:
    """Replaces a Renderer: a picture tells the height of the highest corner and where the camera stands.

    Attributes:
        stop_after: raises KeyboardInterrupt after so many pictures.
    """

    device: str = "cpu"
    precision: str = "fp32"
    name: str = "fake"
    digest: str = "0"
    attention: str = "sdpa"
    scenes: list[Scene] = field(default_factory=list)
    cameras: list[Camera] = field(default_factory=list)
    stop_after: int = 1_000_000

    def check(self, scene: Scene) -> list[str]:
        return []

    def encode(self, scene: Scene, progress: Any = None) -> Any:
        self.scenes.append(scene)
        return SimpleNamespace(scene=scene, notes=())

    def iterate(
        self, lit: Any, size: tuple[int, int], cameras: Sequence[Camera], progress: Any, aovs: Sequence[str] = ()
    ) -> Iterator[Image]:
        for camera in cameras:
            if len(self.cameras) == self.stop_after:
                raise KeyboardInterrupt
            self.cameras.append(camera)
            colour = [abs(camera.position[0]) / 4, abs(camera.position[1]) / 4, 0.5 + lit.scene.objects[0].bounds[1][2]]
            yield Image(np.broadcast_to(np.float32(colour), (size[1], size[0], 3)), camera)

    @property
    def azimuths(self) -> list[float]:
        """Of the cameras, in degrees from 0 to 360."""
        return [
            round(float(np.degrees(np.arctan2(c.position[0], -c.position[1]))) % 360, 3) % 360 for c in self.cameras
        ]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    renderer = Fake()
    monkeypatch.setattr(Renderer, "from_pretrained", lambda source=None, **keywords: renderer)
    return renderer


def a_mesh(path: Path, height: float = 1.0) -> Path:
    path.parent.mkdir(exist_ok=True)
    corners = f"v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 {height}\n"
    path.write_text(corners + "f 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n")
    return path


@pytest.fixture
def mesh(tmp_path: Path) -> Path:
    return a_mesh(tmp_path / "tetra.obj")


def names(folder: str | Path = ".") -> set[str]:
    return {path.name for path in Path(folder).iterdir() if path.is_file() and not path.name.endswith("manifest.json")}


def frames_of(path: str) -> list[Any]:
    import imageio.v2 as imageio

    return [np.asarray(frame) for frame in imageio.get_reader(path)]


def test_a_turntable_is_a_video(run: Run, fake: Fake, mesh: Path) -> None:
    result = run("render", mesh, "--turntable", 8, "-o", "turn.mp4", "-o", "turn.gif", "-r", 16, "--fps", 12)
    assert result.code == 0, result.err
    assert "8 frames" in result.err
    assert len(fake.scenes) == 1
    turns = np.diff(fake.azimuths) % 360
    np.testing.assert_allclose(turns, 45, atol=0.1)
    for name in ("turn.mp4", "turn.gif"):
        assert len(frames_of(name)) == 8
    assert {path.name for path in Path().iterdir()} == {"tetra.obj", "turn.mp4", "turn.gif", "turn.manifest.json"}
    again = run("render", mesh, "--turntable", 8, "-o", "turn.mp4", "-o", "turn.gif", "-r", 16, "--fps", 12)
    assert (again.code, "nothing to do" in again.err, len(fake.cameras)) == (0, True, 8)


def test_frames_and_templates(run: Run, fake: Fake, mesh: Path) -> None:
    Path("out").mkdir()
    command = ("render", mesh, "--turntable", 6, "-r", 8, "-o", "out/{stem}_{frame:04}.png", "-o", "out/{camera}.npy")
    assert run(*command, "--frames", "0..4/2").code == 0
    pictures = {f"tetra_{i:04}.png" for i in (0, 2, 4)} | {f"orbit_{i:03}.npy" for i in (0, 2, 4)}
    assert names("out") == pictures
    assert run(*command).code == 0
    assert len(fake.cameras) == 6
    refused = run(*command, "--frames", "0..6")
    assert (refused.code, "frame 6 does not exist; the frames are 0 … 5" in refused.err) == (1, True)
    assert run("render", mesh, "--turntable", 2, "-r", 8).code == 0
    assert {"tetra_0000.png", "tetra_0001.png"} <= names()


def test_after_a_stop_the_same_command_goes_on(run: Run, fake: Fake, mesh: Path) -> None:
    command = ("render", mesh, "--turntable", 6, "-r", 8, "-o", "turn.gif")
    fake.stop_after = 4
    stopped = run(*command)
    assert (stopped.code, "the same command goes on" in stopped.err) == (130, True)
    assert names("turn.frames") == {f"{i:06}.png" for i in range(4)}
    # Of a process that was killed while it wrote a picture.
    Path("turn.frames/.000004.0123abcd.tmp.png").write_bytes(b"half")
    fake.stop_after = 1000
    result = run(*command, "--json")
    assert result.code == 0
    assert (result.results[0]["frames"], result.results[0]["kept"]) == (6, 4)
    assert len(fake.cameras) == 6
    assert not Path("turn.frames").exists()
    assert len(frames_of("turn.gif")) == 6


def test_a_change_draws_again_what_it_concerns(run: Run, fake: Fake, tmp_path: Path) -> None:
    for number in range(3):
        a_mesh(tmp_path / "walk" / f"{number}.obj", 0.5 + 0.1 * number)
    command = ("render", "walk", "-r", 8, "-o", "{frame:03}.png")

    def drawn(*more: object) -> int:
        before = len(fake.cameras)
        assert run(*command, *more).code == 0
        return len(fake.cameras) - before

    assert [drawn(), drawn()] == [3, 0]
    # The same content with a new date is no change.
    (tmp_path / "walk" / "1.obj").touch()
    assert drawn() == 0
    a_mesh(tmp_path / "walk" / "1.obj", 0.55)
    assert drawn() == 1
    # A new highest point changes where all of them stand.
    a_mesh(tmp_path / "walk" / "1.obj", 0.95)
    assert drawn() == 3
    assert drawn("--exposure", 1) == 3
    fake.digest = "another model"
    assert drawn("--exposure", 1) == 3
    Path("002.png").unlink()
    assert drawn("--exposure", 1) == 1
    assert drawn("--exposure", 1, "--overwrite") == 3
    manifest = json.loads(Path("manifest.json").read_text())
    assert manifest["model"]["digest"] == "another model"
    assert manifest["settings"]["exposure"] == 1
    assert len(manifest["inputs"]["walk/1.obj"]["sha256"]) == 64


def test_files_of_others_are_not_replaced(run: Run, fake: Fake, mesh: Path) -> None:
    command = ("render", mesh, "--turntable", 2, "-r", 8, "-o", "{frame}.png")
    Path("1.png").write_bytes(b"mine")
    result = run(*command)
    assert (result.code, "1.png: exists already" in result.err, len(fake.cameras)) == (1, True, 0)
    assert run(*command, "--skip-existing").code == 0
    assert Path("1.png").read_bytes() == b"mine"
    assert run(*command, "--overwrite").code == 0
    assert Path("1.png").read_bytes()[:4] == b"\x89PNG"
    Path("manifest.json").write_text('{"format": 7}')
    damaged = run(*command)
    assert (damaged.code, "manifest.json: format is 7" in damaged.err) == (1, True)


def test_meshes_of_an_animation_stand_alike(run: Run, fake: Fake, tmp_path: Path) -> None:
    """A part that grows does grow in the pictures, and the camera stands still."""
    for number, height in enumerate((0.5, 1.0, 2.0)):
        a_mesh(tmp_path / "grow" / f"part_{number + 8}.obj", height)
    (tmp_path / "grow" / "part_8.mtl").write_text("newmtl a\n")
    assert run("render", tmp_path / "grow" / "*.obj", "--up", "z", "-r", 8, "-o", "{stem}.gif").code == 0
    assert Path("grow.gif").exists()
    tops = [scene.objects[1].bounds[1][2] - scene.objects[1].bounds[0][2] for scene in fake.scenes]
    np.testing.assert_allclose(tops, [0.175, 0.35, 0.7], atol=1e-3)
    assert len({camera.c2w.tobytes() for camera in fake.cameras}) == 1


def test_a_broken_frame_does_not_stop_the_others(run: Run, fake: Fake, tmp_path: Path) -> None:
    for number in range(3):
        a_mesh(tmp_path / "walk" / f"{number}.obj")
    (tmp_path / "walk" / "1.obj").write_text("v 0 0 nan\nf 1 1 1\n")
    result = run("render", "walk", "-r", 8, "-o", "walk.gif")
    assert (result.code, "error: walk/1.obj" in result.err) == (1, True)
    assert not Path("walk.gif").exists()
    a_mesh(tmp_path / "walk" / "1.obj")
    assert run("render", "walk", "-r", 8, "-o", "walk.gif").code == 0
    assert len(fake.cameras) == 3
    assert len(frames_of("walk.gif")) == 3


def test_a_camera_path_is_flown(run: Run, fake: Fake, mesh: Path) -> None:
    path = CameraPath([Key(0, View(0, 10, 2)), Key(1, View(90, 30, 1.5, (0.1, 0, 0)))])
    path.save("keys.json")
    assert run("render", mesh, "--camera-path", "keys.json", "-r", 8, "-o", "fly.gif", "--fps", 4).code == 0
    for camera, expected in zip(fake.cameras, path.cameras(4), strict=True):
        np.testing.assert_allclose(camera.c2w, expected.c2w, atol=1e-6)
    CameraPath([Key(0, View(0, 10, 2)), Key(1, View(80, 30, 1.5))]).save("keys.json")
    assert run("render", mesh, "--camera-path", "keys.json", "-r", 8, "-o", "fly.gif", "--fps", 4).code == 0
    assert len(fake.cameras) == 10


def test_the_cameras_of_a_scene_are_its_frames(run: Run, fake: Fake) -> None:
    triangle = np.float32([[[-0.2, 0, -0.2], [0.2, 0, -0.2], [0, 0, 0.2]]])
    views = tuple(Camera.orbit(4))
    Scene((Mesh("object", triangle), Light().mesh()), views).save("four.json", version="1.0")
    assert run("render", "four.json", "-r", 8, "-o", "four.gif").code == 0
    assert fake.azimuths == [0, 90, 180, 270]
    assert len(fake.scenes) == 1
    for name in ("a.json", "b.json"):
        Scene((Mesh("object", triangle), Light().mesh()), views[:2]).save(name, version="1.0")
    assert run("render", "a.json", "b.json", "-r", 8, "-o", "{camera}_{frame}.png").code == 0
    assert {f"camera_{c}_{f}.png" for c in (0, 1) for f in (0, 1)} <= names()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("-o", "a.mp4"), 1, "nothing moves"),
        (("--turntable", "3", "-o", "a.png"), 1, "a.png: two pictures would be written there"),
        (("--turntable", "3", "-o", "{frame}.mp4"), 2, "a video holds all frames"),
        (("--turntable", "3", "-o", "-.png"), 2, "stdout takes one picture"),
        (("--frames", "5..2"), 2, "holds no frames"),
        (("--frames", "a"), 2, "is not a range of frames"),
        (("--fps", "10"), 2, "is for sequences"),
        (("--turntable", "3", "--camera-path", "k.json"), 1, "k.json: does not exist"),
        (("--time", "1"), 1, "OBJ holds none"),
        (("--turntable", "3", "--animation", "walk"), 1, "no animation 'walk'"),
        (("--turntable", "3", "-o", "no/a.mp4"), 1, "does not exist"),
    ],
)
def test_wrong_sequences_are_refused(
    run: Run, fake: Fake, mesh: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    result = run("render", mesh, "-r", 8, *arguments)
    assert (result.code, words in " ".join(result.err.replace("│", " ").split())) == (code, True), result.err
    assert not fake.cameras


@pytest.mark.parametrize(
    ("text", "count", "expected"),
    [
        ("0..119/2", 120, range(0, 120, 2)),
        ("7", 8, range(7, 8)),
        ("3..", 6, range(3, 6)),
        ("3../2", 6, range(3, 6, 2)),
        ("0..0", 1, range(1)),
    ],
)
def test_ranges(text: str, count: int, expected: range) -> None:
    assert list(FrameRange.parse(text).numbers(count)) == list(expected)


@pytest.mark.parametrize("text", ["", "-1..3", "1..2..3", "1...3", "1..3/0", "9..1", "0x1", "1e3", "1234567"])
def test_other_ranges_are_refused(text: str) -> None:
    with pytest.raises(InputError):
        FrameRange.parse(text)


def test_the_longest_of_inputs_and_cameras_counts() -> None:
    files = [Path("a"), Path("b"), Path("c")]
    turn = plan_frames(files, [], 5, turning=True)
    assert [(frame.source.name, frame.camera) for frame in turn] == [("a", 0), ("b", 1), ("c", 2), ("a", 3), ("b", 4)]
    still = plan_frames(files[:1], [], 1, turning=False)
    assert still == [Frame(0, Path("a"))]
    walk = plan_frames(files[:1], [0.0, 0.5], 2, turning=False)
    assert [(frame.time, frame.camera) for frame in walk] == [(0.0, 0), (0.5, 0)]


def test_folders_and_patterns(tmp_path: Path) -> None:
    for name in ("f10.obj", "f9.obj", "f1.obj", ".hidden.obj", "x.manifest.json", "notes.txt"):
        (tmp_path / name).write_text("x")
    assert [path.name for path in expand_inputs([str(tmp_path)])] == ["f1.obj", "f9.obj", "f10.obj"]
    assert [path.name for path in expand_inputs([f"{tmp_path}/f1*.obj"])] == ["f1.obj", "f10.obj"]
    (tmp_path / "odd[1].obj").write_text("x")
    assert expand_inputs([str(tmp_path / "odd[1].obj")]) == [tmp_path / "odd[1].obj"]
    (tmp_path / "a.glb").write_text("x")
    with pytest.raises(InputError, match=r"holds \.glb and \.obj files; give a pattern"):
        expand_inputs([str(tmp_path)])
    with pytest.raises(InputError, match="matches no mesh"):
        expand_inputs([f"{tmp_path}/*.ply"])


def test_watching_draws_again_what_changes(
    run: Run, fake: Fake, mesh: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Pictures and frames; a file that is broken for a while is waited for, and a new file of a folder is seen."""
    Path("walk").mkdir(exist_ok=True)
    a_mesh(Path("walk/0.obj"))

    def script(*steps: Any) -> None:
        left = list(steps)

        def sleep(seconds: float) -> None:
            # Each step is seen by one look, and comes to rest by the next.
            if left:
                left.pop(0)()
            else:
                raise KeyboardInterrupt

        monkeypatch.setattr("renderformer.cli.watching.time", SimpleNamespace(sleep=sleep))

    def nothing() -> None: ...

    def broken() -> None:
        mesh.write_text("v 0")

    script(lambda: a_mesh(mesh, 3.0), nothing, broken, nothing, lambda: a_mesh(mesh, 4.0), nothing)
    result = run("render", mesh, "-r", 8, "-o", "a.png", "--watch")
    assert (result.code, result.err.count("watching 1 files")) == (0, 4)
    assert result.err.count("error: ") == 1
    assert len(fake.cameras) == 3
    script(lambda: a_mesh(Path("walk/1.obj")), nothing)
    assert run("render", "walk", "-r", 8, "-o", "w_{frame}.png", "--watch").code == 0
    assert {"w_0.png", "w_1.png"} <= names()


def test_a_second_run_of_the_same_sequence_is_refused(run: Run, fake: Fake, mesh: Path) -> None:
    from filelock import FileLock

    with FileLock(".manifest.json.lock"):
        result = run("render", mesh, "--turntable", 2, "-r", 8, "-o", "{frame}.png")
    assert (result.code, "another run is drawing this sequence" in result.err) == (1, True)


def test_a_moving_file_plays_and_stands_alike(run: Run, fake: Fake, tmp_path: Path) -> None:
    """A node of a glTF file that flies up: the stage and the camera are those of the whole flight."""
    file = Gltf(nodes=[{"children": [1, 2]}, {"mesh": 0}, {"mesh": 0}])
    file.mesh()
    channel = {"sampler": 0, "target": {"node": 2, "path": "translation"}}
    sampler = {"input": file.accessor([0.0, 1.0]), "output": file.accessor([[0, 0, 0], [0, 4, 0]])}
    file.document["animations"] = [{"channels": [channel], "samplers": [sampler]}]
    path = file.save(tmp_path / "fly.gltf")
    assert run("render", path, "-r", 8, "-o", "fly.gif", "--fps", 4).code == 0
    heights = [scene.objects[2].bounds[0][2] - scene.objects[1].bounds[0][2] for scene in fake.scenes]
    np.testing.assert_allclose(np.diff(heights), heights[-1] / 4, atol=1e-4)
    assert len(heights) == 5
    assert len({camera.c2w.tobytes() for camera in fake.cameras}) == 1
    assert run("render", path, "-r", 8, "-o", "turn.gif", "--turntable", 3).code == 0
    assert len(fake.scenes) == 6
    assert run("render", path, "-r", 8, "-o", "b.gif", "--turntable", 3, "--animation", "0", "--fps", 2).code == 0
    assert len(fake.scenes) == 9
    assert run("render", path, "-r", 8, "-o", "still.png", "--time", 0.5).code == 0
    assert len(fake.scenes[-1].objects) == 3
