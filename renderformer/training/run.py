"""One call of `renderformer train`: its checks, its data, its end and its result."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from renderformer.checkpoints import load_model
from renderformer.config import config_from_dict
from renderformer.data.errors import InputError
from renderformer.data.progress import Progress, silent
from renderformer.data.sets.manifest import read_manifest
from renderformer.data.sets.shards import seed_range
from renderformer.training.config import TrainingConfig, load_config
from renderformer.training.dataset import TrainingSet
from renderformer.training.loop import Trainer, make_accelerator

# An overfitting test ends at this PSNR (dB) on its training scenes, or after this many steps.
OVERFIT_GOAL, OVERFIT_STEPS, OVERFIT_EVERY = 35.0, 400, 20
GPU_LOADERS = 8


@dataclass(frozen=True)
class Plan:
    """The options of `renderformer train`; None leaves the choice to the program.

    Attributes:
        config: path of the training configuration.
        data: folders of shards.
        out: folder of the run.
        held_out: folder of shards for evaluation.
        init: folder or Hub id of the model to start from.
        steps: of the run, instead of the configuration's.
        budget: minutes of the run, instead of steps.
        minutes: of this call.
        overfit: number of scenes for an overfitting test, which trains until they reach `OVERFIT_GOAL`.
        limit: largest number of scenes of each folder.
        threads: of the network.
        workers: processes that cast rays.
        loaders: processes that make batches.
    """

    config: Path
    data: tuple[Path, ...]
    out: Path
    held_out: Path | None = None
    init: str | None = None
    steps: int | None = None
    budget: float | None = None
    minutes: float | None = None
    overfit: int | None = None
    limit: int | None = None
    threads: int | None = None
    workers: int | None = None
    loaders: int | None = None

    def settings(self) -> TrainingConfig:
        """The configuration with the changes of this call.

        Raises:
            InputError: see `load_config`.
        """
        config = load_config(self.config)
        if self.steps is not None:
            config = config.replace(steps=self.steps, budget=0.0)
        if self.budget is not None:
            config = config.replace(budget=self.budget)
        if self.overfit is None:
            return config
        return config.replace(
            augment=False, batch=self.overfit, evaluate_every=OVERFIT_EVERY, sample_every=OVERFIT_STEPS,
            steps=self.steps or OVERFIT_STEPS, budget=self.budget or 0.0, larger_from=0.0,
        )  # fmt: skip


class Training:
    """A call of `renderformer train`: first `load`, then `run`.

    Raises:
        InputError: an unusable configuration, model to start from, or data set.
    """

    def __init__(self, plan: Plan) -> None:
        self._started = time.monotonic()
        self._plan = plan
        self._config = plan.settings()
        self._model = config_from_dict(self._config.model, f"{plan.config}: model")
        if plan.threads is not None:
            torch.set_num_threads(plan.threads)
        self._init = None if plan.init is None else load_model(plan.init)
        check_seeds(plan.data, plan.held_out)
        self._accelerator = make_accelerator(self._config.precision)
        self._trainer: Trainer | None = None

    @property
    def is_main(self) -> bool:
        """Whether this is the process that reports."""
        return self._accelerator.is_main_process

    def load(self, progress: Progress = silent) -> None:
        """Load the data, with missing rays cast, and the state of the run.

        Raises:
            InputError: an unreadable data set, or a run of another model.
        """
        plan = self._plan
        limit = plan.limit if plan.overfit is None else plan.overfit
        sets = [self._scenes(folder, limit, progress) for folder in plan.data]
        measured = None if plan.held_out is None else self._scenes(plan.held_out, None, progress)
        if plan.overfit is not None:
            measured = sets[0]
        on_gpu = self._accelerator.device.type == "cuda"
        loaders = (GPU_LOADERS if on_gpu else 0) if plan.loaders is None else plan.loaders
        self._trainer = Trainer(self._config, sets, measured, plan.out, self._init, self._accelerator, loaders)

    def _scenes(self, folder: Path, limit: int | None, progress: Progress) -> TrainingSet:
        workers = torch.get_num_threads() if self._plan.workers is None else self._plan.workers
        with self._accelerator.main_process_first():
            return TrainingSet(
                folder,
                workers if self.is_main else 0,
                limit,
                light_tokens=self._model.light_tokens,
                rays=self._model.pixel_channels > 0,
                progress=progress,
            )

    def run(self, report: Callable[[str], None]) -> list[str]:
        """Train to the end, the time of this call, or the goal of an overfitting test.

        Args:
            report: called with progress messages.

        Returns:
            Messages about the result, in the main process only.

        Raises:
            InputError: the loss has diverged, or an overfitting test misses its goal.
        """
        plan, trainer, accelerator = self._plan, self._trainer, self._accelerator
        assert trainer is not None
        counts = ", ".join(f"{len(scenes)} scenes of {scenes.resolution} px" for scenes in trainer.data)

        def report_once(line: str) -> None:
            if self.is_main:
                report(line)

        report_once(
            f"{counts}; {accelerator.num_processes} x {accelerator.device.type}, {accelerator.mixed_precision}; "
            f"step {trainer.step}, {100 * trainer.progress:.3g} % done"
        )
        until = None if plan.minutes is None else self._started + 60 * plan.minutes
        finished = trainer.run(report_once, until, math.inf if plan.overfit is None else OVERFIT_GOAL)
        ending = f"{'finished' if finished else 'stopped'} at step {trainer.step}; the model is in {plan.out / 'model'}"
        if plan.overfit is None:
            return [ending] if self.is_main else []
        result = f"{trainer.best:.2f} dB on its own {plan.overfit} scenes after {trainer.seconds:.0f} s"
        if not trainer.best >= OVERFIT_GOAL:
            raise InputError(
                plan.out,
                f"{result}, {trainer.step} steps, {OVERFIT_GOAL:g} dB were expected",
                "check the data, the model and the learning rate",
            )
        return [result, ending] if self.is_main else []


def check_seeds(data: tuple[Path, ...], held_out: Path | None) -> None:
    """Raise InputError for training on held-out scenes, or evaluation on training scenes."""
    for folder in data:
        if read_manifest(folder).recipe.held_out:
            raise InputError(folder, "holds held-out scenes, which are never trained on", "give it as --held-out")
    if held_out is None:
        return
    measured = seed_range(held_out)
    for folder in data:
        trained = seed_range(folder)
        first, last = max(trained.start, measured.start), min(trained.stop, measured.stop) - 1
        if first <= last and not read_manifest(folder).recipe.imported:
            problem = f"shares the seeds {first} to {last} with {folder}, which is trained on"
            raise InputError(held_out, problem, "measure on a set of `renderformer data generate --held-out`")
        if folder.resolve() == held_out.resolve():
            raise InputError(held_out, "is trained on as well", "measure on another data set")
