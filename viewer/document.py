"""The scene that is being edited: objects with a placement, materials, lights, and undo of every edit.

World frame: right-handed, Z up, scene units. Shapes: N triangles of an object.
"""

from __future__ import annotations

import hashlib
import math
import os
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from renderformer.data.arrays import AnyArray, Float64Array
from renderformer.data.camera import Camera
from renderformer.data.errors import InputError
from renderformer.data.scene import (
    DIFFUSE,
    EMISSION,
    PATCH_SIZE,
    ROUGHNESS,
    SPECULAR,
    Light,
    Material,
    Mesh,
    Scene,
)

Vector = tuple[float, float, float]
# Edits of one value that follow each other within this many seconds, as from a slider, are one step of undo.
MERGE_SECONDS = 1.0
_CHANNELS = {
    "diffuse": DIFFUSE,
    "specular": SPECULAR,
    "roughness": slice(ROUGHNESS, ROUGHNESS + 1),
    "emission": EMISSION,
}


@dataclass(frozen=True)
class Placement:
    """How an object is moved from where its mesh stands: scaled and turned about the centre of its bounds, then moved.

    Attributes:
        translation: scene units; rotation: degrees about X, then Y, then Z; scale: one factor, positive.
    """

    translation: Vector = (0.0, 0.0, 0.0)
    rotation: Vector = (0.0, 0.0, 0.0)
    scale: float = 1.0

    def matrix(self, centre: npt.ArrayLike) -> Float64Array:
        """(4, 4) world to world."""
        from scipy.spatial.transform import Rotation

        if not (math.isfinite(self.scale) and self.scale > 0):
            raise InputError("placement", f"scale is {self.scale}", "expected a positive number")
        middle = np.asarray(centre, np.float64)
        linear = self.scale * Rotation.from_euler("xyz", self.rotation, degrees=True).as_matrix()
        matrix = np.eye(4)
        matrix[:3, :3] = linear
        matrix[:3, 3] = middle - linear @ middle + np.asarray(self.translation)
        return matrix


@dataclass(frozen=True, eq=False)
class Item:
    """An object of the document: its mesh before placement, the placement, and whether it is shown."""

    base: Mesh
    placement: Placement = Placement()
    visible: bool = True

    @property
    def name(self) -> str:
        return self.base.name

    @cached_property
    def mesh(self) -> Mesh:
        """The object where it stands now; the base itself, byte for byte, where it was not moved."""
        if self.placement == Placement():
            return self.base
        return self.base.transformed(self.placement.matrix(self.base.bounds.mean(axis=0)))

    @cached_property
    def material(self) -> Material:
        """The mean material of the object, for the panel."""
        return Material.from_row(self.base.materials.mean(axis=0, dtype=np.float64).clip(0, None))

    @cached_property
    def light(self) -> Light:
        """Position, size and emission of an object that emits, see `light_of`."""
        return light_of(self.mesh)


@dataclass(frozen=True, eq=False)
class _State:
    items: tuple[Item, ...]
    cameras: tuple[Camera, ...]
    name: str
    notes: tuple[str, ...]
    # The scene as it was given, while nothing differs from it.
    given: Scene | None = None
    # Whether another scene was opened over edits that were not saved.
    left_unsaved: bool = False

    @classmethod
    def of(cls, scene: Scene, left_unsaved: bool = False) -> _State:
        items = tuple(Item(mesh) for mesh in scene.objects)
        return cls(items, scene.cameras, scene.name, scene.notes, scene, left_unsaved)


class SceneDocument:
    """A scene with undo and redo. Every edit makes a new state that shares what it did not change.

    Not safe to use from several threads at once.

    Args:
        scene: what to edit; it is not changed.
        clock: seconds, to tell a drag of a slider from two edits.
    """

    def __init__(self, scene: Scene, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._past: list[tuple[str, _State]] = []
        self._future: list[tuple[str, _State]] = []
        self._merge: tuple[str, float] | None = None
        self._state = _State.of(scene)
        self._saved: object = None
        self._scene: tuple[_State, Scene] | None = None

    @property
    def items(self) -> tuple[Item, ...]:
        """All objects, hidden ones too, in order."""
        return self._state.items

    def __getitem__(self, name: str) -> Item:
        for item in self._state.items:
            if item.name == name:
                return item
        names = ", ".join(item.name for item in self.items)
        raise InputError(f"scene {self._state.name!r}", f"no object {name!r}", f"it has: {names}")

    @property
    def scene(self) -> Scene:
        """What is shown: the visible objects where they stand. The scene that was given, itself, if nothing differs.

        Raises:
            InputError: everything is hidden.
        """
        if self._state.given is not None:
            return self._state.given
        if self._scene is None or self._scene[0] is not self._state:
            shown = tuple(item.mesh for item in self._state.items if item.visible)
            if not shown:
                raise InputError(f"scene {self._state.name!r}", "all objects are hidden", "show one")
            self._scene = self._state, Scene(shown, self._state.cameras, self._state.name, self._state.notes)
        return self._scene[1]

    @property
    def lights(self) -> tuple[Item, ...]:
        """The objects that emit."""
        return tuple(item for item in self._state.items if item.base.emits)

    @property
    def undo_label(self) -> str:
        """What undo would take back; empty at the beginning."""
        return self._past[-1][0] if self._past else ""

    @property
    def redo_label(self) -> str:
        """What redo would do again; empty at the end."""
        return self._future[-1][0] if self._future else ""

    @property
    def edited(self) -> bool:
        """Whether anything differs from what was given."""
        return self._state.given is None

    @property
    def unsaved(self) -> bool:
        """Whether closing now would lose edits: since they were saved, or before another scene was opened."""
        return (self.edited and self._state is not self._saved) or self._state.left_unsaved

    @property
    def version(self) -> object:
        """The same object exactly as long as nothing is edited."""
        return self._state

    def mark_saved(self, version: object) -> None:
        """What was shown at `version` is in a file."""
        self._saved = version

    def open(self, scene: Scene) -> None:
        """Show another scene; undo goes back to this one."""
        self._push(f"open {scene.name or 'a scene'}", _State.of(scene, left_unsaved=self.unsaved))

    def undo(self) -> str:
        """Take the last edit back; its label, empty if there was none."""
        return self._step(self._past, self._future)

    def redo(self) -> str:
        """Do the edit again that was taken back last; its label, empty if there was none."""
        return self._step(self._future, self._past)

    def _step(self, source: list[tuple[str, _State]], target: list[tuple[str, _State]]) -> str:
        self._merge = None
        if not source:
            return ""
        label, state = source.pop()
        target.append((label, self._state))
        self._state = state
        return label

    def seal(self) -> None:
        """The next edit is a step of its own: a slider was let go."""
        self._merge = None

    def set_visible(self, name: str, visible: bool) -> None:
        """Show or hide an object."""
        self._change(f"{'show' if visible else 'hide'} {name}", replace(self[name], visible=visible))

    def place(self, name: str, placement: Placement) -> None:
        """Move, turn and scale an object, counted from where its mesh stood."""
        item = replace(self[name], placement=placement)
        # Made here, so that a placement that cannot be is refused before it becomes a state.
        _ = item.mesh
        self._change(f"move {name}", item, merge=True)

    def set_material(
        self,
        name: str,
        *,
        diffuse: Any = None,
        specular: Any = None,
        roughness: float | None = None,
        emission: Any = None,
    ) -> None:
        """Give all triangles of an object new values of the properties that are named; the others stay as they are,
        textures among them.

        Raises:
            InputError: a value out of range, see `Material`.
        """
        wanted = {"diffuse": diffuse, "specular": specular, "roughness": roughness, "emission": emission}
        given = {key: value for key, value in wanted.items() if value is not None}
        if not given:
            return
        row = Material(**given).row()
        item = self[name]
        rows = item.base.materials.copy()
        patches = None if item.base.patches is None else item.base.patches.copy()
        inside = np.add.outer(np.arange(PATCH_SIZE), np.arange(PATCH_SIZE)) <= PATCH_SIZE
        for key in given:
            channels = _CHANNELS[key]
            rows[:, channels] = row[channels]
            if patches is not None:
                patches[:, channels] = row[channels, None, None] * inside
        mesh = replace(item.base, materials=rows, patches=patches)
        self._change(f"{', '.join(given)} of {name}", replace(item, base=mesh), merge=True)

    def set_light(
        self, name: str, *, position: Vector | None = None, size: float | None = None, strength: float | None = None
    ) -> None:
        """Move, resize or dim a light. A single triangle keeps facing its target; others are moved and scaled.

        Args:
            position: of its centre. size: longest edge. strength: largest channel of its radiance; the hue stays.

        Raises:
            InputError: not a light, or a value out of range.
        """
        item = self[name]
        if not item.base.emits:
            raise InputError(f"object {name!r}", "does not emit", "give it an emission first")
        mesh = item.mesh
        if strength is not None:
            if not (math.isfinite(strength) and 0 < strength <= 60000):
                raise InputError(f"light {name!r}", f"strength is {strength}", "expected more than 0, up to 60000")
            rows = mesh.materials.copy()
            rows[:, EMISSION] *= strength / rows[:, EMISSION].max()
            mesh = replace(mesh, materials=rows)
        if position is not None or size is not None:
            mesh = _moved_light(mesh, position, size)
        changed = [key for key, value in (("move", position), ("resize", size), ("dim", strength)) if value is not None]
        self._change(f"{', '.join(changed)} {name}", Item(mesh, visible=item.visible), merge=True)

    def add_light(self, light: Light | None = None) -> str:
        """Add a light; the name that it was given."""
        light = light or Light()
        mesh = replace(light, name=self._unique(light.name)).mesh()
        self._commit(f"add {mesh.name}", (*self.items, Item(mesh)))
        return mesh.name

    def add_file(self, path: str | os.PathLike[str], budget: int | None = None) -> list[str]:
        """Add the objects of a mesh file, scaled to half a unit and set on the middle of the floor; their names.

        Raises:
            InputError: as `load_scene`.
        """
        from renderformer.data.formats import load_scene

        meshes = load_scene(path, stage="raw", budget=budget).objects
        low = np.min([mesh.bounds[0] for mesh in meshes], axis=0)
        high = np.max([mesh.bounds[1] for mesh in meshes], axis=0)
        scale = 0.5 / max(float((high - low).max()), 1e-12)
        floor = float(min(item.mesh.bounds[0, 2] for item in self.items))
        matrix = np.diag([scale, scale, scale, 1.0])
        matrix[:3, 3] = [-scale * (low[0] + high[0]) / 2, -scale * (low[1] + high[1]) / 2, floor - scale * low[2]]
        items, names = list(self.items), []
        for mesh in meshes:
            name = self._unique(mesh.name, {item.name for item in items})
            items.append(Item(replace(mesh.transformed(matrix), name=name)))
            names.append(name)
        self._commit(f"add {os.path.basename(path)}", tuple(items))
        return names

    def remove(self, name: str) -> None:
        """Delete an object."""
        gone = self[name]
        if len(self.items) == 1:
            raise InputError(f"object {name!r}", "is the last one", "a scene needs one")
        self._commit(f"remove {name}", tuple(item for item in self.items if item is not gone))

    def set_cameras(self, cameras: tuple[Camera, ...]) -> None:
        """Replace the cameras that are saved with the scene."""
        self._commit("change the cameras", self.items, cameras)

    def _unique(self, name: str, taken: set[str] | None = None) -> str:
        taken = {item.name for item in self.items} if taken is None else taken
        number, unique = 2, name
        while unique in taken:
            unique, number = f"{name}_{number}", number + 1
        return unique

    def _change(self, label: str, item: Item, merge: bool = False) -> None:
        items = tuple(item if old.name == item.name else old for old in self.items)
        self._commit(label, items, merge=merge)

    def _commit(
        self, label: str, items: tuple[Item, ...], cameras: tuple[Camera, ...] | None = None, merge: bool = False
    ) -> None:
        cameras = self._state.cameras if cameras is None else cameras
        self._push(label, replace(self._state, items=items, cameras=cameras, given=None), merge)

    def _push(self, label: str, state: _State, merge: bool = False) -> None:
        now = self._clock()
        joins = merge and self._merge is not None and self._merge[0] == label and now - self._merge[1] < MERGE_SECONDS
        if not joins:
            self._past.append((label, self._state))
        self._future.clear()
        self._state = state
        self._merge = (label, now) if merge else None


def light_of(mesh: Mesh) -> Light:
    """Position, target, size and emission of a light; of a single triangle exactly, of others its centre and extent.

    The target is the point in front of it that is nearest to the origin.
    """
    corners = mesh.triangles[(mesh.materials[:, EMISSION] > 0).any(axis=1)].astype(np.float64)
    centre = corners.mean(axis=(0, 1))
    edges = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2)
    normal = np.cross(corners[0, 1] - corners[0, 0], corners[0, 2] - corners[0, 0])
    normal /= max(float(np.linalg.norm(normal)), 1e-30)
    reach = float(-centre @ normal)
    target = centre + normal * (reach if reach > 1e-3 else 1.0)
    emission = mesh.materials[:, EMISSION].max(axis=0)
    return Light(_vector(centre), _vector(target), float(edges.max()), _vector(emission), mesh.name)


def _moved_light(mesh: Mesh, position: Vector | None, size: float | None) -> Mesh:
    light = light_of(mesh)
    if size is not None and not (math.isfinite(size) and size > 0):
        raise InputError(f"light {mesh.name!r}", f"size is {size}", "expected a positive number")
    if len(mesh) == 1:
        if position is not None and not all(map(math.isfinite, position)):
            raise InputError(f"light {mesh.name!r}", f"position is {position}", "expected three finite numbers")
        moved = replace(light, position=position or light.position, size=size or light.size).mesh()
        return replace(moved, materials=mesh.materials)
    shift = np.subtract(position, light.position) if position is not None else np.zeros(3)
    placement = Placement(_vector(shift), scale=1.0 if size is None else size / light.size)
    return mesh.transformed(placement.matrix(light.position))


def _vector(values: AnyArray) -> Vector:
    return float(values[0]), float(values[1]), float(values[2])


# The digest of each mesh that is alive; meshes never change.
_DIGESTS: weakref.WeakKeyDictionary[Mesh, bytes] = weakref.WeakKeyDictionary()


def fingerprint(scene: Scene) -> str:
    """A hash of all that the view-independent stage sees: equal exactly for the same triangles and materials."""
    total = hashlib.blake2b(digest_size=16)
    for mesh in scene.objects:
        digest = _DIGESTS.get(mesh)
        if digest is None:
            part = hashlib.blake2b(digest_size=16)
            for array in (mesh.triangles, mesh.normals, mesh.materials, mesh.patches, mesh.patch_index):
                part.update(b"-" if array is None else repr(array.shape).encode())
                part.update(b"" if array is None else np.ascontiguousarray(array).tobytes())
            digest = _DIGESTS[mesh] = part.digest()
        total.update(digest)
    return total.hexdigest()
