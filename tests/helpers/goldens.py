"""The goldens (tests/goldens/README.md) as files of the original program."""

from __future__ import annotations

import json
import math
import shutil
import zlib
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

GOLDENS = Path(__file__).parents[1] / "goldens"
# full_base has 205 million weights; its test draws them into a model without a file.
CHECKPOINTS = ("base_like", "swin_like", "base_p32")

Numbers = TypeVar("Numbers", Tensor, NDArray[np.float64])


def unpack(folder: Path) -> Path:
    """Copy the goldens into a folder, with a model.safetensors for each small checkpoint."""
    shutil.copytree(GOLDENS, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    for case in CHECKPOINTS:
        save_file(draw_weights(folder / case), folder / case / "model.safetensors")
    return folder


def draw_weights(case: Path) -> dict[str, Tensor]:
    """The state dictionary of a case, float32: random numbers from its seed, and the few tensors that are stored."""
    recipe = json.loads((case / "drawn.json").read_text())
    seed, shapes = recipe["seed"], recipe["shapes"]
    weights = load_file(case / "fixed.safetensors")
    if recipe["stream"] == "torch":
        # One stream for all tensors, so their order counts.
        generator = torch.Generator().manual_seed(seed)
        weights |= {key: scale(key, torch.randn(shape, generator=generator)) for key, shape in shapes.items()}
    else:
        weights |= {key: torch.from_numpy(_uniform(key, shape, seed)) for key, shape in shapes.items()}
    return weights


def scale(key: str, unit: Numbers) -> Numbers:
    """Random numbers of zero mean and unit variance, scaled for the parameter of that name."""
    if key.endswith("token") or key == "reg_tokens":
        return 0.7 * unit
    if unit.ndim == 1:
        if "norm" not in key:
            return 0.2 * unit
        around_one = 1.0 + 0.25 * unit
        return 1.6 * around_one if "q_norm" in key or "k_norm" in key else around_one
    transposed = "resize_layers.0" in key or "resize_layers.1" in key
    fan_in = unit.shape[0] if transposed else math.prod(unit.shape[1:])
    return unit * ((1.2 if "ffn" in key else 1.0) / math.sqrt(fan_in))


def _uniform(key: str, shape: list[int], seed: int) -> NDArray[np.float32]:
    """A tensor from a stream of its own; NumPy guarantees that RandomState does not change."""
    stream = np.random.RandomState((zlib.crc32(key.encode()) ^ (seed * 2654435761)) & 0xFFFFFFFF)  # noqa: NPY002
    unit = (2 * stream.random_sample(shape) - 1) * math.sqrt(3)
    return scale(key, unit).astype(np.float32)
