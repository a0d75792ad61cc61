"""The training loop: the stages of a recipe, from a checkpoint on where there is one.

Whatever is drawn by chance is drawn anew for each group of samples that passes the network at once:
from the seed, the stage and the number of the group's first sample. So a training that was killed
goes on as if nothing had been, and which process makes which samples makes no difference.
"""

from __future__ import annotations

import copy
import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dualsr_cli.errors import DualsrError, UsageError
from dualsr_cli.machine import memory_kept
from dualsr_cli.networks import Inputs, load_into
from dualsr_cli.training._batches import Source, batches
from dualsr_cli.training._learner import Learner, out_of_memory
from dualsr_cli.training._processes import Processes
from dualsr_cli.training._start import build_network, copy_parts
from dualsr_cli.training.checkpointing import Checkpoint, checkpoints, load, save, write_weights
from dualsr_cli.training.logs import Logs
from dualsr_cli.training.recipe import Recipe, Stage

PRECISIONS = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}

_WEIGHTS, _CHECKPOINTS = "weights.safetensors", "checkpoints"


@dataclass(frozen=True)
class Options:
    """What is up to the machine and the person, and not to the recipe.

    device: "cpu", "cuda", "cuda:1", ...; with torchrun "cuda" is each process's own. precision: of
    the network's passes, one of PRECISIONS, or "auto": half on a GPU; weights and losses stay in
    fp32. micro_batch: samples that pass the network at once, 0 for all of a process's; the
    gradients are those of the whole batch in any case. workers: processes that make samples beside
    each training process, 0 for none. log_every and so on: iterations, 0 for never. keep: how many
    checkpoints.
    """

    device: str = "cpu"
    precision: str = "auto"
    micro_batch: int = 0
    workers: int = 0
    seed: int = 0
    log_every: int = 50
    save_every: int = 500
    picture_every: int = 1000
    validate_every: int = 5000
    keep: int = 3


@dataclass(frozen=True)
class Progress:
    """After `step` of `steps` iterations, `seconds` since this start at iteration `start`."""

    step: int
    steps: int
    start: int
    seconds: float
    stage: str
    loss: float
    rate: float


@dataclass(frozen=True)
class Trained:
    """weights: the file of the result, the averaged weights where the recipe averages. seconds: of
    all starts. losses: the last means, by name; none where nothing was left to do.
    """

    weights: Path
    iterations: int
    seconds: float
    losses: Mapping[str, float]


Validate = Callable[[nn.Module], Mapping[str, float]]


def train(
    recipe: Recipe,
    source_of: Callable[[Stage], Source],
    folder: Path,
    options: Options | None = None,
    *,
    start: Mapping[str, str] | None = None,
    validate: Validate | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Trained:
    """Train by a recipe in `folder`, or go on with what lies there.

    source_of: opens a stage's source of samples. start: see `build_network`. validate: measures the
    network, which is in eval mode, without gradients, on the first process; its names stay the
    same. stop: asked in each iteration; once it says so, a checkpoint is written after it and
    KeyboardInterrupt raised. Raises UsageError, InputError, OutputError, and DualsrError where
    training cannot go on.
    """
    options = options or Options()
    processes = Processes.join(options.device)
    try:
        run = _Run(recipe, folder, options, processes, start)
        begin = 0
        with memory_kept(processes.device.type == "cpu"):  # each iteration takes what the last had
            for number, stage in enumerate(recipe.stages):
                if run.step < begin + stage.iterations:
                    run.train_stage(number, begin, source_of(stage), validate, on_progress, stop)
                begin += stage.iterations
        processes.wait()
        return run.finish()
    finally:
        processes.leave()


class _Run:
    """One training: its network, how far it is, and what it writes."""

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        options: Options,
        processes: Processes,
        start: Mapping[str, str] | None,
    ) -> None:
        self.recipe, self.folder = recipe, folder
        self.options, self.processes = options, processes
        self.precision = _precision(options.precision, processes.device)
        torch.manual_seed(options.seed)
        self.network = build_network(recipe, start)
        self.fixed = {n for n, p in self.network.named_parameters() if not p.requires_grad}
        self.network.to(processes.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network.train()
        self.averaged: nn.Module | None = None
        if recipe.ema:
            self.averaged = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.step, self.seconds_before = 0, 0.0
        self.state: dict[str, Any] = {}
        self.losses: dict[str, float] = {}
        if there := checkpoints(folder / _CHECKPOINTS):
            self._go_on_from(there[-1])
        self.first_step, self.began = self.step, time.monotonic()
        labels = [stage.label(n) for stage in recipe.stages for n in range(len(stage.losses))]
        self.logs: Logs | None = None
        if processes.first:
            self.logs = Logs(folder, list(dict.fromkeys(labels)), self.step)

    def train_stage(
        self,
        number: int,
        begin: int,
        source: Source,
        validate: Validate | None,
        on_progress: Callable[[Progress], None] | None,
        stop: Callable[[], bool],
    ) -> None:
        """What is left of a stage that begins at iteration `begin`."""
        options, processes = self.options, self.processes
        stage = self.recipe.stages[number]
        end = begin + stage.iterations
        if self.step == begin:
            for network in filter(None, (self.network, self.averaged)):
                copy_parts(network, stage.copies)
        torch.manual_seed(_seed(options.seed, number, -1))  # for losses that have weights
        learner = Learner(stage, self.network, self.fixed, processes.device, self.precision)
        if self.state.get("stage") == number:
            learner.load_state_dict(self.state.pop("learner"))
        micro = options.micro_batch or -(-stage.batch // processes.count)
        firsts = range(processes.rank * micro, stage.batch, processes.count * micro)
        waiting = batches(source, _dealt(stage, self.step - begin, firsts, micro), options.workers)
        totals, count = torch.zeros(len(learner.labels), device=processes.device), 0

        while self.step < end:
            iteration = self.step - begin
            rate = learner.begin(iteration)
            values = torch.zeros_like(totals)
            for first in firsts:
                inputs = next(waiting).to(processes.device)
                torch.manual_seed(_seed(options.seed, number, iteration * stage.batch + first))
                try:
                    outputs, share = learner.learn(inputs, iteration)
                    values += share
                    continue
                except RuntimeError as error:
                    if not out_of_memory(error):
                        raise
                # Out of the handler, which holds on to the memory of what failed.
                raise _too_large(inputs, learner.fitting(inputs, iteration), processes.device)
            stopping = torch.full_like(values[:1], float(stop()))  # all processes end together
            processes.add_up([*learner.gradients(), values, stopping])
            loss = float(values[-1])
            norm, finite = learner.clip()
            if not (finite and math.isfinite(loss)):
                self._save(number, learner)
                raise DualsrError(
                    f"the training in {self.folder} broke down at iteration {self.step} (loss "
                    f"{loss:g}, gradients {norm:g}): the state before it is kept there; lower the "
                    "rates or set clip in the recipe and start again"
                )
            learner.update(iteration)
            self.step += 1
            self._average()
            if learner.diverged(loss, iteration):
                raise DualsrError(
                    f"the training in {self.folder} diverged before iteration {self.step}, its "
                    f"loss is {loss:g}: delete the last of its {_CHECKPOINTS}, lower the rates in "
                    "the recipe and start again"
                )

            totals, count = totals + values, count + 1
            done = self.step == end
            if self._due(options.log_every) or done:
                self._log(stage, learner, iteration, rate, norm, totals / count)
                totals, count = torch.zeros_like(totals), 0
            if self._due(options.save_every) or done or bool(stopping):
                self._save(number, learner)
            if self._due(options.picture_every) and self.logs is not None:
                self.logs.picture(self.step, inputs, outputs)
            if bool(stopping) and not done:
                raise KeyboardInterrupt
            if validate is not None and (self._due(options.validate_every) or done):
                self._validate(validate)
            if on_progress is not None and processes.first:
                steps, seconds = self.recipe.iterations, time.monotonic() - self.began
                on_progress(
                    Progress(self.step, steps, self.first_step, seconds, stage.name, loss, rate)
                )

    def finish(self) -> Trained:
        """Write the result."""
        path = self.folder / _WEIGHTS
        if self.logs is not None:
            write_weights(path, (self.averaged or self.network).state_dict())
            self.logs.close()
        return Trained(path, self.step, self._seconds(), self.losses)

    def _due(self, every: int) -> bool:
        return every > 0 and self.step % every == 0

    def _seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.began

    @torch.no_grad()
    def _average(self) -> None:
        """Exponential moving average, which at first forgets sooner than the recipe has it."""
        if self.averaged is None:
            return
        decay = min(self.recipe.ema, (1 + self.step) / (10 + self.step))
        own = self.network.state_dict()
        for name, value in self.averaged.state_dict().items():
            if value.is_floating_point():
                value.lerp_(own[name], 1 - decay)
            else:
                value.copy_(own[name])

    def _log(
        self,
        stage: Stage,
        learner: Learner,
        iteration: int,
        rate: float,
        norm: float,
        means: torch.Tensor,
    ) -> None:
        named = dict(zip(learner.labels, means.tolist(), strict=True))
        asleep = [stage.label(n) for n, t in enumerate(stage.losses) if iteration < t.begin]
        self.losses = {name: value for name, value in named.items() if name not in asleep}
        if self.logs is not None:
            numbers = {"seconds": self._seconds(), "rate": rate, "norm": norm, **self.losses}
            self.logs.losses(self.step, {"stage": stage.name, **numbers})

    def _validate(self, validate: Validate) -> None:
        if self.logs is not None:
            network = (self.averaged or self.network).eval()
            with torch.no_grad():
                self.logs.validated(self.step, validate(network))
            self.network.train()
        self.processes.wait()

    def _save(self, number: int, learner: Learner) -> None:
        if self.logs is None:
            return
        state = {
            "identity": _identity(self.recipe, self.options),
            "stage": number,
            "learner": learner.state_dict(),
            "seconds": self._seconds(),
        }
        averaged = None if self.averaged is None else self.averaged.state_dict()
        checkpoint = Checkpoint(self.step, self.network.state_dict(), averaged, state)
        save(self.folder / _CHECKPOINTS, checkpoint, self.options.keep)

    def _go_on_from(self, path: Path) -> None:
        checkpoint = load(path)
        self.step, self.state = checkpoint.step, checkpoint.state
        if self.state.get("identity") != _identity(self.recipe, self.options):
            raise UsageError(
                f"{self.folder} holds the training of another network or seed: choose another "
                "folder"
            )
        self.seconds_before = float(self.state["seconds"])
        load_into(self.network, checkpoint.weights, path)
        if self.averaged is not None:
            load_into(self.averaged, checkpoint.averaged or checkpoint.weights, path)


def _precision(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        if device.type != "cuda":
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if name not in PRECISIONS:
        raise UsageError(f"there is no precision {name!r}: choose among {', '.join(PRECISIONS)}")
    return PRECISIONS[name]


def _dealt(stage: Stage, done: int, firsts: range, micro: int) -> Iterator[list[int]]:
    """The numbers of the samples of each pass, from a stage's iteration `done` on."""
    for iteration in range(done, stage.iterations):
        for first in firsts:
            last = min(first + micro, stage.batch)
            yield [iteration * stage.batch + number for number in range(first, last)]


def _seed(*numbers: int) -> int:
    """One number of 63 bits for some."""
    return (
        int.from_bytes(hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest(), "big") >> 1
    )


def _identity(recipe: Recipe, options: Options) -> str:
    """What a training must have in common with the one that it goes on with."""
    settings = sorted(recipe.settings.items())
    return repr((recipe.architecture, recipe.part, settings, bool(recipe.ema), options.seed))


def _too_large(inputs: Inputs, fitting: int, device: torch.device) -> DualsrError:
    count, (height, width) = len(inputs.lr), inputs.lr.shape[2:]
    remedy = f"take a micro batch of {fitting}" if fitting else "take smaller patches"
    return DualsrError(
        f"{count} samples of {height} x {width} do not fit the memory of {device} at once: {remedy}"
    )
