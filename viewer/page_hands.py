"""Hands on the page: the handles of viser on what is chosen, which all open pages share.

The page shows the scene in the units of the model.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import viser

from renderformer.data.arrays import AnyArray, Float64Array
from renderformer.data.camera_path import vector
from renderformer.viewer.document import Item
from renderformer.viewer.gizmo import LARGEST, SMALLEST, euler
from renderformer.viewer.hands import put
from renderformer.viewer.panel import Panel
from renderformer.viewer.placement import Placement

# Size of the handles as a share of the distance of the camera from its target.
SHARE = 0.16
# A drag along one axis leaves it by no more than this share, by rounding.
ON_AXIS = 1e-3


class PageHands:
    """See the module.

    Args:
        guard: wraps a callback so that its errors go to the page of the event.
        changed: called after every edit.
    """

    def __init__(
        self,
        server: viser.ViserServer,
        panel: Panel,
        guard: Callable[[Callable[[Any], object]], Callable[[Any], None]],
        changed: Callable[[], object],
    ) -> None:
        self._server, self._panel, self._guard, self._changed = server, panel, guard, changed
        self._shown: tuple[str, str] | None = None
        self._handle: Any = None
        # What is dragged, and the length of the handles, as they were at the press.
        self._grabbed: Item | None = None
        self._reach = 1.0
        # Where the handle was when it was followed last.
        self._pose: tuple[float, ...] = ()
        self._pool, self._closed = ThreadPoolExecutor(1, "renderformer-hands"), False

    def show(self) -> None:
        """Put the handles on what is chosen."""
        item, mode = self._panel.selected, self._panel.mode
        wanted = (item.name, mode) if item is not None and item.visible else None
        if wanted != self._shown:
            self._shown = wanted
            self._remake(mode)
        if self._handle is None or item is None or self._grabbed is not None:
            return
        unit = self._panel.session.unit
        turned = np.array([1.0, 0.0, 0.0, 0.0]) if mode == "move" else np.roll(_quaternion(item.placement), 1)
        _set(self._handle, "position", unit.points(item.centre))
        _set(self._handle, "wxyz", turned)
        _set(self._handle, "scale", np.array(self._arm * unit.scale))

    @property
    def _arm(self) -> float:
        """Length of the handles in the world."""
        return SHARE * self._panel.session.orbit.view.distance

    def _remake(self, mode: str) -> None:
        if self._handle is not None:
            self._handle.remove()
            self._handle = None
        if self._shown is None:
            return
        turns = mode == "turn"
        self._handle = handle = self._server.scene.add_transform_controls(
            "/hands", disable_axes=turns, disable_sliders=turns, disable_rotations=not turns, depth_test=False
        )
        follow = self._guard(self._follow)

        # On a thread of its own, since those of viser do not keep the order of the events.
        async def queue(event: Any) -> None:
            if not self._closed:
                self._pool.submit(follow, event)

        handle.on_update(queue)

    def close(self) -> None:
        self._closed = True
        self._pool.shutdown(cancel_futures=True)

    def _follow(self, event: Any) -> None:
        if event.phase == "start":
            self._started(event.target)
        else:
            self._moved(event.target)
        if event.phase == "end":
            self._ended()

    def _started(self, handle: Any) -> None:
        with self._panel.session.lock:
            self._grabbed, self._reach, self._pose = self._panel.selected, self._arm, _pose(handle)
            self._panel.session.document.begin_stroke()

    def _moved(self, handle: Any) -> None:
        grabbed, pose = self._grabbed, _pose(handle)
        # Moves may come faster than they can be shown: the first one that is handled shows where the handle is by now.
        if grabbed is None or pose == self._pose:
            return
        self._pose = pose
        start = grabbed.placement
        if self._panel.mode == "turn":
            from scipy.spatial.transform import Rotation

            matrix = Rotation.from_quat(np.roll(handle.wxyz, -1)).as_matrix()
            placement = replace(start, rotation=euler(matrix))
        else:
            there = self._panel.session.unit.back(np.asarray(handle.position, np.float64))
            away = there - grabbed.centre
            if self._panel.mode == "move":
                placement = replace(start, translation=vector(np.add(start.translation, away)))
            else:
                placement = scaled(start, away @ start.axes / self._reach)
        if not put(self._panel.session, grabbed, placement, self._panel.mode):
            self._grabbed = None
        self._changed()

    def _ended(self) -> None:
        self._grabbed = None
        self._panel.session.edit(lambda document: document.end_stroke())
        self._changed()


def scaled(start: Placement, away: Float64Array) -> Placement:
    """A placement with the handle dragged along the axes of the object by `away` (3,), in lengths of an arm: along one
    axis it stretches, in a plane it scales as a whole."""
    if np.count_nonzero(np.abs(away) > ON_AXIS * np.abs(away).max()) > 1:
        return replace(start, scale=start.scale * float(np.clip(1 + away.sum(), SMALLEST, LARGEST)))
    factors = np.clip(1 + np.where(np.abs(away) == np.abs(away).max(), away, 0), SMALLEST, LARGEST)
    return replace(start, stretch=vector(start.stretch * factors))


def _set(handle: Any, field: str, value: AnyArray) -> None:
    """Write a field if it differs, since every write goes to all pages."""
    if not np.allclose(getattr(handle, field), value, rtol=1e-4, atol=1e-6):
        setattr(handle, field, value.tolist())


def _pose(handle: Any) -> tuple[float, ...]:
    """Position and orientation of a handle."""
    return (*handle.position, *handle.wxyz)


def _quaternion(placement: Placement) -> Any:
    """(4,) x, y, z, w of a rotation."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_matrix(placement.axes).as_quat()
