"""Draw the frames of scenes on a Ray cluster: every worker loads the model once, and lights a scene once."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from renderformer.data.errors import InputError
from renderformer.data.farm import run_on_farm, shared_copy
from renderformer.data.scene import Scene
from renderformer.renderer import Renderer
from renderformer.sequences.drawing import Drawn, Lit, Scenery, Shot, Style, encoded

# In a worker: the number of the scene that is lit, of a run, and its lit scene.
_lit: tuple[tuple[str, int], Lit] | None = None


def draw(model: Mapping[str, Any], renderer: Renderer, style: Style, sceneries: Iterable[Scenery]) -> Iterator[Drawn]:
    """As `drawing.draw`, by the workers of a `farm.cluster`.

    Args:
        model: arguments of `Renderer.from_pretrained`, by which workers load the model.
        renderer: it here; workers that load another one fail.
    """
    run = f"{renderer.digest} {time.time_ns()}"
    gpus = 1.0 if renderer.device.startswith("cuda") else 0.0
    shared = (json.dumps(dict(model), sort_keys=True), renderer.digest, style)

    def jobs() -> Iterator[tuple[Any, ...]]:
        for number, scenery in enumerate(sceneries):
            scene = shared_copy(scenery.scene)
            for index, shot in enumerate(scenery.shots):
                yield (run, number), scene, shot, index == 0

    return run_on_farm(_draw_shot, jobs(), shared, gpus)


def _draw_shot(
    model: str,
    digest: str,
    style: Style,
    key: tuple[str, int],
    scene: Scene,
    shot: Shot,
    first: bool,
) -> Drawn:
    """Runs in a worker."""
    global _lit
    renderer = _renderer(model)
    if renderer.digest != digest:
        raise InputError("Ray", "a worker has another model", "install the same version and model on every machine")
    started = time.perf_counter()
    try:
        if _lit is None or _lit[0] != key:
            # Two scenes need not fit into the memory.
            _lit = None
            _lit = key, style.light(renderer, scene)
        lit = _lit[1]
        ((image, notes),) = lit.pictures([shot.camera])
        return encoded(shot, image, (*lit.notes, *notes) if first else notes, started)
    except InputError as error:
        return Drawn(shot, problem=error)


@functools.lru_cache(maxsize=1)
def _renderer(model: str) -> Renderer:
    arguments = json.loads(model)
    return Renderer.from_pretrained(arguments.pop("source"), **arguments)
