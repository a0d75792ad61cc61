"""`dualsr align`: the tele photo laid over the wide photo, with all that is known of the fit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from dualsr_cli.commands._batch import Work, work_on
from dualsr_cli.commands._batch_options import Batch, Inputs, takes_batch
from dualsr_cli.console import Console, Progress
from dualsr_cli.jobs import Task


@takes_batch
def align(
    inputs: Inputs,
    batch: Batch,
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            metavar="FOLDER",
            help="Where the results go; those of a folder or table in a folder for each pair.",
        ),
    ],
) -> int:
    """Lay the tele photo over the wide photo and save what is known of the fit.

    Writes to FOLDER: tele_warped.png (the tele photo as the wide photo's pixels see it, in the
    wide photo's tone), validity.png and confidence.png (masks over the wide photo),
    alignment.json (homography, displacement, tone, quality) and overview.png (the footprint and
    the residual). Exits with 1 where the photos do not show one scene.

    \b
    Examples:
      dualsr align wide.jpg tele.jpg -o aligned
      dualsr align ~/Pictures/2024 -o aligned
    """
    from dualsr_cli.alignment import AlignTask
    from dualsr_cli.files import check_writable

    def task(progress: Progress | None) -> Task:
        return AlignTask(progress) if progress else AlignTask()

    work = Work(
        command="align",
        event="aligned",
        task=task,
        settings={},
        suffix=lambda wide: "",
        tell=_tell,
        check=lambda folder: check_writable(folder / "x" if folder.is_dir() else folder),
    )
    return work_on(work, inputs, str(output), batch, one=len(inputs) == 2)


def _tell(console: Console, facts: Mapping[str, Any], start: str) -> None:
    for note in facts["notes"]:
        console.say(f"dualsr: {start}{note}")
    wide, tele = (Path(facts[name]).name for name in ("wide", "tele"))
    console.result(
        f"{tele} lies on {wide} at {facts['density']:.3f}x, turned by {facts['rotation']:.2f} "
        f"degrees, {facts['overlap']:.0%} inside; sure of {facts['confident']:.0%} of it"
    )
