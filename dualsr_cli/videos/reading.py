"""Video files and sequences of pictures -> clips and their frames, one after another."""

from __future__ import annotations

import math
import struct
from bisect import bisect_right
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from datetime import datetime, timezone
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from dualsr_cli.errors import InputError
from dualsr_cli.videos import _container, _pictures
from dualsr_cli.videos._colour import colour_of, depth_of, to_grey, to_rgb, turned
from dualsr_cli.videos.clip import Clip, Frame, Track

_CREATED = ("creation_time", "com.apple.quicktime.creationdate", "date")
_LOCATION = ("com.apple.quicktime.location.ISO6709", "location", "location-eng")
_FIRST_YEAR = 1990  # clocks that were never set say 1904 or 1970
_ODDEST_PIXEL = 8  # times as wide as high, or the other way round
_IDENTITY = (1, 0, 0, 1)
_SMALL_SIDE = 64  # pixels
_KEPT = 2  # frames: a group of pictures has the sharp frames before and after it


def open_clip(path: Path | str, rate: Fraction | int | float | None = None) -> Clip:
    """Read the header and the frames' times of a video, or of a sequence of pictures.

    A video is any file that FFmpeg reads; all of it is read once, nothing but its first frame is
    decoded. A sequence is named by a printf pattern (`folder/%05d.png`): each picture there is a
    frame, shown at its number / `rate` (30 where None) seconds after the first; a number without a
    picture leaves a gap. `rate` is for sequences only: a video knows its own times.

    What the file leaves open is decided so: BT.709 from 720 rows on, else BT.601; limited range;
    square pixels. A file that breaks off is read as far as it goes, and `warning` says so. Refused
    are sides over 40,000 pixels and pictures over 220 megapixels.

    Raises InputError.
    """
    path = Path(path)
    if _pictures.is_pattern(path):
        return _pictures.open_pictures(path, 30 if rate is None else rate)
    with _container.opened(path) as container:
        stream = _container.video_stream(path, container)
        found = _container.scan(path, container, stream)
        step = _container.frame_step(found.packets, stream)
        stamps, told = _container.presentation(found.packets, step)
        told = told and not _container.stamps_are_made_up(container, stream)
        base: Fraction = stream.time_base
        order = sorted(range(len(stamps)), key=lambda at: _stamp(found.packets[at])) if told else []
        keys = tuple(
            (index, _decoding_stamp(found.packets[at]))
            for index, at in enumerate(order)
            if found.packets[at].key
        )
        last = found.packets[order[-1]].duration if order else 0
        turn = _turn(found.first)
        sides = (found.first.width, found.first.height)
        width, height = sides[::-1] if turn[1] else sides
        metadata = dict(container.metadata)
        return Clip(
            path=path,
            width=width,
            height=height,
            rotation=round(math.degrees(math.atan2(turn[1], turn[0]))) % 360,
            times=tuple(stamp * base for stamp in stamps),
            end=(stamps[-1] + (last if last > 0 else step)) * base,
            time_base=base,
            colour=colour_of(found.first, stream.codec_context),
            bit_depth=depth_of(found.first),
            audio=bool(container.streams.audio),
            metadata=metadata,
            created=_created(metadata),
            location=_first(metadata, _LOCATION),
            pixel_aspect=_pixel_aspect(stream, turned=bool(turn[1])),
            warning=_warning(path, found, len(stamps)),
            track=Track(stream.index, tuple(stamps) if told else None, keys, turn),
        )


def read_frames(
    clip: Clip, start: int = 0, stop: int | None = None
) -> Generator[Frame, None, None]:
    """Frames `start` to `stop` (not included; None: to the end), in the order of their times.

    There are as many as the clip has times: a frame that cannot be decoded is the one before it
    again (at the very start: the first one that can). Memory holds a few frames. Reading from the
    middle starts to decode at the key frame before it.

    Raises InputError where the file has changed or vanished since it was opened.
    """
    start, stop, _ = slice(start, stop).indices(len(clip.times))
    if clip.track is None:
        yield from _pictures.read_pictures(clip, start, stop)
        return
    wanted, before = start, None
    for index, picture in _pictures_from(clip, clip.track, start):
        if index >= stop:
            break
        while wanted < index:  # those that could not be decoded
            yield _frame(clip, before or picture, wanted)
            wanted += 1
        if index == wanted:
            yield _frame(clip, picture, wanted)
            wanted += 1
        before = picture
    if wanted < stop and before is None:
        raise InputError(clip.path, "has changed since it was opened: start again")
    while wanted < stop:
        assert before is not None
        yield _frame(clip, before, wanted)
        wanted += 1


class FrameReader:
    """A clip's frames for whoever wants them part by part, as `read_frames` has them.

    What comes after the last part is decoded on from there: the file stays open, and nothing is
    decoded twice. The last two frames are kept, and given again. Use as a context manager.
    """

    def __init__(self, clip: Clip) -> None:
        self._clip = clip
        self._kept: deque[tuple[int, Frame]] = deque(maxlen=_KEPT)
        self._coming = read_frames(clip)
        self._next = 0

    def __enter__(self) -> FrameReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._coming.close()

    def frames(self, start: int, stop: int) -> Iterator[Frame]:
        """Frames `start` to `stop` (not included). Raises InputError."""
        for index in range(start, min(stop, len(self._clip.times))):
            yield self._frame(index)

    def _frame(self, index: int) -> Frame:
        for number, frame in self._kept:
            if number == index:
                return frame
        if index != self._next:
            self._coming.close()
            self._coming = read_frames(self._clip, index)
        frame = next(self._coming)
        self._kept.append((index, frame))
        self._next = index + 1
        return frame


def read_small(
    clip: Clip, start: int, stop: int
) -> Iterator[tuple[Fraction, npt.NDArray[np.float32]]]:
    """Times and grey pictures, 0..1, of frames `start` to `stop`, as far as they can be decoded.

    Upright; the longer side has 64 pixels. Raises InputError.
    """
    start, stop, _ = slice(start, stop).indices(len(clip.times))
    shrink = _SMALL_SIDE / max(clip.width, clip.height)
    size = max(round(clip.width * shrink), 1), max(round(clip.height * shrink), 1)
    if clip.track is None:
        for frame in _pictures.read_pictures(clip, start, stop):
            yield frame.time, _pictures.small(frame.pixels, size)
        return
    for index, picture in _pictures_from(clip, clip.track, start):
        if index >= stop:
            break
        if index >= start:
            stored = size[::-1] if clip.track.turn[1] else size
            yield clip.times[index], turned(to_grey(picture, stored), clip.track.turn)


def _pictures_from(clip: Clip, track: Track, start: int) -> Iterator[tuple[int, av.VideoFrame]]:
    """(index, decoded frame) from some frame before `start` on, or from `start`."""
    place = {stamp: index for index, stamp in enumerate(track.stamps or ())}
    for index, stamp in reversed(_keys_before(track, start)):
        with _container.opened(clip.path) as container:
            stream = _stream(clip, container)
            try:
                container.seek(stamp, stream=stream)
            except _container.Errors:
                continue
            frames = _decode(container, stream)
            first = next(frames, None)
            # Some containers land behind the place that was asked for.
            if first is None or place.get(_pts(first), len(place)) > index:
                continue
            yield place[_pts(first)], first
            yield from ((place[_pts(frame)], frame) for frame in frames if _pts(frame) in place)
            return
    with _container.opened(clip.path) as container:
        frames = _decode(container, _stream(clip, container))
        if track.stamps is None:
            yield from enumerate(frames)
        else:
            yield from ((place[_pts(frame)], frame) for frame in frames if _pts(frame) in place)


def _keys_before(track: Track, start: int) -> tuple[tuple[int, int], ...]:
    """The last two keys at or before a frame, without the first of all: that needs no seeking."""
    at = bisect_right([index for index, _ in track.keys], start)
    return tuple(key for key in track.keys[max(at - 2, 0) : at] if key[0] > 0)


def _stream(clip: Clip, container: Any) -> Any:
    stream = _container.video_stream(clip.path, container)
    if clip.track is None or stream.index != clip.track.stream:
        raise InputError(clip.path, "has changed since it was opened: start again")
    return stream


def _decode(container: Any, stream: Any) -> Iterator[av.VideoFrame]:
    try:
        for packet in container.demux(stream):
            yield from _container.decoded(packet)
    except _container.Errors:  # the file ends here; what the decoder still holds comes out
        yield from _container.decoded(None, stream)


def _frame(clip: Clip, picture: av.VideoFrame, index: int) -> Frame:
    assert clip.track is not None
    sides = (clip.height, clip.width) if clip.track.turn[1] else (clip.width, clip.height)
    pixels = to_rgb(picture, clip.colour, sides, deep=clip.bit_depth > 8)
    return Frame(turned(pixels, clip.track.turn), clip.times[index])


def _pts(frame: av.VideoFrame) -> int:
    return frame.pts if frame.pts is not None else -(1 << 62)


def _stamp(packet: _container.Packet) -> int:
    return packet.pts if packet.pts is not None else 0


def _decoding_stamp(packet: _container.Packet) -> int:
    return packet.dts if packet.dts is not None else _stamp(packet)


def _turn(frame: av.VideoFrame) -> tuple[int, int, int, int]:
    """The upper left of the display matrix, where it turns by quarters or mirrors."""
    known: Any = frame.side_data
    try:
        numbers = struct.unpack("=9i", bytes(known["DISPLAYMATRIX"]))
    except (KeyError, struct.error):
        return _IDENTITY
    a, b, c, d = (round(numbers[at] / 65536) for at in (0, 1, 3, 4))
    quarter = sorted((abs(a * d), abs(b * c))) == [0, 1]
    return (a, b, c, d) if quarter and (a == d == 0 or b == c == 0) else _IDENTITY


def _pixel_aspect(stream: Any, turned: bool) -> Fraction:
    aspect = stream.sample_aspect_ratio
    if not aspect or not Fraction(1, _ODDEST_PIXEL) <= aspect <= _ODDEST_PIXEL:
        return Fraction(1)
    return 1 / aspect if turned else Fraction(aspect)


def _first(metadata: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((metadata[name] for name in names if metadata.get(name)), None)


def _created(metadata: Mapping[str, str]) -> datetime | None:
    for name in _CREATED:
        text = metadata.get(name, "").strip()
        for form in ("%Y-%m-%dT%H:%M:%S.%f%z", "%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%d %H:%M:%S"):
            try:
                time = datetime.strptime(text, form)
            except ValueError:
                continue
            if time.year >= _FIRST_YEAR:
                return time if time.tzinfo else time.replace(tzinfo=timezone.utc)
    return None


def _warning(path: Path, found: _container.Scan, frames: int) -> str | None:
    sentences = []
    if found.cut:
        sentences.append(f"{path} breaks off: the {frames} frames that can be read are used")
    if found.first.interlaced_frame:
        sentences.append(f"{path} is interlaced: its fields are not taken apart")
    return "; ".join(sentences) or None
