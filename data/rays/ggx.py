"""The specular lobe of the models' training shader (spec training.md): isotropic GGX without Fresnel.

Shapes: S surface points. Vectors are float32, laid out as in vectors.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from renderformer.data.arrays import Float32Array, Int64Array
from renderformer.data.rays.vectors import TINY, cross, dot, normalised, take, vectors

# Below this GGX is a mirror for every practical purpose, and its density overflows half precision.
MIN_ALPHA = 1e-3


@dataclass(frozen=True)
class Lobe:
    """The GGX lobes of S surface points: tangent frames, three axes (S, 3), the direction to the viewer (S, 3), the
    same in the frames (S, 3), alpha = roughness^2 (S,) and the masking of that direction (S,)."""

    frame: tuple[Float32Array, Float32Array, Float32Array]
    outgoing: Float32Array
    view: Float32Array
    alpha: Float32Array
    masking_out: Float32Array

    @classmethod
    def at(cls, normal: Float32Array, outgoing: Float32Array, roughness: Float32Array) -> Lobe:
        """The lobes of unit normals and directions to the viewer, both (S, 3), and roughness (S,)."""
        alpha = np.maximum(roughness**2, np.float32(MIN_ALPHA))
        frame = (*tangent_frame(normal), normal)
        view = vectors(*(dot(axis, outgoing) for axis in frame))
        return cls(frame, outgoing, view, alpha, ggx_masking(view[:, 2], alpha))

    def take(self, index: Int64Array) -> Lobe:
        """Those at an index (S',)."""
        frame = take(self.frame[0], index), take(self.frame[1], index), take(self.frame[2], index)
        outgoing, view = take(self.outgoing, index), take(self.view, index)
        return Lobe(frame, outgoing, view, self.alpha[index], self.masking_out[index])

    @property
    def normal(self) -> Float32Array:
        """(S, 3)."""
        return self.frame[2]

    @property
    def height(self) -> Float32Array:
        """(S,) what `ggx_shape` of directions is multiplied by, to give their densities per solid angle."""
        cosine = np.maximum(self.view[:, 2], np.float32(1e-4))
        height: Float32Array = self.masking_out * self.alpha * self.alpha
        height /= np.float32(4 * np.pi) * cosine
        return height

    def to_frame(self, world: Float32Array) -> Float32Array:
        """(S, 3) world vectors in the tangent frames."""
        return vectors(*(dot(axis, world) for axis in self.frame))

    def to_world(self, local: Float32Array) -> Float32Array:
        """(S, 3) vectors of the tangent frames in the world."""
        return to_world(self.frame, local)

    def density(self, half: Float32Array) -> Float32Array:
        """(S,) per solid angle, of the reflected directions that visible half vectors (S, 3) give."""
        return ggx_density(half, self.alpha) * self.masking_out / (4 * np.maximum(self.view[:, 2], 1e-4))


def to_world(frame: tuple[Float32Array, Float32Array, Float32Array], local: Float32Array) -> Float32Array:
    """(S, 3) world vectors of vectors (S, 3) in frames of three axes, each (S, 3)."""
    x, y, z = (local[:, i, None] * axis for i, axis in enumerate(frame))
    return x + y + z


def tangent_frame(normals: Float32Array) -> tuple[Float32Array, Float32Array]:
    """Two unit tangents (S, 3) that complete unit normals to a right-handed frame, without branches
    (Duff et al. 2017, Building an Orthonormal Basis, Revisited)."""
    x, y, z = normals.T
    sign = np.copysign(np.float32(1), z)
    a = -1 / (sign + z)
    b = x * y * a
    return vectors(1 + sign * x * x * a, sign * b, -sign * x), vectors(b, sign + y * y * a, -y)


def ggx_masking(cosine: Float32Array, alpha: Float32Array) -> Float32Array:
    """Smith's masking G1 of isotropic GGX for a direction at `cosine` to the normal; 0 below the surface."""
    squared = np.clip(cosine, 1e-6, 1) ** 2
    masking = 2 / (1 + np.sqrt(1 + alpha**2 * (1 - squared) / squared))
    result: Float32Array = masking * (cosine > 0)
    return result


def ggx_density(half: Float32Array, alpha: Float32Array) -> Float32Array:
    """Normal distribution D of isotropic GGX for half vectors (S, 3) in the tangent frame (z is the normal).

    The sine is taken from x and y, which keeps its precision near the peak of a sharp lobe.
    """
    sine2 = half[:, 0] ** 2 + half[:, 1] ** 2
    cosine2 = half[:, 2] ** 2
    alpha2: Float32Array = alpha * alpha
    spread: Float32Array = alpha2 * cosine2 + sine2
    return alpha2 / (np.float32(np.pi) * spread * spread)


def ggx_shape(
    normal: Float32Array, outgoing: Float32Array, incoming: Float32Array, alpha: Float32Array
) -> Float32Array:
    """(S,) `ggx_density` times pi / alpha^2 of the half vectors between unit directions, all (S, 3) in the world.

    The sine is taken from a cross product, which keeps its precision near the peak of a sharp lobe.
    """
    half = incoming + outgoing
    aside, cosine = cross(normal, half), dot(normal, half)
    spread = (alpha * cosine) ** 2 + dot(aside, aside)
    shape: Float32Array = (dot(half, half) / np.maximum(spread, np.float32(TINY))) ** 2
    return shape


def ggx_visible_normal(view: Float32Array, alpha: Float32Array, u: Float32Array, v: Float32Array) -> Float32Array:
    """Half vectors (S, 3) in the tangent frame, drawn from the normals that are visible from `view`
    (Dupuy and Benyoub 2023, spherical caps).

    Args:
        view: (S, 3) unit, tangent frame, above the surface; u, v: (S,) uniform numbers in [0, 1).
    """
    x, y, z = view.T
    stretched = normalised(vectors(alpha * x, alpha * y, z))
    phi = np.float32(2 * np.pi) * u
    z = 1 - v * (1 + stretched[:, 2])
    radius = np.sqrt(np.clip(1 - z * z, 0, 1))
    x, y, z = (vectors(radius * np.cos(phi), radius * np.sin(phi), z) + stretched).T
    return normalised(vectors(alpha * x, alpha * y, np.maximum(z, 0)))
