"""AlignedPair + network -> Reconstruction: the wide photo restored by a model of the zoo."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import torch
from torch.nn import functional

from dualsr_cli.alignment import AlignedPair, Box, Floats
from dualsr_cli.errors import DualsrError, UsageError
from dualsr_cli.machine import default_memory, resident
from dualsr_cli.networks import (
    CELL,
    Inputs,
    Network,
    Outputs,
    Window,
    build,
    find_model,
    load_into,
    read_weights,
)
from dualsr_cli.reconstruction import _resampling as resampling
from dualsr_cli.reconstruction.canvas import Canvas, Reconstruction, outputs_in
from dualsr_cli.reconstruction.reconstruct import Progress, check_scale
from dualsr_cli.reconstruction.tiler import MOST, plan, restore_windows

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_SHARE = 0.8  # of a GPU's free memory
_WORKING = 256 << 20
"""Bytes of main memory that a network takes beside its plan, at most: what libraries load and lay
out when they are used first, searches' and convolutions' scratch, what the allocator keeps."""
_DOUBTFUL = 1 / 255  # confidence of what the tele shows, but not surely there
_BAND = 256  # rows of the reference that are warped at once


@dataclass(frozen=True, eq=False)
class Restorer:
    """A network of the zoo with its weights, ready on a device: `network` holds no gradients."""

    model: str
    network: Network[Any]
    device: torch.device
    precision: str

    @property
    def dtype(self) -> torch.dtype:
        return PRECISIONS[self.precision]


@lru_cache(maxsize=8)  # a bench takes several in turn
def load_restorer(model: str, device: str, precision: str = "auto") -> Restorer:
    """The model of that name. precision: "auto" (bf16 on GPUs that have it) or of PRECISIONS.

    Raises UsageError where there is no such network or precision, InputError for its weights.
    """
    found = find_model(model)
    if found.kind != "network":
        raise UsageError(f"{model} is a {found.kind}, not a network: see `dualsr models`")
    place = torch.device(device)
    if precision == "auto":
        half = place.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        precision = "bf16" if half else "fp32"
    if precision not in PRECISIONS:
        raise UsageError(
            f"--precision {precision} is unknown: choose auto, {', '.join(PRECISIONS)}"
        )
    network = build(found.architecture, found.settings)
    load_into(network, read_weights(found.weights, found.sha256), found.weights)
    network.eval().requires_grad_(False)
    network.to(place, PRECISIONS[precision], memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Restorer(model, network, place, precision)


def references_of(restorer: Restorer) -> int:
    """How many references a network takes."""
    return int(getattr(getattr(restorer.network, "config", None), "references", 1))


def restore(
    aligned: AlignedPair,
    restorer: Restorer,
    scale: float,
    *,
    memory: int | None = None,
    box: Box | None = None,
    progress: Progress = lambda stage, done, total: None,
) -> Reconstruction:
    """The wide photo (or `box` of it) at `scale`, 1..16, by a network at its own scale.

    memory: bytes that may be taken on the network's device, on a processor by all of this process,
    libraries and photos included; None: a share of what is free. The tele photo is brought to the
    network's scale, and its result to `scale`; what the tele photo shows that is finer than the
    network's pixels is added as far as the network took the rest of it. Provenance is the network's
    own confidence in what it took: inside the tele's view it counts as taken directly, elsewhere as
    matched. A result whose area mean differs too much from the wide photo is corrected, see
    `Canvas`. Raises UsageError where `memory` is too small, DualsrError for results that are no
    numbers.
    """
    check_scale(scale)
    wide = aligned.wide
    box = box or (0, 0, wide.height, wide.width)
    progress("encode", 0, 1)
    inputs = network_inputs(aligned, restorer.network.scale)
    inputs = inputs.to(restorer.device, restorer.dtype)
    canvas = Canvas(wide, box, scale)
    step = restorer.network.scale
    around = 0 if step == scale else CELL
    # Of the canvas, once it is written to.
    size = (box[2] - box[0]) * (box[3] - box[1]) * (3 * wide.pixels.itemsize * scale**2 + 6)

    def told(done: int, total: int) -> None:
        if done == 0:
            progress("encode", 1, 1)
        progress("upscale", done, total)

    for window, made, outputs in restore_windows(
        restorer.network,
        inputs,
        *plan(restorer.network, inputs, *_room(restorer.device, memory, round(size))),
        around=around,
        wanted=lambda window: _common(window, box) is not None,
        progress=told,
    ):
        part = _common(window, box)
        assert part is not None
        result = outputs.sr[0].float()
        if not bool(result.isfinite().all()):
            raise DualsrError(
                f"{restorer.model} gives no numbers in {restorer.precision}: "
                + ("its weights are of no use" if restorer.precision == "fp32" else
                   "choose --precision fp32")
            )  # fmt: skip
        result = _resized(result, made, step, scale)
        if scale > step and "weight" in outputs.maps:
            _add_finer(result, outputs.maps["weight"], aligned, made, step, scale)
        canvas.put(part, _cut(result, made, part, scale))
        canvas.compare(part, made, result)
        canvas.tell(part, *_shares(outputs, aligned, made, part))
    canvas.correct()
    return canvas.finished()


def run_network(restorer: Restorer, inputs: Inputs, memory: int | None = None) -> torch.Tensor:
    """What a network alone makes of a batch of one: (3, s * H, s * W) float32 on the CPU.

    Neither clamped nor corrected. memory: as for `restore`. Raises UsageError where it is too
    small, ValueError for a reference that does not fit the network.
    """
    inputs = inputs.to(restorer.device, restorer.dtype)
    step = restorer.network.scale
    height, width = inputs.lr.shape[2:]
    result = torch.empty(3, step * height, step * width)
    planned = plan(restorer.network, inputs, *_room(restorer.device, memory, 4 * result.numel()))
    for window, _, outputs in restore_windows(restorer.network, inputs, *planned):
        top, left, bottom, right = (step * edge for edge in window)
        result[:, top:bottom, left:right] = outputs.sr[0]
    return result


def restoring_memory(
    restorer: Restorer, width: int, height: int, ratio: float, memory: int | None
) -> int:
    """About the bytes of main memory that `restore` takes, beside photos and result."""
    pixels, step = width * height, restorer.network.scale
    seen = pixels / max(1.0, ratio) ** 2
    size = restorer.dtype.itemsize
    held = 3 * (4 + size) * (pixels + step**2 * seen) + 6 * pixels  # inputs; what the result lacks
    if restorer.device.type == "cpu":
        needs = restorer.network.memory
        tile = min(MOST + 2 * restorer.network.margin, width) * min(
            MOST + 2 * restorer.network.margin, height
        )
        own = size * (needs.image * pixels + needs.reference * seen + needs.window * tile)
        held += min(own, memory or own)
    return round(held)


def _room(device: torch.device, memory: int | None, result: int) -> tuple[int, int]:
    """Bytes that may be taken there, and how many are: for certain or soon.

    memory: how many may be, None: a share of what is free. result: of what it will be written to.
    """
    if device.type == "cuda":
        if memory is None:
            return int(_SHARE * torch.cuda.mem_get_info(device)[0]), 0
        return memory, torch.cuda.memory_allocated(device)
    soon = _WORKING + result
    return (default_memory(), soon) if memory is None else (memory, resident() + soon)


def network_inputs(aligned: AlignedPair, step: int) -> Inputs:
    """The wide photo, and the tele photo laid over it in its tone, for a network of scale `step`.

    Where the tele does not reach into a corner of its box the wide photo, enlarged, fills it.
    """
    wide = aligned.wide
    return _laid(aligned, step, (0, 0, wide.height, wide.width), aligned.footprint_box())


def network_center(aligned: AlignedPair, step: int, most: int) -> Inputs:
    """The same of the middle of what the tele photo shows, at most `most` wide pixels a side."""
    top, left, bottom, right = aligned.footprint_box()
    (top, bottom), (left, right) = _middle(top, bottom, most), _middle(left, right, most)
    box = top, left, bottom, right
    return _laid(aligned, step, box, box)


def _middle(low: int, high: int, most: int) -> tuple[int, int]:
    first = max(low, (low + high - most) // 2)
    return first, min(high, first + most)


def _laid(aligned: AlignedPair, step: int, shown: Box, box: Box) -> Inputs:
    """shown: the part of the wide photo that lr is. box: the part of it that ref lies on."""
    top, left, bottom, right = (edge - shown[n % 2] for n, edge in enumerate(box))
    place = torch.tensor([[top, left, bottom, right]])
    lr = aligned.wide.window(*shown[:2], shown[2] - shown[0], shown[3] - shown[1])
    size = (step * (right - left), step * (bottom - top))
    ref: Floats = cv2.resize(lr[top:bottom, left:right], size, interpolation=cv2.INTER_CUBIC)
    sure = np.empty((*ref.shape[:2], 1), np.float32)
    columns = (np.arange(step * box[1], step * box[3]) + 0.5) / step - 0.5
    for first in range(0, len(ref), _BAND):
        band = ref[first : first + _BAND]
        rows = (np.arange(len(band)) + step * box[0] + first + 0.5) / step - 0.5
        tele, valid = aligned.tele_at(rows, columns)
        band += valid[..., None] * (tele - band)
        confidence = aligned.confidence.at(rows, columns).clip(_DOUBTFUL, 1)
        sure[first : first + _BAND] = valid[..., None] * confidence
    wide_image, tele_image, confident = (
        torch.from_numpy(image).permute(2, 0, 1)[None].clamp(0, 1) for image in (lr, ref, sure)
    )
    return Inputs(wide_image, tele_image, place, confidence=confident)


def _resized(result: torch.Tensor, made: Window, step: int, scale: float) -> torch.Tensor:
    """What was made for a window at `step` pixels per LR pixel, (3, h, w), at `scale`."""
    if step == scale:
        return result
    down, across = (
        resampling.between(start, stop - start, step, scale, str(result.device))
        for start, stop in zip(made[:2], made[2:], strict=True)
    )
    return across.across(down.down(result))


def _add_finer(
    result: torch.Tensor,
    weight: torch.Tensor,
    aligned: AlignedPair,
    made: Window,
    step: int,
    scale: float,
) -> None:
    """Add to a window (3, h, w) at `scale` what the tele photo has that `step` does not hold.

    weight: (1, N, ., .) 0..1 at `step`, of a network's references.
    """
    seen, valid = _tele(aligned, made, scale, result.device)
    if not bool((valid > 0).any()):
        return
    held = _resized(_tele(aligned, made, step, result.device)[0], made, step, scale)
    share = _resized(weight[0].sum(0, keepdim=True).float(), made, step, scale).clamp(0, 1)
    result += share * valid * (seen - held)


def _tele(
    aligned: AlignedPair, window: Window, scale: float, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """The tele photo at `scale` in a window of the wide one: (3, h, w), and validity (1, h, w)."""
    rows, columns = (
        (np.arange(*outputs_in(low, high, scale), dtype=np.float64) + 0.5) / scale - 0.5
        for low, high in zip(window[:2], window[2:], strict=True)
    )
    tele, valid = aligned.tele_at(rows, columns)
    seen, inside = (
        torch.from_numpy(np.ascontiguousarray(image)).to(device) for image in (tele, valid)
    )
    return seen.permute(2, 0, 1), inside[None]


def _cut(result: torch.Tensor, made: Window, part: Box, scale: float) -> torch.Tensor:
    """The outputs of a part, of those of a window."""
    rows, columns = (
        slice(*(n - outputs_in(start, stop, scale)[0] for n in outputs_in(low, high, scale)))
        for start, stop, low, high in zip(made[:2], made[2:], part[:2], part[2:], strict=True)
    )
    return result[:, rows, columns]


def _shares(
    outputs: Outputs, aligned: AlignedPair, made: Window, part: Box
) -> tuple[Floats, Floats]:
    """(h, w) each of `part`: detail from the tele directly, and from matched places of it."""
    maps = outputs.maps
    taken = maps["weight"].sum(1, keepdim=True) if "weight" in maps else maps["confidence"]
    size = (made[2] - made[0], made[3] - made[1])
    found = functional.interpolate(taken[:1].float(), size, mode="bilinear")[0, 0]
    inside = (
        slice(part[0] - made[0], part[2] - made[0]),
        slice(part[1] - made[1], part[3] - made[1]),
    )
    share: Floats = found[inside].clamp(0, 1).cpu().numpy()
    rows, columns = (
        np.arange(low, high, dtype=np.float64) for low, high in zip(part[:2], part[2:], strict=True)
    )
    direct = aligned.valid_at(rows, columns)
    return share * direct, share * (1 - direct)


def _common(window: Window, box: Box) -> Box | None:
    top, left = (max(a, b) for a, b in zip(window[:2], box[:2], strict=True))
    bottom, right = (min(a, b) for a, b in zip(window[2:], box[2:], strict=True))
    return (top, left, bottom, right) if top < bottom and left < right else None
