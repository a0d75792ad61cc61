"""Layouts of the data sets of two lenses: KeDuSR's three, CameraFusion, DRealSR, City100."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dualsr_cli.benchmark._layouts_case import Box, Case, Problem, Search

_MAX_JSON = 1 << 20  # bytes

Finder = Callable[[Search], Iterator[Case | Problem]]

_CAMERAS = {
    # Part -> the folder of SelfDZSR's release, what file names begin with in DRealSR's.
    "nikon": ("Nikon", ("DSC",)),
    "canon": ("Canon", ("IMG", "Canon", "0510")),
    "olympus": ("Olympus", ("P11",)),
    "panasonic": ("Panasonic", ("pan",)),
    "sony": ("Sony", ("sony",)),
}

CAMERAS = tuple(_CAMERAS)


def kedusr(release: str) -> Finder:
    """One of the data sets of KeDuSR's release.

    In the training part a reference covers the whole truth (Ref_full); a key patch is cut at the
    same place of LR. In the test part it covers a box of its own for each photo.
    """

    def find(search: Search) -> Iterator[Case | Problem]:
        base = search.base(release)
        folder = base / search.split
        if search.split == "train":
            for row in search.rows([folder / name for name in ("LR", "HR", "Ref_full")]):
                yield row if isinstance(row, Problem) else _triplet(search, row, "whole")
            return
        boxes_file, boxes = _boxes(search, base, release)
        for row in search.rows([folder / name for name in ("LR", "HR", "Ref_SIFT")]):
            if isinstance(row, Problem):
                yield row
                continue
            file_name = row[1][0].name
            box = _box(boxes.get(file_name), search.scale)
            if box is None:
                yield Problem(
                    row[0],
                    boxes_file,
                    f"has no box [top, bottom, left, right], in pixels of HR that {search.scale} "
                    f"divides, for {file_name}: copy it again from KeDuSR's repository",
                )
            else:
                yield _triplet(search, row, box)

    return find


def _triplet(search: Search, row: tuple[str, tuple[Path, ...]], footprint: Any) -> Case:
    name, (lr, hr, ref) = row
    fields = {"wide": lr, "refs": (ref,), "truth": hr, "footprint": footprint}
    return search.case(name, "filed", registration="aligned", **fields)


def _boxes(search: Search, base: Path, release: str) -> tuple[Path, dict[str, Any]]:
    """The table of centre boxes, beside the data set or as in KeDuSR's working folder."""
    name = Path("corrdinate", f"corrdinate_{release}.json")  # so it is spelt there
    places = [folder / name for folder in (base, base.parent, base.parent.parent)]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise search.wrong(places[0], "is not there, nor one or two folders above")
    try:
        if path.stat().st_size > _MAX_JSON:
            raise ValueError
        boxes = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(boxes, dict):
            raise ValueError
    except (OSError, ValueError, RecursionError) as error:
        raise search.wrong(path, "is no table of boxes by file name") from error
    return path, boxes


def _box(sides: Any, scale: int) -> Box | None:
    """[top, bottom, left, right] in pixels of HR -> top, left, bottom, right in pixels of LR."""
    if not isinstance(sides, list) or len(sides) != 4:
        return None
    if not all(type(side) is int and side >= 0 and side % scale == 0 for side in sides):
        return None
    top, bottom, left, right = (side // scale for side in sides)
    return (top, left, bottom, right) if top < bottom and left < right else None


def camerafusion(search: Search) -> Iterator[Case | Problem]:
    """DCSR's data set, or what SelfDZSR made of it.

    4k: both photos halved, the wide one is the truth. 8k: as they were taken, without a truth.
    The tele photo is taken for the middle half of the wide one, as DCSR does.
    """
    base = search.base("CameraFusion")
    if search.part == "selfdzsr":
        yield from _cut_pairs(search, base, lambda stem: stem)
        return
    folder = base / search.split
    halved = search.part == "4k"
    names = ("LR/x2", "Ref/x2", "HR") if halved else ("HR", "Ref/x1")
    for row in search.rows([folder / name for name in names]):
        if isinstance(row, Problem):
            yield row
            continue
        name, (wide, ref, *truth) = row
        yield search.case(
            name,
            "filed",
            wide=wide,
            refs=(ref,),
            truth=truth[0] if halved else None,
            footprint="center",
            registration="framed",
        )


def drealsr(search: Search) -> Iterator[Case | Problem]:
    """SelfDZSR's pairs of DRealSR: the reference is the middle of the truth."""
    folder, beginnings = _CAMERAS[search.part]
    release = f"{search.split.capitalize()}_x{search.scale}"
    base = search.base(folder, release)

    def scene(stem: str) -> str | None:
        # All cameras lie in one folder of DRealSR's own release.
        if base.name.casefold() != folder.casefold() and not stem.startswith(beginnings):
            return None
        return re.sub(r"_x\d$", "", stem)

    yield from _cut_pairs(search, base, scene)


def _cut_pairs(
    search: Search, base: Path, key: Callable[[str], str | None]
) -> Iterator[Case | Problem]:
    folders = [base / f"{search.split}_{name}" for name in ("LR", "HR")]
    for row in search.rows(folders, key):
        if isinstance(row, Problem):
            yield row
            continue
        lr, hr = row[1]
        yield search.case(
            hr.stem,  # as SelfDZSR names its results
            "center-of-truth",
            wide=lr,
            refs=(),
            truth=hr,
            footprint="center",
            registration="aligned",
        )


def city100(search: Search) -> Iterator[Case | Problem]:
    """NNNL is the short-focal photo of a scene, NNNH the long-focal one, brought to its view."""
    names = {"iphone": "City100_iPhoneX", "nikon": "City100_NikonD5500"}
    release = names[search.part]
    base = search.base(f"City100/{release}", release, search.part)
    files = search.pictures(base, lambda stem: stem if re.fullmatch(r"\d+[LH]", stem) else None)
    for scene in sorted({stem[:-1] for stem in files}):
        short, long = files.get(f"{scene}L"), files.get(f"{scene}H")
        if short is not None and long is not None:
            yield search.case(scene, "city100", wide=short, refs=(long,), truth=long)
            continue
        lacking, there = ("L", long) if short is None else ("H", short)
        assert there is not None
        yield Problem(scene, there, f"has no partner {scene}{lacking}{there.suffix} beside it")
