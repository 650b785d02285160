"""The scene that a person edits: objects with a placement, materials, lights, and undo of every edit.

World frame: right-handed, Z up, scene units.
"""

from __future__ import annotations

import itertools
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from renderformer.data.arrays import Float64Array
from renderformer.data.camera import Camera
from renderformer.data.camera_path import Vector, vector
from renderformer.data.environment import Environment
from renderformer.data.errors import InputError
from renderformer.data.scene import EMISSION, Light, Material, Mesh, Scene
from renderformer.data.trained_range import TrainedRange
from renderformer.data.unit_size import UnitSize
from renderformer.viewer.fingerprints import name_placed
from renderformer.viewer.lights import another, coloured, light_of
from renderformer.viewer.lights import moved as moved_light
from renderformer.viewer.material_edits import edited, mean_material
from renderformer.viewer.placement import Placement
from renderformer.viewer.surroundings import Surroundings

if TYPE_CHECKING:
    from renderformer.viewer.tour import Tour

# Successive edits of one value within this many seconds, as from a slider, are one step of undo.
MERGE_SECONDS = 1.0


@dataclass(frozen=True, eq=False)
class Item:
    """An object of the document: its mesh before placement, its placement and its visibility."""

    base: Mesh
    placement: Placement = Placement()
    visible: bool = True

    @property
    def name(self) -> str:
        return self.base.name

    @cached_property
    def matrix(self) -> Float64Array:
        """(4, 4) from the mesh before placement to the placed one, world to world."""
        return self.placement.matrix(self.base.bounds.mean(axis=0))

    @property
    def centre(self) -> Float64Array:
        """(3,) the point about which a placement rotates and scales, where it lies now."""
        return self.base.bounds.mean(axis=0, dtype=np.float64) + self.placement.translation

    @cached_property
    def mesh(self) -> Mesh:
        """The placed mesh; `base` itself if it was not moved."""
        if self.placement == Placement():
            return self.base
        mesh = self.base.transformed(self.matrix)
        name_placed(mesh, self.base, repr(self.placement))
        return mesh

    @cached_property
    def material(self) -> Material:
        """The mean material of the object, without textures."""
        return mean_material(self.base)

    @property
    def is_lamp(self) -> bool:
        """Whether it is a single light triangle, which keeps facing its target."""
        return len(self.base) == 1 and self.base.emits

    @cached_property
    def light(self) -> Light:
        """The object as a light, see `light_of`; only for objects that emit."""
        return light_of(self.mesh)


@dataclass(frozen=True, eq=False)
class SceneState:
    """One state of a document."""

    items: tuple[Item, ...]
    cameras: tuple[Camera, ...]
    name: str
    notes: tuple[str, ...]
    surroundings: Surroundings
    # The opened scene, None after an edit.
    original: Scene | None = None
    # The unsaved scenes that were open before, oldest first.
    left: tuple[SceneState, ...] = ()

    @classmethod
    def of(cls, scene: Scene, left: tuple[SceneState, ...] = ()) -> SceneState:
        items = tuple(Item(mesh) for mesh in scene.objects)
        return cls(items, scene.cameras, scene.name, scene.notes, Surroundings.of(scene), scene, left)

    @cached_property
    def scene(self) -> Scene:
        if self.original is not None:
            return self.original
        meshes = tuple(item.mesh for item in self.items if item.visible)
        if not meshes:
            raise InputError(f"scene {self.name!r}", "all objects are hidden", "show one")
        return Scene(meshes, self.cameras, self.name, self.notes, self.surroundings.environment)


class _Step(NamedTuple):
    """A step of undo: its label, and what it leads back to."""

    label: str
    state: SceneState
    tour: Tour | None


@dataclass(frozen=True, eq=False)
class _Stroke:
    """Of edits that are one step of undo: how many steps there were before it, and those that could be redone."""

    past: int
    future: tuple[_Step, ...]


class SceneDocument:
    """A scene with undo and redo. Every edit makes a new state that shares all unchanged parts with the old one.

    Not thread-safe.

    Args:
        scene: the scene to edit; it is not changed.
        clock: seconds; decides whether two edits are one drag of a slider.

    Attributes:
        tour: the camera, bookmarks and key frames of the present state, which undo and redo bring back; None for those
            of a scene that is opened anew.
    """

    def __init__(self, scene: Scene, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.tour: Tour | None = None
        self._past: list[_Step] = []
        self._future: list[_Step] = []
        # Label and time of the last edit, if the next one may be merged with it.
        self._merge: tuple[str, float] | None = None
        self._stroke: _Stroke | None = None
        self._state = SceneState.of(scene)
        self._saved: object = None

    @property
    def items(self) -> tuple[Item, ...]:
        """All objects in order, including hidden ones."""
        return self._state.items

    def __getitem__(self, name: str) -> Item:
        for item in self.items:
            if item.name == name:
                return item
        names = ", ".join(item.name for item in self.items)
        raise InputError(f"scene {self._state.name!r}", f"no object {name!r}", f"it has: {names}")

    @property
    def scene(self) -> Scene:
        """The visible objects in their places; the opened scene itself if nothing was edited.

        Raises:
            InputError: all objects are hidden.
        """
        return self._state.scene

    @property
    def lights(self) -> tuple[Item, ...]:
        """The objects that emit."""
        return tuple(item for item in self.items if item.base.emits)

    @property
    def cameras(self) -> tuple[Camera, ...]:
        """Those that are saved with the scene."""
        return self._state.cameras

    @property
    def undo_label(self) -> str:
        """Label of the edit that `undo` would revert; empty if there is none."""
        return self._past[-1].label if self._past else ""

    @property
    def tours(self) -> list[Tour | None]:
        """Those of all states up to the present one, in the order of the edits."""
        return [*(step.tour for step in self._past), self.tour]

    @property
    def edited(self) -> bool:
        """Whether the scene differs from the opened one."""
        return self._state.original is None

    @property
    def unsaved(self) -> bool:
        """Whether closing now would lose edits, of this scene or of one that was open before."""
        return self.in_no_file or bool(self._state.left)

    @property
    def in_no_file(self) -> bool:
        """Whether edits of the present scene are in no file."""
        return self.edited and self._state is not self._saved

    @property
    def version(self) -> SceneState:
        """The present state, for `mark_saved` and `recover`; every edit makes another one."""
        return self._state

    def mark_saved(self, version: object) -> None:
        """Record that the state `version` was saved to a file."""
        self._saved = version

    def open(self, scene: Scene) -> None:
        """Replace the scene; undo restores the old one."""
        self.end_stroke()
        left = (*self._state.left, self._state) if self.in_no_file else self._state.left
        self._push(f"open {scene.name or 'a scene'}", SceneState.of(scene, left))
        self.tour = None

    def recover(self, state: SceneState) -> None:
        """Go on from a state of another document, which is in no file; undo leads back by the scenes that it left."""
        self.end_stroke()
        for number, left in enumerate((*state.left, state)):
            self._push(f"recover {left.name or 'a scene'}", replace(left, original=None, left=state.left[:number]))
            self.tour = None

    def set_tour(self, label: str, tour: Tour, merge: bool = False) -> None:
        """Change bookmarks or key frames; the scene stays as it is, and as saved as it was."""
        self._push(label, self._state, merge)
        self.tour = tour

    def begin_stroke(self) -> None:
        """Make all edits until `end_stroke` one step of undo, as of a drag."""
        self._stroke = _Stroke(len(self._past), tuple(self._future))

    @property
    def in_stroke(self) -> bool:
        """Whether edits become one step of undo."""
        return self._stroke is not None

    def end_stroke(self, keep: bool = True) -> None:
        """End a stroke; without `keep`, the document is as it was before it. Nothing happens outside a stroke."""
        stroke, self._stroke, self._merge = self._stroke, None, None
        if stroke is not None and not keep and len(self._past) > stroke.past:
            _, self._state, self.tour = self._past[stroke.past]
            del self._past[stroke.past :]
            self._future[:] = stroke.future

    def undo(self) -> str:
        """Revert the last edit; returns its label, empty if there was none."""
        return self._step(self._past, self._future)

    def redo(self) -> str:
        """Repeat the edit that was reverted last; returns its label, empty if there was none."""
        return self._step(self._future, self._past)

    def _step(self, source: list[_Step], target: list[_Step]) -> str:
        self.end_stroke()
        if not source:
            return ""
        label, state, tour = source.pop()
        target.append(_Step(label, self._state, self.tour))
        self._state, self.tour = state, tour
        return label

    def seal(self) -> None:
        """Make the next edit a separate step of undo."""
        self._merge = None

    def set_visible(self, name: str, visible: bool) -> None:
        """Show or hide an object."""
        self._replace(f"{'show' if visible else 'hide'} {name}", replace(self[name], visible=visible))

    def place(self, name: str, placement: Placement) -> None:
        """Place an object relative to its base mesh.

        Raises:
            InputError: an invalid placement.
        """
        item = replace(self[name], placement=placement)
        # Computed here, so that an invalid placement raises before it becomes a state.
        _ = item.mesh
        self._replace(f"move {name}", item, merge=True)

    def set_material(self, name: str, **properties: Any) -> None:
        """Set properties of all triangles of an object; other properties and their textures stay.

        Args:
            properties: fields of `Material`.

        Raises:
            InputError: a value out of range, see `Material`.
        """
        if not properties:
            return
        item = self[name]
        mesh = edited(item.base, **properties)
        self._replace(f"{', '.join(properties)} of {name}", replace(item, base=mesh), merge=True)

    @property
    def surroundings(self) -> Surroundings:
        """The environment, as it was chosen."""
        return self._state.surroundings

    def set_environment(self, kind: str | None = None, **changes: Any) -> None:
        """Choose or change what surrounds the scene.

        Args:
            kind: one of `Surroundings.kinds`; strength, rotation and background stay.
            changes: strength, rotation or background, see `Environment`.

        Raises:
            InputError: an unknown kind, a value out of range, or the light of no environment.
        """
        surroundings = self._state.surroundings
        if kind is not None:
            surroundings = surroundings.chosen(kind)
        if changes:
            surroundings = surroundings.changed(**changes)
        label = f"environment {', '.join(filter(None, [kind, *changes]))}"
        self._commit(label, merge=kind is None, surroundings=surroundings)

    def add_environment(self, name: str, environment: Environment) -> None:
        """Surround the scene by an environment from a file of this name; strength, rotation and background stay."""
        self._commit(f"environment {name}", surroundings=self._state.surroundings.opened(name, environment))

    def set_light(
        self,
        name: str,
        *,
        position: Vector | None = None,
        size: float | None = None,
        strength: float | None = None,
        colour: Vector | None = None,
    ) -> None:
        """Move, resize, dim or colour a light. A single triangle keeps facing its target; other lights keep their
        rotation.

        Args:
            position: world position of the centre.
            size: longest edge in scene units.
            strength: largest channel of the radiance; the hue stays.
            colour: linear RGB of the hue; the strength stays.

        Raises:
            InputError: not a light, or a value out of range.
        """
        item = self[name]
        if not item.base.emits:
            raise InputError(f"object {name!r}", "does not emit", "give it an emission first")
        moved = position is not None or size is not None
        mesh = item.mesh if moved else item.base
        if strength is not None:
            if not (math.isfinite(strength) and 0 < strength <= 60000):
                raise InputError(f"light {name!r}", f"strength is {strength}", "expected more than 0, up to 60000")
            mesh = mesh.dimmed(strength / float(mesh.materials[:, EMISSION].max()))
        if colour is not None:
            mesh = coloured(mesh, colour)
        if moved:
            mesh = moved_light(mesh, position, size)
        deeds = {"move": position, "resize": size, "dim": strength, "colour": colour}
        verbs = [verb for verb, value in deeds.items() if value is not None]
        placement = Placement() if moved else item.placement
        self._replace(f"{', '.join(verbs)} {name}", Item(mesh, placement, item.visible), merge=True)

    def add_light(self, light: Light | None = None) -> str:
        """Add a light, by default above the middle of the scene, where no other one is; returns its name."""
        if light is None:
            unit = self.unit
            light = another([vector(unit.points(item.centre)) for item in self.lights])
            place, target = (vector(unit.back(point)) for point in (light.position, light.target))
            light = Light(place, target, light.size / unit.scale)
        mesh = replace(light, name=self._unique(light.name, self.items)).mesh()
        self._commit(f"add {mesh.name}", items=(*self.items, Item(mesh)))
        return mesh.name

    def add_file(self, path: str | os.PathLike[str], budget: int | None = None) -> list[str]:
        """Add the objects of a mesh file, upright, half as large as the scene's box, in the middle of the floor.

        What was changed is in the notes of the scene.

        Args:
            budget: most triangles of the file.

        Returns:
            Their names.

        Raises:
            InputError: as `load_scene`.
        """
        from renderformer.data.formats import load_scene

        scene = load_scene(path, stage="raw", up="auto", budget=budget)
        meshes = scene.objects
        low = np.min([mesh.bounds[0] for mesh in meshes], axis=0)
        high = np.max([mesh.bounds[1] for mesh in meshes], axis=0)
        unit = self.unit
        scale = 0.5 / unit.scale / max(float((high - low).max()), 1e-12)
        floor = float(min(item.mesh.bounds[0, 2] for item in self.items))
        matrix = np.diag([scale, scale, scale, 1.0])
        middle = unit.centre - scale * (low + high).astype(np.float64) / 2
        matrix[:3, 3] = [middle[0], middle[1], floor - scale * low[2]]
        items = list(self.items)
        for mesh in meshes:
            items.append(Item(replace(mesh.transformed(matrix), name=self._unique(mesh.name, items))))
        self._commit(f"add {os.path.basename(path)}", items=tuple(items), notes=(*self._state.notes, *scene.notes))
        return [item.name for item in items[-len(meshes) :]]

    @property
    def unit(self) -> UnitSize:
        """From the units of the scene, with what is hidden, to those of a scene in the trained box."""
        return UnitSize.of(Scene(tuple(item.mesh for item in self.items)), TrainedRange().box)

    def remove(self, name: str) -> None:
        """Delete an object."""
        removed = self[name]
        if len(self.items) == 1:
            raise InputError(f"object {name!r}", "is the last one", "a scene needs one")
        self._commit(f"remove {name}", items=tuple(item for item in self.items if item is not removed))

    def set_cameras(self, cameras: tuple[Camera, ...]) -> None:
        """Replace the cameras that are saved with the scene."""
        self._commit("change the cameras", cameras=cameras)

    @staticmethod
    def _unique(name: str, items: Sequence[Item]) -> str:
        taken = {item.name for item in items}
        candidates = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(2)))
        return next(candidate for candidate in candidates if candidate not in taken)

    def _replace(self, label: str, item: Item, merge: bool = False) -> None:
        """Put an item in the place of the one of the same name."""
        self._commit(label, merge, items=tuple(item if old.name == item.name else old for old in self.items))

    def _commit(self, label: str, merge: bool = False, **changes: Any) -> None:
        self._push(label, replace(self._state, original=None, **changes), merge)

    def _push(self, label: str, state: SceneState, merge: bool = False) -> None:
        now = self._clock()
        merges = merge and self._merge is not None and self._merge[0] == label and now - self._merge[1] < MERGE_SECONDS
        merges = merges or (self._stroke is not None and len(self._past) > self._stroke.past)
        if not merges:
            self._past.append(_Step(label, self._state, self.tour))
        self._future.clear()
        self._state = state
        self._merge = (label, now) if merge else None
