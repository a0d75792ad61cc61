"""Pictures as codecs hold them <-> RGB, by the clip's own matrix and range."""

from __future__ import annotations

from typing import Any

import av
import numpy as np
import numpy.typing as npt

from dualsr_cli.videos.clip import Colour, Pixels

_MATRICES = {  # code points of H.273, table 4
    0: "rgb",
    1: "bt709",
    4: "bt601",  # FCC's differs from BT.601 by less than one level of 8 bits
    5: "bt601",
    6: "bt601",
    9: "bt2020",
    10: "bt2020",
}
MATRIX_CODES = {"rgb": 0, "bt709": 1, "bt601": 6, "bt2020": 9}
_SCALER_CODES = {"rgb": 5, "bt709": 1, "bt601": 5, "bt2020": 9}  # SWS_CS_*; 5: its default
_WEIGHTS = {
    "bt709": (0.2126, 0.0722),
    "bt601": (0.299, 0.114),
    "bt2020": (0.2627, 0.0593),
}  # Kr, Kb
LIMITED, FULL = 1, 2  # AVCOL_RANGE_*
_HD_ROWS = 720  # from which on a clip that does not say is taken for BT.709

# Bilinear chroma at full width, rounded in all steps, the same on every processor.
_SCALING = 0x2 | 0x2000 | 0x4000 | 0x40000 | 0x80000
_SHRINKING = 0x20  # the mean of an area


def colour_of(frame: av.VideoFrame, context: Any) -> Colour:
    """What a decoded frame and its decoder's context say of colours; in silence, what is usual."""
    name = frame.format.name
    teller = frame if hasattr(frame, "color_trc") else context  # PyAV 15 and 16: contexts only
    primaries, transfer = int(teller.color_primaries), int(teller.color_trc)
    if frame.format.is_rgb or name.startswith("pal"):
        return Colour("rgb", True, primaries, transfer)
    usual = "bt709" if frame.height >= _HD_ROWS else "bt601"
    matrix = _MATRICES.get(int(frame.colorspace), usual)
    if matrix == "rgb":
        matrix = usual
    full = int(frame.color_range) == FULL or name.startswith(("yuvj", "gray", "ya"))
    return Colour(matrix, full, primaries, transfer)


def depth_of(frame: av.VideoFrame) -> int:
    """Bits of a sample."""
    return max(component.bits for component in frame.format.components)


def to_rgb(frame: av.VideoFrame, colour: Colour, size: tuple[int, int], deep: bool) -> Pixels:
    """A decoded frame as (height, width, 3), of `size` (width, height) even where it is not.

    uint16 over the full range where `deep`, else uint8.
    """
    if not deep:
        converted = frame.reformat(
            *size,
            format="rgb24",
            src_colorspace=_SCALER_CODES[colour.matrix],
            dst_colorspace=_another(colour),
            src_color_range=FULL if colour.full_range else LIMITED,
            dst_color_range=FULL,
            interpolation=_SCALING,
        )
        return _packed(converted)
    # libswscale's own way from 10 bits to RGB is off by up to a level of 8 bits.
    depth = depth_of(frame)
    if frame.format.is_rgb:
        planes = _planes(_same_colours(frame, f"gbrp{depth}le", size))
        top = (1 << depth) - 1
        red_last = np.stack([planes[2], planes[0], planes[1]], axis=-1).astype(np.uint32)
        return ((red_last * 65535 + top // 2) // top).astype(np.uint16)
    y, cb, cr = _planes(_same_colours(frame, f"yuv444p{depth}le", size))
    black, luma, chroma = _steps(colour, depth)
    bright = (y.astype(np.float32) - black) * np.float32(65535 / luma)
    blue = (cb.astype(np.float32) - (1 << (depth - 1))) * np.float32(65535 / chroma)
    red = (cr.astype(np.float32) - (1 << (depth - 1))) * np.float32(65535 / chroma)
    kr, kb = _WEIGHTS[colour.matrix]
    kg = 1 - kr - kb
    result = np.empty((*y.shape, 3), np.uint16)
    for channel, value in enumerate(
        (
            bright + red * (2 - 2 * kr),
            bright - red * ((2 - 2 * kr) * kr / kg) - blue * ((2 - 2 * kb) * kb / kg),
            bright + blue * (2 - 2 * kb),
        )
    ):
        result[..., channel] = np.rint(np.clip(value, 0, 65535))
    return result


def to_grey(frame: av.VideoFrame, size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """A decoded frame's luma, 0..1, as (height, width), shrunk to `size` (width, height)."""
    grey: Any = frame.reformat(*size, format="gray", interpolation=_SHRINKING).to_ndarray()
    result: npt.NDArray[np.float32] = grey.astype(np.float32) / np.float32(255)
    return result


def from_rgb(pixels: Pixels, colour: Colour, format: str) -> av.VideoFrame:
    """(height, width, 3) RGB as a frame in a codec's Y'CbCr format, tagged."""
    depth = av.VideoFormat(format).components[0].bits
    if depth == 8:
        if pixels.dtype == np.uint16:
            pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
        packed: Any = np.ascontiguousarray(pixels)
        frame = av.VideoFrame.from_ndarray(packed, format="rgb24")
        frame.colorspace = MATRIX_CODES[colour.matrix]  # PyAV 17 takes BT.2020 from here alone
        frame = frame.reformat(
            format=format,
            src_colorspace=_another(colour),
            dst_colorspace=_SCALER_CODES[colour.matrix],
            src_color_range=FULL,
            dst_color_range=FULL if colour.full_range else LIMITED,
            interpolation=_SCALING,
        )
    else:
        frame = _same_colours(_deep_luma_chroma(pixels, colour, depth), format, None)
    frame.colorspace = MATRIX_CODES[colour.matrix]
    frame.color_range = FULL if colour.full_range else LIMITED
    if hasattr(frame, "color_trc"):  # since PyAV 17; ProRes asks each frame
        frame.color_primaries, frame.color_trc = colour.primaries, colour.transfer
    return frame


def _deep_luma_chroma(pixels: Pixels, colour: Colour, depth: int) -> av.VideoFrame:
    """RGB as Y'CbCr of more than 8 bits, colour at full resolution (H.273, section 8.3)."""
    white = np.float32(np.iinfo(pixels.dtype).max)
    red, green, blue = (pixels[..., channel].astype(np.float32) / white for channel in range(3))
    kr, kb = _WEIGHTS[colour.matrix]
    bright = red * kr + green * (1 - kr - kb) + blue * kb
    black, luma, chroma = _steps(colour, depth)
    middle = 1 << (depth - 1)
    frame = av.VideoFrame(pixels.shape[1], pixels.shape[0], f"yuv444p{depth}le")
    for plane, value in zip(
        frame.planes,
        (
            bright * luma + black,
            (blue - bright) * (chroma / (2 - 2 * kb)) + middle,
            (red - bright) * (chroma / (2 - 2 * kr)) + middle,
        ),
        strict=True,
    ):
        rows = np.zeros((plane.height, plane.line_size // 2), "<u2")
        rows[:, : plane.width] = np.rint(np.clip(value, 0, (1 << depth) - 1))
        plane.update(rows.tobytes())
    return frame


def _another(colour: Colour) -> int:
    """A matrix for the side that is RGB, where it has no meaning: before PyAV 17, one that is the
    same on both sides lets the range be forgotten."""
    return _SCALER_CODES["bt601" if colour.matrix == "bt709" else "bt709"]


def _steps(colour: Colour, depth: int) -> tuple[float, float, float]:
    """The luma of black, and how many steps luma and chroma span."""
    if colour.full_range:
        return 0.0, (1 << depth) - 1.0, (1 << depth) - 1.0
    unit = float(1 << (depth - 8))
    return 16 * unit, 219 * unit, 224 * unit


def _same_colours(frame: av.VideoFrame, format: str, size: tuple[int, int] | None) -> av.VideoFrame:
    """A frame in another pixel format of the same depth, its numbers kept."""
    width, height = size or (frame.width, frame.height)
    return frame.reformat(
        width,
        height,
        format=format,
        src_color_range=FULL,  # the same on both sides: nothing is stretched
        dst_color_range=FULL,
        interpolation=_SCALING,
    )


def _planes(frame: av.VideoFrame) -> list[Any]:
    """The planes of a frame of 16-bit words, each (height, width)."""
    planes: Any = frame.planes
    return [
        np.frombuffer(plane, "<u2").reshape(plane.height, plane.line_size // 2)[:, : plane.width]
        for plane in planes
    ]


def _packed(frame: av.VideoFrame) -> Pixels:
    pixels: Any = frame.to_ndarray()
    return np.ascontiguousarray(pixels)


def turned(pixels: npt.NDArray[Any], turn: tuple[int, int, int, int]) -> npt.NDArray[Any]:
    """Pixels (height, width, ...) as a display matrix with the entries a, b, c, d shows them.

    A stored pixel (p, q) is shown at (a p + c q, b p + d q), x to the right and y down.
    """
    a, b, c, d = turn
    pixels = pixels.swapaxes(0, 1)[::b, ::c] if b else pixels[::d, ::a]
    return np.ascontiguousarray(pixels)
