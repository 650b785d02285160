"""Every control of the viewer's panel, in one table for the window and the page.

One entry in `CONTROLS` adds a control. A front end draws the entries in order, each by its `kind`; it calls `set` when
a person changes a control, and then writes `value` into all controls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from renderformer.data.colour import RGB
from renderformer.data.environment import BACKGROUNDS
from renderformer.data.scene import MAX_COORDINATE
from renderformer.image import TONE_MAPS
from renderformer.viewer.camera import FREE_FOV, OrbitCamera
from renderformer.viewer.display import from_srgb, to_srgb
from renderformer.viewer.gizmo import MODES
from renderformer.viewer.lights import hue
from renderformer.viewer.panel import Panel
from renderformer.viewer.presets import OWN as OWN_MATERIAL
from renderformer.viewer.presets import PRESETS, preset_of
from renderformer.viewer.session import SCALES, VIEWS
from renderformer.viewer.timeline import SPANS

if TYPE_CHECKING:
    from renderformer.viewer.actions import Dialogs

Kind = Literal["choice", "slider", "number", "vector", "colour", "check", "toggle", "button", "text", "times"]
# Titles of the sections in order, and those that are unfolded at the start.
SECTIONS = ("Picture", "Camera", "Bookmarks and key frames", "Object", "Light", "Environment")
UNFOLDED = {"window": ("Picture", "Camera"), "page": ("Picture",)}
MAX_EMISSION = 60000.0
# Of angles that wrap around.
MOST_DEGREES = 36000.0
# Of the radiance of an environment; the command line takes more.
MAX_STRENGTH = 1000.0


# In scene units, which may be any.
MIN_LENGTH = 1e-9


@dataclass(frozen=True)
class Control:
    """One control of the panel.

    Attributes:
        section: title of its section.
        label: beside the control or on it; unique in its section.
        kind: its look and the type of its value: "choice" str, "slider" and "number" float, "vector" three floats,
            "colour" three display values 0 … 255, "check" and "toggle" (a button that stays down) bool, "text" str,
            "button" None, "times" floats in order, on one strip.
        get: called with the panel; returns the value, or None.
        set: called with the panel and a new value; may return a line for the person.
        tooltip: text under the pointer.
        low, high, step: range and step of numbers.
        top: called with the panel; returns the upper end of a range that changes, in place of `high`.
        choices: called with the panel; returns the entries of a choice.
        shown: called with the panel; returns whether the control is visible.
        page_only: whether the window leaves it out.
        unit: of the value, beside the label.
        ask: opens a dialog of the window for a file, called with it; `set` takes the path of one that a page sends.
    """

    section: str
    label: str
    kind: Kind
    get: Callable[[Panel], Any]
    set: Callable[[Panel, Any], object]
    tooltip: str = ""
    low: float = 0.0
    high: float = 1.0
    step: float = 0.01
    choices: Callable[[Panel], Iterable[object]] = lambda panel: ()
    shown: Callable[[Panel], bool] = lambda panel: True
    page_only: bool = False
    unit: str = ""
    ask: Callable[[Dialogs], object] | None = None
    top: Callable[[Panel], float] | None = None

    @property
    def title(self) -> str:
        """Label and unit."""
        return f"{self.label} [{self.unit}]" if self.unit else self.label

    @property
    def name(self) -> str:
        """Unique among all controls, for example "object roughness"."""
        return f"{self.section} {self.label}".lower()

    def value(self, panel: Panel) -> Any:
        """The value to show, clamped to the range for numbers; None if there is none."""
        value = self.get(panel)
        if value is None or self.kind not in ("slider", "number"):
            return value
        return self._nearest(panel, value)

    def apply(self, panel: Panel, value: Any) -> str:
        """Set what a person typed or chose; returns a line for the person, also about a number out of range."""
        if self.kind not in ("slider", "number"):
            return _line(self.set(panel, value))
        near = self._nearest(panel, value)
        line = _line(self.set(panel, near))
        return line if near == value else "; ".join(filter(None, [f"{value:g} is out of range, {near:g} counts", line]))

    def _nearest(self, panel: Panel, value: Any) -> float:
        """The number in the range that is nearest to a value."""
        return min(max(float(value), self.low), self.end(panel))

    def end(self, panel: Panel) -> float:
        """The upper end of the range by now."""
        return self.high if self.top is None else self.top(panel)


def _line(result: object) -> str:
    """The line for the person in the result of an action."""
    return result if isinstance(result, str) else ""


def _of_item(get: Callable[[Any], Any]) -> Callable[[Panel], Any]:
    return lambda panel: None if panel.item is None else get(panel.item)


def _of_light(get: Callable[[Any], Any]) -> Callable[[Panel], Any]:
    return lambda panel: None if panel.light is None else get(panel.light.light)


def _view(field: str) -> dict[str, Any]:
    return {
        "get": lambda panel: getattr(panel.session.orbit.view, field),
        "set": lambda panel, value: panel.set_view(**{field: float(value)}),
    }


def _button(section: str, label: str, action: Callable[[Panel], object], tooltip: str) -> Control:
    return Control(section, label, "button", lambda panel: None, lambda panel, value: action(panel), tooltip)


def _of_environment(field: str) -> Callable[[Panel], Any]:
    return lambda panel: getattr(panel.session.document.surroundings.present, field)


def _backdrop(panel: Panel) -> RGB | None:
    """The colour of the background, if it is one."""
    return panel.session.document.surroundings.present.backdrop


# The choice of a background that is a colour.
COLOUR = "colour"
PICTURE, CAMERA, PATH, OBJECT, LIGHT, ENVIRONMENT = SECTIONS
CONTROLS: tuple[Control, ...] = (
    Control(
        PICTURE, "view", "choice", lambda p: p.kind, Panel.show, "content of the view", choices=lambda p: VIEWS
    ),
    Control(
        PICTURE, "handles", "choice", lambda p: p.mode, Panel.set_mode, "what the handles in the picture do",
        choices=lambda p: MODES,
    ),
    Control(
        PICTURE, "bar", "slider", lambda p: p.bar, Panel.set_bar, "border between preview and picture",
        step=0.005, shown=lambda p: p.kind == "split", page_only=True,
    ),
    Control(
        PICTURE, "exposure", "slider", lambda p: p.session.exposure,
        lambda p, stops: p.session.set_display(exposure=stops), "of the display", -10.0, 10.0, 0.1, unit="stops",
    ),
    Control(
        PICTURE, "tone map", "choice", lambda p: p.session.tone_map,
        lambda p, name: p.session.set_display(tone_map=name), "from light to display values",
        choices=lambda p: TONE_MAPS,
    ),
    Control(
        PICTURE, "scale", "choice", lambda p: f"{p.session.scale:g}", lambda p, text: p.session.set_scale(float(text)),
        "pixels of the picture for one of the view, on a side; saved pictures have as many",
        choices=lambda p: [f"{scale:g}" for scale in SCALES],
    ),
    Control(CAMERA, "azimuth", "number", **_view("azimuth"), low=-MOST_DEGREES, high=MOST_DEGREES, step=1.0, unit="°"),
    Control(CAMERA, "elevation", "number", **_view("elevation"), low=-90.0, high=90.0, step=1.0, unit="°"),
    Control(
        CAMERA, "distance", "number", **_view("distance"), tooltip="from the target, in scene units",
        low=MIN_LENGTH, high=MAX_COORDINATE, unit="units",
    ),
    Control(
        CAMERA, "fov", "number", **_view("fov"), tooltip="vertical",
        low=FREE_FOV[0], high=FREE_FOV[1], step=0.5, unit="°",
    ),
    Control(
        CAMERA, "keep in the trained range", "check", lambda p: p.session.orbit.limited, Panel.set_limited,
        "the range in which the model's pictures can be trusted",
    ),
    _button(CAMERA, "home", lambda p: p.session.move(OrbitCamera.home), "back to the start"),
    Control(CAMERA, "turntable", "toggle", lambda p: p.turning, Panel.turn, "turn about the target"),
    Control(
        PATH, "bookmark", "choice", lambda p: p.bookmark, Panel.recall, "go to a view",
        choices=lambda p: p.session.orbit.bookmarks,
    ),
    _button(PATH, "add", Panel.add_bookmark, "bookmark this view"),
    _button(PATH, "go", lambda p: p.recall(p.bookmark), "go to the bookmark"),
    _button(PATH, "forget", Panel.forget, "delete the bookmark"),
    Control(
        PATH, "timeline", "times", lambda p: p.timeline.times, lambda p, times: p.timeline.set_times(times),
        "drag a key frame to another time", step=0.05, top=lambda p: p.timeline.end,
        shown=lambda p: bool(p.timeline.keys), page_only=True,
    ),
    Control(
        PATH, "time", "slider", lambda p: p.timeline.time, lambda p, value: p.timeline.show(float(value)),
        "shows the path at this time", top=lambda p: p.timeline.end, unit="s",
    ),
    Control(
        PATH, "key", "choice", lambda p: p.timeline.name, lambda p, name: p.timeline.choose(name),
        "choose a key frame and show it", choices=lambda p: p.timeline.names,
    ),
    Control(
        PATH, "key time", "number", lambda p: None if p.timeline.key is None else p.timeline.key.time,
        lambda p, value: p.timeline.set_time(value), "of the chosen key frame", 0.0, SPANS[-1], 0.1, unit="s",
    ),
    _button(
        PATH, "add key", lambda p: p.timeline.add(),
        "make this view a key frame: at the shown time between two, else after the last",
    ),
    _button(PATH, "replace", lambda p: p.timeline.replace_view(), "give the chosen key frame this view"),
    _button(PATH, "remove", lambda p: p.timeline.remove(), "delete the chosen key frame"),
    Control(PATH, "key frames", "text", lambda p: p.timeline.text, lambda p, value: None),
    Control(PATH, "play", "toggle", lambda p: p.playing, Panel.play, "follow the key frames"),
    _button(PATH, "clear", lambda p: p.timeline.clear(), "delete all key frames"),
    Control(
        OBJECT, "object", "choice", _of_item(lambda item: item.name), Panel.choose, "click one in the picture",
        choices=lambda p: [item.name for item in p.session.document.items],
    ),
    Control(
        OBJECT, "visible", "check", _of_item(lambda item: item.visible),
        lambda p, on: p.edit_object(lambda document, name: document.set_visible(name, on)),
    ),
    Control(
        OBJECT, "move", "vector", _of_item(lambda item: item.placement.translation),
        lambda p, value: p.place(translation=value), "from its original place, in scene units", unit="units",
    ),
    Control(
        OBJECT, "turn", "vector", _of_item(lambda item: item.placement.rotation),
        lambda p, value: p.place(rotation=value), "about X, then Y, then Z", step=1.0, unit="°",
    ),
    Control(
        OBJECT, "scale", "number", _of_item(lambda item: item.placement.scale),
        lambda p, value: p.place(scale=float(value)), "one factor", 0.01, 100.0,
    ),
    Control(
        OBJECT, "stretch", "vector", _of_item(lambda item: item.placement.stretch),
        lambda p, value: p.place(stretch=value), "factors along the object's own axes",
    ),
    Control(
        OBJECT, "material", "choice", _of_item(lambda item: preset_of(item.material)), Panel.set_preset,
        "like some known material; its own if it is like none", choices=lambda p: (OWN_MATERIAL, *PRESETS),
    ),
    Control(
        OBJECT, "diffuse", "colour", _of_item(lambda item: to_srgb(item.material.diffuse)),
        lambda p, colour: p.set_material(diffuse=from_srgb(colour)), "colour of scattered light",
    ),
    Control(
        OBJECT, "specular", "slider", _of_item(lambda item: float(np.mean(item.material.specular))),
        Panel.set_specular, "strength of reflections; their hue stays",
    ),
    Control(
        OBJECT, "roughness", "slider", _of_item(lambda item: item.material.roughness),
        lambda p, value: p.set_material(roughness=value), "0 is a mirror", 0.01,
    ),
    Control(
        OBJECT, "metallic", "slider", _of_item(lambda item: item.material.metallic or 0.0),
        lambda p, value: p.set_material(metallic=float(value)),
        "1 is metal; then diffuse is its colour, and specular belongs to the rest",
    ),
    Control(
        OBJECT, "opacity", "slider", _of_item(lambda item: item.material.alpha),
        lambda p, value: p.set_material(alpha=float(value)), "times that of the texture",
    ),
    Control(
        OBJECT, "light on both sides", "check", _of_item(lambda item: item.material.two_sided),
        lambda p, on: p.set_material(two_sided=bool(on)), "else it shines from its front",
    ),
    Control(
        OBJECT, "emission", "number", _of_item(lambda item: max(item.material.emission)),
        Panel.set_emission, "of its light, whose hue stays", 0.0, MAX_EMISSION, 10.0, unit="radiance",
    ),
    _button(OBJECT, "remove", lambda p: p.edit_object(lambda document, name: document.remove(name)), "delete it"),
    Control(
        LIGHT, "light", "choice", lambda p: None if p.light is None else p.light.name, Panel.choose,
        choices=lambda p: [item.name for item in p.session.document.lights],
    ),
    Control(
        LIGHT, "position", "vector", _of_light(lambda light: light.position),
        lambda p, value: p.set_light(position=value), "of its centre, in scene units", unit="units",
    ),
    Control(
        LIGHT, "size", "number", _of_light(lambda light: light.size),
        lambda p, value: p.set_light(size=float(value)), "longest edge, in scene units",
        MIN_LENGTH, MAX_COORDINATE, 0.005, unit="units",
    ),
    Control(
        LIGHT, "strength", "number", _of_light(lambda light: float(np.max(light.emission))),
        lambda p, value: p.set_light(strength=float(value)), "of its light", 0.01, MAX_EMISSION, 50.0, unit="radiance",
    ),
    Control(
        LIGHT, "colour", "colour", _of_light(lambda light: to_srgb(hue(light.emission))),
        lambda p, colour: p.set_light(colour=from_srgb(colour)), "of its light; the strength stays",
    ),
    _button(LIGHT, "add", Panel.add_light, "add a light"),
    _button(LIGHT, "remove", lambda p: p.edit_light(lambda document, name: document.remove(name)), "delete it"),
    Control(
        ENVIRONMENT, "environment", "choice", lambda p: p.session.document.surroundings.kind,
        lambda p, kind: p.set_environment(kind=kind), "light from all around",
        choices=lambda p: p.session.document.surroundings.kinds,
    ),
    Control(
        ENVIRONMENT, "from a file ...", "button", lambda p: None,
        lambda p, path: "; ".join(p.session.open_environment(path)),
        "a picture of all directions (HDR, EXR)", ask=lambda dialogs: dialogs.ask_environment(),
    ),
    Control(
        ENVIRONMENT, "strength", "number", _of_environment("strength"),
        lambda p, value: p.set_environment(strength=float(value)), "factor of its light", 0.0, MAX_STRENGTH, 0.05,
    ),
    Control(
        ENVIRONMENT, "rotation", "number", _of_environment("rotation"),
        lambda p, value: p.set_environment(rotation=float(value)), "counter-clockwise from above",
        -MOST_DEGREES, MOST_DEGREES, 1.0, unit="°",
    ),
    Control(
        ENVIRONMENT, "background", "choice",
        lambda p: COLOUR if _backdrop(p) else p.session.document.surroundings.present.background,
        lambda p, kind: p.set_environment(background="#808080" if kind == COLOUR else kind),
        "behind the objects: itself, black, nothing, or a colour", choices=lambda p: (*BACKGROUNDS, COLOUR),
    ),
    Control(
        ENVIRONMENT, "colour", "colour", lambda p: to_srgb(_backdrop(p) or (0.0, 0.0, 0.0)),
        lambda p, colour: p.set_environment(background=from_srgb(colour)), "behind the objects; it is no light",
    ),
)  # fmt: skip
