"""A network in training, measured on what was held out, with the bench's own metrics."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from dualsr_cli.benchmark import score
from dualsr_cli.networks import Inputs
from dualsr_cli.training.patches import Triplet, references, scale_of, tensor

_SIDE = 192  # LR pixels of a part that is measured
_PROTOCOL = "half-size"  # 8-bit RGB
_METRICS = ("psnr", "ssim")


def held_out_part(case: Triplet, side: int = _SIDE) -> Inputs:
    """A part of a case as a network gets it at inference, a batch of one.

    It lies about the upper left corner of what the reference shows, so that there is something
    with and something without a reference; at most `side` LR pixels high and wide. Where that is
    another photo, it is the upper left part of both.
    """
    s = scale_of(case)
    if case.center is not None:
        ref, *more = references(case.ref[: s * side, : s * side])
        return Inputs(
            tensor(case.lr[:side, :side]),
            ref,
            torch.zeros(1, 4, dtype=torch.int64),
            None if case.hr is None else tensor(case.hr[: s * side, : s * side]),
            tuple(more),
            center=tensor(case.center[:side, :side]),
        )
    top, bottom = _about(case.box[0], case.lr.shape[0], side)
    left, right = _about(case.box[1], case.lr.shape[1], side)
    box = (
        max(top, case.box[0]),
        max(left, case.box[1]),
        min(bottom, case.box[2]),
        min(right, case.box[3]),
    )
    seen = tuple(
        slice(s * (box[axis] - case.box[axis]), s * (box[axis + 2] - case.box[axis]))
        for axis in (0, 1)
    )
    known = case.confidence
    ref, *more = references(case.ref[seen])
    return Inputs(
        tensor(case.lr[top:bottom, left:right]),
        ref,
        torch.tensor([[box[0] - top, box[1] - left, box[2] - top, box[3] - left]]),
        None if case.hr is None else tensor(case.hr[s * top : s * bottom, s * left : s * right]),
        tuple(more),
        confidence=None if known is None else tensor(known[seen][..., None]),
    )


def measure(
    network: nn.Module, samples: Sequence[Inputs], origins: Sequence[str] = ()
) -> dict[str, float]:
    """Means over batches of one that have a truth: "psnr" and "ssim", of all, "-center" where the
    reference shows the scene, and "-corner" beside it; "gain", in dB of PSNR, over bicubic, and
    with `origins`, a word for each of the samples, "gain-WORD" of those that have it.

    The network is in eval mode; gradients are off.
    """
    device = next(network.parameters()).device
    found: dict[str, list[float]] = {}
    for number, sample in enumerate(samples):
        assert sample.hr is not None
        truth = _pixels(sample.hr)
        s = sample.hr.shape[2] // sample.lr.shape[2]
        top, left, bottom, right = (s * edge for edge in sample.box[0].tolist())
        # A reference that was made for training may lie beside the patch.
        height, width = truth.shape[:2]
        box = (max(0, top), max(0, left), min(height, bottom), min(width, right))
        nowhere = box[0] >= box[2] or box[1] >= box[3]
        result = _pixels(network(sample.to(device)).sr)
        scores = score(result, truth, None if nowhere else box, _PROTOCOL, metrics=_METRICS)
        for region, values in scores.items():
            for metric, value in values.items():
                name = metric if region == "full" else f"{metric}-{region}"
                found.setdefault(name, []).append(value)
        plain = _pixels(F.interpolate(sample.lr, scale_factor=s, mode="bicubic"))
        bicubic = score(plain, truth, None, _PROTOCOL, metrics=("psnr",))["full"]["psnr"]
        gain = scores["full"]["psnr"] - bicubic
        for name in ("gain", *(f"gain-{origin}" for origin in origins[number : number + 1])):
            found.setdefault(name, []).append(gain)
    return {name: sum(values) / len(values) for name, values in sorted(found.items())}


def _about(edge: int, size: int, side: int) -> tuple[int, int]:
    """First and last, exclusive, of `side` pixels of `size`, with `edge` in their middle."""
    first = max(0, min(edge - side // 2, size - side))
    return first, min(size, first + side)


def _pixels(images: torch.Tensor) -> npt.NDArray[np.float32]:
    """(1, 3, h, w) to (h, w, 3)."""
    pixels: npt.NDArray[np.float32] = images[0].float().cpu().permute(1, 2, 0).numpy()
    return pixels
