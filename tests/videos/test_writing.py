"""Frames -> videos and pictures: nothing lost, nothing shifted, nothing half there."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from dualsr_cli.errors import OutputError, UsageError
from dualsr_cli.videos import Clip, ClipWriter, Frame, open_clip, read_frames

from .conftest import HEIGHT, WIDTH, MakeClip, picture

SIZE = (2 * WIDTH, 2 * HEIGHT)


def enlarged(clip: Clip) -> Iterator[Frame]:
    """The clip's frames, twice as large."""
    for frame in read_frames(clip):
        yield Frame(frame.pixels.repeat(2, 0).repeat(2, 1), frame.time)


def write(path: Path, clip: Clip, **options: object) -> Clip:
    writer = ClipWriter(path, clip, SIZE, **options)  # type: ignore[arg-type]
    with writer:
        for frame in enlarged(clip):
            writer.write(frame)
    return open_clip(path)


def worst(first: Frame, second: Frame) -> float:
    """The largest difference, in levels of 8 bits."""
    scale = 1 if first.pixels.dtype == np.uint8 else 257
    return float(np.abs(first.pixels.astype(float) - second.pixels.astype(float)).max() / scale)


def mean_error(first: Frame, second: Frame) -> float:
    scale = 1 if first.pixels.dtype == np.uint8 else 257
    return float(np.abs(first.pixels.astype(float) - second.pixels.astype(float)).mean() / scale)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".m4v"])
def test_what_is_written_reads_back(make_clip: MakeClip, tmp_path: Path, suffix: str) -> None:
    stamps = [10, 20, 31, 47, 90, 91, 92, 2000]
    clip = open_clip(
        make_clip(
            frames=[picture(at) for at in range(8)],
            stamps=stamps,
            base=Fraction(1, 240),
            sound="aac",
            aspect=Fraction(4, 3),
            colours=(1, 1, 1, 1),
            metadata={
                "creation_time": "2024-05-01T12:30:15.000000Z",
                "location": "+48.8577+002.2950/",
                "com.apple.quicktime.model": "iPhone 15",
            },
            container_options={"movflags": "use_metadata_tags"},
        )
    )
    result = write(tmp_path / f"result{suffix}", clip)
    assert (result.width, result.height) == SIZE
    assert result.times == clip.times
    assert result.colour == clip.colour
    assert result.pixel_aspect == clip.pixel_aspect
    assert result.created == clip.created
    assert result.location == clip.location
    assert result.metadata["com.apple.quicktime.model"] == "iPhone 15"
    assert result.audio
    assert result.warning is None
    for frame, other in zip(read_frames(result), enlarged(clip), strict=True):
        assert mean_error(frame, other) < 1
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_sound_is_copied_bit_by_bit(make_clip: MakeClip, tmp_path: Path) -> None:
    def sound(path: Path) -> list[tuple[Fraction, bytes]]:
        with av.open(str(path)) as container:
            return [
                (packet.pts * packet.time_base, bytes(packet))
                for packet in container.demux(audio=0)
                if packet.size
            ]

    source = make_clip(sound="aac", options={"bf": "0"})
    result = write(tmp_path / "result.mp4", open_clip(source)).path
    assert len(sound(source)) > 10
    assert sound(result) == sound(source)


def test_sound_that_has_no_place_is_encoded_again(make_clip: MakeClip, tmp_path: Path) -> None:
    clip = open_clip(make_clip(sound="aac", rate=44100))
    with ClipWriter(tmp_path / "result.webm", clip, SIZE) as writer:
        for frame in enlarged(clip):
            writer.write(frame)
    assert len(writer.notes) == 1
    assert "encoded again" in writer.notes[0] and str(clip.path) in writer.notes[0]
    with av.open(str(tmp_path / "result.webm")) as container:
        assert container.streams.audio[0].codec_context.name == "opus"
        seconds = sum(frame.samples / frame.sample_rate for frame in container.decode(audio=0))
    assert abs(seconds - 16384 / 44100) < 0.05


WORDS = """1
00:00:00,050 --> 00:00:00,150
Here we are

2
00:00:00,200 --> 00:00:00,300
There we go
"""
needs_chapters = pytest.mark.skipif(
    not hasattr(av.container.OutputContainer, "set_chapters"), reason="this PyAV knows no chapters"
)
CHAPTERS = [("Hall", 0, 150), ("Garden", 150, 333)]  # milliseconds


def accompanied(source: Path, path: Path) -> Clip:
    """A clip's pictures with subtitles and chapters."""
    words = path.with_suffix(".srt")
    words.write_text(WORDS, encoding="utf-8")
    with av.open(str(source)) as video, av.open(str(words)) as text, av.open(str(path), "w") as out:
        out.set_chapters(
            [
                {
                    "id": number,
                    "start": start,
                    "end": end,
                    "time_base": Fraction(1, 1000),
                    "metadata": {"title": title},
                }
                for number, (title, start, end) in enumerate(CHAPTERS)
            ]
        )
        inputs = [(one, out.add_stream_from_template(one.streams[0])) for one in (video, text)]
        for one, stream in inputs:
            for packet in one.demux(0):
                if packet.size:
                    packet.stream = stream
                    out.mux(packet)
    return open_clip(path)


def chapters(path: Path) -> list[tuple[str, int, int]]:
    """Titles and milliseconds."""
    with av.open(str(path)) as container:
        return [
            (
                chapter["metadata"].get("title", ""),
                round(1000 * chapter["start"] * chapter["time_base"]),
                round(1000 * chapter["end"] * chapter["time_base"]),
            )
            for chapter in container.chapters()
        ]


def subtitles(path: Path) -> list[tuple[int, bytes]]:
    """Milliseconds and words."""
    with av.open(str(path)) as container:
        if not container.streams.subtitles:
            return []
        return [
            (round(1000 * packet.pts * packet.time_base), bytes(packet))
            for packet in container.demux(subtitles=0)
            if packet.size and packet.pts is not None
        ]


@needs_chapters
def test_subtitles_and_chapters_go_with_the_pictures(make_clip: MakeClip, tmp_path: Path) -> None:
    clip = accompanied(make_clip(), tmp_path / "source.mkv")
    result = write(tmp_path / "result.mkv", clip)
    assert subtitles(result.path) == [(50, b"Here we are"), (200, b"There we go")]
    assert chapters(result.path) == CHAPTERS
    assert result.times == clip.times
    bare = write(tmp_path / "bare.mkv", clip, metadata=False)
    assert len(subtitles(bare.path)) == 2
    assert chapters(bare.path) == []


@needs_chapters
def test_subtitles_that_have_no_place_are_said(make_clip: MakeClip, tmp_path: Path) -> None:
    clip = accompanied(make_clip(), tmp_path / "source.mkv")
    path = tmp_path / "result.mp4"
    with ClipWriter(path, clip, (WIDTH, HEIGHT)) as writer:
        for frame in read_frames(clip):
            writer.write(frame)
    (note,) = writer.notes
    assert note.startswith(f"{clip.path} has subtitles in ")
    assert note.endswith(", which mp4 does not hold: left out")
    assert chapters(path) == CHAPTERS
    assert open_clip(path).times == clip.times


@needs_chapters
def test_a_part_of_a_clip_has_what_belongs_to_it(make_clip: MakeClip, tmp_path: Path) -> None:
    clip = accompanied(make_clip(), tmp_path / "source.mkv")
    path = tmp_path / "result.mkv"
    with ClipWriter(path, clip, (WIDTH, HEIGHT)) as writer:
        for frame in read_frames(clip, 3, 6):
            writer.write(frame)
    assert chapters(path) == [("Hall", 100, 150), ("Garden", 150, 200)]
    assert subtitles(path) == []  # the first begins before, the second after


def test_a_part_of_a_clip_has_the_sound_of_that_part(make_clip: MakeClip, tmp_path: Path) -> None:
    clip = open_clip(make_clip(sound="aac"))
    with ClipWriter(tmp_path / "result.mp4", clip, (WIDTH, HEIGHT)) as writer:
        for frame in read_frames(clip, 3, 6):
            writer.write(frame)
    result = open_clip(tmp_path / "result.mp4")
    assert result.times == clip.times[3:6]
    with av.open(str(result.path)) as container:
        times = [
            packet.pts * packet.time_base for packet in container.demux(audio=0) if packet.size
        ]
    assert Fraction(3, 30) <= min(times) and max(times) < Fraction(6, 30)


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libsvtav1", "prores_ks", "ffv1"])
def test_ten_bits_stay_ten_bits(make_clip: MakeClip, tmp_path: Path, codec: str) -> None:
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    fine = np.stack([20000 + 64 * columns, 30000 + 64 * rows, 25000 + 0 * rows], -1)
    clip = open_clip(
        make_clip(
            frames=[fine.astype(np.uint16)] * 3,
            format="yuv420p10le",
            colours=(9, 1, 9, 18),
            options={"qp": "0"},
        )
    )
    assert clip.bit_depth == 10
    suffix = {"ffv1": ".mkv", "libsvtav1": ".webm"}.get(codec, ".mov")
    result = write(tmp_path / f"result{suffix}", clip, codec=codec)
    assert result.bit_depth == 10
    assert result.colour == clip.colour
    for frame, other in zip(read_frames(result), enlarged(clip), strict=True):
        assert frame.pixels.dtype == np.uint16
        assert mean_error(frame, other) < 0.5


def test_a_codec_of_eight_bits_is_said(make_clip: MakeClip, tmp_path: Path) -> None:
    clip = open_clip(make_clip(count=1, format="yuv420p10le"))
    writer = ClipWriter(tmp_path / "result.mkv", clip, SIZE, "libvpx-vp9")
    assert [str(clip.path) in note and "10 bits" in note for note in writer.notes] == [True]
    with writer:
        writer.write(next(enlarged(clip)))
    assert open_clip(tmp_path / "result.mkv").bit_depth == 8


def test_codecs_carry_the_names_that_players_know(make_clip: MakeClip, tmp_path: Path) -> None:
    deep = open_clip(make_clip("deep.mp4", count=3, format="yuv420p10le"))
    plain = open_clip(make_clip("plain.mp4", count=3))
    for clip, codec, tag in (
        (plain, None, "avc1"),
        (plain, "libx265", "hvc1"),
        (deep, None, "hvc1"),
    ):
        result = write(tmp_path / "result.mp4", clip, codec=codec)
        with av.open(str(result.path)) as container:
            assert container.streams.video[0].codec_context.codec_tag == tag
        data = result.path.read_bytes()
        assert data.index(b"moov") < data.index(b"mdat")  # can be played while it is loaded


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", [1, 6, 9])
def test_colours_come_back_as_they_were(
    make_clip: MakeClip, tmp_path: Path, matrix: int, full: bool
) -> None:
    colours = [(200, 40, 60), (30, 180, 70), (50, 60, 210), (255, 255, 255), (0, 0, 0)]
    flat = [np.broadcast_to(np.uint8(colour), (HEIGHT, WIDTH, 3)) for colour in colours]
    clip = open_clip(make_clip(count=5, colours=(matrix, 2 if full else 1, 1, 1)))
    with ClipWriter(tmp_path / "result.mp4", clip, (WIDTH, HEIGHT), crf=0) as writer:
        for pixels, time in zip(flat, clip.times, strict=True):
            writer.write(Frame(np.ascontiguousarray(pixels), time))
    result = open_clip(tmp_path / "result.mp4")
    assert result.colour == clip.colour
    for frame, pixels in zip(read_frames(result), flat, strict=True):
        assert np.abs(frame.pixels.astype(int) - pixels).max() <= 3  # 8 bits of Y'CbCr


@pytest.mark.parametrize("size", [(63, 47), (1, 1), (64, 47)])
@pytest.mark.parametrize("codec", ["libx264", "libx265", "libvpx-vp9", "ffv1"])
def test_odd_sizes_lose_nothing(
    make_clip: MakeClip, tmp_path: Path, size: tuple[int, int], codec: str
) -> None:
    if codec == "libx265" and size == (1, 1):
        pytest.skip("H.265's smallest picture is larger")
    clip = open_clip(make_clip(count=2))
    pixels = picture(3, *size)
    pixels[:, -1] = (200, 30, 90)  # the last column's colour is its own
    with ClipWriter(
        tmp_path / "result.mkv", clip, size, codec, None if codec == "ffv1" else 4
    ) as w:
        for time in clip.times:
            w.write(Frame(pixels, time))
    result = open_clip(tmp_path / "result.mkv")
    assert (result.width, result.height) == size
    for frame in read_frames(result):
        assert np.abs(frame.pixels.astype(int) - pixels)[:, -1].mean() < 6


SHORT = """
import sys
from dualsr_cli.videos import ClipWriter, open_clip, read_frames
clip = open_clip(sys.argv[1])
with ClipWriter(sys.argv[2], clip, (clip.width, clip.height), "libx265") as writer:
    for frame in read_frames(clip):
        writer.write(frame)
"""


def test_a_clip_shorter_than_the_encoders_delay(make_clip: MakeClip, tmp_path: Path) -> None:
    """x265 takes a short clip's decoding times from memory that it has not set: glibc fills it."""
    source = make_clip(count=2)
    subprocess.run(
        [sys.executable, "-c", SHORT, str(source), str(tmp_path / "short.mp4")],
        env={**os.environ, "MALLOC_PERTURB_": "1"},
        check=True,
    )
    assert open_clip(tmp_path / "short.mp4").times == open_clip(source).times


def test_a_clip_from_pictures_and_pictures_from_a_clip(make_clip: MakeClip, tmp_path: Path) -> None:
    clip = open_clip(make_clip(count=4))
    with ClipWriter(tmp_path / "out" / "%03d.png", clip, SIZE) as writer:
        for frame in enlarged(clip):
            writer.write(frame)
    pictures = open_clip(tmp_path / "out" / "%03d.png", rate=Fraction(30))
    assert pictures.times == clip.times
    for frame, other in zip(read_frames(pictures), enlarged(clip), strict=True):
        assert np.array_equal(frame.pixels, other.pixels)
    video = write_same(tmp_path / "again.mp4", pictures)
    assert video.times == clip.times
    assert video.end == clip.end
    assert (video.colour.matrix, video.colour.full_range) == ("bt709", False)
    for frame, other in zip(read_frames(video), read_frames(pictures), strict=True):
        assert mean_error(frame, other) < 1.5


def write_same(path: Path, clip: Clip) -> Clip:
    with ClipWriter(path, clip, (clip.width, clip.height)) as writer:
        for frame in read_frames(clip):
            writer.write(frame)
    return open_clip(path)


def test_stamps_below_zero_begin_at_zero(make_clip: MakeClip, tmp_path: Path) -> None:
    clip = open_clip(
        make_clip(
            "early.mkv",
            count=3,
            stamps=[-50, -10, 30],
            base=Fraction(1, 1000),
            codec="ffv1",
            sound="pcm_s16le",
            container_options={"avoid_negative_ts": "disabled"},
        )
    )
    result = write(tmp_path / "result.mov", clip)
    assert result.times == tuple(time - clip.times[0] for time in clip.times)


def test_a_broken_write_leaves_what_was_there(make_clip: MakeClip, tmp_path: Path) -> None:
    clip = open_clip(make_clip())
    path = tmp_path / "result.mp4"
    path.write_bytes(b"what was there")
    with pytest.raises(KeyboardInterrupt), ClipWriter(path, clip, SIZE) as writer:
        writer.write(next(enlarged(clip)))
        raise KeyboardInterrupt
    assert path.read_bytes() == b"what was there"
    with pytest.raises(OutputError, match="no frame"), ClipWriter(path, clip, SIZE):
        pass
    assert sorted(file.name for file in tmp_path.iterdir()) == ["clip.mp4", "result.mp4"]


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("result.xyz", {}, "suffix that is not written"),
        ("result.mp4", {"codec": "h266plus"}, "not known here: give libx264"),
        ("result.mp4", {"codec": "aac"}, "not for pictures"),
        ("result.mp4", {"codec": "gif"}, "no suitable pixel format"),
        ("result.webm", {"codec": "libx264"}, "cannot hold"),
        ("result.mp4", {"crf": 99}, "give 0 to 51"),
        ("result.mov", {"codec": "prores_ks", "crf": 10}, "leave out --crf"),
    ],
)
def test_what_cannot_be_written_is_said_at_once(
    make_clip: MakeClip, tmp_path: Path, name: str, options: dict[str, object], sentence: str
) -> None:
    clip = open_clip(make_clip(count=1))
    with pytest.raises(UsageError, match=sentence):
        ClipWriter(tmp_path / name, clip, SIZE, **options)  # type: ignore[arg-type]
    assert [file.name for file in tmp_path.iterdir()] == ["clip.mp4"]


def test_frames_come_in_the_order_of_their_times(make_clip: MakeClip, tmp_path: Path) -> None:
    clip = open_clip(make_clip(count=3))
    frames = list(enlarged(clip))
    for first, second in itertools.product(frames[1:2], frames[:2]):
        with (
            pytest.raises(ValueError, match="after one at"),
            ClipWriter(tmp_path / "result.mp4", clip, SIZE) as writer,
        ):
            writer.write(first)
            writer.write(second)
