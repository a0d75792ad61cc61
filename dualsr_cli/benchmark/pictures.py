"""What the report's page shows of a case: one window of the truth and of each method's result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from dualsr_cli.benchmark.layouts import Case, load
from dualsr_cli.benchmark.methods import Method, find_result
from dualsr_cli.benchmark.metrics import Array, Map, levels, squared_error
from dualsr_cli.benchmark.results import Row, Table
from dualsr_cli.photos import read_photo

Pixels = npt.NDArray[np.uint8]

TRUTH = "truth"
"""The name of the truth among the images of a picture."""

HIGHER_IS_BETTER = {"psnr": True, "ssim": True, "lpips": False, "lpips-vgg": False}

WORST = 5
_SIDE = 480  # pixels
_STEP = 8  # pixels, how finely a window's place is sought


@dataclass(frozen=True, eq=False)
class Picture:
    """The same window of each image of a case.

    part, scale, case: the case's own. top, left: of the window, in pixels of the truth. images:
    (h, w, 3) uint8 RGB of one size, by method, and `TRUTH`.
    """

    part: str
    scale: int
    case: str
    top: int
    left: int
    images: Mapping[str, Pixels]

    def __post_init__(self) -> None:
        first = next(iter(self.images.values()))
        if (
            first.ndim != 3
            or first.shape[2] != 3
            or any(
                image.shape != first.shape or image.dtype != np.uint8
                for image in self.images.values()
            )
        ):
            raise ValueError(f"{self.case}: the images of a picture are RGB of one size in 8 bits")


def take_picture(
    part: str, scale: int, case: str, truth: Array, results: Mapping[str, Array], side: int = _SIDE
) -> Picture:
    """The window of at most `side` pixels in which the results are farthest from the truth.

    truth, results: (H, W, 3) of one size, uint8, uint16, or floating point with 1 as white; the
    results by method. All methods count alike in the choice. Raises ValueError for other sizes.
    """
    images = {name: levels(image, "half-up") for name, image in {**results, TRUTH: truth}.items()}
    height, width = truth.shape[:2]
    rows, columns = min(side, height), min(side, width)
    error = np.zeros((height, width))
    for method in results:
        error += squared_error(images[method], images[TRUTH])
    top, left = _largest(error, rows, columns)
    return Picture(
        part,
        scale,
        case,
        top,
        left,
        {
            name: np.ascontiguousarray(image[top : top + rows, left : left + columns])
            for name, image in images.items()
        },
    )


def collect_pictures(
    folder: Path,
    tables: Sequence[Table],
    cases: Sequence[Case],
    methods: Sequence[Method] = (),
    most: int = 12,
) -> list[Picture]:
    """Pictures of the cases that are most worth it, of the results that lie in files.

    folder: what `Row.image` is relative to. cases: among them are those of the rows. methods: those
    of them with a folder of images made elsewhere are shown by those. Results that were not saved,
    or have another size than the truth, are left out, and cases without any. Raises InputError for
    a file that cannot be read.
    """
    known = {(case.part, case.scale, case.name): case for case in cases}
    elsewhere = {method.name: method for method in methods if method.folder is not None}
    pictures = []
    for table in tables:
        for name in cases_to_show(table, most):
            key = table.part, table.scale, name
            case = known.pop(key, None)  # other protocols score the same images
            if case is None:
                continue
            files = {
                row.method: folder / row.image
                if row.image
                else find_result(elsewhere[row.method], case)
                for row in table.rows
                if row.case == name and (row.image or row.method in elsewhere)
            }
            if not files or (truth := load(case).hr) is None:
                continue
            images = {method: read_photo(path).pixels for method, path in files.items()}
            fitting = {
                method: pixels
                for method, pixels in images.items()
                if pixels.shape == truth.pixels.shape
            }
            if fitting:
                pictures.append(take_picture(*key, truth.pixels, fitting))
    return pictures


def _largest(values: Map, rows: int, columns: int) -> tuple[int, int]:
    """The top left corner of the window of the largest sum, the first of several."""
    sums = cv2.integral(values)
    tops, lefts = (
        np.unique([*range(0, room, _STEP), room])
        for room in (values.shape[0] - rows, values.shape[1] - columns)
    )
    lower, upper = sums[tops + rows], sums[tops]
    window = lower[:, lefts + columns] - lower[:, lefts] - upper[:, lefts + columns]
    place = int(np.argmax(window + upper[:, lefts]))
    return int(tops[place // len(lefts)]), int(lefts[place % len(lefts)])


def worst(table: Table, method: str, region: str, metric: str, most: int = WORST) -> list[Row]:
    """The cases in which a method did worst, the worst first."""
    rows = [
        row for row in table.rows if row.method == method and metric in row.scores.get(region, {})
    ]
    rows.sort(key=lambda row: row.scores[region][metric], reverse=not HIGHER_IS_BETTER[metric])
    return rows[:most]


def cases_to_show(table: Table, most: int = 12) -> list[str]:
    """The cases that are most worth a picture: the worst of each method by turns, then the others.

    By the first region and metric that the table has, PSNR of the full image as a rule.
    """
    if not table.columns:
        return []
    region, metric = table.columns[0]
    methods: Sequence[list[Row]] = [
        worst(table, entry.method, region, metric) for entry in table.measured
    ]
    turns = [row.case for turn in zip_longest(*methods) for row in turn if row is not None]
    return list(dict.fromkeys([*turns, *(row.case for row in table.rows)]))[:most]
