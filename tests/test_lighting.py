"""Direct light of triangles: form factors, sample points, GGX."""

import numpy as np
import pytest
from helpers.intersection import intersections
from hypothesis import given, settings
from hypothesis import strategies as st

from renderformer.data.rays.form_factor import triangle_form_factor
from renderformer.data.rays.ggx import Lobe, ggx_density, ggx_masking, ggx_shape, ggx_visible_normal, tangent_frame
from renderformer.data.rays.lights import triangle_samples
from renderformer.data.rays.vectors import normalised


def directions(count: int) -> np.ndarray:
    """Cosine-weighted directions around +z in float64; the share that hits a shape is its form factor."""
    u, v = np.random.default_rng(0).random((2, count))
    radius, phi = np.sqrt(u), 2 * np.pi * v
    return np.stack([radius * np.cos(phi), radius * np.sin(phi), np.sqrt(1 - u)], axis=1)


def hit_share(corners: np.ndarray, rays: np.ndarray) -> float:
    """Share of rays from the origin that hit the triangle."""
    t, weight = intersections(np.zeros(3), rays, corners[None])
    return float(((weight >= 0) & (t > 0)).mean())


RAYS = directions(400_000)


@given(st.integers(0, 10_000))
@settings(max_examples=40)
def test_form_factor_matches_ray_casting_also_across_the_horizon(seed: int) -> None:
    rng = np.random.default_rng(seed)
    corners = rng.uniform(-1, 1, (3, 3)) + [0, 0, rng.uniform(-0.2, 1.5)]
    point, up, light = np.zeros((1, 3), np.float32), np.array([[0, 0, 1]], np.float32), corners.astype(np.float32)
    share = hit_share(corners, RAYS)
    assert triangle_form_factor(point, up, light, two_sided=True)[0] == pytest.approx(share, abs=4e-3)
    # The front is where the corners run counter-clockwise.
    front = np.linalg.det(corners) < 0
    assert triangle_form_factor(point, up, light)[0] == pytest.approx(share if front else 0, abs=4e-3)


def polygon_form_factor(point: np.ndarray, normal: np.ndarray, corners: np.ndarray) -> float:
    """Lambert's formula in float64, after cutting the triangle off at the horizon (Sutherland and Hodgman)."""
    vertices = corners - point
    heights = vertices @ normal
    polygon = []
    for a, b, height_a, height_b in zip(
        vertices, np.roll(vertices, -1, axis=0), heights, np.roll(heights, -1), strict=True
    ):
        if height_a >= 0:
            polygon.append(a)
        if (height_a < 0) != (height_b < 0):
            polygon.append(a + (b - a) * height_a / (height_a - height_b))
    total = 0.0
    for a, b in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        across = np.cross(a, b)
        sine = np.linalg.norm(across)
        if sine > 0:
            total += np.arctan2(sine, a @ b) * (across @ normal) / sine
    return abs(total) / (2 * np.pi)


@pytest.mark.parametrize("size", [0.01, 0.15, 2.0])
@pytest.mark.parametrize("distance", [0.02, 0.3, 2.5])
def test_form_factor_agrees_with_double_precision_near_and_far(size: float, distance: float) -> None:
    rng = np.random.default_rng(3)
    for _ in range(4):
        corners = (rng.uniform(-1, 1, (3, 3)) * size).astype(np.float32)
        # Around points of the triangle, so near points see it under wide angles, often across the horizon.
        places = rng.dirichlet(np.ones(3), 200) @ corners
        points = (places + distance * normalised(rng.normal(size=(200, 3)))).astype(np.float32)
        normals = normalised(rng.normal(size=(200, 3)).astype(np.float32))
        factor = triangle_form_factor(points, normals, corners, two_sided=True)
        double = [polygon_form_factor(*pair, corners.astype(np.float64)) for pair in
                  zip(points.astype(np.float64), normals.astype(np.float64), strict=True)]  # fmt: skip
        # The direction to a corner is rounded by 1e-7, which moves the light at the horizon as much.
        np.testing.assert_allclose(factor, double, rtol=1e-4, atol=2e-7)


def test_form_factor_does_not_depend_on_other_points_or_the_layout() -> None:
    rng = np.random.default_rng(4)
    corners = rng.uniform(-1, 1, (3, 3)).astype(np.float32)
    points = rng.uniform(-1, 1, (100, 3)).astype(np.float32)
    normals = normalised(rng.normal(size=(100, 3)).astype(np.float32))
    together = triangle_form_factor(points, normals, corners)
    alone = [triangle_form_factor(points[i : i + 1], normals[i : i + 1], corners)[0] for i in range(100)]
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-7)
    columns = triangle_form_factor(np.asfortranarray(points), np.asfortranarray(normals), corners)
    assert np.array_equal(together, columns)
    assert triangle_form_factor(points[:0], normals[:0], corners).shape == (0,)


def test_form_factor_of_a_small_far_triangle_is_the_point_formula() -> None:
    corners = np.array([[-0.05, 0, 2], [0.05, 0, 2], [0, 0.08, 2]], np.float32)
    centre = corners.mean(axis=0, dtype=np.float64)
    area = np.linalg.norm(np.cross(corners[1] - corners[0], corners[2] - corners[0])) / 2
    distance2 = centre @ centre
    expected = area * (centre[2] ** 2 / distance2) / (np.pi * distance2)
    point, up = np.zeros((1, 3), np.float32), np.array([[0, 0, 1]], np.float32)
    factor = triangle_form_factor(point, up, corners, two_sided=True)[0]
    assert factor == pytest.approx(expected, rel=1e-3)


def test_form_factor_below_the_horizon_is_zero_and_both_sides_may_act_alike() -> None:
    corners = np.array([[0, 0, -1], [1, 0, -2], [0, 1, -1.5]], np.float32)
    point, up = np.zeros((1, 3), np.float32), np.array([[0, 0, 1]], np.float32)
    assert triangle_form_factor(point, up, corners)[0] == 0
    above = -corners
    turned = above[::-1].copy()
    both = triangle_form_factor(point, up, above, two_sided=True)[0]
    assert both == pytest.approx(triangle_form_factor(point, up, turned, two_sided=True)[0], rel=1e-5)
    assert sorted(triangle_form_factor(point, up, corners)[0] for corners in (above, turned)) == [0, both]


@pytest.mark.parametrize("count", [1, 4, 7, 64])
def test_triangle_samples_are_inside_and_centred(count: int) -> None:
    samples = triangle_samples(count)
    assert samples.shape == (count, 3)
    assert samples.min() >= 0
    np.testing.assert_allclose(samples.sum(axis=1), 1, atol=1e-6)
    if count >= 64:
        np.testing.assert_allclose(samples.mean(axis=0), 1 / 3, atol=0.04)


def test_tangent_frame_is_orthonormal_and_right_handed() -> None:
    normals = normalised(np.random.default_rng(1).normal(size=(500, 3)).astype(np.float32))
    normals = np.concatenate([normals, [[0, 0, 1], [0, 0, -1]]]).astype(np.float32)
    tangent, bitangent = tangent_frame(normals)
    frame = np.stack([tangent, bitangent, normals], axis=1)
    np.testing.assert_allclose(frame @ frame.swapaxes(1, 2), np.broadcast_to(np.eye(3), frame.shape), atol=1e-5)
    np.testing.assert_allclose(np.linalg.det(frame), 1, atol=1e-5)


@pytest.mark.parametrize("alpha", [0.05, 0.3, 1.0])
def test_ggx_density_projects_to_one(alpha: float) -> None:
    # Over the hemisphere the density times the cosine integrates to 1 (Walter et al. 2007).
    theta = (np.arange(20_000) + 0.5) / 20_000 * np.pi / 2
    half = np.stack([np.sin(theta), np.zeros_like(theta), np.cos(theta)], axis=1).astype(np.float32)
    density = ggx_density(half, np.full(len(half), alpha, np.float32))
    integral = (density * np.cos(theta) * np.sin(theta) * 2 * np.pi).sum() * (np.pi / 2 / 20_000)
    assert integral == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("roughness", [0.03, 0.3, 1.0])
def test_the_density_of_a_lobe_is_the_same_in_the_world_as_in_its_frame(roughness: float) -> None:
    normal = directions(500).astype(np.float32)
    rng = np.random.default_rng(5)
    outgoing, incoming = (normal + 0.9 * directions(500)[rng.permutation(500)] for _ in range(2))
    # Half of them near the peak, where a sharp lobe is steep.
    incoming[::2] = (2 * (outgoing * normal).sum(axis=1, keepdims=True) * normal - outgoing)[::2]
    incoming[::2] += 0.002 * rng.standard_normal((250, 3))
    outgoing, incoming = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (outgoing, incoming))
    lobe = Lobe.at(normal, outgoing.astype(np.float32), np.full(500, roughness, np.float32))
    half = (incoming + outgoing) / np.linalg.norm(incoming + outgoing, axis=1, keepdims=True)
    sine2 = np.square(np.cross(normal.astype(np.float64), half)).sum(axis=1)
    alpha2 = max(roughness**2, 1e-3) ** 2
    exact = alpha2 / (np.pi * (alpha2 * (1 - sine2) + sine2) ** 2)
    exact *= lobe.masking_out / (4 * np.maximum((normal * outgoing).sum(axis=1), 1e-4))
    incoming = incoming.astype(np.float32)
    density = lobe.height * ggx_shape(lobe.normal, lobe.outgoing, incoming, lobe.alpha)
    np.testing.assert_allclose(density, exact, rtol=2e-3)
    np.testing.assert_allclose(lobe.density(lobe.to_frame(half.astype(np.float32))), exact, rtol=2e-3)


def test_a_lobe_seen_against_the_light_is_finite() -> None:
    normal = np.array([[0, 0, 1]], np.float32)
    assert np.isfinite(ggx_shape(normal, normal, -normal, np.ones(1, np.float32))).all()


@pytest.mark.parametrize("alpha", [0.1, 0.6])
@pytest.mark.parametrize("tilt", [0.2, 1.2])
def test_visible_normals_follow_their_density(alpha: float, tilt: float) -> None:
    # The mean of any function over the samples is its integral with G1 D max(v.h, 0) / v.z; here the function is h.z.
    count = 200_000
    rng = np.random.default_rng(2)
    view = np.tile(np.array([np.sin(tilt), 0, np.cos(tilt)], np.float32), (count, 1))
    u, v = rng.random((2, count)).astype(np.float32)
    sampled = ggx_visible_normal(view, np.full(count, alpha, np.float32), u, v)[:, 2].mean()
    half = directions(count).astype(np.float32)
    cosine = np.maximum((view * half).sum(axis=1), 0)
    masking = ggx_masking(view[:1, 2], np.array([alpha], np.float32))[0]
    density = masking * ggx_density(half, np.full(count, alpha, np.float32)) * cosine / view[0, 2]
    weights = density * np.pi / half[:, 2]
    assert weights.mean() == pytest.approx(1, rel=0.03)
    assert sampled == pytest.approx((weights * half[:, 2]).mean() / weights.mean(), rel=0.02)
