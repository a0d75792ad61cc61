"""The options that are `dualsr bench`'s own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Methods = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAMES",
        help="bicubic, lanczos, detail-transfer, auto, or networks that `dualsr models` lists; "
        "commas between them.  [default: the three, and networks that two cores can afford]",
        show_default=False,
    ),
]

Results = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="DIR",
        help="Images that were made elsewhere: DIR/CASE.png, or DIR/CASE_anything.png. Repeat it, "
        "each with a --name.",
        show_default=False,
    ),
]

Names = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="What to call the method of --results, of each in their order.",
        show_default=False,
    ),
]

Metrics = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAMES",
        help="Of psnr, ssim, lpips and lpips-vgg (by VGG16, whose 553 MB have to be got first).  "
        "[default: the first three]",
        show_default=False,
    ),
]

Protocols = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAMES",
        help="Whose rules to score by: kedusr, dcsr, dcsr-x4, selfdzsr, ttsr, awnet, "
        "half-size, city100; commas between them.  [default: the data set's own]",
        show_default=False,
    ),
]

Ablation = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Score the rows of a paper's ablation in place of methods: variations of the one "
        "that --method names, or models of their own.",
        show_default=False,
    ),
]

Recipes = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Write the recipes of an ablation's rows for `dualsr train`, and score nothing.",
        show_default=False,
    ),
]

Output = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        metavar="FOLDER",
        help="Where the scores go, and what a run that goes on begins from.  "
        "[default: bench-DATASET, or bench-ABLATION]",
        show_default=False,
    ),
]

Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        metavar="N",
        min=1,
        help="Results made at once; here times are sound with 1 only.  [default: 1; with Ray "
        "one for every GPU, or machine]",
        show_default=False,
    ),
]
