"""Which lights the places in a view see as a whole or not at all, by what the cells of its gather see.

Most of a picture lies far from the border of any shadow, and most shadow rays only tell so again. Where all cells about
a sample see all of a light, or nothing of it, and the first rays of its pixel agree, the others are taken to agree too.

Shapes: L lights, S surface points, h x w cells.
"""

from __future__ import annotations

import numpy as np

from renderformer.data.arrays import Int64Array
from renderformer.data.rays.direct import LitSurfaces
from renderformer.data.rays.embree import Hits
from renderformer.data.rays.foreseen import BLOCKED, FREE, Foreseen
from renderformer.data.rays.pixels import among_neighbours


class Foresight:
    """What h x w cells see of every light.

    Args:
        surfaces: in which `possible` is true.
    """

    def __init__(self, surfaces: LitSurfaces, down: int, across: int) -> None:
        self._surfaces = surfaces
        self._states = np.zeros((len(surfaces.lights), down, across), np.uint8)

    @staticmethod
    def possible(surfaces: LitSurfaces) -> bool:
        """Whether shadow rays go to every light there, and either pass or do not."""
        return len(surfaces.lights) > 0 and surfaces.asks_every_light and not surfaces.sees_through

    def look(self, cells: Int64Array, hits: Hits, shadow_rays: int, phase: Int64Array) -> None:
        """Find out what cells (S,) see, whose middles meet surfaces at `hits`; arguments as in `LitSurfaces.direct`."""
        factor = self._surfaces.factors(hits)
        seen = self._surfaces.lights_seen(hits, shadow_rays, phase, factor)
        state = FREE * seen.any(axis=1) + BLOCKED * np.logical_not(seen).any(axis=1)
        self._states.reshape(len(self._states), -1)[:, cells] = np.where(factor > 0, state, 0)

    def finish(self) -> None:
        """Let every cell know what those beside it see, once all have looked."""
        self._states = np.stack([among_neighbours(np.bitwise_or, states) for states in self._states])

    def at(self, row: Int64Array, column: Int64Array, pixel: Int64Array) -> Foreseen:
        """What is foreseen for samples of pixels (S,) in cells at a row and column (S,); those outside count as the
        nearest."""
        lights, down, across = self._states.shape
        cell = np.clip(row, 0, down - 1) * across + np.clip(column, 0, across - 1)
        return Foreseen(self._states.reshape(lights, -1).take(cell, axis=1), pixel)
