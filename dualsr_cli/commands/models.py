"""`dualsr models`: which there are, and how one is added."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dualsr_cli.commands.options import Json, Quiet
from dualsr_cli.console import Console
from dualsr_cli.errors import DualsrError, UsageError

if TYPE_CHECKING:
    from dualsr_cli.networks import Model


class Action(str, Enum):
    list = "list"
    add = "add"


def models(
    action: Annotated[Action, typer.Argument(help="What to do.")] = Action.list,
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FILE...",
            help="For add: a published checkpoint (.pth, .pt, .ckpt, .pkl) or .safetensors; all "
            "its files where there are several.",
            show_default=False,
        ),
    ] = None,
    as_: Annotated[
        str | None,
        typer.Option(
            "--as", metavar="NETWORK", help="For add: which network it is of.", show_default=False
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="For add: what to call it; else by network and file name."
        ),
    ] = None,
    licence: Annotated[
        str, typer.Option(metavar="SPDX", help="For add: the weights' licence.")
    ] = "LicenseRef-unknown",
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """List the models that are shipped and your own, or add one.

    A file that is added must hold exactly that network's weights; it is read without running any
    code from it, and kept in your own models' folder.

    \b
    Examples:
      dualsr models
      dualsr models add kedusr_dusr_real.pth --as kedusr --name kedusr-published
      dualsr models add RefSR_model_401.pth Student_model_401.pth --as selfdzsr
    """
    console = Console(quiet=quiet, json=json)
    if action is Action.add:
        if not files or as_ is None:
            raise UsageError("what to add is missing: dualsr models add FILE --as NETWORK")
        _show(console, [_add(files, as_, name, licence)])
    elif files or as_ is not None or name is not None:
        raise UsageError("a list takes no file and no name: did you mean dualsr models add?")
    else:
        from dualsr_cli.networks import list_models

        _show(console, list_models(lambda error: console.warn(str(error))))
    return 0


def _add(files: list[Path], architecture: str, name: str | None, licence: str) -> Model:
    from dualsr_cli.networks import add_model, fitting, read_weights

    settings, tensors = fitting(architecture, [(file, read_weights(file)) for file in files])
    stem = files[0].stem.lower()
    words = "".join(c if c.isascii() and c.isalnum() else " " for c in stem).split()
    own = "-".join(words if words[:1] == [architecture] else [architecture, *words])
    source = ", ".join(file.name for file in files)
    return add_model(name or own, architecture, settings, tensors, licence=licence, source=source)


def _show(console: Console, found: list[Model]) -> None:
    from dualsr_cli.networks import count_parameters, scale_of

    told: list[tuple[Model, int | None, int]] = []
    for model in found:
        try:
            scale = scale_of(model) if model.kind == "network" else None
            told.append((model, scale, count_parameters(model)))
        except DualsrError as error:
            if model.shipped:
                raise
            console.warn(f"{model.name}: {error}")
    rows = [
        (
            model.name,
            model.architecture,
            "-" if scale is None else f"{scale}x",
            f"{parameters:,}",
            model.licence,
            "shipped" if model.shipped else "yours",
        )
        for model, scale, parameters in told
    ]
    console.table(["name", "network", "scale", "parameters", "licence", "from"], rows)
    for model, _, parameters in told:
        console.emit_json(
            {
                "event": "model",
                "name": model.name,
                "kind": model.kind,
                "architecture": model.architecture,
                "settings": dict(model.settings),
                "parameters": parameters,
                "licence": model.licence,
                "source": model.source,
                "sha256": model.sha256,
                "shipped": model.shipped,
                "folder": str(model.folder),
            }
        )
