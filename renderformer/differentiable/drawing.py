"""Pictures of tensors: `trace` freezes rays, `draw` makes the picture that gradients flow through.

A feature image of tensors is the ordinary one plus what the frozen samples say changes:

    features(tensors) = ordinary features + gain x (samples(tensors) - samples(tensors of the trace))

So where it was traced its value is the ordinary picture, with all rays along edges, and its gradient is that of fewer
samples. The gain is 1, but for light the ordinary features over those of the samples: twice the light gives twice the
picture, and none is negative.

Shapes: N triangles, V views, h x w pixels, S samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from renderformer.data.errors import InputError
from renderformer.data.rays.backdrop import composited
from renderformer.data.rays.channels import RGB
from renderformer.data.rays.pixels import Pixels
from renderformer.data.scene import NORMAL
from renderformer.data.unit_size import UnitSize
from renderformer.differentiable import shading
from renderformer.differentiable.samples import CameraSamples, FrozenCache, fixed
from renderformer.differentiable.shading import Cached, Values
from renderformer.differentiable.tensors import SceneTensors, face_normals
from renderformer.differentiable.tracing import Tracer
from renderformer.model import Encoded, Model, RenderFormer

if TYPE_CHECKING:
    from renderformer.renderer import Renderer

# Samples on a side of a pixel, as ordinary pictures have where nothing differs.
ANTIALIAS = 2
# Samples whose numbers are kept for the backward pass at once, up to 15 kB each; those of more are computed again.
TOGETHER = 1 << 15
# Where samples found almost nothing of what ordinary pictures show, the quotient says nothing.
LARGEST_GAIN = 4.0
# Most light triangles: each sample sends shadow rays to all of them.
MAX_LIGHTS = 256


@dataclass(frozen=True, eq=False)
class TracedRays:
    """What the rays of the cameras of some tensors meet, for `Renderer.render_tensors` of them and of others like them.

    Attributes:
        size: width and height of the pictures.
        unit: from the units of the scene to those of the rays.
        encoded: what the network knows of the scene.
        ordinary: (V, h, w, 39) feature images of ordinary pictures.
        replayed: (V, h, w, 39) those of the samples at the values of the trace.
        behind: (V, h, w, 3) the environment behind the objects.
    """

    size: tuple[int, int]
    unit: UnitSize
    encoded: Encoded | None
    ordinary: Tensor
    behind: Tensor
    cache: FrozenCache
    views: tuple[tuple[CameraSamples, ...], ...]
    light: Tensor
    two_sided: Tensor
    before: Tensor
    replayed: Tensor

    @cached_property
    def gain(self) -> Tensor:
        """(V, h, w, 39), see the module."""
        known = torch.zeros(RGB.total, dtype=torch.bool)
        for part in RGB.by_colour:
            known[part] = True
        known = known & (self.replayed > 0)
        quotient = self.ordinary / torch.where(known, self.replayed, 1.0)
        return torch.where(known, quotient.clamp(0.0, LARGEST_GAIN), 1.0)


def trace(renderer: Renderer, tensors: SceneTensors, size: tuple[int, int]) -> TracedRays:
    """See `Renderer.trace`."""
    scene = tensors.to_scene()
    model = renderer.model
    if isinstance(model, RenderFormer):
        raise InputError("rays", "a V1 model casts none", "leave them out")
    unit = UnitSize.of(scene, renderer.config.trained.box)
    moved = unit.scene(scene)
    with torch.no_grad():
        prepared = model.prepare(moved)
        encoded = model.encode(**{key: torch.tensor(a, device=renderer.device) for key, a in prepared.inputs.items()})
    caster = prepared.caster
    assert caster is not None
    if len(caster.triangles) != len(scene):
        remedy = "subdivide large triangles far from the objects, or leave them out"
        raise InputError(f"scene {scene.name!r}", "has parts so far away that the light cache cuts them", remedy)
    if len(caster.lights) > MAX_LIGHTS:
        remedy = f"gradients follow at most {MAX_LIGHTS}; make lamps of fewer triangles"
        raise InputError(f"scene {scene.name!r}", f"has {len(caster.lights):,} light triangles", remedy)
    tracer = Tracer(caster, matt="specular" in tensors.wanted)
    width, height = size
    ordinary, behind, views = [], [], []
    y, x = (grid.reshape(-1) for grid in np.mgrid[:height, :width])
    for camera in moved.cameras:
        image = caster.features(camera, width, height)[:height, :width]
        ordinary.append(image)
        back = np.zeros((height, width, 3), np.float32)
        if scene.environment is not None:
            back = composited(back, image[..., RGB.mask][..., 0], scene.environment, camera)[0]
        behind.append(back)
        pixels = Pixels(camera, width, height, x, y)
        parts = np.array_split(np.arange(len(x)), -(-len(x) * ANTIALIAS**2 // TOGETHER))
        views.append(
            tuple(
                replace(found, pixel=fixed(part)[found.pixel])
                for part in parts
                for found in tracer.view(pixels.take(part), ANTIALIAS)
            )
        )
    rays = TracedRays(
        size, unit, encoded, fixed(np.stack(ordinary)), fixed(np.stack(behind)), tracer.cache(), tuple(views),
        fixed(caster.lights.triangle), fixed(caster.lights.two_sided), fixed(scene.materials),
        torch.zeros(()),
    )  # fmt: skip
    with torch.no_grad():
        return replace(rays, replayed=_replayed(tensors, rays))


def draw(renderer: Renderer, tensors: SceneTensors, size: tuple[int, int], rays: TracedRays | None) -> Tensor:
    """See `Renderer.render_tensors`."""
    model = renderer.model
    with _constant(model):
        if isinstance(model, RenderFormer):
            if rays is not None:
                raise InputError("rays", "a V1 model casts none", "leave them out")
            picture = _by_network_alone(renderer, tensors, size)
        else:
            rays = trace(renderer, tensors, size) if rays is None else _checked(rays, tensors, size)
            features = rays.ordinary + rays.gain * (_replayed(tensors, rays) - rays.replayed)
            c2w, fov = (t.to(renderer.device)[None] for t in (_moved(tensors, rays.unit)[1], tensors.fov))
            pixels = features.to(renderer.device)[None]
            picture = model.view(rays.encoded, c2w, fov, size[1], size[0], pixels=pixels)[0, ..., :3]
            picture = picture + rays.behind.to(picture)
    # What is not in the picture has a gradient of 0, not none.
    unseen = sum((0 * getattr(tensors, name).sum().to(picture) for name in tensors.wanted), torch.zeros(()))
    return (picture + unseen.to(picture)).to(tensors.diffuse)


def _by_network_alone(renderer: Renderer, tensors: SceneTensors, size: tuple[int, int]) -> Tensor:
    """(V, h, w, 3) pictures of a V1 model, which sees triangles and cameras as they are."""
    scene = tensors.to_scene()
    if any(mesh.appearance is not None or mesh.patches is not None for mesh in scene.objects):
        remedy = "give its objects plain materials: mesh.with_material(Material())"
        raise InputError(f"scene {scene.name!r}", "has textures, of which V1 models give no gradients", remedy)
    corners, c2w = _moved(tensors, UnitSize.of(scene, renderer.config.trained.box))
    bumps = torch.from_numpy(scene.materials[:, NORMAL]).to(tensors.diffuse)
    rows = [tensors.diffuse, tensors.specular, tensors.roughness[:, None], bumps, tensors.emission]
    mask = torch.ones(1, len(scene), dtype=torch.bool)
    inputs = (corners[None], torch.cat(rows, dim=1)[None], mask, tensors.normals[None])
    encoded = renderer.model.encode(*(t.to(renderer.device) for t in inputs))
    pose = (t[None].to(renderer.device) for t in (c2w, tensors.fov))
    return renderer.model.view(encoded, *pose, size[1], size[0])[0, ..., :3]


def _moved(tensors: SceneTensors, unit: UnitSize) -> tuple[Tensor, Tensor]:
    """Vertices (N, 3, 3) and cameras (V, 4, 4) in the units of the model."""
    if not unit.changes:
        return tensors.vertices, tensors.c2w
    centre = torch.tensor(unit.centre, dtype=torch.float64, device=tensors.vertices.device)
    corners, eyes = (unit.scale * (points.double() - centre) for points in (tensors.vertices, tensors.c2w[:, :3, 3]))
    turned = torch.cat([tensors.c2w[:, :3, :3].double(), eyes[..., None]], dim=2)
    return corners.to(tensors.vertices), torch.cat([turned, tensors.c2w[:, 3:].double()], dim=1).to(tensors.c2w)


def _checked(rays: TracedRays, tensors: SceneTensors, size: tuple[int, int]) -> TracedRays:
    """The rays, if they are those of tensors like these."""
    count, views = len(rays.before), len(rays.views)
    if (count, views, rays.size) != (len(tensors.diffuse), len(tensors.c2w), size):
        problem = f"were traced for {count:,} triangles, {views} cameras and {rays.size[0]} x {rays.size[1]} pixels"
        raise InputError("rays", problem, "trace the tensors again")
    dark = torch.ones(count, dtype=torch.bool)
    dark[rays.light] = False
    if (tensors.emission.detach().cpu()[dark] > 0).any():
        raise InputError("rays", "were traced when some of the lights did not shine", "trace the tensors again")
    return rays


def _values(tensors: SceneTensors, rays: TracedRays) -> tuple[Values, Tensor]:
    """The tensors as samples need them, and the cameras (V, 4, 4)."""
    corners, c2w = _moved(tensors, rays.unit)
    corners = corners.cpu().double()
    values = Values(
        corners=corners,
        normals=tensors.normals.cpu().double(),
        face=face_normals(corners),
        diffuse=tensors.diffuse.cpu().double(),
        specular=tensors.specular.cpu().double(),
        roughness=tensors.roughness.cpu().double(),
        emission=tensors.emission.cpu().double(),
        light=rays.light,
        two_sided=rays.two_sided,
        before=rays.before,
    )
    return values, c2w.cpu().double()


def _replayed(tensors: SceneTensors, rays: TracedRays) -> Tensor:
    """(V, h, w, 39) feature images of the frozen samples."""
    values, c2w = _values(tensors, rays)
    cached = shading.solve(values, rays.cache)
    width, height = rays.size
    images = []
    for view, pose, fov in zip(rays.views, c2w, tensors.fov.cpu().double(), strict=True):
        image = torch.zeros(height * width, RGB.total, dtype=torch.float64)
        for part in view:
            arguments = part, values, cached, pose, fov, rays.size
            several = len(view) > 1
            features = checkpoint(_features, *arguments, use_reentrant=False) if several else _features(*arguments)
            image = image.index_add(0, part.pixel, features)
        images.append(_averaged(image).unflatten(0, (height, width)))
    return torch.stack(images)


def _features(
    part: CameraSamples, values: Values, cached: Cached, c2w: Tensor, fov: Tensor, size: tuple[int, int]
) -> Tensor:
    """(S, 39) features of samples, each by its share of its pixel."""
    samples, turn = part.samples, c2w[:3, :3]
    focal = size[1] / 2 / torch.tan(torch.deg2rad(fov) / 2)
    across, down = (part.x - size[0] / 2) / focal, (part.y - size[1] / 2) / focal
    direction = torch.stack([across, -down, -torch.ones_like(across)], dim=1) @ turn.T
    points = shading.met(values, samples.surface, c2w[:3, 3], direction)
    light = shading.direct(values, points, samples.lights) + shading.facing(samples.sky, points.normal)
    indirect = shading.gathered(points, samples, cached)
    highlight = reflection = torch.zeros_like(light)
    if samples.gloss is not None:
        highlight, reflection = shading.gloss(values, points, samples.gloss, cached)
    looked_up = cached.indirect[samples.sides]
    nothing = torch.zeros_like(light[:, :1])
    found = {
        "mask": nothing + 1, "normal": points.normal @ turn, "position": (points.position - c2w[:3, 3]) @ turn,
        "diffuse": points.diffuse, "specular": points.specular, "roughness": points.roughness[:, None],
        "emission": points.emission, "irradiance": light, "indirect_irradiance": indirect, "cached": looked_up,
        "spread": nothing, "direct": light * points.diffuse, "indirect": indirect * points.diffuse,
        "highlight": highlight, "reflection": reflection,
    }  # fmt: skip
    share = part.share[:, None] / ANTIALIAS**2
    return torch.cat([found[name] for name in RGB._fields], dim=1) * share


def _averaged(sums: Tensor) -> Tensor:
    """Sums over samples (h w, 39), of which geometry is the mean over those that hit."""
    share = sums[:, RGB.mask].clamp_min(1 / ANTIALIAS**2)
    parts = [sums[:, part] / share if part in RGB.geometry else sums[:, part] for part in RGB]
    return torch.cat(parts, dim=1)


@contextmanager
def _constant(model: Model) -> Iterator[None]:
    """Let no gradients flow to the weights of a model."""
    every = model.parameters() if isinstance(model, nn.Module) else ()
    weights = [weight for weight in every if weight.requires_grad]
    try:
        for weight in weights:
            weight.requires_grad_(False)
        yield
    finally:
        for weight in weights:
            weight.requires_grad_(True)
