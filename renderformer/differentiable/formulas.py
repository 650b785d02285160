"""The light of triangles and the specular lobe as functions that torch differentiates.

The same as `renderformer.data.rays.form_factor` and `renderformer.data.rays.ggx`, which are faster and in NumPy.

Shapes: S surface points. World space, float64.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from renderformer.data.rays.ggx import MIN_ALPHA

TINY = 1e-30


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner product over the last axis."""
    return (a * b).sum(-1)


def root(square: Tensor) -> Tensor:
    """The square root, with a gradient of 0 at 0."""
    positive = square > TINY
    return torch.where(positive, torch.where(positive, square, 1.0).sqrt(), 0.0)


def normalised(v: Tensor) -> Tensor:
    """Unit vectors over the last axis; zero stays zero."""
    square = dot(v, v)[..., None]
    return torch.where(square > TINY, v / torch.where(square > TINY, square, 1.0).sqrt(), 0.0)


def triangle_form_factor(points: Tensor, normals: Tensor, corners: Tensor, two_sided: Tensor) -> Tensor:
    """(S,) form factor of triangles (S, 3, 3) at points (S, 3) with unit normals (S, 3), clipped at their horizon
    (Lambert's polygon formula): irradiance = pi x radiance x form factor.

    Args:
        two_sided: (S,) whether a triangle acts on both of its sides and not only on its front.
    """
    vertices = normalised(corners - points[:, None])
    heights = dot(vertices, normals[:, None])
    total = torch.zeros_like(heights[:, 0])
    leaving, entering = torch.zeros_like(points), torch.zeros_like(points)
    for i in range(3):
        a, b, height_a, height_b = vertices[:, i], vertices[:, i - 2], heights[:, i], heights[:, i - 2]
        crosses = (height_a < 0) != (height_b < 0)
        t = height_a / torch.where(crosses, height_a - height_b, 1.0)
        border = normalised(a + t[:, None] * (b - a))
        leaving = torch.where((crosses & (height_a >= 0))[:, None], border, leaving)
        entering = torch.where((crosses & (height_a < 0))[:, None], border, entering)
        start = torch.where((height_a < 0)[:, None], border, a)
        end = torch.where((height_b < 0)[:, None], border, b)
        total = total + torch.where((height_a >= 0) | (height_b >= 0), _edge(start, end, normals), 0.0)
    total = total + _edge(leaving, entering, normals)
    # Seen from the front the edges run the other way round than about the normal of the surface.
    return torch.where(two_sided, total.abs(), (-total).clamp_min(0)) / (2 * math.pi)


def _edge(a: Tensor, b: Tensor, normals: Tensor) -> Tensor:
    """Angle between unit vectors times the height of their plane's unit normal over the surface."""
    across = torch.linalg.cross(a, b)
    sine = root(dot(across, across))
    short = sine < 1e-9
    divisor = torch.where(short, 1.0, sine)
    return torch.where(short, 1.0, torch.atan2(divisor, dot(a, b)) / divisor) * dot(across, normals)


def lobe(normal: Tensor, outgoing: Tensor, incoming: Tensor, roughness: Tensor) -> tuple[Tensor, Tensor]:
    """The GGX lobe of unit normals seen from directions (S, 3) where light comes from directions (S, 3).

    Returns:
        (S,) density per solid angle of the reflected directions, and (S,) masking of the incoming ones. Their product
        is the reflectance times the cosine of the incoming direction.
    """
    alpha = (roughness**2).clamp_min(MIN_ALPHA)
    half = normalised(incoming + outgoing)
    along = dot(half, normal)
    aside = half - along[:, None] * normal
    alpha2 = alpha * alpha
    spread = alpha2 * along**2 + dot(aside, aside)
    cosine = dot(normal, outgoing)
    density = alpha2 / (math.pi * spread**2) * _masking(cosine, alpha) / (4 * cosine.clamp_min(1e-4))
    return density, _masking(dot(normal, incoming), alpha)


def _masking(cosine: Tensor, alpha: Tensor) -> Tensor:
    """Smith's masking of isotropic GGX; 0 below the surface."""
    squared = cosine.clamp(1e-6, 1.0) ** 2
    return 2 / (1 + (1 + alpha**2 * (1 - squared) / squared).sqrt()) * (cosine > 0)
