"""Coded segments, the source's sound, subtitles and metadata -> the clip as users get it."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from heapq import merge
from pathlib import Path
from typing import Any

import av

from dualsr_cli.files import atomic_writer
from dualsr_cli.videos import _container
from dualsr_cli.videos._encoders import Encoding
from dualsr_cli.videos._segments import failures, open_segment, packets
from dualsr_cli.videos.clip import Clip

_MUXER_OWN = {"major_brand", "minor_version", "compatible_brands", "encoder", "DURATION"}
_STREAM_OWN = {"encoder", "vendor_id", "rotate", "DURATION"}
_Timed = tuple[Fraction, int, int, Any]  # seconds, two numbers for the order, a packet


@dataclass(frozen=True)
class Schedule:
    """When the frames of all segments are shown.

    `stamps` and `end` are in units of `tick` seconds, on the clock of the file that is written:
    `shift` seconds ahead of the source's. `start` and `stop` are where what goes with the
    source's pictures is cut, on the source's clock; None: not at all.
    """

    stamps: Sequence[int]
    end: int
    tick: Fraction
    shift: Fraction
    start: Fraction | None
    stop: Fraction | None

    @classmethod
    def of(cls, like: Clip, times: Sequence[Fraction]) -> Schedule:
        """For frames at these times of the clip `like`; a file begins at 0 at the earliest."""
        tick = like.time_base
        shift = -min(times[0], like.times[0], Fraction(0))
        stamps: list[int] = []
        for time in times:
            stamp = round((time + shift) / tick)
            stamps.append(max(stamp, stamps[-1] + 1) if stamps else stamp)
        last = times[-1] >= like.times[-1]
        stop = like.end if last else like.times[bisect_right(like.times, times[-1])]
        return cls(
            stamps,
            max(round((stop + shift) / tick), stamps[-1] + 1),
            tick,
            shift,
            start=None if times[0] <= like.times[0] else times[0],
            stop=None if last else stop,
        )

    def timed(self, index: int, dts: int, packet: Any, stream: Any) -> Any:
        """Give the coded picture of a frame its times."""
        later = self.stamps[index + 1] if index + 1 < len(self.stamps) else self.end
        packet.stream = stream
        packet.time_base = self.tick
        packet.pts = self.stamps[index]
        packet.dts = dts
        packet.duration = later - self.stamps[index]
        return packet


def join(
    path: Path,
    segments: Sequence[Path],
    times: Sequence[Fraction],
    like: Clip,
    encoding: Encoding,
    *,
    metadata: bool,
) -> tuple[str, ...]:
    """Put segments together as `path`, with the sound and the subtitles of `like`.

    times: when `like` shows their frames. metadata: whether what its file says about it and its
    chapters are copied. No frame is decoded. The path holds afterwards the whole file, or what it
    held before. Returns sentences worth telling the user.

    Raises OutputError, InputError.
    """
    schedule = Schedule.of(like, times)
    with (
        failures(path),
        atomic_writer(path) as file,
        _muxer(os.path.abspath(file.name), encoding, schedule.tick) as output,
    ):
        if metadata:
            kept = {k: v for k, v in like.metadata.items() if k not in _MUXER_OWN}
            output.metadata.update(kept)
        with open_segment(segments[0]) as first:
            stream: Any = output.add_stream_from_template(first.streams.video[0], opaque=True)
        stream.time_base = schedule.tick
        stream.codec_context.sample_aspect_ratio = encoding.pixel_aspect
        encoding.tag_colours(stream.codec_context)
        if encoding.tag:
            stream.codec_context.codec_tag = encoding.tag
        pictures = _video(segments, schedule, stream)
        if like.track is None:
            for _, _, _, packet in pictures:
                output.mux(packet)
            return ()
        with _container.opened(like.path) as source:
            if metadata and hasattr(output, "set_chapters"):  # since PyAV 16
                output.set_chapters(_chapters(source, schedule))
            company = _Company(source, output, metadata)
            packets = merge(pictures, company.packets(schedule), key=lambda item: item[:3])
            for _, _, _, packet in packets:
                output.mux(packet)
            return tuple(f"{like.path} {note}" for note in company.notes)


def _muxer(path: str, encoding: Encoding, tick: Fraction) -> Any:
    options = {}
    if encoding.container in ("mp4", "mov"):
        # Keys of all makers are kept; what comes before the first frame is counted exactly.
        options["movflags"] = "+faststart+use_metadata_tags"
        options["movie_timescale"] = str(tick.denominator)
    return av.open(path, mode="w", format=encoding.container, container_options=options)


def _chapters(source: Any, schedule: Schedule) -> list[Any]:
    """The source's chapters, as far as frames of them are shown."""
    chapters = []
    for chapter in source.chapters():
        base = chapter["time_base"]
        start, end = chapter["start"] * base, chapter["end"] * base
        if schedule.start is not None:
            start = max(start, schedule.start)
        if schedule.stop is not None:
            end = min(end, schedule.stop)
        if start < end:
            ends = (round((time + schedule.shift) / base) for time in (start, end))
            chapters.append({**chapter, **dict(zip(("start", "end"), ends, strict=True))})
    return chapters


def _video(segments: Sequence[Path], schedule: Schedule, stream: Any) -> Iterator[_Timed]:
    """The coded pictures in decoding order.

    A picture is decoded no later than it is shown, and no two at once: with a delay of `delay`
    pictures, the n-th is decoded when the (n - delay)-th is shown.
    """
    orders = [_order(path) for path in segments]
    delay = max(at - index for order in orders for at, index in enumerate(order))
    begin = 0
    for path, order in zip(segments, orders, strict=True):
        with open_segment(path) as container:
            for at, (index, packet) in enumerate(
                zip(order, packets(container), strict=True), begin
            ):
                late = at - delay
                dts = schedule.stamps[late] if late >= 0 else schedule.stamps[0] + late
                yield (
                    dts * schedule.tick,
                    0,
                    at,
                    schedule.timed(begin + index, dts, packet, stream),
                )
        begin += len(order)


def _order(path: Path) -> list[int]:
    """For each coded picture of a segment, its place among those that are shown."""
    with open_segment(path) as container:
        stamps = [packet.pts for packet in packets(container)]
    place = {stamp: index for index, stamp in enumerate(sorted(stamps))}
    return [place[stamp] for stamp in stamps]


class _Company:
    """What goes with the pictures. Subtitles are copied where the container has a place for them,
    sound too, and else encoded again."""

    def __init__(self, source: Any, output: Any, metadata: bool) -> None:
        self.notes: list[str] = []
        self._source = source
        self._copies: dict[int, Any] = {}
        self._encoders: dict[int, Any] = {}
        for stream in (*source.streams.audio, *source.streams.subtitles):
            kind = "sound" if stream.type == "audio" else "subtitles"
            if stream.codec_context is None:
                self.notes.append(f"has {kind} that no decoder here knows: left out")
                continue
            name = stream.codec_context.name
            if name in output.supported_codecs:
                target: Any = output.add_stream_from_template(stream, opaque=True)
                self._copies[stream.index] = target
            elif stream.type == "subtitle":
                self.notes.append(
                    f"has subtitles in {name}, which {output.format.name} does not hold: left out"
                )
                continue
            else:
                target = _sound_encoder(stream, output)
                self._encoders[stream.index] = target
                self.notes.append(
                    f"has sound in {name}, which {output.format.name} does not hold: it is encoded "
                    f"again in {target.codec_context.name}"
                )
            if metadata:
                kept = {k: v for k, v in stream.metadata.items() if k not in _STREAM_OWN}
                target.metadata.update(kept)

    def packets(self, schedule: Schedule) -> Iterator[_Timed]:
        """The sound and subtitles that belong to the frames, as far as they can be read."""
        streams = [s for s in self._source.streams if s.index in self._targets()]
        if not streams:
            return
        last: dict[int, int] = {}
        try:
            for packet in self._source.demux(streams):
                index = packet.stream.index
                if index in self._encoders:
                    coded = self._encoded(packet, schedule)
                elif packet.dts is not None and packet.size and _within(packet, schedule):
                    coded = [packet]
                else:
                    coded = []
                for one in coded:
                    if one.dts is None or one.dts <= last.get(index, one.dts - 1):
                        continue
                    last[index] = one.dts
                    ahead = round(schedule.shift / one.time_base)
                    one.dts += ahead
                    one.pts = one.dts if one.pts is None else one.pts + ahead
                    one.stream = self._targets()[index]
                    yield one.dts * one.time_base, 1, index, one
        except _container.Errors:
            self.notes.append("has damaged sound or subtitles: what can be read is kept")

    def _targets(self) -> dict[int, Any]:
        return self._copies | self._encoders

    def _encoded(self, packet: Any, schedule: Schedule) -> list[Any]:
        encoder = self._encoders[packet.stream.index]
        coded: list[Any] = []
        for frame in _container.decoded(packet):
            if _within(frame, schedule):
                coded += encoder.encode(frame)
        if not packet.size:  # the last
            coded += encoder.encode(None)
        return coded


def _sound_encoder(source: Any, output: Any) -> Any:
    """A stream that holds what `source` does in a codec that the container has a place for."""
    codec = av.Codec("libopus" if output.format.name == "webm" else "aac", "w")
    rates = codec.audio_rates or [source.rate]
    target = output.add_stream(codec.name, rate=source.rate if source.rate in rates else max(rates))
    target.codec_context.layout = source.codec_context.layout
    return target


def _within(timed: Any, schedule: Schedule) -> bool:
    """Whether a packet, or frame of sound, begins while frames are shown."""
    if timed.pts is None or timed.time_base is None:
        return schedule.start is None and schedule.stop is None
    time = timed.pts * timed.time_base
    return (schedule.start is None or time >= schedule.start) and (
        schedule.stop is None or time < schedule.stop
    )
