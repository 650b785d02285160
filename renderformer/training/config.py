"""What the files in `configs/` hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from renderformer.data.errors import InputError

# The values that a number may have where it is not simply positive.
_RANGES: dict[str, tuple[float, float]] = {
    "seed": (0, 1 << 32),
    "sample_every": (0, 1e9),
    "budget": (0, 1e6),
    "warmup": (0, 1),
    "larger_from": (0, 1),
    "weight_decay": (0, 1),
    "ema": (0, 1),
}
_CHOICES = {"precision": ("auto", "bf16", "fp32"), "loss": ("tone", "log", "relative", "gradient")}


@dataclass(frozen=True)
class TrainingConfig:
    """How to train a model.

    Attributes:
        model: keys of `ModelConfig`.
        steps: optimizer steps in all.
        budget: minutes in all, over all chunks of a run; not 0, it takes the place of `steps`.
        batch: scenes a step, over all processes; views: of each scene a step, at the smallest resolution.
        learning_rate: after a warm-up over the share `warmup` of the training; falls to zero at its end (cosine).
        loss: a key of `renderformer.training.objective.LOSSES`.
        clip: largest gradient norm; ema: decay of the averaged weights.
        larger_from: the share of the training after which sets of a larger resolution join in.
        augment: whether scenes are turned, mirrored and recoloured.
        evaluate_every, save_every: in steps. refresh_every: look for new shards.
        sample_every: write a sheet of held-out views, in steps; 0 for never.
        checkpointing: make activations again in the backward pass instead of keeping them; less memory, more time.
        precision: "bf16" (autocast), "fp32", or "auto": bf16 where the device computes in it, see `make_accelerator`.
    """

    model: dict[str, Any] = field(default_factory=dict)
    steps: int = 10000
    budget: float = 0.0
    batch: int = 8
    views: int = 4
    learning_rate: float = 1e-3
    warmup: float = 0.05
    weight_decay: float = 0.02
    loss: str = "tone"
    clip: float = 1.0
    ema: float = 0.998
    larger_from: float = 0.7
    augment: bool = True
    seed: int = 0
    evaluate_every: int = 500
    save_every: int = 250
    sample_every: int = 1000
    refresh_every: int = 500
    checkpointing: bool = False
    precision: str = "auto"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str) -> TrainingConfig:
        """Raises InputError for a key that is unknown or a value of the wrong type or range."""
        known = {f.name: str(f.type) for f in fields(cls)}
        for key, value in values.items():
            if key not in known:
                raise InputError(where, f"unknown key {key!r}", f"known are {', '.join(known)}")
            problem = _problem(key, known[key], value)
            if problem:
                raise InputError(where, f"{key} is {value!r}", f"expected {problem}")
        return cls(**values)


def _problem(key: str, kind: str, value: Any) -> str:
    """What is expected instead, or ""."""
    if key in _CHOICES:
        return "" if value in _CHOICES[key] else f"one of {', '.join(_CHOICES[key])}"
    if kind == "bool":
        return "" if isinstance(value, bool) else "true or false"
    if kind in ("int", "float"):
        least, most = _RANGES.get(key, (1 if kind == "int" else 1e-9, 1e9))
        right = isinstance(value, int if kind == "int" else int | float) and not isinstance(value, bool)
        number = "a whole number" if kind == "int" else "a number"
        return "" if right and least <= value <= most else f"{number} from {least:g} to {most:g}"
    return "" if isinstance(value, dict) else "keys and values"
