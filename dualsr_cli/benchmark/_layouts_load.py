"""A case -> its sample: how LR, references and truth are made of a data set's files."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from dualsr_cli.benchmark._layouts_case import Box, Case, Sample
from dualsr_cli.errors import InputError
from dualsr_cli.photos import Photo, parse_capture, read_photo

Pixels = npt.NDArray[Any]  # (h, w, 3) uint8 or uint16
Floats = npt.NDArray[np.float64]  # (h, w, 3), 0..1

_GRID = 14  # views of a Lytro Illum along each axis, of which the outer ones are dark
_FIRST = 3  # where the central 8 x 8 of them begin
_LIGHT_FIELD = 320, 512  # height and width from the top left, as CrossNet's programs cut them
_ELECTRONS = 10_000  # that white holds at a whole exposure
_READ_NOISE = 2.5  # electrons
_GAMMA = 2.2


def load(case: Case) -> Sample:
    """Read the files of a case.

    Where LR has no file of its own it is Pillow's bicubic, which is antialiased. Raises InputError
    for a file that cannot be read, or whose size does not fit the others.
    """
    sample = _RECIPES[case.recipe](case)
    for name, amount in case.changes:
        # The same at each run, and the same noise at each of its strengths.
        random = np.random.default_rng(zlib.crc32(f"{case.part}/{case.name}/{name}".encode()))
        values = sample.lr.pixels / sample.lr.max_value
        changed = np.clip(_CHANGES[name](values, amount, random), 0, 1) * sample.lr.max_value
        pixels = np.rint(changed).astype(sample.lr.pixels.dtype)
        sample = replace(sample, lr=_with_pixels(sample.lr, pixels))
    return sample


def _noisy(values: Floats, variance: float, random: np.random.Generator) -> Floats:
    """With Gaussian noise of that variance; 1 is white."""
    noisy: Floats = values + variance**0.5 * random.standard_normal(values.shape)
    return noisy


def _exposed(values: Floats, share: float, random: np.random.Generator) -> Floats:
    """Taken in that share of the time, and brought to the same brightness by the gain.

    Fewer photons are counted, in linear light, and the sensor's own noise weighs more. AWnet tells
    the times (section 6), not the sensor: its electrons are ours.
    """
    counted = random.poisson(values**_GAMMA * _ELECTRONS * share).astype(float)
    counted += _READ_NOISE * random.standard_normal(values.shape)
    exposed: Floats = np.clip(counted / (_ELECTRONS * share), 0, 1) ** (1 / _GAMMA)
    return exposed


_CHANGES: Mapping[str, Callable[[Floats, float, np.random.Generator], Floats]] = {
    "noise": _noisy,
    "exposure": _exposed,
}


def _filed(case: Case) -> Sample:
    """LR, references and truth lie there as files."""
    lr = read_photo(case.wide)
    hr = None if case.truth is None else read_photo(case.truth)
    if hr is not None:
        _check(hr, lr.height * case.scale, lr.width * case.scale, f"{case.scale} times {case.wide}")
    refs = tuple(read_photo(path) for path in case.refs)
    box = _box(case, lr)
    registration = case.registration
    if box is not None and registration != "free":
        height, width = (case.scale * (box[at + 2] - box[at]) for at in (0, 1))
        fits = all((ref.height, ref.width) == (height, width) for ref in refs)
        if registration == "aligned":
            for ref in refs:
                _check(ref, height, width, f"{case.scale} times what it shows of {case.wide}")
        elif not fits:  # taken by another camera: only an alignment can lay it on the box
            registration = "free"
    return Sample(case, lr, refs, hr, box, registration)


def _center_of_truth(case: Case) -> Sample:
    """The reference is cut out of the middle of the truth (SelfDZSR)."""
    sample = _filed(replace(case, refs=(), registration="free"))
    assert sample.hr is not None and sample.box is not None
    top, left, bottom, right = (case.scale * side for side in sample.box)
    ref = _part(sample.hr, sample.hr.pixels[top:bottom, left:right])
    return replace(sample, case=case, refs=(ref,), registration=case.registration)


def _reduced(case: Case) -> Sample:
    """LR is the truth reduced; the truth is cut to a multiple of the scale before."""
    assert case.truth is not None
    hr = _cut(read_photo(case.truth), case)
    refs = tuple(_cut(read_photo(path), case) for path in case.refs)
    lr = _shrunk(hr, case.scale)
    box = _box(case, lr)
    if box is None:
        return Sample(case, lr, refs, hr, center=_shrunk(refs[0], case.scale))
    for ref in refs:
        _check(ref, hr.height, hr.width, f"as {case.truth} is")
    return Sample(case, lr, refs, hr, box, case.registration)


def _light_field(case: Case) -> Sample:
    """Truth and reference are views out of one picture of lenslets."""
    assert case.view is not None
    lenslets = read_photo(case.wide)
    if min(lenslets.height, lenslets.width) < _GRID * case.scale:
        raise InputError(
            case.wide,
            f"is {_size(lenslets)} pixels, too small for {_GRID} x {_GRID} views: export the light "
            "field as an ESLF picture",
        )

    def view(row: int, column: int) -> Photo:
        height, width = (side // _GRID * _GRID for side in lenslets.pixels.shape[:2])
        pixels = lenslets.pixels[_FIRST + row : height : _GRID, _FIRST + column : width : _GRID]
        return _cut(_part(lenslets, pixels[: _LIGHT_FIELD[0], : _LIGHT_FIELD[1]]), case)

    hr = view(*case.view)
    lr = _shrunk(hr, case.scale)
    return Sample(case, lr, (view(0, 0),), hr, _box(case, lr), case.registration)


def _halved(case: Case) -> Sample:
    """The half-size protocol: both photos are halved, and the wide one is the truth."""
    photos = [read_photo(path) for path in (case.wide, *case.refs)]
    if case.crops:
        photos = [_cropped(photo, crop) for photo, crop in zip(photos, case.crops, strict=True)]
    wide, tele = (_cut(photo, case) for photo in photos)
    return Sample(case, _shrunk(wide, case.scale), (_shrunk(tele, case.scale),), wide)


def _city100(case: Case) -> Sample:
    """City100: LR is the short-focal photo halved, the truth the long-focal one.

    The reference is cut out of the middle of the truth, half its sides, as another photo would show
    it: shifted by up to 4 % of its sides, its corners moved by up to 1 %, and in another tone.
    Which, depends on the case's name alone.
    """
    assert case.truth is not None
    short, hr = (_cut(read_photo(path), case) for path in (case.wide, case.truth))
    _check(short, hr.height, hr.width, f"as {case.truth} is")
    random = np.random.default_rng(zlib.crc32(f"{case.part}/{case.name}".encode()))
    sides = np.array([hr.width // 2, hr.height // 2])
    corners = (np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) + 0.5) * sides  # x, y in the truth
    moved = corners + random.uniform(-0.04, 0.04, 2) * sides
    moved += random.uniform(-0.01, 0.01, (4, 2)) * sides
    # Pixel k reaches from k - 0.5 to k + 0.5.
    target = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * sides - 0.5
    matrix = cv2.getPerspectiveTransform(
        target.astype(np.float32), (moved - 0.5).astype(np.float32)
    )
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    size = int(sides[0]), int(sides[1])
    white = hr.max_value
    warped = cv2.warpPerspective(hr.pixels.astype(np.float32) / white, matrix, size, flags=flags)
    exposure, gamma = random.uniform(0.9, 1.1), random.uniform(0.9, 1.1)
    balance = random.uniform(0.96, 1.04, 3)
    toned = exposure * balance * np.clip(warped, 0, 1) ** gamma
    pixels = np.rint(np.clip(toned, 0, 1) * white).astype(hr.pixels.dtype)
    low, high = moved.min(axis=0), moved.max(axis=0)
    left, top = np.rint(low / case.scale).astype(int).tolist()
    right, bottom = np.rint(high / case.scale).astype(int).tolist()
    lr = _shrunk(short, case.scale)
    return Sample(case, lr, (_part(hr, pixels),), hr, (top, left, bottom, right))


_RECIPES: Mapping[str, Callable[[Case], Sample]] = {
    "filed": _filed,
    "center-of-truth": _center_of_truth,
    "reduced": _reduced,
    "light-field": _light_field,
    "halved": _halved,
    "city100": _city100,
}


def _box(case: Case, lr: Photo) -> Box | None:
    """The footprint in pixels of an LR of this size. Raises InputError where it sticks out."""
    if case.footprint is None:
        return None
    if case.footprint == "whole":
        return 0, 0, lr.height, lr.width
    if case.footprint == "center":
        # Rounded as SelfDZSR's programs do.
        height, width = round(lr.height / case.scale), round(lr.width / case.scale)
        top, left = lr.height // 2 - height // 2, lr.width // 2 - width // 2
        return top, left, top + height, left + width
    top, left, bottom, right = case.footprint
    if not (0 <= top < bottom <= lr.height and 0 <= left < right <= lr.width):
        raise InputError(
            case.wide,
            f"is {_size(lr)} pixels, and its reference's box (rows {top} to {bottom}, columns "
            f"{left} to {right}) does not lie in that: take the boxes of this data set",
        )
    return case.footprint


def _check(photo: Photo, height: int, width: int, why: str) -> None:
    if (photo.height, photo.width) != (height, width):
        raise InputError(
            photo.path,
            f"is {_size(photo)} pixels, not {width} x {height}, {why}: copy the file again",
        )


def _size(photo: Photo) -> str:
    return f"{photo.width} x {photo.height}"


def _cut(photo: Photo, case: Case) -> Photo:
    """The case's central window, then rows and columns up to a multiple of the scale."""
    if case.window is not None:
        height, width = case.window
        if photo.height < height or photo.width < width:
            raise InputError(
                photo.path,
                f"is {_size(photo)} pixels, less than the {width} x {height} that are cut out: "
                "copy the file again",
            )
        top, left = (photo.height - height) // 2, (photo.width - width) // 2
        photo = _part(photo, photo.pixels[top : top + height, left : left + width])
    height, width = (side // case.scale * case.scale for side in photo.pixels.shape[:2])
    if min(height, width) == 0:
        raise InputError(
            photo.path, f"is {_size(photo)} pixels, too small to be reduced {case.scale} times"
        )
    return _with_pixels(photo, photo.pixels[:height, :width])


def _cropped(photo: Photo, crop: Box) -> Photo:
    top, left, bottom, right = crop
    if photo.height < bottom or photo.width < right:
        raise InputError(
            photo.path,
            f"is {_size(photo)} pixels, and columns {left} to {right} of rows {top} to {bottom} "
            "are to be cut out: restore the file",
        )
    return _part(photo, photo.pixels[top:bottom, left:right])


def _part(photo: Photo, pixels: Pixels) -> Photo:
    """A part of what `photo` shows: its focal length would say something else."""
    part = _with_pixels(photo, pixels)
    return replace(part, header=replace(part.header, capture=parse_capture(None)))


def _with_pixels(photo: Photo, pixels: Pixels) -> Photo:
    """`photo` with other pixels, of the same field of view."""
    height, width = pixels.shape[:2]
    header = replace(photo.header, width=width, height=height)
    return Photo(np.ascontiguousarray(pixels), header)


def _shrunk(photo: Photo, factor: int) -> Photo:
    """Reduced by Pillow's bicubic, which is antialiased; sides are multiples of `factor`."""
    size = photo.width // factor, photo.height // factor
    if photo.pixels.dtype == np.uint8:
        image = Image.fromarray(photo.pixels)
        return _with_pixels(photo, np.asarray(image.resize(size, Image.Resampling.BICUBIC)))
    # Pillow has no RGB of 16 bits.
    channels = [
        np.asarray(
            Image.fromarray(photo.pixels[..., band].astype(np.float32)).resize(
                size, Image.Resampling.BICUBIC
            )
        )
        for band in range(3)
    ]
    pixels = np.rint(np.clip(np.stack(channels, -1), 0, photo.max_value))
    return _with_pixels(photo, pixels.astype(np.uint16))
