"""The controls of the panel as those of viser, for the page."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import viser

from renderformer.data.errors import InputError
from renderformer.viewer.controls import CONTROLS, SECTIONS, UNFOLDED, Control
from renderformer.viewer.uploads import received

# Decimals of numbers on a page.
DIGITS = 4
# The entry of an empty dropdown.
NOTHING = "(none)"


# Kinds whose values are typed, and seconds after the last key until the typed text is replaced by the value.
TYPED, REST_SECONDS = ("slider", "number", "vector"), 1.5


class _Typed:
    """What a person types in a control.

    Attributes:
        applied: whether the value was taken.
        shows: the value of the control afterwards, once `settled`.
    """

    def __init__(self, control: Control, client: Any, value: Any) -> None:
        self.control, self.client, self.value, self.time = control, client, value, time.monotonic()
        self.applied = self.settled = False
        self.shows: Any = None


class PageControls:
    """A handle of viser for each control of the table, in folders.

    Args:
        gui: of the server.
        change: called with a client, a control and its new value when a person changes it.
        guard: wraps a callback so that it never raises.
        controls, sections: the table, and its sections in order.
        unfolded: sections that are so at the start.
    """

    def __init__(
        self,
        gui: viser.GuiApi,
        panel: Any,
        change: Callable[[Any, Control, Any], object],
        guard: Callable[[Callable[[Any], object]], Callable[[Any], None]],
        controls: Sequence[Control] = CONTROLS,
        sections: Sequence[str] = SECTIONS,
        unfolded: Sequence[str] = UNFOLDED["page"],
    ) -> None:
        self._gui, self._panel, self._change, self._guard = gui, panel, change, guard
        self._handles: dict[str, Any] = {}
        self._typed: dict[str, _Typed] = {}
        self._timer: threading.Timer | None = None
        # Controls whose values are written even if they seem to be shown.
        self._again: set[str] = set()
        # Called when typing rests.
        self.rested: Callable[[], object] = self.fill
        self._controls = controls
        for section in sections:
            with gui.add_folder(section, expand_by_default=section in unfolded):
                for control in self._controls:
                    if control.section == section:
                        self._handles[control.name] = self._build(control)

    def __getitem__(self, name: str) -> Any:
        """The handle of a control."""
        return self._handles[name]

    def fill(self) -> None:
        """Write the present values into all controls, but those in which a person types."""
        for control in self._controls:
            if not self._types(control):
                self._fill(control, self._handles[control.name])

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _build(self, control: Control) -> Any:
        gui, label = self._gui, control.title
        value, hint = control.value(self._panel), control.tooltip or None
        span = {"min": control.low, "max": control.end(self._panel), "step": control.step, "hint": hint}
        handle: Any
        match control.kind:
            case "choice":
                names = _names(control.choices(self._panel))
                handle = gui.add_dropdown(label, names, initial_value=_entry(value), hint=hint)
            case "slider":
                handle = gui.add_slider(label, initial_value=control.low if value is None else value, **span)
            case "times":
                handle = gui.add_multi_slider(label, initial_value=tuple(value), min_range=control.step, **span)
            case "number":
                handle = gui.add_number(label, control.low if value is None else value, **span)
            case "vector":
                handle = gui.add_vector3(label, value or (0.0, 0.0, 0.0), step=control.step, hint=hint)
            case "colour":
                handle = gui.add_rgb(label, value or (0, 0, 0), hint=hint)
            case "check" | "toggle":
                handle = gui.add_checkbox(label, bool(value), hint=hint)
            case "text":
                handle = gui.add_markdown(value)
            case "button" if control.ask is not None:
                handle = gui.add_upload_button(label, hint=hint)
                handle.on_upload(self._guard(lambda event: self._received(event, control)))
                return handle
            case "button":
                handle = gui.add_button(label, hint=hint)
                handle.on_click(self._guard(lambda event: self._change(event.client, control, None)))
        if control.kind not in ("text", "button"):
            handle.on_update(self._guard(lambda event: self._changed(event, control)))
        return handle

    def _changed(self, event: Any, control: Control) -> None:
        """Apply the new value of a control; changes by the program have no client."""
        if event.client is None or event.target.value == NOTHING:
            return
        if control.kind not in TYPED:
            self._change(event.client, control, event.target.value)
            return
        typed = self._typed[control.name] = _Typed(control, event.client, event.target.value)
        # Half of a number may be none that can be: 0 on the way to 0.5.
        if control.kind == "vector" or control.low <= typed.value <= control.end(self._panel):
            with contextlib.suppress(InputError):
                self._change(event.client, control, typed.value)
                typed.applied = True
        typed.shows, typed.settled = control.value(self._panel), True
        self._wait()

    def _types(self, control: Control) -> bool:
        """Whether a person types in a control, whose value nothing else has changed since."""
        typed = self._typed.get(control.name)
        return typed is not None and (not typed.settled or typed.shows == control.value(self._panel))

    def _wait(self, seconds: float = REST_SECONDS) -> None:
        if self._timer is None:
            self._timer = threading.Timer(max(seconds, 0.0), self._rest)
            self._timer.daemon = True
            self._timer.start()

    def _rest(self) -> None:
        """Show what became of what was typed, and say why some was not taken."""
        self._timer, now = None, time.monotonic()
        rested = [typed for typed in list(self._typed.values()) if now - typed.time >= REST_SECONDS]
        for typed in rested:
            if self._typed.get(typed.control.name) is typed:
                del self._typed[typed.control.name]
            if not typed.applied:
                self._guard(lambda event: self._change(event.client, event.control, event.value))(typed)
        if rested:
            # A page may show what was written to it after it had sent what was typed.
            self._again = {typed.control.name for typed in rested}
            self._guard(lambda event: self.rested())(None)
        if self._typed:
            self._wait(min(typed.time for typed in list(self._typed.values())) + REST_SECONDS - now)

    def _received(self, event: Any, control: Control) -> None:
        """Hand the path of an uploaded file to a control."""
        with received(event.target.value.name, event.target.value.content) as sent:
            for path in sent.files:
                self._change(event.client, control, path)

    def _fill(self, control: Control, handle: Any) -> None:
        value = control.value(self._panel)
        put(handle, control.shown(self._panel), "visible")
        if control.kind == "choice":
            put(handle, _names(control.choices(self._panel)), "options")
            value = _entry(value)
        if control.top is not None:
            put(handle, control.end(self._panel), "max")
        if control.kind in ("number", "slider") and value is not None:
            value = round(value, DIGITS)
        if control.name in self._again and value is not None:
            self._again.discard(control.name)
            # viser sends no value that it holds already.
            handle.value = np.nextafter(np.asarray(value, np.float64), np.inf).tolist()
            handle.value = value
        elif control.kind != "button" and value is not None:
            put(handle, value, "content" if control.kind == "text" else "value")


def put(handle: Any, value: Any, field: str = "value") -> None:
    """Write a field of a control if it differs, since every write goes to all pages."""
    before = getattr(handle, field)
    numbers = field == "value" and not isinstance(value, str) and np.shape(before) == np.shape(value)
    if not (np.allclose(before, value, atol=1e-6) if numbers else before == value):
        setattr(handle, field, value)


def _names(choices: Iterable[object]) -> tuple[str, ...]:
    """Entries of a dropdown, which needs at least one."""
    return tuple(map(str, choices)) or (NOTHING,)


def _entry(value: object) -> str:
    """The entry of a dropdown for a value."""
    return NOTHING if value in (None, "") else str(value)
