"""The tree of objects, lights and cameras in the window; a click chooses, a check hides."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from open3d.visualization import gui

from renderformer.viewer.panel import Panel
from renderformer.viewer.widgets import Guard, legible

# Rows of one branch at most: Open3D draws all of them each time.
MOST = 500


class SceneTree:
    """See the module.

    Args:
        apply: runs what a person asked for with a title, and refreshes the window.
        guard: wraps a callback so that it never raises.

    Attributes:
        widget: to be laid out.
    """

    def __init__(self, panel: Panel, apply: Callable[[str, Callable[[], object]], None], guard: Guard) -> None:
        self._panel, self._apply = panel, apply
        self._guard = guard
        self.widget = gui.TreeView()
        self.widget.set_on_selection_changed(guard(self._chosen))
        # What the rows show, cells with a check by the name of their item, and names and actions by rows.
        self._shown: tuple[object, ...] = ()
        self._cells: dict[str, Any] = {}
        self._rows: dict[str, int] = {}
        self._actions: dict[int, Callable[[], object]] = {}
        self._filling = False

    def row(self, name: str) -> int:
        """The row of an object or a light."""
        return self._rows[name]

    def cell(self, name: str) -> Any:
        """The cell of an object or a light."""
        return self._cells[name]

    def fill(self) -> None:
        """Show what the scene holds and what is chosen."""
        document, orbit = self._panel.session.document, self._panel.session.orbit
        shown = tuple((item.name, item.base.emits) for item in document.items), document.cameras, tuple(orbit.bookmarks)
        self._filling = True
        try:
            if shown != self._shown:
                self._shown = shown
                self._build()
            for item in document.items:
                if item.name in self._cells and self._cells[item.name].checkbox.checked != item.visible:
                    self._cells[item.name].checkbox.checked = item.visible
            selected = self._panel.selected
            row = self._rows.get(selected.name, 0) if selected is not None else 0
            if row != self.widget.selected_item and (row or self.widget.selected_item in self._rows.values()):
                self.widget.selected_item = row
        finally:
            self._filling = False

    def _build(self) -> None:
        panel, document = self._panel, self._panel.session.document
        self.widget.clear()
        self._cells, self._rows, self._actions = {}, {}, {}
        self._branch("Objects", [item.name for item in document.items if not item.base.emits])
        self._branch("Lights", [item.name for item in document.items if item.base.emits])
        cameras: dict[str, Callable[[], object]] = {}
        for number, camera in enumerate(document.cameras, 1):
            cameras[camera.name or f"camera {number}"] = functools.partial(panel.go_to, camera)
        for name in panel.session.orbit.bookmarks:
            cameras[name] = functools.partial(panel.recall, name)
        root = self._root("Cameras", len(cameras))
        for name, action in cameras.items():
            self._actions[self.widget.add_text_item(root, legible(name))] = action

    def _branch(self, title: str, names: list[str]) -> None:
        root = self._root(title, len(names))
        for name in names[:MOST]:
            cell = gui.CheckableTextTreeCell(legible(name), True, self._guard(functools.partial(self._checked, name)))
            row = self.widget.add_item(root, cell)
            self._cells[name], self._rows[name] = cell, row
            self._actions[row] = functools.partial(self._panel.choose, name)
        if len(names) > MOST:
            self.widget.add_text_item(root, f"and {len(names) - MOST} more: see the list under Object")

    def _root(self, title: str, count: int) -> int:
        return int(self.widget.add_text_item(self.widget.get_root_item(), f"{title} ({count})"))

    def _chosen(self, row: int) -> None:
        action = self._actions.get(row)
        if action is not None and not self._filling:
            self._apply("tree", action)

    def _checked(self, name: str, on: bool) -> None:
        if not self._filling:
            session = self._panel.session
            self._apply("show" if on else "hide", lambda: session.edit(lambda d: d.set_visible(name, on)))
