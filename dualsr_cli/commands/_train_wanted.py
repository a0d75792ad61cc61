"""What `dualsr train` is told to train on: the words of --data and of what belongs to it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from dualsr_cli.errors import UsageError

if TYPE_CHECKING:
    from dualsr_cli.training import Wanted

_ITEM = re.compile(r"(?P<kind>[a-z0-9-]+)(:(?P<share>\d+(\.\d+)?))?=(?P<place>.+)")
_BETWEEN = re.compile(r",(?=[a-z0-9-]+(?::[\d.]+)?=)")


def wanted_of(
    data: str | None, dataset: str, part: str, kind: str, validate: Path | None
) -> list[Wanted]:
    """One folder, or those of KIND=DIR,KIND:SHARE=DIR,... Raises UsageError."""
    from dualsr_cli.training import Wanted

    if kind and dataset:
        raise UsageError("--kind and --dataset exclude each other: leave one out")
    words = _BETWEEN.split(data or "")
    if data is None or not _ITEM.fullmatch(words[0]) or Path(data).exists():
        return [Wanted(None if data is None else Path(data), dataset, part, kind, validate)]
    if kind or dataset or part or validate:
        raise UsageError(
            "--data KIND=DIR says all of its data: leave --kind, --dataset, --part and --validate "
            "out"
        )
    return [_item(word) for word in words]


def _item(word: str) -> Wanted:
    from dualsr_cli.benchmark import LAYOUTS
    from dualsr_cli.training import KINDS, Wanted

    found = _ITEM.fullmatch(word)
    if found is None:
        raise UsageError(f"--data {word[:100]} is no KIND=DIR: write it like photos=~/Pictures")
    name, share = found["kind"], float(found["share"] or 1)
    if name not in (*KINDS, *LAYOUTS):
        raise UsageError(
            f"--data {word[:100]}: {name} is neither one of {', '.join(KINDS)} nor a data set of "
            "the bench"
        )
    if share == 0:
        raise UsageError(f"--data {word[:100]} has a share of 0: leave it out")
    place = Path(found["place"]).expanduser()
    if name in KINDS:
        return Wanted(place, kind=name, share=share)
    return Wanted(place, dataset=name, share=share)
