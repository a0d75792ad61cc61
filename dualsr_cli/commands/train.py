"""`dualsr train`: a network trained on photos of one's own, or on a data set."""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from dualsr_cli.commands._train_teller import tell_data, tell_end, tell_step
from dualsr_cli.commands._train_wanted import wanted_of
from dualsr_cli.commands.config import Config, SaveConfig, save_options
from dualsr_cli.commands.options import Json, Precision, Quiet, Verbose
from dualsr_cli.console import Console
from dualsr_cli.errors import UsageError

_SAVE_EVERY = 100  # iterations: as many are lost at most where a training is killed


class Kind(str, Enum):
    pairs = "pairs"
    triplets = "triplets"
    photos = "photos"
    phones = "phones"


def train(
    context: typer.Context,
    recipe: Annotated[
        str, typer.Option(metavar="NAME", help="What to train, and how; or a YAML file.")
    ],
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            metavar="FOLDER",
            help="Where checkpoints and logs go; what is stopped goes on from there.",
        ),
    ],
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="What to train on: wide and tele photos, triplets as LR/, Ref/ and HR/, sharp "
            "photographs, a pairs table (CSV), or where the data set lies. Several, of equal "
            "shares or not: KIND=DIR,DATASET:2=DIR.",
            show_default=False,
        ),
    ] = None,
    kind: Annotated[
        Kind | None,
        typer.Option(help="What DIR holds.  [default: what it looks like]", show_default=False),
    ] = None,
    dataset: Annotated[
        str, typer.Option(metavar="NAME", help="A data set that `dualsr bench` knows.")
    ] = "",
    part: Annotated[
        str, typer.Option(metavar="NAME", help="Of the data set: a camera, a level.")
    ] = "",
    validate: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="What to measure on, like --data.  [default: a tenth of the data, held out]",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Of the trained model.  [default: of recipe and data]",
            show_default=False,
        ),
    ] = "",
    start: Annotated[
        str,
        typer.Option(
            metavar="PART=MODEL",
            help="Weights that a part of the network, or all of it, starts from: a model, or a "
            "file; commas between several.",
        ),
    ] = "",
    iterations: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Of all stages together.", show_default=False),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Samples of one iteration.", show_default=False),
    ] = None,
    patch: Annotated[
        int | None,
        typer.Option(metavar="N", min=8, help="Wide pixels along a side.", show_default=False),
    ] = None,
    micro_batch: Annotated[
        int,
        typer.Option(metavar="N", min=0, help="Samples computed at once, to save memory; 0: all."),
    ] = 0,
    device: Annotated[
        str, typer.Option(metavar="NAME", help="auto, cpu, cuda, cuda:N or mps.")
    ] = "auto",
    precision: Annotated[
        Precision, typer.Option(help="Of the network's arithmetic; auto: half on GPUs.")
    ] = Precision.auto,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            help="Processes that make samples beside it.  [default: on GPUs one a core, at most 8]",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of all that is random.")] = 0,
    licence: Annotated[
        str, typer.Option(metavar="SPDX", help="Of the trained weights.")
    ] = "LicenseRef-unknown",
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    config: Config = None,
    save_config: SaveConfig = None,
) -> int:
    """Train a network, and keep it as a model for `dualsr upscale --model`.

    Recipes: dualsr, dualsr-sharp, kedusr, dcsr, dcsr-sra, dm3net, sddusr, selfdzsr, awnet, each as
    its paper has it, and with -compact for two processor cores; flow-raft-small, flow-pwcnet and
    flow-spynet for parts that dm3net, awnet and kedusr start from. Stopped and started again, the
    same command goes on. On several GPUs: torchrun --nproc-per-node 2 -m dualsr_cli train ...

    \b
    Examples:
      dualsr train --recipe kedusr-compact --data ~/Pictures/pairs -o runs/pairs
      dualsr train --recipe dualsr-compact --data ~/Pictures/sharp --kind photos -o runs/ours
      dualsr train --recipe dualsr --data photos=~/sharp,city100=~/data/city100 -o runs/both
      dualsr train --recipe dm3net --dataset dusr-real --data ~/data -o runs/dm3net --workers 8
    """
    from dualsr_cli.reconstruction import resolve_device
    from dualsr_cli.training import (
        Options,
        Order,
        changed,
        find_recipe,
        is_first_process,
        run_session,
    )

    save_options(context, save_config)
    first = is_first_process()
    console = Console(quiet=quiet or not first, verbose=verbose, json=json and first)
    order = Order(
        changed(find_recipe(recipe), iterations, batch, patch),
        wanted_of(data, dataset, part, kind.value if kind else "", validate),
        output,
        name,
        licence,
        _parts(start),
    )
    place = resolve_device(device)
    if workers is None:
        workers = 0 if place == "cpu" else min(8, os.cpu_count() or 1)
    options = Options(
        device=place,
        precision=precision.value,
        micro_batch=micro_batch,
        workers=workers,
        seed=seed,
        save_every=_SAVE_EVERY,
    )
    try:
        with console.progress() as shown:
            finished = run_session(
                order,
                options,
                opened=lambda opened: tell_data(console, opened),
                preparing=shown,
                on_progress=lambda progress: tell_step(console, shown, progress),
            )
    except KeyboardInterrupt:
        console.say(f"dualsr: stopped; the same command goes on from what lies in {output}")
        raise
    if first:
        tell_end(console, finished, order.recipe.part)
    return 0


def _parts(words: str) -> dict[str, str]:
    """What of a network starts from which weights."""
    parts = {}
    for word in filter(None, words.split(",")):
        part, equals, source = word.partition("=")
        if not (part and equals and source):
            raise UsageError(f"--start {word[:100]} is no PART=MODEL: name both, like spynet=mine")
        parts[part.strip()] = source.strip()
    return parts
