"""The training loop: AdamW with warm-up and cosine, EMA, full states that resume exactly.

Randomness is a function of the seed and the step, so a resumed run draws what an uninterrupted one would have.
A run's folder holds `log.csv`, `state.safetensors` (the newest full state, one file, so that its parts belong
together), `model/` (the EMA weights in the release format) and `samples/` (sheets of held-out views). Devices,
processes and precision are accelerate's business.
"""

from __future__ import annotations

import csv
import json
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from renderformer.checkpoints import build_model, save_model
from renderformer.config import Config, config_from_dict
from renderformer.data.errors import InputError
from renderformer.data.files import atomic_path
from renderformer.evaluation.measurement import baselines, evaluate
from renderformer.model import RenderFormer, ShadingModel
from renderformer.training.config import TrainingConfig
from renderformer.training.dataset import Batch, Steps, TrainingSet
from renderformer.training.objective import Objective
from renderformer.training.samples import write_sheet

STATE_FILE, LOG_FILE, MODEL_FOLDER, SAMPLE_FOLDER = "state.safetensors", "log.csv", "model", "samples"
Report = Callable[[str], None]
Tensors = tuple[Tensor, ...] | list[Tensor]


class Trainer:
    """One run in one folder. Resumes when the folder holds a state; else starts from `init`, a model of the same
    configuration, or from random weights.

    Args:
        data: sets of scenes; those of the smallest resolution come first, the others join at `larger_from`.
        held_out: measured on, never trained on.
        loaders: processes that make batches; 0 for this one.

    Attributes:
        step: optimizer steps done; seconds: time spent on them, over all chunks; best: highest PSNR (dB) on the
            held-out scenes in this chunk.

    Raises:
        InputError: the folder's state belongs to another configuration, or the processes cannot share a step's scenes.
    """

    def __init__(
        self,
        config: TrainingConfig,
        data: Sequence[TrainingSet],
        held_out: TrainingSet | None,
        out: Path,
        init: RenderFormer | ShadingModel | None = None,
        accelerator: Accelerator | None = None,
        loaders: int = 0,
    ) -> None:
        self.accelerator = accelerator or make_accelerator(config.precision)
        if config.batch % self.accelerator.num_processes:
            raise InputError(
                "",
                f"batch {config.batch} does not split over {self.accelerator.num_processes} processes",
                "use a multiple",
            )
        self.config, self.held_out, self.out, self.loaders = config, held_out, out, loaders
        self.data = sorted(data, key=lambda part: part.resolution)
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(out, f"cannot make this folder, {error.strerror or error}") from None
        torch.manual_seed(config.seed)
        self.model = build_model(config_from_dict(config.model, "model"))
        if init is not None:
            if init.config != self.model.config:
                raise InputError("--init", _difference(init.config, self.model.config), "they must be the same")
            self.model.load_state_dict(init.state_dict())
        self.model.to(self.accelerator.device)
        # Augmentation permutes the colour channels; where the model draws each on its own, one is a fair sample at a
        # third of the cost.
        one_channel = self.model.separate_channels and config.augment
        # Gains, biases and tokens are not shrunk.
        matrices = [p for p in self.model.parameters() if p.ndim >= 2 and p.shape[0] > 1]
        rest = [p for p in self.model.parameters() if p.ndim < 2 or p.shape[0] == 1]
        self.adam = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": config.weight_decay}, {"params": rest, "weight_decay": 0.0}],
            lr=config.learning_rate,
            betas=(0.9, 0.98),
            fused=True,
        )
        self.objective, self.optimizer = self.accelerator.prepare(
            Objective(self.model, config.loss, one_channel), self.adam
        )
        self.average = AveragedModel(self.model, multi_avg_fn=_decaying(config.ema)).eval()
        # After the copy for the averages, which are only looked at.
        self.model.set_recompute(config.checkpointing)
        self.step, self.seconds, self.best = 0, 0.0, -math.inf
        self.rows: list[dict[str, str]] = []
        self.watch = Watch()
        if (out / STATE_FILE).exists():
            self._resume()

    @property
    def averaged_model(self) -> RenderFormer | ShadingModel:
        """The model with the averaged weights."""
        model = self.average.module
        assert isinstance(model, RenderFormer | ShadingModel)
        return model

    @property
    def progress(self) -> float:
        """The share of the training that is done, by steps or by the clock."""
        if self.config.budget:
            return min(1.0, self.seconds / (60 * self.config.budget))
        return self.step / self.config.steps

    def learning_rate(self) -> float:
        """Linear warm-up, then a cosine to zero at the end."""
        peak, warmup, progress = self.config.learning_rate, self.config.warmup, self.progress
        if progress < warmup:
            return peak * (0.01 + 0.99 * progress / warmup)
        return peak * 0.5 * (1 + math.cos(math.pi * (progress - warmup) / max(1 - warmup, 1e-9)))

    def run(self, report: Report, until: float | None = None, goal: float = math.inf) -> bool:
        """Train to the end, or until `time.monotonic()` passes `until`, or until an evaluation gives `goal` dB; True
        when the end or the goal was reached.

        Raises:
            InputError: the loss is not finite in ten steps running, or has left the range that it was in.
        """
        start, before = time.monotonic(), self.seconds
        if self.step == 0:
            self._report_baselines(report)
        losses: list[float] = []
        batches: Iterator[Batch] | None = None
        all_sizes = reached = False
        while self.progress < 1:
            if self.step and self.step % self.config.refresh_every == 0 and self._refresh(report):
                batches = None
            if batches is None or all_sizes != (self.progress >= self.config.larger_from):
                all_sizes = self.progress >= self.config.larger_from
                batches = self._batches(all_sizes)
            loss = self._train(next(batches))
            losses.append(loss)
            self._check(loss)
            self.step += 1
            now = self._shared(time.monotonic() - start)
            self.seconds = before + now
            out_of_time = until is not None and start + now > until
            last = self.progress >= 1 or out_of_time
            if self.step % self.config.evaluate_every == 0 or last:
                self.best = max(self.best, self._shared(self._evaluate(float(np.mean(losses)), report)))
                reached, losses = self.best >= goal, []
                last = last or reached
            if self.config.sample_every and (self.step % self.config.sample_every == 0 or last):
                self._sample()
            if self.step % self.config.save_every == 0 or last:
                self.save()
            if last:
                break
        return reached or self.progress >= 1

    def _shared(self, value: float) -> float:
        """The main process's value, so that all take the same decisions by the clock."""
        if self.accelerator.num_processes == 1:
            return value
        shared = broadcast(torch.tensor(value, dtype=torch.float32, device=self.accelerator.device))
        return float(shared)

    def _refresh(self, report: Report) -> int:
        """New scenes; the main process casts their rays, the others wait for it."""
        with self.accelerator.main_process_first():
            added = sum(part.refresh() for part in self.data)
        if added:
            report(f"step {self.step}: {added} new scenes, {self._scenes()} in all")
        return added

    def _scenes(self) -> int:
        return sum(len(part) for part in self.data)

    def _batches(self, all_sizes: bool) -> Iterator[Batch]:
        """The batches from this step on; the smallest resolution alone unless `all_sizes`."""
        smallest = self.data[0].resolution
        sets = [part for part in self.data if all_sizes or part.resolution == smallest]
        config, accelerator = self.config, self.accelerator
        steps = Steps(
            sets,
            config.seed,
            config.batch,
            config.views,
            config.augment,
            accelerator.process_index,
            accelerator.num_processes,
        )
        on_gpu = accelerator.device.type == "cuda"
        # A training by the clock has no last step.
        numbers = range(self.step, self.step + (1 << 40))
        return iter(DataLoader(steps, None, sampler=numbers, num_workers=self.loaders, pin_memory=on_gpu))

    def _train(self, batch: Batch) -> float:
        """One step; returns the loss over all processes."""
        for group in self.adam.param_groups:
            group["lr"] = self.learning_rate()
        loss = self.objective(batch.to(self.accelerator.device))
        self.optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(loss)
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.clip)
        if bool(torch.isfinite(norm)):
            self.optimizer.step()
            self.average.update_parameters(self.model)
        return float(self.accelerator.reduce(loss.detach(), "mean"))

    def _check(self, loss: float) -> None:
        trouble = self.watch.add(loss)
        if trouble:
            state = self.out / STATE_FILE
            good = f"{state} holds the last good state; run again to go on from there" if state.exists() else "no state"
            raise InputError(
                f"step {self.step}",
                trouble,
                f"lower learning_rate ({self.config.learning_rate:g}) or clip ({self.config.clip:g}) in the "
                f"configuration; {good}",
            )

    def _evaluate(self, loss: float, report: Report) -> float:
        """Log a row; returns the PSNR on the held-out scenes, -inf without any and in other processes than the main."""
        if not self.accelerator.is_main_process:
            return -math.inf
        row: dict[str, float] = {
            "step": self.step,
            "seconds": round(self.seconds, 1),
            "scenes": self._scenes(),
            "loss": round(loss, 5),
            "rate": float(self.adam.param_groups[0]["lr"]),
        }
        if self.held_out is not None:
            scores = evaluate(self.averaged_model, self.held_out)
            row |= {name: round(float(values.mean()), 4) for name, values in scores.items()}
        self.rows.append({key: f"{value:.6g}" for key, value in row.items()})
        with atomic_path(self.out / LOG_FILE) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, list({key: None for row in self.rows for key in row}), restval="")
            writer.writeheader()
            writer.writerows(self.rows)
        report(", ".join(f"{key} {value}" for key, value in self.rows[-1].items()))
        return row.get("psnr", -math.inf)

    def _report_baselines(self, report: Report) -> None:
        """Report once what a picture without the network scores."""
        cast = self.model.config.pixel_channels > 0
        if self.held_out is not None and cast and self.accelerator.is_main_process:
            scores = {name: float(values.mean()) for name, values in baselines(self.held_out).items()}
            report("without the network: " + ", ".join(f"{name} {value:.6g}" for name, value in scores.items()))

    def _sample(self) -> None:
        if self.held_out is None or not self.accelerator.is_main_process:
            return
        folder = self.out / SAMPLE_FOLDER
        folder.mkdir(exist_ok=True)
        write_sheet(self.averaged_model, self.held_out, folder / f"step_{self.step:07d}.png")

    def save(self) -> None:
        """Write the full state, then the averaged weights as a model folder; each appears whole. Nothing is written
        while the loss is in doubt, so that the last state is a good one."""
        if not self.accelerator.is_main_process or self.watch.doubtful:
            return
        tensors: dict[str, Tensor] = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"ema.{k}": v for k, v in self.averaged_model.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            for key, value in self.adam.state.get(parameter, {}).items():
                tensors[f"adam.{key}.{name}"] = value
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "averaged": int(self.average.n_averaged),
            "config": self.config.model_dump(),
        }
        with atomic_path(self.out / STATE_FILE) as temporary:
            save_file(
                {k: v.detach().cpu().contiguous() for k, v in tensors.items()}, temporary, {"state": json.dumps(state)}
            )
        save_model(self.averaged_model, self.out / MODEL_FOLDER, dtype=torch.float16)

    def _resume(self) -> None:
        path = self.out / STATE_FILE
        try:
            with safe_open(path, "pt") as file:
                state = json.loads((file.metadata() or {})["state"])
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise InputError(path, f"is not the state of a training ({error})", "choose another --out") from None
        if config_from_dict(state["config"]["model"]) != self.model.config:
            raise InputError(self.out, "holds the state of another model", "choose another --out")
        self.model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
        self.averaged_model.load_state_dict({k[4:]: v for k, v in tensors.items() if k.startswith("ema.")})
        self.average.n_averaged.fill_(state["averaged"])
        for name, parameter in self.model.named_parameters():
            # A parameter that has had no gradient yet has no moments.
            moments = {key: tensors.get(f"adam.{key}.{name}") for key in ("step", "exp_avg", "exp_avg_sq")}
            self.adam.state[parameter] = {k: v.to(parameter.device) for k, v in moments.items() if v is not None}
        self.step, self.seconds = state["step"], state["seconds"]
        if (self.out / LOG_FILE).exists():
            # What was logged after the state was written will be logged again.
            with (self.out / LOG_FILE).open(newline="") as file:
                self.rows = [row for row in csv.DictReader(file) if int(row["step"]) <= self.step]


class Watch:
    """Tells from the losses when a training has gone wrong.

    Attributes:
        doubtful: whether the last losses are not finite or out of the range of those before.
    """

    BAD, RECENT, WINDOW, FACTOR = 10, 50, 500, 3.0

    def __init__(self) -> None:
        self._losses: deque[float] = deque(maxlen=self.RECENT + self.WINDOW)
        self._bad = 0
        self.doubtful = False

    def add(self, loss: float) -> str:
        """Take in a step's loss; returns what is wrong, or ""."""
        self._bad = 0 if math.isfinite(loss) else self._bad + 1
        if math.isfinite(loss):
            self._losses.append(loss)
        values = np.array(self._losses)
        before, recent = values[: -self.RECENT], values[-self.RECENT :]
        if len(before) < self.RECENT:
            self.doubtful = self._bad > 0
            return "the loss was not finite in ten steps running" if self._bad >= self.BAD else ""
        usual = float(np.median(before))
        self.doubtful = self._bad > 0 or float(np.median(recent[-self.BAD :])) > self.FACTOR * usual
        if self._bad >= self.BAD:
            return "the loss was not finite in ten steps running"
        now = float(np.median(recent))
        if now > self.FACTOR * usual:
            return f"the loss has diverged, from {usual:.3g} to {now:.3g} over the last {self.RECENT} steps"
        return ""


def make_accelerator(precision: str) -> Accelerator:
    """accelerate's view of this process: its device, its companions, its precision.

    "auto" is bf16 on a GPU that has it and on a CPU with AVX-512. Other CPUs emulate it: a product of 2048 x 256 by
    256 x 640 takes 348 ms instead of 11 (EPYC with AVX2 alone, 1 thread, 2026-11-23).
    """
    if precision == "auto":
        if torch.cuda.is_available():
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            fast = torch.backends.cpu.get_cpu_capability() == "AVX512"
        precision = "bf16" if fast else "fp32"
    return Accelerator(mixed_precision={"bf16": "bf16", "fp32": "no"}[precision])


def _decaying(decay: float) -> Callable[[Tensors, Tensors, Tensor | int], None]:
    """An update of averaged weights that forgets the first steps sooner."""

    @torch.no_grad()
    def update(averaged: Tensors, current: Tensors, count: Tensor | int) -> None:
        done = int(count)
        torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + done) / (10 + done)))

    return update


def _difference(init: Config, wanted: Config) -> str:
    ours, theirs = init.to_dict(), wanted.to_dict()
    key = next(key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key))
    return f"the model to start from has {key} {ours.get(key)!r}, the configuration's `model` has {theirs.get(key)!r}"
