"""The layers that a picture may have beside it (AOVs), and how files store them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from renderformer.data.errors import InputError


@dataclass(frozen=True)
class Aov:
    """A kind of layer.

    Attributes:
        letters: of its channels in an EXR file, behind the name and a point.
        exact: whether it is stored in 32 bits always, since it is no light.
        light: whether the exposure applies.
    """

    letters: str = "RGB"
    exact: bool = False
    light: bool = False

    @property
    def channels(self) -> tuple[int, ...]:
        """Its shape behind that of the picture."""
        return () if len(self.letters) == 1 else (len(self.letters),)


_LIGHT = Aov(light=True)
AOVS: Mapping[str, Aov] = {
    "depth": Aov("Z", exact=True),
    "normal": Aov("XYZ"),
    "albedo": Aov(),
    "position": Aov("XYZ", exact=True),
    "object": Aov("X", exact=True),
    "triangle": Aov("X", exact=True),
    "direct": _LIGHT,
    "indirect": _LIGHT,
    "highlight": _LIGHT,
    "reflection": _LIGHT,
    "emission": _LIGHT,
    "background": _LIGHT,
}


# Layers of single lights (`renderformer.split`) are called this and the light's name.
LIGHT = "light."


def aov_of(name: str) -> Aov | None:
    """The kind of a layer by its name, None for an unknown one."""
    return _LIGHT if name.startswith(LIGHT) else AOVS.get(name)


def checked(names: Sequence[str]) -> tuple[str, ...]:
    """Names of AOVS, each once, in the order of AOVS.

    Raises:
        InputError: an unknown name.
    """
    if isinstance(names, str):
        raise InputError("aovs", f"is {names!r}", "give a sequence of names")
    for name in names:
        if name not in AOVS:
            raise InputError("aovs", f"{name!r} is unknown", f"there are {', '.join(AOVS)}")
    return tuple(name for name in AOVS if name in names)
