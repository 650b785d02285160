"""The picture of the newest view under each light alone: light is linear, so strengths and colours of lights change at
once and in full resolution, without a new view-independent stage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from renderformer.image import Image
from renderformer.splitting import MOST, light_groups
from renderformer.viewer.relighting import Relighting

if TYPE_CHECKING:
    from renderformer.data.camera import Camera
    from renderformer.data.scene import Scene
    from renderformer.renderer import Cancel, LitScene

# Most bytes of the pictures of all lights.
MAX_BYTES = 512 << 20


class LightPictures:
    """See the module. Used by one thread, but for `wanted`.

    Attributes:
        wanted: whether lights are being edited, so that the pictures are worth their time.
    """

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.wanted = False
        # Camera and size of the pictures; None for a view that cannot have any.
        self._view: tuple[Camera, tuple[int, int]] | None = None
        self._relighting: Relighting | None = None

    def lack(self, camera: Camera, size: tuple[int, int]) -> bool:
        """Whether pictures of a view are wanted and were not made yet."""
        return self.wanted and not self._of(camera, size)

    def make(self, lit: LitScene | None, camera: Camera, size: tuple[int, int], cancel: Cancel | None) -> None:
        """Draw the pictures of a view, where that takes no longer than one picture and not too much memory.

        Args:
            lit: the scene; None if it is not known any more.

        Raises:
            Cancelled: `cancel` returned True.
        """
        relighting = None
        if lit is not None and self._worth(lit, size):
            relighting = Relighting.of(self._engine, lit, camera, size, cancel=cancel)
        self._view, self._relighting = (camera, size), relighting

    def picture(self, scene: Scene, camera: Camera, size: tuple[int, int]) -> Image | None:
        """The picture of a view of an edited scene; None if more was edited than lights, or the view is another."""
        if self._relighting is None or not self._of(camera, size) or not self._relighting.follow(scene):
            return None
        return self._relighting.picture()

    def _of(self, camera: Camera, size: tuple[int, int]) -> bool:
        return self._view is not None and self._view[0] is camera and self._view[1] == size

    def _worth(self, lit: LitScene, size: tuple[int, int]) -> bool:
        """Not with a network, where each light would take as long as a picture."""
        from renderformer.model import PhysicalModel

        if getattr(lit.caster, "cache", None) is None or not isinstance(self._engine.model, PhysicalModel):
            return False
        if lit.scene.is_dark:
            return False
        return 12 * size[0] * size[1] * len(light_groups(lit.scene, MOST)) <= MAX_BYTES
