"""What is wrong with a scene for a model, ranked by what it costs in the picture; and the repaired scene.

The losses are measured (docs/doctor.md): by how many dB a picture gets worse that would be right to 42 dB.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from renderformer.check import Outside, check_scene
from renderformer.data.arrays import Float64Array
from renderformer.data.camera import Camera
from renderformer.data.geometry.health import Health, contains, examined, is_solid, mended
from renderformer.data.geometry.light_sides import with_sides
from renderformer.data.geometry.simplify import simplify_scene
from renderformer.data.geometry.subdivide import subdivide_scene
from renderformer.data.scene import DIFFUSE, EMISSION, ROUGHNESS, SPECULAR, Mesh, Scene
from renderformer.data.trained_range import ANYWHERE, Span, TrainedRange
from renderformer.data.unit_size import UnitSize

# dB by rule: infinite where the picture is black or nothing of it is right, None where nothing was measured.
LOSSES: Mapping[str, float | None] = {
    "no lights": math.inf,
    "lights only": math.inf,
    "camera shut in": math.inf,
    "lights shut in": 24.6,
    "lights away": 24.6,
    "lights inside": 21.3,
    "camera distance": 8.7,
    "large triangles": 6.5,
    "box": 3.7,
    "holes": 3.8,
    "roughness": 2.2,
    "many lights": 1.4,
    "coloured lights": 1.1,
    "cracks": 1.0,
    "light distance": 0.9,
    "light size": 0.8,
    "flipped": 0.8,
    "cameras inside": 0.5,
    "coloured specular": 0.1,
    "double": 0.1,
    "empty": 0.0,
    "fov": 0.0,
}
_HEALTH = {
    "flipped": ("triangles face the wrong way", "turn them"),
    "cracks": ("edges are open where corners nearly meet", "weld them"),
    "holes": ("edges of holes", "close them"),
    "empty": ("triangles have no area", "drop them"),
    "double": ("triangles are there twice", "drop them"),
}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        rule: a short name, such as "lights away".
        text: what is wrong, with counts, and the remedy.
        loss: dB that it costs, see the module; None where it was not measured.
        fixable: whether `repaired` does something about it.
    """

    rule: str
    text: str
    loss: float | None = None
    fixable: bool = True

    def __str__(self) -> str:
        return f"{self.rule}: {self.text}"


def diagnose(scene: Scene, trained: TrainedRange = ANYWHERE, surrounded: bool = True) -> list[Finding]:
    """Everything that is wrong with a scene, the most costly first.

    Args:
        trained: range of the model, `Renderer.config.trained`.
        surrounded: whether the model draws the light of an environment; V1 models do not.
    """
    lines = check_scene(scene, trained, surrounded, UnitSize.of(scene, trained.box))
    found = [Finding(line.rule, line, fixable=line.rule in _REPAIRS) for line in lines if isinstance(line, Outside)]
    found += [*_shut_in(scene), *_away(scene), *_unhealthy(scene)]
    rated = [replace(finding, loss=LOSSES.get(finding.rule)) for finding in found]
    return sorted(rated, key=lambda finding: -1.0 if finding.loss is None else -finding.loss)


def repaired(scene: Scene, trained: TrainedRange = ANYWHERE, surrounded: bool = True) -> tuple[Scene, list[str]]:
    """The scene with what can be repaired, and a line about each change. What a person has to decide stays.

    Args:
        trained, surrounded: as in `diagnose`.
    """
    changes: list[str] = []
    unit = UnitSize.of(scene, trained.box)
    if unit.changes and math.isfinite(trained.box):
        scene = unit.scene(scene)
        changes.append(f"scaled by {unit.scale:.4g} into the trained box of ±{trained.box:g}, with lights and cameras")
    rules = {finding.rule for finding in diagnose(scene, trained, surrounded)}
    for repair in dict.fromkeys(repair for rule, repair in _REPAIRS.items() if rule in rules):
        scene, lines = repair(scene, trained)
        changes += lines
    return scene, changes


def _shut_in(scene: Scene) -> list[Finding]:
    """Cameras and lights in closed objects that no light, or no camera, shares with them."""
    lights = [mesh for mesh in scene.objects if mesh.emits]
    middles = np.array([mesh.triangles.mean(axis=(0, 1)) for mesh in lights], np.float64).reshape(-1, 3)
    eyes = np.array([camera.position for camera in scene.cameras], np.float64).reshape(-1, 3)
    blind: set[str] = set()
    lost: set[str] = set()
    for mesh in scene.objects:
        if mesh.emits or not (_near(mesh, middles) or _near(mesh, eyes)) or not is_solid(mesh):
            continue
        shining, looking = contains(mesh, middles), contains(mesh, eyes)
        if looking.any() and not shining.any():
            blind |= {f"camera {camera.name!r} in {mesh.name!r}"
                      for camera, inside in zip(scene.cameras, looking, strict=True) if inside}  # fmt: skip
        if shining.any() and scene.cameras and not looking.any():
            lost |= {f"{light.name!r} in {mesh.name!r}"
                     for light, inside in zip(lights, shining, strict=True) if inside}  # fmt: skip
    found = []
    if blind:
        text = f"{len(blind)} of {len(eyes)} cameras are in a closed object without a light ({_some(blind)}); "
        found.append(Finding("camera shut in", text + "move them out", fixable=False))
    if lost:
        text = f"{len(lost)} of {len(lights)} lights are in a closed object ({_some(lost)}), their light stays there; "
        found.append(Finding("lights shut in", text + "move them out or open it", fixable=False))
    return found


def _near(mesh: Mesh, points: Float64Array) -> bool:
    low, high = mesh.bounds.astype(np.float64)
    return bool(((points > low) & (points < high)).all(axis=1).any())


def _some(names: set[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:2]) + (f" and {len(listed) - 2} more" if len(listed) > 2 else "")


def _turned_away(scene: Scene) -> dict[str, Mesh]:
    """By name, lights that shine away from the scene, with both sides shining where that is so."""
    return {
        mesh.name: both
        for mesh, both in zip(scene.objects, with_sides(scene.objects), strict=True)
        if mesh.emits and (np.asarray(both.two_sided) & ~np.asarray(mesh.two_sided)).any()
    }


def _away(scene: Scene) -> list[Finding]:
    names = list(_turned_away(scene))
    count = sum(mesh.emits for mesh in scene.objects)
    text = f"{len(names)} of {count} lights face away from the scene ({_some(set(names))}); let both sides shine"
    return [Finding("lights away", text)] if names else []


def _unhealthy(scene: Scene) -> list[Finding]:
    """Faults of the meshes, of all objects together."""
    healths = {mesh.name: examined(mesh) for mesh in scene.objects}
    found = []
    for field in fields(Health):
        counts = {name: getattr(health, field.name) for name, health in healths.items()}
        bad = {name: count for name, count in counts.items() if count}
        if bad:
            worst = max(bad, key=lambda name: bad[name])
            what, remedy = _HEALTH[field.name]
            objects = f"in {len(bad)} of {len(healths)} objects (most in {worst!r}: {bad[worst]:,})"
            found.append(Finding(field.name, f"{sum(bad.values()):,} {what} {objects}; {remedy}"))
    return found


Repair = Callable[[Scene, TrainedRange], tuple[Scene, list[str]]]


def _mend(scene: Scene, trained: TrainedRange) -> tuple[Scene, list[str]]:
    objects, lines = [], []
    words = {"empty": "without area dropped", "double": "doubles dropped", "cracks": "open edges welded",
             "flipped": "triangles turned", "holes": "open edges closed"}  # fmt: skip
    for mesh in scene.objects:
        sound, done = mended(mesh)
        objects.append(sound)
        parts = [f"{getattr(done, name):,} {word}" for name, word in words.items() if getattr(done, name)]
        if parts:
            lines.append(f"object {mesh.name!r}: {', '.join(parts)}")
    return scene.replace(objects=tuple(objects)), lines


def _turn_lights(scene: Scene, trained: TrainedRange) -> tuple[Scene, list[str]]:
    away = _turned_away(scene)
    objects = tuple(away.get(mesh.name, mesh) for mesh in scene.objects)
    return scene.replace(objects=objects), [f"light {name!r}: both sides shine" for name in away]


def _of_surfaces(change: Callable[[Mesh], np.ndarray], words: str) -> Repair:
    """A repair of the material rows of objects; materials with textures stay, and the line says so."""

    def repair(scene: Scene, trained: TrainedRange) -> tuple[Scene, list[str]]:
        objects, count, textured = [], 0, 0
        for mesh in scene.objects:
            rows = change(mesh)
            changed = int((rows != mesh.materials).any(axis=1).sum())
            if changed and (mesh.patches is not None or mesh.appearance is not None):
                textured += 1
            elif changed:
                mesh, count = replace(mesh, materials=rows), count + changed
            objects.append(mesh)
        lines = [f"{count:,} triangles: {words}"] if count else []
        lines += [f"{textured} objects with textures stay as they are, although: {words}"] if textured else []
        return scene.replace(objects=tuple(objects)), lines

    return repair


def _less_energy(mesh: Mesh) -> np.ndarray:
    rows = mesh.materials.copy()
    total = (rows[:, DIFFUSE] + rows[:, SPECULAR]).max(axis=1, keepdims=True)
    rows[:, DIFFUSE] /= np.maximum(total, 1)
    rows[:, SPECULAR] /= np.maximum(total, 1)
    return rows


def _grey_specular(mesh: Mesh) -> np.ndarray:
    rows = mesh.materials.copy()
    rows[:, SPECULAR] = rows[:, SPECULAR].mean(axis=1, keepdims=True)
    return rows


def _into_roughness(scene: Scene, trained: TrainedRange) -> tuple[Scene, list[str]]:
    def clipped(mesh: Mesh) -> np.ndarray:
        rows = mesh.materials.copy()
        rows[:, ROUGHNESS] = np.clip(rows[:, ROUGHNESS], *trained.roughness)
        return rows

    return _of_surfaces(clipped, "roughness brought into {:g} … {:g}".format(*trained.roughness))(scene, trained)


def _place_lights(scene: Scene, trained: TrainedRange) -> tuple[Scene, list[str]]:
    """Lights at a trained distance and of a trained size that light the middle of the scene as before."""
    objects, count = [], 0
    for mesh in scene.objects:
        if not (mesh.materials[:, EMISSION] > 0).any(axis=1).all():
            objects.append(mesh)
            continue
        before = mesh.triangles
        # Seen from the origin, a light that is scaled about it stays the same.
        distance = float(np.linalg.norm(mesh.triangles.mean(axis=(0, 1))))
        mesh = _scaled(mesh, _factor(distance, trained.light_distance), np.zeros(3))
        corners = mesh.triangles
        edge = float(np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max())
        size = _factor(edge, trained.light_edge)
        mesh = _scaled(mesh, size, corners.mean(axis=(0, 1)).astype(np.float64)).dimmed(size**-2)
        count += not np.array_equal(before, mesh.triangles)
        objects.append(mesh)
    line = f"{count} lights moved to a trained distance and size, of the same light in the middle of the scene"
    return scene.replace(objects=tuple(objects)), [line] if count else []


def _scaled(mesh: Mesh, factor: float, centre: Float64Array) -> Mesh:
    if factor == 1:
        return mesh
    matrix = np.diag([factor, factor, factor, 1.0])
    matrix[:3, 3] = (1 - factor) * centre
    return mesh.transformed(matrix)


def _factor(value: float, span: Span | None) -> float:
    """What brings a length into a span."""
    return 1.0 if span is None or value <= 0 else float(np.clip(value, *span)) / value


def _into_emission(scene: Scene, trained: TrainedRange) -> tuple[Scene, list[str]]:
    total = float(scene.materials[:, EMISSION].max(axis=1).sum())
    factor = _factor(total, trained.emission)
    objects = tuple(mesh.dimmed(factor) if mesh.emits else mesh for mesh in scene.objects)
    line = f"all light times {factor:.4g}; the picture gets that much brighter (--exposure {-math.log2(factor):+.2f})"
    return scene.replace(objects=objects), [line]


def _place_cameras(scene: Scene, trained: TrainedRange) -> tuple[Scene, list[str]]:
    cameras = tuple(_placed(camera, trained) for camera in scene.cameras)
    count = sum(new is not old for new, old in zip(cameras, scene.cameras, strict=True))
    line = f"{count} cameras moved to a trained distance, with a field of view that shows the middle as large as before"
    return scene.replace(cameras=cameras), [line] if count else []


def _placed(camera: Camera, trained: TrainedRange) -> Camera:
    """The camera at a trained distance from the origin and with a trained field of view."""
    distance = float(np.linalg.norm(camera.position))
    factor = _factor(distance, trained.camera_distance)
    half = math.atan(math.tan(math.radians(camera.fov) / 2) / factor)
    fov = float(np.clip(math.degrees(2 * half), *trained.fov))
    if factor == 1 and fov == camera.fov:
        return camera
    c2w = camera.c2w.copy()
    c2w[:3, 3] *= factor
    return replace(camera, c2w=c2w, fov=fov)


def _simplify(scene: Scene, trained: TrainedRange) -> tuple[Scene, list[str]]:
    assert trained.triangles is not None
    return _noted(scene, simplify_scene(scene, trained.triangles))


def _subdivide(scene: Scene, trained: TrainedRange) -> tuple[Scene, list[str]]:
    return _noted(scene, subdivide_scene(scene))


def _noted(before: Scene, after: Scene) -> tuple[Scene, list[str]]:
    lines = list(map(str, after.notes[len(before.notes) :]))
    return after.replace(notes=before.notes), lines


# In the order in which they are done.
_REPAIRS: Mapping[str, Repair] = {
    **dict.fromkeys(("empty", "double", "cracks", "flipped", "holes"), _mend),
    "triangles": _simplify,
    "large triangles": _subdivide,
    "lights away": _turn_lights,
    **dict.fromkeys(("lights inside", "light distance", "light size"), _place_lights),
    "emission": _into_emission,
    **dict.fromkeys(("cameras inside", "camera distance", "fov"), _place_cameras),
    "energy": _of_surfaces(_less_energy, "diffuse and specular scaled to a sum of 1"),
    "coloured specular": _of_surfaces(_grey_specular, "specular made grey"),
    "roughness": _into_roughness,
}


def summary(findings: Sequence[Finding]) -> str:
    """How many findings there are, in words."""
    return f"{len(findings)} finding{'s' * (len(findings) != 1)}" if findings else "nothing is wrong"
