"""`dualsr models`: which there are, and how one is added."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dualsr_cli.commands.options import Json, Quiet
from dualsr_cli.console import Console
from dualsr_cli.errors import UsageError

if TYPE_CHECKING:
    from dualsr_cli.networks import Model


class Action(str, Enum):
    list = "list"
    add = "add"


def models(
    action: Annotated[Action, typer.Argument(help="What to do.")] = Action.list,
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            help="For add: a published checkpoint (.pth, .pt, .ckpt) or .safetensors.",
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
    """
    console = Console(quiet=quiet, json=json)
    if action is Action.add:
        if file is None or as_ is None:
            raise UsageError("what to add is missing: dualsr models add FILE --as NETWORK")
        _show(console, [_add(file, as_, name, licence)])
    elif file is not None or as_ is not None or name is not None:
        raise UsageError("a list takes no file and no name: did you mean dualsr models add?")
    else:
        from dualsr_cli.networks import list_models

        _show(console, list_models())
    return 0


def _add(file: Path, architecture: str, name: str | None, licence: str) -> Model:
    from dualsr_cli.networks import add_model, fitting, read_weights

    tensors = read_weights(file)
    settings = fitting(architecture, tensors, file)
    words = "".join(c if c.isascii() and c.isalnum() else " " for c in file.stem.lower()).split()
    own = "-".join(words if words[:1] == [architecture] else [architecture, *words])
    return add_model(
        name or own, architecture, settings, tensors, licence=licence, source=file.name
    )


def _show(console: Console, found: list[Model]) -> None:
    from dualsr_cli.networks import count_parameters

    rows = [
        (
            model.name,
            model.architecture,
            model.settings.get("scale", "-"),
            f"{count_parameters(model):,}",
            model.licence,
            "shipped" if model.shipped else "yours",
        )
        for model in found
    ]
    console.table(["name", "network", "scale", "parameters", "licence", "from"], rows)
    for model in found:
        console.emit_json(
            {
                "event": "model",
                "name": model.name,
                "kind": model.kind,
                "architecture": model.architecture,
                "settings": dict(model.settings),
                "parameters": count_parameters(model),
                "licence": model.licence,
                "source": model.source,
                "sha256": model.sha256,
                "shipped": model.shipped,
                "folder": str(model.folder),
            }
        )
