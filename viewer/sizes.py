"""Sizes of pictures that take a given time, by measured speed."""

from __future__ import annotations

import math

# Shorter sides in pixels of coarse pictures; multiples of 32, so that no model pads.
LADDER = (32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)
# Number of sizes with a measured speed; a window that is resized has many.
MEASURED = 256
Size = tuple[int, int]


class Sizes:
    """Seconds that pictures of some sizes took."""

    def __init__(self) -> None:
        self._seconds: dict[Size, float] = {}

    def __len__(self) -> int:
        return len(self._seconds)

    def measure(self, size: Size, seconds: float) -> None:
        """Update the speed of all sizes in proportion: a new scene slows all of them down alike."""
        if len(self._seconds) > MEASURED:
            self._seconds.clear()
        factor = (1 + seconds / self._seconds.setdefault(size, seconds)) / 2
        self._seconds = {key: factor * value for key, value in self._seconds.items()}

    @staticmethod
    def until(full: Size) -> list[Size]:
        """The sizes of the pictures of one request, coarse to fine, with the full size at the end."""
        shorter = min(full)
        sides = [side for side in LADDER if side < 0.8 * shorter]
        return [(max(1, round(full[0] * s / shorter)), max(1, round(full[1] * s / shorter))) for s in sides] + [full]

    def affordable(self, sizes: list[Size], budget: float) -> Size:
        """The largest size that the measured speed allows in `budget` seconds; the smallest if there is none.

        The time per pixel of a size is at most that of any smaller size, since fixed costs weigh less in larger
        pictures. So a size without a measurement takes the value of a smaller one, and so does a size whose own
        measurement was slower, for example because the machine was busy.
        """
        best, per_pixel = sizes[0], math.inf
        for size in sizes:
            pixels = size[0] * size[1]
            per_pixel = min(per_pixel, self._seconds.get(size, math.inf) / pixels)
            if per_pixel * pixels <= budget:
                best = size
        return best
