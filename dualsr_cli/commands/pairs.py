"""`dualsr pairs`: what would be paired, and why the rest would not."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from dualsr_cli.commands.config import Config, SaveConfig, save_options
from dualsr_cli.commands.options import Json, Quiet
from dualsr_cli.console import Console


def pairs(
    context: typer.Context,
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            help="Where to look, in all folders below as well.",
            show_default=False,
        ),
    ],
    csv: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Save the pairs as a table that the other commands take.",
            show_default=False,
        ),
    ] = None,
    max_gap: Annotated[
        float,
        typer.Option(metavar="SECONDS", min=0, help="The longest time between the two of a pair."),
    ] = 20.0,
    no_content_check: Annotated[
        bool,
        typer.Option(
            "--no-content-check",
            help="Do not compare pictures where time leaves a doubt or EXIF is missing.",
        ),
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
    config: Config = None,
    save_config: SaveConfig = None,
) -> int:
    """List the wide and tele photos of a folder as pairs.

    Tells the reason for each photo that is left over. Exits with 1 when there is no pair.

    \b
    Examples:
      dualsr pairs ~/Pictures/2024
      dualsr pairs ~/Pictures/2024 --csv pairs.csv --max-gap 60
      dualsr pairs ~/Pictures/2025 --config run.yaml
    """
    from dualsr_cli.photos import find_pairs, write_pairs_table

    save_options(context, save_config)
    console = Console(quiet=quiet, json=json)
    same_scene = None
    if not no_content_check:
        from dualsr_cli import alignment

        same_scene = alignment.same_scene
    with console.progress() as progress:
        found = find_pairs(folder, same_scene=same_scene, max_gap=max_gap, progress=progress)
    if csv:
        write_pairs_table(found.pairs, csv)

    rows = [
        (
            pair.wide.relative_to(folder),
            pair.tele.relative_to(folder),
            pair.ratio,
            pair.seconds_apart,
            pair.evidence,
        )
        for pair in found.pairs
    ]
    if rows:
        console.table(["wide", "tele", "zoom", "seconds apart", "evidence"], rows)
    for pair in found.pairs:
        console.emit_json({"event": "pair", **asdict(pair)})
    for leftover in found.leftovers:
        console.result(leftover.sentence)
        console.emit_json({"event": "leftover", **asdict(leftover)})
    paired, left = len(found.pairs), len(found.leftovers)
    console.emit_json({"event": "summary", "pairs": paired, "leftovers": left})
    console.say(f"pairs: {paired}, left over: {left}")
    return 0 if found.pairs else 1
