"""Light on frozen samples as a function of a scene's tensors.

What is differentiated: positions along rays, normals, form factors of lights, the specular lobe, materials, emission,
and the light cache. What is not: which surface a ray meets, and which part of a light is seen.

Shapes: N triangles, S surface points, L light triangles, M surfels with 2 M sides. World space, float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from scipy.sparse import csr_array
from torch import Tensor

from renderformer.data.rays.light_cache import BOUNCES
from renderformer.data.scene import DIFFUSE, EMISSION, ROUGHNESS, SPECULAR
from renderformer.differentiable.formulas import TINY, dot, lobe, normalised, triangle_form_factor
from renderformer.differentiable.samples import FrozenCache, Gloss, Rays, Samples, SkyRays, Surface, fixed


@dataclass(frozen=True, eq=False)
class Values:
    """A scene in the units of the rays.

    Attributes:
        corners, normals: (N, 3, 3); face: (N, 3) unit normals.
        diffuse, specular, emission: (N, 3); roughness: (N,).
        light: (L,) which triangles are lights; two_sided: (L,).
        before: (N, 13) the rows of materials that the samples were frozen with.
    """

    corners: Tensor
    normals: Tensor
    face: Tensor
    diffuse: Tensor
    specular: Tensor
    roughness: Tensor
    emission: Tensor
    light: Tensor
    two_sided: Tensor
    before: Tensor


@dataclass(frozen=True, eq=False)
class Points:
    """S surface points: position, shading normal, geometric normal and direction to where they are seen from (S, 3),
    and their materials."""

    position: Tensor
    normal: Tensor
    face: Tensor
    outgoing: Tensor
    diffuse: Tensor
    specular: Tensor
    roughness: Tensor
    emission: Tensor


@dataclass(frozen=True, eq=False)
class Cached:
    """Light of the sides of a light cache (2 M, 3): indirect irradiance / pi, the radiance that they send back, and the
    part of the irradiance that shiny surfaces throw on them, which is in no other side's radiance."""

    indirect: Tensor
    outgoing: Tensor
    thrown: Tensor


def met(values: Values, surface: Surface, origin: Tensor, direction: Tensor) -> Points:
    """Where rays from origins along directions, (S, 3) or (3,), meet the planes of their triangles."""
    corners, face = values.corners[surface.triangle], values.face[surface.triangle]
    distance = dot(corners[:, 0] - origin, face) / dot(direction, face)
    position = origin + distance[:, None] * direction
    first, second, place = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0], position - corners[:, 0]
    cross = torch.linalg.cross(first, second)
    area = dot(cross, cross).clamp_min(TINY)
    u = dot(torch.linalg.cross(place, second), cross) / area
    v = dot(torch.linalg.cross(first, place), cross) / area
    return _points(values, surface, position, torch.stack([1 - u - v, u, v], dim=1), normalised(-direction))


def on(values: Values, surface: Surface) -> Points:
    """Points of triangles that move with these, seen from straight above."""
    u, v = surface.place.T
    weights = torch.stack([1 - u - v, u, v], dim=1)
    position = torch.einsum("si,sij->sj", weights, values.corners[surface.triangle])
    face = surface.side[:, None] * values.face[surface.triangle]
    return _points(values, surface, position, weights, face)


def _points(values: Values, surface: Surface, position: Tensor, weights: Tensor, outgoing: Tensor) -> Points:
    triangle, detail = surface.triangle, surface.detail
    smooth = normalised(torch.einsum("si,sij->sj", weights, values.normals[triangle]))
    smooth = torch.where((smooth == 0).all(-1, keepdim=True), values.face[triangle], smooth)
    return Points(
        position,
        normalised(surface.facing[:, None] * smooth + surface.bend),
        surface.side[:, None] * values.face[triangle],
        outgoing.expand_as(position),
        values.diffuse[triangle] + detail[:, DIFFUSE],
        values.specular[triangle] + detail[:, SPECULAR],
        _widened(values.roughness[triangle] + detail[:, ROUGHNESS], surface.wider),
        values.emission[triangle] * surface.glows[:, None] + detail[:, EMISSION],
    )


def _widened(roughness: Tensor, wider: Tensor) -> Tensor:
    """Roughness (S,) as `renderformer.data.rays.specular.widened`, which leaves it as it is where nothing is wider."""
    is_wider = wider > 0
    square = torch.where(is_wider, roughness**4 + wider, torch.ones_like(roughness))
    return torch.where(is_wider, (square**0.25).clamp(max=1), roughness)


def direct(values: Values, points: Points, rays: Rays) -> Tensor:
    """(S, 3) radiance that white diffuse surfaces send back of the lights: irradiance / pi."""
    triangle = values.light[rays.light]
    factor = triangle_form_factor(
        points.position[rays.point], points.normal[rays.point], values.corners[triangle], values.two_sided[rays.light]
    )
    light = (rays.share * factor)[:, None] * values.emission[triangle]
    return torch.zeros_like(points.position).index_add(0, rays.point, light)


def solve(values: Values, cache: FrozenCache) -> Cached:
    """The light cache."""
    points = on(values, cache.surface)
    arrives = direct(values, points, cache.lights) + facing(cache.sun, points.normal)
    light = torch.zeros(cache.count, 3, dtype=arrives.dtype).index_copy(0, cache.solved, arrives)
    before = (values.before[:, DIFFUSE] + values.before[:, SPECULAR]).clamp_max(1)
    change = _times(cache.users, (values.diffuse + values.specular).clamp_max(1) - before)
    reflectance = cache.reflectance + change.repeat(2, 1)
    change = _times(cache.users, values.diffuse.clamp_max(1) - values.before[:, DIFFUSE].clamp_max(1))
    sent, thrown = (cache.diffuse + change.repeat(2, 1)) * light, _thrown(values, cache)
    received = cache.sky + thrown
    indirect = received
    for _ in range(BOUNCES):
        indirect = received + _times(cache.transport, sent + reflectance * indirect)
    return Cached(indirect, sent + reflectance * indirect, thrown)


def _thrown(values: Values, cache: FrozenCache) -> Tensor:
    """(2 M, 3) irradiance / pi of what shiny surfaces throw back of the lights."""
    paths = cache.thrown
    if not len(paths.side):
        return torch.zeros_like(cache.sky)
    light = paths.sky
    if len(values.light):
        light = light + paths.weight[:, None] * values.emission[values.light[paths.light]]
    brought = light * (values.specular[paths.triangle] + paths.detail)
    return _times(paths.shared, torch.zeros_like(cache.sky).index_add(0, paths.side, brought))


def gloss(values: Values, points: Points, samples: Gloss, cached: Cached) -> tuple[Tensor, Tensor]:
    """(S, 3) highlight of the lights and reflection of other surfaces."""
    some = Points(*(getattr(points, name)[samples.point] for name in Points.__dataclass_fields__))
    glint = torch.zeros_like(some.position)
    glint = glint.index_add(0, samples.glints.point, _glints(values, some, samples.glints))
    glint = glint.index_add(0, samples.sky.point, _sky_glints(some, samples.sky))
    mirrored = torch.zeros_like(some.position)
    if len(samples.start):
        start = samples.start
        density, masking = lobe(some.normal[start], some.outgoing[start], samples.direction, some.roughness[start])
        weight = density * masking / samples.expected
        origin = some.position + samples.offset[:, None] * some.face
        reached = met(values, samples.met.surface, origin[start], samples.direction)
        back = sent_back(values, reached, samples.met, cached)
        mirrored = mirrored.index_add(0, start, weight[:, None] * samples.dark * back)
    nothing = torch.zeros_like(points.position)
    highlight = nothing.index_add(0, samples.point, glint * some.specular)
    return highlight, nothing.index_add(0, samples.point, mirrored * some.specular)


def _glints(values: Values, points: Points, rays: Rays) -> Tensor:
    """(Q, 3) light of samples of lights in lobes of specular colour 1."""
    triangle = values.light[rays.light]
    corners = values.corners[triangle]
    toward = torch.einsum("qi,qij->qj", rays.weights, corners) - points.position[rays.point]
    square = dot(toward, toward).clamp_min(TINY)
    incoming = toward / square.sqrt()[:, None]
    density, masking = lobe(
        points.normal[rays.point], points.outgoing[rays.point], incoming, points.roughness[rays.point]
    )
    cross = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    # The projected area of the light: its area times the cosine on it.
    projected = dot(incoming, cross).abs() / 2
    return (rays.share * density * masking * projected / square)[:, None] * values.emission[triangle]


def _sky_glints(points: Points, rays: SkyRays) -> Tensor:
    """(Q, 3) light of the environment in lobes of specular colour 1."""
    row = rays.point
    density, masking = lobe(points.normal[row], points.outgoing[row], rays.direction, points.roughness[row])
    return (density * masking)[:, None] * rays.light


def sent_back(values: Values, points: Points, samples: Samples, cached: Cached) -> Tensor:
    """(S, 3) radiance that points send back to where they are seen from, without what they emit."""
    light = direct(values, points, samples.lights)
    reflectance = points.diffuse + points.specular if samples.last else points.diffuse
    around = facing(samples.sky, points.normal) + cached.indirect[samples.sides]
    radiance = points.diffuse * light + reflectance * around
    if samples.gloss is not None:
        radiance = radiance + sum(gloss(values, points, samples.gloss, cached))
    return radiance


def gathered(points: Points, samples: Samples, cached: Cached) -> Tensor:
    """(S, 3) radiance that white diffuse surfaces send back of light by way of other surfaces: irradiance / pi."""
    assert samples.gathered is not None
    seen = facing(_times(samples.gathered, cached.outgoing).unflatten(0, (-1, 3)), points.normal)
    return seen + cached.thrown[samples.sides]


def facing(light: Tensor, normal: Tensor) -> Tensor:
    """(S, 3) light on surfaces of normals (S, 3), of what arrives (S, 3, 3), by axis and colour."""
    return torch.einsum("sic,si->sc", light, normal)


class _Product(torch.autograd.Function):
    """A constant sparse matrix times a matrix; torch's own product of sparse rows is slower and experimental."""

    @staticmethod
    def forward(ctx: Any, matrix: csr_array, right: Tensor) -> Tensor:
        ctx.matrix = matrix
        return fixed(matrix @ right.detach().numpy())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        return None, fixed(ctx.matrix.T @ gradients[0].numpy())


def _times(matrix: csr_array, right: Tensor) -> Tensor:
    product: Tensor = _Product.apply(matrix, right)
    return product
