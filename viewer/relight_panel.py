"""The controls of a split picture that is relit: one section for each light, for the window and the page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from renderformer.data.arrays import UInt8Array
from renderformer.image import TONE_MAPS, Image
from renderformer.viewer.controls import Control
from renderformer.viewer.display import display_values, from_srgb, to_srgb
from renderformer.viewer.relighting import Relighting

PICTURE = "Picture"
# Strength up to which the slider goes; the number takes more.
SLIDER, MOST = 4.0, 1e6


class RelightPanel:
    """The lights of a split picture and how it is shown. Not thread-safe.

    Attributes:
        relighting: the lights; change them by the controls.
        tone_map, exposure: of the display and of saved pictures.
        controls: in the order of their sections.
    """

    def __init__(self, relighting: Relighting, tone_map: str = "neutral", exposure: float = 0.0) -> None:
        self.relighting = relighting
        self.tone_map, self.exposure = tone_map, exposure
        self.controls = (*_PICTURE, *(control for name in relighting.lights for control in _of_light(name)))

    @property
    def sections(self) -> tuple[str, ...]:
        """Titles: of the picture, and of each light."""
        return (PICTURE, *map(_title, self.relighting.lights))

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
    Control(PICTURE, "exposure", "slider", **_display("exposure"), tooltip="stops", low=-10.0, high=10.0, step=0.1),
    Control(PICTURE, "tone map", "choice", **_display("tone_map"), choices=lambda panel: TONE_MAPS),
    Control(
        PICTURE, "reset", "button", lambda panel: None, lambda panel, value: _lights(panel).reset(),
        "the lights as they were drawn",
    ),
)  # fmt: skip
