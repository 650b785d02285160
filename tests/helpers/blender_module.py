"""A stand-in of the module bpy, as far as the add-on's engine and preferences use it."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from renderformer.viewer import blender as addon


class RenderEngine:
    """What Blender gives an engine, and what the engine does with it."""

    def __init__(self, *arguments: Any) -> None:
        self.reports: list[tuple[set[str], str]] = []
        self.stats: list[tuple[str, str]] = []
        self.pictures: list[np.ndarray] = []
        self.redraws = 0
        self.layers: list[str] = []
        self.stopped = False

    def report(self, kind: set[str], line: str) -> None:
        self.reports.append((kind, line))

    def update_stats(self, first: str, second: str) -> None:
        self.stats.append((first, second))

    def update_progress(self, share: float) -> None:
        assert 0 <= share <= 1

    def test_break(self) -> bool:
        return self.stopped

    def tag_redraw(self) -> None:
        self.redraws += 1

    def begin_result(self, x: int, y: int, width: int, height: int, layer: str) -> Any:
        target = np.zeros((height, width, 4), np.float32)

        def put(values: Any) -> None:
            target[:] = np.asarray(values).reshape(target.shape)

        combined = SimpleNamespace(rect=SimpleNamespace(foreach_set=put))
        self.layers.append(layer)
        return SimpleNamespace(layers=[SimpleNamespace(passes={"Combined": combined})], target=target)

    def end_result(self, result: Any) -> None:
        self.pictures.append(result.target)

    def bind_display_space_shader(self, scene: Any) -> None:
        pass

    def unbind_display_space_shader(self) -> None:
        pass


class Panel:
    """Of the user interface."""


def install(patch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Put the stand-ins in the place of bpy, gpu and gpu_extras; returns what was registered and drawn."""
    record = SimpleNamespace(classes=[], timers=[], drawn=[], addons={}, textures=[])

    def module(name: str, **values: Any) -> ModuleType:
        made = ModuleType(name)
        vars(made).update(values)
        patch.setitem(sys.modules, name, made)
        return made

    def texture(size: tuple[int, int], format: str, data: np.ndarray) -> Any:  # noqa: A002 - Blender's name
        record.textures.append(data.reshape(size[1], size[0], 4))
        return record.textures[-1]

    def draw(image: Any, place: tuple[float, float], width: float, height: float) -> None:
        record.drawn.append((image, place, width, height))

    plain = lambda **options: None  # noqa: E731
    module(
        "bpy",
        types=SimpleNamespace(RenderEngine=RenderEngine, AddonPreferences=object, Panel=Panel),
        props=SimpleNamespace(StringProperty=plain, BoolProperty=plain),
        utils=SimpleNamespace(register_class=record.classes.append, unregister_class=record.classes.remove),
        app=SimpleNamespace(
            background=True,
            timers=SimpleNamespace(register=lambda work, first_interval: record.timers.append(work)),
        ),
        context=SimpleNamespace(preferences=SimpleNamespace(addons=record.addons)),
        path=SimpleNamespace(abspath=lambda path: path),
    )
    module(
        "gpu",
        types=SimpleNamespace(Buffer=lambda kind, size, values: np.array(values).reshape(size), GPUTexture=texture),
        state=SimpleNamespace(blend_set=lambda kind: None),
    )
    module("gpu_extras")
    module("gpu_extras.presets", draw_texture_2d=draw)
    for name in ("engine", "preferences"):
        patch.delitem(sys.modules, f"{addon.__name__}.{name}", raising=False)
        patch.delattr(addon, name, raising=False)
    return record
