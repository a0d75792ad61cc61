"""`dualsr match`: where each part of the wide photo finds its like in the tele photo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from dualsr_cli.commands._batch import Work, work_on
from dualsr_cli.commands._batch_options import Batch, Inputs, takes_batch
from dualsr_cli.console import Console, Progress
from dualsr_cli.jobs import Task


class Search(str, Enum):
    auto = "auto"
    exact = "exact"
    clustered = "clustered"


class Features(str, Enum):
    gradients = "gradients"
    vgg16 = "vgg16"


@takes_batch
def match(
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
    search: Annotated[
        Search,
        typer.Option(help="All keys, or clusters of them, which is far quicker for large photos."),
    ] = Search.auto,
    features: Annotated[
        Features,
        typer.Option(
            help="What parts are compared by: gradients, or the layer of VGG16 that papers use."
        ),
    ] = Features.gradients,
) -> int:
    """Find for each part of the wide photo the most similar part of the tele photo.

    Writes to FOLDER: matches.npz (rows and columns of each place's match, in wide pixels, and its
    similarity), similarity.png (the confidence map), overview.png (each place in the colour of
    where its match lies) and matching.json (mean similarity in the footprint and outside, share of
    reliable matches). Places lie two pixels apart; photos over 12 megapixels are reduced to that.

    \b
    Examples:
      dualsr match wide.jpg tele.jpg -o matched
      dualsr match wide.jpg tele.jpg -o matched --features vgg16
      dualsr match ~/Pictures/2024 -o matched --json
    """
    from dualsr_cli.files import check_writable
    from dualsr_cli.networks import find_model
    from dualsr_cli.reconstruction import MatchTask

    def task(progress: Progress | None) -> Task:
        chosen = MatchTask(search.value, features.value)
        return replace(chosen, progress=progress) if progress else chosen

    weights = find_model("vgg16").sha256 if features is Features.vgg16 else None
    work = Work(
        command="match",
        event="matched",
        task=task,
        settings={"search": search.value, "features": features.value, "weights": weights},
        suffix=lambda wide: "",
        tell=_tell,
        check=lambda folder: check_writable(folder / "x" if folder.is_dir() else folder),
    )
    return work_on(work, inputs, str(output), batch, one=len(inputs) == 2)


def _tell(console: Console, facts: Mapping[str, Any], start: str) -> None:
    for note in facts["notes"]:
        console.say(f"dualsr: {start}{note}")
    footprint, corner = (
        "none" if facts[name] is None else f"{facts[name]:.3f}"
        for name in ("similarity_footprint", "similarity_corner")
    )
    console.result(
        f"{start}similarity {footprint} in the footprint, {corner} outside; "
        f"{facts['reliable']:.0%} of the matches are reliable"
    )
    for name in ("agreement", "features", "search", "seconds", "peak_memory"):
        console.detail(f"{start}{name}: {facts[name]}")
