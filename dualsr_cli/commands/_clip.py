"""`dualsr upscale` of two clips: which options they take, and what is said of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dualsr_cli import jobs
from dualsr_cli.commands._batch_options import Batch
from dualsr_cli.console import Console, duration
from dualsr_cli.errors import UsageError
from dualsr_cli.machine import parse_memory

if TYPE_CHECKING:
    from dualsr_cli.reconstruction import ClipReport, GroupReport

_SUFFIXES = {
    *(".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2"),
    *(".mkv", ".webm", ".avi", ".wmv", ".flv", ".ogv"),
    *(".mts", ".m2ts", ".ts", ".mpg", ".mpeg", ".mxf", ".y4m"),
}


class Reference(str, Enum):
    single = "single"
    multi = "multi"


def are_clips(inputs: Sequence[Path]) -> bool:
    """Whether the inputs are clips, by their names: videos, or pictures as FOLDER/%05d.png.

    Raises UsageError where some are and some are not.
    """
    clips = [path for path in inputs if _is_clip(path)]
    if clips and len(clips) < len(inputs):
        other = next(path for path in inputs if path not in clips)
        raise UsageError(f"{clips[0]} is a clip and {other} is not: give two of a kind")
    return bool(clips)


def _is_clip(path: Path) -> bool:
    numbered = "%" in path.name and not path.exists()
    return path.suffix.lower() in _SUFFIXES or numbered


def upscale_clips(
    inputs: Sequence[Path],
    output: Path,
    batch: Batch,
    settings: Mapping[str, Any],
    reference: Reference | None,
    only_photos: Mapping[str, object],
) -> int:
    """Do two clips; returns the exit code.

    settings: of `ClipOptions`. only_photos: options that mean nothing here, and whether they were
    given.
    """
    console = batch.console
    only_photos = {
        **only_photos,
        "--shard": batch.shard,
        "--watch": batch.watch,
        "--ray-address": batch.ray_address,
        "--engine ray": batch.engine.value == "ray",
    }
    for name, given in only_photos.items():
        if given:
            raise UsageError(f"{name} is for photos: leave it out for clips")
    if len(inputs) != 2:
        raise UsageError("give two clips: the fast, small one and the slow, sharp one")
    if output.is_dir():
        raise UsageError(f"{output} is a folder: name the file that the result goes to")
    fast, sharp = inputs
    if batch.dry_run:
        console.result(f"new: {output}")
        console.emit_json(
            {"event": "planned", "item": output.name, "wide": fast, "tele": sharp, "action": "new"}
        )
        return 0
    from dualsr_cli.reconstruction import ClipOptions, upscale_clip

    options = ClipOptions(
        **settings,
        several=None if reference is None else reference is Reference.multi,
        memory=parse_memory(batch.max_memory) if batch.max_memory else None,
        anew=batch.overwrite,
    )

    def finished(report: GroupReport) -> None:
        console.emit_json({"event": "group", "output": output, **asdict(report)})
        console.detail(
            f"frames {report.first} to {report.first + report.frames - 1}: "
            f"{report.references} references, {duration(report.seconds)}"
        )

    with console.progress() as progress, jobs.Stop().signals(at_once=True):
        report = upscale_clip(fast, sharp, output, options, progress, finished)
    _tell(console, report, options.model)
    return 0


def _tell(console: Console, report: ClipReport, model: str) -> None:
    for note in report.notes:
        console.say(f"dualsr: {note}")
    if report.resumed:
        console.say(f"dualsr: went on after {report.resumed} frames that were there already")
    if report.unreferenced:
        console.warn(
            f"no sharp frame fits {report.unreferenced} of {report.frames} frames: enlarged alone"
        )
    console.detail(f"offset: {report.offset:+.4f} s, by {report.evidence}")
    spent = ", ".join(f"{stage} {duration(value)}" for stage, value in report.seconds.items())
    console.detail(f"time: {spent}")
    console.result(str(report.output))
    console.emit_json(
        {"event": "clip", "output": report.output, "model": model, **report.summary()}
    )
