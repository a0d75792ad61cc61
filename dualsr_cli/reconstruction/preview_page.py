"""The preview page of one result: overview, three crops pixel for pixel, footprint, provenance."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from dualsr_cli.alignment import AlignedPair
from dualsr_cli.photos import Photo
from dualsr_cli.reconstruction.canvas import Reconstruction
from dualsr_cli.reconstruction.preview import Crop, write_preview

_OVERVIEW_SIDE = 2400
_CROP = (480, 640)  # output pixels, height and width


def write_result_page(
    path: Path,
    wide: Photo,
    aligned: AlignedPair | None,
    result: Reconstruction,
    facts: Mapping[str, str],
) -> None:
    """Write the page to `path`; `before` is the wide photo enlarged bicubically."""
    height, width = result.pixels.shape[:2]
    factor = min(1.0, _OVERVIEW_SIDE / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    top, left, bottom, right = result.box
    part = wide.pixels[top:bottom, left:right]
    before = cv2.resize(part, size, interpolation=_kernel(part, size))
    after = cv2.resize(result.pixels, size, interpolation=_kernel(result.pixels, size))
    footprint = None
    centre = (height // 2, width // 2)
    crops = [("corner", (0, 0)), ("centre", centre)]
    if aligned is not None:
        corners = (aligned.corners() - [left, top] + 0.5) * result.scale
        footprint = [(float(x) * factor, float(y) * factor) for x, y in corners]
        x, y = corners.mean(axis=0)
        edge_x, edge_y = (corners[0] + corners[3]) / 2
        crops = [
            ("footprint's centre", (round(y), round(x))),
            ("footprint's edge", (round(edge_y), round(edge_x))),
            ("corner", (0, 0)),
        ]
    write_preview(
        path,
        title=f"{wide.path.name} at {result.scale:.2f}x",
        before=_eight_bit(before),
        after=_eight_bit(after),
        footprint=footprint,
        provenance=result.provenance.astype(np.float32) / 255,
        facts=facts,
        crops=[_crop(title, wide, result, place) for title, place in crops],
        icc=wide.header.metadata.icc,
    )


def _kernel(picture: npt.NDArray[np.generic], size: tuple[int, int]) -> int:
    return int(cv2.INTER_AREA if picture.shape[1] >= size[0] else cv2.INTER_CUBIC)


def _crop(title: str, wide: Photo, result: Reconstruction, place: tuple[int, int]) -> Crop:
    """The part of the result around `place` (row, column), and of the enlarged wide photo."""
    height, width = result.pixels.shape[:2]
    rows, columns = min(_CROP[0], height), min(_CROP[1], width)
    top = int(np.clip(place[0] - rows // 2, 0, height - rows))
    left = int(np.clip(place[1] - columns // 2, 0, width - columns))
    after = result.pixels[top : top + rows, left : left + columns]
    y = (np.arange(top, top + rows) + 0.5) / result.scale - 0.5
    x = (np.arange(left, left + columns) + 0.5) / result.scale - 0.5
    first_y, first_x = int(np.floor(y[0])) - 3, int(np.floor(x[0])) - 3
    window = wide.window(
        result.box[0] + first_y,
        result.box[1] + first_x,
        int(np.ceil(y[-1])) + 4 - first_y,
        int(np.ceil(x[-1])) + 4 - first_x,
    )
    map_x, map_y = np.meshgrid((x - first_x).astype(np.float32), (y - first_y).astype(np.float32))
    before = cv2.remap(window, map_x, map_y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    before = np.clip(np.rint(before * 255), 0, 255).astype(np.uint8)
    return Crop(title, before, _eight_bit(after))


def _eight_bit(
    pixels: npt.NDArray[np.uint8] | npt.NDArray[np.uint16],
) -> npt.NDArray[np.uint8]:
    return pixels.astype(np.uint8) if pixels.dtype == np.uint8 else (pixels // 257).astype(np.uint8)
