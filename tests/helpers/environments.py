"""Environments for tests."""

from __future__ import annotations

import numpy as np

from renderformer.data.environment import Environment, image_directions


def spots(height: int = 64, width: int = 128) -> Environment:
    """A dim gradient with a warm lamp of 20 degrees and a small bright one."""
    away = image_directions(height, width)
    image = np.stack([0.3 + 0.1 * away[..., 2], 0.3 + 0 * away[..., 2], 0.3 - 0.1 * away[..., 0]], axis=-1)
    for toward, degrees, colour in (((0.6, -0.6, 0.53), 20, (9, 7, 5)), ((-0.7, -0.1, 0.7), 4, (20, 30, 60))):
        image[away @ np.array(toward) / np.linalg.norm(toward) > np.cos(np.radians(degrees))] += colour
    return Environment(image.astype(np.float32))
