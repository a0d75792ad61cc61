"""What `dualsr train` says: of its data, on the way, and of the model at the end."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from dualsr_cli.console import Console, duration
from dualsr_cli.console import Progress as Shown

if TYPE_CHECKING:
    from dualsr_cli.training import Finished, Progress, TrainingData

_TELL_EVERY = 50  # iterations
_FEW = 10  # sentences on what is left out


def tell_data(console: Console, data: TrainingData) -> None:
    """What is trained on, and what is not."""
    for sentence in data.left_out[:_FEW]:
        console.warn(sentence)
    if more := data.left_out[_FEW:]:
        console.warn(f"{len(more)} more are left out: -v tells why")
        for sentence in more:
            console.detail(sentence)
    if data.doubt:
        console.say(f"dualsr: {data.doubt}")
    console.say(f"dualsr: training on {data.told}")


def tell_step(console: Console, shown: Shown, progress: Progress) -> None:
    """How far it is, after each iteration."""
    shown("training", progress.step, progress.steps)
    if progress.step % _TELL_EVERY and progress.step != progress.steps:
        return
    console.detail(f"{progress.step}: {progress.stage}, loss {progress.loss:.5g}")
    console.emit_json(
        {
            "event": "step",
            "step": progress.step,
            "steps": progress.steps,
            "stage": progress.stage,
            "loss": progress.loss,
            "rate": progress.rate,
            "seconds": progress.seconds,
        }
    )


def tell_end(console: Console, finished: Finished, part: str) -> None:
    """What came of it, and how it is used. part: of a network, if only that was trained."""
    trained, model = finished.trained, finished.model
    console.say(
        f"dualsr: {trained.iterations} iterations in {duration(trained.seconds)}; "
        f"weights and logs lie in {trained.weights.parent}"
    )
    if finished.validation:
        told = ", ".join(f"{key} {value:.4g}" for key, value in finished.validation.items())
        console.result(f"measured on {len(finished.data.held_out)} held-out parts: {told}")
    if model is None:
        weights = shlex.quote(str(trained.weights))
        console.result(f"use it: dualsr train ... --start {part}={weights}")
    else:
        console.result(f"use it: dualsr upscale WIDE TELE -o OUT --model {model.name}")
    console.emit_json(
        {
            "event": "trained",
            "model": None if model is None else model.name,
            "weights": trained.weights,
            "iterations": trained.iterations,
            "seconds": trained.seconds,
            "losses": dict(trained.losses),
            "validation": dict(finished.validation) or None,
            "kind": finished.data.kind,
            "count": finished.data.count,
        }
    )
