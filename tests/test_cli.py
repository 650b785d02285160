"""The command line: names of outputs, exit codes, stdout and stderr, and options that reach the engine."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import numpy as np
import pytest
import typer
from helpers.command import Run
from typer.testing import CliRunner

from renderformer.aovs import AOVS
from renderformer.cli import model_options, options, picture_options, scene_options
from renderformer.cli.groups import expand
from renderformer.data.camera import Camera
from renderformer.data.environments import ENVIRONMENTS
from renderformer.data.errors import InputError
from renderformer.data.scene import Light, Mesh, Scene
from renderformer.data.staging import StageOptions
from renderformer.devices import PRECISIONS
from renderformer.image import IMAGE_SUFFIXES, TONE_MAPS, Image
from renderformer.kernels import BACKENDS
from renderformer.renderer import MAX_SIDE, Renderer


@dataclass
class Fake:
    """Replaces a Renderer: draws each camera in a grey of its own, and records its arguments."""

    device: str = "cpu"
    precision: str = "fp32"
    name: str = "fake"
    digest: str = "0"
    attention: str = "sdpa"
    loaded: list[tuple[Any, dict[str, Any]]] = field(default_factory=list)
    scenes: list[Scene] = field(default_factory=list)
    cameras: list[Camera] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    error: Exception | None = None

    def check(self, scene: Scene) -> list[str]:
        return self.warnings

    def encode(self, scene: Scene, progress: Any = None) -> Any:
        if self.error is not None:
            raise self.error
        self.scenes.append(scene)
        progress("encode", 0, 1)
        return SimpleNamespace(scene=scene, notes=("a note of the encoder",))

    def iterate(
        self, lit: Any, resolution: tuple[int, int], cameras: Sequence[Camera], progress: Any, aovs: Sequence[str] = ()
    ) -> Iterator[Image]:
        self.sizes.append(resolution)
        for number, camera in enumerate(cameras):
            progress("render", number, len(cameras))
            self.cameras.append(camera)
            width, height = resolution
            yield Image(np.full((height, width, 3), 0.1 * (number + 1), np.float32), camera, {"model": "fake"})


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    renderer = Fake()

    def from_pretrained(source: Any = None, **keywords: Any) -> Fake:
        renderer.loaded.append((source, keywords))
        return renderer

    monkeypatch.setattr(Renderer, "from_pretrained", from_pretrained)
    return renderer


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """A scene file with two cameras."""
    triangle = np.float32([[[-0.2, 0, -0.2], [0.2, 0, -0.2], [0, 0, 0.2]]])
    views = (Camera.from_angles(0, name="front"), Camera.from_angles(90, 30, 1.6, fov=45, name="side"))
    Scene((Mesh("object", triangle), Light().mesh()), views, "two").save(tmp_path / "two.json", version="1.0")
    return tmp_path / "two.json"


@pytest.fixture
def mesh(tmp_path: Path) -> Path:
    (tmp_path / "tetra.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n")
    return tmp_path / "tetra.obj"


def test_choices_are_those_of_the_engine() -> None:
    from renderformer.data.geometry.simplify import DEFAULT_BUDGET
    from renderformer.data.geometry.stages import STAGE_KINDS

    assert {choice.value for choice in picture_options.ToneMap} == set(TONE_MAPS)
    assert {choice.value for choice in model_options.Precision} == set(PRECISIONS)
    assert {choice.value for choice in model_options.Attention} == set(BACKENDS)
    assert {choice.value for choice in scene_options.Stage} == {"auto", "studio", "none", *STAGE_KINDS}
    assert all(name in str(picture_options.PictureFlags.__annotations__["aov"]) for name in AOVS)
    assert options.MAX_SIDE == MAX_SIDE
    assert options.TRAINED.triangles == DEFAULT_BUDGET


def test_a_picture_without_a_network(run: Run, scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "{index}.npy"
    result = run("render", str(scene), "-o", str(out), "-r", "16", "--no-network", "--json")
    assert result.code == 0
    assert json.loads(result.out)["device"] == "cpu"
    assert np.load(tmp_path / "0.npy").max() > 0
    refused = run("render", str(scene), "-o", str(out), "--no-network", "--model", "mine", "--overwrite")
    assert refused.code == 1
    assert "without a network, model 'mine' is not used; leave it out" in refused.err


def test_layers_lie_in_the_exr_beside_a_plain_png(run: Run, scene: Path, tmp_path: Path) -> None:
    files = [tmp_path / "{index}.exr", tmp_path / "{index}.png"]
    outputs = [word for file in files for word in ("-o", str(file))]
    result = run("render", str(scene), *outputs, "-r", "16", "--no-network", "--aov", "depth,object", "--camera", "0")
    assert result.code == 0
    assert "no layers" not in result.err
    image = Image.load(tmp_path / "0.exr")
    assert set(image.layers) == {"depth", "object"}
    assert json.loads(str(image.metadata["objects"])) == ["object", "light"]
    assert (image.layers["depth"].min(), image.layers["object"].max()) == (pytest.approx(1.75, abs=0.1), 1)
    assert run("render", str(scene), "-o", str(tmp_path / "a.exr"), "--camera", "0", "-r", "8", "--aov", "all",
               "--no-network").code == 0  # fmt: skip
    assert set(Image.load(tmp_path / "a.exr").layers) == set(AOVS)


def test_help_names_every_format_of_pictures(run: Run) -> None:
    text = run("render", "--help").out
    assert all(suffix.lstrip(".") in text for suffix in IMAGE_SUFFIXES if suffix != ".jpeg")


def test_help_names_every_command_and_option_group(run: Run) -> None:
    top = run("--help")
    assert top.code == 0
    for command in ("render", "convert", "info", "train", "data"):
        assert command in top.out
        assert run(command, "--help").code == 0
    text = run("render", "-h").out
    for word in ("Picture", "Model", "Camera", "Stage (for bare meshes)", "Output", "Examples", "bunny.glb"):
        assert word in text


def test_version(run: Run) -> None:
    assert run("--version").out.startswith("renderformer 0.")


def test_a_mesh_becomes_one_picture_named_after_it(run: Run, fake: Fake, mesh: Path) -> None:
    result = run("render", mesh)
    assert (result.code, result.out) == (0, "")
    assert fake.sizes == [(512, 512)]
    assert Path("tetra.png").is_file()
    assert "note: a note of the encoder" in result.err
    assert "tetra.png (512x512" in result.err


def test_several_outputs_and_templates(run: Run, fake: Fake, scene: Path) -> None:
    Path("out").mkdir()
    names = ("out/{stem}_{camera}.png", "out/{stem}_{index:02d}.exr")
    assert run("render", scene, "-o", names[0], "-o", names[1], "-r", "40x24").code == 0
    assert {path.name for path in Path("out").iterdir()} == {
        *("two_camera_0.png", "two_camera_1.png", "two_00.exr", "two_01.exr"),
    }
    assert fake.sizes == [(40, 24)]
    picture = Image.load("out/two_01.exr")
    assert (picture.width, picture.height) == (40, 24)
    np.testing.assert_allclose(picture.hdr, 0.2, rtol=1e-3)
    assert picture.camera is not None
    assert picture.camera.fov == 45


def test_options_of_the_picture_reach_the_file(run: Run, fake: Fake, mesh: Path) -> None:
    from PIL import Image as Pillow

    assert run("render", mesh, "-r", 8, "--tone-map", "none", "--exposure", 2, "-o", "a.png", "-o", "a.jpg").code == 0
    # 0.1 times 2^2 is 0.4, which is 170 in sRGB.
    assert np.asarray(Pillow.open("a.png")).tolist() == np.full((8, 8, 3), 170).tolist()
    assert run("render", mesh, "-r", 8, "--bit-depth", 16, "--full-float", "-o", "b.png", "-o", "b.exr").code == 0
    assert Path("b.png").read_bytes()[24] == 16
    assert Image.load("b.exr").hdr[0, 0, 0] == np.float32(0.1)


def test_options_of_the_model_reach_it_and_it_is_loaded_once(run: Run, fake: Fake, mesh: Path, scene: Path) -> None:
    model = ("--model", "some/where", "--revision", "v2", "--offline", "--device", "cpu", "--precision", "bf16")
    model += ("--attention", "sdpa")
    assert run("render", mesh, scene, "-r", 8, "-o", "{stem}_{index}.png", *model).code == 0
    keywords = {"revision": "v2", "offline": True, "device": "cpu", "precision": "bf16", "attention": "sdpa"}
    assert fake.loaded == [("some/where", {**keywords, "network": None})]


def test_options_of_the_stage_reach_the_scene(run: Run, fake: Fake, mesh: Path) -> None:
    stage = ("--stage", "floor", "--light-position", "-1,-1,2", "--light-strength", 3000, "--light-size", 0.15)
    view = ("--azimuth", 30, "--elevation", 10, "--distance", 1.7, "--fov", 50)
    surface = ("--material", "diffuse=0.8,0.1,0.2 roughness=0.3", "--size", 0.5)
    assert run("render", mesh, "-r", 8, *stage, *view, *surface).code == 0
    (drawn,) = fake.scenes
    names = {item.name: item for item in drawn.objects}
    assert {"floor", "tetra", "light"} == set(names)
    np.testing.assert_allclose(names["light"].triangles.mean((0, 1)), [-1, -1, 2], atol=1e-6)
    np.testing.assert_allclose(names["light"].materials[0, 10:], 3000)
    np.testing.assert_allclose(names["tetra"].materials[0, :7], [0.8, 0.1, 0.2, 0, 0, 0, 0.3], rtol=1e-6)
    np.testing.assert_allclose(np.ptp(names["tetra"].triangles, axis=(0, 1)).max(), 0.5, rtol=1e-6)
    (camera,) = fake.cameras
    assert camera.fov == 50
    np.testing.assert_allclose(np.linalg.norm(camera.position), 1.7, rtol=1e-6)


def test_an_environment_takes_the_place_of_the_light_and_the_walls(run: Run, fake: Fake, mesh: Path) -> None:
    text = run("render", "--help").out
    assert all(name in text for name in ENVIRONMENTS)
    turned = ("--environment", "studio", "--environment-strength", 0.5, "--environment-rotation", -30)
    assert run("render", mesh, "-r", 8, *turned, "--background", "invisible").code == 0
    both = ("--stage", "box", "--light-strength", 1000, "--environment", "#ff0000")
    assert run("render", mesh, "-r", 8, *both, "--overwrite").code == 0
    alone, together = fake.scenes
    assert {item.name for item in alone.objects} == {"floor", "tetra"}
    found = alone.environment
    assert found is not None
    assert (found.name, found.strength, found.rotation, found.background) == ("studio", 0.5, -30, "invisible")
    assert {"wall_back", "light", "tetra"} <= {item.name for item in together.objects}
    assert together.environment is not None
    np.testing.assert_allclose(together.environment.image[0, 0], (1, 0, 0))


def test_an_environment_lights_a_scene_file_too(run: Run, fake: Fake, tmp_path: Path) -> None:
    triangle = np.float32([[[-0.2, 0, -0.2], [0.2, 0, -0.2], [0, 0, 0.2]]])
    Scene((Mesh("object", triangle),), (Camera.from_angles(),)).save("dark.json")
    assert "the picture will be black" in run("render", "dark.json", "-r", 8).err
    result = run("render", "dark.json", "-r", 8, "--environment", "sky", "--overwrite")
    assert result.code == 0
    assert "black" not in result.err
    for background in ("transparent", "white", "0.2,0.1,0", "#000"):
        assert run("render", "dark.json", "-r", 8, "--background", background, "--overwrite").code == 0
    assert [drawn.environment and drawn.environment.background for drawn in fake.scenes] == [
        None, "visible", "transparent", (1, 1, 1), (0.2, 0.1, 0), (0, 0, 0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--environment", "stdio"), 2, "expected studio, sky, sunset"),
        (("--environment", "studio", "--environment-strength", "-1"), 2, "--environment-strength"),
        (("--environment", "studio", "--environment-rotation", "nan"), 2, "rotation is nan"),
        (("--environment", "studio", "--background", "bluish"), 2, "--background"),
        (("--environment", "none.hdr"), 1, "error: none.hdr: does not exist"),
        (("--environment-rotation", "30", "--stage", "box"), 1, "there is no environment; name one with --environment"),
    ],
)
def test_wrong_environments_are_refused(
    run: Run, fake: Fake, mesh: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    result = run("render", mesh, "-r", 8, *arguments)
    assert result.code == code
    assert words in " ".join(result.err.replace("│", " ").split())
    assert not fake.scenes


def test_the_stage_of_a_mesh_suits_the_model(run: Run, fake: Fake, mesh: Path, goldens: Path) -> None:
    """The studio and all triangles where rays are cast; for V1 models the box that they know, and 4096 triangles."""
    turned = ("--environment-rotation", "30", "--background", "transparent")
    for arguments in (turned, ("--no-network", *turned)):
        assert run("render", mesh, "-r", 8, "--overwrite", *arguments).code == 0
        environment = fake.scenes[-1].environment
        assert environment is not None
        assert (environment.name, environment.rotation, environment.background) == ("studio", 30, "transparent")
    for model in (goldens / "base_like", "released/v1"):
        assert run("render", mesh, "-r", 8, "--overwrite", "--model", model).code == 0
        assert fake.scenes[-1].environment is None
        assert "wall_back" in {item.name for item in fake.scenes[-1].objects}


def test_the_seed_colours_the_parts(run: Run, fake: Fake, mesh: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        result = run("render", mesh, "-r", 8, "--seed", seed, "-o", f"{name}.png", "--verbose")
        assert "1 connected parts got random diffuse colours" in result.err
    colours = [next(m for m in drawn.objects if m.name == "tetra").materials[0, :3].tolist() for drawn in fake.scenes]
    assert colours[0] == colours[1] != colours[2]


def test_cameras_of_a_scene_by_name_and_index(run: Run, fake: Fake, scene: Path) -> None:
    assert run("render", scene, "-r", 8, "--camera", "camera_1", "-o", "{camera}_{index}.png").code == 0
    assert Path("camera_1_1.png").is_file()
    assert run("render", scene, "-r", 8, "--camera", "1", "--camera", "0", "-o", "{index}.png").code == 0
    assert [camera.fov for camera in fake.cameras] == [45, 45, 37.5]
    missing = run("render", scene, "-r", 8, "--camera", "top")
    assert (missing.code, "no camera 'top'; it has: 0 camera_0, 1 camera_1" in missing.err) == (1, True)


def test_angles_change_the_first_camera_of_a_scene(run: Run, fake: Fake, scene: Path) -> None:
    assert run("render", scene, "-r", 8, "--azimuth", 90, "--fov", 50).code == 0
    (camera,) = fake.cameras
    expected = Camera.from_angles(90, 20, 1.75, fov=50)
    np.testing.assert_allclose(camera.c2w, expected.c2w, atol=1e-6)
    assert camera.fov == 50


def test_an_orbit_goes_round_what_the_first_camera_sees(run: Run, fake: Fake, scene: Path, mesh: Path) -> None:
    assert run("render", scene, "-r", 8, "--orbit", 4, "-o", "{index:02d}.png").code == 0
    assert [f"{i:02d}.png" for i in range(4)] == sorted(path.name for path in Path().glob("*.png"))
    for camera, turn in zip(fake.cameras, (0, 90, 180, 270), strict=True):
        np.testing.assert_allclose(camera.c2w, Camera.from_angles(turn, 20, 1.75).c2w, atol=1e-6)
    # Walls would hide the mesh from half of the cameras.
    assert run("render", mesh, "-r", 8, "--orbit", 3, "-o", "{camera}.png").code == 0
    assert {item.name for item in fake.scenes[-1].objects} == {"floor", "tetra"}
    assert run("render", mesh, "-r", 8, "--orbit", 3, "-o", "v1_{camera}.png", "--model", "released/v1").code == 0
    assert {item.name for item in fake.scenes[-1].objects} == {"floor", "tetra", "light"}
    heights = [camera.position[2] for camera in fake.cameras[4:7]]
    np.testing.assert_allclose(heights, heights[0], atol=1e-6)


def test_two_pictures_in_one_file_are_refused(run: Run, fake: Fake, scene: Path, mesh: Path, tmp_path: Path) -> None:
    result = run("render", scene, "-r", 8, "-o", "a.png")
    assert (result.code, "a.png: two pictures would be written there" in result.err) == (1, True)
    assert not fake.scenes
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "tetra.obj").write_bytes(mesh.read_bytes())
    result = run("render", mesh, tmp_path / "deep" / "tetra.obj", "-r", 8)
    assert (result.code, "two pictures" in result.err) == (1, True)
    assert Path("tetra.png").is_file()


def test_an_existing_file_is_an_error_or_replaced_or_skipped(run: Run, fake: Fake, scene: Path) -> None:
    Path("camera_0.png").write_bytes(b"mine")
    command = ("render", scene, "-r", 8, "-o", "{camera}.png")
    result = run(*command)
    assert (result.code, "camera_0.png: exists already; give --overwrite" in result.err) == (1, True)
    assert not fake.loaded
    result = run(*command, "--skip-existing")
    assert (result.code, "camera_0.png: exists already, skipped" in result.err) == (0, True)
    assert Path("camera_0.png").read_bytes() == b"mine"
    assert Path("camera_1.png").is_file()
    assert len(fake.cameras) == 1
    result = run(*command, "--skip-existing", "--json")
    assert [entry["status"] for entry in result.results] == ["skipped"]
    assert run(*command, "--overwrite").code == 0
    assert Path("camera_0.png").read_bytes()[:4] == b"\x89PNG"


def test_a_cameras_name_stays_in_the_folder(run: Run, fake: Fake, monkeypatch: pytest.MonkeyPatch, mesh: Path) -> None:
    from renderformer.cli.outputs import expand

    for name in ("../../etc/passwd", "a/b", "..", "", "CON\0"):
        assert expand("out/{camera}.png", "x.obj", name, 3).parent == Path("out")
    assert expand("{camera}.png", "x.obj", "..", 3) == Path("3.png")
    assert expand("{stem}-{index:03d}.png", "deep/er/x.y.obj", "", 3) == Path("x.y-003.png")


def test_json_is_one_line_per_input(run: Run, fake: Fake, scene: Path) -> None:
    fake.warnings = ["too bright"]
    result = run("render", scene, "missing.obj", "-r", "8x4", "-o", "{stem}_{index}.png", "--json")
    assert result.code == 1
    good, bad = result.results
    assert good["status"] == "ok"
    assert good["outputs"][1] == {"path": "two_1.png", "camera": "camera_1", "index": 1}
    assert (good["triangles"], good["resolution"], good["warnings"]) == (2, [8, 4], ["too bright"])
    assert good["notes"][-1] == "a note of the encoder"
    assert {"load", "encode", "render", "save", "total"} <= good["seconds"].keys()
    assert (bad["status"], "missing.obj: " in bad["error"]) == ("failed", True)
    assert result.err.count("\n") == 1


def test_quiet_says_nothing_but_errors(run: Run, fake: Fake, mesh: Path) -> None:
    fake.warnings = ["too bright"]
    result = run("render", mesh, "-r", 8, "-q")
    assert (result.code, result.out, result.err) == (0, "", "")
    result = run("render", mesh, "-r", 8, "-q")
    assert (result.code, result.err.startswith("error: "), result.err.count("\n")) == (1, True, 1)


def test_the_rest_is_rendered_after_a_failure(run: Run, fake: Fake, mesh: Path) -> None:
    Path("broken.obj").write_text("v 0 0 nan\nf 1 1 1\n")
    result = run("render", "broken.obj", "missing.glb", mesh, "-r", 8, "-o", "{stem}.png")
    assert result.code == 1
    assert [path.name for path in Path().glob("*.png")] == ["tetra.png"]
    errors = [line for line in result.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 2
    assert "broken.obj" in errors[0]
    assert "missing.glb" in errors[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-r", "0"), "'0' is not a size"),
        (("-r", "640x"), "'640x' is not a size"),
        (("-r", "-5"), "'-5' is not a size"),
        (("-r", "99999"), "(1 … 16384)"),
        (("--tone-map", "aces"), "'aces' is not one of"),
        (("--exposure", "nan"), "--exposure"),
        (("--precision", "int8"), "'int8' is not one of"),
        (("-o", "a.bmp"), "unknown picture format"),
        (("-o", "{name}.png"), "unknown field {name}"),
        (("-o", "{camera!r}.png"), "only {index:03d}"),
        (("-o", "{index:999999999}.png"), "only {index:03d}"),
        (("-o", "{stem.png"), "a brace is not closed"),
        (("-o", "{0}.png"), "unknown field {0}"),
        (("-o", "-"), "stdout needs a format"),
        (("-o", "-.png", "--json"), "stdout takes one picture"),
        (("--format", "glb"), "applies to the input - (stdin)"),
        (("-", "--format", "a/b"), "'a/b' is not a format such as glb"),
        (("--overwrite", "--skip-existing"), "cannot be combined"),
        (("--camera", "0", "--orbit", "3"), "cannot be combined"),
        (("--orbit", "0"), "'--orbit'"),
        (("--orbit", "1000000"), "'--orbit'"),
        (("--fov", "200"), "is 200.0; expected a number from 1 to 170 "),
        (("--distance", "-1"), "is -1.0; expected"),
        (("--azimuth", "inf"), "is Infinity; expected a number"),
        (("--bit-depth", "16", "-o", "a.exr"), "is for .png files, and none is written"),
        (("--full-float",), "is for .exr files, and none is written"),
        (("--aov", "depth"), "is for .exr files, and none is written"),
        (("--aov", "depth,colour", "-o", "a.exr"), "'colour' is unknown; there are depth, normal"),
        (("--bit-depth", "16", "-o", "a.png", "-o", "a.jpg"), "a JPEG cannot hold 16 bits per channel"),
        (("--size", "2"), "--size"),
        (("--light-position", "1,2"), "'1,2' is not 3 finite numbers"),
        (("--light-position", "1,2,nan"), "is not 3 finite numbers"),
        (("--light-strength", "-3"), "is -3.0; expected"),
        (("--material", "colour=1"), "'colour=1' is not diffuse"),
        (("--material", "roughness=2"), "roughness is 2"),
        (("--material", "diffuse=0.1,0.2"), "is not 1 or 3 finite numbers"),
        (("--material", "diffuse=.1 diffuse=.2"), "diffuse is given twice"),
        (("--material", ""), "is empty"),
        (("--budget", "0"), "'--budget'"),
        (("--seed", "-1"), "'--seed'"),
        (("--stage", "garden"), "'garden' is not one of"),
        (("--nonsense",), "No such option"),
    ],
)
def test_wrong_usage_ends_with_2_before_anything_is_read(
    run: Run, fake: Fake, arguments: tuple[str, ...], message: str
) -> None:
    result = run("render", "missing.obj", *arguments)
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert not fake.loaded


def test_several_inputs_need_a_template(run: Run, fake: Fake) -> None:
    result = run("render", "a.obj", "b.obj", "-o", "c.png")
    assert (result.code, "put {stem} into the name" in result.err) == (2, True)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (InputError("model", "too small"), "tetra.obj: model: too small"),
        (MemoryError(), "out of memory; lower --resolution or --budget"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "out of memory"),
        (OSError(28, "No space left on device", "x.tmp"), "x.tmp: No space left on device"),
        (ModuleNotFoundError("No module named 'yaml'", name="yaml"), "pip install 'renderformer[train]'"),
        (KeyError("weird\nand long"), "internal error, KeyError"),
    ],
)
def test_failures_are_one_line_without_traceback(
    run: Run, fake: Fake, mesh: Path, error: Exception, message: str
) -> None:
    fake.error = error
    result = run("render", mesh, "-q")
    assert (result.code, result.out) == (1, "")
    assert result.err.count("\n") == 1
    assert result.err.startswith("error: ")
    assert message in result.err
    assert list(Path().glob("*.png")) == []


def test_debugging_shows_the_traceback(run: Run, fake: Fake, mesh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RENDERFORMER_DEBUG", "1")
    fake.error = InputError("model", "too small")
    with pytest.raises(InputError, match="too small"):
        run("render", mesh)


def test_a_model_that_cannot_be_loaded_ends_everything(run: Run, mesh: Path, scene: Path) -> None:
    result = run("render", mesh, scene, "-r", 8, "-o", "{stem}_{index}.png", "--model", "no/such/folder", "-q")
    assert result.code == 1
    assert [line for line in result.err.splitlines() if line.startswith("error: ")] == result.err.splitlines()
    assert len(result.err.splitlines()) == 1
    assert result.err.startswith("error: no/such/folder: ")


def test_a_folder_that_does_not_exist_fails_before_rendering(run: Run, fake: Fake, mesh: Path) -> None:
    result = run("render", mesh, "-o", "deep/{stem}.png")
    assert (result.code, "the folder deep does not exist" in result.err) == (1, True)
    assert not fake.loaded


def test_options_of_the_stage_are_refused_for_a_scene(run: Run, fake: Fake, scene: Path) -> None:
    result = run("render", scene, "--stage", "box", "--light-size", 0.2)
    assert result.code == 1
    assert "--light-size, --stage cannot be used, only with bare meshes" in result.err


def test_from_stdin_to_stdout(mesh: Path) -> None:
    program = [sys.executable, "-c", _FAKE_MAIN, "render", "-", "--format", "obj", "-o", "-.png", "-r", "8"]
    result = subprocess.run(program, input=mesh.read_bytes(), capture_output=True, cwd=mesh.parent)
    assert result.returncode == 0, result.stderr
    assert result.stdout[:8] == b"\x89PNG\r\n\x1a\n"
    assert result.stdout[-8:-4] == b"IEND"
    assert b"- -> -.png (8x8" in result.stderr


@pytest.mark.parametrize("picture", [True, False])
def test_a_full_disk_and_a_closed_pipe_behind_stdout(mesh: Path, picture: bool) -> None:
    out = ["-o", "-.png", "-q"] if picture else ["--json"]
    program = [sys.executable, "-c", _FAKE_MAIN, "render", str(mesh), *out, "-r", "8"]
    if Path("/dev/full").exists():
        with Path("/dev/full").open("w") as full:
            result = subprocess.run(program, stdout=full, stderr=subprocess.PIPE, cwd=mesh.parent, text=True)
        assert result.returncode == 1
        assert "stdout: " in result.stderr
        assert "No space left" in result.stderr
        (mesh.parent / "tetra.png").unlink(missing_ok=True)
    read, write = os.pipe()
    os.close(read)
    result = subprocess.run(program, stdout=write, stderr=subprocess.PIPE, cwd=mesh.parent, text=True)
    os.close(write)
    assert (result.returncode, result.stderr) == (1, "")


def test_names_that_the_terminal_cannot_show(mesh: Path) -> None:
    """Names in file systems and JSON files may be invalid text, and some terminals are ASCII only."""
    source = json.loads('{"version": "1.0", "objects": {"a\\ud800é": {"mesh_path": "tetra.obj"}}, "cameras": []}')
    material = {"diffuse": [1, 1, 1], "specular": [0, 0, 0], "roughness": 1, "emissive": [0, 0, 0]}
    place = {"translation": [0, 0, 0], "rotation": [0, 0, 0], "scale": [1, 1, 1]}
    source["objects"]["a\ud800é"] |= {"material": material | {"smooth_shading": False}, "transform": place}
    (mesh.parent / "a.json").write_text(json.dumps(source))
    for encoding in ("ascii", "utf-8"):
        program = [sys.executable, "-c", _FAKE_MAIN, "info", "a.json"]
        environment = {**os.environ, "PYTHONIOENCODING": encoding}
        run = [
            subprocess.run([*program, *more], capture_output=True, cwd=mesh.parent, env=environment)
            for more in ([], ["--json"])
        ]
        assert [done.returncode for done in run] == [0, 0], run
        assert json.loads(run[1].stdout)["objects"][0]["name"] == "a\ud800é"


def test_stdin_errors_name_stdin(run: Run, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"no mesh")))
    result = run("render", "-", "--format", "glb")
    assert (result.code, result.err.startswith("error: stdin: ")) == (1, True)
    assert run("render", "-").code == 2


@pytest.mark.parametrize(("inner", "place"), [("", "stdin"), (": object 'a'", "stdin: object 'a'")])
def test_places_inside_stdin_keep_what_follows_the_file(
    run: Run, monkeypatch: pytest.MonkeyPatch, inner: str, place: str
) -> None:
    def load_scene(path: Path, **options: Any) -> Scene:
        raise InputError(f"{path}{inner}", "is wrong", "mend it")

    monkeypatch.setattr("renderformer.data.formats.load_scene", load_scene)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"")))
    assert run("convert", "-", "--format", "glb", "-o", "a.h5").err == f"error: {place}: is wrong; mend it\n"


def test_a_refused_argument_is_named_as_its_option(run: Run) -> None:
    result = run("render", "missing.obj", "--size", "0.5", "--light-size", "99")
    assert result.code == 2
    assert "Invalid value for --light-size: is 99.0; expected a number from" in result.err


# A process with a renderer that waits or draws grey.
_FAKE_MAIN = """
import sys, time
from types import SimpleNamespace
import numpy as np
from renderformer.image import Image
class Fake:
    device, precision = "cpu", "fp32"
    def check(self, scene): return []
    def encode(self, scene, progress):
        if "--revision" in sys.argv:
            print("encoding", file=sys.stderr, flush=True)
            time.sleep(60)
        return SimpleNamespace(notes=())
    def iterate(self, lit, size, cameras, progress, aovs=()):
        yield Image(np.full((size[1], size[0], 3), 0.5, np.float32))
sys.modules["renderformer.renderer"] = SimpleNamespace(
    Renderer=SimpleNamespace(from_pretrained=lambda *a, **k: Fake())
)
from renderformer.cli.main import main
main()
"""


def test_interrupted_ends_with_130_and_leaves_nothing(mesh: Path) -> None:
    program = [sys.executable, "-c", _FAKE_MAIN, "render", str(mesh), "-r", "8", "--revision", "wait"]
    process = subprocess.Popen(program, cwd=mesh.parent, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    while "encoding" not in process.stderr.readline():
        assert process.poll() is None
    time.sleep(0.1)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert [path.name for path in mesh.parent.iterdir()] == [mesh.name]


def test_convert_and_back(run: Run, scene: Path, mesh: Path) -> None:
    result = run("convert", scene, "two.h5", "--json")
    assert result.code == 0
    (facts,) = result.results
    assert (facts["objects"], facts["triangles"], facts["cameras"]) == (2, 2, 2)
    assert Scene.load("two.h5").cameras[1].fov == 45
    again = run("convert", scene, "two.h5")
    assert (again.code, "two.h5: exists already; give --overwrite" in again.err) == (1, True)
    assert run("convert", scene, "two.h5", "--overwrite", "-q").err == ""
    staged = run("convert", mesh, "staged.json", "--stage", "corner")
    assert staged.code == 0
    assert "note: saved as version 1.0+renderformer" in staged.err
    assert "lost: " not in staged.err
    plain = run("convert", mesh, "plain.json", "--stage", "corner", "--plain")
    assert plain.code == 0
    assert any(line.startswith("lost: ") for line in plain.err.splitlines())
    assert json.loads(Path("plain.json").read_text())["version"] == "1.0"
    assert run("convert", mesh, "plain.h5", "--plain").code == 1
    assert {"floor", "tetra", "light"} < {item.name for item in Scene.load("staged.json").objects}
    assert run("convert", mesh, "raw.h5", "--raw").code == 0
    assert len(Scene.load("raw.h5")) == 4
    assert run("convert", mesh, "raw.h5", "--raw", "--stage", "box").code == 2
    assert run("convert", mesh, "raw.obj").code == 2


def test_convert_names_its_output_by_option_or_position(run: Run, scene: Path) -> None:
    assert run("convert", scene, "-o", "a.h5").code == 0
    assert run("convert", scene, "b.h5").code == 0
    assert Path("a.h5").is_file()
    assert Path("b.h5").is_file()
    doubled = run("convert", scene, "c.h5", "--output", "d.h5")
    assert (doubled.code, "c.h5 is named as the output too" in doubled.err, Path("d.h5").exists()) == (2, True, False)
    neither = run("convert", scene)
    assert (neither.code, "name the file to write" in neither.err) == (2, True)


def test_info_of_a_scene_and_a_mesh(run: Run, scene: Path, mesh: Path) -> None:
    (facts,) = run("info", scene, "--json").results
    assert (facts["kind"], facts["triangles"]) == ("scene", 2)
    assert [camera["fov"] for camera in facts["cameras"]] == [37.5, 45]
    assert facts["objects"][0]["bounds"] == [[-0.2, 0, -0.2], [0.2, 0, 0.2]]
    assert facts["lights"][0]["emission"] == [3500, 3500, 3500]
    (facts,) = run("info", mesh, "--json").results
    assert (facts["kind"], facts["triangles"]) == ("mesh", 4)
    assert facts["bounds"] == [[0, 0, 0], [1, 1, 1]]
    assert facts["as_rendered"]["triangles"] > 4
    text = run("info", mesh)
    assert (text.code, "bounds: (0.0, 0.0, 0.0) … (1.0, 1.0, 1.0)" in text.out) == (0, True)


def test_info_tells_what_is_wrong_with_a_scene(run: Run, tmp_path: Path) -> None:
    far = Scene((Mesh("far", np.float32([[[2, 0, 0], [3, 0, 0], [2, 1, 0]]])),), (Camera.from_angles(distance=5),))
    far.save(tmp_path / "far.json")
    out = run("info", tmp_path / "far.json").out
    assert "no lights, so the picture will be black" in out
    # The embedded model has no range that a camera could leave.
    assert "trained" not in out


def test_info_of_a_checkpoint(run: Run, goldens: Path, tmp_path: Path) -> None:
    (facts,) = run("info", goldens / "base_like", "--json").results
    assert (facts["kind"], facts["parameters"], facts["types"]) == ("checkpoint", 710_993, ["F32"])
    assert facts["config"]["latent_dim"] == 108
    (tmp_path / "empty").mkdir()
    result = run("info", tmp_path / "empty")
    assert (result.code, "config.json: not found" in result.err, result.err.count("\n")) == (1, True, 1)
    folder = tmp_path / "cut"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_bytes((goldens / "base_like" / name).read_bytes()[:5000])
    result = run("info", folder)
    assert (result.code, "cut/model.safetensors: is not a whole" in result.err) == (1, True)


def test_info_of_the_machine(run: Run) -> None:
    (facts,) = run("info", "--json").results
    assert facts["kind"] == "machine"
    assert facts["torch"]
    assert facts["cpu_threads"] >= 1
    assert "cpu" in facts["attention"]


@pytest.fixture
def no_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests of the kernels in the same process may have replaced the GPU by the CPU."""
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)


@pytest.mark.usefixtures("no_interpreter")
def test_info_says_which_attention_a_device_takes(run: Run, mesh: Path) -> None:
    (facts,) = run("info", "--device", "cpu", "--json").results
    (stages,) = facts["attention"].values()
    assert stages == {
        "triangle_stage": "fp32, sdpa (no sage: device 'cpu' is not an NVIDIA GPU)",
        "view_stage": "fp32, sdpa (always exact)",
    }
    result = run("info", "--device", "tpu")
    assert (result.code, result.out, result.err.count("\n")) == (1, "", 1)
    assert "device 'tpu' is unknown" in result.err
    assert run("info", mesh, "--device", "cpu").code == 2


@pytest.mark.usefixtures("no_interpreter")
def test_sage_where_it_cannot_run_is_one_line(run: Run, mesh: Path) -> None:
    result = run("render", mesh, "--network", "--attention", "sage", "--device", "cpu", "-q")
    assert (result.code, result.err.count("\n")) == (1, 1)
    assert "attention 'sage' cannot run here: device 'cpu' is not an NVIDIA GPU; use auto or sdpa" in result.err
    assert not Path("mesh.png").exists()


def test_a_golden_checkpoint_draws_a_golden_scene(run: Run, goldens: Path) -> None:
    source = goldens / "scenes" / "init-template.json"
    model = ("--model", goldens / "base_like", "--device", "cpu")
    result = run("render", source, "-r", "48x32", "-o", "a.png", "-o", "a.npy", *model, "--json")
    assert result.code == 0, result.err
    (facts,) = result.results
    assert (facts["triangles"], facts["device"], facts["warnings"]) == (513, "cpu", [])
    from renderformer import Renderer as Engine

    expected = Engine.from_pretrained(goldens / "base_like", device="cpu").render(Scene.load(source), (48, 32))[0]
    np.testing.assert_array_equal(np.load("a.npy"), expected.hdr)


def test_defaults_of_the_stage_are_the_engines() -> None:
    """Options without a value on the command line are not passed on."""
    assert scene_options.StageFlags().of_mesh() == scene_options.StageFlags().of_every_file() == {}
    assert StageOptions().stage == "auto"


@dataclass(frozen=True)
class Base:
    width: Annotated[int, typer.Option(min=1, metavar="N", help="Pixels.", rich_help_panel="Size")] = 64


@dataclass(frozen=True)
class Derived(Base):
    names: Annotated[list[str] | None, typer.Option("--name", "-n")] = None
    loud: Annotated[bool, typer.Option("--loud")] = False


def test_a_group_of_options_stands_as_its_fields() -> None:
    calls: list[tuple[str, Derived, int]] = []

    def draw(source: str, size: Derived, count: Annotated[int, typer.Option()] = 3) -> None:
        """What it does."""
        calls.append((source, size, count))

    app = typer.Typer()
    app.command()(expand(draw))
    result = CliRunner().invoke(app, ["a", "--width", "7", "-n", "x", "--name", "y", "--loud", "--count", "4"])
    assert result.exit_code == 0, result.output
    assert CliRunner().invoke(app, ["b"]).exit_code == 0
    assert calls == [("a", Derived(7, ["x", "y"], True), 4), ("b", Derived(), 3)]
    assert CliRunner().invoke(app, ["b", "--width", "0"]).exit_code == 2
    text = CliRunner().invoke(app, ["--help"]).output
    assert all(word in text for word in ("What it does.", "Size", "N [x>=1]", "Pixels.", "[default: 64]", "-n"))


def test_two_options_of_one_name_are_refused() -> None:
    def draw(size: Derived, width: int = 3) -> None: ...

    with pytest.raises(TypeError, match="two options of one name"):
        expand(draw)


@pytest.mark.parametrize(
    ("command", "old"),
    [(("train",), "--out"), (("data", "generate"), "--out"), (("data", "import"), "--out"), (("evaluate",), "--html")],
)
def test_output_is_the_word_and_old_spellings_are_understood(run: Run, command: tuple[str, ...], old: str) -> None:
    text = run(*command, "--help").out
    assert "--output" in text
    assert old not in text.split()
    for spelling in (old, "--output", "-o"):
        result = run(*command, spelling)
        assert (result.code, "requires an argument" in result.err) == (2, True), result.err


def test_help_takes_trained_figures_from_the_trained_range(run: Run) -> None:
    text = run("render", "--help").out
    for words in ("2.1 … 2.7 away", "2500 … 5000", "0.14 … 0.18", "1.5 … 2.", "30 … 60"):
        assert words in text


def test_a_missing_input_is_said_to_be_missing(run: Run) -> None:
    for name in ("missing.obj", "missing", "missing/"):
        result = run("render", name, "-r", 8, "--no-network")
        assert (result.code, f"error: {name.rstrip('/')}: does not exist; check the path" in result.err) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--background", "1,2,3"), "--background: background is '1,2,3'"),
        (("--environment-rotation", "nan"), "--environment-rotation: rotation is nan"),
        (("--animation", "walk"), "--animation: needs --time for a picture"),
        (("--ray", "-o", "a.png"), "--ray: is for sequences"),
        (("--ray", "10.0.0.1", "--turntable", "2"), "--ray: '10.0.0.1' is not host:port"),
        (("--split-lights", "--turntable", "2", "-o", "a.mp4"), "--split-lights: is for .exr files"),
        (("--aov", "depth", "--split-lights", "-o", "a.png"), "--aov: is for .exr files"),
        (("--watch", "-", "--format", "glb", "-o", "{stem}.png"), "--watch: needs files"),
    ],
)
def test_odd_combinations_are_refused_before_anything_is_read(
    run: Run, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    result = run("render", "missing.obj", *arguments)
    assert result.code == 2
    assert words in " ".join(result.err.replace("│", " ").split())
