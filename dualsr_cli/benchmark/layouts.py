"""Where each data set is got, how it must lie, and what is scored in it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from dualsr_cli.benchmark import _layouts_dual, _layouts_own, _layouts_reference
from dualsr_cli.benchmark._layouts_case import (
    Box,
    Case,
    Found,
    Problem,
    Sample,
    Search,
    as_tensor,
    natural,
)
from dualsr_cli.benchmark._layouts_dual import Finder
from dualsr_cli.benchmark._layouts_load import load
from dualsr_cli.errors import InputError, UsageError

__all__ = [
    "LAYOUTS",
    "Box",
    "Case",
    "Found",
    "Layout",
    "Problem",
    "Sample",
    "as_tensor",
    "dataset_root",
    "find_cases",
    "load",
    "natural",
]

VARIABLE = "DUALSR_DATA"  # the folder that holds one folder a data set

_PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True)
class Layout:
    """One data set. Of splits, parts and scales the first is taken where none is asked for.

    where: says where the data is got and how it must lie under its root, ROOT. parts: what is
    scored apart (cameras, similarity levels, parallax); none: (""). scales: several where LR is
    made of the truth. published: how many cases the papers have, by part and split.
    """

    where: str
    find: Finder
    splits: tuple[str, ...] = ("test", "train")
    parts: tuple[str, ...] = ("",)
    scales: tuple[int, ...] = (2,)
    published: Mapping[tuple[str, str], int] = field(default_factory=dict)


def _kedusr(release: str, test: int, train: int) -> Layout:
    return Layout(
        f"get {release} by the links of https://github.com/ZifanCui/KeDuSR and lay it as "
        f"ROOT/{release}/test/{{LR,HR,LR_center,Ref_SIFT}}/*.png and "
        f"ROOT/{release}/train/{{LR,HR,Ref_full}}/*.png, with that repository's folder corrdinate "
        f"as ROOT/corrdinate (corrdinate_{release}.json)",
        _layouts_dual.kedusr(release),
        published={("", "test"): test, ("", "train"): train},
    )


LAYOUTS: Mapping[str, Layout] = {
    "dusr-real": _kedusr("DuSR-Real", 55, 420),
    "realmcvsr-real": _kedusr("RealMCVSR-Real", 50, 330),
    "camerafusion-real": _kedusr("CameraFusion-Real", 15, 83),
    "camerafusion": Layout(
        "get CameraFusion by the link of https://github.com/Tengfei-Wang/DCSR and lay it as "
        "ROOT/CameraFusion/{train,val,test}/{HR,LR/x2,Ref/x1,Ref/x2}/IMG_*.jpg, or for the part "
        "selfdzsr get it by the link of https://github.com/cszhilu1998/SelfDZSR and lay it as "
        "ROOT/CameraFusion/{train,test}_{LR,HR}/IMG_*.png",
        _layouts_dual.camerafusion,
        splits=("test", "train", "val"),
        parts=("4k", "8k", "selfdzsr"),
        published={("selfdzsr", "test"): 12, ("selfdzsr", "train"): 112},
    ),
    "drealsr": Layout(
        "get the Nikon photos by the link of https://github.com/cszhilu1998/SelfDZSR and lay them "
        "as ROOT/Nikon/{train,test}_LR/*_x1.png and ROOT/Nikon/{train,test}_HR/*_x4.png, those of "
        "the other cameras likewise in Canon, Olympus, Panasonic and Sony, or all together as "
        "ROOT/Test_x4/test_{LR,HR} of "
        "https://github.com/xiezw5/Component-Divide-and-Conquer-for-Real-World-Image-Super-"
        "Resolution",
        _layouts_dual.drealsr,
        parts=_layouts_dual.CAMERAS,
        scales=(4, 2, 3),
        published={
            ("nikon", "test"): 20,
            ("nikon", "train"): 163,
            ("canon", "test"): 17,
            ("olympus", "test"): 19,
            ("panasonic", "test"): 20,
            ("sony", "test"): 17,
        },
    ),
    "cufed5": Layout(
        "get the CUFED test set by the link of https://github.com/researchmm/TTSR and lay it as "
        "ROOT/CUFED5/000_0.png (the truth) and 000_1.png to 000_4.png (its references) up to "
        "125_*.png, the train set as ROOT/train/{input,ref}/*.png",
        _layouts_reference.cufed5,
        parts=("L1", "L2", "L3", "L4"),
        scales=(4,),
        published={
            **{(f"L{level}", "test"): 126 for level in range(1, 5)},
            **{(f"L{level}", "train"): 11871 for level in range(1, 5)},
        },
    ),
    "vimeo90k": Layout(
        "get the septuplets of Vimeo90K from http://toflow.csail.mit.edu and lay them as "
        "ROOT/sequences/00001/0001/im1.png to im7.png with ROOT/sep_testlist.txt and "
        "ROOT/sep_trainlist.txt",
        _layouts_reference.vimeo90k,
        parts=("single", "between", "multi"),
        scales=(4, 8),
        published={
            ("single", "test"): 7824,
            ("single", "train"): 64612,
            ("between", "test"): 7824,
            ("between", "train"): 64612,
            ("multi", "test"): 5 * 7824,
            ("multi", "train"): 5 * 64612,
        },
    ),
    "kitti": Layout(
        "get data_scene_flow.zip (stereo 2015) from https://www.cvlibs.net/datasets/kitti and lay "
        "it as ROOT/{testing,training}/{image_2,image_3}/000000_10.png, with the frames _10 and "
        "_11",
        _layouts_reference.kitti,
        scales=(4, 8),
        published={("", "test"): 400, ("", "train"): 400},
    ),
    "light-field": Layout(
        "get the Flowers of https://github.com/pratulsrinivasan/Local_Light_Field_Synthesis and "
        "lay those to test with as ROOT/Flowers_8bit/*_eslf.png, the light field videos of "
        "https://cseweb.ucsd.edu/~viscomp/projects/LF/papers/SIG17/lfv as ROOT/LFVideo/*_eslf.png, "
        "scenes of the Lego gantry (http://lightfield.stanford.edu) as "
        "ROOT/stanford/SCENE/out_00_00_*.png",
        _layouts_reference.light_field,
        splits=("test",),
        parts=(
            "flower-1",
            "flower-7",
            "lfvideo-1",
            "lfvideo-7",
            "stanford-1",
            "stanford-3",
            "stanford-5",
        ),
        scales=(4, 8),
    ),
    "city100": Layout(
        "get City100 from https://github.com/ngchc/CameraSR and lay it as "
        "ROOT/City100/{City100_iPhoneX,City100_NikonD5500}/001L.PNG with 001H.PNG beside it",
        _layouts_dual.city100,
        splits=("all",),
        parts=("iphone", "nikon"),
    ),
    "pairs": Layout(
        "take a folder of one's own wide and tele photos that `dualsr pairs` can pair, or a pairs "
        "table (CSV: wide,tele), also as ROOT/pairs.csv",
        _layouts_own.pairs,
        splits=("all",),
        parts=("half", "full"),
    ),
    "triplets": Layout(
        "lay one's own triplets as ROOT/LR/NAME.png, ROOT/Ref/NAME.png and ROOT/HR/NAME.png, HR 2, "
        "3, 4 or 8 times as wide and as high as LR",
        _layouts_own.triplets,
        splits=("all",),
    ),
    "sample": Layout(
        "it is the folder sample_pairs that comes with dualsr, with SCENE/wide.* and SCENE/tele.* "
        "in it: install dualsr again",
        _layouts_own.sample,
        splits=("all",),
        parts=("crop", "full"),
    ),
}


def dataset_root(dataset: str, root: Path | None = None) -> Path:
    """Where a data set lies: `root` if given, else the folder named like it in DUALSR_DATA.

    The sample comes with dualsr, in the package or beside it in a source checkout. Raises
    UsageError where nothing says it, or for an unknown data set; InputError where there is nothing.
    """
    layout = _layout(dataset)
    data = os.environ.get(VARIABLE)
    if root is None and data:
        inner = Path(data).expanduser() / dataset
        root = inner if inner.exists() or dataset != "sample" else None
    if root is None and dataset == "sample":
        packaged = _PACKAGE / "sample_pairs"
        root = packaged if packaged.is_dir() else _PACKAGE.parent / "sample_pairs"
    if root is None:
        raise UsageError(
            f"it is not said where {dataset} lies: give --root DIR or set {VARIABLE} to a folder "
            f"that holds {dataset}/; {layout.where}"
        )
    if not root.exists():
        raise InputError(root, f"is not there: {layout.where}")
    return root


def find_cases(
    dataset: str,
    root: Path | None = None,
    *,
    split: str | None = None,
    part: str | None = None,
    scale: int | None = None,
) -> Found:
    """What is to be scored of a data set, in the order of names, and what of it cannot be.

    Files are looked for, not read: `load` may still find one damaged or of the wrong size. Raises
    UsageError for what the data set does not have, InputError where it does not lie as it must.
    """
    layout = _layout(dataset)
    split = _chosen(dataset, "split", split, layout.splits)
    part = _chosen(dataset, "part", part, layout.parts)
    scale = _chosen(dataset, "scale", scale, layout.scales)
    root = dataset_root(dataset, root)
    search = Search(dataset, root, part, split, scale, layout.where)
    found = list(layout.find(search))
    cases = [entry for entry in found if isinstance(entry, Case)]
    problems = [entry for entry in found if isinstance(entry, Problem)]
    return Found(
        tuple(sorted(cases, key=lambda case: natural(case.name))),
        tuple(sorted(problems, key=lambda problem: natural(problem.name))),
        layout.published.get((part, split)),
    )


def _layout(dataset: str) -> Layout:
    if dataset not in LAYOUTS:
        raise UsageError(
            f"there is no data set {dataset[:100]!r}: choose among {', '.join(LAYOUTS)}"
        )
    return LAYOUTS[dataset]


_Choice = TypeVar("_Choice", str, int)


def _chosen(
    dataset: str, what: str, asked: _Choice | None, choices: tuple[_Choice, ...]
) -> _Choice:
    if asked is None:
        return choices[0]
    if asked not in choices:
        there = ", ".join(str(choice) for choice in choices if choice != "") or "none"
        raise UsageError(f"{dataset} has no {what} {str(asked)[:100]!r}: it has {there}")
    return asked
