"""Arithmetic of many vectors at once, float32.

Layout: the vectors of S points are (S, 3) arrays whose components lie one after the other in memory (Fortran order), as
`vectors` makes them and arithmetic keeps them: NumPy works through those several times faster than through points one
after the other. Any layout gives the same numbers.
"""

from __future__ import annotations

import numpy as np

from renderformer.data.arrays import AnyArray, Float32Array, Int64Array

# The least divisor where a length, a square or an area may be zero: far below those of any scene of about unit size.
TINY = 1e-20


def vectors(x: Float32Array, y: Float32Array, z: Float32Array) -> Float32Array:
    """(S, 3) of three components (S,), each contiguous."""
    result = np.empty((3, len(x)), np.float32)
    result[0], result[1], result[2] = x, y, z
    return result.T


def in_columns(values: AnyArray) -> Float32Array:
    """(S, C) float32, each column contiguous."""
    columns = np.empty((values.shape[1], len(values)), np.float32)
    # In parts that stay in the cache, which is several times as fast.
    for first in range(0, len(values), 4096):
        columns[:, first : first + 4096] = values[first : first + 4096].T
    return columns.T


def take(values: AnyArray, rows: Int64Array) -> AnyArray:
    """`values[rows]` along the first axis, each column contiguous."""
    return values.T.take(rows, axis=-1).T


def dot(a: Float32Array, b: Float32Array) -> Float32Array:
    """Inner product over the last axis."""
    result: Float32Array = a[..., 0] * b[..., 0] + a[..., 1] * b[..., 1] + a[..., 2] * b[..., 2]
    return result


def cross(a: Float32Array, b: Float32Array) -> Float32Array:
    """(S, 3) cross products of (S, 3) with (S, 3) or (3,)."""
    (ax, ay, az), (bx, by, bz) = a.T, b.T
    return vectors(ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx)


def normalised(v: Float32Array) -> Float32Array:
    """Unit vectors over the last axis; zero stays zero."""
    length: Float32Array = np.maximum(np.sqrt(dot(v, v)), np.float32(TINY))
    return v / length[..., None]
