"""The committed example assets are those of the script, closed, small and renderable."""

from __future__ import annotations

import importlib.util
import runpy
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from renderformer.check import check_scene
from renderformer.config import V1
from renderformer.data.formats import load_scene
from renderformer.data.geometry.triangles import merge_corners
from renderformer.data.scene import Mesh

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
MESHES = sorted(path for path in (EXAMPLES / "assets").glob("*.*") if path.suffix != ".mtl")
STILL_LIFE = EXAMPLES / "still_life.json"
# The still life has an environment, which V1 models do not know.
SCENES = sorted(path for path in EXAMPLES.glob("*.json") if path != STILL_LIFE)


def open_edges(mesh: Mesh) -> int:
    corners = merge_corners(mesh.triangles)
    start, end = corners.ravel(), np.roll(corners, -1, axis=1).ravel()
    edges, count = np.unique(np.sort(np.stack([start, end], axis=1), axis=1), axis=0, return_counts=True)
    forward = np.bincount(
        np.unique(np.sort(np.stack([start, end], axis=1), axis=1), axis=0, return_inverse=True)[1].ravel(),
        np.where(start < end, 1, -1),
    )
    return int(((count != 2) | (forward != 0)).sum()) if len(edges) else 0


def volume(mesh: Mesh) -> float:
    a, b, c = mesh.triangles.astype(np.float64).swapaxes(0, 1)
    return float(np.einsum("nk,nk->", a, np.cross(b, c)) / 6)


def test_there_is_variety_and_it_is_small() -> None:
    assert {path.suffix for path in MESHES} >= {".glb", ".obj", ".ply", ".stl", ".off"}
    assert len(SCENES) >= 3
    files = [path for path in EXAMPLES.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(path.stat().st_size for path in files) < 1.5e6


@pytest.mark.parametrize("path", MESHES, ids=lambda path: path.name)
def test_bodies_are_closed_and_turned_outward(path: Path) -> None:
    scene = load_scene(path, stage="raw")
    for mesh in scene.objects:
        if path.stem == "stage":
            continue
        assert open_edges(mesh) == 0, mesh.name
        assert volume(mesh) > 0, mesh.name


@pytest.mark.parametrize("path", [*MESHES, *SCENES], ids=lambda path: path.name)
def test_each_loads_into_the_range_of_v1_models(path: Path) -> None:
    scene = load_scene(path, **({"trained": V1} if path in MESHES else {}))
    assert check_scene(scene, V1) == []
    assert len(scene) <= 4096
    assert not any("simplified" in note or "dropped" in note for note in scene.notes)
    assert scene.cameras


def test_the_still_life_has_matter_and_surroundings() -> None:
    scene = load_scene(STILL_LIFE)
    assert scene.notes == ()
    assert scene.environment is not None
    looks = {mesh.name: mesh.appearance for mesh in scene.objects}
    clear = [name for name, look in looks.items() if look is not None and look.see_through.any()]
    assert clear == ["leaf", "second leaf"]
    floor, crate = looks["floor"], looks["crate"]
    assert floor is not None
    assert floor.materials[0].textures.normal is not None
    assert crate is not None
    assert crate.materials[0].textures.base is not None
    # A metal is in the specular channels.
    ball = next(mesh for mesh in scene.objects if mesh.name == "ball")
    np.testing.assert_allclose(ball.materials[0, :6], [0, 0, 0, 1, 0.78, 0.36], atol=1e-6)


def test_materials_of_the_files_arrive() -> None:
    knot = load_scene(EXAMPLES / "assets" / "knot.glb", stage="raw").objects[0]
    assert knot.name == "knot"
    assert knot.materials[0, 3] == pytest.approx(0.04 * 0.7 + 0.82 * 0.3, rel=1e-3)
    # The knot stands upright in the file's Z-up frame.
    assert np.ptp(knot.triangles[..., 2]) > 1.5 * np.ptp(knot.triangles[..., 1])
    sign = {mesh.name: mesh for mesh in load_scene(EXAMPLES / "assets" / "sign.obj", stage="raw").objects}
    assert set(sign) == {"letters", "board"}
    np.testing.assert_allclose(sign["letters"].materials[0, :3], [0.75, 0.08, 0.05], atol=1e-6)
    blobs = load_scene(EXAMPLES / "assets" / "blobs.ply", stage="raw").objects[0]
    assert len(np.unique(blobs.materials[:, 0])) > 100


def _script() -> ModuleType:
    pytest.importorskip("manifold3d", reason="building the examples needs the extra `reference`")
    pytest.importorskip("skimage", reason="building the examples needs the extra `reference`")
    spec = importlib.util.spec_from_file_location("build_examples", ROOT / "scripts" / "build_examples.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_building_twice_gives_the_same_bytes_and_what_is_committed(tmp_path: Path) -> None:
    script = _script()
    for name in ("one", "two"):
        script.build(tmp_path / name)
    built = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert built
    for path in built:
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes(), path
        assert (EXAMPLES / path).is_file(), path
        if path.suffix in (".obj", ".glb", ".ply", ".stl", ".off"):
            # Other versions of the libraries may round differently, so the committed file is compared by shape.
            rebuilt, committed = (load_scene(folder / path, stage="raw") for folder in (tmp_path / "one", EXAMPLES))
            assert len(rebuilt) == len(committed), path
            np.testing.assert_allclose(rebuilt.triangles, committed.triangles, atol=1e-4)


@pytest.mark.parametrize("name", ["render", "orbit", "edit_material"])
def test_example_programs_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a fake renderer, so only the program and the scenes are tested."""
    import renderformer as rf

    class Blank:
        def encode(self, scene: rf.Scene) -> rf.Scene:
            return scene

        def render(self, scene: rf.Scene, resolution: int, cameras: list[rf.Camera] | None = None) -> list[rf.Image]:
            views = scene.cameras if cameras is None else cameras
            return [rf.Image(np.full((resolution, resolution, 3), 0.5, np.float32), view) for view in views]

    class Source:
        @staticmethod
        def from_pretrained() -> Blank:
            return Blank()

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(rf, "Renderer", Source, raising=False)
    runpy.run_path(str(EXAMPLES / f"{name}.py"))
    assert sum(path.stat().st_size > 100 for path in tmp_path.iterdir()) >= 1
