"""Pictures split by lights: sums, relighting, files, the command line."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.command import Run
from helpers.models import DENSE, SHADING
from helpers.shapes import ball, box

from renderformer import InputError, Split
from renderformer.checkpoints import build_model
from renderformer.config import config_from_dict
from renderformer.data.arrays import Float32Array
from renderformer.data.camera import Camera
from renderformer.data.environment import Environment
from renderformer.data.scene import EMISSION, Light, Material, Mesh, Scene
from renderformer.image import Image
from renderformer.renderer import Renderer

CAMERA = Camera.look_at((0.3, -1.6, 0.5), (0, 0, -0.1), fov=45, name="front")


def small_light(name: str, position: tuple[float, float, float], emission: float | tuple[float, float, float]) -> Mesh:
    return Light(position, size=0.1, emission=emission, name=name).mesh()


def scene(*lights: Mesh, environment: Environment | None = None) -> Scene:
    """A glossy ball on a floor between two walls; by default under two lights."""
    objects = (
        box((1.4, 1.4, 0.02), Material((0.6, 0.5, 0.4), 0.1, 0.4), (0, 0, -0.31), "floor"),
        box((0.02, 1.4, 1.0), Material((0.2, 0.3, 0.6)), (-0.7, 0, 0.2), "wall"),
        ball(0.3, Material((0.6, 0.3, 0.2), 0.3, 0.2), detail=1),
    )
    two = small_light("key", (0.7, -0.9, 1.4), (90, 70, 50)), small_light("fill", (-0.5, -0.8, 0.9), 30.0)
    return Scene((*objects, *(lights or two)), (CAMERA,), environment=environment)


def changed(world: Scene, factors: Mapping[str, object]) -> Scene:
    """The scene with the emission of some objects times a factor."""
    return world.replace(objects=tuple(mesh.dimmed(factors.get(mesh.name, 1.0)) for mesh in world.objects))  # type: ignore[arg-type]


def missed(a: Float32Array, b: Float32Array) -> float:
    """Mean absolute difference over the mean of `b`."""
    return float(np.abs(a - b).mean() / b.mean())


@pytest.fixture(scope="module")
def rays() -> Renderer:
    return Renderer.from_pretrained(network=False)


def network(**changes: object) -> Renderer:
    torch.manual_seed(0)
    return Renderer(build_model(config_from_dict({**DENSE, **changes})), device="cpu")


def test_the_lights_add_up_and_each_is_the_picture_under_it_alone(rays: Renderer) -> None:
    world = scene(environment=Environment((0.1, 0.15, 0.2)))
    split = rays.split(world, (40, 32))[0]
    assert list(split.lights) == ["key", "fill", "environment"]
    assert split.joint.hdr.shape == (32, 40, 3)
    np.testing.assert_array_equal(split.joint.hdr, rays.render(world, (40, 32))[0].hdr)
    np.testing.assert_allclose(sum(split.lights.values()), split.joint.hdr, atol=2e-6)
    assert split.error < 1e-5
    alone = rays.render(changed(world, {"key": 0}).replace(environment=None), (40, 32))[0].hdr
    # Which pixels get more samples depends on the light.
    assert missed(split.lights["fill"], alone) < 0.01
    sky = rays.render(changed(world, {"key": 0, "fill": 0}), (40, 32))[0].hdr
    assert missed(split.lights["environment"], sky) < 0.01


def test_large_and_many_lights_add_up_too(rays: Renderer) -> None:
    # A large light close to the floor, and more small triangles than get shadow rays each.
    panel = box((0.5, 0.5, 0.01), Material(emission=(2.0, 2.0, 1.0), two_sided=True), (0.4, 0.1, 0.3), "panel")
    chain = ball(0.05, Material(emission=(5.0, 1.0, 1.0)), (-0.4, -0.4, 0.2), "chain", detail=1)
    world = scene(panel, chain)
    split = rays.split(world, 32)[0]
    assert list(split.lights) == ["panel", "chain"]
    assert split.error < 0.03
    assert missed(split.lights["chain"], rays.render(changed(world, {"panel": 0}), 32)[0].hdr) < 0.02


def test_relighting_is_rendering_with_changed_lights(rays: Renderer) -> None:
    world = scene(environment=Environment((0.1, 0.15, 0.2)))
    split = rays.split(world, 32)[0]
    factors = {"key": 0.5, "fill": (1.0, 4.0, 0.0)}
    dim = world.replace(environment=Environment((0.1, 0.15, 0.2), strength=3.0))
    expected = rays.render(changed(dim, factors), 32)[0].hdr
    relit = split.relight({**factors, "environment": 3})
    assert missed(relit.hdr, expected) < 0.005
    assert relit.camera is split.joint.camera
    assert missed(relit.hdr, split.joint.hdr) > 0.5


def test_a_network_draws_every_light_and_keeps_their_proportions() -> None:
    engine, world = network(**SHADING), scene()
    split = engine.split(world, 24)[0]
    assert missed(split.light("fill").hdr, engine.render(changed(world, {"key": 0}), 24)[0].hdr) < 0.01
    one = scene(small_light("key", (0.7, -0.9, 1.4), 50.0))
    single = engine.split(one, 24)[0]
    np.testing.assert_allclose(single.lights["key"], single.joint.hdr, rtol=1e-5, atol=1e-6)
    twice = engine.render(changed(one, {"key": 2}), 24)[0].hdr
    np.testing.assert_allclose(single.relight({"key": 2}).hdr, twice, rtol=1e-3, atol=1e-4)


def test_a_model_that_knows_triangles_alone_gets_few_lights_of_trained_strength_at_a_time() -> None:
    engine = network()
    lamp = small_light("lamp", (0.0, -1.2, 2.0), 500.0)
    many = ball(0.1, Material(emission=(100.0, 100.0, 100.0)), (1.5, 0, 1.8), "many", detail=0)
    world = scene(lamp, many, environment=Environment(1.0))
    encoded: list[Scene] = []
    encode = engine.encode_as_it_is
    engine.encode_as_it_is = lambda world, check: encoded.append(world) or encode(world, check)  # type: ignore
    split = engine.split(world, 24)[0]
    assert list(split.lights) == ["lamp", "many"]
    totals = [alone.materials[:, EMISSION].max(axis=1).sum() for alone in encoded]
    # The joint scene, the lamp at trained strength, and 20 triangles as 8, 8 and 4.
    np.testing.assert_allclose(totals, [2500, 2500, 2500, 2500, 2500], rtol=1e-5)
    assert [len(alone.light_triangles) for alone in encoded] == [21, 1, 8, 8, 4]
    # A lamp that is off would be an object far outside.
    assert [len(alone.objects) for alone in encoded] == [5, 4, 4, 4, 4]


def test_a_model_that_knows_small_lights_alone_gets_large_ones_in_pieces() -> None:
    engine = network()
    panel = Light((0.0, -0.5, 2.0), size=0.7, emission=(300.0, 200.0, 100.0), name="panel").mesh()
    huge = Light((4.0, -4.0, 6.0), size=5.0, emission=100.0, name="huge").mesh()
    encoded: list[Scene] = []
    encode = engine.encode_as_it_is
    engine.encode_as_it_is = lambda world, check: encoded.append(world) or encode(world, check)  # type: ignore
    split = engine.split(scene(panel, huge), 24)[0]
    pieces = [alone.triangles[alone.light_triangles] for alone in encoded[1:]]
    assert all(len(part) <= 8 for part in pieces)
    edges = np.linalg.norm(np.concatenate(pieces) - np.roll(np.concatenate(pieces), 1, axis=1), axis=2)
    assert edges[:8].max() < 0.18
    # The other one would be too many pieces.
    assert edges.max() > 0.3
    assert len(np.concatenate(pieces)) <= 128
    assert len(split.notes) == 2
    assert all("no larger than trained" in note and "1 triangles cut into" in note for note in split.notes)
    areas = [0.5 * np.linalg.norm(np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0]), axis=1).sum() for p in pieces]
    whole = encoded[0].triangles[encoded[0].light_triangles]
    expected = 0.5 * np.linalg.norm(np.cross(whole[:, 1] - whole[:, 0], whole[:, 2] - whole[:, 0]), axis=1).sum()
    np.testing.assert_allclose(sum(areas), expected, rtol=1e-5)


def test_the_weakest_of_many_lights_share_a_picture(rays: Renderer) -> None:
    lights = [small_light(f"l{i}", (0.6 - 0.3 * i, -0.9, 1.3), 10.0 + 10 * i) for i in range(5)]
    split = rays.split(scene(*lights, environment=Environment(0.1)), 16, most=4)[0]
    assert list(split.lights) == ["l3", "l4", "others", "environment"]
    assert split.notes == ("3 of 5 lights, the weakest, share the picture 'others'",)
    assert split.error < 1e-5


def test_transparent_pictures_keep_their_alpha(rays: Renderer) -> None:
    world = scene(environment=Environment(0.2, background="transparent"))
    split = rays.split(world, 16)[0]
    assert split.joint.alpha is not None
    relit = split.relight({"environment": 0})
    np.testing.assert_array_equal(relit.alpha, split.joint.alpha)  # type: ignore[arg-type]
    assert (relit.hdr[relit.alpha == 0] == 0).all()


def test_a_background_is_no_light_and_survives_a_file(rays: Renderer, tmp_path: Path) -> None:
    colour = (0.5, 0.25, 0.0)
    world = scene(environment=Environment(0.2, background=colour)).replace(objects=scene().objects[2:])
    split = rays.split(world, 16)[0]
    assert split.error < 1e-5
    dark = split.relight({}, only=True)
    empty = split.joint.alpha == 0
    assert 20 < empty.sum() < 250
    np.testing.assert_allclose(dark.flat()[empty], np.broadcast_to(colour, (empty.sum(), 3)), rtol=1e-6)
    assert split.save(tmp_path / "a.exr", exposure=1.0, half=False) == []
    file, again = Image.load(tmp_path / "a.exr"), Split.load(tmp_path / "a.exr")
    np.testing.assert_allclose(file.hdr, split.joint.flat(1.0), rtol=1e-6)
    assert file.alpha is None
    assert again.joint.background == colour
    np.testing.assert_allclose(again.joint.alpha, split.joint.alpha, atol=1e-6)  # type: ignore[arg-type]
    relit = again.relight({"key": 0.5, "environment": 2}).flat()
    np.testing.assert_allclose(relit, split.relight({"key": 0.5, "environment": 2}).flat(1.0), atol=2e-6)
    # A second file is the same.
    again.save(tmp_path / "b.exr", half=False)
    np.testing.assert_allclose(Image.load(tmp_path / "b.exr").hdr, file.hdr, atol=2e-6)


def made(**names: float) -> Split:
    """A split picture of 5 x 4 pixels without rendering."""
    noise = np.random.default_rng(0)
    lights = {name: (noise.random((4, 5, 3)) * scale).astype(np.float32) for name, scale in names.items()}
    joint = Image(sum(lights.values()) * np.float32(1.01), CAMERA, {"model": "test"})  # type: ignore[arg-type]
    return Split(joint, lights)


def test_a_file_holds_all_of_it(tmp_path: Path) -> None:
    split = made(**{"key": 1.0, "a.b/c": 2.0, "a b c": 3.0, "": 0.5, "RGB": 1.0, "日": 1.0})
    assert split.save(tmp_path / "a.exr", half=False) == []
    again = Split.load(tmp_path / "a.exr")
    assert list(again.lights) == list(split.lights)
    for name, light in split.lights.items():
        np.testing.assert_array_equal(again.lights[name], light)
    np.testing.assert_array_equal(again.joint.hdr, split.joint.hdr)
    assert again.joint.metadata["model"] == "test"
    assert again.joint.camera is not None
    assert again.joint.camera.name == "front"
    assert again.error == pytest.approx(split.error)
    # Any program reads it as a picture.
    np.testing.assert_array_equal(Image.load(tmp_path / "a.exr").hdr, split.joint.hdr)


def test_a_file_of_half_floats_counts_what_it_clips(tmp_path: Path) -> None:
    split = made(key=1.0, sun=1e6)
    notes = split.save(tmp_path / "a.exr")
    assert len(notes) == 2
    assert all("clipped" in note for note in notes)
    assert Split.load(tmp_path / "a.exr").lights["key"].max() <= 1


def test_patterns_and_only_choose_lights() -> None:
    split = made(lamp_1=1.0, lamp_2=1.0, sky=1.0)
    lamps = split.relight({"lamp*": 2.0, "lamp_2": 0.0}, only=True).hdr
    np.testing.assert_allclose(lamps, 2 * split.lights["lamp_1"], rtol=1e-6)
    assert split.relight({}, only=True).hdr.max() == 0
    np.testing.assert_allclose(split.relight().hdr, sum(split.lights.values()), rtol=1e-6)


@pytest.mark.parametrize("factor", [-1.0, float("nan"), 1e9, (1.0, 2.0)])
def test_odd_factors_are_refused(factor: object) -> None:
    with pytest.raises(InputError, match="light 'key': factor is"):
        made(key=1.0).relight({"key": factor})  # type: ignore[dict-item]


def test_odd_input_is_refused(rays: Renderer, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such light; there are: key"):
        made(key=1.0).relight({"kay": 1.0})
    with pytest.raises(InputError, match="no such light"):
        made(key=1.0).light("kay")
    with pytest.raises(InputError, match="has no lights to split"):
        rays.split(scene().replace(objects=scene().objects[:3]), 16)
    with pytest.raises(InputError, match="most is 1"):
        rays.split(scene(), 16, most=1)
    with pytest.raises(InputError, match=r"end the name in \.exr"):
        made(key=1.0).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="has shape"):
        Split(made(key=1.0).joint, {"key": np.zeros((2, 2, 3), np.float32)})


def test_info_tells_what_a_picture_holds(run: Run, tmp_path: Path) -> None:
    split = made(key=1.0, fill=2.0)
    replace(split.joint, layers={"depth": np.ones((4, 5), np.float32)}).save(tmp_path / "plain.exr")
    split.save(tmp_path / "split.exr", half=False)
    plain = run("info", "plain.exr", "--json").results[0]
    assert (plain["kind"], plain["width"], plain["height"], plain["layers"]) == ("picture", 5, 4, ["depth"])
    assert plain["cameras"][0]["name"] == "front"
    assert plain["header"]["model"] == "test"
    both = run("info", "split.exr", "--json").results[0]
    assert [light["name"] for light in both["lights"]] == ["key", "fill"]
    assert both["lights"][1]["mean"] == pytest.approx(split.lights["fill"].mean(), rel=1e-3)
    assert "key: mean" in run("info", "split.exr").out
    assert "lights" not in plain
    assert run("info", "none.exr").code == 1


def test_other_files_are_refused(tmp_path: Path) -> None:
    split = made(key=1.0, fill=2.0)
    split.joint.save(tmp_path / "plain.exr")
    with pytest.raises(InputError, match=r"plain\.exr: has no layers of lights; .*--split-lights"):
        Split.load(tmp_path / "plain.exr")
    replace(split.joint, metadata={"lights": '{"key": "key"}'}).save(tmp_path / "lies.exr")
    with pytest.raises(InputError, match="no layers"):
        Split.load(tmp_path / "lies.exr")
    replace(split.joint, metadata={"lights": "[1"}).save(tmp_path / "lies.exr")
    with pytest.raises(InputError, match="no layers"):
        Split.load(tmp_path / "lies.exr")
    split.save(tmp_path / "whole.exr")
    whole = (tmp_path / "whole.exr").read_bytes()
    (tmp_path / "half.exr").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="damaged"):
        Split.load(tmp_path / "half.exr")
    with pytest.raises(InputError, match="no such file"):
        Split.load(tmp_path / "none.exr")


def test_the_command_line_splits_and_relights(run: Run, tmp_path: Path) -> None:
    scene().save(tmp_path / "room.json")
    drawn = run("render", "room.json", "--no-network", "-r", 16, "--split-lights", "-o", "room.exr")
    assert drawn.code == 0
    assert "2 lights (key, fill), whose sum differs from the joint picture by" in drawn.err
    listed = run("relight", "room.exr")
    assert [line.split()[0] for line in listed.out.splitlines()] == ["key", "fill"]
    made = run("relight", "room.exr", "-l", "key=2", "-l", "fill=#ff0000*0.5", "-o", "a.npy", "-o", "a.png")
    assert made.code == 0
    assert (tmp_path / "a.png").stat().st_size
    split = Split.load(tmp_path / "room.exr")
    expected = 2 * split.lights["key"] + np.float32([0.5, 0, 0]) * split.lights["fill"]
    np.testing.assert_allclose(Image.load(tmp_path / "a.npy").hdr, expected, rtol=1e-5, atol=1e-6)
    assert run("relight", "room.exr", "--only", "-l", "key=1", "-o", "a.npy").code == 1
    assert run("relight", "room.exr", "--only", "-l", "key=1,1,0", "-o", "a.npy", "--overwrite").code == 0
    assert Image.load(tmp_path / "a.npy").hdr[..., 2].max() == 0
    assert run("relight", "room.exr", "--json").results[0]["lights"].keys() == {"key", "fill"}


def test_the_frames_of_a_sequence_are_split_and_relit(run: Run, tmp_path: Path) -> None:
    import imageio.v3 as iio

    scene().save(tmp_path / "room.json")
    turn = ("render", "room.json", "--no-network", "-r", 16, "--turntable", 3, "--split-lights")
    drawn = run(*turn, "-o", "frames/{frame}.exr", "-o", "turn.gif")
    assert drawn.code == 1
    assert "the folder frames does not exist" in drawn.err
    (tmp_path / "frames").mkdir()
    drawn = run(*turn, "-o", "frames/{frame}.exr", "-o", "turn.gif")
    assert drawn.code == 0
    assert "2 lights (key, fill), whose sum differs from the joint picture by" in drawn.err
    assert "nothing to do" in run(*turn, "-o", "frames/{frame}.exr", "-o", "turn.gif").err
    splits = [Split.load(tmp_path / "frames" / f"{number}.exr") for number in range(3)]
    assert all(split.error < 1e-2 and list(split.lights) == ["key", "fill"] for split in splits)
    listed = run("relight", "frames")
    assert [line.split()[0] for line in listed.out.splitlines()] == ["key", "fill"]
    assert "3 files: 2 lights" in listed.err
    made = run("relight", "frames", "-l", "key=0.5", "-o", "{stem}.npy", "-o", "relit.gif", "--json")
    assert made.code == 0
    assert made.results[0]["outputs"] == ["0.npy", "1.npy", "2.npy", "relit.gif"]
    for number, split in enumerate(splits):
        expected = split.relight({"key": 0.5}).hdr
        np.testing.assert_allclose(Image.load(tmp_path / f"{number}.npy").hdr, expected, rtol=1e-5, atol=1e-6)
    assert len(iio.imread(tmp_path / "relit.gif", plugin="pillow")) == 3
    assert run("relight", "frames/*.exr", "-l", "key=0.5", "-o", "{stem}.npy").code == 1
    assert run("relight", "frames/*.exr", "-l", "key=0.5", "-o", "n_{index:02}.png").code == 0
    assert (tmp_path / "n_02.png").exists()
    # A file that is not like the others stops no picture, but a video of all.
    Split(splits[0].joint, {"other": splits[0].joint.hdr}).save(tmp_path / "frames" / "1.exr")
    again = run("relight", "frames", "-l", "key=2", "-o", "{stem}.npy", "--overwrite")
    assert again.code == 1
    assert "error: frames/1.exr: light 'key': there is no such light; there are: other" in again.err
    assert "0.npy, 2.npy" in again.err
    video = run("relight", "frames", "-l", "key=2", "-o", "relit.gif", "--overwrite")
    assert (video.code, "frames/1.exr: light 'key'" in video.err) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("-l", "key=2", "-o", "b{frame}.png"), "{frame} is not replaced here"),
        (("-l", "key=2", "-o", "{stem}.mp4"), "{stem} is not replaced here"),
        (("-l", "key=2", "--fps", "24"), "is for videos"),
        (("-l", "key=2", "-o", "a.bmp"), "unknown picture format"),
        (("-l", "key"), "is not NAME=FACTOR"),
        (("-l", "key=-1"), "is not a number of 0 or more"),
        (("-l", "key=#12"), "is not a number of 0 or more"),
        (("-l", "key=1,2"), "is not a number of 0 or more"),
        (("--only",), "missing; name the file to write"),
    ],
)
def test_wrong_usage_is_explained(run: Run, arguments: tuple[str, ...], problem: str) -> None:
    output = () if "--only" in arguments else ("-o", "a.png")
    result = run("relight", "room.exr", *arguments, *output)
    assert result.code == 2
    assert problem in result.err


def test_only_exr_files_hold_split_pictures(run: Run) -> None:
    result = run("render", "room.json", "--split-lights", "-o", "a.png")
    assert result.code == 2
    assert "is for .exr files, and none is written" in result.err
