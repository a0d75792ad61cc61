"""`dualsr models`: which there are, how one is added, and how one is taken out."""

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


_UNKNOWN = "LicenseRef-unknown"


class Action(str, Enum):
    list = "list"
    add = "add"
    export = "export"


def models(
    action: Annotated[Action, typer.Argument(help="What to do.")] = Action.list,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE",
            help="For add: a published checkpoint (.pth, .pt, .ckpt, .pkl) or .safetensors; all "
            "its files where there are several. For export: a model's name.",
            show_default=False,
        ),
    ] = None,
    as_: Annotated[
        str | None,
        typer.Option(
            "--as",
            metavar="NETWORK",
            help="For add: which network it is of; an exported model tells itself.",
            show_default=False,
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
    ] = _UNKNOWN,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="FOLDER", help="For export: a new folder.", show_default=False
        ),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """List the models that are shipped and your own, add one, or export one.

    A file that is added must hold exactly that network's weights; it is read without running any
    code from it, and kept in your own models' folder. What is exported is a folder with
    weights.safetensors, config.yaml and a card, README.md; another machine adds its weights.

    \b
    Examples:
      dualsr models
      dualsr models add kedusr_dusr_real.pth --as kedusr --name kedusr-published
      dualsr models add RefSR_model_401.pth Student_model_400.pth --as selfdzsr
      dualsr models export kedusr-mine -o kedusr-mine
      dualsr models add kedusr-mine/weights.safetensors
    """
    console = Console(quiet=quiet, json=json)
    if output is not None and action is not Action.export:
        raise UsageError("-o is where an export goes: did you mean dualsr models export?")
    if action is Action.add:
        _show(console, [_add([Path(word) for word in words or []], as_, name, licence)])
    elif action is Action.export:
        if not words or len(words) > 1 or output is None or as_ is not None or name is not None:
            raise UsageError(
                "an export has a name and a place: dualsr models export NAME -o FOLDER"
            )
        from dualsr_cli.networks import export_model

        _show(console, [export_model(words[0], output)])
        console.say(f"dualsr: `dualsr models add {output / 'weights.safetensors'}` takes it back")
    elif words or as_ is not None or name is not None:
        raise UsageError("a list takes no file and no name: did you mean dualsr models add?")
    else:
        from dualsr_cli.networks import list_models

        _show(console, list_models(lambda error: console.warn(str(error))))
    return 0


def _add(files: list[Path], architecture: str | None, name: str | None, licence: str) -> Model:
    from dualsr_cli.networks import add_model, fitting, read_exported, read_weights

    if len(files) == 1 and architecture is None and (told := read_exported(files[0], name or "")):
        return _add_exported(told)
    if not files or architecture is None:
        raise UsageError("what to add is missing: dualsr models add FILE --as NETWORK")
    settings, tensors = fitting(architecture, [(file, read_weights(file)) for file in files])
    stem = files[0].stem.lower()
    words = "".join(c if c.isascii() and c.isalnum() else " " for c in stem).split()
    own = "-".join(words if words[:1] == [architecture] else [architecture, *words])
    source = ", ".join(file.name for file in files)
    return add_model(name or own, architecture, settings, tensors, licence=licence, source=source)


def _add_exported(told: Model) -> Model:
    """A model by what its folder says of it, once its weights have proved to be that network's."""
    from dualsr_cli.networks import add_exported, build, load_into, read_weights

    if told.kind != "network":
        raise UsageError(f"{told.folder} holds a {told.kind}, which is of no use alone")
    network = build(told.architecture, told.settings)
    load_into(network, read_weights(told.weights, told.sha256), told.weights)
    return add_exported(told)


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
