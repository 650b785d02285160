"""What samples are expected to see of the lights, and which of them have to look on.

Shapes: L lights, S samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from renderformer.data.arrays import BoolArray, Float32Array, Int64Array, UInt8Array

# Shadow rays of every sample to each light that have to agree with what was foreseen.
PROBES = 2
# What there may be to see of a light: some of it, nothing of some of it.
FREE, BLOCKED = 1, 2


@dataclass(frozen=True)
class Foreseen:
    """What S samples are expected to see of L lights: `state` (L, S) is FREE for all, BLOCKED for nothing, and anything
    else where that is not known; `pixel` (S,) of the samples."""

    state: UInt8Array
    pixel: Int64Array

    def take(self, index: Int64Array) -> Foreseen:
        """That of the samples at an index (S',)."""
        return Foreseen(self.state.take(index, axis=1), self.pixel.take(index))

    def of(self, lights: Int64Array) -> Foreseen:
        """That of the lights at an index (L',)."""
        return Foreseen(self.state[lights], self.pixel)

    def open(self, light: int, samples: Int64Array, seen: BoolArray | Float32Array) -> Int64Array:
        """Which of the samples (S',) have to look on: all of a pixel in which one did not see what was foreseen.

        Args:
            seen: (PROBES, S') what the first rays saw.
        """
        state, pixel = self.state[light].take(samples), self.pixel.take(samples)
        free = state == FREE
        surprised = ~free & (state != BLOCKED)
        for some in seen:
            surprised |= some != free
        among = np.zeros(pixel.max(initial=-1) + 1, bool)
        among[pixel.compress(surprised)] = True
        return samples.compress(among.take(pixel))
