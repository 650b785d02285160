"""The training configuration, which the files in `configs/` hold."""

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
    """Settings of a training run.

    Attributes:
        model: keys of a model's configuration (`renderformer.config`).
        steps: optimizer steps of the run.
        budget: minutes of the run, over all calls; replaces `steps` unless 0.
        batch: scenes per step, over all processes.
        views: per scene and step, at the smallest resolution.
        learning_rate: peak, after a linear warm-up and before a cosine decay to zero.
        warmup: share of the run.
        loss: one of `renderformer.training.objective.LOSS_NAMES`.
        clip: largest gradient norm.
        ema: decay of the averaged weights.
        larger_from: share of the run after which the sets of larger resolutions are used too.
        augment: rotate, mirror and recolour scenes.
        evaluate_every, save_every: in steps.
        sample_every: steps between sheets of held-out views; 0 for none.
        refresh_every: steps between searches for new shards.
        checkpointing: gradient checkpointing, less memory for more time.
        precision: "bf16" (autocast), "fp32", or "auto", see `make_accelerator`.
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
    loss: Literal["tone", "log", "relative", "gradient", "correction"] = "tone"
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
        InputError: an unreadable file, an unknown key, or a value of the wrong type or range.
    """
    try:
        values = yaml.safe_load(read_bytes(Path(path), MAX_CONFIG_BYTES).decode())
    except (InputError, yaml.YAMLError, UnicodeDecodeError) as error:
        reason = error.problem if isinstance(error, InputError) else str(error).splitlines()[0]
        remedy = "give a training configuration, such as configs/embedded.yaml"
        raise InputError(path, f"cannot be read as YAML, {reason}", remedy) from None
    return TrainingConfig.read(values, path)
