"""`--config` and `--save-config`: the options of a command as a YAML file.

The file is a flat mapping of option names, as on the command line without the leading dashes:

    max-gap: 60
    no-content-check: true

An option that may be repeated has its words there with commas between them.

What stands in it is taken as the same word on the command line would be, so that both pass the
same checks; a word on the command line overrides it. Paths are relative to the current folder.

A command with these options has `config: Config = None` and `save_config: SaveConfig = None` in
its signature, and begins with `save_options(context, save_config)`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from difflib import get_close_matches
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from dualsr_cli.errors import DualsrError, InputError, UsageError
from dualsr_cli.files import atomic_writer, input_file

__all__ = ["Config", "SaveConfig", "save_options"]

_MAX_BYTES = 1 << 20
_LONGEST_TOLD = 60  # characters of a name in an error's sentence
_LONGEST_REASON = 200
_LIKE = "write one option a line, like quiet: true"


class _Entry(NamedTuple):
    """One line of a file: where it stands, the option's name, its value as it is written."""

    place: str
    name: str
    word: str
    quoted: bool


def _load(context: typer.Context, value: Path | None) -> Path | None:
    """Make the file's values the defaults of the options not yet looked at: all but eager ones."""
    if value is None or context.resilient_parsing:  # the latter: only completing words
        return value
    options = _options(context)
    values: dict[str, Any] = {}
    for entry in _entries(value):
        option = options.get(entry.name)
        if option is None:
            raise UsageError(_unknown(entry, options, context))
        if option.name in values:
            raise UsageError(f"{entry.place}: {entry.name} stands there twice: remove one")
        values[option.name] = _checked(entry, option, context)
    context.default_map = {**(context.default_map or {}), **values}
    return value


Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        callback=_load,
        is_eager=True,
        help="Take options from a YAML file; the command line overrides them. Paths in it are "
        "relative to the current folder.",
        show_default=False,
    ),
]
SaveConfig = Annotated[
    Path | None,
    typer.Option(
        "--save-config",
        metavar="FILE",
        is_eager=True,
        help="Save the options in force as a YAML file for --config, and go on.",
        show_default=False,
    ),
]


def save_options(context: typer.Context, file: Path | None) -> None:
    """Write the options that differ from their defaults to `file`; nothing where it is None.

    Raises OutputError.
    """
    if file is None:
        return
    import yaml

    values = {
        name: _plain(context.params[option.name])
        for name, option in _options(context).items()
        if not _is_default(context.params[option.name], option.default)
    }
    legible = all(str(value).isprintable() for value in values.values())  # else: escapes
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=legible, width=math.inf)
    with atomic_writer(file) as stream:
        stream.write(text.encode())


def _options(context: typer.Context) -> dict[str, Any]:
    """The options that a file may hold, by their long names.

    Eager ones are not among them: --help, --config and --save-config.
    """
    return {
        word[2:]: option
        for option in context.command.params
        if option.param_type_name == "option" and not option.is_eager
        for word in option.opts
        if word.startswith("--")
    }


def _entries(path: Path) -> Iterator[_Entry]:
    """The entries of a file, read as YAML's events: nothing is built, nested or expanded.

    Raises InputError for a file that cannot be read, UsageError for what is no flat mapping.
    """
    import yaml

    inside = ended = False
    name: str | None = None
    try:
        for event in yaml.parse(_content(path), Loader=yaml.SafeLoader):
            mark: Any = event.start_mark
            place = f"{path}, line {mark.line + 1}"
            if getattr(event, "tag", None) or getattr(event, "anchor", None):
                where = f" of {_short(name)}" if name is not None else ""
                raise UsageError(
                    f"{place}: a tag, anchor or alias{where} is not taken: write plain words"
                )
            if isinstance(event, yaml.DocumentStartEvent) and ended:
                raise UsageError(f"{place}: a second document begins: make it a file of its own")
            if isinstance(event, yaml.MappingEndEvent):
                inside, ended = False, True
            elif isinstance(event, yaml.MappingStartEvent) and not inside:
                inside = True
            elif isinstance(event, yaml.CollectionStartEvent):
                where = f"{_short(name)} holds" if name is not None else "there is"
                raise UsageError(f"{place}: {where} a list or a mapping: {_LIKE}")
            elif isinstance(event, yaml.ScalarEvent):
                if not inside:
                    if event.value or event.style:  # an empty document holds one empty word
                        raise UsageError(f"{place}: {_short(event.value)} is no option: {_LIKE}")
                elif name is None:
                    name = event.value
                else:
                    yield _Entry(place, name, event.value, event.style is not None)
                    name = None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}, line {mark.line + 1}" if mark else str(path)
        problem = getattr(error, "problem", None) or getattr(error, "reason", "not readable")
        raise UsageError(f"{place}: is no YAML ({problem}): {_LIKE}") from error


def _content(path: Path) -> bytes:
    if path.is_dir():
        raise InputError(path, "is a folder: name a YAML file")
    with input_file(path) as file:
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise InputError(path, "is larger than 1 MiB, too large for options: name another file")
    return data


def _checked(entry: _Entry, option: Any, context: typer.Context) -> str | bool | list[str]:
    """The value, once the option's own checks have taken it."""
    truth = None if entry.quoted else {"true": True, "false": False}.get(entry.word.lower())
    start = f"{entry.place}: {entry.name}"
    if option.is_bool_flag:
        if truth is None:
            raise UsageError(f"{start} is a flag, not {_short(entry.word)}: write true or false")
        return truth
    if truth is not None:
        raise UsageError(f"{start} takes a value, not {entry.word}: quote it if you mean the word")
    if not entry.quoted and entry.word.lower() in ("", "~", "null"):
        raise UsageError(f"{start} has no value: give one, or remove the line for the default")
    if "\0" in entry.word:
        raise UsageError(f"{start} contains a NUL: remove it")
    value = entry.word.split(",") if option.multiple else entry.word
    try:
        option.process_value(context, value)
    except (typer.BadParameter, DualsrError) as error:
        told = " ".join(getattr(error, "message", str(error)).split()).rstrip(".")
        told = told.removeprefix("Value error, ")[:_LONGEST_REASON]
        raise UsageError(
            f"{start}: {_short(entry.word)} is not possible ({told}): "
            f"see '{context.command_path} --help'"
        ) from error
    return value


def _unknown(entry: _Entry, options: dict[str, Any], context: typer.Context) -> str:
    name = _short(entry.name)
    if entry.name in ("config", "save-config", "help"):
        return f"{entry.place}: {name} cannot stand in a file: give it on the command line"
    short = [known for known, option in options.items() if f"-{entry.name}" in option.opts]
    close = short or get_close_matches(entry.name.strip("-")[:_LONGEST_TOLD], options, n=1)
    remedy = f"write {close[0]}" if close else f"choose among {', '.join(options)}"
    return f"{entry.place}: {name} is no option of '{context.command_path}': {remedy}"


def _short(word: str | None) -> str:
    """A word of the file on one line, cut where it is long."""
    line = " ".join((word or "").split())
    return repr(line) if len(line) <= _LONGEST_TOLD else repr(line[:_LONGEST_TOLD]) + "..."


def _is_default(value: Any, default: Any) -> bool:
    return bool(value == default or _plain(value) == _plain(default))


def _plain(value: Any) -> Any:
    """A value in YAML's types, as the word that would be written on the command line."""
    if isinstance(value, Enum):
        return _plain(value.value)
    if isinstance(value, list | tuple):
        return ",".join(map(str, value)) or None
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # YAML's own word for it, .inf, is not the command line's
    return value if value is None or isinstance(value, bool | int | float) else str(value)
