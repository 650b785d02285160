"""What the files in `configs/` hold."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field

from renderformer.data.declared import Declared
from renderformer.data.errors import InputError
from renderformer.data.files import MAX_CONFIG_BYTES, read_bytes

Count = Annotated[int, Field(ge=1, le=10**9)]
Positive = Annotated[float, Field(ge=1e-9, le=1e9)]
Share = Annotated[float, Field(ge=0, le=1)]


class TrainingConfig(Declared):
    """How to train a model.

    Attributes:
        model: keys of a model's configuration (`renderformer.config`).
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

    declared_place = "training configuration"

    model: dict[str, Any] = {}
    steps: Count = 10000
    budget: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    batch: Count = 8
    views: Count = 4
    learning_rate: Positive = 1e-3
    warmup: Share = 0.05
    weight_decay: Share = 0.02
    loss: Literal["tone", "log", "relative", "gradient"] = "tone"
    clip: Positive = 1.0
    ema: Share = 0.998
    larger_from: Share = 0.7
    augment: bool = True
    seed: Annotated[int, Field(ge=0, le=1 << 32)] = 0
    evaluate_every: Count = 500
    save_every: Count = 250
    sample_every: Annotated[int, Field(ge=0, le=10**9)] = 1000
    refresh_every: Count = 500
    checkpointing: bool = False
    precision: Literal["auto", "bf16", "fp32"] = "auto"


def load_config(path: str | os.PathLike[str]) -> TrainingConfig:
    """The training configuration in a YAML file.

    Raises:
        InputError: the file cannot be read, has an unknown key, or a value of the wrong type or range.
    """
    try:
        values = yaml.safe_load(read_bytes(Path(path), MAX_CONFIG_BYTES).decode())
    except (InputError, yaml.YAMLError, UnicodeDecodeError) as error:
        reason = error.problem if isinstance(error, InputError) else str(error).splitlines()[0]
        remedy = "give a training configuration, such as configs/embedded.yaml"
        raise InputError(path, f"cannot be read as YAML, {reason}", remedy) from None
    return TrainingConfig.read(values, path)
