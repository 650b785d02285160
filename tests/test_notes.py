"""Notes: all of them in the scene, in JSON and with --verbose; at most the two that matter on the screen."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import trimesh
from helpers.command import Run
from PIL import Image as Pillow

from renderformer.check import check_scene
from renderformer.data.camera import Camera
from renderformer.data.notes import Guess, Routine, digest, reworded
from renderformer.data.scene import Light, Material, Mesh, Scene
from renderformer.data.trained_range import ANYWHERE
from renderformer.renderer import Renderer

ASSETS = Path(__file__).parents[1] / "examples" / "assets"


def textured(path: Path) -> Path:
    """A GLB of three textured objects with what exporters write: normal and occlusion maps, and a duplicate face."""
    noise = np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8)
    picture = Pillow.fromarray(noise)
    scene = trimesh.Scene()
    for number in range(3):
        shape = trimesh.creation.box()
        shape.apply_translation((2 * number, 0, 0))
        shape.faces = np.concatenate([shape.faces, shape.faces[:1]])
        maps = {"baseColorTexture": picture, "normalTexture": picture, "occlusionTexture": picture}
        material = trimesh.visual.material.PBRMaterial(name=f"paint {number}", **maps)
        uv = np.random.default_rng(number).uniform(size=(len(shape.vertices), 2))
        shape.visual = trimesh.visual.TextureVisuals(uv, material=material)
        scene.add_geometry(shape, f"part {number}")
    path.write_bytes(scene.export(file_type="glb"))
    return path


def plain_obj(path: Path) -> Path:
    """An OBJ as converters write it: no material, no comment, no normals, many faces, some of them flat."""
    shape = trimesh.creation.torus(1.0, 0.4, 80, 40)
    path.write_text(trimesh.exchange.obj.export_obj(shape, include_normals=False) + "f 1 1 2\n")
    return path


def textured_obj(path: Path) -> Path:
    Pillow.fromarray(np.full((8, 8, 3), 120, np.uint8)).save(path.parent / "wood.png")
    (path.parent / "a.mtl").write_text("newmtl wood\nKd 1 1 1\nmap_Kd wood.png\nmap_Bump bumps.png\nd 0.5\n")
    corners = "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nvt 0 0\nvt 1 0\nvt 0 1\n"
    faces = "usemtl wood\nf 1/1 3/3 2/2\nf 1/1 2/2 4/3\nusemtl missing\nf 1/1 4/2 3/3\nf 2/1 3/2 4/3\n"
    path.write_text("mtllib a.mtl\n" + corners + faces)
    return path


@pytest.mark.parametrize("make", [textured, plain_obj, textured_obj])
def test_an_ordinary_asset_prints_at_most_two_notes(run: Run, tmp_path: Path, make) -> None:  # type: ignore[no-untyped-def]
    """Golden counts: more lines flood a person."""
    source = make(tmp_path / f"thing.{'glb' if make is textured else 'obj'}")
    arguments = ("render", source, "-r", "16", "--no-network", "--overwrite")
    known = run(*arguments, "--json").results[0]
    every = known["notes"] + known["warnings"]
    assert len(every) >= 2

    brief = run(*arguments).err.splitlines()
    assert 1 <= len(brief) <= 3
    assert all(line.startswith("note: ") for line in brief[:-1])
    assert {line.removeprefix("note: ") for line in brief[:-1]} <= set(every)
    left = len(every) - len(brief) + 1
    assert brief[-1].endswith(f"; {left} more note{'s' * (left > 1)} with --verbose")

    complete = run(*arguments, "-v").err.splitlines()
    assert sorted(re.sub("^[a-z]+: ", "", line) for line in complete[:-1]) == sorted(every)
    assert "--verbose" not in complete[-1]


def test_what_is_missing_and_what_was_guessed_come_first(run: Run, tmp_path: Path) -> None:
    missing, guessed, _ = run("render", textured_obj(tmp_path / "a.obj"), "-r", "8", "--no-network").err.splitlines()
    assert "not defined in an MTL file" in missing
    assert "taken for up" in guessed


def test_examples_print_little(run: Run) -> None:
    for name in ("knot.glb", "boxes.glb"):
        (summary,) = run("render", ASSETS / name, "-r", "8", "--no-network", "--overwrite").err.splitlines()
        assert summary.startswith(str(ASSETS / name))
    lines = run("render", ASSETS / "gear.stl", "-r", "8", "--no-network", "--overwrite").err.splitlines()
    assert [line[:6] for line in lines[:-1]] == ["note: "]
    assert "taken for up" in lines[0]


def test_convert_prints_a_digest_too(run: Run, tmp_path: Path) -> None:
    source = textured(tmp_path / "thing.glb")
    brief = run("convert", source, "-o", "a.h5").err.splitlines()
    complete = run("convert", source, "-o", "b.h5", "--verbose").err.splitlines()
    assert sum(line.startswith("note: ") for line in brief) <= 2
    assert sum(line.startswith("note: ") for line in complete) >= 2
    assert run("convert", source, "-o", "c.h5", "--verbose", "--quiet").code == 2
    assert run("render", source, "--verbose", "--quiet").code == 2


def test_digest_takes_losses_and_guesses_in_turn_and_no_routine() -> None:
    notes = ("lost", Routine("moved"), "lost too", Guess("y is up"), "and more", Routine("counted"))
    assert digest(notes, 2) == ["lost", "y is up"]
    assert digest(notes, 9) == ["lost", "y is up", "lost too", "and more"]
    assert digest((Guess("a"), Guess("b"), Guess("c"), Routine("d")), 2) == ["a", "b"]
    assert digest(notes, 0) == []


def test_kinds_survive_rewording_and_are_text_in_json() -> None:
    assert isinstance(reworded(Guess("a"), "b"), Guess)
    assert isinstance(reworded(Routine("a"), "b"), Routine)
    assert type(reworded("a", "b")) is str
    assert json.dumps([Guess("a"), Routine("b"), "c"]) == '["a", "b", "c"]'


def odd_scene() -> Scene:
    """Everything that the released models were not trained on: size, open meshes, colours, light, camera."""
    sheet = Mesh(
        "sheet", 50 * np.random.default_rng(1).uniform(-1, 1, (40, 3, 3)), materials=Material(0.5, (0.5, 0, 0), 0)
    )
    lamps = [Light((0, 0, 3.0 + k), size=9.0, emission=(60.0, 2.0, 1.0), name=f"lamp {k}").mesh() for k in range(12)]
    return Scene((sheet, *lamps), (Camera.from_angles(distance=1.0, fov=120),))


def test_without_a_network_nothing_is_said_about_training() -> None:
    scene = odd_scene()
    assert len(check_scene(scene)) > 7
    assert check_scene(scene, ANYWHERE) == []
    renderer = Renderer.from_pretrained(network=False)
    assert renderer.check(scene) == []
    notes = " ".join(renderer.encode(scene).notes)
    assert not re.search("train|white|emission sums|patch", notes)


def test_a_dark_scene_is_said_first_whatever_draws_it() -> None:
    dark = odd_scene().replace(objects=odd_scene().objects[:1])
    for trained in (ANYWHERE, Renderer.from_pretrained(device="cpu").config.trained):
        assert "the picture will be black" in digest(check_scene(dark, trained), 2)[0]
