"""What the rays of a camera hit, and the direct light there: the inputs of a model with `ray_features`.

Rays are cast on the CPU by Embree. Everything is deterministic: the sample positions are fixed sequences.

Shapes: N triangles, S samples (rays), L lights, K shadow rays per light, h x w pixels, A x A samples per pixel.
Arrays over samples have contiguous columns, see lighting.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields

import numpy as np
from scipy.ndimage import maximum_filter, minimum_filter

from renderformer.data.arrays import AnyArray, BoolArray, Float16Array, Float32Array, Int32Array, Int64Array
from renderformer.data.camera import Camera
from renderformer.data.geometry.simplify import proxy
from renderformer.data.rays.channels import RGB
from renderformer.data.rays.lighting import (
    MIN_ALPHA,
    Lights,
    dot,
    ggx_density,
    ggx_masking,
    ggx_visible_normal,
    normalised,
    take,
    tangent_frame,
    triangle_form_factor,
    triangle_samples,
    vectors,
)
from renderformer.data.scene import DIFFUSE, EMISSION, ROUGHNESS, SPECULAR, Scene

(MASK, HIT_NORMAL, HIT_POSITION, HIT_DIFFUSE, HIT_SPECULAR, HIT_ROUGHNESS, HIT_EMISSION, IRRADIANCE, DIRECT, HIGHLIGHT,
 REFLECTION) = RGB  # fmt: skip
RAY_CHANNELS = RGB.total
GEOMETRY = np.r_[HIT_NORMAL, HIT_POSITION, HIT_ROUGHNESS]

# Shadow rays start this far off the surface, in scene units of a unit-sized scene.
OFFSET = 1e-4
# Shadow rays go to at most this many light triangles; of more, a sample by power stands for all.
MAX_LIGHTS = 32
# Reflections that are followed one in the other: a polished floor shows the lights that a mirror shows.
MIRROR_DEPTH = 2
# Samples of a pixel that differ by more than this, of 1, are too few.
CONTRAST = 0.1
# Rays on a side that tell how much of a pixel on the outline against nothing is covered: a fiftieth of white already
# shows against black. A ray that is only asked whether it meets anything costs a hundredth of one that is shaded.
OUTLINE_RAYS = 8
# Samples handled at once, by one thread: bounds the memory, and keeps the overhead of a NumPy call small.
CHUNK = 32768


@dataclass(frozen=True)
class Hits:
    """Surface points that rays met: `rows` (S,) indices of the rays that hit, then per hit the triangle (S,), position,
    shading normal and geometric normal, both facing the ray's origin (S, 3), and the direction to that origin."""

    rows: Int64Array
    triangle: Int64Array
    position: Float32Array
    normal: Float32Array
    face_normal: Float32Array
    outgoing: Float32Array

    def take(self, index: Int64Array) -> Hits:
        """Those at an index (S',)."""
        return Hits(*(take(getattr(self, field.name), index) for field in fields(self)))

    @property
    def shadow_origins(self) -> Float32Array:
        """(S, 3) where rays that leave the surface start, a little off it."""
        return self.position + np.float32(OFFSET) * self.face_normal


@dataclass(frozen=True)
class _Lobe:
    """The GGX lobes of S surface points: tangent frames, three axes (S, 3), the direction to the viewer in them (S, 3),
    alpha (S,) and the masking of that direction (S,)."""

    frame: tuple[Float32Array, Float32Array, Float32Array]
    view: Float32Array
    alpha: Float32Array
    masking_out: Float32Array

    @classmethod
    def at(cls, hits: Hits, roughness: Float32Array) -> _Lobe:
        alpha = np.maximum(roughness**2, np.float32(MIN_ALPHA))
        frame = (*tangent_frame(hits.normal), hits.normal)
        view = vectors(*(dot(axis, hits.outgoing) for axis in frame))
        return cls(frame, view, alpha, ggx_masking(view[:, 2], alpha))

    def to_frame(self, world: Float32Array) -> Float32Array:
        return vectors(*(dot(axis, world) for axis in self.frame))

    def to_world(self, local: Float32Array) -> Float32Array:
        x, y, z = (local[:, i, None] * axis for i, axis in enumerate(self.frame))
        return x + y + z

    def density(self, half: Float32Array) -> Float32Array:
        """(S,) per solid angle, of the reflected directions that visible half vectors (S, 3) give."""
        return ggx_density(half, self.alpha) * self.masking_out / (4 * np.maximum(self.view[:, 2], 1e-4))


class RayCaster:
    """A scene ready for ray casting.

    Args:
        triangles: (N, 3, 3) float32 world-space corners; normals: (N, 3, 3) vertex normals; materials: (N, 13) rows.
        patches: (K, 13, P, P) texture patches and (N,) index into them (-1: uniform), see `Scene.patches`, or None.
    """

    def __init__(
        self,
        triangles: Float32Array,
        normals: Float32Array,
        materials: Float32Array,
        patches: tuple[Float16Array, Int32Array] | None = None,
    ) -> None:
        from embreex.mesh_construction import TriangleMesh
        from embreex.rtcore_scene import EmbreeScene

        self.triangles = np.ascontiguousarray(triangles, np.float32)
        # Tables from which columns are gathered: corners and vertex normals (N, 9), materials (N, 13).
        self.corners = np.asfortranarray(triangles.reshape(-1, 9), np.float32)
        self.normals = np.asfortranarray(normals.reshape(-1, 9), np.float32)
        self.materials = np.asfortranarray(materials, np.float32)
        self.patches = patches
        cross = np.cross(self.triangles[:, 1] - self.triangles[:, 0], self.triangles[:, 2] - self.triangles[:, 0])
        self.face_normals = np.asfortranarray(normalised(cross))
        self.areas = np.linalg.norm(cross, axis=1) / 2
        everything = Lights.from_triangles(self.triangles, self.materials[:, EMISSION])
        self.light_count = len(everything)
        self.lights = everything.drawn(MAX_LIGHTS)
        # How likely shadow rays go to a triangle: what a ray that meets a light by chance is weighed against.
        self._chance = np.zeros(len(self.triangles), np.float32)
        self._chance[everything.triangle] = np.minimum(everything.expected(MAX_LIGHTS), 1)
        self._brightness = self._white_at_centre()
        self._scene = EmbreeScene()
        corners = self.triangles.reshape(-1, 3)
        self._mesh = TriangleMesh(self._scene, corners, np.arange(len(corners), dtype=np.int32).reshape(-1, 3))
        # The first query builds the tree; after it, queries may come from several threads.
        self._scene.run(np.zeros((1, 3), np.float32), np.array([[0, 0, 1]], np.float32))

    def _white_at_centre(self) -> float:
        """Radiance of a white surface in the middle of the scene that faces all lights: what is bright here."""
        if not len(self.lights):
            return 1.0
        solid = self.triangles[(self.materials[:, EMISSION] <= 0).all(axis=1)]
        centre = solid.mean(axis=(0, 1)) if len(solid) else np.zeros(3, np.float32)
        distance2 = ((self.lights.corners.mean(axis=1) - centre) ** 2).sum(axis=1)
        power = self.lights.radiance.max(axis=1) * self.lights.area * self.lights.weight
        return float((power / np.maximum(distance2, 1e-2)).sum()) / np.pi

    def hits(self, origins: Float32Array, directions: Float32Array) -> tuple[Hits, Float32Array]:
        """First surface along each ray, and (S', 13) material rows of the points that were hit.

        Args:
            origins, directions: (S, 3) float32; directions need not be unit.
        """
        found = self._scene.run(origins, directions, output=True)
        rows = np.flatnonzero(found["primID"] >= 0)
        triangle, u, v = (take(found[key], rows) for key in ("primID", "u", "v"))
        triangle, directions = triangle.astype(np.int64), take(directions, rows)
        position = _blend(take(self.corners, triangle), u, v)
        normal = normalised(_blend(take(self.normals, triangle), u, v))
        face_normal = take(self.face_normals, triangle)
        # A vertex normal may be missing (zero); the face's stands in.
        missing = dot(normal, normal) == 0
        if missing.any():
            normal[missing] = face_normal[missing]
        normal *= np.copysign(np.float32(1), -dot(normal, directions))[:, None]
        face_normal *= np.copysign(np.float32(1), -dot(face_normal, directions))[:, None]
        hits = Hits(rows, triangle, position, normal, face_normal, normalised(-directions))
        return hits, self._materials_at(triangle, u, v)

    def _materials_at(self, triangle: Int64Array, u: Float32Array, v: Float32Array) -> Float32Array:
        rows = take(self.materials, triangle)
        if self.patches is None:
            return rows
        patches, index = self.patches
        varying = np.flatnonzero(index[triangle] >= 0)
        side = patches.shape[-1]
        # Texel [i, j] lies i/side of the way toward corner 1 and j/side toward corner 2.
        i = np.clip(np.rint(u[varying] * side), 0, side - 1).astype(np.int64)
        j = np.clip(np.rint(v[varying] * side), 0, np.minimum(side - i, side - 1)).astype(np.int64)
        rows[varying] = patches[index[triangle[varying]], :, i, j]
        return rows

    def visible(self, origins: Float32Array, targets: Float32Array) -> BoolArray:
        """(S,) whether the segment from origin to target is free, leaving out a thousandth at the target's end."""
        blocked = self._scene.run(origins, targets - origins, 0.999, query="OCCLUDED")
        return np.asarray(blocked) < 0

    def direct(self, hits: Hits, shadow_rays: int, phase: Int64Array) -> tuple[Float32Array, BoolArray]:
        """What surface points receive of each light: its unshadowed form factor (L, S), which is exact, and which of
        `shadow_rays` fixed points of it they see, (L, K, S).

        Args:
            phase: (S,) small integers; points of a different phase use different points on the light.
        """
        factor = np.zeros((len(self.lights), len(hits.rows)), np.float32)
        seen = np.zeros((len(self.lights), shadow_rays, len(hits.rows)), bool)
        origins = hits.shadow_origins
        for i, (own, corners) in enumerate(zip(self.lights.triangle, self.lights.corners, strict=True)):
            factor[i] = triangle_form_factor(hits.position, hits.normal, corners)
            # A flat light does not light itself; in its own plane the form factor is undefined.
            factor[i, hits.triangle == own] = 0
            lit = np.flatnonzero(factor[i] > 0)
            starts, points = take(origins, lit), self._light_points(corners, shadow_rays, phase[lit])
            for k, point in enumerate(points):
                seen[i, k, lit] = self.visible(starts, point)
        return factor, seen

    def reflected(self, factor: Float32Array, seen: BoolArray) -> Float32Array:
        """(S, 3) radiance that a white diffuse surface sends back of light as `direct` gives it: irradiance / pi."""
        radiance = self.lights.radiance * self.lights.weight[:, None]
        return (radiance.T @ (factor * seen.mean(axis=1, dtype=np.float32))).T

    def irradiance(self, hits: Hits, shadow_rays: int, phase: Int64Array) -> Float32Array:
        """(S, 3) radiance that a white diffuse surface would send back from direct light: irradiance / pi.

        The unshadowed part is exact (form factor); visibility is the mean of `shadow_rays` fixed rays per light.

        Args:
            phase: (S,) small integers; points of a different phase use different points on the light.
        """
        return self.reflected(*self.direct(hits, shadow_rays, phase))

    @staticmethod
    def _light_points(corners: Float32Array, count: int, phase: Int64Array) -> Iterator[Float32Array]:
        """`count` times a point (S, 3) on a light for each of S surface points."""
        points = triangle_samples(count * (int(phase.max(initial=0)) + 1)) @ corners
        # Interleaved, so that the union over the phases covers the light evenly too.
        for k in range(count):
            yield take(points[k::count], phase)

    def specular(
        self,
        hits: Hits,
        materials: Float32Array,
        seen: BoolArray,
        lobe_rays: int,
        phase: Int64Array,
        depth: int = MIRROR_DEPTH,
    ) -> tuple[Float32Array, Float32Array]:
        """Highlight of the lights and reflection of other directly lit surfaces in the GGX lobe, both (S, 3) radiance.

        What a reflected ray meets sends back its diffuse light and, up to `depth` reflections in all, its own highlight
        and reflection by one ray each.

        The highlight combines samples of the lights and of the lobe by the balance heuristic (Veach and Guibas 1995),
        so that broad and sharp lobes are both free of noise; the reflection uses the lobe's samples.

        Args:
            seen: (L, K, S) as `direct` gives it for the same hits and phase.
        """
        highlight, reflection = np.zeros((2, 3, len(hits.rows)), np.float32)
        shiny = np.flatnonzero((materials[:, SPECULAR] > 0).any(axis=1))
        if len(shiny):
            hits, materials, phase = hits.take(shiny), take(materials, shiny), phase[shiny]
            lobe = _Lobe.at(hits, materials[:, ROUGHNESS])
            glint = self._light_samples(hits, lobe, seen[..., shiny], lobe_rays, phase)
            glint_lobe, mirrored = self._lobe_samples(hits, lobe, seen.shape[1], lobe_rays, phase, depth)
            specular = materials[:, SPECULAR]
            highlight[:, shiny] = ((glint + glint_lobe) * specular).T
            reflection[:, shiny] = (mirrored * specular).T
        return highlight.T, reflection.T

    def _light_samples(
        self, hits: Hits, lobe: _Lobe, seen: BoolArray, lobe_rays: int, phase: Int64Array
    ) -> Float32Array:
        lights, shadow_rays = self.lights, seen.shape[1]
        share = np.zeros((len(lights), len(hits.rows)), np.float32)
        # A light that stands for others is met as often as all of them together, so its samples weigh less each.
        for i, (corners, reach, light_normal) in enumerate(
            zip(lights.corners, lights.area / lights.chance, lights.normal, strict=True)
        ):
            if not seen[i].any():
                continue
            for free, point in zip(seen[i], self._light_points(corners, shadow_rays, phase), strict=True):
                toward = point - hits.position
                distance2 = np.maximum(dot(toward, toward), np.float32(1e-12))
                toward *= (1 / np.sqrt(distance2))[:, None]
                incoming = lobe.to_frame(toward)
                lobe_pdf = lobe.density(normalised(incoming + lobe.view))
                light_pdf = distance2 / (np.maximum(np.abs(dot(toward, light_normal)), np.float32(1e-6)) * reach)
                # The reflectance times the cosine of the incoming direction is the lobe's density times its masking.
                masking_in = ggx_masking(incoming[:, 2], lobe.alpha)
                share[i] += free * masking_in * lobe_pdf / (shadow_rays * light_pdf + lobe_rays * lobe_pdf)
        return (lights.radiance.T @ share).T

    def _lobe_samples(
        self, hits: Hits, lobe: _Lobe, shadow_rays: int, lobe_rays: int, phase: Int64Array, depth: int
    ) -> tuple[Float32Array, Float32Array]:
        glint, mirrored = np.zeros((2, 3, len(hits.rows)), np.float32)
        origins = hits.shadow_origins
        for k in range(lobe_rays):
            index = (phase * lobe_rays + k).astype(np.float32)
            u = (0.5 + index * np.float32(0.75487766)) % 1
            v = (0.5 + index * np.float32(0.56984029)) % 1
            half = ggx_visible_normal(lobe.view, lobe.alpha, u, v)
            incoming = 2 * dot(lobe.view, half)[:, None] * half - lobe.view
            masking_in = ggx_masking(incoming[:, 2], lobe.alpha)
            # Directions into the surface reflect nothing.
            out = np.flatnonzero(masking_in)
            found, materials = self.hits(take(origins, out), take(lobe.to_world(incoming), out))
            rows = out[found.rows]
            emission = materials[:, EMISSION]
            toward = found.position - take(origins, rows)
            area = np.maximum(self.areas.take(found.triangle), np.float32(1e-12))
            cosine = np.maximum(np.abs(dot(found.face_normal, found.outgoing)), np.float32(1e-6))
            light_pdf = self._chance.take(found.triangle) * dot(toward, toward) / (cosine * area)
            lobe_pdf, masking = take(lobe.density(half), rows), take(masking_in, rows)
            # Both densities are 0 where a surface is seen exactly edge-on and the ray met no light.
            total_pdf = shadow_rays * light_pdf + lobe_rays * lobe_pdf
            weight = masking * lobe_pdf / np.where(total_pdf > 0, total_pdf, 1)
            own_phase = phase[rows] * lobe_rays + k
            factor, lit = self.direct(found, 1, own_phase)
            bounce = materials[:, DIFFUSE] * self.reflected(factor, lit)
            if depth > 1:
                bounce += sum(self.specular(found, materials, lit, 1, own_phase, depth - 1))
            glint[:, rows] += (weight[:, None] * emission).T
            mirrored[:, rows] += ((masking / lobe_rays)[:, None] * (bounce * (emission <= 0))).T
        return glint.T, mirrored.T

    def triangle_light(self, samples: int = 8, progress: Callable[[int, int], None] | None = None) -> Float32Array:
        """(N, 2, 3) mean direct light (irradiance / pi) on the front and the back of every triangle.

        Args:
            samples: fixed points per triangle, one shadow ray per light from each.
            progress: called with triangles done and triangles in all.
        """
        count = len(self.triangles)
        barycentric = triangle_samples(samples)
        light = np.zeros((count, 2, 3), np.float32)
        for part in np.array_split(np.arange(count), max(1, -(-count * samples // CHUNK))):
            triangle = np.tile(part, samples)
            position = np.einsum("kc,ncx->xkn", barycentric, self.triangles[part]).reshape(3, -1).T
            phase = np.repeat(np.arange(samples), len(part))
            for side, sign in enumerate((1, -1)):
                normal = np.float32(sign) * take(self.face_normals, triangle)
                hits = Hits(phase, triangle, position, normal, normal, normal)
                received = self.irradiance(hits, 1, phase).T.reshape(3, samples, len(part))
                light[part, side] = received.mean(axis=1).T
            if progress is not None:
                progress(int(part[-1]) + 1 if len(part) else 0, count)
        return light

    def features(
        self,
        camera: Camera,
        width: int,
        height: int,
        *,
        cover: int = 1,
        antialias: int = 2,
        refine: int = 2,
        shadow_rays: int = 4,
        lobe_rays: int = 4,
        threads: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Float32Array:
        """The feature image of a camera: exact primary hits and direct light, see the channel list above.

        Args:
            width, height: of the picture in pixels.
            cover: the image is continued to the right and below to a multiple of this, with rays outside the picture.
            antialias: A x A samples per pixel; every one casts its own shadow rays.
            refine: pixels whose samples differ (an edge, a shadow's border, a highlight) are cast again with this many
                times A on a side, and for those on the outline 8 x 8 rays tell what is covered; 1 for neither.
            shadow_rays: per light and sample; lobe_rays: samples of the specular lobe per sample.
            threads: of the CPU, all that the process may use by default; the result does not depend on it.
            progress: called with pixels done and pixels in all, first for all of them, then for those cast again, then
                for those along the outline.

        Returns:
            (height, width, 29) float32, both rounded up to a multiple of `cover`.
        """
        rows, columns = -(-height // cover) * cover, -(-width // cover) * cover
        y, x = (grid.reshape(-1) for grid in np.mgrid[:rows, :columns])
        image = np.zeros((rows * columns, RAY_CHANNELS), np.float32)
        contrast = np.zeros(rows * columns, np.float32)

        def coarse(part: Int64Array) -> Float32Array:
            samples = self._samples(camera, width, height, x[part], y[part], antialias, shadow_rays, lobe_rays)
            contrast[part] = _contrast(samples, self._brightness)
            return _pixels(samples)

        def fine(part: Int64Array) -> Float32Array:
            # Samples four times as many need half the rays each for the same picture.
            fewer = max(1, shadow_rays // 2), max(1, lobe_rays // 2)
            return _pixels(self._samples(camera, width, height, x[part], y[part], antialias * refine, *fewer))

        def outline(part: Int64Array) -> Float32Array:
            covered = self._coverage(camera, width, height, x[part], y[part])
            return _covered(image.reshape(rows, columns, -1), x[part], y[part], covered)

        with ThreadPoolExecutor(threads or _processors()) as pool:

            def run(work: Callable[[Int64Array], Float32Array], pixels: AnyArray, rays: int) -> None:
                parts = np.array_split(pixels, max(1, -(-len(pixels) * rays // CHUNK)))
                done, results = 0, []
                for part, result in zip(parts, pool.map(work, parts), strict=True):
                    results.append(result)
                    done += len(part)
                    if progress is not None:
                        progress(done, len(pixels))
                # Only now, since the outline looks at its neighbours.
                for part, result in zip(parts, results, strict=True):
                    image[part] = result

            run(coarse, np.arange(len(image)), antialias**2)
            if refine > 1:
                rough = _spread(contrast.reshape(rows, columns) > CONTRAST)
                run(fine, np.flatnonzero(rough), (antialias * refine) ** 2)
                run(outline, np.flatnonzero(_outline(image[:, 0].reshape(rows, columns))), OUTLINE_RAYS**2)
        return image.reshape(rows, columns, RAY_CHANNELS)

    def _coverage(self, camera: Camera, width: int, height: int, x: Int64Array, y: Int64Array) -> Float32Array:
        """(M,) share of each of M pixels at column x and row y in which there is any surface."""
        directions, _ = _sample_rays(camera, width, height, x, y, OUTLINE_RAYS)
        origins = np.broadcast_to(camera.position.astype(np.float32), directions.shape)
        hit = np.asarray(self._scene.run(origins, directions, query="OCCLUDED")) >= 0
        share: Float32Array = hit.reshape(OUTLINE_RAYS**2, len(x)).mean(axis=0, dtype=np.float32)
        return share

    def _samples(
        self,
        camera: Camera,
        width: int,
        height: int,
        x: Int64Array,
        y: Int64Array,
        antialias: int,
        shadow_rays: int,
        lobe_rays: int,
    ) -> Float32Array:
        """(29, A * A, M) features of the single rays of M pixels at column x and row y; zeros where they miss."""
        directions, phase = _sample_rays(camera, width, height, x, y, antialias)
        origins = np.broadcast_to(camera.position.astype(np.float32), directions.shape)
        hits, materials = self.hits(origins, directions)
        phase = take(phase, hits.rows)
        factor, seen = self.direct(hits, shadow_rays, phase)
        light = self.reflected(factor, seen)
        highlight, reflection = self.specular(hits, materials, seen, lobe_rays, phase)
        to_camera = camera.c2w[:3, :3].astype(np.float32)
        # One more column than hits, of zeros, stands for all misses.
        count, missed = len(hits.rows), len(hits.rows) < len(directions)
        values = np.zeros((RAY_CHANNELS, count + missed), np.float32)
        for channels, columns in (
            (MASK, np.ones((count, 1), np.float32)),
            (HIT_NORMAL, hits.normal @ to_camera),
            (HIT_POSITION, (hits.position - camera.position.astype(np.float32)) @ to_camera),
            (HIT_DIFFUSE, materials[:, DIFFUSE]),
            (HIT_SPECULAR, materials[:, SPECULAR]),
            (HIT_ROUGHNESS, materials[:, ROUGHNESS, None]),
            (HIT_EMISSION, materials[:, EMISSION]),
            (IRRADIANCE, light),
            (DIRECT, light * materials[:, DIFFUSE]),
            (HIGHLIGHT, highlight),
            (REFLECTION, reflection),
        ):
            values[channels, :count] = columns.T
        if missed:
            column = np.full(len(directions), count)
            column[hits.rows] = np.arange(count)
            values = values.take(column, axis=1)
        return values.reshape(RAY_CHANNELS, antialias**2, len(x))


def lit_tokens(
    scene: Scene, budget: int, progress: Callable[[int, int], None] | None = None
) -> tuple[RayCaster, Scene, Float32Array]:
    """What a model with `ray_features` is given of a scene, in training as in rendering.

    Args:
        budget: the model's `token_triangles`; 0 for no limit.
        progress: as in `RayCaster.triangle_light`.

    Returns:
        The caster of its rays, which see every triangle; the N triangles that its tokens stand for, the scene itself or
        a simplified copy of it; and their direct light (N, 2, 3), see `RayCaster.triangle_light`.
    """
    caster = RayCaster(scene.triangles, scene.normals, scene.materials, scene.patches)
    if not budget or len(scene) <= budget:
        return caster, scene, caster.triangle_light(progress=progress)
    tokens = proxy(scene, budget)
    lit = RayCaster(tokens.triangles, tokens.normals, tokens.materials)
    return caster, tokens, lit.triangle_light(progress=progress)


def _blend(corners: Float32Array, u: Float32Array, v: Float32Array) -> Float32Array:
    """(S, 3) interpolation between three vectors, (S, 9), with weights 1 - u - v, u and v, each (S,)."""
    first = (1 - u - v)[:, None] * corners[:, :3]
    return first + u[:, None] * corners[:, 3:6] + v[:, None] * corners[:, 6:]


def _processors() -> int:
    """CPUs that this process may use; macOS and Windows only tell how many there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _contrast(samples: Float32Array, brightness: float) -> Float32Array:
    """(M,) largest difference among the (29, S, M) samples of a pixel, in coverage, colour or display values.

    Args:
        brightness: radiance that a display would show as white, so that the answer does not depend on the exposure.
    """
    light = samples[HIT_EMISSION] + samples[DIRECT] + samples[HIGHLIGHT] + samples[REFLECTION]
    darkest, brightest = (np.sqrt(np.clip(end(axis=1) / brightness, 0, 1)) for end in (light.min, light.max))
    # A crease matters where light falls on it; alone it counts for a quarter.
    parts = [np.ptp(samples[MASK], axis=1), np.ptp(samples[HIT_DIFFUSE], axis=1), brightest - darkest,
             np.ptp(samples[HIT_NORMAL], axis=1) / 4]  # fmt: skip
    result: Float32Array = np.concatenate(parts).max(axis=0)
    return result


def _spread(mask: BoolArray) -> BoolArray:
    """A mask (h, w) and its four neighbours: an edge that slips between the samples of one pixel shows in the next."""
    wide = np.pad(mask, 1)
    return mask | wide[:-2, 1:-1] | wide[2:, 1:-1] | wide[1:-1, :-2] | wide[1:-1, 2:]


def _outline(share: Float32Array) -> BoolArray:
    """Of the covered shares (h, w) of pixels, those with both surface and nothing in them or in a neighbour."""
    return (maximum_filter(share, 3) > 0) & (minimum_filter(share, 3) < 1)


def _covered(image: Float32Array, x: Int64Array, y: Int64Array, covered: Float32Array) -> Float32Array:
    """(M, 29) the pixels of `image` (h, w, 29) at column x and row y, as they are when surfaces fill the share
    `covered` (M,) of each. What no sample has met looks like its neighbours."""
    height, width = image.shape[:2]

    def summed(dy: int, dx: int) -> Float32Array:
        # As a sum over the samples: geometry too counts by how much of the pixel it fills.
        values: Float32Array = image[np.clip(y + dy, 0, height - 1), np.clip(x + dx, 0, width - 1)]
        values[:, GEOMETRY] *= values[:, MASK]
        return values

    steps = (-1, 0, 1)
    pixels = summed(0, 0)
    unmet = np.flatnonzero(pixels[:, 0] == 0)
    x, y = x[unmet], y[unmet]
    pixels[unmet] = sum(summed(dy, dx) for dy in steps for dx in steps)
    pixels /= np.maximum(pixels[:, MASK], np.float32(1e-6))
    radiometric = np.setdiff1d(np.arange(RAY_CHANNELS), GEOMETRY)
    pixels[:, radiometric] *= covered[:, None]
    pixels[covered == 0] = 0
    return pixels


def _pixels(samples: Float32Array) -> Float32Array:
    """Average (29, S, M) samples to (M, 29) pixels; geometry and roughness over the samples that hit."""
    pixels: Float32Array = samples.mean(axis=1)
    share = np.maximum(pixels[MASK], np.float32(1 / samples.shape[1]))
    for channels in (HIT_NORMAL, HIT_POSITION, HIT_ROUGHNESS):
        pixels[channels] /= share
    return pixels.T


def _sample_rays(
    camera: Camera, width: int, height: int, x: Int64Array, y: Int64Array, antialias: int
) -> tuple[Float32Array, Int64Array]:
    """World directions of the samples of the pixels at column x and row y, ordered sample, pixel, and which of its
    pixel's samples each is."""
    row, column = (grid.reshape(-1) for grid in np.mgrid[:antialias, :antialias])
    # A sheared grid: every sample has an x and a y of its own, so that upright edges get A * A levels of grey, not A.
    sub_x = (column + (row + 0.5) / antialias) / antialias
    sub_y = (row + (antialias - column - 0.5) / antialias) / antialias
    focal = height / 2 / np.tan(np.radians(camera.fov) / 2)
    local = np.empty((3, antialias**2, len(x)))
    local[0] = (x + sub_x[:, None] - width / 2) / focal
    local[1] = -(y + sub_y[:, None] - height / 2) / focal
    local[2] = -1
    directions = camera.c2w[:3, :3].astype(np.float64) @ local.reshape(3, -1)
    return directions.astype(np.float32).T, np.repeat(np.arange(antialias**2), len(x))
