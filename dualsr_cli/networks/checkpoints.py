"""A file of weights <-> a network: read as data and never as code, checked before it is used."""

from __future__ import annotations

import hashlib
import os
import re
import warnings
import zipfile
from collections.abc import Callable, Iterable, Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import nn

from dualsr_cli.errors import InputError
from dualsr_cli.files import input_file

Tensors = dict[str, torch.Tensor]

_MOST_BYTES = 4 << 30  # of a file; the largest published one, VGG19's with its classifier, has 0.6
_MOST_HEADER = 16 << 20  # bytes of safetensors' table of names; that of 10,000 tensors has 1 MiB
_WRAPPERS = ("params_ema", "params", "state_dict", "model_state_dict", "model")
"""What training programs call the weights in a file that holds more; the first one is taken."""
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_COUNTERS = (torch.int64,)  # batch normalisation counts its batches
_TOLD = 3  # names in an error's sentence


def read_weights(path: Path, sha256: str | None = None) -> Tensors:
    """The tensors of a file by name, on the CPU, in the types that they are stored in.

    `.safetensors`; or `.pth`, `.pt`, `.ckpt` and `.pkl`, PyTorch's, which are read without running
    any code from them: a dictionary of tensors, or one wrapped as training programs do
    (`state_dict`, `params`, `params_ema`, ...). A `module.` before all names is dropped. sha256:
    what the file has to have, in hexadecimal.

    Raises InputError for a file that is missing, no such file, too large, damaged, of another
    SHA-256, with code in it, without tensors, or with values that no network has (NaN, infinity,
    complex or quantised numbers).
    """
    if path.is_dir():
        raise InputError(path, "is a folder: name a file of weights")
    read = _READERS.get(path.suffix.lower())
    if read is None:
        raise InputError(path, f"is no file of weights: name one that ends in {_listed(_READERS)}")
    with input_file(path) as raw, BufferedReader(raw) as file:
        size = os.fstat(file.fileno()).st_size
        if size > _MOST_BYTES:
            raise InputError(path, f"has {size >> 30} GiB, too much for weights: name another file")
        if sha256 is not None and _sha256(file) != sha256:
            raise InputError(
                path, "is not the file that it should be (its SHA-256 differs): get it again"
            )
        file.seek(0)
        tensors = _without_prefix(_unwrapped(read(path, file), path))
    _check_values(tensors, size, path)
    return tensors


def load_into(module: nn.Module, tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Give a network the weights that were read from `path`; they are copied, in its own types.

    Strict: see `check_weights`. Raises InputError, and leaves the network as it was then.
    """
    check_weights(module, tensors, path)
    module.load_state_dict(tensors)


def check_weights(module: nn.Module, tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Raise InputError where a name is missing or unexpected, a shape or kind of number differs."""
    own = module.state_dict()
    complaints = []
    if missing := [name for name in own if name not in tensors]:
        complaints.append(f"lacks {_shortened(missing)}")
    if unexpected := [name for name in tensors if name not in own]:
        complaints.append(f"has {_shortened(unexpected)}, unknown there")
    both = [name for name in own if name in tensors]
    if shapes := [
        f"{name} as {tuple(tensors[name].shape)} in place of {tuple(own[name].shape)}"
        for name in both
        if tensors[name].shape != own[name].shape
    ]:
        complaints.append(f"has {_shortened(shapes)}")
    if kinds := [
        name for name in both if tensors[name].is_floating_point() != own[name].is_floating_point()
    ]:
        complaints.append(f"has other kinds of numbers in {_shortened(kinds)}")
    if complaints:
        raise InputError(
            path,
            f"does not fit {type(module).__name__}: it {' and '.join(complaints)}; "
            "name weights of this network",
        )


def _read_safetensors(path: Path, file: BinaryIO) -> Any:
    header = int.from_bytes(file.read(8), "little")
    if header > _MOST_HEADER:
        raise _damaged(path, f"its header would have {header} bytes")
    file.seek(0)
    import safetensors.torch

    return _guarded(lambda: safetensors.torch.load(file.read()), path)


def _read_torch(path: Path, file: BinaryIO) -> Any:
    def read() -> Any:
        if zipfile.is_zipfile(file):
            _check_archive(path, file)
        file.seek(0)
        return torch.load(file, map_location="cpu", weights_only=True)

    return _guarded(read, path)


_READERS: dict[str, Callable[[Path, BinaryIO], Any]] = {
    ".safetensors": _read_safetensors,
    ".pth": _read_torch,
    ".pt": _read_torch,
    ".ckpt": _read_torch,
    ".pkl": _read_torch,
}


def _check_archive(path: Path, file: BinaryIO) -> None:
    """Refuse what could unpack to any size: PyTorch compresses nothing and shares no bytes."""
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
    packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    if packed or sum(entry.file_size for entry in entries) > file.seek(0, os.SEEK_END):
        raise InputError(
            path, "unpacks to more than it holds, as no weights do: save them with PyTorch"
        )


def _guarded(read: Callable[[], Any], path: Path) -> Any:
    """What a library reads; whatever it raises for a hostile or damaged file as a sentence."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of PyTorch, about kinds that are refused afterwards
            return read()
    except InputError:
        raise
    except MemoryError as error:
        raise InputError(
            path, "asks for more memory than there is: free some, or get the file again"
        ) from error
    except Exception as error:  # the libraries promise no type, and damage finds every one
        if forbidden := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise InputError(
                path,
                f"holds more than tensors ({forbidden[1]}), which is not run: save its tensors "
                "alone, as safetensors",
            ) from error
        why = " ".join(str(error).split())
        raise _damaged(path, why if 0 < len(why) <= 100 else type(error).__name__) from error


def _damaged(path: Path, why: str) -> InputError:
    return InputError(path, f"is damaged or holds no weights ({why}): get it again")


def _unwrapped(loaded: Any, path: Path) -> Tensors:
    """The dictionary of tensors in what a file holds."""
    for candidate in (loaded, *(_item(loaded, name) for name in _WRAPPERS)):
        if (
            isinstance(candidate, dict)
            and candidate
            and all(map(_is_named_tensor, candidate.items()))
        ):
            return {name: tensor.detach() for name, tensor in candidate.items()}
    raise InputError(
        path,
        f"holds no tensors by name, neither as such nor under {_listed(_WRAPPERS)}: "
        "name a network's weights",
    )


def _item(loaded: Any, name: str) -> Any:
    return loaded.get(name) if isinstance(loaded, dict) else None


def _is_named_tensor(item: tuple[Any, Any]) -> bool:
    return isinstance(item[0], str) and isinstance(item[1], torch.Tensor)


def _without_prefix(tensors: Tensors) -> Tensors:
    """Names without the `module.` that training on several GPUs puts before each."""
    if not all(name.startswith("module.") for name in tensors):
        return tensors
    return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}


def _check_values(tensors: Tensors, size: int, path: Path) -> None:
    """Raise InputError for tensors that are no plain, finite numbers out of the file's bytes."""
    storages = {}
    for name, tensor in tensors.items():
        stored = tensor.layout == torch.strided and tensor.device.type == "cpu"
        if not stored or tensor.dtype not in (*_FLOATS, *_COUNTERS):
            kind = str(tensor.dtype).removeprefix("torch.")
            raise InputError(
                path,
                f"has {_short(name)} as {kind if stored else 'a tensor without values'}, which "
                "weights are not: name another file",
            )
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        # What a file tells of sizes is not believed: a few bytes can be called a huge tensor.
        if tensor.numel() * tensor.element_size() > storage.nbytes():
            raise _damaged(path, f"{_short(name)} is larger than what is stored of it")
    if sum(storages.values()) > size:
        raise _damaged(path, "its tensors are larger than the file")
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise InputError(
                path, f"has NaN or infinity in {_short(name)}: name weights whose training held"
            )


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def _shortened(names: list[str]) -> str:
    rest = len(names) - _TOLD
    told = ", ".join(map(_short, names[:_TOLD]))
    return f"{told} and {rest} more" if rest > 0 else told


def _short(name: str) -> str:
    """A name from a file, on one line and not too long."""
    line = "".join(letter if letter.isprintable() else "?" for letter in name)
    return line if len(line) <= 100 else f"{line[:100]}..."


def _listed(words: Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} or {last}"
