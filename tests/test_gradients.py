"""Pictures of tensors: their gradients against finite differences, of the same samples and of ordinary pictures."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from helpers.models import DENSE
from helpers.shapes import ball, box
from torch import Tensor

import renderformer as rf
from renderformer.config import ModelConfig
from renderformer.data.errors import InputError
from renderformer.data.rays.channels import RGB
from renderformer.data.rays.raycast import RayCaster
from renderformer.data.unit_size import UnitSize
from renderformer.model import RenderFormer

SIDE = 16


def quad(name: str, corners: list[tuple[float, float, float]], material: rf.Material) -> rf.Mesh:
    a, b, c, d = np.array(corners, np.float32)
    return rf.Mesh(name, np.stack([[a, b, c], [a, c, d]]), materials=material.row())


def lamp(radiance: float = 400.0) -> rf.Mesh:
    return rf.Light((0.1, -0.15, 0.45), (0.0, 0.0, -0.3), 0.06, (radiance, 0.8 * radiance, 0.6 * radiance), "lamp").mesh()


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
def rays(scene: rf.Scene, renderer: rf.Renderer) -> tuple[rf.SceneTensors, object]:
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
def test_gradients_are_those_of_the_same_samples(name: str, rays: tuple, scene: rf.Scene, renderer: rf.Renderer) -> None:
    start, frozen = rays
    count, change = CHANGES[name]
    gradient, differences = compared(lambda x: renderer.render_tensors(change(start, x), SIDE, frozen), count, 1e-6)
    assert differences.norm() > 0.01
    assert (gradient - differences).norm() < 1e-5 * differences.norm()
