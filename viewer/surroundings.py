"""The environment of the document, as a person chooses it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from renderformer.data.environment import Environment
from renderformer.data.environments import ENVIRONMENTS
from renderformer.data.errors import InputError
from renderformer.data.scene import Scene

# Kinds of surroundings beside those of `ENVIRONMENTS`: no environment, and that of the scene as it was opened.
NONE, OWN = "none", "the scene's own"


@dataclass(frozen=True, eq=False)
class Surroundings:
    """The environment that a person chose.

    Attributes:
        kind: `NONE`, `OWN` or a name of `ENVIRONMENTS`.
        present: the environment with its strength, rotation and background; black for `NONE`, which keeps them.
        own: of the scene as it was opened, or None.
        files: those from files, with the names of the files.
    """

    kind: str
    present: Environment
    own: Environment | None
    files: tuple[tuple[str, Environment], ...] = ()

    @classmethod
    def of(cls, scene: Scene) -> Surroundings:
        """Those of a scene that is opened."""
        own = scene.environment
        return cls(NONE, Environment(0.0, name=NONE), None) if own is None else cls(OWN, own, own)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds that can be chosen."""
        return (NONE, *ENVIRONMENTS, *dict(self.files), *([] if self.own is None else [OWN]))

    @property
    def environment(self) -> Environment | None:
        """For the scene; None where there is nothing to light it and nothing to show."""
        return None if self.kind == NONE and not self.present.is_clear else self.present

    def chosen(self, kind: str) -> Surroundings:
        """Of another kind, with the same strength, rotation and background.

        Raises:
            InputError: an unknown kind.
        """
        if kind not in self.kinds:
            raise InputError("environment", f"is {kind[:60]!r}", f"expected {', '.join(self.kinds)}")
        source = Environment(0.0, name=NONE)
        if kind == OWN and self.own is not None:
            source = self.own
        elif kind in dict(self.files):
            source = dict(self.files)[kind]
        elif kind != NONE:
            source = ENVIRONMENTS[kind]()
        kept = {key: getattr(self.present, key) for key in ("strength", "rotation", "background")}
        return replace(self, kind=kind, present=source.replace(**kept))

    def opened(self, name: str, environment: Environment) -> Surroundings:
        """With an environment from a file, which is chosen."""
        kind = f"file {name}" if name in (NONE, OWN, *ENVIRONMENTS) else name
        known = replace(self, files=(*(pair for pair in self.files if pair[0] != kind), (kind, environment)))
        # Without an environment, strength and rotation mean nothing.
        return replace(known, kind=kind, present=environment) if self.kind == NONE else known.chosen(kind)

    def changed(self, **changes: Any) -> Surroundings:
        """With another strength, rotation or background.

        Raises:
            InputError: a value out of range, or light of no environment.
        """
        if self.kind == NONE and changes.keys() - {"background"}:
            raise InputError("environment", "there is none", "choose one first")
        return replace(self, present=self.present.replace(**changes))
