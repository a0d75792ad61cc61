"""What the name of a photo tells: when it was taken, what it shows, whose copy it is."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import PurePosixPath
from typing import NamedTuple

_STAMP = re.compile(
    r"(?<!\d)(20\d\d)([-_.]?)(\d\d)\2(\d\d)"  # date, with one separator throughout
    r"[-_ T]?(\d\d)([-_.]?)(\d\d)\6(\d\d)"  # time, likewise
    r"(?:[-_.]?(\d{3}))?(?!\d)"  # thousandths of a second
)
_ROLES = (
    re.compile(r"(?P<rest>.+)[-_. ](?P<role>wide|tele|w|t)"),
    re.compile(r"(?P<role>wide|tele)(?:[-_. ](?P<rest>.+))?"),
)
_COPY_MARKS = re.compile(r"(?:[ _-]*(?:\(\d+\)|copy(?: \d+)?|edited)|~\d+)+$")


class Role(NamedTuple):
    """Which of the two a name claims to be, and what it has in common with the other one."""

    tele: bool
    scene: tuple[str, ...]


def role(name: PurePosixPath) -> Role | None:
    """The role by the last or first word of the name (x_wide, x_T, tele-x, wide), or its folder."""
    stem = name.stem.casefold()
    folders = tuple(part.casefold() for part in name.parent.parts)
    for pattern in _ROLES:
        if match := pattern.fullmatch(stem):
            return Role(match["role"].startswith("t"), (*folders, match["rest"] or ""))
    for word in ("wide", "tele"):
        if word in folders:
            at = folders.index(word)
            return Role(word == "tele", (*folders[:at], "*", *folders[at + 1 :], stem))
    return None


def stamp(name: PurePosixPath) -> tuple[datetime, bool] | None:
    """The time in a name, and whether it is UTC rather than local time.

    IMG_20240102_101112_123, 20240102_101112, 2024-01-02 10.11.12; PXL_20240102_101112123 in UTC,
    as Pixel phones name their files.
    """
    match = _STAMP.search(name.stem)
    if not match:
        return None
    year, month, day, hour, minute, second = (int(match[n]) for n in (1, 3, 4, 5, 7, 8))
    try:
        time = datetime(year, month, day, hour, minute, second, int(match[9] or 0) * 1000)
    except ValueError:
        return None
    return time, name.stem.startswith("PXL_")


def original_stem(name: PurePosixPath) -> str:
    """The stem without the marks of edited and repeated copies: IMG_E1234, x (1), x-edited, x~2."""
    stem = re.sub(r"^img_e(?=\d+$)", "img_", name.stem.casefold())
    return _COPY_MARKS.sub("", stem)


def number(name: PurePosixPath) -> tuple[tuple[str, str], int] | None:
    """The series that a name belongs to (its folder, what stands before the number), and where."""
    match = re.fullmatch(r"(.*?)(\d{1,9})\D*", name.stem)
    return ((str(name.parent), match[1]), int(match[2])) if match else None
