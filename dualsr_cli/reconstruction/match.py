"""Two files -> where each part of the wide photo finds its like in the tele: `dualsr match`."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt
import torch

from dualsr_cli.alignment import AlignedPair, align, working_memory
from dualsr_cli.errors import AlignmentError, DualsrError
from dualsr_cli.files import atomic_writer
from dualsr_cli.matching import Correspondence, gradient_features, search, search_clustered
from dualsr_cli.photos import Metadata, Photo, read_header, read_two, write_photo
from dualsr_cli.plain import json_types
from dualsr_cli.reconstruction._vgg_features import TILE_BYTES, load_vgg, vgg_features
from dualsr_cli.reconstruction.reconstruct import Progress

_MOST_PIXELS = 12_600_000  # of the wide photo as it is matched; larger ones are reduced to it
_EXACT_PRODUCTS = 2e9  # pairs of patches up to which the exact search takes seconds
_REACH = 12  # wide pixels around a place that its patch of features sees
_RELIABLE = 0.9  # similarity from which on a match is counted as reliable
_NEAR = 2  # places; a match so close to where the alignment has it agrees with it
_BESIDE = 200  # bytes a matched wide pixel: features of both, the search's blocks, maps, pictures
_PICTURE_SIDE = 1600

Bytes = npt.NDArray[np.uint8]
Describe = Callable[[torch.Tensor], torch.Tensor]
"""(1, 3, H, W) RGB, 0..1 -> (1, 16, ceil(H / 2), ceil(W / 2)) features."""

_FEATURES: dict[str, Callable[[torch.Tensor], Describe]] = {
    "gradients": lambda key: gradient_features,
    "vgg16": vgg_features,
}
"""What photos may be matched by: the image that keys come from -> how both are described."""


@dataclass(frozen=True)
class MatchStatistics:
    """What the matches of one pair are like.

    similarity_footprint, similarity_corner: mean cosine where the tele photo looks, and elsewhere;
    reliable: share of all matches with a similarity of at least 0.9; agreement: share of those in
    the footprint that lie within 2 places of where the alignment has them. features: "gradients" or
    "vgg16"; search: "exact" or "clustered". width, height: of the maps; step: wide pixels from one
    place to the next.
    """

    similarity_footprint: float | None
    similarity_corner: float | None
    reliable: float
    agreement: float | None
    features: str
    search: str
    width: int
    height: int
    step: float


@dataclass(frozen=True, eq=False)
class Matches:
    """What is found for one pair, not written yet.

    rows, columns: (h, w) float32, the place in the wide photo's pixels that a place's best key has
    under the tele photo's footprint; NaN where there is none. similarity: (h, w) float32.
    """

    pair: AlignedPair
    rows: npt.NDArray[np.float32]
    columns: npt.NDArray[np.float32]
    similarity: npt.NDArray[np.float32]
    statistics: MatchStatistics
    seconds: dict[str, float]
    notes: tuple[str, ...]


class _Inputs(Protocol):
    @property
    def inputs(self) -> tuple[Path, ...]: ...


def _silent(stage: str, done: int, total: int) -> None:
    pass


@dataclass(frozen=True)
class MatchTask:
    """Matching as steps that run side by side for different pairs; see the room `jobs`.

    search: "auto" (exact for small photos, clustered for large ones), "exact" or "clustered".
    features: "gradients", which need no weights, or "vgg16".
    """

    search: str = "auto"
    features: str = "gradients"
    progress: Progress = _silent

    def prepare(self) -> None:
        """Load what the features need. Raises InputError for weights that are not right."""
        if self.features == "vgg16":
            load_vgg()

    def memory(self, item: _Inputs) -> int:
        """About the bytes at the peak of one pair; 0 where a header cannot be read."""
        try:
            wide, tele = (read_header(path) for path in item.inputs)
        except DualsrError:
            return 0
        pixels = min(_MOST_PIXELS, max(h.width * h.height for h in (wide, tele)))
        held = wide.decoded_size + tele.decoded_size + _BESIDE * pixels
        held += TILE_BYTES if self.features == "vgg16" else 0
        return held + working_memory(wide, tele)

    def read(self, item: _Inputs) -> tuple[Photo, Photo]:
        """Both photos. Raises InputError."""
        wide, tele = item.inputs
        return read_two(wide, tele)

    def compute(self, item: _Inputs, data: tuple[Photo, Photo]) -> Matches:
        """Align and match. Raises AlignmentError where the photos do not fit."""
        return _matches(*data, self)

    def write(self, item: _Inputs, result: Matches, target: Path) -> dict[str, Any]:
        """Write the folder `target`; return what is known of the pair. Raises OutputError."""
        _write(result, target)
        pair = result.pair
        facts: dict[str, Any] = json_types(
            {
                "wide": pair.wide.path,
                "tele": pair.tele.path,
                "swapped": pair.swapped,
                **asdict(result.statistics),
                "seconds": result.seconds,
                "peak_memory": _peak_memory(),
                "notes": result.notes,
            }
        )
        return facts


def _matches(wide: Photo, tele: Photo, task: MatchTask) -> Matches:
    how, progress = task.search, task.progress
    seconds: dict[str, float] = {}
    notes = (*wide.notes, *tele.notes)
    progress("align", 0, 1)
    pair = _timed(seconds, "align", lambda: align(wide, tele))
    progress("align", 1, 1)
    if pair.swapped:
        notes += (f"{pair.tele.path.name} shows less of the scene: taken as the tele photo",)
    step = 2 * max(1.0, math.sqrt(pair.wide.width * pair.wide.height / _MOST_PIXELS))
    progress("match", 0, 1)
    learn = _FEATURES[task.features]
    query, key, usable, corner = _timed(
        seconds, "features", lambda: _features(pair, step / 2, learn)
    )
    if how == "auto":
        products = float(query[0, 0].numel()) * float(usable.sum())
        how = "exact" if products <= _EXACT_PRODUCTS else "clustered"
    look: Callable[..., Correspondence] = search if how == "exact" else search_clustered
    found = _timed(seconds, "search", lambda: look(query, key, key_mask=usable))
    progress("match", 1, 1)
    rows, columns = (places[0].numpy() for places in found.places())
    similarity = found.similarity[0].numpy()
    statistics = _statistics(
        rows, columns, similarity, usable[0].numpy(), corner, task.features, how, step
    )
    none = rows < 0
    return Matches(
        pair,
        _in_wide_pixels(rows + corner[0], step, none),
        _in_wide_pixels(columns + corner[1], step, none),
        similarity,
        statistics,
        seconds,
        notes,
    )


def _features(
    pair: AlignedPair, factor: float, learn: Callable[[torch.Tensor], Describe]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, tuple[int, int]]:
    """Query and key features, which keys see the tele photo only, and the first key's place.

    The wide photo reduced by `factor`; the tele photo as the wide photo's pixels see it.
    """
    wide = pair.wide
    width, height = (max(2, round(side / factor)) for side in (wide.width, wide.height))
    top, left, bottom, right = pair.box
    # The footprint from even pixels on, so that places of both maps lie on each other.
    first_row, first_column = (2 * math.ceil(start / factor / 2) for start in (top, left))
    last_row, last_column = (2 * int(end / factor / 2) for end in (bottom, right))
    if last_row - first_row < 2 or last_column - first_column < 2:
        raise AlignmentError(
            "no-overlap",
            f"{pair.tele.path.name} shows too little of {wide.path.name} to be matched: choose "
            "another tele photo",
        )
    rows, columns = (
        (np.arange(first, last, dtype=np.float64) + 0.5) * pitch - 0.5
        for first, last, pitch in (
            (first_row, last_row, wide.height / height),
            (first_column, last_column, wide.width / width),
        )
    )
    colours, valid = pair.tele_at(rows, columns)
    tele = _tensor(colours.astype(np.float32))
    describe = learn(tele)
    key = describe(tele)
    small = cv2.resize(wide.pixels, (width, height), interpolation=cv2.INTER_AREA)
    query = describe(_tensor(small.astype(np.float32) / wide.max_value))
    reach = 2 * _REACH + 1
    sees_out = torch.nn.functional.max_pool2d(
        torch.from_numpy((valid < 0.999).astype(np.float32))[None, None], reach, 1, _REACH
    )
    usable = torch.nn.functional.max_pool2d(sees_out, 2)[0] == 0
    if not bool(usable.any()):  # a footprint smaller than a patch's reach
        usable = torch.ones_like(usable)
    return query, key, usable, (first_row // 2, first_column // 2)


def _tensor(pixels: npt.NDArray[np.float32]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None]


def _statistics(
    rows: npt.NDArray[np.int64],
    columns: npt.NDArray[np.int64],
    similarity: npt.NDArray[np.float32],
    usable: npt.NDArray[np.bool_],
    corner: tuple[int, int],
    features: str,
    how: str,
    step: float,
) -> MatchStatistics:
    height, width = similarity.shape
    footprint = np.zeros((height, width), bool)
    inside = np.s_[corner[0] : corner[0] + usable.shape[0], corner[1] : corner[1] + usable.shape[1]]
    footprint[inside] = usable
    down = np.abs(rows[inside] - np.arange(usable.shape[0])[:, None])
    across = np.abs(columns[inside] - np.arange(usable.shape[1]))
    near = (np.maximum(down, across) <= _NEAR)[usable]
    return MatchStatistics(
        _mean(similarity[footprint]),
        _mean(similarity[~footprint]),
        float((similarity >= _RELIABLE).mean()),
        _mean(near),
        features,
        how,
        width,
        height,
        step,
    )


def _mean(values: npt.NDArray[Any]) -> float | None:
    return float(values.mean(dtype=np.float64)) if values.size else None


def _in_wide_pixels(
    places: npt.NDArray[np.int64], step: float, none: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float32]:
    pixels = ((places + 0.5) * step - 0.5).astype(np.float32)
    pixels[none] = np.nan
    return pixels


def _write(made: Matches, folder: Path) -> None:
    plain = Metadata()
    with atomic_writer(folder / "matches.npz") as file:
        np.savez_compressed(file, rows=made.rows, columns=made.columns, similarity=made.similarity)
    confidence = np.rint(made.similarity.clip(0, 1) * 255).astype(np.uint8)
    write_photo(folder / "similarity.png", _three(confidence), plain)
    write_photo(folder / "overview.png", _overview(made), plain)
    with atomic_writer(folder / "matching.json") as file:
        record = {"version": 1, "box": made.pair.box, **asdict(made.statistics)}
        file.write(json.dumps(json_types(record), indent=1).encode())


def _overview(made: Matches) -> Bytes:
    """Every place in the colour of where its match lies: the footprint is its own legend.

    Red grows from left to right of the footprint, green from top to bottom; a faint match is dark.
    """
    top, left, bottom, right = made.pair.box
    down = np.nan_to_num((made.rows - top) / max(1, bottom - top))
    across = np.nan_to_num((made.columns - left) / max(1, right - left))
    colours = np.stack([across, down, 1 - across], axis=2).clip(0, 1)
    shown = colours * made.similarity.clip(0, 1)[..., None] ** 4
    picture: Bytes = np.rint(shown * 255).astype(np.uint8)
    height, width = made.similarity.shape
    factor = min(1.0, _PICTURE_SIDE / max(width, height))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    corners = np.rint(made.pair.corners() * factor / made.statistics.step).astype(np.int32)
    cv2.polylines(picture, [corners], True, (255, 255, 255), 2, cv2.LINE_AA)
    return picture


def _three(mask: Bytes) -> Bytes:
    return np.repeat(mask[..., None], 3, axis=2)


def _timed(seconds: dict[str, float], name: str, work: Callable[[], Any]) -> Any:
    start = time.perf_counter()
    result = work()
    seconds[name] = round(time.perf_counter() - start, 3)
    return result


def _peak_memory() -> int | None:
    """Bytes that this process has had at most so far; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
