"""The objects of the fast preview in a SceneWidget."""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import open3d as o3d
from open3d.visualization import rendering

from renderformer.data.arrays import Float64Array
from renderformer.data.colour import linear_to_srgb
from renderformer.data.scene import Mesh
from renderformer.viewer.document import Item
from renderformer.viewer.preview import Lighting, behind, coloured, sees
from renderformer.viewer.session import Session

# Distances from the camera between which the preview draws, in scene units.
NEAR, FAR = 0.01, 100.0
# Objects of this many triangles or more are coloured on another thread: a million take seconds.
LARGE = 50_000


class PreviewScene:
    """Draws the objects of a session into a SceneWidget."""

    def __init__(self, widget: Any, renderer: Any) -> None:
        self._widget = widget
        widget.scene = rendering.Open3DScene(renderer)
        self._behind: Float64Array | None = None
        # With software rendering, these take six times as long as all else.
        widget.scene.view.set_post_processing(False)
        widget.scene.view.set_shadowing(False)
        # Objects with their lighting, by name: those that are drawn, and large ones that are being coloured.
        self._drawn: dict[str, tuple[Item, Any]] = {}
        self._coming: dict[str, tuple[tuple[Item, Any], Future[Any]]] = {}
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="renderformer-preview")

    def close(self) -> None:
        """Colour nothing more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    @property
    def ready(self) -> bool:
        """Whether `update` would draw a large object that was not ready before."""
        return any(future.done() for _, future in self._coming.values())

    def update(self, session: Session, aspect: float) -> None:
        """Draw the objects that changed or whose lighting did, and move the camera; aspect is width over height.

        A large object is drawn as it was until it is `ready`.
        """
        scene = self._widget.scene
        visible = [item for item in session.document.items if item.visible]
        unit = session.unit
        lamps = tuple(item.mesh for item in visible if item.base.emits)
        environment = session.document.surroundings.environment
        light = (lamps, environment, session.tone_map, session.exposure)
        objects = {item.name: (item, light) for item in visible}
        for name in self._drawn.keys() - objects.keys():
            scene.remove_geometry(name)
            del self._drawn[name]
        for name in self._coming.keys() - objects.keys():
            self._coming.pop(name)[1].cancel()
        missing = [name for name, wanted in objects.items() if self._drawn.get(name) != wanted]
        if missing:
            lighting = Lighting.of([unit.mesh(mesh) for mesh in lamps], environment)
            for name in missing:
                mesh = unit.mesh(objects[name][0].mesh)
                make = functools.partial(_geometry, mesh, lighting, session.tone_map, session.exposure)
                self._draw(name, objects[name], make)
        eye = session.orbit.camera.position
        for item in visible:
            if item.name in self._drawn:
                scene.show_geometry(item.name, sees(item.mesh, eye))
        camera = session.orbit.camera
        colour = behind(environment, camera, session.tone_map, session.exposure)
        if self._behind is None or not np.array_equal(colour, self._behind):
            self._behind = colour
            # Open3D takes display values for linear light.
            scene.set_background([*linear_to_srgb(colour), 1])
        camera = unit.camera(camera)
        scene.camera.set_projection(camera.fov, aspect, NEAR, FAR, rendering.Camera.FovType.Vertical)
        scene.camera.look_at(camera.position + camera.forward, camera.position, camera.c2w[:3, 1])
        self._widget.force_redraw()

    def _draw(self, name: str, wanted: tuple[Item, Any], make: Callable[[], tuple[Any, Any]]) -> None:
        """Draw an object, or have a large one coloured."""
        if len(wanted[0].base) < LARGE:
            geometry = make()
        else:
            known, future = self._coming.get(name, (None, None))
            if future is None or known != wanted:
                if future is not None:
                    future.cancel()
                self._coming[name] = wanted, self._pool.submit(make)
                return
            if not future.done():
                return
            del self._coming[name]
            geometry = future.result()
        if name in self._drawn:
            self._widget.scene.remove_geometry(name)
        self._widget.scene.add_geometry(name, *geometry)
        self._drawn[name] = wanted


def _geometry(mesh: Mesh, lighting: Lighting, tone_map: str, exposure: float) -> tuple[Any, Any]:
    points, colours = coloured(mesh, lighting, tone_map, exposure)
    faces = o3d.utility.Vector3iVector(np.arange(len(points), dtype=np.int32).reshape(-1, 3))
    shape = o3d.geometry.TriangleMesh(o3d.utility.Vector3dVector(points), faces)
    shape.vertex_colors = o3d.utility.Vector3dVector(colours)
    material = rendering.MaterialRecord()
    material.shader = "defaultUnlit"
    return shape, material
