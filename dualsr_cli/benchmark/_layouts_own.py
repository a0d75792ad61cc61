"""Layouts of one's own photos, pairs or triplets, and of the pairs that come with dualsr."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dualsr_cli.alignment import same_scene
from dualsr_cli.benchmark._layouts_case import Case, Problem, Search
from dualsr_cli.errors import InputError
from dualsr_cli.jobs import Wish, names
from dualsr_cli.photos import Header, find_pairs, read_header, read_pairs_table

_REFUSED = "other-scene"  # of sample_pairs: two scenes, which no method may take for one
_LENSES = "wide", "tele"
_SCALES = 2, 3, 4, 8

_CROPS = {
    # Half a megapixel of the wide photo, and of the tele what covers a fifth to a third of that:
    # so two cores can run many methods.
    "facade": ((340, 384, 940, 1216), (306, 408, 918, 1224)),
    "phone-heic": ((270, 20, 890, 820), (0, 0, 1200, 900)),
    "phone-jpeg": ((160, 268, 688, 1208), (150, 266, 750, 1334)),
    "statue": ((216, 0, 864, 768), (150, 234, 620, 934)),
}
"""Top, left, bottom, right of the wide and the tele photo of each pair that is larger."""


def pairs(search: Search) -> Iterator[Case | Problem]:
    """Photos as a phone takes them, paired by a table or by what `dualsr pairs` finds.

    half: both photos halved, the wide one is the truth. full: as they are, without a truth.
    """
    table = search.root if search.root.is_file() else search.root / "pairs.csv"
    problems: list[Problem] = []
    if table.is_file():
        folder, found = table.parent, read_pairs_table(table)
    else:
        folder = search.root
        pairing = find_pairs(folder, same_scene=same_scene)
        found = pairing.pairs
        for leftover in pairing.leftovers:
            if leftover.reason != "duplicate":
                name = leftover.path.relative_to(folder).as_posix()
                sentence = leftover.sentence.removeprefix(f"{name} ")
                problems.append(Problem(name, leftover.path, sentence))
    if not found:
        raise search.wrong(search.root, "holds no pair of a wide and a tele photo")
    wishes = [
        Wish(_relative(pair.wide, folder), "", (str(pair.wide), str(pair.tele))) for pair in found
    ]
    recipe = "halved" if search.part == "half" else "filed"
    for pair, name in zip(found, names(wishes), strict=True):
        truth = pair.wide if search.part == "half" else None
        yield search.case(name, recipe, wide=pair.wide, refs=(pair.tele,), truth=truth)
    yield from problems


def _relative(path: Path, folder: Path) -> str:
    try:
        return path.relative_to(folder).as_posix()
    except ValueError:
        return path.name


def triplets(search: Search) -> Iterator[Case | Problem]:
    """LR, Ref and HR of one name; how the reference lies on LR is not known."""
    for row in search.rows([search.root / name for name in ("LR", "Ref", "HR")]):
        if isinstance(row, Problem):
            yield row
            continue
        name, (lr, ref, hr) = row
        try:
            scale = _scale(read_header(lr), read_header(hr))
        except InputError as error:
            yield Problem(name, error.path, str(error).removeprefix(f"{error.path} "))
            continue
        yield Case(name, search.dataset, search.part, search.split, scale, "filed", lr, (ref,), hr)


def _scale(lr: Header, hr: Header) -> int:
    for scale in _SCALES:
        if (hr.width, hr.height) == (scale * lr.width, scale * lr.height):
            return scale
    raise InputError(
        hr.path,
        f"is {hr.width} x {hr.height} pixels, not {', '.join(map(str, _SCALES[:-1]))} or "
        f"{_SCALES[-1]} times the {lr.width} x {lr.height} of {lr.path}: cut both to fit",
    )


def sample(search: Search) -> Iterator[Case | Problem]:
    """The pairs of sample_pairs/ but the one that shows two scenes; half-size protocol.

    crop: parts of at most half a megapixel. full: whole photos.
    """
    folders = sorted({path.parent for lens in _LENSES for path in search.root.glob(f"*/{lens}.*")})
    if not folders:
        raise search.wrong(search.root, "holds no folder with a wide and a tele photo")
    for folder in folders:
        if folder.name == _REFUSED:
            continue
        wide, tele = (min(folder.glob(f"{lens}.*"), default=None) for lens in _LENSES)
        if wide is None or tele is None:
            lacking = _LENSES[wide is not None]
            yield Problem(folder.name, folder, f"holds no {lacking} photo: restore that file")
        else:
            crops = _CROPS.get(folder.name, ()) if search.part == "crop" else ()
            fields = {"wide": wide, "refs": (tele,), "truth": wide, "crops": crops}
            yield search.case(folder.name, "halved", **fields)
