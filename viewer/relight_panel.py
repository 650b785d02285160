"""The controls of a split picture that is relit: one section for each light, for the window and the page."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from typing import Any

from renderformer.data.arrays import UInt8Array
from renderformer.image import TONE_MAPS, Image
from renderformer.viewer.controls import Control
from renderformer.viewer.display import display_values, from_srgb, to_srgb
from renderformer.viewer.document import MERGE_SECONDS
from renderformer.viewer.relighting import LightSetting, Relighting

Settings = dict[str, LightSetting]
PICTURE = "Picture"
# Strength up to which the slider goes; the number takes more.
SLIDER, MOST = 4.0, 1e6


class RelightPanel:
    """The lights of a split picture and how it is shown. Not thread-safe.

    Args:
        clock: seconds; decides whether two changes are one drag of a slider.

    Attributes:
        relighting: the lights; change them by `change`.
        tone_map, exposure: of the display and of saved pictures.
        controls: in the order of their sections.
    """

    def __init__(
        self,
        relighting: Relighting,
        tone_map: str = "neutral",
        exposure: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.relighting = relighting
        self._clock = clock
        # Labels and lights to go back to, and the label and the time of the last change.
        self._past: list[tuple[str, Settings]] = []
        self._future: list[tuple[str, Settings]] = []
        self._last = "", -math.inf
        # The lights that are in a file.
        self._in_file = relighting.settings
        self.tone_map, self.exposure = tone_map, exposure
        self.controls = (*_PICTURE, *(control for name in relighting.lights for control in _of_light(name)))

    @property
    def sections(self) -> tuple[str, ...]:
        """Titles: of the picture, and of each light."""
        return (PICTURE, *map(_title, self.relighting.lights))

    def change(self, control: Control, value: Any) -> str:
        """Set a control; a change of lights can be undone, successive ones of one control at once.

        Returns:
            A line for the person, or nothing.

        Raises:
            InputError: a value out of range; nothing is changed.
        """
        before = self.relighting.settings
        line = control.apply(self, value)  # type: ignore[arg-type]
        if self.relighting.settings != before:
            now, (label, then) = self._clock(), self._last
            if not (control.name == label and now - then < MERGE_SECONDS and self._past):
                self._past.append((f"{control.section} {control.label}", before))
            self._future.clear()
            self._last = control.name, now
        return line

    def undo(self) -> str:
        """Take the last change of the lights back; returns a line about it."""
        return self._step(self._past, self._future)

    def redo(self) -> str:
        """Repeat the change that was taken back last; returns a line about it."""
        return self._step(self._future, self._past)

    def _step(self, source: list[tuple[str, Settings]], target: list[tuple[str, Settings]]) -> str:
        self._last = "", -math.inf
        if not source:
            return "nothing left"
        label, settings = source.pop()
        target.append((label, self.relighting.settings))
        self.relighting.settings = settings
        return label

    @property
    def unsaved(self) -> bool:
        """Whether the lights are not as in the file, nor as in the newest picture that was saved."""
        return self.relighting.settings != self._in_file

    def save(self, path: str | os.PathLike[str]) -> list[str]:
        """Save the picture as it is lit now; returns what the format does not hold.

        Raises:
            InputError: as `Image.save`.
        """
        lines = self.image().save(path, self.tone_map, self.exposure)
        self._in_file = self.relighting.settings
        return lines

    def image(self) -> Image:
        """The picture under the present lights."""
        return self.relighting.picture()

    def shown(self) -> UInt8Array:
        """(h, w, 3) its display values."""
        return display_values(self.image(), self.tone_map, self.exposure)


def _title(light: str) -> str:
    """The section of a light; the name of the first section is taken."""
    return f"{light} (light)" if light == PICTURE or not light else light


def _lights(panel: Any) -> Relighting:
    found: Relighting = panel.relighting
    return found


def _of_light(name: str) -> tuple[Control, ...]:
    section = _title(name)

    def changes(field: str, convert: Callable[[Any], Any]) -> Callable[[Any, Any], None]:
        return lambda panel, value: _lights(panel).change(name, **{field: convert(value)})

    def strength(panel: Any) -> float:
        return float(_lights(panel).setting(name).strength)

    def colour(panel: Any) -> tuple[int, int, int]:
        return to_srgb(_lights(panel).setting(name).colour)

    return (
        Control(section, "on", "check", lambda p: _lights(p).setting(name).on, changes("on", bool)),
        Control(
            section, "strength", "slider", strength, changes("strength", float), "times as strong as drawn", 0.0, SLIDER
        ),
        Control(
            section, "exactly", "number", strength, changes("strength", float), "the same, and beyond", 0.0, MOST, 0.1
        ),
        Control(section, "colour", "colour", colour, changes("colour", from_srgb), "multiplies that of the light"),
        Control(
            section, "alone", "button", lambda p: None, lambda p, value: _lights(p).only(name),
            "all other lights off, and on again",
        ),
    )  # fmt: skip


def _display(field: str) -> dict[str, Any]:
    return {"get": lambda panel: getattr(panel, field), "set": lambda panel, value: setattr(panel, field, value)}


_PICTURE = (
    Control(
        PICTURE, "exposure", "slider", **_display("exposure"), tooltip="of the display", low=-10.0, high=10.0, step=0.1,
        unit="stops",
    ),
    Control(PICTURE, "tone map", "choice", **_display("tone_map"), choices=lambda panel: TONE_MAPS),
    Control(
        PICTURE, "reset", "button", lambda panel: None, lambda panel, value: _lights(panel).reset(),
        "the lights as they were drawn",
    ),
)  # fmt: skip
