"""Fixed directions over the hemispheres of surface points. Vectors are laid out as in vectors.py."""

from __future__ import annotations

import numpy as np

from renderformer.data.arrays import Float32Array
from renderformer.data.rays.ggx import tangent_frame, to_world


def cosine_directions(uv: Float32Array) -> Float32Array:
    """(S, 3) unit directions around +Z of points (S, 2) of the unit square, with a density of cosine / pi."""
    radius, angle = np.sqrt(uv[:, 0]), 2 * np.pi * uv[:, 1]
    components = radius * np.cos(angle), radius * np.sin(angle), np.sqrt(np.maximum(1 - uv[:, 0], 0))
    return np.array(components, np.float32).T


def oriented(normals: Float32Array, local: Float32Array) -> Float32Array:
    """(S, 3) world directions of directions (S, 3) in the tangent frames of unit normals (S, 3)."""
    return to_world((*tangent_frame(normals), normals), local)
