"""Pictures of tensors: their gradients against finite differences, of the same samples and of ordinary pictures."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import pytorch3d
from helpers.environments import spots
from helpers.models import DENSE
from helpers.shapes import ball, box
from torch import Tensor

import renderformer as rf
from renderformer.config import ModelConfig
from renderformer.data.errors import InputError
from renderformer.data.rays.channels import RGB
from renderformer.data.rays.raycast import RayCaster
from renderformer.data.unit_size import UnitSize
from renderformer.differentiable.drawing import TracedRays
from renderformer.model import RenderFormer

SIDE = 16
EXAMPLES = Path(__file__).parents[1] / "examples"


def quad(name: str, corners: list[tuple[float, float, float]], material: rf.Material) -> rf.Mesh:
    a, b, c, d = np.array(corners, np.float32)
    return rf.Mesh(name, np.stack([[a, b, c], [a, c, d]]), materials=material.row())


def lamp() -> rf.Mesh:
    return rf.Light((0.1, -0.15, 0.45), (0.0, 0.0, -0.3), 0.06, (400.0, 320.0, 240.0), "lamp").mesh()


def corner(*more: rf.Mesh) -> rf.Scene:
    """A floor and a shiny wall under a small lamp."""
    floor = [(-0.5, -0.5, -0.5), (0.5, -0.5, -0.5), (0.5, 0.5, -0.5), (-0.5, 0.5, -0.5)]
    wall = [(-0.5, 0.5, -0.5), (0.5, 0.5, -0.5), (0.5, 0.5, 0.5), (-0.5, 0.5, 0.5)]
    objects = (
        quad("floor", floor, rf.Material((0.6, 0.55, 0.5))),
        quad("wall", wall, rf.Material((0.7, 0.3, 0.2), (0.25, 0.2, 0.2), 0.4)),
        lamp(),
    )
    return rf.Scene((*objects, *more), (rf.Camera.look_at((0.1, -1.5, 0.15), (0, 0, -0.1), fov=40),))


@pytest.fixture(scope="module")
def scene() -> rf.Scene:
    return corner(ball(0.2, rf.Material((0.3, 0.4, 0.5), (0.3, 0.3, 0.3), 0.25), (0.05, 0.1, -0.3), detail=1))


@pytest.fixture(scope="module")
def renderer() -> rf.Renderer:
    return rf.Renderer.from_pretrained(network=False)


def turned(c2w: Tensor, step: Tensor) -> Tensor:
    """A camera (4, 4) that turns and moves by six numbers."""
    twist = torch.zeros(4, 4, dtype=step.dtype)
    for number, (i, j) in enumerate(((2, 1), (0, 2), (1, 0))):
        twist = twist.index_put((torch.tensor(i), torch.tensor(j)), step[number])
        twist = twist.index_put((torch.tensor(j), torch.tensor(i)), -step[number])
    moved = torch.cat([twist[:, :3], torch.cat([step[3:], step.new_zeros(1)])[:, None]], dim=1)
    return c2w @ torch.matrix_exp(moved)


def zeros(count: int) -> Tensor:
    return torch.zeros(count, dtype=torch.float64)


Traced = tuple[rf.SceneTensors, TracedRays]
# What changes by some numbers: how many, and the tensors after it.
Change = tuple[int, Callable[[rf.SceneTensors, Tensor], rf.SceneTensors]]
CHANGES: dict[str, Change] = {
    "diffuse of a wall": (3, lambda s, x: s.with_object("wall", diffuse=torch.tensor([0.7, 0.3, 0.2]).double() + x)),
    "diffuse of triangles": (6, lambda s, x: s.with_object("floor", diffuse=x.reshape(2, 3) + 0.5)),
    "specular": (3, lambda s, x: s.with_object("wall", specular=x + 0.2)),
    "roughness of a wall": (1, lambda s, x: s.with_object("wall", roughness=x[0] + 0.4)),
    "roughness of a ball": (1, lambda s, x: s.with_object("ball", roughness=x[0] + 0.25)),
    "emission": (3, lambda s, x: s.with_object("lamp", emission=100 * x + 300)),
    "place of a lamp": (3, lambda s, x: s.with_object("lamp", offset=x)),
    "place of a wall": (3, lambda s, x: s.with_object("wall", offset=x)),
    "vertices of a lamp": (9, lambda s, x: s.with_object("lamp", vertices=s.vertices[4:5] + x.reshape(1, 3, 3))),
    "camera": (6, lambda s, x: s.with_cameras(turned(s.c2w[0], x))),
    "field of view": (1, lambda s, x: s.with_cameras(fov=40 + 10 * x)),
}


@pytest.fixture(scope="module")
def traced(scene: rf.Scene, renderer: rf.Renderer) -> Traced:
    start = rf.SceneTensors.of(scene, dtype=torch.float64)
    return start, renderer.trace(start, SIDE)


def weights(*shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(3).normal(size=shape))


def compared(function: Callable[[Tensor], Tensor], count: int, step: float) -> tuple[Tensor, Tensor]:
    """The gradient of the sum of a picture with weights, and its central differences, both (count,)."""
    x = zeros(count).requires_grad_()
    picture = function(x)
    chosen = weights(*picture.shape)
    (picture * chosen).sum().backward()  # type: ignore[no-untyped-call]
    differences = [
        ((function(step * e) - function(-step * e)) * chosen).sum().detach() / (2 * step)
        for e in torch.eye(count, dtype=torch.float64)
    ]
    assert x.grad is not None
    return x.grad, torch.stack(differences)


@pytest.mark.parametrize("name", CHANGES)
def test_gradients_are_those_of_the_same_samples(name: str, traced: Traced, renderer: rf.Renderer) -> None:
    start, frozen = traced
    count, change = CHANGES[name]
    gradient, differences = compared(lambda x: renderer.render_tensors(change(start, x), SIDE, frozen), count, 1e-6)
    assert differences.norm() > 0.01
    assert (gradient - differences).norm() < 1e-5 * differences.norm()


def smooth(side: int) -> Tensor:
    """Weights (1, side, side, 3) that pixels next to each other share, so that noise does not count."""
    y, x = np.mgrid[:side, :side] / side
    parts = [np.cos(2 * y + k) * np.cos(3 * x - k) + 0.5 for k in range(3)]
    return torch.from_numpy(np.stack(parts, axis=-1)[None])


def against_ordinary(renderer: rf.Renderer, scene: rf.Scene, change: Change, step: float, side: int = 24) -> float:
    """How much the gradient differs from the central differences of ordinary pictures, in its own length."""
    start, (count, changed) = rf.SceneTensors.of(scene, dtype=torch.float64), change
    chosen = smooth(side)

    def ordinary(x: Tensor) -> Tensor:
        image = renderer.render(changed(start, x).to_scene(), side)[0]
        return (torch.from_numpy(image.hdr.astype(np.float64)) * chosen[0]).sum()

    x = zeros(count).requires_grad_()
    (renderer.render_tensors(changed(start, x), side) * chosen).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    directions = torch.eye(count, dtype=torch.float64)
    found = torch.stack([(ordinary(step * e) - ordinary(-step * e)) / (2 * step) for e in directions])
    return float((x.grad - found).norm() / found.norm())


@pytest.mark.parametrize(
    ("name", "step", "bound"),
    [
        ("diffuse of a wall", 0.05, 0.01),
        ("diffuse of triangles", 0.05, 0.02),
        ("specular", 0.05, 0.01),
        ("emission", 0.3, 0.01),
        # What shiny surfaces throw stays where it is.
        ("place of a lamp", 0.02, 0.03),
        ("vertices of a lamp", 0.01, 0.02),
    ],
)
def test_gradients_are_those_of_ordinary_pictures(name: str, step: float, bound: float, renderer: rf.Renderer) -> None:
    """Which cast all their rays again."""
    assert against_ordinary(renderer, corner(), CHANGES[name], step) < bound


def test_the_camera_has_the_gradient_of_ordinary_pictures_where_there_are_no_edges(renderer: rf.Renderer) -> None:
    wide = [(-9.0, 0.5, -9.0), (9.0, 0.5, -9.0), (9.0, 0.5, 9.0), (-9.0, 0.5, 9.0)]
    wall = quad("wall", wide, rf.Material((0.7, 0.3, 0.2), (0.25, 0.2, 0.2), 0.4))
    scene = rf.Scene((wall, lamp()), (rf.Camera.look_at((0.1, -0.6, 0.05), (0, 0.5, -0.1), fov=40),))
    assert against_ordinary(renderer, scene, CHANGES["camera"], 0.01) < 0.02
    assert against_ordinary(renderer, scene, CHANGES["field of view"], 0.02) < 0.05
    assert against_ordinary(renderer, scene, CHANGES["roughness of a wall"], 0.01) < 0.05


def hung_with_a_curtain() -> rf.Scene:
    """Half of the light passes a curtain in front of a wall with a picture, under a sky."""
    corners = [(-0.3, 0.2, -0.4), (0.0, 0.2, -0.4), (0.0, 0.2, 0.1), (-0.3, 0.2, 0.1)]
    curtain = quad("curtain", corners, rf.Material())
    cloth = rf.Material((0.3, 0.5, 0.6), alpha=0.5)
    curtain = rf.Mesh("curtain", curtain.triangles, appearance=rf.Appearance.of(cloth, np.zeros((2, 3, 2), np.float32)))
    checks = np.kron((np.indices((4, 4)).sum(axis=0) % 2)[..., None], np.ones((8, 8, 1))) * [200, 60, 90] + 30
    paper = rf.Material(textures=rf.Textures(base=rf.Texture(checks.astype(np.uint8), True)))
    picture = quad("picture", [(0.1, 0.49, -0.2), (0.4, 0.49, -0.2), (0.4, 0.49, 0.2), (0.1, 0.49, 0.2)], rf.Material())
    uv = np.array([[(0, 1), (1, 1), (1, 0)], [(0, 1), (1, 0), (0, 0)]], np.float32)
    picture = rf.Mesh("picture", picture.triangles, appearance=rf.Appearance.of(paper, uv))
    return corner(curtain, picture).replace(environment=spots())


@pytest.mark.parametrize("network", [False, True])
def test_the_picture_is_the_ordinary_one(network: bool) -> None:
    renderer = rf.Renderer.from_pretrained(network=network, device="cpu")
    for scene in (hung_with_a_curtain(), corner(box(0.2, rf.Material((0.1, 0.2, 0.3), (0.7,) * 3, 0.05)))):
        pictures = renderer.render_tensors(rf.SceneTensors.of(scene), (20, 12))
        assert pictures.dtype == torch.float32
        ordinary = renderer.render(scene, (20, 12))[0].hdr
        np.testing.assert_allclose(pictures[0].numpy(), ordinary, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scene", [corner(), hung_with_a_curtain()], ids=["corner", "curtain"])
def test_the_samples_shine_as_those_of_ordinary_pictures(scene: rf.Scene, renderer: rf.Renderer) -> None:
    """All but the gather, whose ordinary rays are filtered."""
    frozen = renderer.trace(rf.SceneTensors.of(scene), SIDE)
    unit = UnitSize.of(scene)
    caster = RayCaster.lit(unit.scene(scene))
    ordinary = caster.features(unit.camera(scene.cameras[0]), SIDE, SIDE, refine=1)
    replayed = frozen.replayed[0].numpy()
    for name in ("mask", "normal", "position", "diffuse", "roughness", "emission", "highlight", "reflection"):
        part = getattr(RGB, name)
        np.testing.assert_allclose(replayed[..., part], ordinary[..., part], rtol=2e-3, atol=1e-4, err_msg=name)
    # The gather's light of a sky is in the irradiance.
    if scene.environment is None:
        np.testing.assert_allclose(replayed[..., RGB.direct], ordinary[..., RGB.direct], rtol=1e-4, atol=1e-6)
        cached = (part[..., RGB.cached].mean() for part in (replayed, ordinary))
        assert next(cached) == pytest.approx(next(cached), rel=1e-4)
    indirect = [part[..., RGB.indirect].mean() for part in (replayed, ordinary)]
    assert indirect[0] == pytest.approx(indirect[1], rel=0.03)


def test_surroundings_and_what_light_passes_count(renderer: rf.Renderer) -> None:
    scene = hung_with_a_curtain()
    assert against_ordinary(renderer, scene, CHANGES["diffuse of a wall"], 0.05, 16) < 0.03


def test_surroundings_light_what_turns_toward_them(renderer: rf.Renderer) -> None:
    """A bent shiny surface that fills the picture."""
    globe = ball(0.5, rf.Material((0.5, 0.4, 0.3), (0.2, 0.2, 0.2), 0.5), detail=3)
    scene = rf.Scene((globe,), (rf.Camera.look_at((0.3, -1.0, 0.4), fov=24),), environment=spots())
    assert against_ordinary(renderer, scene, CHANGES["camera"], 0.02, 16) < 0.1
    # With four rays to a lobe.
    rough: Change = (1, lambda s, x: s.with_object("ball", roughness=x[0] + 0.5))
    assert against_ordinary(renderer, scene, rough, 0.02, 16) < 0.6


def test_a_scene_in_millimetres_has_gradients_per_millimetre(renderer: rf.Renderer) -> None:
    gradients = []
    for scale in (1.0, 1000.0):
        matrix = np.diag([scale, scale, scale, 1.0])
        scene = corner()
        objects = tuple(mesh.transformed(matrix) for mesh in scene.objects)
        scene = scene.replace(objects=objects, cameras=(scene.cameras[0].transformed(matrix),))
        x = zeros(3).requires_grad_()
        moved = rf.SceneTensors.of(scene, dtype=torch.float64).with_object("lamp", offset=x)
        renderer.render_tensors(moved, SIDE).sum().backward()  # type: ignore[no-untyped-call]
        assert x.grad is not None
        gradients.append(scale * x.grad)
    np.testing.assert_allclose(gradients[1], gradients[0], rtol=1e-3)


def test_rays_serve_while_colours_and_strengths_change(renderer: rf.Renderer) -> None:
    start = rf.SceneTensors.of(corner())
    frozen = renderer.trace(start, SIDE)
    once, twice = (renderer.render_tensors(replace(start, emission=k * start.emission), SIDE, frozen) for k in (1, 2))
    # But where an object barely enters a pixel.
    assert (twice - 2 * once).abs().mean() < 0.01 * once.mean()
    assert (twice - 2 * once).abs().flatten().quantile(0.9) < 1e-5 * once.mean()
    changed = start.with_object("wall", diffuse=torch.tensor([0.1, 0.6, 0.9]))
    changed = changed.with_object("lamp", emission=torch.tensor(900.0))
    again, ordinary = renderer.render_tensors(changed, SIDE, frozen), renderer.render(changed.to_scene(), SIDE)[0].hdr
    assert np.abs(again[0].numpy() - ordinary).mean() < 0.03 * ordinary.mean()


def test_specular_reflectance_can_grow_from_nothing(renderer: rf.Renderer) -> None:
    x = zeros(3).requires_grad_()
    start = rf.SceneTensors.of(corner(), dtype=torch.float64)
    renderer.render_tensors(start.with_object("floor", specular=x), SIDE).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert (x.grad > 0.1).all()


def test_what_is_not_in_the_picture_has_no_gradient(renderer: rf.Renderer) -> None:
    scene = corner()
    x = zeros(3).requires_grad_()
    away = rf.SceneTensors.of(scene, rf.Camera.look_at((0, -2, 0), (0, -4, 0)), torch.float64)
    renderer.render_tensors(away.with_object("wall", diffuse=x + 0.5), SIDE).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert (x.grad == 0).all()
    dark = rf.SceneTensors.of(scene.replace(objects=scene.objects[:2]))
    assert (renderer.render_tensors(dark, SIDE) == 0).all()


def test_a_small_v1_model_has_the_gradients_of_its_pictures() -> None:
    torch.manual_seed(0)
    model = RenderFormer(ModelConfig(**DENSE))
    # A larger output, so that differences of float32 numbers say something.
    model.get_parameter("view_transformer.out_dpt.scratch.output_conv2.2.weight").data *= 30
    renderer, start = rf.Renderer(model, "cpu"), rf.SceneTensors.of(corner())
    np.testing.assert_allclose(
        renderer.render_tensors(start, SIDE)[0], renderer.render(corner(), SIDE)[0].hdr, rtol=1e-5, atol=1e-6
    )
    for name in ("diffuse of a wall", "roughness of a wall", "place of a lamp", "vertices of a lamp", "camera"):
        count, change = CHANGES[name]
        step = 3e-4 if "vertices" in name else 3e-3

        def picture(x: Tensor, change: Any = change) -> Tensor:
            return renderer.render_tensors(change(start, x.float()), SIDE)

        gradient, differences = compared(picture, count, step)
        assert (gradient - differences).norm() < 0.05 * differences.norm(), name
    assert all(weight.grad is None and weight.requires_grad for weight in model.parameters())


def test_gradients_pass_the_embedded_network() -> None:
    renderer, start = (
        rf.Renderer.from_pretrained(device="cpu", network=True),
        rf.SceneTensors.of(corner(), dtype=torch.float64),
    )
    frozen = renderer.trace(start, SIDE)
    for name in ("diffuse of a wall", "place of a lamp", "camera"):
        count, change = CHANGES[name]

        def picture(x: Tensor, change: Any = change) -> Tensor:
            return renderer.render_tensors(change(start, x), SIDE, frozen)

        gradient, differences = compared(picture, count, 1e-3)
        assert (gradient - differences).norm() < 1e-3 * differences.norm(), name


def test_tensors_become_a_scene_again(scene: rf.Scene) -> None:
    start = rf.SceneTensors.of(scene)
    same = start.to_scene()
    for name in ("triangles", "normals", "materials"):
        np.testing.assert_array_equal(getattr(same, name), getattr(scene, name))
    np.testing.assert_array_equal(same.cameras[0].c2w, scene.cameras[0].c2w)
    moved = start.with_object("lamp", offset=torch.tensor([0.0, 0.0, 0.1]))
    moved = moved.with_object("wall", diffuse=torch.tensor(0.25))
    edited = {mesh.name: mesh for mesh in moved.to_scene().objects}
    assert edited["lamp"].bounds[0, 2] == pytest.approx(scene.objects[2].bounds[0, 2] + 0.1)
    np.testing.assert_array_equal(edited["wall"].materials[:, :3], 0.25)
    tilted = start.vertices[2:4] * torch.tensor([1.0, 1.0, 0.5])
    flat = start.with_object("floor", vertices=start.vertices[:2].flip(2)).normals[0]
    assert torch.allclose(flat.abs(), torch.tensor([1.0, 0.0, 0.0]).expand(3, 3), atol=1e-6)
    assert torch.equal(start.with_object("wall", vertices=tilted).vertices[2:4], tilted)


def test_what_is_not_supported_is_refused_in_one_line(renderer: rf.Renderer, scene: rf.Scene) -> None:
    start = rf.SceneTensors.of(scene)
    with pytest.raises(InputError, match="has no object 'lamb'"):
        start.with_object("lamb", diffuse=torch.zeros(3))
    with pytest.raises(InputError, match=r"diffuse has shape \(4,\)"):
        start.with_object("wall", diffuse=torch.zeros(4))
    with pytest.raises(InputError, match="expected a torch tensor"):
        start.with_object("wall", diffuse=0.5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="c2w has shape"):
        start.with_cameras(torch.eye(3))
    with pytest.raises(InputError, match="has no cameras"):
        rf.SceneTensors.of(scene.replace(cameras=()))
    with pytest.raises(InputError, match="diffuse goes down to -0.1"):
        renderer.render_tensors(start.with_object("wall", diffuse=torch.tensor(-0.1)), SIDE)
    with pytest.raises(InputError, match="not a rigid transform"):
        renderer.render_tensors(start.with_cameras(2 * start.c2w), SIDE)
    frozen = renderer.trace(start, SIDE)
    with pytest.raises(InputError, match="16 x 16 pixels"):
        renderer.render_tensors(start, 8, frozen)
    with pytest.raises(InputError, match="did not shine"):
        renderer.render_tensors(start.with_object("wall", emission=torch.tensor(1.0)), SIDE, frozen)
    hung = rf.SceneTensors.of(hung_with_a_curtain()).with_object("picture", diffuse=torch.tensor(0.5))
    with pytest.raises(InputError, match="has textures, so its colours cannot be changed"):
        renderer.render_tensors(hung, SIDE)
    many = rf.SceneTensors.of(corner(ball(0.05, rf.Material(emission=(1.0,) * 3), detail=2)))
    with pytest.raises(InputError, match="321 light triangles"):
        renderer.render_tensors(many, SIDE)
    v1 = rf.Renderer(RenderFormer(ModelConfig(**DENSE)), "cpu")
    with pytest.raises(InputError, match="V1"):
        v1.trace(start, SIDE)
    with pytest.raises(InputError, match="has textures"):
        v1.render_tensors(rf.SceneTensors.of(hung_with_a_curtain()), SIDE)


def run_example(name: str, steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Run an example with small pictures, and return by how much each of its results is off in its last step."""
    path, picture = EXAMPLES / f"{name}.py", tmp_path / "picture.png"
    source, changed = re.subn(r"SIDE, STEPS, SHOWN = .*", f"SIDE, STEPS, SHOWN = 24, {steps}, 32", path.read_text())
    assert changed == 1
    printed: list[str] = []
    monkeypatch.setattr(sys, "argv", [str(path), str(picture)])
    exec(compile(source, path, "exec"), {"__file__": str(path), "print": printed.append})
    assert picture.stat().st_size > 1000
    last = [line for line in printed if line.startswith("step")][-1]
    return [float(number) for number in re.findall(r"off by ([\d.]+)", last)]


def test_a_wall_and_a_lamp_are_recovered_from_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wall, lamp_away = run_example("recover", 12, tmp_path, monkeypatch)
    assert wall < 0.35
    assert lamp_away < 0.3


def test_the_colours_of_a_pytorch3d_mesh_are_fitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With stand-ins of the few things that the example takes of PyTorch3D."""
    for module in ("pytorch3d.renderer", "pytorch3d.structures"):
        monkeypatch.setitem(sys.modules, module, pytorch3d)
    (colours,) = run_example("fit_colours", 15, tmp_path, monkeypatch)
    assert colours < 0.15
