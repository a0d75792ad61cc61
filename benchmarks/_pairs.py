"""The pairs that the benchmarks run on, the half-size protocol, and one run of dualsr in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from dualsr_cli.alignment import AlignedPair, align
from dualsr_cli.errors import AlignmentError
from dualsr_cli.photos import Photo, parse_capture, read_photo
from dualsr_cli.reconstruction import AUTO, measure, reconstruct, restore, restorer_for

SAMPLES = Path(__file__).parent.parent / "sample_pairs"
SCALE = 2

Rgb = npt.NDArray[np.uint8]  # (h, w, 3)
Mask = npt.NDArray[np.bool_]  # (h, w)


@dataclass(frozen=True, eq=False)
class Pair:
    """A wide and a tele photo of one scene, and the truth: `wide` at `scale` times its size."""

    name: str
    group: str
    wide: Photo
    tele: Photo
    truth: Rgb

    @property
    def scale(self) -> int:
        return self.truth.shape[0] // self.wide.height


def half_size(name: str, group: str, wide: Photo, tele: Photo, scale: int = SCALE) -> Pair:
    """Both photos reduced by `scale`; the wide photo, cut to whole pixels, is the truth."""
    truth, shown = (whole(rgb8(photo), scale) for photo in (wide, tele))
    return Pair(
        name,
        group,
        with_pixels(wide, halved(truth, scale)),
        with_pixels(tele, halved(shown, scale)),
        truth,
    )


def sample_pairs(scale: int = SCALE) -> Iterator[Pair]:
    for folder in sorted(path.parent for path in SAMPLES.glob("*/wide.*")):
        if folder.name != "other-scene":
            yield half_size(folder.name, "samples", *sample(folder.name), scale)


def sample(name: str) -> tuple[Photo, Photo]:
    """Wide and tele of one folder of sample_pairs, as they are."""
    wide, tele = (next((SAMPLES / name).glob(f"{lens}.*")) for lens in ("wide", "tele"))
    return read_photo(wide), read_photo(tele)


def data_pairs(data: Path) -> Iterator[Pair]:
    """The pairs of a folder that holds berlin/, buddha/ and city100/, as far as it does."""
    for name, wide, tele in berlin(data / "berlin"):
        yield half_size(name, "berlin", wide, tele)
    yield from _buddha(data / "buddha")
    for camera in ("iphone", "nikon"):
        for path in sorted((data / "city100" / camera).glob("*L.png")):
            short, long = read_photo(path), read_photo(path.with_name(path.name[:-5] + "H.png"))
            tele = with_pixels(long, middle_half(long.pixels))
            yield half_size(
                f"{camera}-{path.name[:3]}", camera, with_pixels(short, halved(short.pixels)), tele
            )


def berlin(folder: Path) -> Iterator[tuple[str, Photo, Photo]]:
    """Three photos of one house, by hand and by phone, as wide and tele photos."""
    if not folder.is_dir():
        return
    crops = (  # top, bottom, left, right of the tele's
        ("01", "02", np.s_[500:1900, 800:2600]),
        ("01", "03", np.s_[300:1800, 700:2500]),
        ("02", "03", np.s_[500:1900, 700:2500]),
    )
    for first, second, crop in crops:
        wide, tele = read_photo(folder / f"{first}.jpg"), read_photo(folder / f"{second}.jpg")
        yield (
            f"berlin-{first}-{second}",
            with_pixels(wide, halved(wide.pixels)),
            with_pixels(tele, tele.pixels[crop]),
        )


def _buddha(folder: Path) -> Iterator[Pair]:
    """Three views of a statue; 00010 was taken with the camera turned."""
    if not folder.is_dir():
        return
    for first, second in (("00010", "00006"), ("00010", "00018"), ("00018", "00006")):
        wide, tele = (read_photo(folder / f"{name}._c.png") for name in (first, second))
        yield half_size(
            f"buddha-{first}-{second}",
            "buddha",
            with_pixels(wide, halved(upright(wide.pixels, first))),
            with_pixels(tele, middle_half(upright(tele.pixels, second))),
        )


def upright(pixels: Rgb, name: str) -> Rgb:
    return np.rot90(pixels, -1) if name == "00010" else pixels


def with_pixels(photo: Photo, pixels: Rgb) -> Photo:
    """`photo` with other pixels; its EXIF goes along where the field of view is still the same."""
    height, width = pixels.shape[:2]
    same_view = abs(width / height / (photo.width / photo.height) - 1) < 0.01
    header = replace(photo.header, width=width, height=height, bit_depth=8)
    if not same_view:
        header = replace(header, capture=parse_capture(None))
    return Photo(np.ascontiguousarray(pixels), header)


def rgb8(photo: Photo) -> Rgb:
    return (
        photo.pixels if photo.pixels.dtype == np.uint8 else (photo.pixels // 257).astype(np.uint8)
    )


def whole(pixels: Rgb, scale: int = SCALE) -> Rgb:
    """Cut to sides that are multiples of `scale`."""
    return pixels[: pixels.shape[0] // scale * scale, : pixels.shape[1] // scale * scale]


def halved(pixels: Rgb, scale: int = SCALE) -> Rgb:
    """By Pillow's bicubic, which is antialiased; or reduced by `scale`."""
    return resized(pixels, (pixels.shape[1] // scale, pixels.shape[0] // scale))


def middle_half(pixels: Rgb) -> Rgb:
    height, width = pixels.shape[:2]
    return pixels[height // 4 : height * 3 // 4, width // 4 : width * 3 // 4]


def resized(pixels: Rgb, size: tuple[int, int]) -> Rgb:
    """To `size`, (width, height), by Pillow's bicubic."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC))


def psnr(result: Rgb, truth: Rgb, mask: Mask | None = None) -> float:
    """In dB over 8-bit RGB, where `mask` is set; NaN where it is nowhere."""
    squares = (result.astype(np.float32) - truth) ** 2
    chosen = squares if mask is None else squares[mask]
    if chosen.size == 0:
        return float("nan")
    return float(10 * np.log10(255**2 / max(chosen.mean(dtype=np.float64), 1e-9)))


@dataclass(frozen=True, eq=False)
class Run:
    """A result of dualsr; `refused` is the reason code where the tele was not used."""

    pixels: Rgb
    aligned: AlignedPair | None
    refused: str


def run(
    wide: Photo, tele: Photo | None, model: str = AUTO, precision: str = "fp32", scale: int = SCALE
) -> Run:
    """What `dualsr upscale --scale SCALE --model MODEL` does between reading and writing.

    precision: of a network.
    """
    aligned, agreement, refused = None, None, ""
    if tele is not None:
        try:
            aligned = align(wide, tele)
            if aligned.swapped:  # the command would upscale the other photo: no truth for that
                raise AlignmentError("swapped", "wide and tele were exchanged")
            agreement = measure(aligned, scale)
        except AlignmentError as error:
            refused = error.reason
    used = aligned if agreement is not None else None
    if used is not None and agreement is not None:
        restorer = restorer_for(model, used, agreement, "cpu", precision)
        if restorer is not None:
            return Run(restore(used, restorer, scale).pixels, aligned, refused)
    return Run(reconstruct(wide, used, scale, agreement=agreement).pixels, aligned, refused)


def footprint(
    homography: npt.NDArray[np.float64], wide: Photo, tele: Photo, scale: int = SCALE
) -> Mask:
    """Where the result's pixels lie in the tele photo, by a homography from wide to tele pixels."""
    y, x = np.mgrid[0 : wide.height * scale, 0 : wide.width * scale]
    x, y = (x + 0.5) / scale - 0.5, (y + 0.5) / scale - 0.5
    u, v, w = (row[0] * x + row[1] * y + row[2] for row in homography)
    right, bottom = (tele.width - 1) * w, (tele.height - 1) * w
    inside: Mask = (u >= 0) & (v >= 0) & (u <= right) & (v <= bottom)
    return inside
