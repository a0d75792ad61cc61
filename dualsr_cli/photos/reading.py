"""Photo files -> header and pixels, strip by strip, so that memory holds little but the result."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dualsr_cli.errors import InputError
from dualsr_cli.photos import _exif, _icc, _sniff
from dualsr_cli.photos._tiff import BrokenTiff, Tiff
from dualsr_cli.photos.capture import parse_capture
from dualsr_cli.photos.photo import Header, Metadata, Photo

READ_SUFFIXES = frozenset(_sniff.FORMATS_BY_SUFFIX)  # lower case, with the dot

_STRIP_BYTES = 1 << 18

_REMEDY = "copy it again from the phone"


class _DecoderFailed(Exception):
    """A decoder met something that it could not read."""


@dataclass(frozen=True)
class _Picture:
    """An opened file. `rows(top, count)` gives (count, width, bands), values below 2**bits, in the
    file's order; they are asked for from top to bottom, once. It raises _DecoderFailed."""

    width: int
    height: int
    bands: int  # 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha
    bits: int  # 8, 10, 12 or 16
    metadata: Metadata
    rows: Callable[[int, int], npt.NDArray[Any]]
    orientation: int = 1  # still to be applied


def read_header(path: Path | str) -> Header:
    """What can be known of a photo without decoding it. Raises InputError.

    Width and height are upright. A file that passes may still turn out damaged in its pixels.
    """
    path = Path(path)
    return _open(path)[0]


def read_photo(path: Path | str) -> Photo:
    """Decode a photo: JPEG (its first picture), PNG, TIFF, HEIC, WebP, AVIF, or DNG.

    The content decides the format, not the name. The orientation is applied once. 10 and 12 bits
    are scaled to the full range of uint16; grey is read as RGB; an alpha channel that is opaque is
    dropped. Refused are: sides over 40,000 pixels, over 220 megapixels, real transparency, CMYK,
    1 bit, animations, several pages, damaged or truncated files; DNG without the extra `raw`. At
    its peak the memory holds the pixels and a few MB (progressive JPEG, interlaced PNG, HEIC, AVIF
    and DNG: also the decoder's own copy).

    Raises InputError.
    """
    path = Path(path)
    header, picture, notes = _open(path)
    dtype = np.uint8 if picture.bits == 8 else np.uint16
    pixels = np.empty((header.height, header.width, 3), dtype)
    target = _in_file_order(pixels, picture.orientation)
    count = max(_STRIP_BYTES // (picture.width * picture.bands * 2), 1)
    for top in range(0, picture.height, count):
        count = min(count, picture.height - top)
        try:
            strip = picture.rows(top, count)
        except _DecoderFailed as error:
            raise InputError(
                path,
                f"is truncated or damaged: of {picture.height} rows about {top} can be read; "
                f"{_REMEDY}",
            ) from error
        if picture.bands in (2, 4):
            if int(strip[..., -1].min()) < (1 << picture.bits) - 1:
                raise InputError(path, "is partly transparent: save it without transparency")
            strip = strip[..., :-1]
        target[top : top + count] = _full_range(strip, picture.bits)
    return Photo(pixels, header, notes)


def read_two(wide: Path, tele: Path) -> tuple[Photo, Photo]:
    """Both photos of a pair.

    Raises InputError; where neither can be read, with a sentence that tells of both.
    """
    try:
        first = read_photo(wide)
    except InputError as error:
        try:
            read_photo(tele)
        except InputError as other:
            sentence = str(error).removeprefix(f"{error.path} ")
            raise InputError(error.path, f"{sentence}; and {other}") from error
        raise
    return first, read_photo(tele)


def _full_range(strip: npt.NDArray[Any], bits: int) -> npt.NDArray[Any]:
    """10 and 12 bits -> 16 bits, white to white, rounded."""
    if bits in (8, 16):
        return strip
    white = (1 << bits) - 1
    return ((strip.astype(np.uint32) * 65535 + white // 2) // white).astype(np.uint16)


def _in_file_order(upright: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """A view of the upright pixels in which row and column run as they do in the file."""
    view = upright.transpose(1, 0, 2) if orientation >= 5 else upright
    rows = -1 if orientation in (3, 4, 6, 7) else 1
    columns = -1 if orientation in (2, 3, 7, 8) else 1
    return view[::rows, ::columns]


def _open(path: Path) -> tuple[Header, _Picture, tuple[str, ...]]:
    data = _sniff.open_file(path)
    name = _sniff.sniff(path, data)
    _sniff.check_declared_size(path, name, data)
    try:
        if name == "tiff" and _sniff.is_dng(Tiff(data)):
            name = "dng"
        picture = _OPENERS[name](path, data)
    except (_DecoderFailed, BrokenTiff) as error:
        raise InputError(
            path,
            f"is truncated or damaged: its {_sniff.NAMES[name]} header cannot be read; {_REMEDY}",
        ) from error
    _sniff.check_size(path, picture.width, picture.height)
    metadata, notes = _usable(path, picture.metadata)
    promised = _sniff.FORMATS_BY_SUFFIX.get(path.suffix.lower())
    if promised not in (None, name):
        notes += (f"{path} is a {_sniff.NAMES[name]} file by its content: it is read as that",)
    if picture.bands < 3:
        notes += (f"{path} is grey: it is read as RGB",)
    if metadata.icc is None and name in ("heic", "avif"):
        primaries, transfer = _sniff.colour_code_points(data)
        if (primaries, transfer) == (_icc.DISPLAY_P3_PRIMARIES, _icc.SRGB_TRANSFER):
            metadata = replace(metadata, icc=_icc.display_p3())
        elif primaries == _sniff.BT2020 or transfer in _sniff.HDR_TRANSFERS:
            notes += (f"{path} is an HDR picture: results hold its numbers but look flat",)
    sides = (picture.width, picture.height)
    width, height = sides if picture.orientation < 5 else sides[::-1]
    capture = parse_capture(metadata.exif)
    header = Header(path, name, width, height, picture.bits, metadata, capture)
    return header, picture, notes


def _usable(path: Path, metadata: Metadata) -> tuple[Metadata, tuple[str, ...]]:
    """Leave out what no reader could use: broken EXIF, profiles for other than RGB."""
    exif, icc = metadata.exif, metadata.icc
    notes: tuple[str, ...] = ()
    if exif is not None and not _exif.is_sound(exif):
        exif = None
        notes += (f"{path} has damaged EXIF: it is not carried over",)
    if icc is not None and icc[16:20] != b"RGB ":
        icc = None
        notes += (f"{path} has a colour profile that is not for RGB: it is not carried over",)
    return replace(metadata, exif=exif, icc=icc), notes


# --- one opener per format ---


def _open_jpeg(path: Path, data: mmap.mmap) -> _Picture:
    return _open_with_vips(path, "jpegload_source")


def _open_png(path: Path, data: mmap.mmap) -> _Picture:
    if _sniff.png_is_animated(data):
        raise InputError(path, "is animated (APNG): export one picture of it")
    return _open_with_vips(path, "pngload_source")


def _open_webp(path: Path, data: mmap.mmap) -> _Picture:
    if data[12:16] == b"VP8X" and data[20] & 2:
        raise InputError(path, "is animated (WebP): export one picture of it")
    return _open_with_vips(path, "webpload_source")


def _open_avif(path: Path, data: mmap.mmap) -> _Picture:
    return _open_with_vips(path, "heifload_source", upright=True)


def _open_tiff(path: Path, data: mmap.mmap) -> _Picture:
    tiff = Tiff(data)
    main = tiff.directory(tiff.first)
    width, height = tiff.number(main, 256), tiff.number(main, 257)
    if width is not None and height is not None:
        _sniff.check_size(path, width, height)
    if (tiff.number(main, 254) or 0) & 1:
        raise InputError(path, "is a camera's raw file: develop it first")
    pages = sum(not (tiff.number(page, 254) or 0) & 1 for page in tiff.chain(tiff.first))
    if pages > 1:
        raise InputError(path, "has several pages: save one of them as a file of its own")
    metadata = _exif.of_tiff_file(tiff, main)
    return _open_with_vips(path, "tiffload_source", metadata=metadata)


def _open_with_vips(
    path: Path,
    loader: str,
    *,
    metadata: Metadata | None = None,
    upright: bool = False,
) -> _Picture:
    """Open with one named loader of libvips; nothing is decoded before `rows` is called.

    Sequential access holds some rows only. `fail_on="error"` turns truncation and damage, which
    libvips otherwise fills with grey, into errors.
    """
    vips = load_vips()
    try:
        source = vips.Source.new_from_file(os.fsencode(path))
        image = getattr(vips.Image, loader)(source, access="sequential", fail_on="error")
    except vips.Error as error:
        raise _DecoderFailed from error

    def field(name: str, default: Any = None) -> Any:
        return image.get(name) if image.get_typeof(name) else default

    _check_kind(path, image, field)
    stored_bits = 8 if image.format == "uchar" else 16
    # libheif's 10 and 12 bits come in the upper bits of 16; others fill their type.
    bits = field("bits-per-sample", 8) if loader == "heifload_source" else stored_bits
    rows = _VipsRows(vips, image, stored_bits - bits)
    if metadata is None:
        exif = field("exif-data")
        metadata = Metadata(
            exif=exif and exif.removeprefix(b"Exif\0\0"),
            icc=field("icc-profile-data"),
            xmp=field("xmp-data"),
            iptc=(field("iptc-data") or b"").removeprefix(b"Photoshop 3.0\0") or None,
        )
    orientation = 1 if upright else _exif.orientation(metadata.exif)
    return _Picture(image.width, image.height, image.bands, bits, metadata, rows, orientation)


class _VipsRows:
    """Rows of a libvips image that is decoded while they are asked for."""

    def __init__(self, vips: Any, image: Any, shift: int) -> None:
        self._vips = vips
        self._image = image
        self._shift = shift
        self._region: Any = None

    def __call__(self, top: int, count: int) -> npt.NDArray[Any]:
        width, bands = self._image.width, self._image.bands
        try:
            if self._region is None:
                self._region = self._vips.Region.new(self._image)
            buffer = self._region.fetch(0, top, width, count)
        except self._vips.Error as error:
            raise _DecoderFailed from error
        dtype = np.uint8 if self._image.format == "uchar" else np.uint16
        strip = np.frombuffer(buffer, dtype).reshape(count, width, bands)
        return strip >> self._shift if self._shift else strip


def _check_kind(path: Path, image: Any, field: Callable[[str, Any], Any]) -> None:
    """Refuse what is no photo in RGB or grey."""
    if image.interpretation == "cmyk":
        raise InputError(path, "is in CMYK, the colours of a press: convert it to RGB")
    if field("bits-per-sample", 8) == 1:
        raise InputError(path, "has 1 bit per pixel (black and white): it is no photo")
    if image.interpretation in ("lab", "labs", "labq", "xyz"):
        raise InputError(path, f"is in the colour space {image.interpretation}: convert it to RGB")
    if image.format not in ("uchar", "ushort"):
        raise InputError(path, f"has pixels of type {image.format}: save it with 8 or 16 bits")
    if image.bands > 4:
        raise InputError(path, f"has {image.bands} channels: save it as RGB")


def _open_heic(path: Path, data: mmap.mmap) -> _Picture:
    import pillow_heif

    failures = (ValueError, LookupError, EOFError, SyntaxError, RuntimeError, OSError)
    try:
        file = pillow_heif.open_heif(data, convert_hdr_to_8bit=False, hdr_to_16bit=False)
        image = file[file.primary_index]
    except failures as error:
        raise _DecoderFailed from error
    info: dict[str, Any] = image.info
    bits = info["bit_depth"]
    width, height = image.size
    bands = len(image.mode.split(";")[0])
    decoded: list[npt.NDArray[Any]] = []

    def rows(top: int, count: int) -> npt.NDArray[Any]:
        try:
            if not decoded:
                decoded.append(np.asarray(image).reshape(height, width, bands))
        except failures as error:
            raise _DecoderFailed from error
        return decoded[0][top : top + count]

    exif = info.get("exif")
    metadata = Metadata(
        exif=exif.removeprefix(b"Exif\0\0") if exif else None,
        icc=info.get("icc_profile") or None,
        xmp=info.get("xmp") or None,
    )
    # libheif has already turned the picture as its irot and imir boxes say; EXIF says it again.
    return _Picture(width, height, bands, bits, metadata, rows)


def _open_dng(path: Path, data: mmap.mmap) -> _Picture:
    try:
        import rawpy
    except ImportError as error:
        raise InputError(
            path, "is a DNG: install what reads it with: pip install 'dualsr[raw]'"
        ) from error
    tiff = Tiff(data)
    metadata = _exif.of_tiff_file(tiff, tiff.directory(tiff.first))
    try:
        raw = rawpy.imread(data)
        sizes = raw.sizes
    except (rawpy.LibRawError, OSError, ValueError) as error:
        raise _DecoderFailed from error
    width, height = sizes.width, sizes.height
    if sizes.flip in (5, 6):  # LibRaw turns it while it develops
        width, height = height, width
    developed: list[npt.NDArray[Any]] = []

    def rows(top: int, count: int) -> npt.NDArray[Any]:
        try:
            if not developed:
                pixels = raw.postprocess(use_camera_wb=True, output_bps=16)
                developed.append(pixels.reshape(height, width, 3))
        except (rawpy.LibRawError, OSError, ValueError) as error:
            raise _DecoderFailed from error
        return developed[0][top : top + count]

    metadata = Metadata(exif=metadata.exif, xmp=metadata.xmp, iptc=metadata.iptc)
    return _Picture(width, height, 3, 16, metadata, rows)


_OPENERS: dict[str, Callable[[Path, mmap.mmap], _Picture]] = {
    "jpeg": _open_jpeg,
    "png": _open_png,
    "tiff": _open_tiff,
    "heic": _open_heic,
    "webp": _open_webp,
    "avif": _open_avif,
    "dng": _open_dng,
}


def load_vips() -> Any:
    """pyvips, without its cache of results: every photo is read once."""
    import pyvips

    pyvips.cache_set_max(0)
    return pyvips
