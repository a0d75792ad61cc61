"""What a data set's layout gives: cases by their files, samples with their pixels, problems."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from dualsr_cli.errors import InputError
from dualsr_cli.networks import Inputs
from dualsr_cli.photos import READ_SUFFIXES, Photo

Box = tuple[int, int, int, int]
"""Top, left, bottom, right."""

Registration = Literal["aligned", "framed", "free"]
"""How the first reference lies on its box: pixel by pixel, as well as the data set's makers could
lay it; framed alike, but with parallax or motion in it; or in no way that is known."""


@dataclass(frozen=True)
class Case:
    """One photo to enlarge, by its files. Plain data, which can be sent to another process.

    name: of its own among the cases of one part and split; a relative path without a suffix, after
    which results are named ("0010_0000"; of a video "SEQUENCE/FRAME"). part: "" where the data set
    has no parts. recipe: how LR, references and truth are made of the files, a name in the table of
    `load`. wide: what LR is, or is made of. footprint: what the first reference shows, in pixels
    of LR: a box; "whole"; "center", the middle 1 / scale of both sides; None where only an
    alignment, or `load`, can tell. view: of a light field, the place of the truth in its grid, from
    the reference's on. window: height and width of the central part that is cut out first. crops:
    likewise, one of `wide` and one of each reference, in upright pixels. changes: what is done to
    LR after it was read, as an ablation asks for: names in the table of `load`, and how much.
    """

    name: str
    dataset: str
    part: str
    split: str
    scale: int
    recipe: str
    wide: Path
    refs: tuple[Path, ...]
    truth: Path | None
    footprint: Box | Literal["whole", "center"] | None = None
    registration: Registration = "free"
    view: tuple[int, int] | None = None
    window: tuple[int, int] | None = None
    crops: tuple[Box, ...] = ()
    changes: tuple[tuple[str, float], ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """All that `load` reads, each once."""
        truth = () if self.truth is None else (self.truth,)
        return tuple(dict.fromkeys((self.wide, *self.refs, *truth)))


@dataclass(frozen=True, eq=False)
class Sample:
    """The pixels of a case, in the depth of its files, and what is known of their geometry.

    lr: (H, W). refs: at least one; where `registration` is not "free" they are s times the size of
    `box`, s being the scale. hr: (s * H, s * W), the truth; None where the data set has none.
    box: what the first reference shows, in pixels of LR: Center and Corner are told apart by it;
    None where only an alignment can tell. center: what the first reference is at the resolution of
    LR, where it shows another scene than `lr` does (CUFED5).
    """

    case: Case
    lr: Photo
    refs: tuple[Photo, ...]
    hr: Photo | None
    box: Box | None = None
    registration: Registration = "free"
    center: Photo | None = None

    @property
    def truth_box(self) -> Box | None:
        """`box` in pixels of the truth."""
        if self.box is None:
            return None
        top, left, bottom, right = (side * self.case.scale for side in self.box)
        return top, left, bottom, right

    def inputs(self) -> Inputs:
        """A batch of one for a network, on the CPU.

        Raises ValueError where the reference has first to be aligned.
        """
        if self.registration == "free" and self.center is None:
            raise ValueError(f"{self.case.name}: its reference has first to be aligned")
        box = (0, 0, 0, 0) if self.box is None else self.box
        first, *others = map(as_tensor, self.refs)
        return Inputs(
            lr=as_tensor(self.lr),
            ref=first,
            box=torch.tensor([box], dtype=torch.int64),
            hr=None if self.hr is None else as_tensor(self.hr),
            more_refs=tuple(others),
            center=None if self.center is None else as_tensor(self.center),
        )


def as_tensor(photo: Photo) -> torch.Tensor:
    """(1, 3, h, w) float32, RGB in 0..1."""
    pixels = photo.window(0, 0, photo.height, photo.width)
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)[None]))


@dataclass(frozen=True)
class Problem:
    """A case that cannot be scored; `path` is the file at fault, `sentence` what is wrong."""

    name: str
    path: Path
    sentence: str

    @property
    def error(self) -> InputError:
        return InputError(self.path, self.sentence)


@dataclass(frozen=True)
class Found:
    """The cases of one part and split of a data set, and what is wrong with the others.

    published: how many cases the paper scored; None: not known.
    """

    cases: tuple[Case, ...]
    problems: tuple[Problem, ...]
    published: int | None = None

    @property
    def missing(self) -> int:
        """How many of the cases that there should be cannot be scored."""
        expected = max(self.published or 0, len(self.cases) + len(self.problems))
        return expected - len(self.cases)


Row = tuple[str, tuple[Path, ...]]
"""The name of a case, and one file of each folder."""


@dataclass(frozen=True)
class Search:
    """What `find_cases` was asked for, and how a layout looks for it.

    where: the sentence that says where the data is got and how it must lie.
    """

    dataset: str
    root: Path
    part: str
    split: str
    scale: int
    where: str

    def wrong(self, path: Path, what: str) -> InputError:
        return InputError(path, f"{what}: {self.where}")

    def base(self, *names: str) -> Path:
        """The first of ROOT/NAME that is there, or ROOT, which may be that folder itself."""
        inner = (self.root / name for name in names)
        return next((folder for folder in inner if folder.is_dir()), self.root)

    def pictures(self, folder: Path, key: Callable[[str], str | None] = str) -> dict[str, Path]:
        """The photos right in a folder by the key of their stem, sorted; those of None left out.

        Raises InputError where there is no such folder, no photo, or two of one key.
        """
        if not folder.is_dir():
            raise self.wrong(folder, "is not there")
        found: dict[str, Path] = {}
        for path in sorted(folder.iterdir()):
            name = key(path.stem)
            if path.name.startswith(".") or path.suffix.lower() not in READ_SUFFIXES:
                continue
            if name is None:
                continue
            if name in found:
                raise self.wrong(path, f"and {found[name].name} are two files for one case")
            found[name] = path
        if not found:
            raise self.wrong(folder, "holds none of the photos that should lie there")
        return found

    def rows(
        self, folders: Sequence[Path], key: Callable[[str], str | None] = str
    ) -> Iterator[Row | Problem]:
        """The photos of several folders, one of each in a row, by name.

        By sorted order, as the data sets' own programs read them, where the names of two folders
        are not the same at all. Raises InputError where neither fits.
        """
        columns = [self.pictures(folder, key) for folder in folders]
        first, *others = columns
        if not all(_same_names(first, other) for other in others):
            if len({len(column) for column in columns}) > 1:
                common = Path(os.path.commonpath(folders))
                held = ", ".join(
                    f"{len(column)} in {folder.relative_to(common).as_posix()}"
                    for folder, column in zip(folders, columns, strict=True)
                )
                raise self.wrong(common, f"holds photos that do not pair ({held})")
            for files in zip(*(column.values() for column in columns), strict=True):
                yield files[0].stem, files
            return
        for name in sorted(set().union(*columns)):
            files = tuple(column[name] for column in columns if name in column)
            if len(files) == len(columns):
                yield name, files
                continue
            lacking = folders[next(at for at, column in enumerate(columns) if name not in column)]
            yield Problem(
                name,
                files[0],
                f"has no partner in {lacking}: copy that file there again, or remove this one",
            )

    def case(self, name: str, recipe: str, **fields: Any) -> Case:
        return Case(name, self.dataset, self.part, self.split, self.scale, recipe, **fields)


def _same_names(first: Collection[str], other: Collection[str]) -> bool:
    """Whether two folders name their photos alike, though some may be missing."""
    return 2 * len(set(first) & set(other)) >= min(len(first), len(other))


def natural(name: str) -> tuple[str | int, ...]:
    """Sorts IMG_8 before IMG_17."""
    words = re.split(r"([0-9]+)", name)
    return tuple(int(word) if at % 2 else word for at, word in enumerate(words))
