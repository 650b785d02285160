"""Warnings about the scene of a session; those of a large scene are found on another thread."""

from __future__ import annotations

import threading
from collections.abc import Callable

from renderformer.data.scene import Scene
from renderformer.viewer.fingerprints import fingerprint

# Scenes of this many triangles or more are checked on another thread: a million take seconds.
LARGE = 50_000


class SceneChecks:
    """Keeps the warnings about the newest scene.

    Args:
        check: the warnings about a scene without cameras.
    """

    def __init__(self, check: Callable[[Scene], list[str]]) -> None:
        self._check = check
        self._lines: list[str] = []
        # The scene that was asked about last, and the thread that checks it.
        self._key = ""
        self._thread: threading.Thread | None = None

    def lines(self, scene: Scene, again: bool = True) -> list[str]:
        """One line for each warning about a scene; those of an older one while a large scene is checked, or without
        `again`."""
        key = fingerprint(scene)
        if key != self._key and again:
            self._key, scene = key, scene.replace(cameras=())
            if sum(len(mesh) for mesh in scene.objects) < LARGE:
                self._lines = self._check(scene)
            else:
                self._thread = threading.Thread(target=self._run, args=(key, scene), name="renderformer-checks")
                self._thread.daemon = True
                self._thread.start()
        return self._lines

    def close(self) -> None:
        """Wait for the thread."""
        if self._thread is not None:
            self._thread.join()

    def _run(self, key: str, scene: Scene) -> None:
        lines = self._check(scene)
        if key == self._key:
            self._lines = lines
