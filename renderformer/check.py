"""Checks of a scene against the trained range of a model, in scene units, Z up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from renderformer.config import V1
from renderformer.data.arrays import BoolArray, Float32Array
from renderformer.data.camera import Camera
from renderformer.data.geometry.triangles import bounds, open_edges
from renderformer.data.notes import Routine
from renderformer.data.scene import DIFFUSE, EMISSION, ROUGHNESS, SPECULAR, Mesh, Scene
from renderformer.data.trained_range import SLACK as _SLACK
from renderformer.data.trained_range import Span, TrainedRange
from renderformer.data.unit_size import AS_IT_IS, UnitSize, standing


class Outside(str):
    """A warning, and the name of the rule that the scene breaks."""

    rule: str

    def __new__(cls, rule: str, text: str) -> Outside:
        """The text, with the rule."""
        line = super().__new__(cls, text)
        line.rule = rule
        return line


def check_scene(
    scene: Scene, trained: TrainedRange = V1, surrounded: bool = False, unit: UnitSize = AS_IT_IS
) -> list[str]:
    """Warnings where a scene leaves the trained range, one line each, with the value and the remedy.

    A scene without cameras is no fault, since `render` takes cameras too.

    Args:
        trained: of the model, `Renderer.config.trained`; by default that of the released models.
        surrounded: whether the model draws the light of an environment; the released ones do not.
        unit: from the units of the scene to those of the model. The warnings are in those of the scene.
    """
    surrounded = surrounded and scene.environment is not None and not scene.environment.is_dark
    if unit != AS_IT_IS:
        scene, trained = replace(unit, scale=1.0).scene(scene), trained.scaled(1 / unit.scale)
    middle = "the origin" if unit == AS_IT_IS else "the middle of the scene"
    lights = np.isin(np.arange(len(scene)), scene.light_triangles)
    geometry = scene.triangles[~lights]
    checks: tuple[Callable[[], Iterator[str]], ...] = (
        lambda: _check_dark(scene, surrounded),
        lambda: _check_geometry(len(scene), geometry, trained),
        lambda: _check_closed(scene, trained),
        lambda: _check_materials(scene.materials[~lights], trained),
        lambda: _check_lights(scene.triangles[lights], scene.materials[lights][:, EMISSION], geometry, trained, middle),
        lambda: _check_cameras(scene.cameras, geometry, trained, middle),
    )
    return [line for check in checks for line in check()]


def _check_dark(scene: Scene, surrounded: bool) -> Iterator[str]:
    if not surrounded and not len(scene.light_triangles):
        remedy = "add a triangle that emits, or load the mesh with a stage"
        yield Outside("no lights", f"no lights, so the picture will be black; {remedy}")


def _check_geometry(count: int, geometry: Float32Array, trained: TrainedRange) -> Iterator[str]:
    limit = trained.triangles
    if limit is not None and count > 2 * limit:
        line = f"{count} triangles, trained on up to {limit}; lower --budget or simplify the meshes"
        yield Outside("triangles", line)
    elif limit is not None and count > limit:
        yield Outside(
            "triangles",
            f"{count} triangles, trained on up to {limit} (twice that usually works); "
            "lower --budget if the picture shows faults",
        )
    if not len(geometry):
        yield Outside("lights only", "lights only, without an object; add one")
        return
    # A level ground may reach out of the box, as in `UnitSize`.
    objects = standing(geometry)
    low, high = bounds(objects)
    if max(-low.min(), high.max()) > trained.box * (1 + 2 * _SLACK):
        yield Outside(
            "box",
            f"the objects reach from {_triple(low)} to {_triple(high)}, trained inside -{trained.box} … {trained.box}; "
            "scale and move them into that box",
        )
    if trained.longest_edge is None:
        return
    edges = np.linalg.norm(geometry - np.roll(geometry, 1, axis=1), axis=2).max(axis=1)
    large = int((edges > trained.longest_edge).sum())
    if large:
        yield Outside(
            "large triangles",
            f"{large} of {len(edges)} triangles are very large (longest edge {edges.max():.2g}, trained on similar "
            f"sizes up to about {trained.longest_edge}); cut them with --subdivide",
        )


def _check_closed(scene: Scene, trained: TrainedRange) -> Iterator[str]:
    if not trained.watertight:
        return
    # Training scenes have stages of open planes.
    counts = {
        mesh.name: _open_edges(mesh, trained.box) for mesh in scene.objects if not mesh.emits and not _is_flat(mesh)
    }
    open_objects = {name: count for name, count in counts.items() if count}
    if open_objects:
        name, count = max(open_objects.items(), key=lambda item: item[1])
        # Most meshes that people have are open somewhere, and most of their pictures show nothing of it.
        yield Routine(
            f"{len(open_objects)} of {len(counts)} objects are not watertight (most in {name!r}: {count} open edges), "
            "trained on closed objects; close the holes if the picture shows faults there"
        )


def _is_flat(mesh: Mesh) -> bool:
    points = mesh.triangles.reshape(-1, 3).astype(np.float64)
    spread = np.linalg.svd(np.cov((points - points.mean(0)).T), compute_uv=False)
    return bool(spread[2] <= 1e-8 * spread[0])


def _open_edges(mesh: Mesh, box: float) -> int:
    """Count of open edges (`geometry.triangles.open_edges`) off the border of the box."""
    low, high = mesh.bounds.astype(np.float64)
    # Corners closer than a millionth of the object are one vertex.
    scale = 1e6 / max(float((high - low).max()), 1e-12)
    grid = np.round((mesh.triangles.reshape(-1, 3) - low) * scale).astype(np.int64)
    vertices, corners = np.unique(grid, axis=0, return_inverse=True)
    rims = open_edges(corners.reshape(-1, 3))
    # A stage that is part of the object ends on the border of the box.
    on_border = (np.abs(np.abs(vertices[rims] / scale + low) - box) < 2e-4 * box).any(axis=2).all(axis=1)
    return int((~on_border).sum())


def _check_materials(materials: Float32Array, trained: TrainedRange) -> Iterator[str]:
    count, (smoothest, roughest) = len(materials), trained.roughness
    total = (materials[:, DIFFUSE] + materials[:, SPECULAR]).max(axis=1, initial=0)
    bright = int((total > 1 + _SLACK).sum())
    if bright:
        yield Outside(
            "energy",
            f"{bright} of {count} triangles have diffuse + specular above 1 (up to {total.max():.2f}), which adds "
            "energy; lower one of them",
        )
    coloured = int((np.ptp(materials[:, SPECULAR], axis=1) > _SLACK).sum()) if trained.white_specular else 0
    if coloured:
        line = f"{coloured} of {count} triangles have a coloured specular, trained on white; use a grey value"
        yield Outside("coloured specular", line)
    smooth = int((materials[:, ROUGHNESS] < smoothest * (1 - _SLACK)).sum())
    if smooth:
        yield Outside(
            "roughness",
            f"{smooth} of {count} triangles have a roughness below {smoothest:g} (down to "
            f"{materials[:, ROUGHNESS].min():.2g}), trained on {_span(trained.roughness)}; raise it",
        )
    rough = int((materials[:, ROUGHNESS] > roughest * (1 + _SLACK)).sum())
    if rough:
        yield Outside(
            "roughness",
            f"{rough} of {count} triangles have a roughness above {roughest:g} (up to "
            f"{materials[:, ROUGHNESS].max():.3g}), trained on {_span(trained.roughness)}; lower it",
        )


def _check_lights(
    lights: Float32Array, emission: Float32Array, geometry: Float32Array, trained: TrainedRange, middle: str
) -> Iterator[str]:
    count = len(lights)
    if not count:
        return
    if trained.lights is not None and count > trained.lights:
        yield Outside(
            "many lights",
            f"{count} light triangles, trained on 1 … {trained.lights}; light adds up, so render groups of "
            f"{trained.lights} and sum the pictures (--split-lights does)",
        )
    centres = lights.mean(axis=1)
    inside = int(_inside(centres, geometry).sum())
    if inside and trained.lights_outside:
        line = f"{inside} of {count} lights are inside the scene, trained on lights outside; move them out"
        yield Outside("lights inside", line)
    distances = np.linalg.norm(centres, axis=1)
    remedy = "move them there"
    yield from _outside_range(
        distances, trained.light_distance, "light distance", f"lights stand {{}} from {middle}", remedy
    )
    edges = np.linalg.norm(lights - np.roll(lights, 1, axis=1), axis=2).max(axis=1)
    remedy = "resize them, or sum renders of the pieces of a large one"
    yield from _outside_range(edges, trained.light_edge, "light size", "lights have an edge of {}", remedy)
    if trained.white_lights and (np.ptp(emission, axis=1) > 0.01 * emission.max(axis=1)).any():
        yield Outside(
            "coloured lights",
            "coloured lights, trained on white; light is linear, so render once in white per channel and scale the "
            "channels of the picture",
        )
    total = float(emission.max(axis=1).sum())
    if trained.emission is not None and not _within(trained.emission, total):
        yield Outside(
            "emission",
            f"the emission of all lights sums to {total:.4g}, trained on {_span(trained.emission)}; scale it into that "
            "range and the picture back by the same factor",
        )


def _check_cameras(
    cameras: tuple[Camera, ...], geometry: Float32Array, trained: TrainedRange, middle: str
) -> Iterator[str]:
    if not cameras:
        return
    count = len(cameras)
    positions = np.stack([camera.position for camera in cameras])
    inside = int(_inside(positions, geometry).sum())
    if inside and trained.cameras_outside:
        line = f"{inside} of {count} cameras are inside the scene, trained on cameras outside; move them out"
        yield Outside("cameras inside", line)
    distances = np.linalg.norm(positions, axis=1)
    remedy = "move them there and adapt the fov"
    yield from _outside_range(
        distances, trained.camera_distance, "camera distance", f"cameras stand {{}} from {middle}", remedy
    )
    fovs = np.array([camera.fov for camera in cameras])
    remedy = "change it, and the distance with it"
    yield from _outside_range(fovs, trained.fov, "fov", "cameras have a fov of {} degrees", remedy)


def _inside(points: Float32Array, geometry: Float32Array) -> BoolArray:
    if not len(geometry):
        return np.zeros(len(points), bool)
    low, high = bounds(geometry)
    inside = (points > low) & (points < high)
    return np.asarray(inside.all(axis=1))


def _within(span: Span, values: npt.ArrayLike) -> BoolArray:
    return (np.asarray(values) >= span[0] * (1 - _SLACK)) & (np.asarray(values) <= span[1] * (1 + _SLACK))


def _outside_range(
    values: npt.NDArray[np.floating], span: Span | None, rule: str, subject: str, remedy: str
) -> Iterator[str]:
    if span is None or _within(span, values).all():
        return
    outside = values[~_within(span, values)]
    extreme = outside[np.argmax(np.abs(outside - sum(span) / 2))]
    found = subject.format(f"{extreme:.3g}")
    yield Outside(rule, f"{len(outside)} of {len(values)} {found}, trained on {_span(span)}; {remedy}")


def _span(span: Span) -> str:
    return f"{span[0]:.4g} … {span[1]:.4g}"


def _triple(values: Float32Array) -> str:
    return "(" + ", ".join(f"{value:.2f}" for value in values) + ")"
