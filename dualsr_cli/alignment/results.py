"""AlignedPair -> files to look at and to go on with: the job of `dualsr align`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

import dualsr_cli
from dualsr_cli.alignment._align import align
from dualsr_cli.alignment.aligned_pair import AlignedPair, Fit, Floats
from dualsr_cli.files import atomic_writer
from dualsr_cli.photos import Metadata, read_photo, result_metadata, write_photo

Progress = Callable[[str, int, int], None]
Bytes = npt.NDArray[np.uint8]

_STRIP = 256  # wide pixels high; the warped tele is made strip by strip
_OVERVIEW_SIDE = 1600


@dataclass(frozen=True)
class AlignReport:
    """What was found and written for one pair."""

    wide: Path
    tele: Path
    swapped: bool
    fit: Fit
    files: tuple[Path, ...]
    notes: tuple[str, ...]

    def summary(self) -> dict[str, Any]:
        """The report with the fit's figures beside the paths."""
        return {
            "wide": str(self.wide),
            "tele": str(self.tele),
            "swapped": self.swapped,
            **asdict(self.fit),
            "files": [str(path) for path in self.files],
        }


def align_files(
    wide_path: Path,
    tele_path: Path,
    folder: Path,
    progress: Progress = lambda stage, done, total: None,
) -> AlignReport:
    """Align two files and write the results to `folder`.

    Raises InputError, OutputError, and AlignmentError where the photos do not fit.
    """
    wide, tele = read_photo(wide_path), read_photo(tele_path)
    notes = [*wide.notes, *tele.notes]
    progress("align", 0, 1)
    aligned = align(wide, tele)
    progress("align", 1, 1)
    if aligned.swapped:
        notes.append(
            f"{wide_path.name} shows less of the scene than {tele_path.name}: taken as the tele "
            "photo"
        )
    wide, tele = aligned.wide, aligned.tele
    warped, validity, confidence = _warped(aligned, progress)
    software = f"dualsr {dualsr_cli.__version__}"
    of_wide = wide.header.metadata
    metadata = result_metadata(of_wide, wide.width, wide.height, software)
    plain = Metadata()
    files = {
        "tele_warped.png": (warped, metadata),
        "validity.png": (_three(validity), plain),
        "confidence.png": (_three(confidence), plain),
        "overview.png": (_overview(aligned, warped, validity), Metadata(icc=of_wide.icc)),
    }
    for name, (pixels, carried) in files.items():
        write_photo(folder / name, pixels, carried)
    with atomic_writer(folder / "alignment.json") as file:
        file.write(json.dumps(_record(aligned), indent=1).encode())
    paths = tuple(folder / name for name in (*files, "alignment.json"))
    return AlignReport(wide.path, tele.path, aligned.swapped, aligned.fit, paths, tuple(notes))


def _warped(
    aligned: AlignedPair, progress: Progress
) -> tuple[npt.NDArray[np.uint8] | npt.NDArray[np.uint16], Bytes, Bytes]:
    """The tele over the whole wide photo (0 where it shows nothing), validity and confidence."""
    wide = aligned.wide
    pixels = np.zeros_like(wide.pixels)
    validity = np.zeros(wide.pixels.shape[:2], np.uint8)
    confidence = np.zeros_like(validity)
    top, left, bottom, right = aligned.box
    columns = np.arange(left, right, dtype=float)
    for start in range(top, bottom, _STRIP):
        stop = min(start + _STRIP, bottom)
        rows = np.arange(start, stop, dtype=float)
        colours, valid = aligned.tele_at(rows, columns)
        values = np.clip(np.rint(colours * wide.max_value), 0, wide.max_value)
        pixels[start:stop, left:right] = values * (valid[..., None] > 0.5)
        validity[start:stop, left:right] = np.rint(valid * 255)
        sure = aligned.confidence.at(rows, columns)[..., 0] * valid
        confidence[start:stop, left:right] = np.rint(sure * 255)
        progress("warp", stop - top, bottom - top)
    return pixels, validity, confidence


def _overview(aligned: AlignedPair, warped: npt.NDArray[Any], validity: Bytes) -> Bytes:
    """Left the wide photo with the footprint drawn, right the residual inside it, enlarged 4x."""
    wide = aligned.wide
    factor = min(1.0, _OVERVIEW_SIDE / max(wide.width, wide.height))
    size = (max(1, round(wide.width * factor)), max(1, round(wide.height * factor)))
    small, tele, valid = (
        cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.float32) / white
        for picture, white in (
            (wide.pixels, wide.max_value), (warped, wide.max_value), (validity, 255),
        )
    )  # fmt: skip
    residual: Floats = np.clip(0.5 + 4 * (tele - small) * (valid[..., None] > 0.99), 0, 1)
    drawn = np.rint(small * 255).astype(np.uint8)
    corners = np.rint((aligned.corners() + 0.5) * factor - 0.5).astype(np.int32)
    for colour, thickness in (((0, 0, 0), 5), ((255, 200, 0), 2)):
        cv2.polylines(drawn, [corners], True, colour, thickness, cv2.LINE_AA)
    both = [drawn, np.rint(residual * 255).astype(np.uint8)]
    joined: Bytes = np.concatenate(both, axis=1 if wide.height >= wide.width else 0)
    return joined


def _record(aligned: AlignedPair) -> dict[str, Any]:
    """All that a script needs to warp on its own, JSON's types only."""
    values = aligned.displacement.values
    return {
        "version": 1,
        "wide": {
            "path": str(aligned.wide.path),
            "width": aligned.wide.width,
            "height": aligned.wide.height,
        },
        "tele": {
            "path": str(aligned.tele.path),
            "width": aligned.tele.width,
            "height": aligned.tele.height,
        },
        "swapped": aligned.swapped,
        "homography": aligned.homography.tolist(),
        "corners": aligned.corners().tolist(),
        "box": list(aligned.box),
        "displacement": {
            "rows": values.shape[0],
            "columns": values.shape[1],
            "values": np.round(values.astype(float), 3).tolist(),
        },
        "tone": {
            "matrix": aligned.tone.matrix.tolist(),
            "offset": aligned.tone.offset.tolist(),
            "local": np.round(aligned.tone.local.values.astype(float), 4).tolist(),
        },
        "fit": asdict(aligned.fit),
    }


def _three(mask: Bytes) -> Bytes:
    return np.repeat(mask[..., None], 3, axis=2)
