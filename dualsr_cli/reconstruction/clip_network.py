"""A network of the zoo on one frame of a clip: what it is given, and what becomes of its result.

Each reference is the sharp frame where it was laid on the fast frame. Where it shows nothing, or
something else, the restored neighbour stands in, moved along (the paper's recurrence, section 3.2),
and where there is none yet, the enlarged frame itself. So a pixel is restored from restored ones
only where nothing better is known, and errors do not add up.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from dualsr_cli.alignment import Floats, Reference, prepare
from dualsr_cli.errors import DualsrError
from dualsr_cli.networks import Inputs
from dualsr_cli.reconstruction import _resampling as resampling
from dualsr_cli.reconstruction import clip_transfer as transfer
from dualsr_cli.reconstruction.clip_transfer import Known, Pixels
from dualsr_cli.reconstruction.restore import Restorer, run_network

_TRUSTED = 0.25  # share of detail from which on a reference is taken as it lies
_LIGHT = 4.0  # fast pixels: what a Gaussian of this size keeps is light and colour
_DOUBTFUL = 1 / 255  # confidence of what is shown, but not surely there


@dataclass(frozen=True, eq=False)
class Neighbour:
    """A restored neighbour (H, W, 3), and the way to it from the pixels of the frame at hand, in
    fast pixels: (., ., 2), of any size.
    """

    pixels: Pixels
    motion: Floats


def restore_frame(
    frame: Floats,
    known: Sequence[Known],
    references: Sequence[Reference],
    restorer: Restorer,
    scale: float,
    like: np.dtype,
    pool: ThreadPoolExecutor,
    neighbour: Neighbour | None = None,
    memory: int | None = None,
) -> Pixels:
    """The frame (h, w, 3) 0..1 at `scale`, of type `like`: (H, W, 3), in its light and colour.

    As many references as the network takes, each with what is known of it; memory: as for
    `restore`. Raises DualsrError for results that are no numbers, UsageError where `memory` is too
    small, ValueError for too many or too few references.
    """
    step = restorer.network.scale
    height, width = frame.shape[:2]
    instead = cv2.resize(frame, (width * step, height * step), interpolation=cv2.INTER_CUBIC)
    if neighbour is not None:
        instead = _moved(neighbour, frame, step, pool)
    pictures, sure = zip(
        *(
            _laid(frame, one, reference, instead, step, pool)
            for one, reference in zip(known, references, strict=True)
        ),
        strict=True,
    )
    lr, first, *more, confidence = (
        torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].clamp(0, 1)
        for image in (frame, *pictures, np.max(sure, axis=0)[..., None])
    )
    box = torch.tensor([[0, 0, height, width]])
    inputs = Inputs(lr, first, box, more_refs=tuple(more), confidence=confidence)
    made = run_network(restorer, inputs, memory)
    if not bool(made.isfinite().all()):
        raise DualsrError(
            f"{restorer.model} gives no numbers in {restorer.precision}: "
            + ("its weights are of no use" if restorer.precision == "fp32" else
               "choose --precision fp32")
        )  # fmt: skip
    return _finished(frame, made, step, scale, like)


def _laid(
    frame: Floats,
    known: Known,
    reference: Reference,
    instead: Floats,
    step: int,
    pool: ThreadPoolExecutor,
) -> tuple[Floats, Floats]:
    """A reference on a frame at `step`, (s h, s w, 3) 0..1, and how surely, (s h, s w)."""
    share = transfer.weigh([known], (frame.shape[0], frame.shape[1]), 0.0)[1][0]
    trust = np.minimum(share / np.float32(_TRUSTED), 1)
    field = transfer.field_of(known.points, trust)
    picture = instead.copy()
    sure = np.empty(picture.shape[:2], np.float32)

    def lay(tile: transfer.Tile) -> None:
        seen, trusted = transfer.laid(reference, field, tile)
        part = picture[tile.place]
        part += trusted * (seen * np.float32(1 / reference.white) - part)
        sure[tile.place] = trusted[..., 0].clip(_DOUBTFUL, 1)

    for _ in pool.map(lay, transfer.tiles(frame, step)):
        pass
    return picture, sure


def _moved(neighbour: Neighbour, frame: Floats, step: int, pool: ThreadPoolExecutor) -> Floats:
    """The restored neighbour where the frame's pixels are now, at `step`: (s h, s w, 3) 0..1."""
    height, width = frame.shape[:2]
    factor = neighbour.pixels.shape[1] / width
    here = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1)
    way = cv2.resize(neighbour.motion, (width, height), interpolation=cv2.INTER_LINEAR)
    points = ((here + way + 0.5) * factor - 0.5).astype(np.float32)
    field = transfer.field_of(points, np.ones(frame.shape[:2], np.float32))
    source = prepare(neighbour.pixels, factor)
    result = np.empty((height * step, width * step, 3), np.float32)

    def lay(tile: transfer.Tile) -> None:
        result[tile.place] = transfer.laid(source, field, tile)[0]

    for _ in pool.map(lay, transfer.tiles(frame, step)):
        pass
    result *= np.float32(1 / source.white)
    return result


def _finished(frame: Floats, made: torch.Tensor, step: int, scale: float, like: np.dtype) -> Pixels:
    """What a network made, (3, s h, s w), at `scale` and in the frame's light and colour."""
    height, width = frame.shape[:2]
    if step != scale:
        down, across = (resampling.between(0, side, step, scale, "cpu") for side in (height, width))
        made = across.across(down.down(made))
    picture = np.ascontiguousarray(made.permute(1, 2, 0).numpy())
    means = cv2.resize(picture.clip(0, 1), (width, height), interpolation=cv2.INTER_AREA)
    missing = np.where((frame <= 0) | (frame >= 1), 0, frame - means).astype(np.float32)
    light = cv2.GaussianBlur(missing, (0, 0), _LIGHT)
    size = picture.shape[1], picture.shape[0]
    picture += cv2.resize(light, size, interpolation=cv2.INTER_LINEAR)
    white = np.iinfo(like).max
    picture *= white
    picture += 0.5
    return picture.clip(0, white, out=picture).astype(like)
