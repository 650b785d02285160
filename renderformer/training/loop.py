"""The training loop: AdamW with warm-up and cosine decay, EMA, exact resumption.

Random numbers are a function of the seed and the step, so a resumed run equals an uninterrupted one. A run's folder has
`log.csv`, `state.safetensors` (the newest full state, in one file so that its parts match), `model/` (the EMA weights
in the release format) and `samples/` (sheets of held-out views). accelerate handles devices, processes and precision.
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
from renderformer.data.files import atomic_path, make_folder
from renderformer.evaluation.measurement import evaluate, first_scores
from renderformer.model import RenderFormer, ShadingModel
from renderformer.training.config import TrainingConfig
from renderformer.training.dataset import Batch, Steps, TrainingSet
from renderformer.training.objective import Objective
from renderformer.training.samples import write_sheet

STATE_FILE, LOG_FILE, MODEL_FOLDER, SAMPLE_FOLDER = "state.safetensors", "log.csv", "model", "samples"
Report = Callable[[str], None]
Tensors = tuple[Tensor, ...] | list[Tensor]


class Trainer:
    """One run in one folder. It resumes from the folder's state, or starts from `init` or from random weights.

    Args:
        data: sets of scenes; the smallest resolution is used from the start, the others from `larger_from` on.
        held_out: scenes for evaluation.
        init: a model of the same configuration.
        loaders: processes that make batches; 0 for this one.

    Attributes:
        step: optimizer steps done.
        seconds: training time, over all calls.
        best: highest PSNR (dB) on the held-out scenes in this call.

    Raises:
        InputError: the state belongs to another configuration, or the batch does not divide among the processes.
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
                "use a multiple of that number",
            )
        self.config, self.held_out, self.out, self.loaders = config, held_out, out, loaders
        self.data = sorted(data, key=lambda part: part.resolution)
        make_folder(out)
        torch.manual_seed(config.seed)
        self.model = build_model(config_from_dict(config.model, "model"))
        if init is not None:
            if init.config != self.model.config:
                raise InputError("--init", _difference(init.config, self.model.config), "they must be the same")
            self.model.load_state_dict(init.state_dict())
        self.model.to(self.accelerator.device)
        self.adam = _adamw(self.model, config)
        self.objective, self.optimizer = self.accelerator.prepare(Objective(self.model, config.loss), self.adam)
        self.average = AveragedModel(self.model, multi_avg_fn=_decaying(config.ema)).eval()
        # After the copy for the averages, which are never trained.
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
        """Finished share of the training, by steps or by time."""
        if self.config.budget:
            return min(1.0, self.seconds / (60 * self.config.budget))
        return self.step / self.config.steps

    def learning_rate(self) -> float:
        """Linear warm-up, then cosine decay to zero."""
        peak, warmup, progress = self.config.learning_rate, self.config.warmup, self.progress
        if progress < warmup:
            return peak * (0.01 + 0.99 * progress / warmup)
        return peak * 0.5 * (1 + math.cos(math.pi * (progress - warmup) / max(1 - warmup, 1e-9)))

    def run(self, report: Report, until: float | None = None, goal: float = math.inf) -> bool:
        """Train to the end, or to the time `until` of `time.monotonic()`, or to an evaluation of `goal` dB.

        Returns:
            Whether the end or the goal was reached.

        Raises:
            InputError: the loss has diverged, see `Watch`.
        """
        start, before = time.monotonic(), self.seconds
        if self.step == 0:
            self._report_first(report)
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
        """The main process's value, so that all processes make the same decisions."""
        if self.accelerator.num_processes == 1:
            return value
        return float(broadcast(torch.tensor(value, dtype=torch.float32, device=self.accelerator.device)))

    def _refresh(self, report: Report) -> int:
        """Add new scenes and return their number; the main process casts their rays."""
        with self.accelerator.main_process_first():
            added = sum(part.refresh() for part in self.data)
        if added:
            report(f"step {self.step}: {added} new scenes, {self._scenes()} in all")
        return added

    def _scenes(self) -> int:
        return sum(len(part) for part in self.data)

    def _batches(self, all_sizes: bool) -> Iterator[Batch]:
        """The batches from this step on, of the smallest resolution or of all."""
        smallest = self.data[0].resolution
        sets = [part for part in self.data if all_sizes or part.resolution == smallest]
        config, accelerator = self.config, self.accelerator
        process, processes = accelerator.process_index, accelerator.num_processes
        steps = Steps(sets, config.seed, config.batch, config.views, config.augment, process, processes)
        on_gpu = accelerator.device.type == "cuda"
        # A run with a budget of time has no last step.
        numbers = range(self.step, self.step + (1 << 40))
        return iter(DataLoader(steps, None, sampler=numbers, num_workers=self.loaders, pin_memory=on_gpu))

    def _train(self, batch: Batch) -> float:
        """Take one step; returns the mean loss of all processes."""
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
        problem = self.watch.add(loss)
        if problem:
            state = self.out / STATE_FILE
            resume = f"; run again to resume from the last good state, {state}" if state.exists() else ""
            raise InputError(
                f"step {self.step}",
                problem,
                f"lower learning_rate ({self.config.learning_rate:g}) or clip ({self.config.clip:g}) in the "
                f"configuration{resume}",
            )

    def _evaluate(self, loss: float, report: Report) -> float:
        """Log a row; returns the PSNR on the held-out scenes, -inf without such scenes or outside the main process."""
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

    def _report_first(self, report: Report) -> None:
        """Report the scores without the network."""
        has_rays = self.model.config.pixel_channels > 0
        if self.held_out is not None and has_rays and self.accelerator.is_main_process:
            scores = {name: float(values.mean()) for name, values in first_scores(self.held_out).items()}
            report("without the network: " + ", ".join(f"{name} {value:.6g}" for name, value in scores.items()))

    def _sample(self) -> None:
        if self.held_out is None or not self.accelerator.is_main_process:
            return
        folder = self.out / SAMPLE_FOLDER
        folder.mkdir(exist_ok=True)
        write_sheet(self.averaged_model, self.held_out, folder / f"step_{self.step:07d}.png")

    def save(self) -> None:
        """Write the full state and the averaged model, each whole; nothing while the loss is doubtful."""
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
            raise InputError(path, f"is not the state of a training ({error})", "choose another --output") from None
        if config_from_dict(state["config"]["model"]) != self.model.config:
            raise InputError(self.out, "holds the state of another model", "choose another --output")
        self.model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
        self.averaged_model.load_state_dict({k[4:]: v for k, v in tensors.items() if k.startswith("ema.")})
        self.average.n_averaged.fill_(state["averaged"])
        for name, parameter in self.model.named_parameters():
            # A parameter that has had no gradient yet has no moments.
            moments = {key: tensors.get(f"adam.{key}.{name}") for key in ("step", "exp_avg", "exp_avg_sq")}
            self.adam.state[parameter] = {k: v.to(parameter.device) for k, v in moments.items() if v is not None}
        self.step, self.seconds = state["step"], state["seconds"]
        if (self.out / LOG_FILE).exists():
            # The run repeats the steps after the state, and logs them again.
            with (self.out / LOG_FILE).open(newline="") as file:
                self.rows = [row for row in csv.DictReader(file) if int(row["step"]) <= self.step]


class Watch:
    """Detects a diverged training by its losses.

    Attributes:
        doubtful: whether the last losses are not finite or far above the earlier ones.
    """

    BAD, RECENT, WINDOW, FACTOR = 10, 50, 500, 3.0

    def __init__(self) -> None:
        self._losses: deque[float] = deque(maxlen=self.RECENT + self.WINDOW)
        self._bad = 0
        self.doubtful = False

    def add(self, loss: float) -> str:
        """Add the loss of a step; returns the problem, or ""."""
        self._bad = 0 if math.isfinite(loss) else self._bad + 1
        if math.isfinite(loss):
            self._losses.append(loss)
        values = np.array(self._losses)
        before, recent = values[: -self.RECENT], values[-self.RECENT :]
        self.doubtful = self._bad > 0
        if self._bad >= self.BAD:
            return f"the loss was not finite in {self.BAD} consecutive steps"
        if len(before) < self.RECENT:
            return ""
        usual = float(np.median(before))
        self.doubtful |= float(np.median(recent[-self.BAD :])) > self.FACTOR * usual
        now = float(np.median(recent))
        if now > self.FACTOR * usual:
            return f"the loss has diverged, from {usual:.3g} to {now:.3g} over the last {self.RECENT} steps"
        return ""


def make_accelerator(precision: str) -> Accelerator:
    """The Accelerator of this process.

    "auto" is bf16 on a GPU that has it and on a CPU with AVX-512. Other CPUs emulate it: a product of 2048 x 256 by
    256 x 640 takes 348 ms instead of 11 (EPYC with AVX2, 1 thread, 2026-11-23).
    """
    if precision == "auto":
        if torch.cuda.is_available():
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            fast = torch.backends.cpu.get_cpu_capability() == "AVX512"
        precision = "bf16" if fast else "fp32"
    return Accelerator(mixed_precision={"bf16": "bf16", "fp32": "no"}[precision])


def _adamw(model: RenderFormer | ShadingModel, config: TrainingConfig) -> torch.optim.AdamW:
    """The optimizer, without weight decay for gains, biases and tokens."""
    matrices = [p for p in model.parameters() if p.ndim >= 2 and p.shape[0] > 1]
    others = [p for p in model.parameters() if p.ndim < 2 or p.shape[0] == 1]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98), fused=True)


def _decaying(decay: float) -> Callable[[Tensors, Tensors, Tensor | int], None]:
    """An update of averaged weights with a smaller decay in the first steps."""

    @torch.no_grad()
    def update(averaged: Tensors, current: Tensors, count: Tensor | int) -> None:
        steps = int(count)
        torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + steps) / (10 + steps)))

    return update


def _difference(init: Config, config: Config) -> str:
    first, second = init.to_dict(), config.to_dict()
    key = next(key for key in {**first, **second} if first.get(key) != second.get(key))
    return f"the model to start from has {key} {first.get(key)!r}, the configuration's `model` has {second.get(key)!r}"
