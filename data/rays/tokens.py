"""The triangles that the tokens of a model that casts rays stand for, and their direct light."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from renderformer.data.arrays import Float32Array
from renderformer.data.geometry.simplify import LIGHT_TRIANGLES, MIN_TRIANGLES, is_light, simplify_scene
from renderformer.data.rays.lights import Lights
from renderformer.data.rays.raycast import RayCaster
from renderformer.data.scene import EMISSION, Mesh, Scene


def lit_tokens(
    scene: Scene, budget: int, progress: Callable[[int, int], None] | None = None
) -> tuple[RayCaster, Scene, Float32Array]:
    """What a model that casts rays is given of a scene, in training as in rendering.

    Args:
        budget: the model's `token_triangles`; 0 for no limit.
        progress: as in `RayCaster.triangle_light`.

    Returns:
        The caster of its rays, which see every triangle; the N triangles that its tokens stand for, the scene itself or
        a simplified copy of it; and their direct light (N, 2, 3), see `RayCaster.triangle_light`.
    """
    caster = RayCaster.of(scene)
    if not budget or len(scene) <= budget:
        return caster, scene, caster.triangle_light(progress=progress)
    tokens = proxy(scene, budget)
    return caster, tokens, RayCaster.of(tokens).triangle_light(progress=progress)


def proxy(scene: Scene, budget: int = 384) -> Scene:
    """A coarse stand-in of a scene, for a model with few tokens that sees the full geometry through its rays.

    As `simplify_scene`, but a scene of many objects becomes one, more than 64 light triangles are drawn from by power,
    and a budget below the number of lights is raised.
    """
    lights = [mesh for mesh in scene.objects if is_light(mesh)]
    free = [mesh for mesh in scene.objects if not is_light(mesh)]
    if len(scene) > budget and sum(len(mesh) for mesh in lights) > LIGHT_TRIANGLES:
        lights = [_fewer_lights(lights)]
        scene = scene.replace(objects=(*free, *lights))
    budget = max(budget, sum(len(mesh) for mesh in lights) + MIN_TRIANGLES)
    if len(scene) > budget and len(free) * MIN_TRIANGLES > budget - sum(len(mesh) for mesh in lights):
        one = Mesh(
            "objects",
            np.concatenate([mesh.triangles for mesh in free]),
            np.concatenate([mesh.normals for mesh in free]),
            np.concatenate([mesh.materials for mesh in free]),
            two_sided=np.concatenate([np.broadcast_to(mesh.two_sided, len(mesh)) for mesh in free]),
        )
        names = {mesh.name for mesh in lights}
        while one.name in names:
            one = replace(one, name=one.name + "_")
        scene = scene.replace(objects=(one, *lights))
    return simplify_scene(scene, budget)


def _fewer_lights(lights: list[Mesh]) -> Mesh:
    """Some of the light triangles, drawn by power and made brighter, so that they send as much light as all."""
    every = Scene(tuple(lights))
    drawn = Lights.of(every).drawn(LIGHT_TRIANGLES)
    rows = every.materials[drawn.triangle]
    rows[:, EMISSION] *= drawn.weight[:, None]
    return Mesh(lights[0].name, drawn.corners, materials=rows, two_sided=drawn.two_sided)
