"""The lights of one view, made stronger, weaker and of another colour without drawing again.

`Relighting` holds the split picture of a view (`renderformer.split`): of a file, or drawn of a scene. A change is a
weighted sum, which takes milliseconds. `follow` takes the factors from an edited scene.

Shapes: h x w pixels, N triangles, linear light.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from renderformer.data.arrays import AnyArray, Float32Array
from renderformer.data.environment import Environment
from renderformer.data.errors import InputError
from renderformer.data.material import checked_rgb
from renderformer.data.scene import EMISSION, Mesh, Scene
from renderformer.image import Image
from renderformer.split import MAX_FACTOR, RGB, Split
from renderformer.splitting import MOST, LightGroup, light_groups
from renderformer.viewer.fingerprints import fingerprint

if TYPE_CHECKING:
    from renderformer.data.camera import Camera
    from renderformer.data.progress import Progress
    from renderformer.renderer import Cancel, LitScene, Renderer

BLACK: RGB = (0.0, 0.0, 0.0)
# Relative error of a factor that two roundings to float16 may make.
ROUNDING = 2e-3


@dataclass(frozen=True)
class LightSetting:
    """How a light is changed.

    Attributes:
        strength: how many times as strong.
        colour: linear RGB, which multiplies that of the light.
        on: whether it shines.

    Raises:
        InputError: a value that is negative, not finite or above a million.
    """

    strength: float = 1.0
    colour: RGB = (1.0, 1.0, 1.0)
    on: bool = True

    def __post_init__(self) -> None:
        checked_rgb(self.strength, "light", "strength", MAX_FACTOR)
        object.__setattr__(self, "colour", checked_rgb(self.colour, "light", "colour", MAX_FACTOR))

    @property
    def factor(self) -> RGB:
        """Linear RGB by which the picture under this light is multiplied."""
        red, green, blue = (self.strength * value for value in self.colour)
        return (red, green, blue) if self.on else BLACK

    @classmethod
    def of(cls, factor: RGB) -> LightSetting:
        """The setting of a factor: its largest channel is the strength."""
        strength = max(factor)
        if strength == 0:
            return cls(0.0)
        red, green, blue = (value / strength for value in factor)
        return cls(strength, (red, green, blue))


class Relighting:
    """A split picture whose lights a person changes. Not thread-safe.

    Args:
        split: the pictures under one light each.
        scene: that it shows, for `follow`; None for a picture of a file.
        groups: the lights of the scene in each picture.

    Attributes:
        split: the pictures under one light each.
    """

    def __init__(self, split: Split, scene: Scene | None = None, groups: Sequence[LightGroup] = ()) -> None:
        self.split = split
        self._scene, self._groups = scene, tuple(groups)
        self._settings = dict.fromkeys(split.lights, LightSetting())
        # The light that was changed last, the others' factors, and their sum (h, w, 3): a drag changes one light.
        self._others: tuple[str, dict[str, RGB], Float32Array] | None = None
        self._last = next(iter(split.lights))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Relighting:
        """That of a file which `Split.save` or `render --split-lights` wrote.

        Raises:
            InputError: as `Split.load`.
        """
        return cls(Split.load(path))

    @classmethod
    def of(
        cls,
        renderer: Renderer,
        lit: LitScene,
        camera: Camera,
        resolution: int | tuple[int, int],
        progress: Progress | None = None,
        cancel: Cancel | None = None,
    ) -> Relighting:
        """Draw a scene split by its lights from one camera; takes about as long as a picture, with a network as long as
        a picture for each light.

        Raises:
            InputError, Cancelled: as `Renderer.split`; a scene without light.
        """
        (split,) = renderer.split(lit, resolution, camera, progress, cancel)
        return cls(split, lit.scene, light_groups(lit.scene, MOST, renderer.casts_rays))

    @property
    def lights(self) -> tuple[str, ...]:
        """The names of the lights in order."""
        return tuple(self._settings)

    @property
    def factors(self) -> dict[str, RGB]:
        """By name, as `Split.relight` takes them."""
        return {name: setting.factor for name, setting in self._settings.items()}

    @property
    def settings(self) -> dict[str, LightSetting]:
        """How each light is changed, by name; may be set."""
        return dict(self._settings)

    @settings.setter
    def settings(self, settings: dict[str, LightSetting]) -> None:
        self._settings = dict(settings)

    def setting(self, name: str) -> LightSetting:
        """How a light is changed.

        Raises:
            InputError: an unknown name.
        """
        if name not in self._settings:
            raise InputError(f"light {name!r}", "there is no such light", f"there are: {', '.join(self._settings)}")
        return self._settings[name]

    def change(self, name: str, **changes: Any) -> None:
        """Change a light.

        Args:
            changes: fields of `LightSetting`.

        Raises:
            InputError: an unknown name, or a value out of range; nothing is changed.
        """
        self._settings[name] = replace(self.setting(name), **changes)
        self._last = name

    def only(self, name: str) -> None:
        """Switch all other lights off; if they are, switch all lights on."""
        self.setting(name)
        alone = all(setting.on == (other == name) for other, setting in self._settings.items())
        for other, setting in self._settings.items():
            self._settings[other] = replace(setting, on=alone or other == name)

    def reset(self) -> None:
        """Take back all changes."""
        self._settings = dict.fromkeys(self._settings, LightSetting())

    def picture(self) -> Image:
        """The picture under the changed lights."""
        factors = self.factors
        total, factor = self._sum_of_others(factors), np.array(factors[self._last], np.float32)
        return replace(self.split.joint, hdr=total + self.split.lights[self._last] * factor, layers={})

    def _sum_of_others(self, factors: dict[str, RGB]) -> Float32Array:
        others = {name: factor for name, factor in factors.items() if name != self._last}
        known = self._others
        if known is None or known[0] != self._last or known[1] != others:
            total = self.split.relight({**others, self._last: 0}).hdr
            known = self._others = self._last, others, total
        return known[2]

    def follow(self, scene: Scene) -> bool:
        """Take the factors of a scene that differs from the one which was drawn by strengths and colours of its lights
        alone; returns whether it does. Nothing is changed if not.
        """
        factors = None if self._scene is None else factors_between(self._scene, scene)
        if factors is None:
            return False
        settings = dict.fromkeys(self._settings, LightSetting())
        for group in self._groups:
            found = {factors[name] for name in ((None,) if group.environment else group.objects)}
            # Lights that share a picture change together or not at all.
            if len(found) != 1:
                return False
            settings[group.name] = LightSetting.of(found.pop())
        changed = [name for name, setting in settings.items() if setting != self._settings[name]]
        self._settings, self._last = settings, changed[0] if len(changed) == 1 else self._last
        return True


def factors_between(before: Scene, after: Scene) -> dict[str | None, RGB] | None:
    """By what the lights of a scene were multiplied in a later state of it; None if they are not all that was changed.

    Returns:
        By name of every object that emits, and that of the environment by None.
    """
    if len(before.objects) != len(after.objects):
        return None
    factors: dict[str | None, RGB] = {}
    for old, new in zip(before.objects, after.objects, strict=True):
        factor = _of_mesh(old, new)
        if factor is None:
            return None
        if old.emits:
            factors[old.name] = factor
    strength = _of_environment(before.environment, after.environment)
    return None if strength is None else {**factors, None: (strength, strength, strength)}


def _of_mesh(before: Mesh, after: Mesh) -> RGB | None:
    """The factor of the emission of a mesh, None if anything else was changed."""
    if before is after or _same(before, after):
        return 1.0, 1.0, 1.0
    if not before.emits or before.name != after.name or not _same(before.dimmed(0.0), after.dimmed(0.0)):
        return None
    old, new = before.materials[:, EMISSION], after.materials[:, EMISSION]
    total, now = old.sum(axis=0, dtype=np.float64), new.sum(axis=0, dtype=np.float64)
    factor = np.divide(now, total, out=np.ones(3), where=total > 0)
    pairs: list[tuple[AnyArray, AnyArray]] = [(old * factor, new)]
    if before.patches is not None and after.patches is not None:
        pairs.append((before.patches[:, EMISSION] * factor[:, None, None], after.patches[:, EMISSION]))
    if not all(np.allclose(*pair, rtol=ROUNDING, atol=1e-6 * float(now.max())) for pair in pairs):
        return None
    red, green, blue = factor.tolist()
    return red, green, blue


def _same(before: Mesh, after: Mesh) -> bool:
    return before.name == after.name and fingerprint(Scene((before,))) == fingerprint(Scene((after,)))


def _of_environment(before: Environment | None, after: Environment | None) -> float | None:
    """The factor of the strength of an environment, None if anything else was changed."""
    if before is after:
        return 1.0
    if before is None or after is None or before.strength == 0:
        return None
    settings = [(part.rotation, part.background, part.suns) for part in (before, after)]
    if settings[0] != settings[1] or not np.array_equal(before.image, after.image):
        return None
    return after.strength / before.strength
