"""AlignedPair -> files to look at and to go on with: the job of `dualsr align`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt

import dualsr_cli
from dualsr_cli.alignment._align import align, working_memory
from dualsr_cli.alignment.aligned_pair import AlignedPair, Fit, Floats
from dualsr_cli.errors import DualsrError
from dualsr_cli.files import atomic_writer
from dualsr_cli.photos import (
    Metadata,
    Photo,
    read_header,
    read_two,
    result_metadata,
    write_photo,
)

Progress = Callable[[str, int, int], None]
Bytes = npt.NDArray[np.uint8]
Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

_STRIP = 256  # wide pixels high; the warped tele is made strip by strip
_OVERVIEW_SIDE = 1600
_MASK_BYTES = 8  # a pixel: two masks, each also with three colours


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
        """The report in JSON's types, with the fit's figures beside the paths."""
        return {
            "wide": str(self.wide),
            "tele": str(self.tele),
            "swapped": self.swapped,
            **asdict(self.fit),
            "files": [str(path) for path in self.files],
            "notes": list(self.notes),
        }


@dataclass(frozen=True, eq=False)
class Aligned:
    """What is found for one pair, not written yet: the pictures by the names of their files."""

    pair: AlignedPair
    pictures: dict[str, tuple[Pixels, Metadata]]
    notes: tuple[str, ...]


def _silent(stage: str, done: int, total: int) -> None:
    pass


def align_files(
    wide_path: Path,
    tele_path: Path,
    folder: Path,
    progress: Progress = _silent,
) -> AlignReport:
    """Align two files and write the results to `folder`.

    Raises InputError, OutputError, and AlignmentError where the photos do not fit.
    """
    wide, tele = read_two(wide_path, tele_path)
    return _write(_compute(wide, tele, progress), folder)


class _Inputs(Protocol):
    """What an `AlignTask` needs to know of an item: the wide and the tele photo, in this order."""

    @property
    def inputs(self) -> tuple[Path, ...]: ...


@dataclass(frozen=True)
class AlignTask:
    """`align_files` as steps that run side by side for different pairs; see the room `jobs`.

    A pair's result does not depend on what runs beside it. `progress` is for a pair alone.
    """

    progress: Progress = _silent

    def prepare(self) -> None:
        """Alignment needs no model and no device."""

    def memory(self, item: _Inputs) -> int:
        """About the bytes at the peak of one pair; 0 where a header cannot be read."""
        try:
            wide, tele = (read_header(path) for path in item.inputs)
        except DualsrError:
            return 0
        # Either may turn out to be the wide photo, over which the warped tele and the masks lie.
        largest = max(wide.decoded_size, tele.decoded_size)
        pixels = max(header.width * header.height for header in (wide, tele))
        held = wide.decoded_size + tele.decoded_size + largest + pixels * _MASK_BYTES
        return held + working_memory(wide, tele)

    def read(self, item: _Inputs) -> tuple[Photo, Photo]:
        """Both photos. Raises InputError."""
        wide_path, tele_path = item.inputs
        return read_two(wide_path, tele_path)

    def compute(self, item: _Inputs, data: tuple[Photo, Photo]) -> Aligned:
        """Everything up to the pictures. Raises AlignmentError where the photos do not fit."""
        return _compute(*data, self.progress)

    def write(self, item: _Inputs, result: Aligned, target: Path) -> dict[str, Any]:
        """Write the folder `target`; return `AlignReport.summary` but the files.

        Raises OutputError.
        """
        facts = _write(result, target).summary()
        del facts["files"]
        return facts


def _compute(wide: Photo, tele: Photo, progress: Progress) -> Aligned:
    notes = [*wide.notes, *tele.notes]
    progress("align", 0, 1)
    aligned = align(wide, tele)
    progress("align", 1, 1)
    if aligned.swapped:
        notes.append(
            f"{wide.path.name} shows less of the scene than {tele.path.name}: taken as the tele "
            "photo"
        )
    wide = aligned.wide
    warped, validity, confidence = _warped(aligned, progress)
    software = f"dualsr {dualsr_cli.__version__}"
    of_wide = wide.header.metadata
    metadata = result_metadata(of_wide, wide.width, wide.height, software)
    plain = Metadata()
    pictures: dict[str, tuple[Pixels, Metadata]] = {
        "tele_warped.png": (warped, metadata),
        "validity.png": (_three(validity), plain),
        "confidence.png": (_three(confidence), plain),
        "overview.png": (_overview(aligned, warped, validity), Metadata(icc=of_wide.icc)),
    }
    return Aligned(aligned, pictures, tuple(notes))


def _write(made: Aligned, folder: Path) -> AlignReport:
    for name, (pixels, carried) in made.pictures.items():
        write_photo(folder / name, pixels, carried)
    aligned = made.pair
    with atomic_writer(folder / "alignment.json") as file:
        file.write(json.dumps(_record(aligned), indent=1).encode())
    paths = tuple(folder / name for name in (*made.pictures, "alignment.json"))
    wide, tele = aligned.wide.path, aligned.tele.path
    return AlignReport(wide, tele, aligned.swapped, aligned.fit, paths, made.notes)


def _warped(aligned: AlignedPair, progress: Progress) -> tuple[Pixels, Bytes, Bytes]:
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
    """All that a script needs to warp on its own, JSON's types only.

    Photos are told by their names: the record is the same wherever the folder lies.
    """
    values = aligned.displacement.values
    return {
        "version": 1,
        "wide": {
            "name": aligned.wide.path.name,
            "width": aligned.wide.width,
            "height": aligned.wide.height,
        },
        "tele": {
            "name": aligned.tele.path.name,
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
