"""Data set shards: what goes in comes out, a stopped run goes on, damaged files are named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from renderformer.data.errors import InputError
from renderformer.data.shards import (
    HELD_OUT_SEED,
    Recipe,
    ShardReader,
    generate,
    read_recipe,
    robust_mean,
    shard_path,
)
from renderformer.data.stages import stage_kind

for package in ("mitsuba", "manifold3d", "skimage"):
    pytest.importorskip(package, reason=f"data sets need {package}: pip install renderformer[reference]")

SMALL = Recipe(seed=7, views=2, resolution=8, spp=16, batches=4, scenes_per_shard=2, max_triangles=128)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shards") / "train"
    seen: list[tuple[str, int, int]] = []
    assert generate(path, 3, SMALL, progress=lambda *step: seen.append(step)) == [0, 1]
    assert seen == [("shards", 0, 2), ("shards", 1, 2), ("shards", 2, 2)]
    return path


def test_scenes_come_back_with_their_pictures(folder: Path) -> None:
    from renderformer.data.procedural import procedural_scene
    from renderformer.data.reference import render_reference

    reader = ShardReader(folder)
    assert len(reader) == 4
    assert [reader.scene(i).seed for i in range(4)] == [7, 8, 9, 10]
    for i in (0, 3):
        stored, scene = reader.scene(i), procedural_scene(7 + i, views=2, max_triangles=128)
        assert np.array_equal(stored.triangles, scene.triangles)
        assert np.allclose(stored.normals, scene.normals, atol=5e-4)
        assert np.allclose(stored.materials, scene.materials, rtol=5e-4, atol=1e-6)
        rebuilt = stored.to_scene()
        assert [len(mesh) for mesh in rebuilt.objects] == [len(mesh) for mesh in scene.objects]
        assert np.array_equal(rebuilt.triangles, scene.triangles)
        assert rebuilt.cameras[1].fov == pytest.approx(scene.cameras[1].fov)
        assert stored.stage == stage_kind(mesh.name for mesh in scene.objects)
        assert np.array_equal(stored.c2w, np.stack([camera.c2w for camera in scene.cameras]))
        assert np.allclose(stored.fov, [camera.fov for camera in scene.cameras])
        assert stored.hdr.shape == (2, 8, 8, 3)
        picture = render_reference(scene, scene.cameras[1], 8, 8, spp=256)
        lit = picture.max(axis=-1) > 0.02
        ratio = stored.hdr[1].astype(np.float32)[lit].mean() / picture[lit].mean() if lit.any() else 1.0
        assert ratio == pytest.approx(1, abs=0.3)
    with pytest.raises(IndexError):
        reader.scene(4)


def test_a_stopped_run_goes_on_and_makes_the_same_bytes(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    shard_path(folder, 0).unlink()
    assert generate(folder, 4) == [0]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert generate(folder, 4, SMALL) == []


def test_runs_share_a_folder_by_ranges_and_by_processes(folder: Path, tmp_path: Path) -> None:
    assert generate(tmp_path / "new", 4, SMALL, shards=range(1, 9)) == [1]
    assert generate(tmp_path / "new", 6, SMALL, workers=2) == [0, 2]
    for index in (0, 1):
        assert shard_path(tmp_path / "new", index).read_bytes() == shard_path(folder, index).read_bytes()


def test_a_reader_sees_new_shards_when_asked(tmp_path: Path) -> None:
    generate(tmp_path, 2, SMALL)
    reader = ShardReader(tmp_path)
    generate(tmp_path, 4)
    assert len(reader) == 2
    assert reader.refresh() == 4
    assert reader.scene(3).seed == 10


def test_another_recipe_is_refused_in_the_same_folder(folder: Path) -> None:
    with pytest.raises(InputError, match="spp is 16 there and 64 here"):
        generate(folder, 4, Recipe(**{**SMALL.__dict__, "spp": 64}))


def test_manifest_tells_recipe_and_versions(folder: Path) -> None:
    content = json.loads((folder / "manifest.json").read_text())
    assert content["recipe"]["seed"] == 7
    assert content["digest"] == SMALL.digest
    assert {"mitsuba", "numpy", "renderformer"} <= set(content["versions"])
    assert read_recipe(folder) == SMALL


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "shape", "missing key", "nan"])
def test_a_damaged_shard_is_named(folder: Path, tmp_path: Path, damage: str) -> None:
    (tmp_path / "manifest.json").write_bytes((folder / "manifest.json").read_bytes())
    path, good = shard_path(tmp_path, 0), shard_path(folder, 0).read_bytes()
    if damage in ("truncated", "empty", "text"):
        path.write_bytes({"truncated": good[: len(good) // 2], "empty": b"", "text": b"not a zip\n"}[damage])
    else:
        with np.load(shard_path(folder, 0)) as file:
            arrays = dict(file)
        if damage == "shape":
            arrays["hdr"] = arrays["hdr"][:, :1]
        elif damage == "missing key":
            del arrays["fov"]
        else:
            arrays["hdr"][0, 0, 0, 0] = np.nan
        np.savez(path, **arrays)
    with pytest.raises(InputError, match=r"shard_00000\.npz"):
        ShardReader(tmp_path).scene(0)


@pytest.mark.parametrize("text", ["", "[]", '{"format": 99}', '{"format": 1, "recipe": {"seed": 1}}'])
def test_a_damaged_manifest_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(InputError, match=r"manifest\.json"):
        ShardReader(tmp_path)


def test_missing_or_unwritable_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="renderformer data generate"):
        ShardReader(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file"):
        generate(tmp_path / "file", 2, SMALL)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"views": 0}, "views is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"spp": 10}, "does not split"),
        ({"spp": 48}, "square"),
    ],
)
def test_recipes_that_cannot_be_are_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Recipe(**{**SMALL.__dict__, **change})


def test_held_out_seeds_are_beyond_all_training_seeds() -> None:
    # A million shards of the default size end below.
    assert 1_000_000 * Recipe().scenes_per_shard < HELD_OUT_SEED


def test_robust_mean_drops_fireflies_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    batches = rng.uniform(0.4, 0.6, (4, 5, 6, 3)).astype(np.float32)
    assert robust_mean(batches) == pytest.approx(batches.mean(axis=0), rel=1e-5)
    spoilt = batches.copy()
    spoilt[2, 1, 3] += 50
    expected = batches.mean(axis=0)
    expected[1, 3] = batches[[0, 1, 3], 1, 3].mean(axis=0)
    assert robust_mean(spoilt) == pytest.approx(expected, rel=1e-5)
    # A light that all pictures see stays.
    assert robust_mean(np.full((4, 1, 1, 3), 5000.0, np.float32)) == pytest.approx(5000.0)
    assert robust_mean(spoilt[2:3]) == pytest.approx(spoilt[2])


def test_command_line_makes_a_data_set(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from renderformer.cli.data import app

    arguments = ["generate", str(tmp_path / "set"), "--scenes", "1", "--scenes-per-shard", "1", "--views", "1"]
    arguments += ["--resolution", "8", "--spp", "16", "--max-triangles", "100", "--held-out"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "made 1 shards of 1 scenes x 1 views" in result.stderr
    assert ShardReader(tmp_path / "set").scene(0).seed == HELD_OUT_SEED
    wrong = CliRunner().invoke(app, [*arguments, "--batches", "3"])
    assert wrong.exit_code == 1
    assert "does not split" in wrong.stderr
    assert CliRunner().invoke(app, [*arguments, "--shards", "5"]).exit_code == 2
