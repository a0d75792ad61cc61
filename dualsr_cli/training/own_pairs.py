"""A user's own wide and tele photo -> triplets to train on, though nobody knows the truth."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from PIL import Image

from dualsr_cli.alignment import AlignedPair, Box, align
from dualsr_cli.photos import Photo
from dualsr_cli.training._simulator_photographs import bytes_of
from dualsr_cli.training.patches import Bytes, Rgb, Triplet

_ROWS = 512  # rows of the result that are warped at once
_SHRINK = 0.02  # of a footprint, in each step of the search for a part that is all valid


def half_size(wide: Photo, tele: Photo) -> Triplet:
    """A user's pair, both photos halved; the wide photo as it is is the truth. Scale 2.

    Raises AlignmentError where the halved tele cannot be laid on the halved wide.
    """
    truth = bytes_of(wide)
    truth = truth[: truth.shape[0] // 2 * 2, : truth.shape[1] // 2 * 2]
    aligned = align(_with(wide, _halved(truth)), _with(tele, _halved(bytes_of(tele))))
    if aligned.swapped:
        raise ValueError(f"{wide.path} shows less of the scene than {tele.path}: exchange them")
    box = aligned.footprint_box()
    ref, confidence = laid(aligned, box, 2)
    return Triplet(bytes_of(aligned.wide), ref, box, truth, confidence)


def telephoto(aligned: AlignedPair, scale: int) -> Triplet:
    """SelfDZSR's preparation of a pair, for any ratio: the tele photo is the truth.

    LR is the part of the wide photo that the tele shows; the truth is the tele photo in the wide's
    colours, warped on it by homography, mesh and flow; the reference is the truth's centre, one
    `scale`-th of its sides. (Section 4.1.) Raises ValueError where they hardly overlap.
    """
    top, left, bottom, right = _all_valid(aligned)
    lr = bytes_of(aligned.wide)[top:bottom, left:right]
    hr, _ = laid(aligned, (top, left, bottom, right), scale)
    height, width = (bottom - top) // scale, (right - left) // scale
    y, x = (bottom - top - height) // 2, (right - left - width) // 2
    ref = hr[scale * y : scale * (y + height), scale * x : scale * (x + width)]
    return Triplet(lr, ref, (y, x, y + height, x + width), hr)


def real(aligned: AlignedPair, scale: int) -> Triplet:
    """A pair at its own size, without truth: what DCSR's adaptation (SRA, equation 7) trains on."""
    box = aligned.footprint_box()
    ref, confidence = laid(aligned, box, scale)
    return Triplet(bytes_of(aligned.wide), ref, box, confidence=confidence)


def laid(aligned: AlignedPair, box: Box, scale: int) -> tuple[Rgb, Bytes]:
    """The tele photo on `box` of the wide, (s h, s w, 3), in the wide photo's tone, and confidence.

    As in `dualsr upscale`: where the tele does not reach, the enlarged wide photo fills the box and
    the confidence, (s h, s w) bytes, is 0, and it is at least 1 where it does.
    """
    top, left, bottom, right = box
    under = np.ascontiguousarray(bytes_of(aligned.wide)[top:bottom, left:right])
    size = scale * (right - left), scale * (bottom - top)
    ref: Rgb = cv2.resize(under, size, interpolation=cv2.INTER_CUBIC)
    sure = np.zeros(ref.shape[:2], np.uint8)
    columns = (np.arange(scale * left, scale * right) + 0.5) / scale - 0.5
    for first in range(0, len(ref), _ROWS):
        band = ref[first : first + _ROWS]
        rows = (np.arange(len(band)) + scale * top + first + 0.5) / scale - 0.5
        colours, valid = aligned.tele_at(rows, columns)
        colours = np.clip(colours * 255, 0, 255)
        band[:] = np.rint(band + valid[..., None] * (colours - band))
        known = aligned.confidence.at(rows, columns)[..., 0].clip(1 / 255, 1)
        sure[first : first + _ROWS] = np.rint(valid * known * 255)
    return ref, sure


def _all_valid(aligned: AlignedPair) -> Box:
    """A part of the footprint's box, about its centre, that lies in the tele photo wholly."""
    top, left, bottom, right = aligned.footprint_box()
    for step in range(round(0.4 / _SHRINK)):
        down = round((bottom - top) * step * _SHRINK)
        across = round((right - left) * step * _SHRINK)
        box = top + down, left + across, bottom - down, right - across
        rows = np.arange(box[0], box[2], dtype=float)
        columns = np.arange(box[1], box[3], dtype=float)
        if aligned.valid_at(rows, columns).min() == 1:
            return box
    raise ValueError(f"{aligned.tele.path} has no upright part inside {aligned.wide.path}")


def _halved(pixels: Rgb) -> Rgb:
    """By Pillow's bicubic, which is antialiased: the half-size protocol's reduction."""
    size = pixels.shape[1] // 2, pixels.shape[0] // 2
    image = Image.fromarray(np.ascontiguousarray(pixels[: size[1] * 2, : size[0] * 2]))
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC))


def _with(photo: Photo, pixels: Rgb) -> Photo:
    height, width = pixels.shape[:2]
    return replace(
        photo,
        pixels=np.ascontiguousarray(pixels),
        header=replace(photo.header, width=width, height=height, bit_depth=8),
    )
