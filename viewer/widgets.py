"""Open3D widgets of the window: the panel's controls, dialogs, and texts that fit."""

from __future__ import annotations

import bisect
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import open3d as o3d
from open3d.visualization import gui

from renderformer.viewer.controls import CONTROLS, SECTIONS, UNFOLDED, Control
from renderformer.viewer.dialogs import FileRequest, Question

# Of the bar at the foot, and of its lines.
FOOT_COLOUR = (0.1, 0.1, 0.1)
PLAIN_COLOUR, WARNING_COLOUR, ERROR_COLOUR = (0.9, 0.9, 0.9), (1.0, 0.7, 0.2), (1.0, 0.4, 0.35)
# Margins of a panel and of its sections, side by side, with the bar that scrolls, in heights of the font.
COLUMN_EM = 2.7
# How far a label starts below its widget, in heights of the font: Open3D draws the text of a widget lower.
LABEL_DROP = 0.19

Guard = Callable[[Callable[..., Any]], Callable[..., Any]]


class ControlWidgets:
    """A widget for each control of the table, in sections that fold.

    Args:
        column: the layout that holds the sections.
        em: height of the font in pixels.
        change: called with a control and its new value when a person changes it.
        guard: wraps a callback so that it never raises.
        controls, sections: the table, and its sections in order.
        unfolded: sections that are so at the start.
    """

    def __init__(
        self,
        panel: Any,
        column: Any,
        em: int,
        change: Callable[[Control, Any], object],
        guard: Guard,
        controls: Sequence[Control] = CONTROLS,
        sections: Sequence[str] = SECTIONS,
        unfolded: Sequence[str] = UNFOLDED["window"],
    ) -> None:
        self._panel, self._em, self._change, self._guard = panel, em, change, guard
        # Whether the program writes into widgets, which then call back as if a person did.
        self._filling = False
        # How many of the first sections `unfold` leaves as they are.
        self._kept = 0
        self._widgets: dict[str, Any] = {}
        self._sections: dict[str, Any] = {}
        self._controls = [control for control in controls if not control.page_only]
        self._fields: list[Any] = []
        labelled = [
            control.title for control in self._controls if control.kind not in ("check", "text", "button", "toggle")
        ]
        self._label_width = round(max(measured(title, em) for title in labelled) + 0.6 * em)
        for title in sections:
            section = self._sections[title] = gui.CollapsableVert(title, 0.15 * em, gui.Margins(em, 0, 0, 0.2 * em))
            section.set_is_open(title in unfolded)
            column.add_child(section)
            self._build_section(section, [control for control in self._controls if control.section == title])

    def __getitem__(self, name: str) -> Any:
        """The widget of a control."""
        return self._widgets[name]

    def unfold(self, section: str) -> None:
        """Open a section by its title, and fold those before it: Open3D cannot scroll to it.

        The first section folds once; where a person opens it again, it stays open.
        """
        titles = list(self._sections)
        for title in titles[self._kept : titles.index(section) + 1]:
            if self._sections[title].get_is_open() != (title == section):
                self._sections[title].set_is_open(title == section)
        self._kept = 1

    def fill(self) -> None:
        """Write the present values into all widgets."""
        self._filling = True
        try:
            for control in self._controls:
                self._fill(control, self._widgets[control.name])
        finally:
            self._filling = False

    def _build_section(self, section: Any, controls: list[Control]) -> None:
        """Buttons in a row; checks and texts on lines of their own; other controls in a column beside their labels."""
        row = None
        for control in controls:
            widget = self._widgets[control.name] = self._widget(control)
            if control.tooltip:
                widget.tooltip = control.tooltip
            if control.kind in ("button", "toggle"):
                if row is None:
                    row = gui.Horiz(0.4 * self._em)
                    section.add_child(row)
                row.add_child(widget)
                continue
            row = None
            section.add_child(widget if control.kind in ("check", "text") else self._beside_label(control, widget))

    def _beside_label(self, control: Control, widget: Any) -> Any:
        """A row of a label and a widget, of one width for all controls. Open3D takes the size of a list or a number
        from what it held at first."""
        row, label, field = gui.Horiz(), gui.Vert(0, gui.Margins(0, LABEL_DROP * self._em, 0, 0)), gui.Vert()
        label.add_child(gui.Label(control.title))
        label.preferred_width = self._label_width
        field.add_child(widget)
        self._fields.append(field)
        for part in (label, field):
            row.add_child(part)
        return row

    def lay_out(self, width: int) -> None:
        """Take the width in pixels that a section has for its controls."""
        for field in self._fields:
            field.preferred_width = max(width - self._label_width, 1)

    def _changed(self, control: Control, value: Any) -> None:
        if self._filling or self._is_shown(control, value):
            return
        self._change(control, value)

    def _is_shown(self, control: Control, value: Any) -> bool:
        """Whether a slider has this value already. When it is drawn, Open3D rounds the value to single precision and
        calls back as if a person had changed it."""
        shown = control.value(self._panel) if control.kind == "slider" else None
        return shown is not None and np.float32(value) == np.float32(shown)

    def _widget(self, control: Control) -> Any:
        changed = self._guard(functools.partial(self._changed, control))
        widget: Any
        match control.kind:
            case "choice":
                widget = gui.Combobox()
                widget.set_on_selection_changed(lambda text, index: changed(text))
            case "slider" | "number":
                slider = control.kind == "slider"
                widget = gui.Slider(gui.Slider.DOUBLE) if slider else gui.NumberEdit(gui.NumberEdit.DOUBLE)
                widget.set_limits(control.low, control.high)
                widget.set_on_value_changed(changed)
            case "vector":
                widget = gui.VectorEdit()
                widget.set_on_value_changed(lambda vector: changed(tuple(vector)))
            case "colour":
                widget = gui.ColorEdit()
                widget.set_on_value_changed(lambda c: changed((255 * c.red, 255 * c.green, 255 * c.blue)))
            case "check":
                widget = gui.Checkbox(control.label)
                widget.set_on_checked(changed)
            case "text":
                widget = gui.Label("")
            case "button" | "toggle":
                widget = gui.Button(control.label)
                widget.vertical_padding_em = 0
                widget.toggleable = control.kind == "toggle"
                widget.set_on_clicked(lambda: changed(widget.is_on if widget.toggleable else None))
        return widget

    def _fill(self, control: Control, widget: Any) -> None:
        value = control.value(self._panel)
        if control.kind == "choice":
            _set_entries(widget, [str(choice) for choice in control.choices(self._panel)])
        if control.kind != "button":
            # Else it would show, and seem to change, what was deleted.
            widget.enabled = value is not None
        if value is None or value == "":
            return
        match control.kind:
            case "choice":
                widget.selected_text = str(value)
            case "slider" | "number":
                if control.top is not None:
                    widget.set_limits(control.low, control.end(self._panel))
                widget.double_value = value
            case "vector":
                widget.vector_value = value
            case "colour":
                widget.color_value = gui.Color(*(part / 255 for part in value))
            case "check":
                widget.checked = value
            case "toggle":
                widget.is_on = value
            case "text":
                widget.text = value


def outside(place: Any) -> Any:
    """The frame, as large as `place`, of a widget that is not to be seen.

    It stays visible: Open3D draws each widget of a window as a window of Dear ImGui, and one that becomes visible takes
    the focus, which ends typing without its value and closes lists.
    """
    return gui.Rect(-10000, -10000, place.width, place.height)


def fitted(text: str, width: int, em: int) -> str:
    """A text in legible letters as far as there is room on one line, for a height of the font and a width in pixels."""
    text = legible(text)
    if measured(text, em) <= width:
        return text
    count = bisect.bisect(range(len(text)), float(width), key=lambda count: measured(text[:count] + "...", em))
    return text[: max(count - 1, 0)] + "..."


def measured(text: str, em: int) -> float:
    """The width of a line in pixels, for a height of the font."""
    font = _font()
    # Dear ImGui takes the height from the lowest to the highest point for the size.
    return float(font.getlength(text)) * em / sum(font.getmetrics())


@functools.cache
def _font() -> Any:
    """The font of Open3D's labels, in a size to measure it."""
    from PIL import ImageFont

    return ImageFont.truetype(str(Path(o3d.__file__).parent / "resources" / "Roboto-Medium.ttf"), 100)


def legible(text: str) -> str:
    """A text in letters that the font of Open3D has."""
    for letter, replacement in {"…": "...", "–": "-", "—": "-", "×": "x", "≥": ">=", "≤": "<=", "⚠": "!"}.items():
        text = text.replace(letter, replacement)
    return text


def file_dialog(request: FileRequest, folder: Path, theme: Any) -> Any:
    """A dialog that asks for a file."""
    mode = gui.FileDialog.SAVE if request.saving else gui.FileDialog.OPEN
    dialog = gui.FileDialog(mode, request.title, theme)
    dialog.set_path(str(folder))
    for suffixes, text in request.filters:
        dialog.add_filter(suffixes, text)
    return dialog


def question_dialog(question: Question, em: int, pressed: Callable[[str], object]) -> Any:
    """A dialog of text over buttons; `pressed` is called with the label of the button."""
    dialog, column = gui.Dialog(legible(question.title)), gui.Vert(0.6 * em, gui.Margins(em, em, em, em))
    if question.table:
        grid = gui.VGrid(2, 0.1 * em)
        for cell in (cell for row in question.table.items() for cell in row):
            grid.add_child(gui.Label(legible(cell)))
        column.add_child(grid)
    column.add_child(gui.Label(legible(question.text)))
    for label in question.choices:
        column.add_child(_button(label, pressed))
    row = gui.Horiz(em)
    row.add_stretch()
    for label in question.answers:
        row.add_child(_button(label, pressed))
    column.add_child(row)
    dialog.add_child(column)
    return dialog


def _button(label: str, pressed: Callable[[str], object]) -> Any:
    button = gui.Button(legible(label))
    button.vertical_padding_em = 0
    button.set_on_clicked(functools.partial(pressed, label))
    return button


def _set_entries(box: Any, names: list[str]) -> None:
    if [box.get_item(i) for i in range(box.number_of_items)] != names:
        box.clear_items()
        for name in names:
            box.add_item(name)
