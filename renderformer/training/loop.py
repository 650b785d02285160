"""The training loop: AdamW with warm-up and cosine, EMA, checkpoints that resume exactly.

Randomness is a function of the seed and the step, so a resumed run draws what an uninterrupted one would have.
A run's folder holds `log.csv`, `state.safetensors` (the newest full state, one file, so that its parts belong together)
and `model/` (the EMA weights in the release format).
"""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from renderformer.checkpoints import save_model
from renderformer.config import ModelConfig
from renderformer.data.errors import InputError
from renderformer.data.files import atomic_path
from renderformer.model import RenderFormer
from renderformer.training.dataset import TrainingSet, collate
from renderformer.training.evaluation import evaluate, predict

STATE_FILE = "state.safetensors"


@dataclass(frozen=True)
class TrainingConfig:
    """What `configs/*.yaml` hold.

    Attributes:
        model: keys of `ModelConfig`.
        steps: optimizer steps in all; the learning rate falls to zero at the last (cosine) after `warmup` steps.
        batch: scenes a step; views: of each scene a step.
        clip: largest gradient norm; ema: decay of the averaged weights.
        evaluate_every, save_every: in steps. refresh_every: look for new shards.
        precision: "bf16" (autocast) or "fp32".
    """

    model: dict[str, Any] = field(default_factory=dict)
    steps: int = 10000
    batch: int = 8
    views: int = 4
    learning_rate: float = 1e-3
    warmup: int = 200
    weight_decay: float = 0.02
    clip: float = 1.0
    ema: float = 0.998
    seed: int = 0
    evaluate_every: int = 500
    save_every: int = 250
    refresh_every: int = 500
    precision: str = "bf16"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str) -> TrainingConfig:
        """Raises InputError for a key that is unknown or a value of the wrong type or range."""
        known = {f.name: f for f in fields(cls)}
        for key, value in values.items():
            if key not in known:
                raise InputError(f"{where}: unknown key {key!r}; known are {', '.join(known)}")
            kind = str(known[key].type)
            right = {
                "int": isinstance(value, int) and not isinstance(value, bool) and value >= 0,
                "float": isinstance(value, int | float) and not isinstance(value, bool) and value >= 0,
                "str": value in ("bf16", "fp32"),
            }.get(kind, isinstance(value, dict))
            if not right:
                raise InputError(f"{where}: {key} is {value!r}, expected {kind}, not negative")
        return cls(**values)


def tone(radiance: Tensor) -> Tensor:
    """A curve for the loss: the display's gamma below 1, logarithmic above, finite slope at 0."""
    low = (radiance.clamp(0, 1) + 0.01) ** (1 / 2.2)
    return low + torch.log1p((radiance - 1).clamp_min(0)) / 4 + (radiance.clamp(max=0)) * 4


def loss_of(picture: Tensor, reference: Tensor) -> Tensor:
    """Charbonnier distance of tone-mapped pictures: squared where small (which PSNR counts), linear at outliers."""
    difference = tone(picture) - tone(reference)
    return (torch.sqrt(difference.square() + 0.03**2) - 0.03).mean() * 10


class Trainer:
    """One run in one folder. Resumes when the folder holds a state; else starts from `init`, a model of the same
    configuration, or from random weights.

    Raises:
        InputError: the folder's state belongs to another configuration.
    """

    def __init__(
        self,
        config: TrainingConfig,
        data: TrainingSet,
        held_out: TrainingSet | None,
        out: Path,
        init: RenderFormer | None = None,
    ) -> None:
        self.config, self.data, self.held_out, self.out = config, data, held_out, out
        out.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(config.seed)
        self.model = RenderFormer(ModelConfig.from_dict(config.model, "model"))
        if init is not None:
            if init.config != self.model.config:
                raise InputError("the model to start from has another configuration than the training's `model`")
            self.model.load_state_dict(init.state_dict())
        self.ema = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        # Gains, biases and tokens are not shrunk.
        matrices = [p for p in self.model.parameters() if p.ndim >= 2 and p.shape[0] > 1]
        rest = [p for p in self.model.parameters() if p.ndim < 2 or p.shape[0] == 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": config.weight_decay}, {"params": rest, "weight_decay": 0.0}],
            lr=config.learning_rate,
            betas=(0.9, 0.98),
        )
        self.step, self.seconds = 0, 0.0
        if (out / STATE_FILE).exists():
            self._resume()

    def run(self, report: Callable[[str], None], until: float | None = None) -> bool:
        """Train to the last step, or until `time.monotonic()` passes `until`; True when the last step was reached.

        Raises:
            FloatingPointError: the loss is not finite in ten steps running.
        """
        bad, losses, start = 0, [], time.monotonic()
        while self.step < self.config.steps:
            if self.step and self.step % self.config.refresh_every == 0 and (added := self.data.refresh()):
                report(f"step {self.step}: {added} new scenes, {len(self.data)} in all")
            loss = self._step()
            bad = 0 if math.isfinite(loss) else bad + 1
            if bad == 10:
                raise FloatingPointError(f"step {self.step}: loss not finite for ten steps; lower the rate")
            losses.append(loss)
            self.step += 1
            now = time.monotonic()
            self.seconds, start = self.seconds + now - start, now
            last = self.step == self.config.steps or (until is not None and now > until)
            if self.step % self.config.evaluate_every == 0 or last:
                self._evaluate(float(np.mean(losses)), report)
                losses, start = [], time.monotonic()
            if self.step % self.config.save_every == 0 or last:
                self.save()
            if last:
                break
        return self.step >= self.config.steps

    def _step(self) -> float:
        config = self.config
        rng = np.random.default_rng([config.seed, self.step])
        # One pass over a shuffled order before any scene repeats.
        order = np.random.default_rng([config.seed, 1, self.step * config.batch // len(self.data)])
        start = self.step * config.batch % len(self.data)
        rows = np.take(order.permutation(len(self.data)), range(start, start + config.batch), mode="wrap")
        batch = collate([self.data.examples[i] for i in rows], config.views, rng)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(self.step)
        with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bf16"):
            # The channels are permuted at random, so one of them is a fair sample at a third of the cost.
            picture = predict(self.model, batch, 1 if self.model.config.ray_features != "none" else 3)
        loss = loss_of(picture.float(), batch.hdr[..., : picture.shape[-1]])
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.clip)
        if bool(torch.isfinite(norm)):
            self.optimizer.step()
            decay = min(config.ema, (1 + self.step) / (10 + self.step))
            with torch.no_grad():
                for name, value in self.model.state_dict().items():
                    self.ema[name].lerp_(value, 1 - decay)
        return loss.item()

    def learning_rate(self, step: int) -> float:
        """Linear warm-up, then a cosine to zero at the last step."""
        config = self.config
        if step < config.warmup:
            return config.learning_rate * (step + 1) / config.warmup
        progress = (step - config.warmup) / max(1, config.steps - config.warmup)
        return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    def averaged_model(self) -> RenderFormer:
        """A model with the averaged weights."""
        model = RenderFormer(self.model.config).eval()
        model.load_state_dict(self.ema)
        return model

    def _evaluate(self, loss: float, report: Callable[[str], None]) -> None:
        row: dict[str, float] = {
            "step": self.step,
            "seconds": round(self.seconds, 1),
            "scenes": len(self.data),
            "loss": round(loss, 5),
            "rate": self.learning_rate(self.step),
        }
        if self.held_out is not None:
            scores = evaluate(self.averaged_model(), self.held_out)
            row |= {name: round(float(values.mean()), 4) for name, values in scores.items()}
        path = self.out / "log.csv"
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            if new:
                writer.writeheader()
            writer.writerow(row)
        report(", ".join(f"{key} {value:.6g}" for key, value in row.items()))

    def save(self) -> None:
        """Write the full state, then the averaged weights as a model folder; each appears whole."""
        tensors: dict[str, Tensor] = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"ema.{k}": v for k, v in self.ema.items()}
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"adam.{key}.{name}"] = value
        state = {"step": self.step, "seconds": self.seconds, "config": asdict(self.config)}
        with atomic_path(self.out / STATE_FILE) as temporary:
            save_file(
                {k: v.detach().contiguous() for k, v in tensors.items()}, temporary, {"state": json.dumps(state)}
            )
        save_model(self.averaged_model(), self.out / "model", dtype=torch.float16)

    def _resume(self) -> None:
        with safe_open(self.out / STATE_FILE, "pt") as file:
            state = json.loads(file.metadata()["state"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
        if state["config"]["model"] != self.config.model:
            raise InputError(f"{self.out}: holds the state of another model; choose another --out")
        self.model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
        self.ema = {k[4:]: v for k, v in tensors.items() if k.startswith("ema.")}
        for name, parameter in self.model.named_parameters():
            self.optimizer.state[parameter] = {
                key: tensors[f"adam.{key}.{name}"] for key in ("step", "exp_avg", "exp_avg_sq")
            }
        self.step, self.seconds = state["step"], state["seconds"]
