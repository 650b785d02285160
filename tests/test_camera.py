"""Directions by azimuth and elevation, and the rays of a camera."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from renderformer.data.camera import Camera, angles, direction


def test_azimuth_runs_counter_clockwise_from_minus_y() -> None:
    np.testing.assert_allclose(direction(0, 0), [0, -1, 0], atol=1e-15)
    np.testing.assert_allclose(direction(90, 0), [1, 0, 0], atol=1e-15)
    np.testing.assert_allclose(direction(45, 90), [0, 0, 1], atol=1e-15)


@given(st.floats(-179.9, 179.9), st.floats(-89, 89))
def test_angles_are_the_inverse_of_direction(azimuth: float, elevation: float) -> None:
    assert np.linalg.norm(direction(azimuth, elevation)) == pytest.approx(1)
    assert angles(direction(azimuth, elevation)) == pytest.approx((azimuth, elevation), abs=1e-9)


def test_rays_meet_the_axis_and_the_edges_of_the_picture() -> None:
    camera = Camera.from_angles(30, 20, 1.8, fov=40)
    np.testing.assert_allclose(camera.rays(32, 24, 64, 48), camera.forward, atol=1e-6)
    top, bottom = camera.rays(np.array([32.0, 32.0]), np.array([0.0, 48.0]), 64, 48).T
    cosine = top @ bottom / np.linalg.norm(top) / np.linalg.norm(bottom)
    assert np.degrees(np.arccos(cosine)) == pytest.approx(40, abs=1e-3)
    assert top[2] > bottom[2]
    right = camera.rays(64.0, 24.0, 64, 48) - camera.forward
    np.testing.assert_allclose(right / np.linalg.norm(right), camera.c2w[:3, 0], atol=1e-5)
