"""Layouts of the data sets whose reference is another photo, frame or view of the same size."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from dualsr_cli.benchmark._layouts_case import Case, Problem, Search

_KITTI_WINDOW = 320, 1216  # height and width: AWnet, section 6
_SEQUENCE = re.compile(r"\d{5}/\d{4}")
_MAX_LIST = 16 << 20  # bytes


def cufed5(search: Search) -> Iterator[Case | Problem]:
    """126 photos, each with references of falling similarity; no reference lies on its photo.

    The training part has one reference a photo.
    """
    if search.split == "train":
        base = search.base("CUFED/train", "train")
        for row in search.rows([base / "input", base / "ref"]):
            if isinstance(row, Problem):
                yield row
            else:
                yield _made(search, row[0], row[1][0], (row[1][1],))
        return
    base = search.base("CUFED/test/CUFED5", "test/CUFED5", "CUFED5")
    level = search.part.removeprefix("L")
    truths = search.pictures(base, lambda stem: _scene(stem, "0"))
    refs = search.pictures(base, lambda stem: _scene(stem, level))
    for name, truth in truths.items():
        if name in refs:
            yield _made(search, name, truth, (refs[name],))
        else:
            missing = f"{name}_{level}{truth.suffix}"
            yield Problem(name, truth, f"has no reference {missing} beside it: unpack CUFED5 again")


def _scene(stem: str, number: str) -> str | None:
    scene, _, last = stem.rpartition("_")
    return scene if last == number and scene else None


def vimeo90k(search: Search) -> Iterator[Case | Problem]:
    """Septuplets. single: frame 4 from frame 5 (AWnet, section 5.1), in training any frame from
    the one before it. between: frame 4 from frames 3 and 5 (section 5.1, frame interpolation), in
    training any inner frame from both beside it. multi: frames 2 to 6, each from the first and the
    last one (section 6).
    """
    base = search.base("vimeo_septuplet")
    for number, sequence in enumerate(_sequences(search, base)):
        folder = base / "sequences" / sequence
        wanted: list[tuple[int, tuple[int, ...], str]]
        if search.part == "multi":
            wanted = [(frame, (1, 7), f"/im{frame}") for frame in range(2, 7)]
        elif search.part == "between":
            inner = 4 if search.split == "test" else number % 5 + 2
            wanted = [(inner, (inner - 1, inner + 1), "")]
        elif search.split == "test":
            wanted = [(4, (5,), "")]
        else:
            first = number % 6 + 1
            wanted = [(first + 1, (first,), "")]
        for frame, refs, ending in wanted:
            paths = [folder / f"im{at}.png" for at in (frame, *refs)]
            lacking = next((path for path in paths if not path.is_file()), None)
            if lacking is None:
                yield _made(
                    search, sequence + ending, paths[0], tuple(paths[1:]), footprint="whole"
                )
            else:
                yield Problem(sequence + ending, lacking, "is not there: unpack Vimeo90K again")


def _sequences(search: Search, base: Path) -> list[str]:
    path = base / f"sep_{search.split}list.txt"
    if not path.is_file():
        raise search.wrong(path, "is not there")
    if path.stat().st_size > _MAX_LIST:
        raise search.wrong(path, "is no list of sequences")
    lines = path.read_text(encoding="utf-8", errors="replace").split()
    if not lines:
        raise search.wrong(path, "names no sequence")
    for number, line in enumerate(lines, 1):
        if not _SEQUENCE.fullmatch(line):
            raise search.wrong(path, f"names no sequence like 00001/0001 in line {number}")
    return lines


def kitti(search: Search) -> Iterator[Case | Problem]:
    """KITTI 2015: the right view (image_3) from the left one (image_2), 1216 x 320 of it.

    AWnet's 400 pairs are the two frames (_10, _11) of each of 200 scenes. It does not say where it
    cuts: here in the middle.
    """
    folder = {"test": "testing", "train": "training"}[search.split]
    base = search.base(f"data_scene_flow/{folder}", folder)
    for row in search.rows([base / "image_3", base / "image_2"]):
        if isinstance(row, Problem):
            yield row
        else:
            name, (right, left) = row
            yield _made(search, name, right, (left,), footprint="whole", window=_KITTI_WINDOW)


def light_field(search: Search) -> Iterator[Case | Problem]:
    """Two views of one light field: part NAME-i is the view (i, i) from the view (0, 0).

    flower, lfvideo: of the central 8 x 8 views of 14 x 14, 512 x 320 pixels from the top left, as
    CrossNet's programs cut them. stanford: i columns further in the same row of the gantry.
    """
    name, _, distance = search.part.rpartition("-")
    step = int(distance)
    if name == "stanford":
        yield from _gantry(search, step)
        return
    base = search.base({"flower": "Flowers_8bit", "lfvideo": "LFVideo"}[name])
    files = search.pictures(base, lambda stem: stem if stem.endswith("_eslf") else None)
    for stem, path in files.items():
        yield search.case(
            stem.removesuffix("_eslf"),
            "light-field",
            wide=path,
            refs=(path,),
            truth=path,
            footprint="whole",
            registration="framed",
            view=(step, step),
        )


def _gantry(search: Search, step: int) -> Iterator[Case | Problem]:
    """Scenes as folders of out_ROW_COLUMN_*.png, or with such a folder `rectified` in them."""
    base = search.base("stanford")
    first = sorted(base.glob("*/out_00_00_*.png")) + sorted(base.glob("*/*/out_00_00_*.png"))
    if not first:
        raise search.wrong(base, "holds no scene folder with an out_00_00_*.png")
    for ref in first:
        scene = ref.parent.relative_to(base).parts[0]
        truth = next(iter(sorted(ref.parent.glob(f"out_00_{step:02}_*.png"))), None)
        if truth is None:
            sentence = f"has no out_00_{step:02}_*.png beside it: unpack the scene again"
            yield Problem(scene, ref, sentence)
        else:
            yield _made(search, scene, truth, (ref,), footprint="whole")


def _made(search: Search, name: str, truth: Path, refs: tuple[Path, ...], **fields: object) -> Case:
    """A case whose LR is the truth reduced."""
    registration = "framed" if "footprint" in fields else "free"
    return search.case(
        name,
        "reduced",
        wide=truth,
        refs=refs,
        truth=truth,
        registration=registration,
        **fields,
    )
