"""Which encoder writes a clip, in which pixel format and with which options."""

from __future__ import annotations

import io
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.codec

from dualsr_cli.errors import UsageError
from dualsr_cli.videos._colour import FULL, LIMITED, MATRIX_CODES
from dualsr_cli.videos._scheduling import scheduling_kept
from dualsr_cli.videos.clip import Clip, Colour

_CONTAINERS = {  # suffix -> FFmpeg's name
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
}
WRITE_CLIP_SUFFIXES = frozenset(_CONTAINERS)

_CRF = {  # encoder -> the default of --crf, by eye as good as its source
    "libx264": 17,
    "libx265": 18,
    "libsvtav1": 20,
    "libaom-av1": 18,
    "libvpx-vp9": 18,
}
_LARGEST_CRF = {"libx264": 51, "libx265": 51}  # others: 63
_OPTIONS = {  # what each encoder wants to be told beside --crf
    # With its macroblock tree two runs on the same frames differ (measured), however many threads.
    "libx264": {"preset": "medium", "mbtree": "0"},
    "libx265": {"preset": "medium", "x265-params": "log-level=none"},
    "libsvtav1": {"preset": "6"},
    "libaom-av1": {"cpu-used": "5", "row-mt": "1"},
    "libvpx-vp9": {"deadline": "good", "cpu-used": "3", "row-mt": "1"},
    "ffv1": {"level": "3", "slicecrc": "1"},
    "mpeg4": {"qmin": "2", "qmax": "2"},
    "mjpeg": {"qmin": "2", "qmax": "2"},
}
_DEFAULTS = {  # (in WebM, more than 8 bits) -> encoder
    (False, False): "libx264",
    (False, True): "libx265",
    (True, False): "libvpx-vp9",
    (True, True): "libsvtav1",
}
_GOOD = "libx264, libx265, libsvtav1, libvpx-vp9, prores_ks or ffv1"
_TAGS = {"h264": "avc1", "hevc": "hvc1"}  # in MP4 and MOV; Apple's players take no other
_SHALLOW = ("", "10le", "12le")  # of pixel formats, the wanted first
_DEEP = ("10le", "12le", "")


@dataclass(frozen=True)
class Encoding:
    """All that decides how pixels become bytes."""

    container: str
    encoder: str
    options: tuple[tuple[str, str], ...]
    format: str  # FFmpeg's name of the pixel format
    size: tuple[int, int]  # width, height
    rate: Fraction  # frames a second, on average; a hint: the times are kept apart
    colour: Colour
    pixel_aspect: Fraction

    @property
    def tag(self) -> str | None:
        """The codec's name in the container, where the muxer's choice is not the best."""
        if self.container not in ("mp4", "mov"):
            return None
        return _TAGS.get(av.Codec(self.encoder, "w").canonical_name)

    def open(self, context: Any) -> None:
        """Set up an encoder's context and open it. Raises what PyAV raises."""
        context.width, context.height = self.size
        context.pix_fmt = self.format
        context.framerate = self.rate
        context.time_base = 1 / self.rate
        context.sample_aspect_ratio = self.pixel_aspect
        context.thread_count = 0
        context.options = dict(self.options)
        self.tag_colours(context)
        with scheduling_kept():
            context.open()

    def tag_colours(self, context: Any) -> None:
        """Say how the numbers stand for colours."""
        context.colorspace = MATRIX_CODES[self.colour.matrix]
        context.color_range = FULL if self.colour.full_range else LIMITED
        context.color_primaries = self.colour.primaries
        context.color_trc = self.colour.transfer


def choose(
    path: Path, like: Clip, size: tuple[int, int], codec: str | None, crf: int | None
) -> Encoding:
    """The encoding for a clip `like` another at `size` (width, height).

    Where `codec` is None: H.264 for 8 bits and H.265 for more; in WebM, VP9 and AV1. 10 bits stay
    where the encoder has them. Sides that are even get colour at half the resolution (4:2:0), as
    players expect; an odd side would lose its last column or row of colour that way, so such clips
    are written in 4:4:4 where the encoder can. Nothing is cropped or padded.

    Raises UsageError for a suffix, codec or quality that does not exist or does not go together.
    """
    container = _CONTAINERS.get(path.suffix.lower())
    if container is None:
        raise UsageError(
            f"{path} has a suffix that is not written: write MP4, MOV, MKV or WebM, "
            "or pictures as FOLDER/%05d.png"
        )
    deep = like.bit_depth > 8
    encoder = _encoder(codec or _DEFAULTS[container == "webm", deep])
    format = _format(encoder, deep, odd=bool(size[0] % 2 or size[1] % 2))
    options = dict(_OPTIONS.get(encoder.name, {}))
    if encoder.name in _CRF:
        options["crf"] = str(_crf(encoder.name, crf))
    elif crf is not None:
        raise UsageError(f"the codec {encoder.name!r} has no constant quality: leave out --crf")
    colour = like.colour
    if colour.matrix == "rgb":
        colour = Colour("bt709", False, colour.primaries, colour.transfer)
    if encoder.canonical_name == "mjpeg":
        colour = Colour(colour.matrix, True, colour.primaries, colour.transfer)
    encoding = Encoding(
        container,
        encoder.name,
        tuple(sorted(options.items())),
        format,
        size,
        _fitting(like.rate),
        colour,
        like.pixel_aspect,
    )
    _try(path, encoding)
    return encoding


def losses(encoding: Encoding, like: Clip) -> tuple[str, ...]:
    """What an encoding cannot keep of a clip, as sentences."""
    if like.bit_depth > 8 and av.VideoFormat(encoding.format).components[0].bits == 8:
        return (f"{like.path} has {like.bit_depth} bits, {encoding.encoder} keeps 8 of them",)
    return ()


def lossless(encoding: Encoding) -> Encoding:
    """The same pixels without loss, for what is written only to be read again."""
    return Encoding(
        "matroska",
        "ffv1",
        tuple(_OPTIONS["ffv1"].items()),
        encoding.format.replace("yuvj", "yuv"),
        encoding.size,
        encoding.rate,
        encoding.colour,
        encoding.pixel_aspect,
    )


def _encoder(codec: str) -> av.Codec:
    try:
        encoder = av.Codec(codec, "w")
    except av.codec.codec.UnknownCodecError as error:
        raise UsageError(f"the codec {codec!r} is not known here: give {_GOOD}") from error
    if encoder.type != "video":
        raise UsageError(f"the codec {codec!r} is not for pictures: give {_GOOD}")
    return encoder


def _format(encoder: av.Codec, deep: bool, odd: bool) -> str:
    offered = {format.name for format in encoder.video_formats or ()}
    sampled = ("444p", "420p", "422p") if odd else ("420p", "422p", "444p")
    for depth in _DEEP if deep else _SHALLOW:
        for kind in ("yuv", "yuvj"):
            for sampling in sampled:
                if f"{kind}{sampling}{depth}" in offered:
                    return f"{kind}{sampling}{depth}"
    raise UsageError(f"the codec {encoder.name!r} has no suitable pixel format: give {_GOOD}")


def _crf(encoder: str, asked: int | None) -> int:
    largest = _LARGEST_CRF.get(encoder, 63)
    if asked is not None and not 0 <= asked <= largest:
        raise UsageError(f"--crf {asked} does not exist for {encoder}: give 0 to {largest}")
    return _CRF[encoder] if asked is None else asked


def _fitting(rate: Fraction) -> Fraction:
    """A rate that every encoder takes."""
    return min(max(rate, Fraction(1, 10)), Fraction(1000)).limit_denominator(1001)


def _try(path: Path, encoding: Encoding) -> None:
    """Open the encoder once: some exist by name only, some do not take every size."""
    codec = av.Codec(encoding.encoder, "w")
    muxer = av.open(io.BytesIO(), mode="w", format=encoding.container)
    if codec.name not in muxer.supported_codecs:
        raise UsageError(
            f"{path} cannot hold {codec.name}: write an MOV or MKV file, or give another codec"
        )
    context: Any = codec.create("video")
    try:
        encoding.open(context)
    except (av.error.FFmpegError, ValueError, RuntimeError) as error:
        width, height = encoding.size
        raise UsageError(
            f"the codec {codec.name!r} does not work here for {width} x {height} pixels: "
            f"give {_GOOD}"
        ) from error
