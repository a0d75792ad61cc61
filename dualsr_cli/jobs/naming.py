"""Where each item's result goes: the input's own place and name, and never two in one place."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath


@dataclass(frozen=True)
class Wish:
    """An item's name before others are considered.

    path: of its main input, relative to the source. suffix: of the result, with the dot; "" for a
    folder. identity: all its inputs' names, which no other item has.
    """

    path: str
    suffix: str
    identity: tuple[str, ...]


def names(wishes: Sequence[Wish]) -> list[str]:
    """A name for each item, relative to the output folder, that no other has on any system.

    The input's suffix gives way to the result's: `a/x.heic` -> `a/x.png`. Those that would meet
    keep both, `a/x.heic.png`; if they still meet they get a part of their inputs' hash. The same
    set of items gives the same names, in whatever order.
    """
    found = [""] * len(wishes)
    rest = list(range(len(wishes)))
    taken: set[str] = set()
    for form in (_short, _long, _hashed):
        tried = {index: form(wishes[index]) for index in rest}
        count = Counter(map(_same, tried.values()))
        for index, name in tried.items():
            if count[_same(name)] == 1 and _same(name) not in taken:
                found[index] = name
        taken |= {_same(found[index]) for index in rest if found[index]}
        rest = [index for index in rest if not found[index]]
    for index in rest:  # the very same inputs once more: the table's reader refuses that
        found[index] = _hashed(wishes[index], salt=str(index))
    return found


def in_shard(name: str, shard: tuple[int, int]) -> bool:
    """Whether an item belongs to part i of n, 1-based: by its name, so that it stays there."""
    number, count = shard
    return int.from_bytes(_digest(name)[:8], "big") % count == number - 1


def _short(wish: Wish) -> str:
    path = _clean(wish.path)
    return str(path.with_name((path.stem or path.name) + wish.suffix))


def _long(wish: Wish) -> str:
    path = _clean(wish.path)
    return str(path.with_name(path.name + wish.suffix))


def _hashed(wish: Wish, salt: str = "") -> str:
    path = _clean(wish.path)
    part = _digest("\0".join((*wish.identity, salt))).hex()[:8]
    return str(path.with_name(f"{path.name}-{part}{wish.suffix}"))


def _clean(path: str) -> PurePosixPath:
    """Without what would lead out of the output folder, into dualsr's own, or mean a folder."""
    parts = PurePosixPath(path.replace("\\", "_")).parts
    kept = [part for part in parts if part not in ("/", "..", ".")]
    if kept[0].casefold() == ".dualsr":
        kept[0] = "_" + kept[0]
    return PurePosixPath(*kept)


def _same(name: str) -> str:
    """What file systems that ignore case, or the spelling of accents, take for the same name."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
