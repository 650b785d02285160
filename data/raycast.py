"""What the rays of a camera hit, and the direct light there: the inputs of a model with `ray_features`.

Rays are cast on the CPU by Embree. Everything is deterministic: the sample positions are fixed sequences.

Shapes: N triangles, S samples (rays), L lights, h x w pixels, A x A samples per pixel.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from renderformer.data.camera import Camera
from renderformer.data.lighting import (
    MIN_ALPHA,
    Lights,
    dot,
    ggx_density,
    ggx_masking,
    ggx_visible_normal,
    normalised,
    tangent_frame,
    triangle_form_factor,
    triangle_samples,
)
from renderformer.data.scene import DIFFUSE, EMISSION, ROUGHNESS, SPECULAR

FloatArray = npt.NDArray[np.float32]

# Channels of a feature image. Radiometric ones are linear radiance, averaged over all samples of a pixel (a miss counts
# as 0); normal, position and roughness are averaged over the samples that hit.
MASK = slice(0, 1)  # share of the samples that hit
HIT_NORMAL = slice(1, 4)  # camera space, facing the camera
HIT_POSITION = slice(4, 7)  # camera space, scene units
HIT_DIFFUSE = slice(7, 10)
HIT_SPECULAR = slice(10, 13)
HIT_ROUGHNESS = slice(13, 14)
HIT_EMISSION = slice(14, 17)
IRRADIANCE = slice(17, 20)  # direct light that a white diffuse surface would reflect
DIRECT = slice(20, 23)  # the same times the diffuse albedo, sample by sample
HIGHLIGHT = slice(23, 26)  # direct light in the specular lobe
REFLECTION = slice(26, 29)  # what the specular lobe sees of other surfaces under direct light
RAY_CHANNELS = 29

# Shadow rays start this far off the surface, in scene units of a unit-sized scene.
OFFSET = 1e-4
# Shadow rays go to at most this many light triangles; of more, a sample by power stands for all.
MAX_LIGHTS = 32
# Reflections that are followed one in the other: a polished floor shows the lights that a mirror shows.
MIRROR_DEPTH = 2
# Samples of a pixel that differ by more than this, of 1, are too few.
CONTRAST = 0.1
# Samples handled at once: bounds the memory, and is what one thread works on.
CHUNK = 65536


@dataclass(frozen=True)
class Hits:
    """Surface points that rays met: `rows` (S,) indices of the rays that hit, then per hit the triangle (S,), position,
    shading normal and geometric normal, both facing the ray's origin (S, 3), and the direction to that origin."""

    rows: npt.NDArray[np.int64]
    triangle: npt.NDArray[np.int32]
    position: FloatArray
    normal: FloatArray
    face_normal: FloatArray
    outgoing: FloatArray

    def __getitem__(self, keep: npt.NDArray[np.bool_]) -> Hits:
        return Hits(
            self.rows[keep], self.triangle[keep], self.position[keep], self.normal[keep], self.face_normal[keep],
            self.outgoing[keep],
        )  # fmt: skip

    @property
    def shadow_origins(self) -> FloatArray:
        """(S, 3) where rays that leave the surface start, a little off it."""
        return self.position + np.float32(OFFSET) * self.face_normal


@dataclass(frozen=True)
class _Lobe:
    """The GGX lobes of S surface points: tangent frames (S, 3, 3), the direction to the viewer in them (S, 3), alpha
    (S,) and the masking of that direction (S,)."""

    frame: FloatArray
    view: FloatArray
    alpha: FloatArray
    masking_out: FloatArray

    @classmethod
    def at(cls, hits: Hits, roughness: FloatArray) -> _Lobe:
        alpha = np.maximum(roughness**2, MIN_ALPHA).astype(np.float32)
        tangent, bitangent = tangent_frame(hits.normal)
        frame = np.stack([tangent, bitangent, hits.normal], axis=1)
        view = np.einsum("sij,sj->si", frame, hits.outgoing)
        return cls(frame, view, alpha, ggx_masking(view[:, 2], alpha))

    def density(self, half: FloatArray) -> FloatArray:
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
        triangles: FloatArray,
        normals: FloatArray,
        materials: FloatArray,
        patches: tuple[npt.NDArray[np.float16], npt.NDArray[np.int32]] | None = None,
    ) -> None:
        from embreex.mesh_construction import TriangleMesh
        from embreex.rtcore_scene import EmbreeScene

        self.triangles = np.ascontiguousarray(triangles, np.float32)
        self.normals = np.ascontiguousarray(normals, np.float32)
        self.materials = np.ascontiguousarray(materials, np.float32)
        self.patches = patches
        cross = np.cross(self.triangles[:, 1] - self.triangles[:, 0], self.triangles[:, 2] - self.triangles[:, 0])
        self.face_normals = normalised(cross)
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

    def hits(self, origins: FloatArray, directions: FloatArray) -> tuple[Hits, FloatArray]:
        """First surface along each ray, and (S', 13) material rows of the points that were hit.

        Args:
            origins, directions: (S, 3) float32; directions need not be unit.
        """
        found = self._scene.run(origins, directions, output=True)
        rows = np.flatnonzero(found["primID"] >= 0)
        triangle = found["primID"][rows]
        weights = np.stack([1 - found["u"][rows] - found["v"][rows], found["u"][rows], found["v"][rows]], axis=1)
        position = np.einsum("sc,scx->sx", weights, self.triangles[triangle])
        outgoing = normalised(-directions[rows])
        face_normal = self.face_normals[triangle]
        normal = normalised(np.einsum("sc,scx->sx", weights, self.normals[triangle]))
        # A vertex normal may be missing (zero); the face's stands in.
        normal = np.where((dot(normal, normal) == 0)[:, None], face_normal, normal)
        normal = normal * np.where(dot(normal, outgoing) < 0, -1, 1)[:, None].astype(np.float32)
        face_normal = face_normal * np.where(dot(face_normal, outgoing) < 0, -1, 1)[:, None].astype(np.float32)
        return Hits(rows, triangle, position, normal, face_normal, outgoing), self._materials_at(triangle, weights)

    def _materials_at(self, triangle: npt.NDArray[np.int32], weights: FloatArray) -> FloatArray:
        rows = self.materials[triangle]
        if self.patches is None:
            return rows
        patches, index = self.patches
        varying = np.flatnonzero(index[triangle] >= 0)
        side = patches.shape[-1]
        # Texel [i, j] lies i/side of the way toward corner 1 and j/side toward corner 2.
        i = np.clip(np.rint(weights[varying, 1] * side), 0, side - 1).astype(np.int64)
        j = np.clip(np.rint(weights[varying, 2] * side), 0, np.minimum(side - i, side - 1)).astype(np.int64)
        rows[varying] = patches[index[triangle[varying]], :, i, j]
        return rows

    def visible(self, origins: FloatArray, targets: FloatArray) -> npt.NDArray[np.bool_]:
        """(S,) whether the segment from origin to target is free, leaving out a thousandth at the target's end."""
        blocked = self._scene.run(
            origins, (targets - origins) * np.float32(0.999), np.ones(len(origins), np.float32), query="OCCLUDED"
        )
        return np.asarray(blocked) < 0

    def irradiance(self, hits: Hits, shadow_rays: int, phase: npt.NDArray[np.int64]) -> FloatArray:
        """(S, 3) radiance that a white diffuse surface would send back from direct light: irradiance / pi.

        The unshadowed part is exact (form factor); visibility is the mean of `shadow_rays` fixed rays per light.

        Args:
            phase: (S,) small integers; points of a different phase use different points on the light.
        """
        total = np.zeros((len(hits.rows), 3), np.float32)
        origins = hits.shadow_origins
        lights = self.lights
        for own, corners, radiance in zip(
            lights.triangle, lights.corners, lights.radiance * lights.weight[:, None], strict=True
        ):
            factor = triangle_form_factor(hits.position, hits.normal, corners)
            # A flat light does not light itself; in its own plane the form factor is undefined.
            factor[hits.triangle == own] = 0
            lit = np.flatnonzero(factor > 0)
            seen = np.zeros(len(lit), np.float32)
            for k in range(shadow_rays):
                points = self._light_points(corners, shadow_rays, k, phase[lit])
                seen += self.visible(origins[lit], points)
            total[lit] += (factor[lit] * seen / shadow_rays)[:, None] * radiance
        return total

    @staticmethod
    def _light_points(corners: FloatArray, count: int, k: int, phase: npt.NDArray[np.int64]) -> FloatArray:
        barycentric = triangle_samples(count * (int(phase.max(initial=0)) + 1))
        # Interleaved, so that the union over the phases covers the light evenly too.
        return (barycentric @ corners)[phase * count + k]

    def specular(
        self,
        hits: Hits,
        materials: FloatArray,
        shadow_rays: int,
        lobe_rays: int,
        phase: npt.NDArray[np.int64],
        depth: int = MIRROR_DEPTH,
    ) -> tuple[FloatArray, FloatArray]:
        """Highlight of the lights and reflection of other directly lit surfaces in the GGX lobe, both (S, 3) radiance.

        What a reflected ray meets sends back its diffuse light and, up to `depth` reflections in all, its own highlight
        and reflection by one ray each.

        The highlight combines samples of the lights and of the lobe by the balance heuristic (Veach and Guibas 1995),
        so that broad and sharp lobes are both free of noise; the reflection uses the lobe's samples.
        """
        shiny = np.asarray((materials[:, SPECULAR] > 0).any(axis=1))
        highlight, reflection = np.zeros((2, len(hits.rows), 3), np.float32)
        if not shiny.any():
            return highlight, reflection
        hits, materials, phase = hits[shiny], materials[shiny], phase[shiny]
        lobe = _Lobe.at(hits, materials[:, ROUGHNESS])
        glint = self._light_samples(hits, lobe, shadow_rays, lobe_rays, phase)
        glint_lobe, mirrored = self._lobe_samples(hits, lobe, shadow_rays, lobe_rays, phase, depth)
        specular = materials[:, SPECULAR]
        highlight[shiny] = (glint + glint_lobe) * specular
        reflection[shiny] = mirrored * specular
        return highlight, reflection

    def _light_samples(
        self, hits: Hits, lobe: _Lobe, shadow_rays: int, lobe_rays: int, phase: npt.NDArray[np.int64]
    ) -> FloatArray:
        total = np.zeros((len(hits.rows), 3), np.float32)
        origins = hits.shadow_origins
        lights = self.lights
        # A light that stands for others is met as often as all of them together, so its samples weigh less each.
        for corners, radiance, reach, light_normal in zip(
            lights.corners, lights.radiance, lights.area / lights.chance, lights.normal, strict=True
        ):
            for k in range(shadow_rays):
                points = self._light_points(corners, shadow_rays, k, phase)
                toward = points - hits.position
                distance2 = np.maximum(dot(toward, toward), 1e-12)
                toward /= np.sqrt(distance2)[:, None]
                incoming = np.einsum("sij,sj->si", lobe.frame, toward)
                lobe_pdf = lobe.density(normalised(incoming + lobe.view))
                light_pdf = distance2 / (np.maximum(np.abs(toward @ light_normal), 1e-6) * reach)
                # The reflectance times the cosine of the incoming direction is the lobe's density times its masking.
                masking_in = ggx_masking(incoming[:, 2], lobe.alpha)
                weight = masking_in * lobe_pdf / (shadow_rays * light_pdf + lobe_rays * lobe_pdf)
                useful = np.flatnonzero(weight > 0)
                useful = useful[self.visible(origins[useful], points[useful])]
                total[useful] += weight[useful, None] * radiance
        return total

    def _lobe_samples(
        self, hits: Hits, lobe: _Lobe, shadow_rays: int, lobe_rays: int, phase: npt.NDArray[np.int64], depth: int
    ) -> tuple[FloatArray, FloatArray]:
        glint, mirrored = np.zeros((2, len(hits.rows), 3), np.float32)
        origins = hits.shadow_origins
        for k in range(lobe_rays):
            index = (phase * lobe_rays + k).astype(np.float32)
            u = (0.5 + index * np.float32(0.75487766)) % 1
            v = (0.5 + index * np.float32(0.56984029)) % 1
            half = ggx_visible_normal(lobe.view, lobe.alpha, u, v)
            incoming = 2 * dot(lobe.view, half)[:, None] * half - lobe.view
            masking_in = ggx_masking(incoming[:, 2], lobe.alpha)
            direction = np.einsum("sij,si->sj", lobe.frame, incoming)
            found, materials = self.hits(origins, np.ascontiguousarray(direction, np.float32))
            rows = found.rows
            emission = materials[:, EMISSION]
            toward = found.position - origins[rows]
            area = np.maximum(self.areas[found.triangle], 1e-12)
            cosine = np.maximum(np.abs(dot(found.face_normal, found.outgoing)), 1e-6)
            light_pdf = self._chance[found.triangle] * dot(toward, toward) / (cosine * area)
            lobe_pdf = lobe.density(half)[rows]
            # Both densities are 0 where a surface is seen exactly edge-on and the ray met no light.
            total_pdf = shadow_rays * light_pdf + lobe_rays * lobe_pdf
            weight = np.divide(masking_in[rows] * lobe_pdf, total_pdf, out=np.zeros_like(lobe_pdf), where=total_pdf > 0)
            glint[rows] += np.where(emission > 0, weight[:, None] * emission, 0)
            own_phase = phase[rows] * lobe_rays + k
            bounce = materials[:, DIFFUSE] * self.irradiance(found, 1, own_phase)
            if depth > 1:
                bounce += sum(self.specular(found, materials, 1, 1, own_phase, depth - 1))
            mirrored[rows] += np.where(emission > 0, 0, (masking_in[rows] / lobe_rays)[:, None] * bounce)
        return glint, mirrored

    def triangle_light(self, samples: int = 8) -> FloatArray:
        """(N, 2, 3) mean direct light (irradiance / pi) on the front and the back of every triangle.

        Args:
            samples: fixed points per triangle, one shadow ray per light from each.
        """
        count = len(self.triangles)
        barycentric = triangle_samples(samples)
        position = np.einsum("kc,ncx->nkx", barycentric, self.triangles).reshape(-1, 3)
        rows = np.arange(count * samples)
        triangle = np.repeat(np.arange(count, dtype=np.int32), samples)
        phase = np.tile(np.arange(samples), count)
        sides = []
        for sign in (1, -1):
            normal = np.float32(sign) * self.face_normals[triangle]
            hits = Hits(rows, triangle, position, normal, normal, normal)
            sides.append(self.irradiance(hits, 1, phase).reshape(count, samples, 3).mean(axis=1))
        return np.stack(sides, axis=1)

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
        lobe_rays: int = 2,
        threads: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> FloatArray:
        """The feature image of a camera: exact primary hits and direct light, see the channel list above.

        Args:
            width, height: of the picture in pixels.
            cover: the image is continued to the right and below to a multiple of this, with rays outside the picture.
            antialias: A x A samples per pixel; every one casts its own shadow rays.
            refine: pixels whose samples differ (an edge, a shadow's border, a highlight) are cast again with this many
                times A on a side; 1 for never.
            shadow_rays: per light and sample; lobe_rays: samples of the specular lobe per sample.
            threads: of the CPU, all that the process may use by default; the result does not depend on it.
            progress: called with pixels done and pixels in all, first for all of them, then for those cast again.

        Returns:
            (height, width, 29) float32, both rounded up to a multiple of `cover`.
        """
        rows, columns = -(-height // cover) * cover, -(-width // cover) * cover
        y, x = (grid.reshape(-1) for grid in np.mgrid[:rows, :columns])
        image = np.zeros((rows * columns, RAY_CHANNELS), np.float32)
        contrast = np.zeros(rows * columns, np.float32)

        def coarse(part: npt.NDArray[np.int64]) -> None:
            samples = self._samples(camera, width, height, x[part], y[part], antialias, shadow_rays, lobe_rays)
            image[part], contrast[part] = _pixels(samples), _contrast(samples, self._brightness)

        def fine(part: npt.NDArray[np.int64]) -> None:
            # Samples four times as many need half the rays each for the same picture.
            fewer = max(1, shadow_rays // 2), max(1, lobe_rays // 2)
            image[part] = _pixels(self._samples(camera, width, height, x[part], y[part], antialias * refine, *fewer))

        passes = [(coarse, np.arange(len(image)), antialias)]
        with ThreadPoolExecutor(threads or _processors()) as pool:
            for work, pixels, per_side in passes:
                parts = np.array_split(pixels, max(1, -(-len(pixels) * per_side**2 // CHUNK)))
                done = 0
                for part, _ in zip(parts, pool.map(work, parts), strict=True):
                    done += len(part)
                    if progress is not None:
                        progress(done, len(pixels))
                if work is coarse and refine > 1:
                    rough = _spread(contrast.reshape(rows, columns) > CONTRAST)
                    passes.append((fine, np.flatnonzero(rough), antialias * refine))
        return image.reshape(rows, columns, RAY_CHANNELS)

    def _samples(
        self,
        camera: Camera,
        width: int,
        height: int,
        x: npt.NDArray[np.int64],
        y: npt.NDArray[np.int64],
        antialias: int,
        shadow_rays: int,
        lobe_rays: int,
    ) -> FloatArray:
        """(M, A * A, 29) features of the single rays of M pixels at column x and row y; zeros where they miss."""
        directions, phase = _sample_rays(camera, width, height, x, y, antialias)
        origins = np.broadcast_to(camera.position, directions.shape).astype(np.float32)
        hits, materials = self.hits(origins, directions)
        phase = phase[hits.rows]
        light = self.irradiance(hits, shadow_rays, phase)
        highlight, reflection = self.specular(hits, materials, shadow_rays, lobe_rays, phase)
        to_camera = camera.c2w[:3, :3]
        values = np.zeros((len(directions), RAY_CHANNELS), np.float32)
        values[hits.rows] = np.concatenate(
            [
                np.ones((len(hits.rows), 1), np.float32),
                hits.normal @ to_camera,
                (hits.position - camera.position) @ to_camera,
                materials[:, DIFFUSE],
                materials[:, SPECULAR],
                materials[:, ROUGHNESS, None],
                materials[:, EMISSION],
                light,
                light * materials[:, DIFFUSE],
                highlight,
                reflection,
            ],
            axis=1,
        )
        return values.reshape(len(x), antialias**2, RAY_CHANNELS)


def _processors() -> int:
    """CPUs that this process may use; macOS and Windows only tell how many there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _contrast(samples: FloatArray, brightness: float) -> FloatArray:
    """(M,) largest difference among the (M, S, 29) samples of a pixel, in coverage, colour or display values.

    Args:
        brightness: radiance that a display would show as white, so that the answer does not depend on the exposure.
    """
    light = samples[..., HIT_EMISSION] + samples[..., DIRECT] + samples[..., HIGHLIGHT] + samples[..., REFLECTION]
    shown = np.sqrt(np.clip(light / brightness, 0, 1))
    # A crease matters where light falls on it; alone it counts for a quarter.
    parts = [samples[..., MASK], samples[..., HIT_DIFFUSE], shown, samples[..., HIT_NORMAL] / 4]
    return np.max([np.ptp(part, axis=1).max(axis=-1) for part in parts], axis=0)


def _spread(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """A mask (h, w) and its four neighbours: an edge that slips between the samples of one pixel shows in the next."""
    wide = np.pad(mask, 1)
    return mask | wide[:-2, 1:-1] | wide[2:, 1:-1] | wide[1:-1, :-2] | wide[1:-1, 2:]


def _pixels(samples: FloatArray) -> FloatArray:
    """Average (M, S, 29) samples to (M, 29) pixels; geometry and roughness over the samples that hit."""
    pixels: FloatArray = samples.mean(axis=1)
    share = np.maximum(pixels[:, MASK], 1 / samples.shape[1])
    for channels in (HIT_NORMAL, HIT_POSITION, HIT_ROUGHNESS):
        pixels[:, channels] /= share
    return pixels


def _sample_rays(
    camera: Camera, width: int, height: int, x: npt.NDArray[np.int64], y: npt.NDArray[np.int64], antialias: int
) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """World directions of the samples of the pixels at column x and row y, ordered pixel, sample, and which of its
    pixel's samples each is."""
    row, column = (grid.reshape(-1) for grid in np.mgrid[:antialias, :antialias])
    # A sheared grid: every sample has an x and a y of its own, so that upright edges get A * A levels of grey, not A.
    sub_x = (column + (row + 0.5) / antialias) / antialias
    sub_y = (row + (antialias - column - 0.5) / antialias) / antialias
    focal = height / 2 / np.tan(np.radians(camera.fov) / 2)
    local_x = (x[:, None] + sub_x - width / 2) / focal
    local_y = -(y[:, None] + sub_y - height / 2) / focal
    local = np.stack([local_x, local_y, np.full_like(local_x, -1.0)], axis=-1).reshape(-1, 3)
    directions = np.ascontiguousarray(local @ camera.c2w[:3, :3].T.astype(np.float64), np.float32)
    return directions, np.tile(np.arange(antialias**2), len(x))
