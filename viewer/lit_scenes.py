"""The newest results of the view-independent stage, by scene: camera moves, undo and redo need not repeat it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING

from renderformer.viewer.drafts import relit
from renderformer.viewer.fingerprints import alike_but_background

if TYPE_CHECKING:
    from renderformer.data.rays.moving import MovingTrees
    from renderformer.data.scene import Scene
    from renderformer.renderer import LitScene

# Number of scenes.
KEPT = 4


class LitScenes:
    """See the module. Keys are fingerprints of scenes. All methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._lit: OrderedDict[str, LitScene] = OrderedDict()

    def get(self, key: str) -> LitScene | None:
        """That of a scene, if it is known."""
        with self._lock:
            return self._lit.get(key)

    def keep(self, key: str, lit: LitScene) -> None:
        """Add one, in place of the one that was used longest ago."""
        with self._lock:
            self._lit[key] = lit
            while len(self._lit) > KEPT:
                self._lit.popitem(last=False)

    def find(self, key: str, scene: Scene) -> LitScene | None:
        """That of a scene, also in front of another background; it counts as used."""
        with self._lock:
            if key in self._lit:
                self._lit.move_to_end(key)
                return self._lit[key]
            for lit in self._lit.values():
                if lit.caster is not None and alike_but_background(lit.scene, scene):
                    self.keep(key, replace(lit, scene=scene))
                    return self._lit[key]
            return None

    def edited(self, scene: Scene, trees: MovingTrees) -> LitScene | None:
        """A scene under the indirect light of the one that was used last; None if that has another shape."""
        with self._lock:
            known = next(reversed(self._lit.values()), None)
        if known is None or known.caster is None or getattr(known.caster, "cache", None) is None:
            return None
        caster = relit(known.unit.scene(scene), known.caster, trees)
        return None if caster is None else replace(known, scene=scene, caster=caster)
