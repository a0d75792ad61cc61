"""A folder of photographs -> 8-bit pixels that patches are cut from, each photo decoded once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from dualsr_cli.errors import InputError
from dualsr_cli.files import atomic_writer
from dualsr_cli.photos import READ_SUFFIXES, Photo, read_photo

Rgb = npt.NDArray[np.uint8]  # (height, width, 3)

REDUCTIONS = (1, 2)
"""Each photograph is held as it is and halved: many are soft at their own resolution."""


@dataclass(frozen=True, eq=False)
class Photographs:
    """Photographs as uint8 (height, width, 3) RGB, each reduced by each of REDUCTIONS.

    `held[i]` is photograph i: its pixels, or the .npy files that they are mapped from, so that an
    object handed to another process carries no pixels. `left_out` has a sentence for each file
    that is of no use here. `wides`: of each the same view as a wide lens really showed it, 1 / s of
    its sides at a scale of s; none where that is to be simulated.
    """

    held: tuple[tuple[Rgb | Path, ...], ...]
    names: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    wides: tuple[Rgb | Path, ...] = ()

    def __len__(self) -> int:
        return len(self.held)

    def pixels(self, index: int, level: int = 0) -> Rgb:
        """Photograph `index`, reduced by REDUCTIONS[level]."""
        held = self.held[index][level]
        return _mapped(held) if isinstance(held, Path) else held

    def wide(self, index: int) -> Rgb | None:
        """The wide photo of photograph `index`, as it is."""
        if not self.wides:
            return None
        held = self.wides[index]
        return _mapped(held) if isinstance(held, Path) else held

    def only(self, indices: Sequence[int]) -> Photographs:
        """Some of them."""
        return replace(
            self,
            held=tuple(self.held[index] for index in indices),
            names=tuple(self.names[index] for index in indices),
            wides=tuple(self.wides[index] for index in indices) if self.wides else (),
        )

    @staticmethod
    def of(pixels: tuple[Rgb, ...]) -> Photographs:
        """Photographs that are at hand already."""
        return Photographs(
            tuple(_pyramid(photo) for photo in pixels),
            tuple(f"photograph {number}" for number in range(1, len(pixels) + 1)),
        )


def load_photographs(folder: Path, cache: Path | None = None, smallest: int = 640) -> Photographs:
    """All photographs of a folder and the folders below it, sorted by path.

    cache: a folder that decoded pixels are written to and mapped from, 3.75 bytes a pixel, so that
    workers share them and a second run decodes nothing; without it they are held in memory.
    smallest: photographs whose short side has fewer pixels are left out, as are files that cannot
    be read. Raises InputError where none is left, OutputError where the cache cannot be written.
    """
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in READ_SUFFIXES and path.is_file()
    )
    held: list[tuple[Rgb | Path, ...]] = []
    names, left_out = [], []
    for path in files:
        try:
            levels = _cached(path, cache) if cache else _pyramid(_decoded(path))
        except InputError as error:
            left_out.append(str(error))
            continue
        full = levels[0]
        height, width = (_mapped(full) if isinstance(full, Path) else full).shape[:2]
        if min(height, width) < smallest:
            left_out.append(f"{path} has {width} x {height} pixels: {smallest} a side are needed")
            continue
        held.append(levels)
        names.append(str(path.relative_to(folder)))
    if not held:
        raise InputError(
            folder,
            f"holds no photograph of {smallest} x {smallest} pixels or more that can be read: "
            "name a folder of sharp photographs",
        )
    return Photographs(tuple(held), tuple(names), tuple(left_out))


def _decoded(path: Path) -> Rgb:
    return bytes_of(read_photo(path))


def bytes_of(photo: Photo) -> Rgb:
    """A photo's pixels in 8 bits."""
    deep = photo.bit_depth > 8
    return (
        (photo.pixels // 257).astype(np.uint8)
        if deep
        else photo.pixels.astype(np.uint8, copy=False)
    )


def _pyramid(full: Rgb) -> tuple[Rgb, ...]:
    return tuple(_reduced(full, factor) for factor in REDUCTIONS)


def _reduced(pixels: Rgb, factor: int) -> Rgb:
    """Means of `factor` x `factor` pixels; rows and columns that are left over are cut off."""
    height, width = (size // factor for size in pixels.shape[:2])
    whole = np.ascontiguousarray(pixels[: height * factor, : width * factor])
    if factor == 1:
        return whole
    smaller: Rgb = cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA)
    return smaller


def _cached(path: Path, cache: Path) -> tuple[Path, ...]:
    status = path.stat()
    told = f"{path.resolve()}\0{status.st_size}\0{status.st_mtime_ns}"
    key = hashlib.sha256(told.encode()).hexdigest()[:20]
    targets = tuple(cache / f"{key}-{factor}.npy" for factor in REDUCTIONS)
    try:
        for target in targets:
            _mapped(target)
    except (OSError, ValueError):  # not there yet, or not what was written
        for target, pixels in zip(targets, _pyramid(_decoded(path)), strict=True):
            with atomic_writer(target) as file:
                np.lib.format.write_array(file, pixels, allow_pickle=False)
    return targets


@lru_cache(maxsize=4096)
def _mapped(target: Path) -> Rgb:
    pixels: Rgb = np.load(target, mmap_mode="r", allow_pickle=False)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"{target} does not hold the pixels of a photograph")
    return pixels
