"""`renderformer reference`: path traced pictures of the scenes that `render` draws."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.command import Run
from helpers.shapes import ball, box

from renderformer.data.camera import Camera
from renderformer.data.environment import Environment
from renderformer.data.errors import InputError
from renderformer.data.scene import Light, Material, Mesh, Scene
from renderformer.image import Image
from renderformer.renderer import Renderer

pytest.importorskip("mitsuba", reason="needs the extra `reference`")

SIZE = (30, 20)


def scene(**changes: Any) -> Scene:
    objects = (
        box((1, 1, 0.02), Material((0.6, 0.6, 0.6)), (0, 0, -0.31), "floor"),
        ball(0.25, Material((0.6, 0.2, 0.1)), (0.1, 0, -0.05)),
        Light((0.7, -0.9, 1.9)).mesh(),
    )
    return Scene(objects, (Camera.from_angles(20, 25, 1.9, fov=30),), **changes)


def traced(world: Scene, spp: int = 16, seed: int = 0, aovs: tuple[str, ...] = ()) -> Image:
    from renderformer.reference import PathTracer

    tracer = PathTracer(spp, depth=6, seed=seed)
    (image,) = tracer.iterate(tracer.encode(world), SIZE, world.cameras, aovs=aovs)
    return image


def test_the_pictures_are_those_of_render(run: Run, tmp_path: Path) -> None:
    (tmp_path / "tetra.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n")
    scene().save(tmp_path / "scene.json")
    for source, more in (("tetra.obj", ("--azimuth", "60", "--environment", "#8090a0")), ("scene.json", ())):
        drawn, path_traced = tmp_path / f"{source}.exr", tmp_path / f"{source}_reference.exr"
        common = (str(tmp_path / source), "-r", "30x20", *more)
        assert run("render", *common, "--no-network", "-o", str(drawn)).code == 0
        result = run("reference", *common, "--spp", "64", "--depth", "6", "-o", str(path_traced))
        assert (result.code, result.out) == (0, "")
        assert f"{path_traced}: noise 0.0" in result.err
        compared = run("compare", str(drawn), str(path_traced), "--min-psnr", "27", "--json")
        assert compared.code == 0, compared.err
    assert Image.load(path_traced).metadata["spp"] == 64


def test_the_noise_is_that_between_independent_pictures() -> None:
    first, second = (traced(scene(), seed=seed) for seed in (0, 1))
    shown = [Image(np.clip(image.hdr, 0, 1)).tone_mapped("none") for image in (first, second)]
    between = np.sqrt((np.subtract(*shown) ** 2).mean() / 2)
    assert float(first.metadata["noise"]) == pytest.approx(between, rel=0.25)
    assert float(traced(scene(), spp=256).metadata["noise"]) == pytest.approx(between / 4, rel=0.4)
    assert "noise" not in traced(scene(), spp=1).metadata


def test_the_samples_are_those_that_the_sampler_keeps() -> None:
    import mitsuba

    from renderformer.reference import PathTracer

    for spp in (1, 2, 5, 16, 60, 100, 256, 1000):
        tracer = PathTracer(spp)
        sampler = mitsuba.load_dict({"type": "multijitter", "sample_count": tracer.share})
        assert sampler.sample_count() == tracer.share
        assert spp <= tracer.spp < max(1.3 * spp, spp + 4)
    for arguments in ((0, 16, 0), (4, 0, 0), (4, 16, -1)):
        with pytest.raises(InputError, match="expected positive numbers"):
            PathTracer(*arguments)


@pytest.mark.parametrize("background", ["visible", "transparent", "invisible", "#0080ff"])
def test_backgrounds_and_layers_are_those_of_render(background: str) -> None:
    world = scene(environment=Environment((0.2, 0.3, 0.4), background=background))
    names = ("object", "depth", "albedo", "direct", "indirect", "highlight", "reflection", "emission", "background")
    ours = traced(world, aovs=names)
    (theirs,) = Renderer.from_pretrained(network=False).render(world, SIZE, aovs=names)
    for name in ("object", "depth", "albedo"):
        np.testing.assert_allclose(ours.layers[name], theirs.layers[name], rtol=1e-5)
    np.testing.assert_allclose(np.sum([ours.layers[name] for name in names[3:]], axis=0), ours.flat(), atol=1e-5)
    np.testing.assert_allclose(ours.layers["background"], theirs.layers["background"], atol=0.15)
    assert ours.background == theirs.background
    assert (ours.alpha is None) == (theirs.alpha is None)
    if ours.alpha is not None and theirs.alpha is not None:
        np.testing.assert_allclose(ours.alpha, theirs.alpha, atol=0.15)
    empty = theirs.layers["object"] == 0
    np.testing.assert_allclose(ours.flat()[empty].mean(axis=0), theirs.flat()[empty].mean(axis=0), atol=0.02)


def test_objects_that_mitsuba_draws_in_the_way_of_a_camera_are_named() -> None:
    from renderformer.reference import PathTracer

    wall = Mesh("wall", np.float32([[[-2, 0, -2], [2, 0, -2], [0, 0, 3]]]), camera_sides="front")
    tracer = PathTracer(1)
    inside, outside = Camera.look_at((0, -1, 0), (0, 0, 0)), Camera.look_at((0, 1, 0), (0, 0, 0))
    assert tracer.encode(Scene((wall,), (inside,))).notes == ()
    assert tracer.encode(Scene((wall,), (outside,))).notes == ("wall: hidden from cameras, but Mitsuba draws it",)


def test_progress_counts_the_samples_of_all_pictures() -> None:
    from renderformer.reference import PathTracer

    steps: list[tuple[str, int, int]] = []
    tracer = PathTracer(16, depth=2)
    world = scene()
    views = (*world.cameras, *world.cameras)
    assert len(list(tracer.iterate(tracer.encode(world), (8, 8), views, lambda *step: steps.append(step)))) == 2
    assert steps == [("trace paths", done, 32) for done in range(0, 32, 4)]


def test_json_tells_the_noise_and_names_follow_the_input(run: Run, tmp_path: Path) -> None:
    scene().save(tmp_path / "a.json")
    result = run("reference", str(tmp_path / "a.json"), "-r", "8", "--spp", "4", "--json", "--quiet")
    facts = json.loads(result.out)
    (entry,) = facts["outputs"]
    assert Path(entry["path"]).name == "a_reference.exr"
    assert 0 < entry["noise"] < 1
    again = run("reference", str(tmp_path / "a.json"), "-r", "8", "--spp", "4")
    assert (again.code, "exists already" in again.err) == (1, True)


def test_frames_are_those_of_render_and_go_on(run: Run, tmp_path: Path) -> None:
    scene().save(tmp_path / "a.json")
    for folder in ("ours", "theirs"):
        (tmp_path / folder).mkdir()
    turn = ("a.json", "--turntable", 4, "-r", 8, "--frames", "0..3/2")
    assert run("render", *turn, "--no-network", "-o", "ours/{frame:02}.exr").code == 0
    traced = ("reference", *turn, "--spp", 4, "-o", "theirs/{frame:02}.exr")
    made = run(*traced, "-o", "turn.gif")
    assert made.code == 0
    assert "noise 0." in made.err
    assert (tmp_path / "turn.gif").exists()
    for name in ("00.exr", "02.exr"):
        ours, theirs = (Image.load(tmp_path / folder / name) for folder in ("ours", "theirs"))
        assert ours.camera is not None
        assert theirs.camera is not None
        np.testing.assert_array_equal(ours.camera.c2w, theirs.camera.c2w)
        assert theirs.metadata["spp"] == 4
    assert "nothing to do" in run(*traced, "-o", "turn.gif").err
    (tmp_path / "theirs" / "02.exr").unlink()
    assert run(*traced, "--json").results[0]["kept"] == 1
    # Other samples are another picture.
    assert run(*traced, "--noise-seed", 1, "--json").results[0]["kept"] == 0
    assert run("reference", "a.json", "--turntable", 2, "-r", 8, "--spp", 1).code == 0
    assert (tmp_path / "a_0001_reference.exr").exists()


def test_without_mitsuba_it_is_one_line_that_says_what_to_install(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mitsuba", None)
    scene().save(tmp_path / "a.json")
    result = run("reference", "a.json")
    assert (result.code, result.out) == (1, "")
    (line,) = result.err.strip().splitlines()
    assert line == "error: reference pictures: Mitsuba 3 is not installed; pip install 'renderformer[reference]'"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--spp", "0"), "'--spp'"),
        (("-o", "a.bmp"), "unknown picture format"),
        (("--fps", "24"), "is for sequences"),
        (("--split-lights",), "No such option"),
        (("--ray",), "No such option"),
        (("--overwrite", "--skip-existing"), "cannot be combined"),
        (("--aov", "colour", "-o", "a.exr"), "'colour' is unknown"),
    ],
)
def test_wrong_usage_ends_with_2(run: Run, arguments: tuple[str, ...], words: str) -> None:
    result = run("reference", "missing.obj", *arguments)
    assert (result.code, words in result.err) == (2, True)
