"""What the specular lobe of surface points sends to the viewer: the highlight of the lights, and a reflection.

The highlight combines samples of the lights and of the lobe by the balance heuristic (Veach and Guibas 1995), so that
broad and sharp lobes are both free of noise; the reflection of other directly lit surfaces uses the lobe's samples.

Shapes: S surface points, C channels of light (light_groups.py), Q shadow rays. Vectors are laid out as in vectors.py.
"""

from __future__ import annotations

import numpy as np

from renderformer.data.arrays import Float32Array, Int64Array
from renderformer.data.rays.direct import Direct, LitSurfaces
from renderformer.data.rays.embree import Hits
from renderformer.data.rays.environment_light import SOFT_RAYS, Arriving
from renderformer.data.rays.ggx import Lobe, ggx_masking, ggx_shape, ggx_visible_normal
from renderformer.data.rays.light_cache import LightCache
from renderformer.data.rays.vectors import TINY, dot, take
from renderformer.data.scene import DIFFUSE, EMISSION, ROUGHNESS, SPECULAR

# Reflections that are followed one in the other: a polished floor shows the lights that a mirror shows.
MIRROR_DEPTH = 2
# Most that what a ray of the lobe stands for widens by, of its length.
MAX_SPREAD = 0.5
# Alpha of a lobe that is as wide as a ray's cone, over the width of the cone: half vectors turn by half as much, and
# the cone's standard deviation in one direction is a bit more than half of its radius.
WIDENED = 0.25


def specular(
    surfaces: LitSurfaces,
    hits: Hits,
    materials: Float32Array,
    direct: Direct,
    lobe_rays: int,
    phase: Int64Array,
    depth: int = MIRROR_DEPTH,
    cache: LightCache | None = None,
    distant: Arriving | None = None,
) -> tuple[Float32Array, Float32Array]:
    """Highlight of the lights and reflection of other directly lit surfaces in the GGX lobe, both (S, C) radiance.

    What a reflected ray meets sends back its diffuse light and, up to `depth` reflections in all, its own highlight and
    reflection by one ray each.

    Args:
        materials: (S, 13) rows of the points that were hit.
        direct: as `LitSurfaces.direct` gives it for the same hits and phase.
        lobe_rays: samples of the lobe for each point.
        phase: (S,) small integers; points of a different phase use different samples.
        cache: adds indirect light to what reflected rays meet.
        distant: as `LitSurfaces.distant` gives it for the same hits and phase; the highlight shows the environment.
    """
    groups = surfaces.groups
    highlight, reflection = np.zeros((2, groups.channels, len(hits.rows)), np.float32)
    shiny = np.flatnonzero((materials[:, SPECULAR] > 0).any(axis=1))
    if len(shiny):
        hits, materials, phase = hits.take(shiny), take(materials, shiny), phase[shiny]
        lobe = Lobe.at(hits.normal, hits.outgoing, materials[:, ROUGHNESS])
        direct = direct.take(shiny)
        glint = _light_samples(hits, lobe, direct, lobe_rays)
        distant = distant.take(shiny) if distant is not None else None
        glint_lobe, mirrored = _lobe_samples(surfaces, hits, lobe, direct, lobe_rays, phase, depth, cache, distant)
        if distant is not None:
            glint = glint + distant.highlight(lobe, lobe_rays)
        colour = groups.for_all(materials[:, SPECULAR])
        highlight[:, shiny] = ((glint + glint_lobe) * colour).T
        reflection[:, shiny] = (mirrored * colour).T
    return highlight.T, reflection.T


def _light_samples(hits: Hits, lobe: Lobe, direct: Direct, lobe_rays: int) -> Float32Array:
    """(S, C) part of the highlight that shadow rays find, for a specular colour of 1."""
    lights, groups = direct.surfaces.lights, direct.surfaces.groups
    glint = np.zeros((groups.channels, len(hits.rows)))
    # One table, so that the columns of a ray's point are taken together.
    table = np.concatenate([hits.position.T, hits.normal.T, hits.outgoing.T, [lobe.alpha, lobe.height]]).T
    for rays in direct.rays():
        points = table if rays.every else take(table, rays.row)
        normal, outgoing, alpha = points[:, 3:6], points[:, 6:9], points[:, 9]
        toward = rays.target - points[:, :3]
        square = np.maximum(dot(toward, toward), np.float32(TINY))
        toward *= (1 / np.sqrt(square))[:, None]
        incoming = dot(toward, normal)
        lobe_pdf = points[:, 10] * ggx_shape(normal, outgoing, toward, alpha)
        cosine = np.maximum(np.abs(dot(toward, np.atleast_2d(lights.normal[rays.light]))), np.float32(1e-6))
        per_angle = square / cosine
        # The reflectance times the cosine of the incoming direction is the lobe's density times its masking.
        share = rays.share * ggx_masking(incoming, alpha) * lobe_pdf * rays.expected / rays.density
        share /= np.maximum(rays.expected * per_angle + lobe_rays * lobe_pdf, np.float32(TINY))
        radiance = groups.sent(np.atleast_2d(lights.radiance[rays.light]), np.atleast_1d(lights.triangle[rays.light]))
        for k in np.flatnonzero(radiance.any(axis=0)):
            sent = share * radiance[:, k]
            glint[k] += sent if rays.every else np.bincount(rays.row, sent, len(hits.rows))
    return glint.T.astype(np.float32)


def _lobe_samples(
    surfaces: LitSurfaces,
    hits: Hits,
    lobe: Lobe,
    direct: Direct,
    lobe_rays: int,
    phase: Int64Array,
    depth: int,
    cache: LightCache | None,
    distant: Arriving | None,
) -> tuple[Float32Array, Float32Array]:
    """(S, C) part of the highlight that samples of the lobe find, and the reflection, for a specular colour of 1."""
    groups = surfaces.groups
    glint, mirrored = np.zeros((2, groups.channels, len(hits.rows)), np.float32)
    origins = hits.shadow_origins
    for k in range(lobe_rays):
        index = (phase * lobe_rays + k).astype(np.float32)
        u = (0.5 + index * np.float32(0.75487766)) % 1
        # This start gives 16 to 64 rays a third of the error that 0.5 does, over roughness and angle (2 % of a lobe).
        v = (0.1 + index * np.float32(0.56984029)) % 1
        half = ggx_visible_normal(lobe.view, lobe.alpha, u, v)
        incoming = 2 * dot(lobe.view, half)[:, None] * half - lobe.view
        masking_in = ggx_masking(incoming[:, 2], lobe.alpha)
        # Directions into the surface reflect nothing.
        out = np.flatnonzero(masking_in)
        density = lobe.density(half)
        # Textures are averaged over what a ray stands for.
        spread = np.minimum(1 / np.sqrt(np.maximum(lobe_rays * density[out], 1)), MAX_SPREAD)
        width = 0.0 if hits.width is None else hits.width[out]
        directions = take(lobe.to_world(incoming), out)
        mirror, materials = surfaces.hits(take(origins, out), directions, spread, width)
        rows = out[mirror.rows]
        if distant is not None:
            missed = np.setdiff1d(np.arange(len(out)), mirror.rows, assume_unique=True)
            beyond = out[missed]
            light = distant.along(take(directions, missed), take(lobe.density(half), beyond), lobe_rays)
            glint[:, beyond] += ((masking_in[beyond] / lobe_rays)[:, None] * light).T
        emission = materials[:, EMISSION]
        toward = mirror.position - take(origins, rows)
        expected = direct.expected(rows, mirror, dot(toward, toward))
        lobe_pdf, masking = density[rows], take(masking_in, rows)
        # Both densities are 0 where a surface is seen exactly edge-on and the ray met no light.
        total_pdf = expected + lobe_rays * lobe_pdf
        weight = masking * lobe_pdf / np.where(total_pdf > 0, total_pdf, 1)
        bounce = _sent_back(
            surfaces, mirror, widened(materials, spread[mirror.rows]), phase[rows] * lobe_rays + k, depth, cache
        )
        glint[:, rows] += (weight[:, None] * groups.sent(emission, mirror.triangle)).T
        mirrored[:, rows] += ((masking / lobe_rays)[:, None] * (bounce * groups.for_all(emission <= 0))).T
    return glint.T, mirrored.T


def widened(materials: Float32Array, spread: Float32Array) -> Float32Array:
    """Rows (S, 13) of materials with lobes as wide as they are for rays that stand for cones of `spread` (S,).

    A sharp highlight that a single ray of a wide lobe meets would count many times its share, and one that it misses
    not at all (path space regularization, Kaplanyan and Dachsbacher 2013).
    """
    rows = materials.copy()
    # The square of a GGX lobe's alpha, which is the roughness squared, adds up as a variance does.
    rows[:, ROUGHNESS] = np.minimum((rows[:, ROUGHNESS] ** 4 + (WIDENED * spread) ** 2) ** np.float32(0.25), 1)
    return rows


def _sent_back(
    surfaces: LitSurfaces,
    hits: Hits,
    materials: Float32Array,
    phase: Int64Array,
    depth: int,
    cache: LightCache | None,
) -> Float32Array:
    """(S, C) radiance that points send back of direct light, of `depth` - 1 reflections, and of cached light."""
    direct = surfaces.direct(hits, 1, phase)
    radiance = surfaces.groups.for_all(materials[:, DIFFUSE]) * direct.reflected
    distant = surfaces.distant(hits, 1, phase)
    if depth > 1:
        radiance += sum(specular(surfaces, hits, materials, direct, 1, phase, depth - 1, cache, distant))
    # The last reflection sees the environment and indirect light from all around, as a diffuse surface would.
    reflectance = surfaces.groups.for_all(materials[:, DIFFUSE] + (materials[:, SPECULAR] if depth == 1 else 0))
    if distant is not None:
        radiance += reflectance * distant.reflected(hits.normal)
    if cache is not None:
        radiance += reflectance * cache.irradiance(hits, phase)
    elif distant is not None:
        radiance += reflectance * distant.light.soft_irradiance(surfaces, hits, SOFT_RAYS // 2, phase)
    return radiance
