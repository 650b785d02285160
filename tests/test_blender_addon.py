"""The add-on for Blender as a whole: its zip, its engine on stand-ins, and in a real Blender where there is one.

Real Blender is the package bpy, which CI does not install: it has 370 MB. It has no windows, so the drawing of the
viewport is tested on stand-ins alone.
"""

from __future__ import annotations

import ast
import gc
import importlib
import importlib.util
import os
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import trimesh
from helpers import blender, blender_module

import renderformer
from renderformer.viewer import blender as addon
from renderformer.viewer.blender.client import ClientError

ROOT = Path(__file__).parents[1]
ADDON = ROOT / "viewer" / "blender"
needs_blender = pytest.mark.skipif(
    importlib.util.find_spec("bpy") is None, reason="a real Blender is not there: pip install bpy"
)


@pytest.fixture
def zipped(tmp_path: Path) -> Path:
    script = ROOT / "scripts" / "pack_blender_addon.py"
    made = subprocess.run([sys.executable, script, tmp_path / "dist"], check=True, capture_output=True, text=True)
    return Path(made.stdout.strip())


def test_the_zip_holds_the_add_on_and_no_copy_of_the_package(zipped: Path) -> None:
    assert zipped.name == f"renderformer-blender-{renderformer.__version__}.zip"
    with zipfile.ZipFile(zipped) as archive:
        names = archive.namelist()
        assert set(names) == {*(path.name for path in ADDON.glob("*.py")), "blender_manifest.toml", "LICENSE"}
        assert len(names) == len(set(names))
        assert archive.read("LICENSE") == (ROOT / "LICENSE").read_bytes()
        manifest = tomllib.loads(archive.read("blender_manifest.toml").decode())
    assert manifest["version"] == renderformer.__version__
    assert (manifest["id"], manifest["type"], manifest["license"]) == ("renderformer", "add-on", ["SPDX:MIT"])
    assert len(manifest["tagline"]) <= 64
    assert manifest["tagline"][-1].isalnum()
    before = zipped.read_bytes()
    zipped.unlink()
    subprocess.run([sys.executable, ROOT / "scripts" / "pack_blender_addon.py", zipped.parent], check=True)
    assert zipped.read_bytes() == before


def test_the_add_on_needs_nothing_but_blender() -> None:
    allowed = {*sys.stdlib_module_names, "bpy", "gpu", "gpu_extras", "numpy"}
    for path in ADDON.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert {alias.name.split(".")[0] for alias in node.names} <= allowed, path
            if isinstance(node, ast.ImportFrom):
                assert node.level == 1 or str(node.module).split(".")[0] in allowed, path


class Scripted:
    """A process that answers with what it was given, once it was asked for a picture.

    Attributes:
        answers: for each request lists of messages, of which each `wait` returns one.
    """

    def __init__(self, *answers: list[tuple[dict[str, Any], dict[str, Any]]], problem: str = "") -> None:
        self.answers, self.sent, self.scene, self.closed, self.problem = list(answers), [], "", False, problem
        self._asked = 0

    def send(self, message: Any, arrays: Any = None) -> None:
        self.sent.append(message)
        if message["do"] == "frame":
            self._asked = message["number"]

    def send_scene(self, objects: Any, environment: Any, arrays: Any) -> bool:
        changed, self.scene = self.scene != str(objects), str(objects)
        return changed

    def wait(self, seconds: float) -> Any:
        if self.problem:
            raise ClientError(self.problem)
        found = self.answers.pop(0) if self.answers and self._asked else []
        return [({"number": self._asked, **message}, arrays) for message, arrays in found]

    def close(self) -> None:
        self.closed = True


def picture(value: float, final: bool, size: tuple[int, int] = (24, 16), place: Any = None) -> Any:
    message = {"is": "picture", "final": final, "place": place or (0, 0, *size), "notes": ["lit"] if final else []}
    return message, {"pixels": np.full((size[1], size[0], 4), value, np.float32)}


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    record = blender_module.install(monkeypatch)
    record.engine = importlib.import_module("renderformer.viewer.blender.engine")
    yield record
    # They hold the stand-ins.
    for name in ("engine", "preferences"):
        sys.modules.pop(f"{addon.__name__}.{name}", None)
        vars(addon).pop(name, None)


def a_graph(percentage: int = 50) -> Any:
    shape = trimesh.creation.box((1, 1, 1))
    item = blender.solid("Cube", blender.mesh(shape.triangles, np.repeat(shape.face_normals, 3, axis=0)))
    graph = blender.depsgraph(blender.instance(item))
    camera = SimpleNamespace(
        type="CAMERA", data=SimpleNamespace(type="PERSP", dof=SimpleNamespace(use_dof=True)), matrix_world=np.eye(4),
        calc_matrix_camera=lambda depsgraph, x, y, scale_x, scale_y: blender.projection(x, y),
    )  # fmt: skip
    camera.evaluated_get = lambda depsgraph: camera
    graph.scene.camera = camera
    vars(graph.scene.render).update(
        resolution_x=48, resolution_y=32, resolution_percentage=percentage, pixel_aspect_x=1, pixel_aspect_y=1,
        use_border=False, use_multiview=False,
    )  # fmt: skip
    return graph


def test_f12_shows_what_comes_and_says_once_what_is_not_drawn(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    coarse = picture(0.5, False, (3, 2), (0, 0, 24, 16))
    client = Scripted([({"is": "progress", "stage": "encode", "done": 1, "total": 2}, {}), coarse], [picture(1, True)])
    monkeypatch.setattr(module.engine, "final_client", lambda: client)
    engine = module.engine.RenderformerEngine()
    engine.render(a_graph())
    assert [made.shape for made in engine.pictures] == [(16, 24, 4)] * 2
    assert [made[0, 0, 0] for made in engine.pictures] == [0.5, 1]
    assert [line for kind, line in engine.reports if kind == {"WARNING"}] == ["depth of field is not drawn", "lit"]
    assert ("renderformer", "encode 50%") in engine.stats
    assert engine.layers == ["Layer", "Layer"]
    (request,) = client.sent
    assert (request["width"], request["height"], request["growing"]) == (24, 16, False)


def test_the_exposure_that_a_scene_has_for_cycles_is_kept(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = a_graph()
    graph.scene.cycles = SimpleNamespace(film_exposure=2.0)
    monkeypatch.setattr(module.engine, "final_client", lambda: Scripted([picture(0.5, True)]))
    engine = module.engine.RenderformerEngine()
    engine.render(graph)
    (made,) = engine.pictures
    assert made[0, 0].tolist() == [1, 1, 1, 0.5]
    client = Scripted([picture(0.5, True, (60, 40))])
    monkeypatch.setattr(module.engine, "Client", lambda command: client)
    monkeypatch.setattr(module.engine.preferences, "command", list)
    engine.view_update(looking(), graph)
    engine.view_draw(looking(), graph)
    module.timers[0]()
    engine.view_draw(looking(), graph)
    graph.scene.cycles.film_exposure = 3.0
    engine.view_update(looking(), graph)
    engine.view_draw(looking(), graph)
    assert [(texture.min(), texture.max()) for texture in module.textures] == [(0.5, 1), (0.5, 1.5)]
    assert len(client.sent) == 1


WRONG = {"is": "error", "line": "scene: is wrong"}


@pytest.mark.parametrize(
    ("problem", "answers"),
    [("", [[(WRONG, {})]]), ("", [[({**WRONG, "number": None}, {})]]), ("scene: is wrong", [])],
)
def test_errors_are_reported_in_one_line(
    module: Any, monkeypatch: pytest.MonkeyPatch, problem: str, answers: Any
) -> None:
    monkeypatch.setattr(module.engine, "final_client", lambda: Scripted(*answers, problem=problem))
    engine = module.engine.RenderformerEngine()
    engine.render(a_graph())
    assert ({"ERROR"}, "scene: is wrong") in engine.reports
    assert engine.pictures == []


def test_a_scene_without_camera_a_panorama_and_escape(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    client = Scripted()
    monkeypatch.setattr(module.engine, "final_client", lambda: client)
    engine = module.engine.RenderformerEngine()
    graph = a_graph()
    graph.scene.camera.data.type = "PANO"
    engine.render(graph)
    graph.scene.camera = None
    engine.render(graph)
    lines = [line for _, line in engine.reports]
    assert lines == ["panoramic cameras are not drawn, only perspective and orthographic ones",
                     "the scene has no camera"]  # fmt: skip
    engine.stopped = True
    engine.render(a_graph())
    assert client.sent[-1] == {"do": "stop"}
    assert engine.pictures == []


def test_a_border_is_drawn_alone(module: Any) -> None:
    graph = a_graph(100)
    vars(graph.scene.render).update(use_border=True, border_min_x=0.25, border_max_x=0.75, border_min_y=0.0,
                                    border_max_y=0.5)  # fmt: skip
    view = module.engine.final_view(graph.scene, graph)
    assert view.shown == (24, 16)
    assert view.window == (12, 16, 36, 32)


def looking(turn: float = 0.0, size: tuple[int, int] = (60, 40)) -> Any:
    matrix = trimesh.transformations.rotation_matrix(turn, (0, 1, 0))
    data = SimpleNamespace(
        window_matrix=blender.projection(*size), view_matrix=SimpleNamespace(inverted=lambda: matrix)
    )
    region = SimpleNamespace(width=size[0], height=size[1])
    return SimpleNamespace(region=region, region_data=data, space_data=SimpleNamespace(hidden=()))


def test_the_viewport_asks_once_for_each_view_and_shows_the_newest_picture(
    module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Scripted([picture(0.5, False, (16, 11), (-1, 0, 63, 44))], [picture(1, True, (60, 40))])
    monkeypatch.setattr(module.engine, "Client", lambda command: client)
    monkeypatch.setattr(module.engine.preferences, "command", list)
    engine, graph = module.engine.RenderformerEngine(), a_graph()
    engine.view_update(looking(), graph)
    engine.view_draw(looking(), graph)
    engine.view_draw(looking(), graph)
    assert [message["do"] for message in client.sent] == ["frame"]
    (poll,) = module.timers
    assert poll() == module.engine.PAUSE
    assert engine.redraws == 1
    engine.view_draw(looking(), graph)
    # Cells of four pixels from the upper left corner, so that the last ones reach below the region.
    assert module.drawn[-1][1:] == ((-1, -4), 64, 44)
    assert engine.stats[-1][0] == "refining"
    poll()
    engine.view_draw(looking(), graph)
    engine.view_draw(looking(), graph)
    assert module.drawn[-1][1:] == ((0, 0), 60, 40)
    assert len(module.textures) == 2
    assert (module.textures[-1] == 1).all()
    engine.view_draw(looking(0.2), graph)
    # The same scene is not drawn again, another one is.
    engine.view_update(looking(), graph)
    engine.view_draw(looking(0.2), graph)
    assert len(client.sent) == 2
    graph.object_instances[0].object.name = "Other"
    engine.view_update(looking(), graph)
    engine.view_draw(looking(0.2), graph)
    assert len(client.sent) == 3
    del engine
    gc.collect()
    assert client.closed
    assert poll() is None


def test_a_problem_of_the_viewport_is_shown_and_a_change_tries_again(
    module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Scripted] = []

    def start(command: Any) -> Scripted:
        made.append(Scripted(problem="" if made else "renderformer has ended: out of memory"))
        return made[-1]

    monkeypatch.setattr(module.engine, "Client", start)
    monkeypatch.setattr(module.engine.preferences, "command", list)
    engine, graph = module.engine.RenderformerEngine(), a_graph()
    engine.view_update(looking(), graph)
    engine.view_draw(looking(), graph)
    assert module.timers[0]() is None
    assert engine.reports == [({"ERROR"}, "renderformer has ended: out of memory")]
    assert made[0].closed
    engine.view_draw(looking(), graph)
    assert len(made) == 1
    engine.view_update(looking(), graph)
    engine.view_draw(looking(), graph)
    assert [message["do"] for message in made[1].sent] == ["frame"]


def test_the_preferences_make_the_command(module: Any) -> None:
    preferences = importlib.import_module("renderformer.viewer.blender.preferences")
    chosen = SimpleNamespace(program=sys.executable, network=False, model="somewhere")
    module.addons[preferences.__package__] = SimpleNamespace(preferences=chosen)
    assert preferences.command() == [sys.executable, "-m", "renderformer.cli.main", "serve", "--no-network"]
    chosen.network = True
    assert preferences.command()[3:] == ["serve", "--model", "somewhere"]
    chosen.program = "/nowhere/renderformer"
    with pytest.raises(ClientError, match="correct the path in the add-on's preferences"):
        preferences.command()


def test_registering_is_undone(module: Any) -> None:
    kinds = ("BLENDER_RENDER", "CYCLES")
    panels = [type(f"Panel{number}", (blender_module.Panel,), {"COMPAT_ENGINES": {kind}})
              for number, kind in enumerate(kinds)]  # fmt: skip
    addon.register()
    assert {made.__name__ for made in module.classes} == {"RenderformerEngine", "RenderformerPreferences"}
    assert [panel.COMPAT_ENGINES for panel in panels] == [{"BLENDER_RENDER", "RENDERFORMER"}, {"CYCLES"}]  # type: ignore[attr-defined]
    addon.unregister()
    assert module.classes == []
    assert [panel.COMPAT_ENGINES for panel in panels] == [{kind} for kind in kinds]  # type: ignore[attr-defined]


@needs_blender
def test_blender_finds_the_zip_valid(zipped: Path) -> None:
    spec = importlib.util.find_spec("bpy")
    assert spec is not None
    assert spec.origin is not None
    (tool,) = Path(spec.origin).parent.rglob("bl_pkg/cli/blender_ext.py")
    checked = subprocess.run([sys.executable, tool, "validate", zipped], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@needs_blender
def test_a_scene_looks_as_cycles_draws_it(zipped: Path, tmp_path: Path) -> None:
    script = ROOT / "tests" / "helpers" / "blender_scene.py"
    settings = os.environ | {"BLENDER_USER_RESOURCES": str(tmp_path / "settings")}
    command = [sys.executable, script, zipped, tmp_path]
    made = subprocess.run(command, capture_output=True, text=True, timeout=300, env=settings)
    assert made.returncode == 0, made.stderr[-3000:]
    cycles, ours = (np.load(tmp_path / f"{name}.npy")[..., :3] for name in ("cycles", "renderformer"))
    assert cycles.shape == ours.shape == (54, 72, 3)
    np.testing.assert_allclose(ours.mean(axis=(0, 1)), cycles.mean(axis=(0, 1)), rtol=0.03)
    # Most pixels are within the noise of Cycles.
    assert np.median(np.abs(ours - cycles)) < 0.03 * cycles.mean()
    assert (tmp_path / "error.txt").read_text().startswith("Error: panoramic cameras are not drawn")
