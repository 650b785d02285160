"""Import of rendered scenes: a round trip, groups of cameras, rejected files."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from renderformer.cli.data import app
from renderformer.data.camera import Camera
from renderformer.data.errors import InputError
from renderformer.data.formats import save_scene
from renderformer.data.geometry.stages import stage_meshes
from renderformer.data.scene import Light, Material, Scene
from renderformer.data.sets.generation import generate
from renderformer.data.sets.manifest import IMPORTED_SEED, read_manifest
from renderformer.data.sets.rendered_scenes import import_scenes
from renderformer.data.sets.shards import ShardReader, verify
from renderformer.image import Image

FLOOR = stage_meshes("floor", materials={"floor": Material((0.6, 0.3, 0.1), (0.2, 0.2, 0.2), 0.3)})[0]
LIGHT = Light((0.5, -0.5, 2.0), emission=2000.0).mesh()


def cameras(count: int) -> tuple[Camera, ...]:
    return tuple(Camera.from_angles(30 * i, 20, 1.8, fov=40 + i) for i in range(count))


def picture(value: float, width: int = 8, height: int = 8) -> Image:
    pixels = np.random.default_rng(0).uniform(0, 2 * value, (height, width, 3))
    return Image(pixels.astype(np.float32))


def write(folder: Path, name: str, views: int, scene: Scene | None = None, pictures: int | None = None) -> Path:
    """A scene file with its pictures, as the original program names them; view i is about i + 1 bright."""
    folder.mkdir(exist_ok=True, parents=True)
    path = folder / name
    save_scene(scene or Scene((FLOOR, LIGHT), cameras(views)), path)
    for i in range(views if pictures is None else pictures):
        picture(i + 1).save(folder / f"{path.stem}_view_{i}.exr", half=i % 2 == 0)
    return path


def run(sources: list[Path], out: Path, *options: str) -> tuple[str, int]:
    result = CliRunner().invoke(app, ["import", *map(str, sources), "--out", str(out), *options])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        assert isinstance(result.exception, InputError)
        return str(result.exception), 1
    return result.stderr, result.exit_code


def test_scenes_and_pictures_come_back(tmp_path: Path) -> None:
    write(tmp_path / "in", "room.h5", 2)
    write(tmp_path / "in", "deep.json", 2)
    messages, code = run([tmp_path / "in"], tmp_path / "out")
    assert (code, messages.splitlines()[-1]) == (
        0, f"{tmp_path / 'out'}: 2 scenes, 4 views, 2 stored scenes; 0 files not used",
    )  # fmt: skip
    reader = ShardReader(tmp_path / "out")
    assert len(reader) == 2
    assert reader.recipe.imported
    assert (reader.recipe.views, reader.recipe.resolution, reader.recipe.spp) == (2, 8, 0)
    for i, name in enumerate(("deep", "room")):
        scene = reader.scene(i)
        assert (scene.seed, scene.stage) == (IMPORTED_SEED + i, "other")
        for view in (0, 1):
            exact = Image.load(tmp_path / "in" / f"{name}_view_{view}.exr").hdr
            assert scene.hdr[view] == pytest.approx(exact, rel=1e-3)
            assert scene.c2w[view] == pytest.approx(cameras(2)[view].c2w, abs=1e-6)
        assert scene.fov == pytest.approx([40, 41])
        rebuilt = scene.to_scene()
        assert len(rebuilt) == len(FLOOR) + 1
        assert sorted(rebuilt.triangles.ravel()) == pytest.approx(
            sorted(np.concatenate([FLOOR.triangles, LIGHT.triangles]).ravel()), abs=1e-5
        )
        assert rebuilt.materials[:, 10].max() == pytest.approx(2000, rel=1e-3)
    assert verify(tmp_path / "out") == {"shards": 1, "scenes": 2, "recorded": 0, "missing": 0}
    assert "imported" in CliRunner().invoke(app, ["info", str(tmp_path / "out")]).stdout
    with pytest.raises(InputError, match="imported scenes"):
        generate(tmp_path / "out", 4)


def test_many_scenes_fill_several_shards_and_the_last_may_be_short(tmp_path: Path) -> None:
    path = write(tmp_path / "in", "a_000.h5", 1)
    for i in range(1, 35):
        shutil.copy(path, path.with_name(f"a_{i:03d}.h5"))
        # With one camera, the picture's name needs no number.
        picture(i + 1).save(path.with_name(f"a_{i:03d}.exr"))
    run([tmp_path / "in"], tmp_path / "out")
    reader = ShardReader(tmp_path / "out")
    assert len(reader) == 35
    assert [reader.scene(i).hdr.mean() for i in (1, 31, 32, 34)] == pytest.approx([2, 32, 33, 35], rel=0.2)
    assert [path.name for path in reader.paths] == ["shard_00000.safetensors", "shard_00001.safetensors"]
    assert verify(tmp_path / "out")["scenes"] == 35


def test_scenes_with_more_cameras_are_stored_several_times(tmp_path: Path) -> None:
    write(tmp_path / "in", "few.h5", 2)
    write(tmp_path / "in", "many.h5", 5)
    messages, _ = run([tmp_path / "in"], tmp_path / "out")
    assert "many.h5: cameras 4 are fewer than 2 views and are left out" in messages
    reader = ShardReader(tmp_path / "out")
    assert [reader.scene(i).hdr[0].mean() for i in range(3)] == pytest.approx([1, 1, 3], rel=0.2)
    run([tmp_path / "in"], tmp_path / "single", "--views", "1")
    assert len(ShardReader(tmp_path / "single")) == 7
    assert run([tmp_path / "in"], tmp_path / "none", "--views", "6")[0].startswith(f"{tmp_path / 'none'}: no scene has")
    assert not (tmp_path / "none").exists()


def test_pictures_may_lie_in_another_folder(tmp_path: Path) -> None:
    write(tmp_path / "in", "room.h5", 1)
    (tmp_path / "pictures").mkdir()
    (tmp_path / "in" / "room_view_0.exr").rename(tmp_path / "pictures" / "room_view_0.exr")
    message, code = run([tmp_path / "in"], tmp_path / "out")
    assert code == 1
    assert "none of the 1 scenes can be imported" in message
    assert run([tmp_path / "in"], tmp_path / "out", "--pictures", str(tmp_path / "pictures"))[1] == 0


def test_what_cannot_be_used_is_named_and_counted(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write(folder, "good.h5", 1)
    shutil.copy(write(tmp_path, "good.json", 1), folder)
    write(folder, "no_picture.h5", 1, pictures=0)
    write(folder, "no_camera.h5", 1, Scene((FLOOR, LIGHT)), pictures=0)
    # Texels with i + j < 32, one of them of another colour.
    patch = np.triu(np.full((13, 32, 32), 0.2, np.float16))[:, :, ::-1].copy()
    patch[0, 0, 0] = 0.5
    textured = replace(FLOOR, patches=patch[None], patch_index=np.zeros(len(FLOOR), np.int32))
    write(folder, "textured.h5", 1, Scene((textured, LIGHT), cameras(1)))
    write(folder, "wide.h5", 1)
    picture(1, 12, 8).save(folder / "wide_view_0.exr")
    write(folder, "large.h5", 1)
    picture(1, 16, 16).save(folder / "large_view_0.exr")
    write(folder, "cut.h5", 1)
    content = (folder / "cut_view_0.exr").read_bytes()
    (folder / "cut_view_0.exr").write_bytes(content[: len(content) // 2])
    write(folder, "bright.h5", 1)
    picture(2e5).save(folder / "bright_view_0.exr", half=False)
    (folder / "broken.h5").write_bytes(b"\x89HDF and nothing")
    (folder / "letter.txt").write_text("not a scene")
    messages, code = run([folder], tmp_path / "out")
    assert code == 0
    lines = {
        line.split(": ")[1].rpartition("/")[2]: line for line in messages.splitlines() if line.startswith("not used")
    }
    expected = {
        "good.json": "the H5 file of the same name is used",
        "no_picture.h5": "has no usable picture, such as no_picture_view_0.exr",
        "no_camera.h5": "has no cameras",
        "textured.h5": "has texture patches",
        "wide_view_0.exr": "has 12 x 8 pixels, expected",
        "large_view_0.exr": "has 16 x 16 pixels, expected 8 x 8",
        "cut_view_0.exr": "cannot be read as EXR",
        "bright_view_0.exr": "holds light that is not finite, negative, or more than 65000",
        "broken.h5": "cannot be read as scene H5",
    }
    for name, reason in expected.items():
        assert reason in lines[name], lines
    # Scenes whose only picture is rejected are named too.
    assert {"wide.h5", "large.h5", "cut.h5", "bright.h5"} <= set(lines)
    assert messages.splitlines()[-1].endswith("1 scenes, 1 views, 1 stored scenes; 14 files not used")
    assert len(ShardReader(tmp_path / "out")) == 1


def test_nothing_is_written_into_a_folder_that_holds_something(tmp_path: Path) -> None:
    write(tmp_path / "in", "room.h5", 1)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("x")
    with pytest.raises(InputError, match="is not empty"):
        import_scenes([tmp_path / "in"], tmp_path / "out", None, None, lambda *_: None, lambda *_: None)
    with pytest.raises(InputError, match="nowhere: does not exist"):
        import_scenes([tmp_path / "nowhere"], tmp_path / "new", None, None, lambda *_: None, lambda *_: None)
    assert not (tmp_path / "new").exists()


def test_the_manifest_tells_that_they_are_imported(tmp_path: Path) -> None:
    write(tmp_path / "in", "room.h5", 1)
    run([tmp_path / "in" / "room.h5"], tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["recipe"]["imported"] is True
    assert read_manifest(tmp_path / "out").recipe.imported
    assert list(manifest["shards"]) == ["shard_00000.safetensors"]
