"""`dualsr align`: the tele photo laid over the wide photo, with all that is known of the fit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dualsr_cli.commands.options import Json, Quiet
from dualsr_cli.console import Console


def align(
    wide: Annotated[Path, typer.Argument(metavar="WIDE", help="The wide photo.")],
    tele: Annotated[Path, typer.Argument(metavar="TELE", help="The tele photo of the scene.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FOLDER", help="Where the results go.")
    ],
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Lay the tele photo over the wide photo and save what is known of the fit.

    Writes to FOLDER: tele_warped.png (the tele photo as the wide photo's pixels see it, in the
    wide photo's tone), validity.png and confidence.png (masks over the wide photo),
    alignment.json (homography, displacement, tone, quality) and overview.png (the footprint and
    the residual). Exits with 1 where the photos do not show one scene.

    \b
    Example:
      dualsr align wide.jpg tele.jpg -o aligned
    """
    from dualsr_cli.alignment import align_files

    console = Console(quiet=quiet, json=json)
    with console.progress() as progress:
        report = align_files(wide, tele, output, progress)
    for note in report.notes:
        console.say(f"dualsr: {note}")
    fit = report.fit
    console.result(
        f"{report.tele.name} lies on {report.wide.name} at {fit.density:.3f}x, turned by "
        f"{fit.rotation:.2f} degrees, {fit.overlap:.0%} inside; sure of {fit.confident:.0%} of it"
    )
    for path in report.files:
        console.result(str(path))
    console.emit_json({"event": "aligned", **report.summary()})
    return 0
