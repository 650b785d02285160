"""A `Renderer` without a model for the tests of the viewer."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np

from renderformer.data.camera import Camera
from renderformer.data.geometry.stages import stage_meshes
from renderformer.data.rays.channels import RGB
from renderformer.data.rays.raycast import RayCaster
from renderformer.data.scene import Light, Material, Scene
from renderformer.data.trained_range import TrainedRange
from renderformer.data.unit_size import AS_IT_IS
from renderformer.image import Image
from renderformer.renderer import Cancelled


class RayEngine:
    """Draws direct light by ray casting."""

    name, device, precision = "rays", "cpu", "fp32"
    config = SimpleNamespace(trained=TrainedRange())

    def encode(self, scene: Scene, progress: Any = None, cancel: Any = None) -> Any:
        caster = RayCaster.of(scene)
        return SimpleNamespace(scene=scene, notes=(), caster=caster, unit=AS_IT_IS)

    def render(self, lit: Any, resolution: Any, cameras: Any, progress: Any = None, cancel: Any = None) -> list[Image]:
        return list(self.iterate(lit, resolution, [cameras], progress, cancel))

    def iterate(
        self, lit: Any, resolution: Any, cameras: Any, progress: Any = None, cancel: Any = None
    ) -> Iterator[Image]:
        lit = lit if hasattr(lit, "caster") else self.encode(lit)
        for number, camera in enumerate(cameras):
            if cancel is not None and cancel():
                raise Cancelled
            if progress is not None:
                progress("render", number, len(cameras))
            picture = lit.caster.features(camera, *resolution, antialias=1, refine=1, shadow_rays=1, lobe_rays=1)
            yield Image(np.ascontiguousarray(picture[..., RGB.direct]), camera)

    def check(self, scene: Scene) -> list[str]:
        return []


def a_scene() -> Scene:
    floor = [mesh.with_material(Material((0.8, 0.3, 0.2))) for mesh in stage_meshes("corner")]
    return Scene((*floor, Light((0.4, -0.8, 2.1)).mesh()), (Camera.from_angles(40, 25, 1.9),))
