"""The zoo: where models lie, and what each says of itself.

A model is a folder: `config.yaml` (the fields of `Model`), `weights.safetensors` and `README.md`
(its card). Those that are shipped come first, then a person's own.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import secrets
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dualsr_cli.errors import InputError, UsageError
from dualsr_cli.files import atomic_writer, fsync_folder, input_file, output_error

if TYPE_CHECKING:
    import torch

Setting = str | int | float | bool | tuple[str | int | float | bool, ...]

_WEIGHTS, _CONFIG, _CARD = "weights.safetensors", "config.yaml", "README.md"
_MOST_BYTES = 64 << 10  # of a config.yaml, or a card
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_PACKAGE = Path(__file__).parent.parent


@dataclass(frozen=True)
class Model:
    """A model as its config.yaml describes it.

    name: its folder's; shipped: whether it came with dualsr. kind: what it is for, one of `KINDS`;
    architecture: what builds the network; settings: that network's hyper-parameters, where they are
    not the published ones (with `compact: true` among them, not the compact ones). licence: an SPDX
    name; source: where the weights come from. sha256: of the weights, in hexadecimal.
    """

    name: str
    folder: Path
    shipped: bool
    kind: str
    architecture: str
    settings: Mapping[str, Setting]
    licence: str
    source: str
    sha256: str

    @property
    def weights(self) -> Path:
        return self.folder / _WEIGHTS


KINDS = ("backbone", "network")
"""What a model may be for. backbone: layers of an ImageNet classifier, as features or a metric;
network: super-resolution, by an architecture of the registry.
"""


def shipped_folder() -> Path:
    """The models that come with dualsr: in the package, or beside it in a source checkout."""
    packaged = _PACKAGE / "models"
    return packaged if packaged.is_dir() else _PACKAGE.parent / "models"


def own_folder() -> Path:
    """The models that a person has added: `DUALSR_HOME`'s, else where programs keep their data."""
    if home := os.environ.get("DUALSR_HOME"):
        return Path(home).expanduser() / "models"
    if sys.platform == "win32":
        data = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        data = "~/Library/Application Support"
    else:
        data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(data).expanduser() / "dualsr" / "models"


def list_models(unreadable: Callable[[InputError], None] | None = None) -> list[Model]:
    """All models, by name; of two with one name the shipped one.

    unreadable: told of each of a person's own whose description is bad; it is left out then.
    Raises InputError for a shipped one, and without `unreadable` for any.
    """
    found: dict[str, Model] = {}
    for folder in (shipped_folder(), own_folder()):
        for config in sorted(folder.glob("*/config.yaml")):
            if config.parent.name in found:
                continue
            try:
                found[config.parent.name] = _read_model(config.parent, config.parent.name)
            except InputError as error:
                if unreadable is None or folder == shipped_folder():
                    raise
                unreadable(error)
    return [found[name] for name in sorted(found)]


def find_model(name: str) -> Model:
    """The model of that name. Raises UsageError where there is none, InputError."""
    if _NAME.fullmatch(name):
        for folder in (shipped_folder(), own_folder()):
            if (folder / name / "config.yaml").is_file():
                return _read_model(folder / name, name)
    known = ", ".join(model.name for model in list_models(lambda error: None))
    raise UsageError(f"there is no model {name[:100]!r}: choose among {known or 'none at all'}")


def add_model(
    name: str,
    architecture: str,
    settings: Mapping[str, Setting],
    tensors: Mapping[str, torch.Tensor],
    *,
    licence: str,
    source: str,
    card: str = "",
) -> Model:
    """Keep weights as a network of a person's own. Raises UsageError, OutputError.

    card: what its README.md tells beside that, in Markdown. The folder appears whole or not at
    all: it is made under another name and renamed.
    """
    check_new_name(name)
    import yaml
    from safetensors.torch import save

    weights = save({key: tensor.contiguous() for key, tensor in tensors.items()})
    fields = {
        "kind": "network",
        "architecture": architecture,
        "settings": {key: list(v) if isinstance(v, tuple) else v for key, v in settings.items()},
        "licence": licence,
        "source": source,
        "sha256": hashlib.sha256(weights).hexdigest(),
    }
    config = yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)
    origin = source if card else f"added from {source}"
    title = f"# {name}\n\n{architecture}, {origin}. Licence: {licence}.\n"
    files = {
        _WEIGHTS: weights,
        _CONFIG: config.encode(),
        _CARD: (f"{title}\n{card}" if card else title).encode(),
    }
    _write_folder(own_folder() / name, files)
    return _read_model(own_folder() / name, name)


def export_model(name: str, folder: Path) -> Model:
    """Copy a model's files to a folder that is not there yet or empty: what `read_exported` reads.

    Raises UsageError where there is no such model or the folder holds something, InputError where
    its weights are not those that it was added with, OutputError.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UsageError(f"{folder} is there already: name a new folder for {name}")
    return _copied(find_model(name), folder)


def add_exported(model: Model) -> Model:
    """Keep a model that `read_exported` told of, with its card. Raises as `export_model` does."""
    check_new_name(model.name)
    return _copied(model, own_folder() / model.name)


def _copied(model: Model, folder: Path) -> Model:
    files = {}
    for file in (_WEIGHTS, _CONFIG, _CARD):
        path = model.folder / file
        if file != _CARD or path.exists():
            with input_file(path) as source:
                files[file] = source.read() if file == _WEIGHTS else source.read(_MOST_BYTES)
    if hashlib.sha256(files[_WEIGHTS]).hexdigest() != model.sha256:
        raise InputError(
            model.weights, "is not the file that it should be (its SHA-256 differs): add it again"
        )
    _write_folder(folder, files)
    return _read_model(folder, model.name)


def read_exported(weights: Path, name: str = "") -> Model | None:
    """What the config.yaml beside a file of weights says of it; None where there is none.

    name: what to call it, else its folder's name. Raises InputError.
    """
    if weights.name != _WEIGHTS or not (weights.parent / _CONFIG).is_file():
        return None
    return _read_model(weights.parent, name or weights.resolve().parent.name)


def check_new_name(name: str) -> None:
    """Raise UsageError for what is no model's name, or one's that there is."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name[:100]!r} is no model's name: use lower-case letters, digits and single dashes"
        )
    if _is_taken(name):
        raise UsageError(f"there is a model {name} already: choose another --name")


def new_name(*words: str) -> str:
    """A name that no model has, made of words: what is no letter or digit becomes a dash."""
    text = "".join(c if c.isascii() and c.isalnum() else " " for c in " ".join(words).lower())
    name = "-".join(text.split())[:100].strip("-") or "model"
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(each for each in names if not _is_taken(each))


def _is_taken(name: str) -> bool:
    return any((there / name).exists() for there in (shipped_folder(), own_folder()))


def _write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """A folder that appears whole or not at all. Raises OutputError."""
    staging = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.part")
    try:
        for file, data in files.items():
            with atomic_writer(staging / file) as out:
                out.write(data)
        if folder.is_dir():
            folder.rmdir()  # empty, or this fails
        os.rename(staging, folder)
        fsync_folder(folder.parent)
    except OSError as error:
        raise output_error(folder, error) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _read_model(folder: Path, name: str) -> Model:
    path = folder / _CONFIG
    if not _NAME.fullmatch(name):
        raise InputError(folder, "is no model's name: use lower-case letters, digits and dashes")
    given = _mapping(path)
    if unknown := [repr(key)[:100] for key in given if key not in _FIELDS]:
        raise InputError(path, f"has unknown keys ({', '.join(unknown[:3])}): remove them")
    if missing := [key for key in _FIELDS if key not in given]:
        raise InputError(path, f"lacks {', '.join(missing)}: add them")
    for key, (fits, kind) in _FIELDS.items():
        if not fits(given[key]):
            raise InputError(path, f"has a {key} that is not {kind}: correct it")
    settings = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in given.pop("settings").items()
    }
    shipped = folder.parent == shipped_folder()
    return Model(name=name, folder=folder, shipped=shipped, settings=settings, **given)


def _mapping(path: Path) -> dict[Any, Any]:
    """What a YAML file maps; nothing but plain values is built. Raises InputError."""
    with input_file(path) as file:
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise InputError(path, "is larger than 64 KiB, too large for a model's description")
    import yaml

    try:
        given = yaml.safe_load(data)
    except Exception as error:  # ill-formed values escape PyYAML as exceptions of many types
        problem = getattr(error, "problem", None) or type(error).__name__
        raise InputError(path, f"is no YAML ({problem}): correct it") from error
    if not isinstance(given, dict):
        raise InputError(path, "is no YAML mapping: write one key and its value a line")
    return given


def _is_line(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable() and bool(value.strip())


def _is_settings(value: Any) -> bool:
    return isinstance(value, dict) and all(
        _is_line(key) and all(map(_is_scalar, item if isinstance(item, list) else [item]))
        for key, item in value.items()
    )


def _is_scalar(value: Any) -> bool:
    return isinstance(value, bool | int | float) or _is_line(value)


_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "kind": (lambda value: value in KINDS, f"one of {', '.join(KINDS)}"),
    "architecture": (_is_line, "a name"),
    "settings": (_is_settings, "a mapping to words, numbers or lists of them"),
    "licence": (_is_line, "an SPDX name"),
    "source": (_is_line, "a line of text"),
    "sha256": (
        lambda value: isinstance(value, str) and bool(re.fullmatch("[0-9a-f]{64}", value)),
        "a SHA-256 of 64 hexadecimal digits",
    ),
}
"""The keys of a config.yaml, all of them needed: what fits them, and that in words."""


@dataclass(frozen=True)
class Published:
    """A file of weights that torchvision downloads."""

    url: str
    sha256: str
    size: int  # MB


PUBLISHED = {
    "vgg16": Published(
        "https://download.pytorch.org/models/vgg16-397923af.pth",
        "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
        553,
    ),
    "vgg19": Published(
        "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
        "dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44",
        575,
    ),
}
"""torchvision's ImageNet weights (IMAGENET1K_V1), which are too large to be shipped."""


def published_weights(name: str, download: bool = False) -> Path:
    """The file of `PUBLISHED` in torchvision's cache, where torchvision's own users have it too.

    It is downloaded, and checked by its SHA-256, only with `download`. Raises InputError where it
    is not there or cannot be had.
    """
    import torch.hub

    file = PUBLISHED[name]
    path = Path(torch.hub.get_dir()) / "checkpoints" / file.url.rpartition("/")[2]
    if path.is_file():
        return path
    if not download:
        raise InputError(path, f"does not exist: get {file.url} ({file.size} MB) and put it there")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Goes into a temporary file beside it, which is renamed once it is whole and right.
        torch.hub.download_url_to_file(file.url, str(path), file.sha256, progress=False)
    except (OSError, RuntimeError, HTTPException) as error:
        why = " ".join(str(error).split())[:200]
        raise InputError(path, f"cannot be had from {file.url} ({why}): try again later") from error
    return path
