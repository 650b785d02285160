"""Which lights the places in a view see as a whole or not at all, by what the cells of its gather see.

Most of a picture lies far from the border of any shadow, and most shadow rays only tell so again. Where all cells about
a sample see all of a light, or nothing of it, and the first rays of its pixel agree, the others are taken to agree too.

Shapes: L lights, S surface points, h x w cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import maximum_filter

from renderformer.data.arrays import Int64Array, UInt8Array

if TYPE_CHECKING:
    from renderformer.data.rays.direct import LitSurfaces
    from renderformer.data.rays.embree import Hits, Seen

# Shadow rays of every sample to each light that have to agree with what was foreseen.
PROBES = 2
# What cells may see of a light: some of it, nothing of some of it.
FREE, BLOCKED = 1, 2


@dataclass(frozen=True)
class Foreseen:
    """What S samples are expected to see of L lights: `state` (L, S) is FREE for all, BLOCKED for nothing, and anything
    else where that is not known; `pixel` (S,) of the samples."""

    state: UInt8Array
    pixel: Int64Array

    def take(self, index: Int64Array) -> Foreseen:
        """That of the samples at an index (S',)."""
        return Foreseen(self.state[:, index], self.pixel[index])

    def of(self, lights: Int64Array) -> Foreseen:
        """That of the lights at an index (L',)."""
        return Foreseen(self.state[lights], self.pixel)

    def open(self, light: int, samples: Int64Array, seen: Seen) -> Int64Array:
        """Which of the samples (S',) have to look on: all of a pixel in which one did not see what was foreseen.

        Args:
            seen: (PROBES, S') what the first rays saw.
        """
        state, pixel = self.state[light, samples], self.pixel[samples]
        surprised = (state != FREE) & (state != BLOCKED) | (seen != (state == FREE)).any(axis=0)
        among = np.zeros(pixel.max(initial=-1) + 1, bool)
        among[pixel[surprised]] = True
        return samples[among[pixel]]


class Foresight:
    """What h x w cells see of every light.

    Args:
        surfaces: in which `possible` is true.
    """

    def __init__(self, surfaces: LitSurfaces, down: int, across: int) -> None:
        self._surfaces = surfaces
        self._states = np.zeros((down, across, len(surfaces.lights)), np.uint8)

    @staticmethod
    def possible(surfaces: LitSurfaces) -> bool:
        """Whether shadow rays go to every light there, and either pass or do not."""
        return len(surfaces.lights) > 0 and surfaces.asks_every_light and not surfaces.sees_through

    def look(self, cells: Int64Array, hits: Hits, shadow_rays: int, phase: Int64Array) -> None:
        """Find out what cells (S,) see, whose middles meet surfaces at `hits`; arguments as in `LitSurfaces.direct`."""
        factor = self._surfaces.factors(hits)
        seen = self._surfaces.every_light(hits, shadow_rays, phase, factor).seen
        state = FREE * seen.any(axis=1) + BLOCKED * np.logical_not(seen).any(axis=1)
        self._states.reshape(-1, self._states.shape[2])[cells] = np.where(factor > 0, state, 0).T

    def finish(self) -> None:
        """Let every cell know what those beside it see, once all have looked."""
        size = (3, 3, 1)
        free, blocked = (maximum_filter(self._states & bit, size, mode="nearest") for bit in (FREE, BLOCKED))
        self._states = free | blocked

    def at(self, row: Int64Array, column: Int64Array, pixel: Int64Array) -> Foreseen:
        """What is foreseen for samples of pixels (S,) in cells at a row and column (S,); those outside count as the
        nearest."""
        down, across = self._states.shape[:2]
        return Foreseen(self._states[np.clip(row, 0, down - 1), np.clip(column, 0, across - 1)].T, pixel)
