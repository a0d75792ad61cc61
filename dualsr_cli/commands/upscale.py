"""`dualsr upscale`: two photos in, one sharper photo out."""

from __future__ import annotations

from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from dualsr_cli.commands.options import Json, Quiet, Verbose
from dualsr_cli.console import Console


class Model(str, Enum):
    detail_transfer = "detail-transfer"


class Part(str, Enum):
    tele = "tele"


def upscale(
    wide: Annotated[Path, typer.Argument(metavar="WIDE", help="The wide photo.")],
    tele: Annotated[Path, typer.Argument(metavar="TELE", help="The tele photo of the scene.")],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="OUT", help="The result; its suffix is the format."),
    ],
    model: Annotated[
        Model, typer.Option(help="What reconstructs; detail-transfer needs no weights.")
    ] = Model.detail_transfer,
    scale: Annotated[
        float | None,
        typer.Option(
            metavar="S",
            help="Output pixels per wide pixel, 1 to 16.  [default: the pair's ratio, at most 4 "
            "and 200 megapixels]",
            show_default=False,
        ),
    ] = None,
    crop_to: Annotated[
        Part | None,
        typer.Option(help="Only the part that the tele photo shows.", show_default=False),
    ] = None,
    device: Annotated[
        str, typer.Option(metavar="NAME", help="auto, cpu, cuda, cuda:N or mps.")
    ] = "auto",
    format: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="png, jpeg, tiff, webp or heic.  [default: OUT's suffix]",
            show_default=False,
        ),
    ] = None,
    quality: Annotated[
        int | None,
        typer.Option(metavar="1..100", help="Of JPEG, WebP and HEIC.", show_default=False),
    ] = None,
    bit_depth: Annotated[
        int | None,
        typer.Option(
            metavar="8|16", help="Bits per colour.  [default: the wide photo's]", show_default=False
        ),
    ] = None,
    strip_metadata: Annotated[
        bool, typer.Option("--strip-metadata", help="Leave EXIF, GPS and XMP out of the result.")
    ] = False,
    preview: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.html", help="Write a page to look at the result.", show_default=False
        ),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Make the wide photo as sharp as the tele photo of the same scene.

    A tele photo that cannot help is refused with the reason, and the wide photo is enlarged
    without it.

    \b
    Examples:
      dualsr upscale wide.jpg tele.jpg -o out.png
      dualsr upscale wide.heic tele.heic -o out.heic --scale 2 --preview look.html
    """
    from dualsr_cli.reconstruction import UpscaleOptions
    from dualsr_cli.reconstruction import upscale as run

    console = Console(quiet=quiet, verbose=verbose, json=json)
    options = UpscaleOptions(
        scale=scale,
        crop_to_tele=crop_to is not None,
        device=device,
        format=format,
        quality=quality,
        bit_depth=bit_depth,
        strip_metadata=strip_metadata,
        preview=preview,
    )
    with console.progress() as progress:
        report = run(wide, tele, output, options, progress)
    for note in report.notes:
        console.say(f"dualsr: {note}")
    if report.refused:
        console.warn(f"{report.refused[1]}; enlarged without a tele photo")
    for name, value in report.facts().items():
        console.detail(f"{name}: {value}")
    console.result(str(report.output))
    code, sentence = report.refused or (None, None)
    console.emit_json(
        {
            "event": "upscaled",
            **asdict(report),
            "refused": code,
            "reason": sentence,
            "model": model.value,
        }
    )
    return 0
