"""Shards: a round trip, stopped and parallel runs, conversion, damaged files, the command line."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, load_file, save, save_file
from typer.testing import CliRunner

from renderformer.cli.data import app
from renderformer.data.appearance import Appearance
from renderformer.data.camera import Camera
from renderformer.data.environment import Environment, Sun
from renderformer.data.errors import InputError
from renderformer.data.geometry.stages import stage_kind
from renderformer.data.material import Textures
from renderformer.data.scene import Material, Mesh, Scene
from renderformer.data.sets.conversion import NEW, convert_set
from renderformer.data.sets.details import MAX_BYTES, packed, unpacked
from renderformer.data.sets.generation import generate, robust_mean
from renderformer.data.sets.manifest import (
    FORMAT,
    HELD_OUT_SEED,
    IMPORTED_SEED,
    Recipe,
    read_manifest,
    write_manifest,
)
from renderformer.data.sets.shards import (
    STAGES,
    ShardReader,
    as_stored,
    pack_scenes,
    read_shard,
    scene_of,
    shard_path,
    verify,
    write_shard,
)
from renderformer.data.texture import Texture

for package in ("mitsuba", "manifold3d", "skimage"):
    pytest.importorskip(package, reason=f"data sets need {package}: pip install renderformer[reference]")

SMALL = Recipe(seed=7, views=2, resolution=8, spp=16, batches=4, scenes_per_shard=2, max_triangles=128)
OPTIONS = [f"--{key.replace('_', '-')}={value}" for key, value in SMALL.model_dump().items() if key != "imported"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shards") / "train"
    steps: list[tuple[str, int, int]] = []
    assert generate(path, 3, SMALL, progress=lambda *step: steps.append(step)) == [0, 1]
    assert steps == [("shards", 0, 2), ("shards", 1, 2), ("shards", 2, 2)]
    return path


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_scenes_come_back_with_their_pictures(folder: Path) -> None:
    from renderformer.data.sets.mitsuba import render_reference
    from renderformer.data.sets.procedural_scenes import procedural_scene

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


def test_reading_a_scene_and_reading_a_shard_agree(folder: Path) -> None:
    reader = ShardReader(folder)
    for shard in (0, 1):
        arrays = read_shard(shard_path(folder, shard), SMALL)
        for i in (0, 1):
            scene, same = reader.scene(2 * shard + i), scene_of(arrays, i)
            assert (scene.seed, scene.stage) == (same.seed, same.stage)
            for key in ("triangles", "normals", "materials", "sizes", "c2w", "fov", "hdr"):
                assert np.array_equal(getattr(scene, key), getattr(same, key))
                assert getattr(scene, key).dtype == getattr(same, key).dtype


def painted_scene() -> Scene:
    """Everything that a material can have, a mesh with two materials, vertex colours, an environment."""
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (5, 7, channels), np.uint8) for channels in (3, 4, 3)]
    base = Texture(pictures[0], matrix=np.array([[2.0, 0.1, 0.3], [0, 1, 0]]), wrap=("mirror", "clamp"), uv_set=1)
    leaf = Material((1.0, 0.9, 0.8), textures=Textures(Texture(pictures[1])), alpha_cutoff=0.3, two_sided=True)
    metal = Material(
        (0.1, 0.2, 0.7), (0.04, 0.04, 0.04), 0.3, metallic=0.9, normal_scale=0.7, alpha=0.6,
        textures=Textures(base, Texture(pictures[2], srgb=False), normal=Texture(pictures[2], srgb=False)),
    )  # fmt: skip
    triangles = rng.random((4, 3, 3)).astype(np.float32)
    both = Appearance((leaf, metal), np.array([0, 1, -1, 1]), rng.random((4, 3, 2, 2)))
    tinted = Appearance.of(Material(), np.zeros((4, 3, 0, 2)), rng.random((4, 3, 4)))
    tangents = np.tile(np.array([1, 0, 0, -1], np.float32), (4, 3, 1))
    lamp = Mesh("lamp", triangles + 1, materials=Material(emission=(3, 4, 5)).row(), two_sided=np.arange(4) > 1)
    sky = Environment(rng.random((3, 4, 3)), 0.7, 33.0, "invisible", (Sun((0, 0, 1), (1.5, 2, 3), 0.9),), "sky", ("a",))
    objects = (
        Mesh("both", triangles, appearance=both),
        Mesh("tinted", triangles, appearance=replace(tinted, tangents=tangents)),
        lamp,
    )
    cameras = (Camera.look_at((3, 3, 3), fov=41.3, name="left"), Camera.look_at((0, 3, 3), name="right"))
    return Scene(objects, cameras, "painted", environment=sky)


def test_textures_colours_environment_and_names_come_back_exactly(tmp_path: Path) -> None:
    painted, plain = (
        as_stored(painted_scene()),
        as_stored(Scene((Mesh("m", np.eye(3)[None]),), painted_scene().cameras)),
    )
    for scene in (painted, plain):
        assert all(np.array_equal(getattr(as_stored(scene), k), getattr(scene, k)) for k in ("normals", "materials"))
    recipe = Recipe(views=2, resolution=3, spp=4, batches=1, scenes_per_shard=3)
    write_manifest(tmp_path, recipe, {})
    scenes = [(scene, number, 0) for number, scene in enumerate((painted, plain, painted))]
    write_shard(shard_path(tmp_path, 0), pack_scenes(scenes, [np.zeros((2, 3, 3, 3), np.float32)] * 3))
    for number, (scene, _, _) in enumerate(scenes):
        back = ShardReader(tmp_path).scene(number).to_scene()
        assert back.name == scene.name
        assert [mesh.name for mesh in back.objects] == [mesh.name for mesh in scene.objects]
        assert [(c.name, c.fov) for c in back.cameras] == [(c.name, c.fov) for c in scene.cameras]
        for mesh, same in zip(back.objects, scene.objects, strict=True):
            for key in ("triangles", "normals", "materials"):
                assert np.array_equal(getattr(mesh, key), getattr(same, key))
            assert np.array_equal(mesh.two_sided, same.two_sided)
            if same.appearance is None or mesh.appearance is None:
                assert same.appearance is mesh.appearance
                continue
            assert mesh.appearance.digest == same.appearance.digest
            for a, b in zip(mesh.appearance.materials, same.appearance.materials, strict=True):
                # Pixels are compared by the digest.
                assert replace(a, textures=Textures()) == replace(b, textures=Textures())
    assert painted.environment is not None
    again = ShardReader(tmp_path).scene(2).to_scene().environment
    assert again is not None
    assert np.array_equal(again.image, painted.environment.image)
    assert replace(again, image=1.0).suns == painted.environment.suns
    for key in ("strength", "rotation", "background", "name", "notes"):
        assert getattr(again, key) == getattr(painted.environment, key)


@pytest.mark.parametrize("damage", ["a bit", "no end", "text", "a bomb", "no table", "a number", "a picture"])
def test_damaged_details_are_refused(damage: str) -> None:
    good = packed(painted_scene())
    arrays = load(zlib.decompress(good))
    if damage == "a bit":
        content = good[:50] + bytes([good[50] ^ 255]) + good[51:]
    elif damage == "no end":
        content = good[: len(good) // 2]
    elif damage == "text":
        content = b"not zlib"
    elif damage == "a bomb":
        content = zlib.compress(bytes(MAX_BYTES + 1))
    elif damage == "no table":
        content = zlib.compress(save({key: value for key, value in arrays.items() if key != "scene"}))
    elif damage == "a number":
        table = json.loads(arrays["scene"].tobytes()) | {"materials": [{"roughness": "rough", "textures": {}}]}
        content = zlib.compress(save(arrays | {"scene": np.frombuffer(json.dumps(table).encode(), np.uint8)}))
    else:
        content = zlib.compress(save(arrays | {"texture0": np.zeros((2, 2), np.uint8)}))
    with pytest.raises(InputError):
        unpacked(content)


def test_texture_patches_are_refused() -> None:
    patches = np.zeros((1, 13, 32, 32), np.float16)
    mesh = Mesh("m", np.eye(3)[None], patches=patches, patch_index=np.zeros(1, np.int32))
    with pytest.raises(InputError, match="object 'm': has texture patches"):
        packed(Scene((mesh,)))


class Pictures:
    """A torch data set over the reader."""

    def __init__(self, folder: Path) -> None:
        self.reader = ShardReader(folder)

    def __len__(self) -> int:
        return len(self.reader)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.reader.scene(index).hdr


def test_worker_processes_of_torch_read_the_same_arrays(folder: Path) -> None:
    from torch.utils.data import DataLoader

    pictures = Pictures(folder)
    loader: Any = DataLoader(pictures, batch_size=2, num_workers=2)  # type: ignore[arg-type]
    assert np.array_equal(np.concatenate(list(loader)), np.stack([pictures[i] for i in range(4)]))


def test_a_reader_keeps_no_pictures_and_no_open_files(folder: Path, tmp_path: Path) -> None:
    """50,000 scenes are 1,563 shards: more than a process may hold open, or in memory."""
    import pickle

    for i in range(40):
        os.link(shard_path(folder, i % 2), shard_path(tmp_path, i))
    shutil.copy(folder / "manifest.json", tmp_path)
    reader, open_files = ShardReader(tmp_path), len(os.listdir("/proc/self/fd")) if os.path.exists("/proc") else 0
    for i in range(len(reader)):
        reader.scene(i)
    if open_files:
        assert len(os.listdir("/proc/self/fd")) == open_files
    # The pickled reader shows what it stores: less than 4 KB for each shard of 28 KB.
    assert len(pickle.dumps(reader)) < 40 * 4096


def test_a_stopped_run_goes_on_and_makes_the_same_bytes(folder: Path) -> None:
    before = contents(folder)
    shard_path(folder, 0).unlink()
    assert generate(folder, 4) == [0]
    assert contents(folder) == before
    assert generate(folder, 4, SMALL) == []


def test_a_run_killed_at_any_moment_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    program = "from renderformer.cli.main import main; main()"
    command = [sys.executable, "-c", program, "data", "generate", "--scenes", "8", *OPTIONS, "--out"]
    assert generate(tmp_path / "whole", 8, SMALL) == [0, 1, 2, 3]
    killed = 0
    for shards, workers in ((0, "1"), (2, "2")):
        process = subprocess.Popen(
            [*command, str(tmp_path / "killed"), "--workers", workers], stderr=subprocess.DEVNULL, process_group=0
        )
        until = time.monotonic() + 60
        folder = tmp_path / "killed"
        while len(list(folder.glob("shard_*"))) < shards or not folder.exists():
            assert time.monotonic() < until, process.poll()
            time.sleep(0.005)
        # Kill only the parent, as `kill -9` does; its workers end by themselves.
        killed += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert killed
    (folder / ".shard_00003.0011aabb.tmp.safetensors").write_bytes(b"half a shard")
    # Make all temporary files old; `generate` keeps young ones, which another machine may be writing.
    for temporary in folder.glob(".shard_*"):
        with contextlib.suppress(FileNotFoundError):
            os.utime(temporary, (0, 0))
    generate(folder, 8, SMALL)
    until = time.monotonic() + 10
    while contents(folder) != contents(tmp_path / "whole") and time.monotonic() < until:
        time.sleep(0.1)
    assert contents(folder) == contents(tmp_path / "whole")


def test_machines_and_processes_share_a_folder(folder: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    assert generate(new, 6, SMALL, machine=(2, 2)) == [1]
    assert verify(new) == {"shards": 1, "scenes": 2, "recorded": 0, "missing": 1}
    assert generate(new, 6, SMALL, workers=2, machine=(1, 2)) == [0, 2]
    assert verify(new) == {"shards": 3, "scenes": 6, "recorded": 0, "missing": 0}
    for index in (0, 1):
        assert shard_path(new, index).read_bytes() == shard_path(folder, index).read_bytes()
    for wrong in ((0, 2), (3, 2)):
        with pytest.raises(InputError, match=f"machine {wrong[0]} of 2"):
            generate(new, 6, machine=wrong)


def test_a_reader_sees_new_shards_when_asked(tmp_path: Path) -> None:
    generate(tmp_path, 2, SMALL)
    reader = ShardReader(tmp_path)
    generate(tmp_path, 4)
    assert len(reader) == 2
    assert reader.refresh() == 4
    assert reader.scene(3).seed == 10


def test_another_recipe_is_refused_in_the_same_folder(copied: Path) -> None:
    with pytest.raises(InputError, match="spp is 16 there and 64 here"):
        generate(copied, 4, SMALL.replace(spp=64))
    manifest = json.loads((copied / "manifest.json").read_text())
    manifest["versions"]["manifold3d"] = "1.0"
    (copied / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r"version of manifold3d is 1\.0 there"):
        generate(copied, 4)


def test_a_set_with_the_users_meshes_goes_on_only_with_the_same_ones(tmp_path: Path) -> None:
    import trimesh

    (tmp_path / "meshes").mkdir()
    trimesh.creation.icosphere(2).export(tmp_path / "meshes" / "ball.ply")
    trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]]).export(tmp_path / "meshes" / "flat.ply")

    def run(out: str, scenes: int, *more: str) -> Any:
        arguments = ["generate", "--out", str(tmp_path / out), "--scenes", str(scenes), *OPTIONS, *more]
        return CliRunner().invoke(app, arguments)

    meshes = ("--meshes", str(tmp_path / "meshes"))
    result = run("one", 2, *meshes)
    assert "not used: flat.ply: is not closed" in result.stderr
    assert "1 meshes used, 1 not" in result.stderr
    assert run("one", 4, *meshes).exit_code == 0
    assert run("two", 4, *meshes, "--workers", "2").exit_code == 0
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert list(read_manifest(tmp_path / "one").meshes) == ["ball.ply"]
    generate(tmp_path / "without", 4, SMALL)
    shards = [shard_path(tmp_path / name, 1).read_bytes() for name in ("one", "without")]
    assert shards[0] != shards[1]
    assert "mesh ball.ply" in str(run("one", 6).exception)
    trimesh.creation.icosphere(1).export(tmp_path / "meshes" / "ball.ply")
    assert "mesh ball.ply" in str(run("one", 6, *meshes).exception)
    assert "mesh ball.ply" in str(run("without", 6, *meshes).exception)


def test_manifest_tells_recipe_versions_and_hashes(folder: Path) -> None:
    content = json.loads((folder / "manifest.json").read_text())
    assert content["recipe"]["seed"] == 7
    assert content["digest"] == SMALL.digest
    assert {"mitsuba", "numpy", "renderformer"} <= set(content["versions"])
    assert read_manifest(folder).recipe == SMALL
    if shutil.which("sha256sum"):
        for name, digest in content["shards"].items():
            assert subprocess.check_output(["sha256sum", folder / name], text=True).split()[0] == digest
    assert sorted(content["shards"]) == ["shard_00000.safetensors", "shard_00001.safetensors"]


def test_a_manifest_without_imported_and_hashes_is_read(copied: Path) -> None:
    manifest = json.loads((copied / "manifest.json").read_text())
    del manifest["recipe"]["imported"], manifest["shards"]
    (copied / "manifest.json").write_text(json.dumps(manifest))
    assert ShardReader(copied).scene(0).seed == 7
    assert verify(copied)["recorded"] == 2
    assert verify(copied)["recorded"] == 0
    assert generate(copied, 4, SMALL) == []
    # Prepared features beside such a set are found by this digest.
    assert Recipe(spp=36).digest == "31199bf3d7e97915"


def test_verify_finds_a_changed_bit_another_file_and_a_lost_one(copied: Path) -> None:
    path = shard_path(copied, 1)
    good = path.read_bytes()
    spoilt = bytearray(good)
    spoilt[len(good) // 2] ^= 1
    path.write_bytes(spoilt)
    with pytest.raises(InputError, match=r"shard_00001\.safetensors: has another hash than in the manifest"):
        verify(copied)
    path.write_bytes(shard_path(copied, 0).read_bytes())
    with pytest.raises(InputError, match=r"shard_00001\.safetensors: has another hash than in the manifest"):
        verify(copied)
    path.unlink()
    with pytest.raises(InputError, match=r"shard_00001\.safetensors: recorded in the manifest, but missing"):
        verify(copied)


def as_format(number: int, folder: Path, old: Path) -> None:
    """The set of `folder` in format 2, shards as uncompressed npz, or 3: without what is new since."""
    old.mkdir()
    manifest = json.loads((folder / "manifest.json").read_text()) | {"format": number, "shards": {}}
    for path in sorted(folder.glob("shard_*")):
        arrays = {key: values for key, values in load_file(path).items() if key not in NEW}
        target = old / (f"{path.stem}.npz" if number == 2 else path.name)
        if number == 2:
            np.savez(target, allow_pickle=False, **arrays)
        else:
            save_file(arrays, target)
        manifest["shards"][target.name] = hashlib.sha256(target.read_bytes()).hexdigest()
    (old / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("number", [2, 3])
def test_a_set_of_an_old_format_is_converted_to_the_same_arrays(folder: Path, tmp_path: Path, number: int) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    as_format(number, folder, old)
    remedy = f"format {number}; convert it with `renderformer data convert {old} --out NEW`"
    with pytest.raises(InputError, match=remedy):
        ShardReader(old)
    before = contents(old)
    result = CliRunner().invoke(app, ["convert", str(old), "-o", str(new)])
    assert result.stderr == f"{new}: 2 shards, 2 of them converted now\n"
    assert contents(old) == before
    first = contents(new)
    for i in range(4):
        scene, same = ShardReader(new).scene(i), ShardReader(folder).scene(i)
        for key in ("triangles", "normals", "materials", "two_sided", "sizes", "c2w", "fov", "hdr"):
            assert np.array_equal(getattr(scene, key), getattr(same, key))
        # Old shards hold no names.
        assert scene.to_scene().objects[0].name == "object_0"
    assert verify(new)["recorded"] == 0
    # A killed run has made some shards and recorded no hashes.
    shard_path(new, 1).unlink()
    manifest = json.loads((new / "manifest.json").read_text())
    del manifest["shards"]
    (new / "manifest.json").write_text(json.dumps(manifest))
    assert convert_set(old, new) == {"shards": 2, "converted": 1}
    assert contents(new) == first
    # Scenes can be added to it.
    assert generate(new, 6, SMALL) == [2]


def test_what_cannot_be_converted_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"manifest\.json: has format 4; only data sets of the formats 2"):
        convert_set(folder, tmp_path / "new")
    old = tmp_path / "old"
    as_format(2, folder, old)
    generate(tmp_path / "other", 2, SMALL.replace(seed=8))
    with pytest.raises(InputError, match="other: holds another data set"):
        convert_set(old, tmp_path / "other")
    path = old / "shard_00001.npz"
    path.write_bytes((old / "shard_00000.npz").read_bytes())
    with pytest.raises(InputError, match=r"shard_00001\.npz: has another hash than in the manifest"):
        convert_set(old, tmp_path / "new")
    manifest = json.loads((old / "manifest.json").read_text())
    del manifest["shards"][path.name]
    (old / "manifest.json").write_text(json.dumps(manifest))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"shard_00001\.npz: not a readable shard"):
        convert_set(old, tmp_path / "new")
    path.unlink()
    (old / "shard_00000.npz").unlink()
    with pytest.raises(InputError, match=r"shard_00000\.npz: recorded in the manifest, but missing"):
        convert_set(old, tmp_path / "new")


def test_a_recipe_with_another_digest_is_refused(copied: Path) -> None:
    content = json.loads((copied / "manifest.json").read_text())
    content["recipe"]["views"] = 3
    (copied / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"manifest\.json: digest is"):
        ShardReader(copied)


DAMAGE = [
    "truncated",
    "empty",
    "text",
    "shape",
    "dtype",
    "missing key",
    "nan",
    "offsets",
    "sizes",
    "stage",
    "detail offsets",
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_shard_is_named(folder: Path, tmp_path: Path, damage: str) -> None:
    (tmp_path / "manifest.json").write_bytes((folder / "manifest.json").read_bytes())
    path, good = shard_path(tmp_path, 0), shard_path(folder, 0).read_bytes()
    if damage in ("truncated", "empty", "text"):
        path.write_bytes({"truncated": good[: len(good) // 2], "empty": b"", "text": b"no header\n"}[damage])
    else:
        arrays = load_file(shard_path(folder, 0))
        if damage == "shape":
            arrays["hdr"] = arrays["hdr"][:, :1]
        elif damage == "dtype":
            arrays["triangles"] = arrays["triangles"].astype(np.float64)
        elif damage == "missing key":
            del arrays["fov"]
        elif damage == "nan":
            arrays["hdr"][0, 0, 0, 0] = np.nan
        elif damage == "offsets":
            arrays["offsets"][1] = arrays["offsets"][2] + 5
        elif damage == "sizes":
            arrays["sizes"][0] += 1
        elif damage == "detail offsets":
            arrays["detail_offsets"][1] = len(arrays["details"]) + 1
        elif damage == "stage":
            arrays["stages"][0] = 99
        save_file(arrays, path)
    with pytest.raises(InputError, match=r"shard_00000\.safetensors"):
        ShardReader(tmp_path).scene(0)
    with pytest.raises(InputError, match=r"shard_00000\.safetensors"):
        read_shard(path, SMALL)


WHOLE = SMALL.model_dump()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"format": 99}',
        '{"format": 1, "recipe": {"seed": 1}}',
        json.dumps({"format": FORMAT, "recipe": {"seed": 1}}),
        json.dumps({"format": FORMAT, "recipe": WHOLE | {"views": "4"}}),
        json.dumps({"format": FORMAT, "recipe": WHOLE, "shards": ["shard_00000.safetensors"]}),
    ],
)
def test_a_damaged_manifest_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(InputError, match=r"manifest\.json"):
        ShardReader(tmp_path)


def test_missing_or_unwritable_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="renderformer data generate --out"):
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
        ({"imported": True}, "spp is 16; expected 0"),
    ],
)
def test_invalid_recipes_are_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SMALL.replace(**change)


def test_training_and_held_out_seeds_never_meet(tmp_path: Path) -> None:
    edges = (0, 1, HELD_OUT_SEED - 64, HELD_OUT_SEED, HELD_OUT_SEED + 99, IMPORTED_SEED - 64)
    kinds = {}
    for seed in edges:
        recipe = Recipe(seed=seed)
        recipe.check_range(64)
        kinds[seed] = recipe.held_out
    assert [kinds[seed] for seed in edges] == [False, False, False, True, True, True]
    for seed in (HELD_OUT_SEED - 63, HELD_OUT_SEED - 1, IMPORTED_SEED - 63, IMPORTED_SEED):
        with pytest.raises(InputError, match="not of one kind"):
            Recipe(seed=seed).check_range(64)
        # Two shards of 32 for 33 scenes.
        with pytest.raises(InputError, match="not of one kind"):
            generate(tmp_path / "set", 33, Recipe(seed=seed))
    assert not (tmp_path / "set").exists()
    unknown = {"imported": True, "spp": 0, "batches": 0, "depth": 0, "max_triangles": 0}
    Recipe(seed=IMPORTED_SEED, **unknown).check_range(10**6)
    with pytest.raises(InputError, match="not of one kind"):
        Recipe(seed=5, **unknown).check_range(1)


def test_robust_mean_drops_fireflies_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    batches = rng.uniform(0.4, 0.6, (4, 5, 6, 3)).astype(np.float32)
    assert robust_mean(batches) == pytest.approx(batches.mean(axis=0), rel=1e-5)
    spoilt = batches.copy()
    spoilt[2, 1, 3] += 50
    expected = batches.mean(axis=0)
    expected[1, 3] = batches[[0, 1, 3], 1, 3].mean(axis=0)
    assert robust_mean(spoilt) == pytest.approx(expected, rel=1e-5)
    # A light in all pictures stays.
    assert robust_mean(np.full((4, 1, 1, 3), 5000.0, np.float32)) == pytest.approx(5000.0)
    assert robust_mean(spoilt[2:3]) == pytest.approx(spoilt[2])


def test_encoding_error_is_the_measured_error() -> None:
    from renderformer.data.sets.summary import encoding_error

    rng = np.random.default_rng(0)
    # Radiance as in pictures: most of it below 1, some lamps, some black.
    exact = np.exp(rng.normal(-1.5, 1.5, 100_000)) * (rng.random(100_000) < 0.7)
    stored = exact.astype(np.float16)
    shown = [np.clip(v.astype(float), 0, 1) ** (1 / 2.2) for v in (exact, stored)]
    assert encoding_error(stored) == pytest.approx(((shown[0] - shown[1]) ** 2).mean(), rel=0.05)


def test_command_line_generates_describes_and_verifies_a_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "set"
    arguments = ["generate", "--out", str(out), "--scenes", "1", "--scenes-per-shard", "1", "--views", "1"]
    arguments += ["--resolution", "8", "--spp", "16", "--max-triangles", "100", "--held-out"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "shards 1 of 1, under 1 min gone, under 1 min left" in result.stderr
    assert "made 1 shards of 1 scenes x 1 views" in result.stderr
    assert ShardReader(out).scene(0).seed == HELD_OUT_SEED
    info = CliRunner().invoke(app, ["info", str(out), "--json"])
    assert info.exit_code == 0, info.output
    facts = json.loads(info.stdout)
    assert facts["source"] == "held out"
    assert facts["bytes per view"] == shard_path(out, 0).stat().st_size
    assert facts["of these pictures"] == 8 * 8 * 3 * 2
    assert 60 < facts["half floats cost, dB"] < 120
    assert "camera distance" in CliRunner().invoke(app, ["info", str(out)]).stdout
    assert facts["scenes by stage"].keys() <= set(STAGES)
    assert "scenes with" in facts
    picture = tmp_path / "sheet.npy"
    assert CliRunner().invoke(app, ["info", str(out), "--sheet", str(picture)]).exit_code == 0
    assert np.array_equal(np.load(picture), ShardReader(out).scene(0).hdr[0].astype(np.float32))
    sound = CliRunner().invoke(app, ["verify", str(out)])
    assert "1 shards with 1 scenes are sound" in sound.stdout
    wrong = CliRunner().invoke(app, [*arguments, "--batches", "3"])
    assert isinstance(wrong.exception, InputError)
    assert "does not split" in str(wrong.exception)
    monkeypatch.setitem(sys.modules, "mitsuba", None)
    missing = CliRunner().invoke(app, [*arguments[:2], str(tmp_path / "new"), *arguments[3:]])
    assert isinstance(missing.exception, InputError)
    assert str(missing.exception).startswith("reference pictures: Mitsuba 3 is not installed")
    for machine in ("5", "0/2", "3/2", "a/b"):
        assert CliRunner().invoke(app, [*arguments, "--machine", machine]).exit_code == 2
    assert read_manifest(out).shards.keys() == {"shard_00000.safetensors"}
