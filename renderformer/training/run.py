"""One call of a training: what is checked before it, what it is given, when it ends, and what came of it."""

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

# A test of the whole ends at this PSNR (dB) of the scenes that it trains on, or after so many steps.
OVERFIT_GOAL, OVERFIT_STEPS, OVERFIT_EVERY = 35.0, 400, 20
GPU_LOADERS = 8


@dataclass(frozen=True)
class Plan:
    """What a call of `renderformer train` is asked to do.

    Attributes:
        config: path of the training configuration; data: folders of shards; out: folder of the run.
        held_out: folder of shards to measure on.
        init: folder or Hub id of the model to start from.
        steps: instead of those of the configuration; budget: minutes of the whole training, instead of steps.
        minutes: that this call may take.
        overfit: train on so many scenes until their own pictures reach `OVERFIT_GOAL`.
        limit: of scenes of each folder.
        threads: of the network; workers: processes that cast rays; loaders: processes that make batches. None chooses.
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
        """The configuration with what this call changes in it.

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
    """A call of `renderformer train`: made, then given its data by `load`, then `run`.

    Raises:
        InputError: the configuration, the model to start from, or a data set cannot be used.
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
        """Whether this process reports; of several, one does."""
        return self._accelerator.is_main_process

    def load(self, progress: Progress = silent) -> None:
        """Take in the data, casting rays where that was not done before, and the state of a run that is there.

        Raises:
            InputError: a data set cannot be read, or the run's folder holds another model.
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
                token_triangles=self._model.token_triangles,
                rays=self._model.pixel_channels > 0,
                progress=progress,
            )

    def run(self, report: Callable[[str], None]) -> list[str]:
        """Train until the end, the time of this call, or the goal of a test of the whole.

        Args:
            report: called with lines for a person, while it runs.

        Returns:
            Lines about the result; none in other processes than the main one.

        Raises:
            InputError: the loss has diverged, or a test of the whole misses its goal.
        """
        plan, trainer, accelerator = self._plan, self._trainer, self._accelerator
        assert trainer is not None
        counts = ", ".join(f"{len(part)} scenes of {part.resolution} px" for part in trainer.data)

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
                "the data, the model or the learning rate does not suit",
            )
        return [result, ending] if self.is_main else []


def check_seeds(data: tuple[Path, ...], held_out: Path | None) -> None:
    """Raise InputError where a model would be trained on held-out scenes, or measured on scenes of its training."""
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
