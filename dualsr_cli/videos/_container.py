"""A video file, opened and scanned: its packets' times, its first frame, what is wrong with it."""

from __future__ import annotations

import itertools
import os
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.container

from dualsr_cli.errors import InputError
from dualsr_cli.files import input_file

MAX_PIXELS = 220_000_000  # as for photos
MAX_SIDE = 40_000  # pixels

_REMEDY = "copy it again from the phone"
_PLAYLISTS = ("concat", "hls", "dash", "sdp", "rtsp", "applehttp", "imf", "lavfi")
_PICTURES = ("image2", "_pipe")
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")  # begin an MP4 or MOV
_SHORTAGE = 0.5  # seconds by which a file may end before its header says so

Errors = (av.error.FFmpegError, ValueError, OverflowError, RuntimeError)
"""What PyAV raises for files that are not what they seem."""


@dataclass(frozen=True)
class Packet:
    """One coded picture; times in units of the stream's time base."""

    pts: int | None
    dts: int | None
    duration: int
    key: bool
    corrupt: bool


@dataclass(frozen=True)
class Scan:
    """What lies in a file. `packets` are in decoding order, without those that edits cut out."""

    packets: list[Packet]
    first: av.VideoFrame
    cut: bool  # the file ends before its header says that it should


@contextmanager
def opened(path: Path) -> Iterator[av.container.InputContainer]:
    """Open a video file. Raises InputError.

    Whatever the file says, no other file and no network is opened on its behalf.
    """
    if path.is_dir():
        raise InputError(path, "is a folder: name a video, or its pictures as FOLDER/%05d.png")
    with input_file(path) as file:
        head = file.read(512)
    if not head:
        raise InputError(path, f"is empty (0 bytes): {_REMEDY}")
    if _is_text(head):  # playlists among them, which would open other files
        raise InputError(path, "is a text file, not a video: name a video")
    try:
        container = av.open(
            os.path.abspath(path),  # a name with a colon in it is no protocol
            mode="r",
            options={"protocol_whitelist": "file", "max_pixels": str(MAX_PIXELS)},
            metadata_errors="replace",
        )
    except Errors as error:
        raise InputError(path, _what_it_is(head)) from error
    with container:
        name = container.format.name
        if any(playlist in name.split(",") for playlist in _PLAYLISTS):
            raise InputError(path, "is a list of other files, not a video: name the video itself")
        if any(name.endswith(picture) for picture in _PICTURES):
            raise InputError(
                path, "is a picture, not a video: name a video, or pictures as FOLDER/%05d.png"
            )
        yield container


def video_stream(path: Path, container: av.container.InputContainer) -> Any:
    """The stream that holds the video: the default one, else the largest. Raises InputError."""
    attached = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails
    streams = [stream for stream in container.streams.video if not stream.disposition & attached]
    if not streams:
        what = "only sound" if container.streams.audio else "no pictures"
        raise InputError(path, f"holds {what}: name a video")
    stream = max(
        streams,
        key=lambda stream: (
            bool(stream.disposition & av.stream.Disposition.default),
            (stream.codec_context.width * stream.codec_context.height)
            if stream.codec_context
            else 0,
        ),
    )
    if stream.codec_context is None:
        raise InputError(
            path, "is coded in a way that no decoder here knows: convert it to H.264 in an MP4 file"
        )
    check_size(path, stream.codec_context.width, stream.codec_context.height)
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    stream.thread_type = "AUTO"
    return stream


def check_size(path: Path, width: int, height: int) -> None:
    """Refuse a size before more is decoded. Raises InputError."""
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise InputError(
            path,
            f"is {width} x {height} pixels: sides over {MAX_SIDE} and pictures over "
            f"{MAX_PIXELS / 1e6:.0f} megapixels are refused; scale it down",
        )


def scan(path: Path, container: av.container.InputContainer, stream: Any) -> Scan:
    """Read through the whole file without decoding more than the first frame. Raises InputError."""
    packets: list[Packet] = []
    first: av.VideoFrame | None = None
    hidden = 0
    cut = False
    end = 0.0  # seconds, of whatever is in the file
    try:
        for packet in container.demux():
            if packet.size and packet.pts is not None and packet.time_base:
                end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            if packet.stream.index != stream.index:
                continue
            if first is None:
                first = next(iter(decoded(packet)), None)
            if packet.is_discard:
                hidden += 1
            elif packet.size:
                packets.append(
                    Packet(
                        packet.pts,
                        packet.dts,
                        packet.duration or 0,
                        packet.is_keyframe,
                        packet.is_corrupt,
                    )
                )
    except Errors:
        cut = True
    while packets and packets[-1].corrupt:
        packets.pop()
        cut = True
    if first is None and packets:
        first = next(iter(decoded(None, stream)), None)
    if first is None or not packets:
        raise InputError(path, f"has no picture that can be decoded: {_REMEDY}")
    check_size(path, first.width, first.height)
    declared = container.duration / av.time_base if container.duration else 0.0
    start = container.start_time / av.time_base if container.start_time else 0.0
    cut = cut or stream.frames > len(packets) + hidden or start + declared - end > _SHORTAGE
    return Scan(packets, first, cut)


def decoded(packet: Any, stream: Any = None) -> list[Any]:
    """The frames that come out when a packet goes in; none where it is bad. None: the last ones."""
    try:
        return list(packet.decode() if packet is not None else stream.decode(None))
    except Errors:
        return []


def frame_step(packets: list[Packet], stream: Any) -> int:
    """The usual distance of two frames in units of the time base, at least 1."""
    stamps = sorted({packet.pts for packet in packets if packet.pts is not None})
    gaps = [second - first for first, second in itertools.pairwise(stamps)]
    if gaps:
        return max(1, round(statistics.median(gaps)))
    rate = stream.average_rate or stream.guessed_rate or Fraction(30)
    return max(1, round(1 / (rate * stream.time_base))) if rate > 0 else 1


def presentation(packets: list[Packet], step: int) -> tuple[list[int], bool]:
    """When the frames are shown, strictly increasing, and whether the packets' stamps say so.

    Where stamps are missing, decoding stamps stand in for them, or else counting. Where they start
    again in the middle (recordings that were put together), each part follows the one before by one
    `step`. A frame at the time of another comes one unit of the time base after it.
    """
    given = [packet.pts for packet in packets]
    stamps = [stamp for stamp in given if stamp is not None]
    if len(stamps) < len(packets):
        stamps = [packet.dts for packet in packets if packet.dts is not None]
    if len(stamps) < len(packets):
        return [step * index for index in range(len(packets))], False
    parts: list[list[int]] = []
    last_key: int | None = None
    for stamp, packet in zip(stamps, packets, strict=True):
        if packet.key and (last_key is None or stamp < last_key):
            parts.append([])
        if packet.key:
            last_key = stamp
        if not parts:
            parts.append([])
        parts[-1].append(stamp)
    shown: list[int] = []
    for part in parts:
        part.sort()
        shift = shown[-1] + step - part[0] if shown else 0
        for stamp in part:
            shown.append(max(stamp + shift, shown[-1] + 1) if shown else stamp)
    return shown, shown == sorted(stamp for stamp in given if stamp is not None)


def stamps_are_made_up(container: av.container.InputContainer, stream: Any) -> bool:
    """AVI has no stamps: FFmpeg numbers its pictures as they are coded, not as they are shown."""
    return container.format.name == "avi" and bool(stream.codec_context.has_b_frames)


def _is_text(head: bytes) -> bool:
    text = head.decode("utf-8", "ignore")  # the cut may have halved a character
    whole = len(text.encode()) > len(head) - 4
    return (
        whole
        and not text.startswith("YUV4MPEG2")
        and all(c.isprintable() or c.isspace() for c in text)
    )


def _what_it_is(head: bytes) -> str:
    """A sentence for a file that does not open."""
    if head[4:8] in _BOXES:
        return f"is cut off or damaged: its list of frames is missing; {_REMEDY}"
    return "is not a video that can be read: use an MP4, MOV or MKV file"
