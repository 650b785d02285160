"""Colours that nodes make of images, colour attributes of meshes and constants."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import formulas
from .images import key_of
from .nodes import source

# Steps of the tables of curves and ramps.
STEPS = 256


class NotDrawnError(Exception):
    """A node that is not evaluated; its name."""


@dataclass(frozen=True)
class Expression:
    """A value of nodes, which is equal to another one if it is made alike.

    Attributes:
        kind: "constant", "image", "attribute", or what is done with the inputs.
        settings: a constant's numbers; key and colour space of an image, number of its node, and output; name of an
            attribute; else of the node.
    """

    kind: str
    inputs: tuple[Expression, ...] = ()
    settings: tuple[Any, ...] = ()

    def leaves(self, kind: str) -> Iterator[Expression]:
        """The expressions of a kind that have no inputs."""
        if self.kind == kind:
            yield self
        for part in self.inputs:
            yield from part.leaves(kind)

    @property
    def places(self) -> frozenset[str]:
        """What it varies with: "image", "attribute"."""
        return frozenset(kind for kind in ("image", "attribute") if any(True for _ in self.leaves(kind)))

    def evaluate(self, known: Mapping[Expression, np.ndarray]) -> np.ndarray:
        """(..., 3) linear colours or (..., 1) numbers.

        Args:
            known: of the images and attributes.
        """
        if self.kind == "constant":
            return np.array(self.settings)
        if self.kind in ("image", "attribute"):
            return known[self]
        return _DOES[self.kind](self.settings, *[part.evaluate(known) for part in self.inputs])


def product(first: Expression, second: Expression) -> Expression:
    """Both, multiplied."""
    return Expression("mix", (Expression("constant", (), (1.0,)), first, second), ("MULTIPLY", False, False))


def factors(expression: Expression) -> tuple[Expression | None, Expression | None] | None:
    """What an expression is the product of: one that varies with images alone or not at all, and one that varies with
    attributes alone; None for an expression that is no such product."""
    if "attribute" not in expression.places:
        return expression, None
    if "image" not in expression.places:
        return None, expression
    one = expression.inputs[0] if expression.kind == "mix" and expression.settings[0] == "MULTIPLY" else None
    if one is None or one.kind != "constant" or one.settings != (1.0,) or expression.settings[2]:
        return None
    pairs = [factors(part) for part in expression.inputs[1:]]
    found: list[Expression | None] = []
    for number in (0, 1):
        parts = [pair[number] for pair in pairs if pair is not None and pair[number] is not None]
        found.append(parts[0] if len(parts) == 1 else None if not parts else product(*parts))  # type: ignore[arg-type]
    return None if None in pairs else (found[0], found[1])


class Reader:
    """Makes expressions of nodes.

    Attributes:
        images: image nodes of the expressions, by their leaves.
    """

    def __init__(self) -> None:
        self.images: dict[Expression, Any] = {}
        self._nodes: list[Any] = []

    def read(self, socket: Any) -> Expression:
        """The expression of an input.

        Raises:
            NotDrawnError: a node is linked to it that is not evaluated.
        """
        found = source(socket)
        if found is None:
            return _constant(socket.default_value)
        node = found.node
        if node.type in ("RGB", "VALUE"):
            return _constant(found.default_value)
        if node.type == "TEX_IMAGE" and node.image is not None:
            if node not in self._nodes:
                self._nodes.append(node)
            space, number = node.image.colorspace_settings.name, self._nodes.index(node)
            leaf = Expression("image", (), (key_of(node.image), space, number, found.name))
            self.images[leaf] = node
            return leaf
        own = getattr(node, "attribute_type", "GEOMETRY") == "GEOMETRY"
        if node.type in _ATTRIBUTES and found.name == "Color" and own:
            return Expression("attribute", (), (getattr(node, _ATTRIBUTES[node.type]),))
        made = _NODES.get(node.type)
        expression = None if made is None else made(self, node, found.name)
        if expression is None:
            raise NotDrawnError(node.name.rstrip(".0123456789"))
        return expression

    def inputs(self, node: Any, *names: str) -> tuple[Expression, ...]:
        """The expressions of inputs of a node by their identifiers."""
        sockets = {getattr(socket, "identifier", socket.name): socket for socket in node.inputs.values()}
        return tuple(self.read(sockets[name]) for name in names)


def _constant(values: Any) -> Expression:
    numbers = [values] if isinstance(values, int | float) else list(values)[:3]
    return Expression("constant", (), tuple(float(number) for number in numbers))


def _mix(reader: Reader, node: Any, output: str) -> Expression | None:
    legacy = node.type == "MIX_RGB"
    if node.blend_type not in formulas.BLENDS or not (legacy or node.data_type == "RGBA"):
        return None
    names = ("Fac", "Color1", "Color2") if legacy else ("Factor_Float", "A_Color", "B_Color")
    clamps = (True, node.use_clamp) if legacy else (node.clamp_factor, node.clamp_result)
    return Expression("mix", reader.inputs(node, *names), (node.blend_type, *clamps))


def _curves(reader: Reader, node: Any, output: str) -> Expression:
    mapping = node.mapping
    mapping.initialize()
    red, green, blue, every = mapping.curves
    at = [mapping.evaluate(every, step / STEPS) for step in range(STEPS + 1)]
    table = tuple(tuple(mapping.evaluate(curve, x) for curve in (red, green, blue)) for x in at)
    return Expression("curves", reader.inputs(node, "Fac", "Color"), table)


def _ramp(reader: Reader, node: Any, output: str) -> Expression | None:
    if output != "Color":
        return None
    steps = range(STEPS + 1)
    table = tuple(tuple(float(v) for v in list(node.color_ramp.evaluate(step / STEPS))[:3]) for step in steps)
    return Expression("ramp", reader.inputs(node, "Fac"), table)


def _separate(reader: Reader, node: Any, output: str) -> Expression | None:
    legacy = node.type == "SEPRGB"
    channels = ("R", "G", "B") if legacy else ("Red", "Green", "Blue")
    if getattr(node, "mode", "RGB") != "RGB" or output not in channels:
        return None
    return Expression("channel", reader.inputs(node, "Image" if legacy else "Color"), (channels.index(output),))


def _plain(kind: str, *names: str) -> Any:
    return lambda reader, node, output: Expression(kind, reader.inputs(node, *names))


# The names of attributes that nodes read.
_ATTRIBUTES = {"VERTEX_COLOR": "layer_name", "ATTRIBUTE": "attribute_name"}
_NODES: dict[str, Any] = {
    "MIX": _mix, "MIX_RGB": _mix, "CURVE_RGB": _curves, "VALTORGB": _ramp, "SEPARATE_COLOR": _separate,
    "SEPRGB": _separate,
    "HUE_SAT": _plain("adjusted", "Color", "Hue", "Saturation", "Value", "Fac"),
    "BRIGHTCONTRAST": _plain("contrasted", "Color", "Bright", "Contrast"),
    "GAMMA": _plain("powered", "Color", "Gamma"), "INVERT": _plain("inverted", "Fac", "Color"),
    "RGBTOBW": _plain("grey", "Color"),
}  # fmt: skip


def _mixed(settings: Any, share: Any, first: Any, second: Any) -> Any:
    kind, clamped, cut = settings
    share = np.clip(formulas.grey(share), 0, 1) if clamped else formulas.grey(share)
    made = formulas.mixed(kind, share, first, second)
    return np.clip(made, 0, 1) if cut else made


def _numbers(formula: Any) -> Any:
    """A formula of a colour and numbers."""
    return lambda settings, values, *numbers: formula(values + np.zeros(3), *map(formulas.grey, numbers))


# What is done with settings and inputs.
_DOES: dict[str, Any] = {
    "mix": _mixed, "adjusted": _numbers(formulas.adjusted), "contrasted": _numbers(formulas.contrasted),
    "powered": _numbers(formulas.powered), "grey": lambda settings, values: formulas.grey(values),
    "inverted": lambda settings, share, values: formulas.between(values, 1 - values, formulas.grey(share)),
    "curves": lambda settings, share, values: formulas.between(
        values, formulas.looked_up(values, np.array(settings)), formulas.grey(share)
    ),
    "ramp": lambda settings, share: formulas.looked_up(formulas.grey(share), np.array(settings)),
    "channel": lambda settings, values: (values + np.zeros(3))[..., settings[0], None],
}  # fmt: skip
